//! The target of a plan: the pair of libvirt and QEMU, architecture and machine type.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::stack::{Stack, StackError};
use crate::version::VersionError;
pub use crate::version::{Version, Versions};

/// The target of a definition: versions, and the kind of guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The pair of libvirt and QEMU.
    pub stack: Stack,
    /// The guest's architecture; `None` if the definition decides.
    pub arch: Option<Arch>,
    /// The guest's family of machine types; `None` if the definition decides.
    pub machine: Option<Family>,
    /// Whether this guest's host devices can use iommufd, by libvirt's domain capabilities (libvirt 12.1); `None` if not
    /// known.
    pub iommufd: Option<bool>,
}

/// Architectures that recipes know, by libvirt's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Arch {
    Aarch64,
    X86_64,
}

/// Families of machine types that recipes know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Family {
    Virt,
    Q35,
}

/// A text is not a version or not a target.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// Not numbers joined by dots.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// Not `libvirt=...,qemu=...`.
    #[error("'{0}' is not a target such as libvirt=12.8,qemu=11.1,arch=aarch64,machine=virt")]
    Target(String),
    /// Not a known stack.
    #[error("{0}; versions are also accepted, such as libvirt=12.8,qemu=11.1")]
    Stack(#[from] StackError),
    /// An architecture or machine type that no recipe knows.
    #[error("'{0}' is not one of {1}")]
    Unknown(String, &'static str),
}

impl FromStr for Versions {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let target: Target = text.parse()?;
        let by_versions = target.stack == Stack::assumed(target.versions());
        match (target.arch, target.machine) {
            (None, None) if by_versions => Ok(target.versions()),
            _ => Err(TargetError::Target(shortened(text))),
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let error = || TargetError::Target(shortened(text));
        let (first, rest) = text
            .split_once(',')
            .map_or((text, None), |(a, b)| (a, Some(b)));
        if !first.contains('=') {
            return Self::of(Stack::named(first)?, rest);
        }
        let mut versions = Versions::NEWEST_TESTED;
        let (mut arch, mut machine) = (None, None);
        for part in text.split(',') {
            match part.split_once('=').ok_or_else(error)? {
                ("libvirt", version) => versions.libvirt = version.parse()?,
                ("qemu", version) => versions.qemu = version.parse()?,
                ("arch", name) => arch = Some(name.parse()?),
                ("machine", name) => machine = Some(name.parse()?),
                _ => return Err(error()),
            }
        }
        Ok(Self {
            arch,
            machine,
            ..versions.into()
        })
    }
}

impl FromStr for Arch {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let known = [Self::Aarch64, Self::X86_64];
        let found = known.into_iter().find(|arch| arch.as_str() == text);
        found.ok_or_else(|| TargetError::Unknown(shortened(text), "aarch64 and x86_64"))
    }
}

impl FromStr for Family {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let known = [Self::Virt, Self::Q35];
        let found = known.into_iter().find(|family| family.as_str() == text);
        found.ok_or_else(|| TargetError::Unknown(shortened(text), "virt and q35"))
    }
}

impl Arch {
    /// libvirt's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64",
            Self::X86_64 => "x86_64",
        }
    }
}

impl Family {
    /// libvirt's name of the newest machine type of the family.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Virt => "virt",
            Self::Q35 => "q35",
        }
    }
}

impl Target {
    /// The target with a stack; `rest` names the guest, such as `arch=aarch64,machine=virt`.
    ///
    /// # Errors
    /// `rest` names something else, or an unknown architecture or machine type.
    pub fn of(stack: Stack, rest: Option<&str>) -> Result<Self, TargetError> {
        let mut target = Self::from(stack);
        for part in rest.into_iter().flat_map(|rest| rest.split(',')) {
            match part.split_once('=') {
                Some(("arch", name)) => target.arch = Some(name.parse()?),
                Some(("machine", name)) => target.machine = Some(name.parse()?),
                _ => return Err(TargetError::Target(shortened(part))),
            }
        }
        Ok(target)
    }

    /// The versions of libvirt and QEMU.
    #[must_use]
    pub const fn versions(&self) -> Versions {
        self.stack.versions()
    }
}

impl From<Versions> for Target {
    fn from(versions: Versions) -> Self {
        Stack::assumed(versions).into()
    }
}

impl From<Stack> for Target {
    fn from(stack: Stack) -> Self {
        Self {
            stack,
            arch: None,
            machine: None,
            iommufd: None,
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
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
    fn a_target_can_name_the_guest() {
        let target: Target = "arch=aarch64,machine=virt,qemu=11.1"
            .parse()
            .expect("target");
        assert_eq!(
            (target.arch, target.machine),
            (Some(Arch::Aarch64), Some(Family::Virt))
        );
        let unknown = "arch=riscv64"
            .parse::<Target>()
            .expect_err("unknown")
            .to_string();
        assert_eq!(unknown, "'riscv64' is not one of aarch64 and x86_64");
        assert!("arch=aarch64".parse::<Versions>().is_err());
    }

    #[test]
    fn a_target_can_name_a_stack() {
        let target: Target = "nvidia-10.1,arch=aarch64".parse().expect("target");
        assert_eq!(target.arch, Some(Arch::Aarch64));
        let text = target.stack.to_string();
        assert_eq!(text, "libvirt 11.9.0+nvidia4-1, QEMU 1:10.1.0+nvidia5-1");
        let unknown = "nvidia-9"
            .parse::<Target>()
            .expect_err("unknown")
            .to_string();
        for name in ["'nvidia-9'", "nvidia-10.1", "debian-12", "ubuntu-26.04"] {
            assert!(unknown.contains(name), "{unknown}");
        }
        assert!("nvidia-10.1,libvirt=12.8".parse::<Target>().is_err());
        assert!("nvidia-10.1".parse::<Versions>().is_err());
    }

    #[test]
    fn an_invalid_target_is_named() {
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
