//! The domain XML on standard input, read to its end and bounded.

use std::io::{self, Read};
use std::os::fd::BorrowedFd;

use memchr::memmem;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, read as read_once};

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

/// The start of standard input, read before the hook is protected from a lack of memory.
#[derive(Debug, Default)]
pub struct Head {
    kept: Vec<u8>,
    end: End,
}

/// What follows the kept bytes.
#[derive(Clone, Copy, Debug, Default)]
enum End {
    /// Not known yet.
    #[default]
    Open,
    Reached,
    Failed(Errno),
}

impl Head {
    /// Reads to the end, but not behind the limit. When memory is short it reads nothing, and the program continues.
    #[must_use]
    pub fn read(source: BorrowedFd<'_>) -> Self {
        let mut kept = Vec::new();
        let end = match fill(source, &mut kept, LIMIT) {
            Ok(_) if kept.len() == LIMIT => End::Open,
            Ok(()) => End::Reached,
            Err(Errno::NOMEM) if kept.is_empty() => End::Open,
            Err(why) => End::Failed(why),
        };
        Self { kept, end }
    }

    /// The whole input; `None` where more may follow, or where it did not arrive.
    #[must_use]
    pub fn whole(&self) -> Option<&[u8]> {
        let is_whole = matches!(self.end, End::Reached) && !self.kept.is_empty();
        is_whole.then_some(&self.kept)
    }

    /// Reads the rest to the end, so that libvirt's write never fails; keeps at most 1 MiB.
    pub fn finish(self, source: &mut impl Read) -> Input {
        let Self { mut kept, end } = self;
        let rest = match end {
            End::Open => rest(source, &mut kept),
            End::Reached => Ok(Rest::default()),
            End::Failed(why) => Err(why.into()),
        };
        let mut names_mark = names(&kept);
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
}

/// Reads to the end, so that the writer never fails; keeps at most 1 MiB.
pub fn read(source: &mut impl Read) -> Input {
    Head::default().finish(source)
}

/// Reads to the end into `bytes`, but not behind `limit`. Allocates once, and fails with `ENOMEM` when it cannot.
pub(crate) fn fill(
    source: BorrowedFd<'_>,
    bytes: &mut Vec<u8>,
    limit: usize,
) -> rustix::io::Result<()> {
    bytes.try_reserve_exact(limit).map_err(|_| Errno::NOMEM)?;
    while bytes.len() < limit {
        match read_once(source, spare_capacity(bytes)) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(why) => return Err(why),
        }
    }
    Ok(())
}

/// Reads the rest, and keeps it up to the limit.
fn rest(source: &mut impl Read, kept: &mut Vec<u8>) -> io::Result<Rest> {
    let limit = LIMIT.saturating_sub(kept.len());
    // The buffer grows with the input; when memory is short, the read fails and the program continues.
    source.by_ref().take(limit as u64).read_to_end(kept)?;
    drain(source, kept)
}

/// The bytes behind the limit.
#[derive(Default)]
struct Rest {
    size: usize,
    names_mark: bool,
}

fn drain(source: &mut impl Read, kept: &[u8]) -> io::Result<Rest> {
    let mut rest = Rest::default();
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
    use std::fs::File;
    use std::io::{Seek, Write};
    use std::os::fd::AsFd;

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

    fn head(text: &[u8]) -> (File, Head) {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(text).expect("written");
        file.rewind().expect("at its start");
        let head = Head::read(file.as_fd());
        (file, head)
    }

    #[test]
    fn head_of_a_definition_is_whole_and_makes_the_same_input() {
        let (mut file, head) = head(b"<domain/>");
        assert_eq!(head.whole(), Some(&b"<domain/>"[..]));
        assert_eq!(head.finish(&mut file), Input::from("<domain/>"));
    }

    #[test]
    fn head_at_the_limit_is_finished_with_the_rest() {
        for (behind, kept) in [(0, Some(LIMIT)), (1, None), (70_000, None)] {
            let (mut file, head) = head(&vec![b' '; LIMIT + behind]);
            assert_eq!(head.whole(), None, "{behind} behind the limit");
            let input = head.finish(&mut file);
            assert_eq!(input.text.as_ref().map(String::len).ok(), kept);
            if kept.is_none() {
                assert_eq!(input.text, Err(Unreadable::TooLarge(LIMIT + behind)));
            }
        }
    }

    #[test]
    fn head_without_a_definition_is_not_whole() {
        let (mut file, head) = head(b"");
        assert_eq!(head.whole(), None);
        let missing = |input: Input| matches!(input.text, Err(Unreadable::Missing(_)));
        assert!(missing(head.finish(&mut file)));
        let directory = File::open("/").expect("a directory");
        let head = Head::read(directory.as_fd());
        assert_eq!(head.whole(), None);
        // A failed read is not tried again, because the rest alone would be taken as the whole.
        assert!(missing(head.finish(&mut &b"<domain/>"[..])));
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
