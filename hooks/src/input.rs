//! The domain XML on standard input, read to its end and bounded.

use std::io::{self, Read};

/// Larger than any domain libvirt writes; what is longer is not looked at.
const LIMIT: usize = 1 << 20;

/// Reads everything, so that libvirt's write never fails; keeps at most 1 MiB.
///
/// An input that is longer, cannot be read or is no UTF-8 is an empty text: nothing of ours.
pub fn read(source: &mut impl Read) -> String {
    // Its pages come as they are filled: it never grows, and is never copied.
    let mut bytes = Vec::with_capacity(LIMIT + 1);
    let kept = source
        .by_ref()
        .take(LIMIT as u64 + 1)
        .read_to_end(&mut bytes);
    let _ = io::copy(source, &mut io::sink());
    if kept.is_err() || bytes.len() > LIMIT {
        return String::new();
    }
    String::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_input_is_drained_and_dropped() {
        let long = vec![b' '; LIMIT + 3];
        let mut source = &long[..];
        assert_eq!(read(&mut source), "");
        assert!(source.is_empty());
    }

    #[test]
    fn a_domain_is_kept() {
        assert_eq!(read(&mut &b"<domain/>"[..]), "<domain/>");
    }
}
