//! Reads from the firmware's ACPI tables whether they name GPU memory: `nvgrace_gpu_vfio_pci` offers no other memory.

use crate::holder::optional;
use crate::sysfs::Root;

/// The property from which the driver reads the memory size; a string constant in the AML of its table.
const MEMORY_SIZE: &[u8] = b"nvidia,gpu-mem-size\0";
pub(crate) const TABLES: &str = "sys/firmware/acpi/tables";
/// Maximum size of a DSDT or SSDT; those of Grace have about 100 KiB.
const MAX_TABLE: usize = 16 << 20;

/// Whether a table that describes devices has the property. Which device has it is unknown without an AML interpreter.
/// `None` if it was not found and not every table can be read.
pub fn names_memory(root: &Root) -> Option<bool> {
    let mut all = true;
    let mut count = 0;
    for below in ["", "/dynamic"] {
        let dir = format!("{TABLES}{below}");
        let tables = match optional(root.list(&dir)) {
            Ok(tables) => tables.unwrap_or_default().into_iter(),
            Err(_) => return None,
        };
        for name in tables.filter(|name| name.starts_with("DSDT") || name.starts_with("SSDT")) {
            count += 1;
            match root.bytes(&format!("{dir}/{name}"), MAX_TABLE) {
                Ok(bytes) if has_property(&bytes) => return Some(true),
                Ok(_) => {}
                Err(_) => all = false,
            }
        }
    }
    (all && count > 0).then_some(false)
}

fn has_property(table: &[u8]) -> bool {
    let mut parts = table.windows(MEMORY_SIZE.len());
    parts.any(|part| part == MEMORY_SIZE)
}
