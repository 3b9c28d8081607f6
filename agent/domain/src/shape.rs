//! Limits of an XML text that are checked before a parser reads it. For the hook and for the agent.
//!
//! A parser's work grows with the square of the attributes of one element, and of the namespaces in force: a megabyte
//! of either takes minutes, or gigabytes of memory. This check reads each byte once and stores nothing. The parser
//! refuses text that is not well-formed.

/// Maximum depth of elements; libxml2, with which libvirt parses definitions, has the same limit.
pub const MAX_DEPTH: usize = 256;
/// Maximum number of attributes of one element; libvirt's own have at most twenty.
pub const MAX_ATTRIBUTES: usize = 256;
/// Maximum number of namespace declarations in the whole text.
pub const MAX_NAMESPACES: usize = 1024;

/// Returns the limit that a text exceeds; `None` if it can be parsed safely.
#[must_use]
pub fn excess(text: &str) -> Option<String> {
    let (mut rest, mut depth, mut namespaces) = (text.as_bytes(), 0, 0);
    while let Some(at) = rest.iter().position(|byte| *byte == b'<') {
        rest = &rest[at..];
        // A `<` inside of a comment or CDATA section begins no tag.
        if let Some(end) = passed_over(rest) {
            rest = &rest[end?..];
            continue;
        }
        let tag = Tag::read(rest)?;
        rest = &rest[tag.length..];
        namespaces += tag.namespaces;
        // The parser refuses surplus end tags.
        depth = match tag.closes {
            true => usize::saturating_sub(depth, 1),
            false => depth + 1,
        };
        let over = |what, limit| Some(format!("more than {limit} {what}"));
        if depth > MAX_DEPTH {
            return over("nested elements", MAX_DEPTH);
        }
        if tag.attributes > MAX_ATTRIBUTES {
            return over("attributes of one element", MAX_ATTRIBUTES);
        }
        if namespaces > MAX_NAMESPACES {
            return over("namespace declarations", MAX_NAMESPACES);
        }
        if tag.is_empty && !tag.closes {
            depth -= 1;
        }
    }
    None
}

/// The end of a comment, a CDATA section or a processing instruction; `Some(None)` if it does not end, and for a
/// declaration, which variantd's parsers refuse.
fn passed_over(rest: &[u8]) -> Option<Option<usize>> {
    let kinds: [(&[u8], &[u8]); 3] = [(b"<!--", b"-->"), (b"<![CDATA[", b"]]>"), (b"<?", b"?>")];
    let kind = kinds.iter().find(|(start, _)| rest.starts_with(start));
    match kind {
        Some((start, end)) => {
            Some(find(&rest[start.len()..], end).map(|at| start.len() + at + end.len()))
        }
        None if rest.starts_with(b"<!") => Some(None),
        None => None,
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

struct Tag {
    length: usize,
    attributes: usize,
    namespaces: usize,
    closes: bool,
    is_empty: bool,
}

impl Tag {
    /// Parses the tag at the start of the bytes; `None` if it does not end.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (mut quote, mut attributes, mut namespaces) = (None, 0, 0);
        for (index, byte) in bytes.iter().enumerate() {
            match (quote, byte) {
                (Some(open), byte) if open == byte => quote = None,
                (Some(_), _) => {}
                (None, b'\'' | b'"') => quote = Some(byte),
                // Outside of quotes a tag has one `=` for each attribute.
                (None, b'=') => attributes += 1,
                (None, b'x') if bytes[index..].starts_with(b"xmlns") => namespaces += 1,
                (None, b'>') => {
                    return Some(Self {
                        length: index + 1,
                        attributes,
                        namespaces,
                        closes: bytes.starts_with(b"</"),
                        is_empty: bytes[index - 1] == b'/',
                    });
                }
                (None, _) => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_definition_is_within_the_limits() {
        let text = "<?xml version='1.0'?><!-- <a> --><domain xmlns:q='u' a='>' b=\"'\">\
                    <![CDATA[<a><b>]]><devices><a/><b></b></devices></domain>";
        assert_eq!(excess(text), None);
    }

    #[test]
    fn shape_limits_only_the_depth_of_elements() {
        let deep = |count: usize| "<a>".repeat(count) + &"</a>".repeat(count);
        assert_eq!(excess(&deep(MAX_DEPTH)), None);
        assert!(excess(&deep(MAX_DEPTH + 1)).is_some());
        assert_eq!(
            excess(&format!("<a>{}</a>", "<b/><c></c>".repeat(100_000))),
            None
        );
    }

    #[test]
    fn shape_limits_attributes_and_namespaces() {
        let attributes = |count: usize, name: &str| {
            let all = (0..count).map(|number| format!(" {name}{number}=''"));
            format!("<a{}/>", all.collect::<String>())
        };
        assert_eq!(excess(&attributes(MAX_ATTRIBUTES, "b")), None);
        assert!(excess(&attributes(MAX_ATTRIBUTES + 1, "b")).is_some());
        let few = attributes(MAX_ATTRIBUTES, "xmlns:b");
        assert_eq!(excess(&few.repeat(4)), None);
        assert!(excess(&few.repeat(5)).is_some());
    }

    #[test]
    fn end_tag_that_looks_empty_counts_once() {
        assert_eq!(excess("</a/></b/><c/></d></e>"), None);
        assert_eq!(excess("<a></a/></a/>"), None);
    }

    #[test]
    fn parser_refuses_unterminated_constructs() {
        for text in [
            "<",
            "<a",
            "<a b='",
            "<!-- ",
            "<![CDATA[",
            "<?",
            "<!DOCTYPE a [",
            "</",
            "a",
        ] {
            assert_eq!(excess(text), None, "{text}");
        }
    }
}
