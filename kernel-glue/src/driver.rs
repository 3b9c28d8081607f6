//! The name of a PCI driver, as in `/sys/bus/pci/drivers`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A driver name that is a valid path component: 1 to 63 of `A-Za-z0-9_-. +`, not starting with a dot.
///
/// Hyphen and underscore differ: the kernel compares with `strcmp` (drivers/base/dd.c).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DriverName(String);

/// The text is not a valid driver name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "'{0}' is not a driver name: letters, digits, '_', '-', '.', '+' and inner spaces, at most 63"
)]
pub struct DriverNameError(String);

impl DriverName {
    /// The name as the kernel spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DriverName {
    type Err = DriverNameError;

    fn from_str(text: &str) -> Result<Self, DriverNameError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-.+ ".contains(&b);
        let shaped = (1..=63).contains(&text.len()) && text.bytes().all(allowed);
        // No leading dot: `.` and `..` would leave the directory of the driver.
        if shaped && !text.starts_with('.') && text.trim() == text {
            Ok(Self(text.to_owned()))
        } else {
            Err(DriverNameError(text.chars().take(64).collect()))
        }
    }
}

impl TryFrom<String> for DriverName {
    type Error = DriverNameError;

    fn try_from(text: String) -> Result<Self, DriverNameError> {
        text.parse()
    }
}

impl From<DriverName> for String {
    fn from(name: DriverName) -> Self {
        name.0
    }
}

impl fmt::Display for DriverName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_hyphens() {
        for name in [
            "vfio-pci",
            "nvgrace_gpu_vfio_pci",
            "xe-vfio-pci",
            "PCI-DMA 2.0",
        ] {
            let driver: DriverName = name.parse().expect("name");
            assert_eq!(driver.to_string(), name);
        }
    }

    #[test]
    fn driver_name_must_be_one_path_component() {
        let long = "a".repeat(64);
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            " a",
            "a ",
            "a\n",
            "(null)",
            long.as_str(),
        ] {
            assert!(bad.parse::<DriverName>().is_err(), "{bad:?} was accepted");
        }
    }
}
