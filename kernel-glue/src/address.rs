//! The address of one PCI function: `dddd:bb:dd.f`, domain up to 32 bits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A PCI function's address on this host; prints in full lower-case form.
///
/// The domain may be wider than 16 bits (VMD bridges use `10000`); bus 0-255, device 0-31,
/// function 0-7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// Why a text or a set of numbers is not a PCI address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    /// The text is not in an accepted form.
    #[error("'{0}' is not a PCI address: write it as 0000:01:00.0, 01:00.0 or pci_0000_01_00_0")]
    Form(String),
    /// A device number above 31.
    #[error("PCI device number {0:#x} is above 0x1f")]
    Device(u8),
    /// A function number above 7.
    #[error("PCI function number {0} is above 7")]
    Function(u8),
}

impl PciAddress {
    /// Builds an address from its numbers.
    ///
    /// # Errors
    /// `device` is above 31 or `function` above 7.
    pub fn new(domain: u32, bus: u8, device: u8, function: u8) -> Result<Self, AddressError> {
        if device > 0x1f {
            return Err(AddressError::Device(device));
        }
        if function > 7 {
            return Err(AddressError::Function(function));
        }
        Ok(Self {
            domain,
            bus,
            device,
            function,
        })
    }

    /// The PCI domain (segment).
    #[must_use]
    pub fn domain(self) -> u32 {
        self.domain
    }

    /// The bus number.
    #[must_use]
    pub fn bus(self) -> u8 {
        self.bus
    }

    /// The device number on its bus, which libvirt calls slot.
    #[must_use]
    pub fn device(self) -> u8 {
        self.device
    }

    /// The function number.
    #[must_use]
    pub fn function(self) -> u8 {
        self.function
    }

    /// True if both are functions of one device.
    #[must_use]
    pub fn same_slot(self, other: Self) -> bool {
        (self.domain, self.bus, self.device) == (other.domain, other.bus, other.device)
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

impl FromStr for PciAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        // The text comes from a user or a file: only its start goes into a message.
        let form = || AddressError::Form(text.chars().take(64).collect());
        let fields = split(text).ok_or_else(form)?;
        let [domain, bus, device, function] = fields;
        let domain = hex(domain, 8).ok_or_else(form)?;
        let byte = |field, digits| hex(field, digits).and_then(|n| u8::try_from(n).ok());
        Self::new(
            domain,
            byte(bus, 2).ok_or_else(form)?,
            byte(device, 2).ok_or_else(form)?,
            byte(function, 1).ok_or_else(form)?,
        )
    }
}

impl TryFrom<String> for PciAddress {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<PciAddress> for String {
    fn from(address: PciAddress) -> Self {
        address.to_string()
    }
}

fn split(text: &str) -> Option<[&str; 4]> {
    if let Some(name) = text.strip_prefix("pci_") {
        let mut fields = name.split('_');
        let four = [
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
        ];
        return fields.next().is_none().then_some(four);
    }
    let (rest, function) = text.rsplit_once('.')?;
    let (rest, device) = rest.rsplit_once(':')?;
    // lspci leaves out domain 0 on hosts that have no other.
    let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
    Some([domain, bus, device, function])
}

fn hex(field: &str, digits: usize) -> Option<u32> {
    let shaped = (1..=digits).contains(&field.len());
    let digits_only = field.bytes().all(|b| b.is_ascii_hexdigit());
    // `from_str_radix` alone would accept a sign.
    (shaped && digits_only)
        .then(|| u32::from_str_radix(field, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_three_notations_name_one_device() {
        let full: PciAddress = "0000:e1:1f.7".parse().expect("full");
        assert_eq!(full, "e1:1f.7".parse().expect("short"));
        assert_eq!(full, "pci_0000_e1_1f_7".parse().expect("nodedev"));
        assert_eq!(full, "0000:E1:1F.7".parse().expect("upper case"));
    }

    #[test]
    fn a_wide_domain_survives() {
        let wide: PciAddress = "10000:e1:00.0".parse().expect("wide domain");
        assert_eq!(wide.to_string(), "10000:e1:00.0");
    }

    #[test]
    fn invalid_address_is_reported() {
        for bad in [
            "",
            "01:00",
            "0000:01:00.8",
            "0000:01:20.0",
            "0000:1:00.00",
            "g0:00.0",
            "pci_0000_01_00",
            "pci_0000_01_00_0_0",
            "0000:01:00.0 ",
            "+1:00.0",
            "123456789:01:00.0",
        ] {
            assert!(bad.parse::<PciAddress>().is_err(), "{bad:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn printing_then_parsing_is_the_identity(domain: u32, bus: u8, device in 0u8..32, function in 0u8..8) {
            let address = PciAddress::new(domain, bus, device, function).expect("in range");
            prop_assert_eq!(address.to_string().parse(), Ok(address));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<PciAddress>();
        }
    }
}
