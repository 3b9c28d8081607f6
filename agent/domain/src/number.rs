//! Numbers, lists of numbers and sizes in domain XML, parsed as libvirt does.
//!
//! | here | libvirt |
//! |---|---|
//! | [`unsigned`] | virStrToLong_uip, virXMLPropUInt |
//! | [`signed`] | virStrToLong_i, virXMLPropInt with VIR_XML_PROP_NONNEGATIVE |
//! | [`wrapping`] | virStrToLong_ui |
//! | [`list`] | virBitmapParse with VIR_DOMAIN_CPUMASK_LEN |
//! | [`size`] | virParseScaledValue, virScaleInteger |
//!
//! All use g_ascii_strtoull: it accepts white space and a `+` before a number, and nothing after it.
//! `tests/lab differential` compares each attribute with the real libvirt.

use kernel_glue::numa::RangeList;

/// Bits of a CPU mask or nodeset (VIR_DOMAIN_CPUMASK_LEN, src/conf/numa_conf.h).
const LIST_LENGTH: u32 = 16384;

/// Bases that libvirt passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// 10.
    Decimal,
    /// 0, as in C: `0x1f` is hexadecimal, `017` octal.
    Any,
}

/// A sign, the digits as g_ascii_strtoull parses them, and the remaining text.
struct Scanned<'t> {
    negative: bool,
    magnitude: u64,
    rest: &'t str,
}

/// `None` if there is no number, or one above 64 bits.
fn scan(text: &str, base: Base) -> Option<Scanned<'_>> {
    let text = text.trim_start_matches(is_space);
    let negative = text.starts_with('-');
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (radix, digits) = match (base, digits.as_bytes()) {
        (Base::Decimal, _) => (10, digits),
        (Base::Any, [b'0', b'x' | b'X', ..]) => (16, &digits[2..]),
        // `0` alone is octal, too, and has the same value.
        (Base::Any, [b'0', ..]) => (8, digits),
        (Base::Any, _) => (10, digits),
    };
    let is_other = |c: char| !c.is_digit(radix);
    let end = digits.find(is_other).unwrap_or(digits.len());
    // Without a digit this fails, like `from_str_radix`.
    let magnitude = u64::from_str_radix(&digits[..end], radix).ok()?;
    Some(Scanned {
        negative,
        magnitude,
        rest: &digits[end..],
    })
}

fn whole(text: &str, base: Base) -> Option<Scanned<'_>> {
    scan(text, base).filter(|scanned| scanned.rest.is_empty())
}

/// C's isspace.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

/// A number of 32 bits without a minus sign.
pub(super) fn unsigned(text: &str, base: Base) -> Option<u32> {
    long(text, base).and_then(|number| u32::try_from(number).ok())
}

/// A number of 64 bits without a minus sign (virStrToLong_ullp).
pub(super) fn long(text: &str, base: Base) -> Option<u64> {
    let scanned = whole(text, base).filter(|scanned| !scanned.negative)?;
    Some(scanned.magnitude)
}

/// A number of 31 bits; `-0` is 0.
pub(super) fn signed(text: &str, base: Base) -> Option<u32> {
    let scanned = whole(text, base)?;
    let number = i32::try_from(scanned.magnitude).ok()?;
    (!scanned.negative || number == 0).then_some(number.unsigned_abs())
}

/// A number of 32 bits; a negative one is its two's complement.
pub(super) fn wrapping(text: &str) -> Option<u32> {
    let scanned = whole(text, Base::Decimal)?;
    let number = u32::try_from(scanned.magnitude).ok()?;
    Some(match scanned.negative {
        true => number.wrapping_neg(),
        false => number,
    })
}

/// A list such as `1-2,5-7,^6`; it may end with a comma. An empty text is invalid.
pub(super) fn list(text: &str) -> Option<RangeList> {
    let mut rest = text.trim_start_matches(is_space);
    let mut bits = Bits::default();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let taken_out = rest.starts_with('^');
        let (first, behind) = bit(rest.strip_prefix('^').unwrap_or(rest))?;
        let mut last = first;
        rest = behind;
        // virBitmapParse takes one number after `^`, and no range.
        if let Some(end) = rest.strip_prefix('-').filter(|_| !taken_out) {
            (last, rest) = bit(end.trim_start_matches(is_space))?;
        }
        bits.set(first, last, !taken_out)?;
        if let Some(next) = rest.strip_prefix(',') {
            rest = next.trim_start_matches(is_space);
        } else if !rest.is_empty() {
            return None;
        }
    }
    Some(bits.ranges())
}

/// A bitmap in 64-bit words: a definition may have thousands of lists of maximum length.
#[derive(Clone)]
struct Bits([u64; (LIST_LENGTH / u64::BITS) as usize]);

impl Default for Bits {
    fn default() -> Self {
        Self([0; (LIST_LENGTH / u64::BITS) as usize])
    }
}

impl Bits {
    /// Sets or clears the bits from `first` to `last`; `None` if `last` is less than `first`.
    fn set(&mut self, first: u32, last: u32, to: bool) -> Option<()> {
        let (low, high) = (first / u64::BITS, last / u64::BITS);
        let words = self.0.get_mut(low as usize..=high as usize)?;
        (first <= last).then_some(())?;
        for (word, index) in words.iter_mut().zip(low..) {
            let mut mask = u64::MAX;
            if index == low {
                mask &= u64::MAX << (first % u64::BITS);
            }
            if index == high {
                mask &= u64::MAX >> (u64::BITS - 1 - last % u64::BITS);
            }
            *word = if to { *word | mask } else { *word & !mask };
        }
        Some(())
    }

    fn ranges(&self) -> RangeList {
        let words = (0..LIST_LENGTH).step_by(u64::BITS as usize).zip(self.0);
        words
            .flat_map(|(start, word)| runs(word).map(move |(a, b)| (start + a, start + b)))
            .collect()
    }
}

/// The runs of set bits in a 64-bit word, each as its first and last bit.
fn runs(mut word: u64) -> impl Iterator<Item = (u32, u32)> {
    std::iter::from_fn(move || {
        let first = (word != 0).then(|| word.trailing_zeros())?;
        let length = (word >> first).trailing_ones();
        word &= u64::MAX.checked_shl(first + length).unwrap_or(0);
        Some((first, first + length - 1))
    })
}

/// A number of a list, and the text after it and white space.
fn bit(text: &str) -> Option<(u32, &str)> {
    text.starts_with(|c: char| c.is_ascii_digit())
        .then_some(())?;
    let scanned = scan(text, Base::Decimal)?;
    let number = u32::try_from(scanned.magnitude).ok()?;
    let number = (number < LIST_LENGTH).then_some(number)?;
    Some((number, scanned.rest.trim_start_matches(is_space)))
}

/// The bytes of a size in this unit, up to `limit`; KiB without a unit.
pub(super) fn size(text: &str, unit: &str, limit: u64) -> Option<u64> {
    let bytes = unit_bytes(unit)?;
    let size = long(text, Base::Decimal)?.checked_mul(bytes)?;
    (size <= limit).then_some(size)
}

/// Units in any case: `b`, `byte`, `bytes`, and `k`, `KiB` and `KB` up to `e`, `EiB` and `EB`.
pub(super) fn unit_bytes(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    if matches!(unit.as_str(), "b" | "byte" | "bytes") {
        return Some(1);
    }
    if unit.is_empty() {
        return Some(1024);
    }
    let base: u64 = match unit.get(1..)? {
        "" | "ib" => 1024,
        "b" => 1000,
        _ => return None,
    };
    let power = "kmgtpe".find(unit.get(..1)?)?;
    base.checked_pow(u32::try_from(power).ok()? + 1)
}

#[cfg(test)]
mod tests;
