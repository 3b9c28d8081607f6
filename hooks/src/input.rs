//! The domain XML on standard input, read to its end and bounded.

use std::io::{self, Read};

use memchr::memmem;

/// The namespace of the mark that the agent leaves in a definition's metadata.
pub const NAMESPACE: &str = "urn:variantd:1";

/// Larger than any domain libvirt writes; the agent reads no more either.
pub const LIMIT: usize = 1 << 20;

/// Why the definition that libvirt sent cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It has this many bytes.
    TooLarge(usize),
    /// It is not XML, or of a shape that no domain has: why.
    Malformed(String),
    /// It did not arrive, or only in part, so that its mark may be missing: why.
    Missing(String),
}

/// The definition on standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The text, not parsed yet; or why there is none.
    pub text: Result<String, Unreadable>,
    /// The bytes contain the mark's namespace, also behind the limit.
    pub names_mark: bool,
}

/// Reads to the end, so that libvirt's write never fails; keeps at most 1 MiB.
pub fn read(source: &mut impl Read) -> Input {
    // The buffer grows with the input; when memory is short, the read fails and the program continues.
    let mut kept = Vec::new();
    let read = source.by_ref().take(LIMIT as u64).read_to_end(&mut kept);
    let mut names_mark = names(&kept);
    let rest = read.and_then(|_| drain(source, &kept));
    let text = match rest {
        Err(why) => Err(Unreadable::Missing(why.to_string())),
        // libvirt always sends a definition.
        Ok(_) if kept.is_empty() => Err(Unreadable::Missing("it is empty".into())),
        Ok(Rest { size: 0, .. }) => {
            String::from_utf8(kept).map_err(|error| Unreadable::Malformed(error.to_string()))
        }
        Ok(rest) => {
            names_mark |= rest.names_mark;
            Err(Unreadable::TooLarge(LIMIT + rest.size))
        }
    };
    Input { text, names_mark }
}

/// The bytes behind the limit.
struct Rest {
    size: usize,
    names_mark: bool,
}

fn drain(source: &mut impl Read, kept: &[u8]) -> io::Result<Rest> {
    let mut rest = Rest {
        size: 0,
        names_mark: false,
    };
    let mut tail = end(kept).to_vec();
    let mut chunk = [0; 16 << 10];
    loop {
        match source.read(&mut chunk) {
            Ok(0) => return Ok(rest),
            Ok(count) => {
                rest.size += count;
                tail.extend_from_slice(&chunk[..count]);
                rest.names_mark |= names(&tail);
                tail = end(&tail).to_vec();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The bytes contain the mark's namespace.
fn names(bytes: &[u8]) -> bool {
    memmem::find(bytes, NAMESPACE.as_bytes()).is_some()
}

/// The last bytes, in which the namespace can begin.
fn end(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.len().saturating_sub(NAMESPACE.len() - 1)..]
}

impl From<&str> for Input {
    fn from(text: &str) -> Self {
        read(&mut text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_drains_a_long_input_and_finds_its_mark_at_each_place() {
        for at in [0, LIMIT - 7, LIMIT + 3, 2 * LIMIT - NAMESPACE.len()] {
            let mut long = vec![b' '; 2 * LIMIT];
            long[at..at + NAMESPACE.len()].copy_from_slice(NAMESPACE.as_bytes());
            let mut source = &long[..];
            let input = read(&mut source);
            assert!(source.is_empty() && input.names_mark, "at {at}");
            assert_eq!(input.text, Err(Unreadable::TooLarge(2 * LIMIT)));
        }
    }

    #[test]
    fn read_finds_a_mark_that_arrives_byte_by_byte() {
        struct Slow<'a>(&'a [u8]);
        impl Read for Slow<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let one = self.0.len().min(1);
                self.0.read(&mut buffer[..one])
            }
        }
        assert!(read(&mut Slow(b"<a b='urn:variantd:1'/>")).names_mark);
        assert!(!read(&mut Slow(b"<a b='urn:variantd:'/>")).names_mark);
    }

    #[test]
    fn read_keeps_a_domain() {
        let input = Input::from("<domain/>");
        assert_eq!(
            (input.text.as_deref(), input.names_mark),
            (Ok("<domain/>"), false)
        );
    }

    #[test]
    fn empty_and_interrupted_inputs_are_missing() {
        struct Failing<'a>(&'a [u8]);
        impl Read for Failing<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                match self.0.read(buffer) {
                    Ok(0) => Err(std::io::Error::other("broken")),
                    read => read,
                }
            }
        }
        let missing = |input: Input| matches!(input.text, Err(Unreadable::Missing(_)));
        assert!(missing(read(&mut &b""[..])));
        assert!(missing(read(&mut Failing(b"<domain>"))));
    }

    #[test]
    fn read_does_not_keep_invalid_utf8() {
        let mut source = &b"\xff<a/>"[..];
        assert!(matches!(
            read(&mut source).text,
            Err(Unreadable::Malformed(_))
        ));
    }
}
