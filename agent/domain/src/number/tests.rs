//! The spellings that libvirt 12.8 accepts and refuses, as measured.

use super::*;

#[test]
fn number_of_any_base_is_parsed_as_in_c() {
    let taken = [
        ("017", 0o17),
        ("0x1f", 0x1f),
        ("0X0a", 10),
        (" 3", 3),
        ("+3", 3),
        ("\t+0x3", 3),
        ("0", 0),
        ("4294967295", u32::MAX),
    ];
    for (text, number) in taken {
        assert_eq!(unsigned(text, Base::Any), Some(number), "{text:?}");
    }
    let refused = [
        "",
        " ",
        "1F",
        "3 ",
        "-1",
        "-0",
        "08",
        "0x",
        "0xg",
        "0x 3",
        "+ 3",
        "4294967296",
        "1,",
    ];
    for text in refused {
        assert_eq!(unsigned(text, Base::Any), None, "{text:?}");
    }
}

#[test]
fn decimal_number_accepts_leading_zeros_and_no_prefix() {
    assert_eq!(unsigned("010", Base::Decimal), Some(10));
    assert_eq!(unsigned("0x1", Base::Decimal), None);
    assert_eq!(signed("-0", Base::Decimal), Some(0));
    assert_eq!(signed("2147483647", Base::Decimal), Some(0x7fff_ffff));
    for text in ["2147483648", "-1", "1 ", ""] {
        assert_eq!(signed(text, Base::Decimal), None, "{text:?}");
    }
    assert_eq!(wrapping("-1"), Some(u32::MAX));
    assert_eq!(wrapping("8 "), None);
}

#[test]
fn list_is_parsed_as_a_bitmap() {
    let taken = [
        ("1-2,5-7,^6", "1-2,5,7"),
        ("0-4,^4", "0-3"),
        ("0-3,", "0-3"),
        ("1-2, 3", "1-3"),
        (" 1 - 2 ", "1-2"),
        ("01", "1"),
        ("^1", ""),
        ("1,^1", ""),
        ("^1,1", "1"),
        ("16383", "16383"),
    ];
    for (text, numbers) in taken {
        assert_eq!(
            list(text).map(|list| list.to_string()).as_deref(),
            Some(numbers),
            "{text:?}"
        );
    }
    let refused = [
        "",
        " ",
        ",",
        "0x1",
        "3-1",
        "16384",
        "0-16384",
        "1-2,^2-3",
        ",1",
        "1,,2",
        "+1",
        "-1",
        "1 2",
        "^",
        "^^1",
        "1-",
        "99999999999",
    ];
    for text in refused {
        assert_eq!(list(text), None, "{text:?}");
    }
}

#[test]
fn units_are_accepted_in_any_case() {
    let kib = [
        ("", 1 << 10),
        ("b", 1),
        ("B", 1),
        ("Byte", 1),
        ("BYTES", 1),
        ("k", 1 << 10),
        ("kIb", 1 << 10),
        ("kb", 1000),
        ("M", 1 << 20),
        ("GB", 1_000_000_000),
        ("tib", 1 << 40),
        ("p", 1 << 50),
        ("PB", 1_000_000_000_000_000),
        ("EiB", 1 << 60),
        ("e", 1 << 60),
    ];
    for (unit, bytes) in kib {
        assert_eq!(unit_bytes(unit), Some(bytes), "{unit:?}");
    }
    for unit in ["Ki", " KiB", "KiB ", "ZiB", "kibb", "é", "ß"] {
        assert_eq!(unit_bytes(unit), None, "{unit:?}");
    }
    assert_eq!(size("7", "EiB", i64::MAX as u64), Some(7 << 60));
    assert_eq!(size("8", "EiB", i64::MAX as u64), None);
    assert_eq!(size("99999999999", "EiB", u64::MAX), None);
}
