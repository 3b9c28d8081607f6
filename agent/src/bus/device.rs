//! Devices and drivers as they come over the bus: texts at the door, addresses and names behind it.

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;

use super::BusError;
use super::about;
use super::manager::Options;
use crate::assign::AssignError;
use crate::code::Code;

/// The device that a caller names.
pub(super) fn address(text: impl AsRef<str>) -> Result<PciAddress, BusError> {
    let address = about::name(text.as_ref())?.parse();
    address.map_err(|error: kernel_glue::address::AddressError| BusError::Failed(error.to_string()))
}

/// The option `driver`.
pub(super) fn driver(options: &Options) -> Result<Option<DriverName>, BusError> {
    let driver = text(options, "driver")?.map(|text| text.parse::<DriverName>());
    let driver = driver.transpose();
    driver.map_err(|error| BusError::Failed(error.to_string()))
}

/// An option that is a text.
pub(super) fn text<'a>(options: &'a Options, key: &str) -> Result<Option<&'a str>, BusError> {
    let value = options.get(key).map(<&str>::try_from).transpose();
    value.map_err(|_| BusError::Failed(format!("option '{key}' is not a text")))
}

/// A device that is not there is not found, as a domain is.
pub(super) fn error(error: AssignError) -> BusError {
    match &error {
        AssignError::Refused(refusal) if refusal.code == Code::DeviceMissing => {
            BusError::NotFound(error.to_string())
        }
        _ => error.into(),
    }
}
