//! XML fragments as libvirt would print them: two spaces of indentation, single quotes.

use std::borrow::Cow;

use quick_xml::escape::escape;

/// An element under construction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    children: Vec<Child>,
    text: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Child {
    Element(Fragment),
    /// Elements that are written already, one a line.
    Lines(String),
    /// The same, each line with a line end and its whole indentation before it.
    Indented(String),
}

impl Fragment {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            attributes: Vec::new(),
            children: Vec::new(),
            text: None,
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.attributes.push((name, value.to_string()));
        self
    }

    /// The attribute, unless its value is empty.
    pub(crate) fn with_some(self, name: &'static str, value: impl ToString) -> Self {
        let value = value.to_string();
        if value.is_empty() {
            self
        } else {
            self.with(name, value)
        }
    }

    pub(crate) fn child(self, child: Fragment) -> Self {
        self.children([child])
    }

    pub(crate) fn children(mut self, children: impl IntoIterator<Item = Fragment>) -> Self {
        let children = children.into_iter().map(Child::Element);
        self.children.extend(children);
        self
    }

    /// Children that are written already, one a line, without indentation.
    pub(crate) fn lines(mut self, lines: String) -> Self {
        self.children.push(Child::Lines(lines));
        self
    }

    /// Children that are written already, each line with a line end and its whole indentation before it.
    pub(crate) fn indented(mut self, lines: String) -> Self {
        self.children.push(Child::Indented(lines));
        self
    }

    pub(crate) fn text(mut self, text: impl ToString) -> Self {
        self.text = Some(text.to_string());
        self
    }

    /// The element as lines without a trailing newline.
    pub(crate) fn print(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, Margin::default());
        out
    }

    /// Writes the element with this indentation of its first line.
    pub(crate) fn write(&self, out: &mut String, margin: Margin<'_>) {
        margin.write(out);
        out.push('<');
        out.push_str(self.name);
        for (name, value) in &self.attributes {
            out.push(' ');
            out.push_str(name);
            out.push_str("='");
            out.push_str(&attribute(value));
            out.push('\'');
        }
        match &self.text {
            Some(text) => {
                out.push('>');
                out.push_str(&escape(text.as_str()));
                self.end(out);
            }
            None if self.children.is_empty() => out.push_str("/>"),
            None => self.write_children(out, margin),
        }
    }

    fn write_children(&self, out: &mut String, margin: Margin<'_>) {
        out.push('>');
        for child in &self.children {
            match child {
                Child::Element(child) => {
                    out.push('\n');
                    child.write(out, margin.deeper());
                }
                Child::Lines(lines) => {
                    for line in lines.split_terminator('\n') {
                        out.push('\n');
                        margin.deeper().write(out);
                        out.push_str(line);
                    }
                }
                Child::Indented(lines) => out.push_str(lines),
            }
        }
        out.push('\n');
        margin.write(out);
        self.end(out);
    }

    fn end(&self, out: &mut String) {
        out.push_str("</");
        out.push_str(self.name);
        out.push('>');
    }
}

/// The indentation of a line.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Margin<'a> {
    /// What the outermost element has.
    pub(crate) base: &'a str,
    /// The levels below it.
    pub(crate) depth: usize,
}

impl Margin<'_> {
    pub(crate) fn deeper(self) -> Self {
        let depth = self.depth + 1;
        Self { depth, ..self }
    }

    pub(crate) fn write(self, out: &mut String) {
        out.push_str(self.base);
        for _ in 0..self.depth {
            out.push_str("  ");
        }
    }
}

/// A value as it is read back: XML readers make a space of each white space that is not written as a number.
fn attribute(value: &str) -> Cow<'_, str> {
    let escaped = escape(value);
    if !escaped.contains(['\n', '\r', '\t']) {
        return escaped;
    }
    let escaped = escaped.replace('\n', "&#10;");
    Cow::Owned(escaped.replace('\r', "&#13;").replace('\t', "&#9;"))
}

/// Fragments one below the other.
pub(crate) fn print_all(fragments: impl IntoIterator<Item = Fragment>) -> String {
    let mut out = String::new();
    for fragment in fragments {
        if !out.is_empty() {
            out.push('\n');
        }
        fragment.write(&mut out, Margin::default());
    }
    out
}

/// Writes a number's digits. `fmt` takes four times as long, and there are two numbers for each pair of cells.
pub(crate) fn push_number(out: &mut String, number: u32) {
    if number >= 10 {
        push_number(out, number / 10);
    }
    out.push(char::from(b'0' + (number % 10) as u8));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_pushed_as_it_is_displayed() {
        for number in [0, 9, 10, 99, 100, 255, 1023, 65_536, u32::MAX] {
            let mut out = "x".to_owned();
            push_number(&mut out, number);
            assert_eq!(out, format!("x{number}"));
        }
    }
}
