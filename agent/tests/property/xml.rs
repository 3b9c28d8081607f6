//! XML in many styles: one tree, many texts.

/// A node of a definition.
#[derive(Clone, Debug)]
enum Node {
    Element(Element),
    Text(String),
}

/// An element; names may have a prefix.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Node>,
}

/// The style of a text.
#[derive(Clone, Debug)]
pub(crate) struct Style {
    /// One step of indentation; `None` for a single line.
    pub(crate) indent: Option<&'static str>,
    pub(crate) crlf: bool,
    pub(crate) declaration: bool,
    pub(crate) comments: bool,
    /// The text ends with a newline.
    pub(crate) ended: bool,
    /// Selects quotes, the order of attributes, and white space in tags.
    pub(crate) seed: u64,
}

/// Small numbers from a seed (splitmix64): styles need variety, not shrinking.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).expect("below the number of sides")
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.roll(last + 1));
        }
    }
}

impl Element {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            attributes: Vec::new(),
            children: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.attributes.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn child(mut self, child: Element) -> Self {
        self.children.push(Node::Element(child));
        self
    }

    pub(crate) fn children(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        self.children
            .extend(children.into_iter().map(Node::Element));
        self
    }

    pub(crate) fn text(mut self, text: impl ToString) -> Self {
        self.children.push(Node::Text(text.to_string()));
        self
    }

    /// Shuffles its child elements.
    pub(crate) fn shuffled(mut self, dice: &mut Dice) -> Self {
        dice.shuffle(&mut self.children);
        self
    }

    /// The document.
    pub(crate) fn print(&self, style: &Style) -> String {
        let mut writer = Writer {
            style,
            dice: Dice(style.seed),
            out: String::new(),
        };
        if style.declaration {
            writer.out += "<?xml version='1.0' encoding='UTF-8'?>";
            writer.line(0);
        }
        writer.element(self, 0);
        if style.ended {
            writer.out.push('\n');
        }
        match style.crlf {
            true => writer.out.replace('\n', "\r\n"),
            false => writer.out,
        }
    }
}

struct Writer<'a> {
    style: &'a Style,
    dice: Dice,
    out: String,
}

impl Writer<'_> {
    fn line(&mut self, depth: usize) {
        if let Some(step) = self.style.indent {
            self.out.push('\n');
            self.out += &step.repeat(depth);
        }
    }

    fn element(&mut self, element: &Element, depth: usize) {
        self.out += &format!("<{}", element.name);
        self.attributes(element);
        if element.children.is_empty() && self.dice.roll(8) > 0 {
            self.out += ["/>", " />"][self.dice.roll(2)];
            return;
        }
        self.out += [">", ">", ">", " >"][self.dice.roll(4)];
        let mixed = element
            .children
            .iter()
            .any(|child| matches!(child, Node::Text(_)));
        for child in &element.children {
            match child {
                Node::Text(text) => self.out += &escaped(text, '<'),
                Node::Element(child) => {
                    self.comment(depth + 1);
                    self.line(depth + 1);
                    self.element(child, depth + 1);
                }
            }
        }
        if !mixed {
            self.comment(depth + 1);
        }
        if !mixed && !element.children.is_empty() {
            self.line(depth);
        }
        self.out += &format!("</{}>", element.name);
    }

    fn attributes(&mut self, element: &Element) {
        let mut attributes: Vec<_> = element.attributes.iter().collect();
        self.dice.shuffle(&mut attributes);
        for (name, value) in attributes {
            let quote = ['\'', '"'][self.dice.roll(2)];
            let space = [" ", " ", " ", "\n  "][self.dice.roll(4)];
            self.out += &format!("{space}{name}={quote}{}{quote}", escaped(value, quote));
        }
    }

    /// Comments contain text that breaks a reader without a parser.
    fn comment(&mut self, depth: usize) {
        if self.style.comments && self.dice.roll(6) == 0 {
            let texts = [
                "the user's",
                " </devices> ",
                "<hostdev/>",
                " a > b ",
                " </cpu><numa>",
            ];
            let text = texts[self.dice.roll(texts.len())];
            self.line(depth);
            self.out += &format!("<!--{text}-->");
        }
    }
}

fn escaped(text: &str, quote: char) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    match quote {
        '\'' => text.replace('\'', "&apos;"),
        '"' => text.replace('"', "&quot;"),
        _ => text,
    }
}
