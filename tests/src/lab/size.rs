//! An amount of memory in QEMU's notation: a number with M or G.

use std::fmt;
use std::str::FromStr;

const MEBIBYTE: u64 = 1 << 20;

/// Whole mebibytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

impl Size {
    /// This number of mebibytes.
    pub const fn mebibytes(number: u64) -> Self {
        Self(number)
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0 * MEBIBYTE
    }

    /// A multiple of it.
    #[must_use]
    pub const fn times(self, number: u32) -> Self {
        Self(self.0 * number as u64)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}M", self.0)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("'{text}' is not a size: write a number with M or G");
        let factor = match text.chars().last() {
            Some('M') => 1,
            Some('G') => 1024,
            _ => return Err(wrong()),
        };
        let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
        // 2^44 bytes is more than any emulated address space
        match number.checked_mul(factor) {
            Some(mebibytes) if mebibytes < 1 << 24 => Ok(Self(mebibytes)),
            _ => Err(format!("'{text}' is more than the lab can address")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        assert_eq!("96G".parse::<Size>().map(Size::bytes), Ok(96 << 30));
        assert_eq!(
            "1536M".parse::<Size>().map(|size| size.to_string()),
            Ok("1536M".into())
        );
        for wrong in ["", "G", "12", "-1G", "9999999999999G", "1é"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }
}
