//! The cache entries of Debian's libvirt, cut to the flags about guests of GPUs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::stack::recorded;

const EMULATOR: &str = "/usr/bin/qemu-system-aarch64";

fn installed() -> Installed {
    Installed {
        emulator: EMULATOR.to_owned(),
        emulator_ctime: 1_795_825_844,
        driver_ctime: Some(1_795_825_844),
        libvirt: Version::new(12, 8, 0),
    }
}

fn text() -> String {
    recorded("debian-testing", "capabilities.xml")
}

#[test]
fn entry_has_versions_package_and_flags() {
    let entry = Entry::parse(&text()).expect("an entry");
    assert_eq!(entry.qemu, Version::new(11, 1, 2));
    assert_eq!(entry.package.as_deref(), Some("Debian 1:11.1.2+ds-3"));
    assert!(entry.flags.contains("arm-smmuv3.accel"));
    assert!(!entry.flags.contains("acpi-egm-memory"));
    let older = Entry::parse(&recorded("debian-13", "capabilities.xml")).expect("an entry");
    assert!(!older.flags.contains("arm-smmuv3"));
}

#[test]
fn entry_of_other_programs_does_not_count() {
    let entry = Entry::parse(&text()).expect("an entry");
    assert!(entry.fits(&installed()));
    let without = Installed {
        driver_ctime: None,
        ..installed()
    };
    assert!(entry.fits(&without));
    for other in [
        Installed {
            emulator: "/usr/bin/qemu-system-x86_64".to_owned(),
            ..installed()
        },
        Installed {
            emulator_ctime: 1,
            ..installed()
        },
        Installed {
            driver_ctime: Some(1_795_825_845),
            ..installed()
        },
        Installed {
            libvirt: Version::new(12, 7, 0),
            ..installed()
        },
    ] {
        assert!(!entry.fits(&other), "{other:?}");
    }
}

#[test]
fn truncated_and_strange_entries_are_none() {
    let text = text();
    for end in 0..text.len() - 2 {
        assert_eq!(Entry::parse(&text[..end]), None, "{end}");
    }
    for strange in [
        text.replace("flag name", "flag x"),
        text.replace("qemuCaps", "other"),
        text.replace("11001002", "99999999999999"),
        text.replace("1795825844", "soon"),
    ] {
        assert_eq!(Entry::parse(&strange), None, "{strange}");
    }
}

#[test]
fn entry_of_another_owner_or_of_another_form_is_an_error() {
    let root = tempfile::tempdir().expect("a folder");
    assert_eq!(Entry::read(root.path(), &installed()).expect("none"), None);
    let path = path(root.path(), EMULATOR);
    let name = path.file_name().and_then(|name| name.to_str());
    // The name that Debian's libvirt gave it.
    let real = "a013a09a30bf35fbea5b0236d43e579da4a041eaea677bc2f449290e5b7a5d5e.xml";
    assert_eq!(name, Some(real));
    fs::create_dir_all(path.parent().expect("above")).expect("folder");
    fs::write(&path, text()).expect("entry");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("mode");
    let entry = Entry::read(root.path(), &installed()).expect("read");
    assert_eq!(entry, Entry::parse(&text()));
    fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("mode");
    let why = Entry::read(root.path(), &installed()).expect_err("writable");
    assert_eq!(why.to_string(), "other users can write it");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("mode");
    if nix::unistd::chown(&path, Some(65534.into()), None).is_ok() {
        let why = Entry::read(root.path(), &installed()).expect_err("another owner");
        assert_eq!(why.to_string(), "its owner is not root");
    }
    fs::remove_file(&path).expect("removed");
    std::os::unix::fs::symlink("/dev/zero", &path).expect("link");
    assert!(Entry::read(root.path(), &installed()).is_err());
}
