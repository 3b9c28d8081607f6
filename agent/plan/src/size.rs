//! Prints sizes for people.

const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];

/// A number of bytes in the largest unit that gives a whole number.
#[must_use]
pub fn in_units(bytes: u64) -> String {
    of_unit(bytes, 0).unwrap_or_else(|| format!("{bytes} bytes"))
}

/// The same for a number of KiB.
#[must_use]
pub fn kib_in_units(kib: u64) -> String {
    of_unit(kib, 10).unwrap_or_else(|| format!("{kib} KiB"))
}

/// `number` counts units of `1 << own` bytes; `None` if no unit divides it.
fn of_unit(number: u64, own: u32) -> Option<String> {
    let shifts = UNITS
        .iter()
        .map(|(shift, unit)| (shift.checked_sub(own), unit));
    let mut units = shifts.filter_map(|(shift, unit)| Some((shift?, unit)));
    let (shift, unit) = units.find(|(shift, _)| number.is_multiple_of(1 << shift))?;
    Some(format!("{} {unit}", number >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_that_no_unit_divides_is_printed_in_bytes() {
        assert_eq!(in_units((1 << 30) + (1 << 20)), "1025 MiB");
        assert_eq!(in_units(512 << 30), "512 GiB");
        assert_eq!(in_units(1 << 40), "1 TiB");
        assert_eq!(in_units(33), "33 bytes");
    }

    #[test]
    fn kibibytes_are_printed_as_their_bytes() {
        for kib in [0, 1, 64, 2048, 524_288, 1 << 20, 3 << 30] {
            assert_eq!(kib_in_units(kib), in_units(kib << 10), "{kib}");
        }
        assert_eq!(kib_in_units(i64::MAX as u64), "9223372036854775807 KiB");
    }
}
