//! Parses devices and drivers from D-Bus: texts from callers, then addresses and names.

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;

use super::BusError;
use super::about;
use super::call::Call;
use crate::assign::AssignError;
use crate::libvirt::DomainRef;
use api::refused::Kind;
use domain::code::Code;

/// Maximum number of devices of a call; a guest has fewer.
const DEVICES: usize = 256;

/// The device that a caller names.
pub(super) fn address(text: impl AsRef<str>) -> Result<PciAddress, BusError> {
    let address = about::name(text.as_ref())?.parse();
    address.map_err(|error: kernel_glue::address::AddressError| BusError::failed(error.to_string()))
}

/// The devices that a caller names.
pub(super) fn addresses(texts: &[String]) -> Result<Vec<PciAddress>, BusError> {
    if texts.len() > DEVICES {
        let why = format!(
            "{} devices, and one call takes at most {DEVICES}",
            texts.len()
        );
        return Err(BusError::failed(why));
    }
    texts.iter().map(address).collect()
}

/// A guest that no libvirt of this host has.
pub(super) fn guest(uuid: &str, name: &str) -> Result<DomainRef, BusError> {
    let parsed = about::name(uuid)?.parse();
    let uuid =
        parsed.map_err(|_| BusError::failed(format!("'{}' is no UUID", about::shown(uuid))))?;
    let name = about::name(name)?.to_owned();
    Ok(DomainRef { uuid, name })
}

/// The option `driver`.
pub(super) fn driver(call: &Call<'_>) -> Result<Option<DriverName>, BusError> {
    let driver = call.text("driver").map(|text| text.parse::<DriverName>());
    let driver = driver.transpose();
    driver.map_err(|error| BusError::failed(error.to_string()))
}

/// A device that does not exist is reported like a missing domain.
pub(super) fn error(error: AssignError) -> BusError {
    match error {
        AssignError::Refused(refusal) if refusal.code == Code::DeviceMissing => {
            BusError::coded(Kind::NotFound, refusal)
        }
        error => error.into(),
    }
}
