//! What the firmware's ACPI tables name of GPU memory: `nvgrace_gpu_vfio_pci` shows no other.

use crate::holder::optional;
use crate::sysfs::Root;

/// The property from which the driver reads the memory; a string constant in the AML of the table that has it.
const MEMORY_SIZE: &[u8] = b"nvidia,gpu-mem-size\0";
pub(crate) const TABLES: &str = "sys/firmware/acpi/tables";
/// Bytes a DSDT or SSDT may have; Grace's have some 100 KiB.
const MAX_TABLE: usize = 16 << 20;

/// Whether some table that describes devices has the property; which device has it takes an AML interpreter. `None`
/// when it has not been found and not every table can be read.
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
