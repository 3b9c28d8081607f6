//! XML fragments as libvirt would print them: two spaces of indentation, single quotes.

use quick_xml::escape::escape;

/// An element under construction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    children: Vec<Fragment>,
    text: Option<String>,
}

impl Fragment {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            attributes: Vec::new(),
            children: Vec::new(),
            text: None,
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.attributes.push((name, value.to_string()));
        self
    }

    /// The attribute, unless its value is empty.
    pub(super) fn with_some(self, name: &'static str, value: impl ToString) -> Self {
        let value = value.to_string();
        if value.is_empty() {
            self
        } else {
            self.with(name, value)
        }
    }

    pub(super) fn child(mut self, child: Fragment) -> Self {
        self.children.push(child);
        self
    }

    pub(super) fn children(mut self, children: impl IntoIterator<Item = Fragment>) -> Self {
        self.children.extend(children);
        self
    }

    pub(super) fn text(mut self, text: impl ToString) -> Self {
        self.text = Some(text.to_string());
        self
    }

    /// The element as lines without a trailing newline.
    pub(super) fn print(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out
    }

    fn write(&self, out: &mut String, depth: usize) {
        out.push_str(&"  ".repeat(depth));
        out.push('<');
        out.push_str(self.name);
        for (name, value) in &self.attributes {
            out.push_str(&format!(" {name}='{}'", attribute(value)));
        }
        match &self.text {
            Some(text) => out.push_str(&format!(">{}</{}>", escape(text.as_str()), self.name)),
            None if self.children.is_empty() => out.push_str("/>"),
            None => self.write_children(out, depth),
        }
    }

    fn write_children(&self, out: &mut String, depth: usize) {
        out.push('>');
        for child in &self.children {
            out.push('\n');
            child.write(out, depth + 1);
        }
        out.push_str(&format!("\n{}</{}>", "  ".repeat(depth), self.name));
    }
}

/// A value as it is read back: XML readers make a space of each white space that is not written as a number.
fn attribute(value: &str) -> String {
    let escaped = escape(value).replace('\n', "&#10;");
    escaped.replace('\r', "&#13;").replace('\t', "&#9;")
}

/// Fragments one below the other.
pub(super) fn print_all(fragments: impl IntoIterator<Item = Fragment>) -> String {
    let texts: Vec<String> = fragments
        .into_iter()
        .map(|fragment| fragment.print())
        .collect();
    texts.join("\n")
}
