//! The target of a plan: versions of libvirt and QEMU.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A version as libvirt and QEMU number theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
    /// Micro, libvirt's "release".
    pub micro: u32,
}

/// The versions a definition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// libvirt.
    pub libvirt: Version,
    /// QEMU.
    pub qemu: Version,
}

/// A text is no version or no target.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// Not numbers joined by dots.
    #[error("'{0}' is not a version such as 12.8 or 11.1.2")]
    Version(String),
    /// Not `libvirt=...,qemu=...`.
    #[error("'{0}' is not a target such as libvirt=12.8,qemu=11.1")]
    Target(String),
}

impl Version {
    /// First libvirt with `<acpi nodeset>` on hostdevs (libvirt 11.8.0 release notes).
    pub const ACPI_NODESET: Self = Self::new(11, 8, 0);
    /// First QEMU with `acpi-generic-initiator` (QEMU 9.0).
    pub const GENERIC_INITIATOR: Self = Self::new(9, 0, 0);

    /// First libvirt with `<hostdev><driver model>` and its own choice of a variant (libvirt 10.0.0).
    pub const DRIVER_MODEL: Self = Self::new(10, 0, 0);
    /// First libvirt with `<iommufd>` (libvirt 12.2.0).
    pub const IOMMUFD: Self = Self::new(12, 2, 0);
    /// First libvirt with `accel` on an SMMUv3 (libvirt 12.7.0).
    pub const SMMU_ACCEL: Self = Self::new(12, 7, 0);
    /// First QEMU that accelerates an SMMUv3 (QEMU 11.0).
    pub const SMMU_ACCEL_QEMU: Self = Self::new(11, 0, 0);
    /// First QEMU whose accelerated SMMUv3 takes its attributes from the host's (`auto`, QEMU 11.1).
    pub const SMMU_AUTO: Self = Self::new(11, 1, 0);
    /// A libvirt that is known to take `<pcihole64>` on `virt` (12.8.0; 11.3.0 does not).
    pub const VIRT_WINDOW: Self = Self::new(12, 8, 0);
    /// First QEMU with `highmem-mmio-size` (QEMU 10.0).
    pub const VIRT_WINDOW_QEMU: Self = Self::new(10, 0, 0);

    /// First libvirt with `<os><acpi><table type='raw'>` (libvirt 11.2.0).
    pub const ACPI_TABLE_RAW: Self = Self::new(11, 2, 0);

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
    /// The newest pair that is tested, assumed where nothing says otherwise.
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

impl FromStr for Version {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let error = || TargetError::Version(text.chars().take(64).collect());
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

impl FromStr for Versions {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let error = || TargetError::Target(text.chars().take(64).collect());
        let mut versions = Self::NEWEST_TESTED;
        for part in text.split(',') {
            match part.split_once('=').ok_or_else(error)? {
                ("libvirt", version) => versions.libvirt = version.parse()?,
                ("qemu", version) => versions.qemu = version.parse()?,
                _ => return Err(error()),
            }
        }
        Ok(versions)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "libvirt {}, QEMU {}", self.libvirt, self.qemu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_names_both_versions() {
        let versions: Versions = "libvirt=11.3,qemu=10.0.2".parse().expect("target");
        assert_eq!(versions.to_string(), "libvirt 11.3.0, QEMU 10.0.2");
        assert_eq!(Version::from_number(12_008_000), Version::new(12, 8, 0));
    }

    #[test]
    fn what_is_no_target_is_named() {
        for bad in [
            "",
            "libvirt",
            "libvirt=",
            "libvirt=x",
            "xen=4.1",
            "libvirt=1.2.3.4",
        ] {
            assert!(bad.parse::<Versions>().is_err(), "{bad:?} was accepted");
        }
    }
}
