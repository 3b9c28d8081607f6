//! Changes of a text: spans, their replacements, and positions in an XML element.
//!
//! Bytes outside the spans do not change: comments, quotes, order and foreign namespaces are kept.

use std::ops::Range;

/// One change: the bytes in `span` become `text`. An empty span inserts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Byte range in the original text.
    pub span: Range<usize>,
    /// The new text.
    pub text: String,
}

/// The position of an element in its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// From `<` of the start tag to after the end tag.
    pub span: Range<usize>,
    /// Start of the white space before the start tag.
    lead: usize,
    /// After `>` of the start tag; for `<a/>` the position of `/`.
    inner_start: usize,
    /// `<` of the end tag; for `<a/>` the position of `/`.
    inner_end: usize,
    /// End of the last child that is not white space; `inner_start` if there is none.
    last_child_end: usize,
    /// Qualified name as written.
    name: String,
    /// White space before the start tag on its line; `None` if other text precedes it.
    indent: Option<String>,
    self_closed: bool,
}

impl Edit {
    /// Returns an edit that removes these bytes.
    #[must_use]
    pub fn removal(span: Range<usize>) -> Self {
        let text = String::new();
        Self { span, text }
    }
}

impl Element {
    /// Locates the element that is at `span` in `text`.
    #[must_use]
    pub fn locate(text: &str, span: Range<usize>) -> Self {
        let tag_end = start_tag_end(text, span.start);
        // '>' is at tag_end - 1; white space between '/' and '>' is not well-formed.
        let self_closed = text.as_bytes()[tag_end - 2] == b'/';
        let inner_start = if self_closed { tag_end - 2 } else { tag_end };
        let inner_end = if self_closed {
            inner_start
        } else {
            end_tag_start(text, &span)
        };
        let inner = &text[inner_start..inner_end];
        let last_child_end = inner_start + inner.trim_end().len();
        let name: String = text[span.start + 1..]
            .chars()
            .take_while(|c| !c.is_whitespace() && !matches!(c, '/' | '>'))
            .collect();
        let indent = indent_before(text, span.start);
        // An insertion puts its white space before the element, so a removal takes it from there.
        let lead = text[..span.start].trim_end().len();
        Self {
            span,
            lead,
            inner_start,
            inner_end,
            last_child_end,
            name,
            indent,
            self_closed,
        }
    }

    /// Inserts `child` after the last child, and indents its lines to fit.
    #[must_use]
    pub fn append(&self, child: &str) -> Edit {
        if self.self_closed {
            return self.open_up(child);
        }
        let at = self.last_child_end;
        Edit {
            span: at..at,
            text: self.child_lines(child),
        }
    }

    /// Inserts `child` before the end tag, byte for byte.
    #[must_use]
    pub fn append_unchanged(&self, child: &str) -> Edit {
        if self.self_closed {
            return self.opened(child);
        }
        Edit {
            span: self.inner_end..self.inner_end,
            text: child.to_owned(),
        }
    }

    /// Inserts `sibling` after this element, with the same indentation.
    #[must_use]
    pub fn insert_after(&self, sibling: &str) -> Edit {
        let text = match &self.indent {
            Some(indent) => indented(sibling, indent),
            None => inline(sibling),
        };
        Edit {
            span: self.span.end..self.span.end,
            text,
        }
    }

    /// Inserts lines after this element, byte for byte: each has a line end and its indentation before it.
    #[must_use]
    pub fn insert_lines_after(&self, lines: String) -> Edit {
        Edit {
            span: self.span.end..self.span.end,
            text: lines,
        }
    }

    /// The indentation of the element's first line; `None` if the element does not begin its line.
    #[must_use]
    pub fn indentation(&self) -> Option<&str> {
        self.indent.as_deref()
    }

    /// Inserts `child` before the first child.
    #[must_use]
    pub fn prepend(&self, child: &str) -> Edit {
        if self.self_closed {
            return self.open_up(child);
        }
        let at = self.inner_start;
        Edit {
            span: at..at,
            text: self.child_lines(child),
        }
    }

    /// Adds an attribute to the element, as its first.
    #[must_use]
    pub fn with_attribute(&self, attribute: &str) -> Edit {
        let at = self.span.start + 1 + self.name.len();
        Edit {
            span: at..at,
            text: format!(" {attribute}"),
        }
    }

    /// Removes the element with the white space before it: undoes every insertion.
    #[must_use]
    pub fn remove(&self) -> Edit {
        Edit {
            span: self.lead..self.span.end,
            text: String::new(),
        }
    }

    /// Restores the previous text of this element; removes the element if there was none.
    #[must_use]
    pub fn restore(&self, before: Option<&str>) -> Edit {
        match before {
            Some(before) => Edit {
                span: self.span.clone(),
                text: before.to_owned(),
            },
            None => self.remove(),
        }
    }

    /// Removes the whole content and closes the start tag: undoes the insertion of the first child of `<a/>`.
    #[must_use]
    pub fn collapse(&self) -> Edit {
        let start = if self.self_closed {
            self.inner_start
        } else {
            self.inner_start - 1
        };
        Edit {
            span: start..self.span.end,
            text: "/>".to_owned(),
        }
    }

    /// True for `<a/>`.
    #[must_use]
    pub fn is_self_closed(&self) -> bool {
        self.self_closed
    }

    /// Replaces the whole element, with the same indentation.
    #[must_use]
    pub fn replace(&self, with: &str) -> Edit {
        let text = match &self.indent {
            Some(indent) => {
                let lines = indented(with, indent);
                lines
                    .strip_prefix(&format!("\n{indent}"))
                    .unwrap_or(&lines)
                    .to_owned()
            }
            None => inline(with),
        };
        Edit {
            span: self.span.clone(),
            text,
        }
    }

    fn open_up(&self, child: &str) -> Edit {
        self.opened(&format!("{}{}", self.child_lines(child), self.newline()))
    }

    /// Gives a self-closed element this content, byte for byte.
    fn opened(&self, content: &str) -> Edit {
        Edit {
            span: self.inner_start..self.span.end,
            text: format!(">{content}</{}>", self.name),
        }
    }

    fn child_lines(&self, child: &str) -> String {
        match &self.indent {
            Some(indent) => indented(child, &format!("{indent}  ")),
            None => inline(child),
        }
    }

    fn newline(&self) -> String {
        self.indent
            .as_ref()
            .map(|indent| format!("\n{indent}"))
            .unwrap_or_default()
    }
}

/// Applies edits that do not overlap; insertions at one position keep their order.
///
/// # Errors
/// Two edits overlap, or a span is outside the text: the plan that made them is wrong.
pub fn apply<'e>(
    text: &str,
    edits: impl IntoIterator<Item = &'e Edit>,
) -> Result<String, OverlapError> {
    let mut ordered: Vec<&Edit> = edits.into_iter().collect();
    // A stable sort: insertions at one position keep the order in which they were planned.
    ordered.sort_by_key(|edit| (edit.span.start, edit.span.end));
    let added: usize = ordered.iter().map(|edit| edit.text.len()).sum();
    let mut out = String::with_capacity(text.len() + added);
    let mut at = 0;
    for edit in ordered {
        let kept = text
            .get(at..edit.span.start)
            .ok_or(OverlapError(edit.span.start))?;
        out.push_str(kept);
        out.push_str(&edit.text);
        at = edit.span.end;
    }
    out.push_str(text.get(at..).ok_or(OverlapError(at))?);
    Ok(out)
}

/// Two edits overlap at this byte, or one is outside the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("edits overlap at byte {0}")]
pub struct OverlapError(usize);

fn start_tag_end(text: &str, start: usize) -> usize {
    // An attribute's value may contain '>'.
    let mut quote = None;
    for (offset, byte) in text.as_bytes()[start..].iter().enumerate() {
        match (quote, byte) {
            (None, b'\'' | b'"') => quote = Some(*byte),
            (Some(open), b) if open == *b => quote = None,
            (None, b'>') => return start + offset + 1,
            _ => {}
        }
    }
    text.len()
}

fn end_tag_start(text: &str, span: &Range<usize>) -> usize {
    // The last end tag of the span is the element's own: those of its children are before it.
    text[span.clone()]
        .rfind("</")
        .map_or(span.end, |offset| span.start + offset)
}

fn indent_before(text: &str, start: usize) -> Option<String> {
    let line_start = text[..start].rfind('\n')? + 1;
    let before = &text[line_start..start];
    before
        .bytes()
        .all(|b| matches!(b, b' ' | b'\t'))
        .then(|| before.to_owned())
}

fn indented(fragment: &str, indent: &str) -> String {
    let lines = fragment.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let mut out = String::with_capacity(fragment.len() + lines * (indent.len() + 1));
    for line in fragment.lines() {
        out.push('\n');
        out.push_str(indent);
        out.push_str(line);
    }
    out
}

fn inline(fragment: &str) -> String {
    fragment.lines().map(str::trim_start).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn element(text: &str, name: &str) -> Element {
        let document = roxmltree::Document::parse(text).expect("test document");
        let node = document
            .descendants()
            .find(|n| n.has_tag_name(name))
            .expect("element");
        Element::locate(text, node.range())
    }

    fn after(text: &str, edit: Edit) -> String {
        apply(text, &[edit]).expect("one edit")
    }

    #[test]
    fn append_inserts_after_the_last_child_with_its_indentation() {
        let text = "<a>\n  <b>\n    <c/>\n  </b>\n</a>";
        let got = after(text, element(text, "b").append("<d>\n  <e/>\n</d>"));
        assert_eq!(
            got,
            "<a>\n  <b>\n    <c/>\n    <d>\n      <e/>\n    </d>\n  </b>\n</a>"
        );
    }

    #[test]
    fn append_opens_a_self_closed_element() {
        let text = "<a>\n  <b x='/>'/>\n</a>";
        let got = after(text, element(text, "b").append("<c/>"));
        assert_eq!(got, "<a>\n  <b x='/>'>\n    <c/>\n  </b>\n</a>");
    }

    #[test]
    fn remove_restores_the_text_before_an_insertion() {
        for text in [
            "<a>\n  <b></b>\n</a>",
            "<a>\n  <b>\n  </b>\n</a>",
            "<a> <b> <x/> </b></a>",
            "<a>\n\n  <b>\n    <x/>\n  </b>\n</a>",
        ] {
            let before = element(text, "b");
            for edit in [
                before.append("<c>\n  <d/>\n</c>"),
                before.prepend("<c/>"),
                before.insert_after("<c/>"),
            ] {
                let with = after(text, edit);
                assert_eq!(after(&with, element(&with, "c").remove()), text);
            }
        }
    }

    #[test]
    fn empty_closes_an_element_that_append_opened() {
        for text in ["<a>\n  <b x='1' />\n</a>", "<a><b/></a>"] {
            let with = after(text, element(text, "b").append("<c/>"));
            assert_eq!(after(&with, element(&with, "b").collapse()), text);
        }
    }

    #[test]
    fn a_document_on_one_line_stays_on_one_line() {
        let text = "<a><b/></a>";
        assert_eq!(
            after(text, element(text, "b").append("<c>\n  <d/>\n</c>")),
            "<a><b><c><d/></c></b></a>"
        );
        assert_eq!(
            after(text, element(text, "b").insert_after("<c/>")),
            "<a><b/><c/></a>"
        );
    }

    #[test]
    fn replacement_keeps_the_position_of_the_element() {
        let text = "<a>\n  <b/>\n  <!-- kept -->\n</a>";
        let got = after(text, element(text, "b").replace("<c>\n  <d/>\n</c>"));
        assert_eq!(got, "<a>\n  <c>\n    <d/>\n  </c>\n  <!-- kept -->\n</a>");
    }

    #[test]
    fn edits_that_overlap_are_an_error() {
        let edit = |span| Edit {
            span,
            text: String::new(),
        };
        assert_eq!(
            apply("abcdef", &[edit(1..4), edit(2..5)]),
            Err(OverlapError(2))
        );
        assert_eq!(apply("abc", &[edit(2..9)]), Err(OverlapError(9)));
    }

    proptest! {
        #[test]
        fn insertions_at_one_position_keep_their_order(text in "[a-z]{0,20}", at in 0usize..20) {
            let at = at.min(text.len());
            let insert = |t: &str| Edit { span: at..at, text: t.to_owned() };
            let got = apply(&text, &[insert("1"), insert("2")]).expect("inserts");
            prop_assert_eq!(got, format!("{}12{}", &text[..at], &text[at..]));
        }
    }
}
