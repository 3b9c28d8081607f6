//! Reads from the firmware's ACPI tables whether they name GPU memory: `nvgrace_gpu_vfio_pci` offers no other memory.

use crate::failure::Failure;
use crate::holder::optional;
use crate::sysfs::Root;

/// The property from which the driver reads the memory size; a string constant in the AML of its table.
const MEMORY_SIZE: &[u8] = b"nvidia,gpu-mem-size\0";
/// The folder of the tables.
pub const TABLES: &str = "sys/firmware/acpi/tables";
/// Maximum size of a DSDT or SSDT; those of Grace have about 100 KiB.
const MAX_TABLE: usize = 16 << 20;

/// Whether a table that describes devices has the property. Which device has it is unknown without an AML interpreter.
/// `None` if it was not found and not every table can be read.
pub fn names_memory(root: &Root) -> Option<bool> {
    let tables = tables(root)?;
    let mut all = !tables.is_empty();
    for path in tables {
        match root.bytes(&path, MAX_TABLE) {
            Ok(bytes) if has_property(&bytes) => return Some(true),
            Ok(_) => {}
            Err(_) => all = false,
        }
    }
    all.then_some(false)
}

/// The tables that describe devices, each with what a recording keeps of it: the property, if the table has it.
#[must_use]
pub fn kept(root: &Root) -> Vec<(String, Result<Vec<u8>, Failure>)> {
    let tables = tables(root).unwrap_or_default().into_iter();
    let read = |path: String| {
        let bytes = root.bytes(&path, MAX_TABLE);
        let kept = bytes.map(|bytes| match has_property(&bytes) {
            true => MEMORY_SIZE.to_vec(),
            false => Vec::new(),
        });
        (path, kept)
    };
    tables.map(read).collect()
}

/// Paths of the tables that describe devices; `None` if a directory cannot be read.
fn tables(root: &Root) -> Option<Vec<String>> {
    let mut paths = Vec::new();
    // `dynamic` has the tables that AML loads later (drivers/acpi/sysfs.c).
    for dir in [TABLES.to_owned(), format!("{TABLES}/dynamic")] {
        let names = optional(root.list(&dir)).ok()?.unwrap_or_default();
        let describes = |name: &&String| name.starts_with("DSDT") || name.starts_with("SSDT");
        let own = names.iter().filter(describes);
        paths.extend(own.map(|name| format!("{dir}/{name}")));
    }
    Some(paths)
}

fn has_property(table: &[u8]) -> bool {
    let mut parts = table.windows(MEMORY_SIZE.len());
    parts.any(|part| part == MEMORY_SIZE)
}
