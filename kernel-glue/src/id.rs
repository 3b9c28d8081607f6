//! The vendor and device id of a PCI function, as `vvvv:dddd`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Vendor and device id; prints as `10de:2342`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciId {
    /// Vendor id, offset 0 of config space.
    pub vendor: u16,
    /// Device id, offset 2 of config space.
    pub device: u16,
}

/// The text is not `vvvv:dddd`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is not a PCI id: write vendor and device as four hex digits each, as in 10de:2342")]
pub struct IdError(String);

impl fmt::Display for PciId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

impl FromStr for PciId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = || IdError(text.chars().take(64).collect());
        let (vendor, device) = text.split_once(':').ok_or_else(error)?;
        let four = |field: &str| {
            let shaped = field.len() == 4 && field.bytes().all(|b| b.is_ascii_hexdigit());
            shaped
                .then(|| u16::from_str_radix(field, 16).ok())
                .flatten()
        };
        Ok(Self {
            vendor: four(vendor).ok_or_else(error)?,
            device: four(device).ok_or_else(error)?,
        })
    }
}

impl TryFrom<String> for PciId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<PciId> for String {
    fn from(id: PciId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_as_it_parses() {
        let id: PciId = "10DE:2342".parse().expect("id");
        assert_eq!(id.to_string(), "10de:2342");
    }

    #[test]
    fn invalid_id_is_reported() {
        for bad in [
            "",
            "10de",
            "10de:",
            "10de:23421",
            "0x10de:2342",
            "+0de:2342",
        ] {
            assert!(bad.parse::<PciId>().is_err(), "{bad:?} was accepted");
        }
    }
}
