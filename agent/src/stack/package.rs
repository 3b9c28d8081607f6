//! The version of libvirt's package by dpkg's list. Only this shows a vendor's build of libvirt: the daemon reports upstream's
//! version.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

const STATUS: &str = "var/lib/dpkg/status";
/// Maximum size; a full desktop has about 5 MB.
const MAX_BYTES: u64 = 64 << 20;
/// The package of the library, which has the version of all of libvirt's packages.
const PACKAGE: &str = "libvirt0";

/// The version; `None` on a host without dpkg or without the package.
#[must_use]
pub(super) fn libvirt(root: &Path) -> Option<String> {
    let file = File::open(root.join(STATUS)).ok()?;
    version(BufReader::new(file.take(MAX_BYTES)))
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
}
