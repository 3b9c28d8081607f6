//! Sizes in the notation of QEMU and libvirt, in KiB.

/// QEMU's: bytes, or a number with K, M, G or T in either case.
pub fn kib(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    match &text[digits.len()..] {
        "" | "B" => Some(number / 1024),
        "K" | "k" => Some(number),
        "M" | "m" => number.checked_mul(1 << 10),
        "G" | "g" => number.checked_mul(1 << 20),
        "T" | "t" => number.checked_mul(1 << 30),
        _ => None,
    }
}

/// libvirt's: a number and its unit (virScaleInteger in libvirt), by default KiB.
pub fn scaled(number: &str, unit: Option<&str>) -> Option<u64> {
    let number: u64 = number.trim().parse().ok()?;
    let bytes: u64 = match unit.unwrap_or("KiB") {
        "b" | "bytes" => 1,
        "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "k" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        _ => return None,
    };
    // libvirt rounds memory up to whole KiB
    Some(number.checked_mul(bytes)?.div_ceil(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_qemu_and_of_libvirt_are_read() {
        assert_eq!(kib("1073741824K"), Some(1 << 30));
        assert_eq!(kib("536870912"), Some(1 << 19));
        assert_eq!(kib("4T"), Some(1 << 32));
        assert_eq!(scaled("64", Some("GiB")), Some(64 << 20));
        assert_eq!(scaled(" 1024 ", None), Some(1024));
        assert_eq!(scaled("1", Some("GB")), Some(976_563));
        for wrong in ["", "K", "1X", "-1"] {
            assert_eq!(
                (kib(wrong), scaled(wrong, Some("KiB"))),
                (None, None),
                "{wrong}"
            );
        }
    }
}
