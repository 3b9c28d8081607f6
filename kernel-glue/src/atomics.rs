//! AtomicOp widths: which of 32, 64 and 128 bits a function completes.
//!
//! Follows PCIe base specification 7.5.3.15 (Device Capabilities 2, bits 7 to 9).

use std::fmt;

/// The width of an AtomicOp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// FetchAdd, Swap and CAS of 32 bits.
    Bits32,
    /// FetchAdd, Swap and CAS of 64 bits.
    Bits64,
    /// CAS of 128 bits.
    Bits128,
}

/// A set of widths; prints as `32, 64`, or `none`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Widths(u8);

impl Width {
    /// Every width, in ascending order.
    pub const ALL: [Self; 3] = [Self::Bits32, Self::Bits64, Self::Bits128];

    /// The width in bits: 32, 64 or 128.
    #[must_use]
    pub fn bits(self) -> u32 {
        match self {
            Self::Bits32 => 32,
            Self::Bits64 => 64,
            Self::Bits128 => 128,
        }
    }

    fn mask(self) -> u8 {
        match self {
            Self::Bits32 => 1,
            Self::Bits64 => 2,
            Self::Bits128 => 4,
        }
    }
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bits())
    }
}

impl Widths {
    /// All three.
    pub const ALL: Self = Self(7);

    /// The completer bits 7 to 9 of a Device Capabilities 2 register.
    #[must_use]
    pub fn from_devcap2(register: u32) -> Self {
        let bit = |width: &Width| register & u32::from(width.mask()) << 7 != 0;
        Width::ALL.into_iter().filter(bit).collect()
    }

    /// True if `width` is in the set.
    #[must_use]
    pub fn contains(self, width: Width) -> bool {
        self.0 & width.mask() != 0
    }

    /// True if the set is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The widths in both sets.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The widths in ascending order.
    pub fn iter(self) -> impl Iterator<Item = Width> {
        Width::ALL.into_iter().filter(move |w| self.contains(*w))
    }
}

impl FromIterator<Width> for Widths {
    fn from_iter<I: IntoIterator<Item = Width>>(widths: I) -> Self {
        Self(widths.into_iter().fold(0, |set, width| set | width.mask()))
    }
}

impl fmt::Display for Widths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let texts: Vec<String> = self.iter().map(|width| width.to_string()).collect();
        f.write_str(&texts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_register_bits_are_seven_to_nine() {
        assert_eq!(Widths::from_devcap2(0x0030_0020).to_string(), "none");
        assert_eq!(Widths::from_devcap2(0x380), Widths::ALL);
        assert_eq!(Widths::from_devcap2(0x100).to_string(), "64");
    }
}
