//! The rules of a kernel, by its version.
//!
//! Linux: VFIO reports AtomicOps since 6.5; commit 1ae8c4ce1570 (7.1, and in stable kernels from 5.15 on since June 2026) ended
//! AtomicOps without a root port.

use std::str::FromStr;

use thiserror::Error;

/// A kernel version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// Major and minor; `None` if not known.
    version: Option<(u32, u32)>,
    /// A kernel of an enterprise distribution (Red Hat, openEuler, SUSE), with features of newer versions.
    backports: bool,
}

/// A text is not a kernel release.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is not a kernel release such as 7.2 or 6.12.41+deb13-amd64")]
pub struct KernelError(String);

/// VFIO's capability (include/uapi/linux/vfio.h).
const TELLS: (u32, u32) = (6, 5);
/// The first kernel with the rule that there must be a root port, and the oldest stable kernels that may have it.
const STRICT: (u32, u32) = (7, 1);
const STRICT_STABLE: (u32, u32) = (5, 15);

impl Kernel {
    /// The kernel of a host with this release.
    #[must_use]
    pub fn of(release: Option<&str>) -> Self {
        let release = release.and_then(|text| text.parse().ok());
        release.unwrap_or_default()
    }

    /// Whether VFIO reports AtomicOps to QEMU; `None` if not known.
    pub(super) fn tells(self) -> Option<bool> {
        self.has(TELLS)
    }

    /// Whether it has what Linux has since a version; `None` if not known.
    pub(crate) fn has(self, since: (u32, u32)) -> Option<bool> {
        let version = self.version?;
        // An older number says nothing about a kernel with backports, and a newer one is enough for any.
        (version >= since || !self.backports).then_some(version >= since)
    }

    /// Whether a device without a root port has no AtomicOps; `None` if not known.
    pub(super) fn is_strict(self) -> Option<bool> {
        let version = self.version?;
        let open = self.backports || version >= STRICT_STABLE;
        (version >= STRICT || !open).then_some(version >= STRICT)
    }
}

impl FromStr for Kernel {
    type Err = KernelError;

    fn from_str(text: &str) -> Result<Self, KernelError> {
        let error = || KernelError(text.chars().take(64).collect());
        let mut parts = text.splitn(3, '.');
        let mut number = |whole: bool| {
            let part = parts.next()?;
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            let rest = part[digits..].bytes().next();
            let ends = rest.is_none() || (!whole && matches!(rest, Some(b'-' | b'+' | b'_')));
            ends.then(|| part[..digits].parse::<u32>().ok()).flatten()
        };
        let version = number(true).zip(number(false)).ok_or_else(error)?;
        Ok(Self {
            version: Some(version),
            // `5.14.0-427.el9`, `5.10.0-216.oe2203`, `5.14.21-150500.55-default`.
            backports: text.contains(".el") || text.contains(".oe") || text.ends_with("-default"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> (Option<bool>, Option<bool>) {
        let kernel: Kernel = text.parse().expect("a release");
        (kernel.tells(), kernel.is_strict())
    }

    #[test]
    fn the_rules_follow_the_version() {
        for (release, wanted) in [
            ("4.19.0-27-amd64", (Some(false), Some(false))),
            ("5.10.0", (Some(false), Some(false))),
            ("6.1.0-40-amd64", (Some(false), None)),
            ("6.5", (Some(true), None)),
            ("6.12.41+deb13-amd64", (Some(true), None)),
            ("7.0.3", (Some(true), None)),
            ("7.1.0-rc1", (Some(true), Some(true))),
            ("7.2.12", (Some(true), Some(true))),
            ("5.14.0-503.11.1.el9_5.x86_64", (None, None)),
            ("6.4.0-150600.23.47-default", (None, None)),
        ] {
            assert_eq!(rules(release), wanted, "{release}");
        }
    }

    #[test]
    fn an_invalid_release_is_named_and_a_missing_one_leaves_the_verdict_open() {
        for bad in ["", "x", "7", "7.", ".7", "seven.two", "7-rc.1"] {
            assert!(bad.parse::<Kernel>().is_err(), "{bad:?} was accepted");
        }
        assert_eq!(Kernel::of(None), Kernel::default());
        assert_eq!(Kernel::default().tells(), None);
    }
}
