//! The version of libvirt's package. Only this shows a vendor's build of libvirt: the daemon reports upstream's version.
//!
//! dpkg's list has it on Debian and Ubuntu. RPM's database has changing formats (Berkeley DB, ndb, SQLite) and is read by librpm or
//! `rpm` only. So elsewhere it is read from libvirt's library, whose first line of each log has it (virlog.c):
//! `libvirt version: 11.10.0, package: 12.el9 (...)`. libvirt.spec sets the release there, Debian the whole version.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use memchr::memmem;

const STATUS: &str = "var/lib/dpkg/status";
/// Maximum size; a full desktop has about 5 MB.
const MAX_BYTES: u64 = 64 << 20;
/// The package of the library, which has the version of all of libvirt's packages.
const PACKAGE: &str = "libvirt0";

/// libvirt's library, on Fedora and RHEL, and on Debian for both architectures.
const LIBRARIES: [&str; 3] = [
    "usr/lib64/libvirt.so.0",
    "usr/lib/aarch64-linux-gnu/libvirt.so.0",
    "usr/lib/x86_64-linux-gnu/libvirt.so.0",
];
/// Maximum size; that of libvirt 12.8 has 5.4 MB.
const MAX_LIBRARY: u64 = 32 << 20;
const BEFORE_VERSION: &str = "libvirt version: ";
const BEFORE_PACKAGE: &str = ", package: ";
/// Maximum length of the line.
const MAX_LINE: usize = 512;

/// The version; `None` on a host where neither tells.
#[must_use]
pub(super) fn libvirt(root: &Path) -> Option<String> {
    let by_dpkg = || {
        let file = File::open(root.join(STATUS)).ok()?;
        version(BufReader::new(file.take(MAX_BYTES)))
    };
    let by_library = |path: &&str| {
        let mut bytes = Vec::new();
        let file = File::open(root.join(path)).ok()?;
        let read = file.take(MAX_LIBRARY).read_to_end(&mut bytes);
        read.ok().and_then(|_| line(&bytes))
    };
    by_dpkg().or_else(|| LIBRARIES.iter().find_map(by_library))
}

/// Follows deb822(5): paragraphs of `Field: value`, separated by empty lines.
fn version(text: impl BufRead) -> Option<String> {
    let (mut is_package, mut is_installed) = (false, false);
    for line in text.lines() {
        let line = line.ok()?;
        match line.split_once(": ") {
            Some(("Package", name)) => (is_package, is_installed) = (name == PACKAGE, false),
            Some(("Status", status)) => is_installed = status.ends_with(" installed"),
            Some(("Version", version)) if is_package && is_installed => {
                return Some(version.to_owned());
            }
            _ => {}
        }
    }
    None
}

/// The package in the library's line; `VERSION-RELEASE` where the line has only a release.
fn line(library: &[u8]) -> Option<String> {
    let at = memmem::find(library, BEFORE_VERSION.as_bytes())? + BEFORE_VERSION.len();
    let line = library[at..].split(|byte| *byte == 0).next()?;
    let line = std::str::from_utf8(line).ok()?;
    let (version, rest) = line.split_once(BEFORE_PACKAGE)?;
    let package = rest.split(" (").next().filter(|text| !text.is_empty())?;
    if line.len() > MAX_LINE {
        return None;
    }
    Some(match package.strip_prefix(version) {
        Some(rest) if !rest.starts_with(|c: char| c.is_ascii_digit()) => package.to_owned(),
        _ => format!("{version}-{package}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Package: libvirt-daemon\nStatus: install ok installed\nVersion: 1\n\n\
        Package: libvirt0\nStatus: deinstall ok config-files\nVersion: 2\n\n\
        Package: libvirt0\nStatus: install ok installed\nArchitecture: arm64\nVersion: 11.9.0+nvidia4-1\n\n";

    #[test]
    fn version_of_the_installed_library_is_found() {
        let found = version(TEXT.as_bytes());
        assert_eq!(found.as_deref(), Some("11.9.0+nvidia4-1"));
        assert_eq!(version(&b"Package: libvirt0\nVersion: 1\n"[..]), None);
        assert_eq!(version(&b"\xff\xfe\n"[..]), None);
        assert_eq!(libvirt(Path::new("/nonexistent")), None);
    }

    /// Lines of Debian's packages and of RHEL's.
    #[test]
    fn line_of_the_library_has_the_version_or_the_release_of_its_package() {
        for (text, package) in [
            ("12.8.0, package: 12.8.0-1 (Debian)", "12.8.0-1"),
            (
                "9.0.0, package: 9.0.0-4+deb12u2 (Debian)",
                "9.0.0-4+deb12u2",
            ),
            (
                "9.0.0, package: 10.3.el9_2 (Red Hat, Inc. <x>, 2023-08-24-06:08:50, )",
                "9.0.0-10.3.el9_2",
            ),
            ("12.0.0, package: 1ubuntu5.7 (A B)", "12.0.0-1ubuntu5.7"),
            ("1.0.0, package: 1.0.01", "1.0.0-1.0.01"),
            ("1.0.0, package: 1", "1.0.0-1"),
        ] {
            let library = format!("\0\x7fELF\0libvirt version: {text}\0more");
            assert_eq!(line(library.as_bytes()).as_deref(), Some(package), "{text}");
        }
        let long = "x".repeat(MAX_LINE);
        for text in [
            "12.8.0",
            "12.8.0, package: ",
            "12.8.0, package: \u{fffd}\0",
            &format!("1, package: {long}"),
        ] {
            let bytes = format!("libvirt version: {text}").replace('\u{fffd}', "");
            assert_eq!(line(bytes.as_bytes()), None, "{text}");
        }
        assert_eq!(line(b"libvirt version: 1, package: \xff\0"), None);
    }

    #[test]
    fn dpkgs_list_comes_before_the_library() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("above")).expect("a folder");
            std::fs::write(path, text).expect("written");
        };
        write(
            LIBRARIES[0],
            "libvirt version: 11.10.0, package: 12.el9 (x)\0",
        );
        assert_eq!(libvirt(root.path()).as_deref(), Some("11.10.0-12.el9"));
        write(STATUS, TEXT);
        assert_eq!(libvirt(root.path()).as_deref(), Some("11.9.0+nvidia4-1"));
    }
}
