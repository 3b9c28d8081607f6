//! A device reserved for guests: its file below `reserved.d`, also part of a snapshot.

use domain::code::Code;
use domain::hint::Hint;
use domain::refusal::Refusal;
use kernel_glue::address::PciAddress;
use kernel_glue::device::Device;
use kernel_glue::driver::DriverName;
use kernel_glue::host::Host;
use kernel_glue::id::PciId;
use serde::{Deserialize, Serialize};

/// One device that is bound for guests at boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reservation {
    /// Its address, also the name of the file.
    pub device: PciAddress,
    /// The expected id of the device.
    pub id: PciId,
    /// The driver; by default the one that the device's recipe names at that time.
    #[serde(default)]
    pub driver: Option<DriverName>,
}

impl Reservation {
    /// Returns the reserved device of this host.
    ///
    /// # Errors
    /// A refusal if there is no device at the address, or another one.
    pub fn device<'a>(&self, host: &'a Host) -> Result<&'a Device, Refusal> {
        let missing = || {
            let reason = format!(
                "it is reserved, but this host has no PCI device at this address{}",
                self.elsewhere(host)
            );
            Refusal::new(Code::DeviceMissing, reason, self.hint()).of(self.device)
        };
        let found = host.devices.get(&self.device).ok_or_else(missing)?;
        // PCI addresses change when cards or firmware settings change, so the address alone does not name the device.
        if found.id == self.id {
            return Ok(found);
        }
        let reason = format!(
            "it was reserved as {}, but the device at this address is {}{}",
            self.id,
            found.id,
            self.elsewhere(host)
        );
        Err(Refusal::new(Code::ReservedOther, reason, self.hint()).of(self.device))
    }

    /// Lists other addresses of devices with the reserved id.
    fn elsewhere(&self, host: &Host) -> String {
        let same = host.devices.values().filter(|device| device.id == self.id);
        let found: Vec<String> = same.map(|device| format!("'{}'", device.address)).collect();
        match found.is_empty() {
            true => String::new(),
            false => format!("; {} is at {}", self.id, found.join(", ")),
        }
    }

    fn hint(&self) -> Hint {
        Hint::run(format!("variantctl unreserve {}", self.device))
            .then(", then 'variantctl reserve' for the intended device")
    }

    /// The text of its file.
    #[must_use]
    pub fn text(&self) -> String {
        let (device, id) = (self.device, self.id);
        let driver = self.driver.as_ref();
        let driver = driver.map_or(String::new(), |driver| format!("driver = \"{driver}\"\n"));
        format!(
            "# Written by 'variantctl reserve'; 'variantctl unreserve {device}' ends it.\n\
             device = \"{device}\"\nid = \"{id}\"\n{driver}"
        )
    }
}
