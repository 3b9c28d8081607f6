//! Whether a driver will offer, or offers, the GPU memory for the guest.
//!
//! Only opening a device shows its memory; a firmware without any GPU memory is known without opening.

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::region::RegionError;

use crate::assign::{AssignError, Assigner, bind};
use crate::record::Held;
use crate::region;
use domain::code::Code;
use domain::refusal::Refusal;
use settings::config::Verify;

/// The driver without memory regions of its own.
const PLAIN: &str = "vfio-pci";

impl Assigner {
    /// Opens and closes each device whose driver has regions of its own, if the configuration requires that check.
    ///
    /// # Errors
    /// The first device, by address, that has no GPU memory or cannot be queried.
    pub(in crate::assign) fn verify_memory(&self, bound: &[Held]) -> Result<(), AssignError> {
        if self.context.rules().config.verify != Verify::Regions {
            return Ok(());
        }
        // Opening resets the device (vfio_pci_core_enable), so devices without such regions are not opened.
        let variants: Vec<Held> = bound
            .iter()
            .filter(|held| is_variant(held))
            .cloned()
            .collect();
        let shown = bind::at_once(&variants, |held| self.kernel.regions(held.address));
        let mut results = variants.iter().zip(shown);
        let failed = results.find_map(|(held, result)| Some((held.address, result.err()?)));
        match failed {
            Some((device, error)) => Err(AssignError::Failed(missing(device, &error))),
            None => Ok(()),
        }
    }
}

/// The firmware names none of the memory that the driver offers.
pub(super) fn unnamed(driver: &DriverName) -> Refusal {
    let error = RegionError::MemoryUnnamed;
    let reason = format!(
        "the firmware's ACPI tables name no GPU memory, so with '{driver}' the guest would get \
            none, as with '{PLAIN}'"
    );
    Refusal::new(Code::MemoryNotShown, reason, error.hint())
}

fn missing(device: PciAddress, error: &RegionError) -> Refusal {
    let code = match error {
        RegionError::MemoryMissing | RegionError::MemoryUnnamed => Code::MemoryNotShown,
        _ => return region::refusal(device, error),
    };
    Refusal::new(code, error.to_string(), error.hint()).of(device)
}

fn is_variant(held: &Held) -> bool {
    held.record.target.as_str() != PLAIN
}
