//! Parses devices and drivers from D-Bus: texts from callers, then addresses and names.

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;

use super::BusError;
use super::about;
use super::call::Call;
use crate::assign::AssignError;
use api::refused::Kind;
use domain::code::Code;

/// The device that a caller names.
pub(super) fn address(text: impl AsRef<str>) -> Result<PciAddress, BusError> {
    let address = about::name(text.as_ref())?.parse();
    address.map_err(|error: kernel_glue::address::AddressError| BusError::failed(error.to_string()))
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
