//! Outputs of the QEMU in Debian 12, 13 and testing, shortened.

use super::*;
use crate::stack::recorded;

#[test]
fn versions_and_packages_are_read() {
    let named = |stack| version(&recorded(stack, "version.txt")).expect("a version");
    let testing = named("debian-testing");
    assert_eq!(testing.version, Version::new(11, 1, 2));
    assert_eq!(testing.package.as_deref(), Some("Debian 1:11.1.2+ds-3"));
    assert_eq!(named("debian-12").version, Version::new(7, 2, 22));
    let plain = version("QEMU emulator version 10.1.0\nCopyright").expect("a version");
    assert_eq!(
        (plain.version, plain.package),
        (Version::new(10, 1, 0), None)
    );
    for text in ["", "QEMU", "version ", "version x.y", "version 1..2"] {
        assert_eq!(version(text), None, "{text}");
    }
}

#[test]
fn only_the_list_of_devices_tells_which_ones_users_can_create() {
    let listed = |stack| devices(&recorded(stack, "device.txt")).expect("devices");
    assert!(listed("debian-testing").contains("arm-smmuv3"));
    assert!(!listed("debian-13").contains("arm-smmuv3"));
    assert!(types(&recorded("debian-13", "arm-smmuv3.txt")).is_some());
}

#[test]
fn types_are_those_of_qemu() {
    let smmu = types(&recorded("debian-testing", "arm-smmuv3.txt")).expect("types");
    let kind = |name: &str| smmu.get(name).map(String::as_str);
    assert_eq!(kind("accel"), Some("bool"));
    assert_eq!(kind("ats"), Some("OnOffAuto"));
    assert_eq!(kind("oas"), Some("OasMode"));
    assert_eq!(kind("ssidsize"), Some("SsidSizeMode"));
    assert_eq!(kind("primary-bus"), Some("link<PCI>"));
    assert_eq!(kind("stage"), Some("str"));
    assert_eq!(kind("pasid"), None);
    let machine = |stack| types(&recorded(stack, "machine.txt")).expect("types");
    let kind = machine("debian-13").remove("highmem-mmio-size");
    assert_eq!(kind.as_deref(), Some("size"));
    assert!(!machine("debian-12").contains_key("highmem-mmio-size"));
}

#[test]
fn objects_are_read() {
    let listed = |stack| objects(&recorded(stack, "object.txt")).expect("objects");
    assert!(listed("debian-13").contains("acpi-generic-initiator"));
    assert!(!listed("debian-12").contains("acpi-generic-initiator"));
}

#[test]
fn garbage_gives_no_answer() {
    let long = format!("x options:\n  a=<{}>\n", "b".repeat(MAX_NAME + 1));
    let large = format!("x options:\n  a=<bool>\n{}", " ".repeat(MAX_BYTES));
    let texts = [
        "",
        "\0",
        "options:",
        "x options:\n",
        "name \"",
        &long,
        &large,
    ];
    for text in texts {
        assert_eq!(types(text), None);
        assert_eq!(devices(text), None);
        assert_eq!(objects(text), None);
    }
    let many: String = (0..9999).map(|n| format!("name \"n{n}\"\n")).collect();
    assert_eq!(devices(&many).map(|names| names.len()), Some(MAX_NAMES));
    assert_eq!(devices("name \"a b\"\nname \"\u{1b}[2J\"\n"), None);
}

#[test]
fn slow_emulator_is_incomplete() {
    let all = |stack| {
        let text = |name: &str| recorded(stack, &format!("{name}.txt"));
        Properties {
            version: version(&text("version")),
            devices: devices(&text("device")),
            objects: objects(&text("object")),
            smmu: types(&text("arm-smmuv3")),
            machine: types(&text("machine")),
        }
    };
    let complete = all("debian-testing");
    assert!(complete.is_complete() && !Properties::default().is_complete());
    let without = |take: fn(&mut Properties)| {
        let mut properties = complete.clone();
        take(&mut properties);
        properties.is_complete()
    };
    assert!(!without(|some| some.version = None));
    assert!(!without(|some| some.objects = None));
    assert!(!without(|some| some.smmu = None));
    assert!(!without(|some| some.machine = None));
    // QEMU 10.0 has no SMMUv3 that users create, and QEMU for x86 no 'virt'.
    let x86 = Properties {
        smmu: None,
        machine: None,
        ..all("debian-13")
    };
    assert!(x86.is_complete());
}
