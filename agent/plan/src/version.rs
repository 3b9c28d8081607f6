//! Versions of libvirt and QEMU.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A version as libvirt and QEMU number theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
    /// Micro, libvirt's "release".
    pub micro: u32,
}

/// The versions a definition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// libvirt.
    pub libvirt: Version,
    /// QEMU.
    pub qemu: Version,
}

/// Not numbers joined by dots.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is not a version such as 12.8 or 11.1.2")]
pub struct VersionError(String);

impl Version {
    /// From its parts.
    #[must_use]
    pub const fn new(major: u32, minor: u32, micro: u32) -> Self {
        Self {
            major,
            minor,
            micro,
        }
    }

    /// From libvirt's number: major * 1,000,000 + minor * 1,000 + release (virGetVersion).
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        Self::new(number / 1_000_000, number / 1000 % 1000, number % 1000)
    }
}

impl Versions {
    /// The newest tested pair: the default.
    pub const NEWEST_TESTED: Self = Self {
        libvirt: Version::new(12, 8, 0),
        qemu: Version::new(11, 1, 0),
    };
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let error = || VersionError(text.chars().take(64).collect());
        let mut parts = text.split('.').map(str::parse);
        let mut part = || parts.next().transpose().map_err(|_| error());
        let major = part()?.ok_or_else(error)?;
        let version = Self::new(major, part()?.unwrap_or(0), part()?.unwrap_or(0));
        if parts.next().is_some() {
            Err(error())
        } else {
            Ok(version)
        }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "libvirt {}, QEMU {}", self.libvirt, self.qemu)
    }
}
