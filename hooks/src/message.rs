//! The length of a D-Bus message, told from its first bytes (D-Bus specification, "Message Format"). For the hook and for the agent.

use zbus::wire::Endian;

/// A message up to its header fields: the fixed part, and their length.
pub const FIXED: usize = 16;

/// Bytes of the message that begins with `fixed`; `None` when it is not a message, or longer than `most`.
#[must_use]
pub fn length(fixed: &[u8], most: usize) -> Option<usize> {
    let endian = endian(fixed)?;
    let number = |at: usize| {
        let bytes = fixed.get(at..at + 4)?;
        usize::try_from(endian.read_u32(bytes)).ok()
    };
    let (body, fields) = (number(4)?, number(12)?);
    let length = body.checked_add(fields.checked_next_multiple_of(8)?)?;
    Some(length.checked_add(FIXED)?).filter(|length| *length <= most)
}

/// The order of bytes that a message names.
pub(crate) fn endian(fixed: &[u8]) -> Option<Endian> {
    match fixed.first()? {
        b'l' => Some(Endian::Little),
        b'B' => Some(Endian::Big),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_what_the_header_says_and_never_beyond_the_limit() {
        let mut fixed = [0; FIXED];
        fixed[0] = b'l';
        fixed[4..8].copy_from_slice(&100_u32.to_le_bytes());
        fixed[12..16].copy_from_slice(&13_u32.to_le_bytes());
        assert_eq!(length(&fixed, 132), Some(132));
        assert_eq!(length(&fixed, 131), None);
        fixed[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(length(&fixed, 1 << 30), None);
        assert_eq!(length(&fixed[..8], 1 << 30), None);
        fixed[0] = b'x';
        assert_eq!(length(&fixed, 1 << 30), None);
    }
}
