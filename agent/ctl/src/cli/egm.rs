//! EGM regions in `list`, `show` and `topology`.
//!
//! Bad pages of a region are not shown: no kernel has them in sysfs. An ioctl lists them (`EGM_BAD_PAGES_LIST` in egm.c of NVIDIA's
//! kernels), and the open that it needs zeroes the region.

use kernel_glue::device::Device;
use kernel_glue::egm::EgmRegion;
use kernel_glue::host::Host;
use serde_json::{Value, json};

use super::HostView;
use super::list::or_dash;

/// The region of a device; null if the kernel shows none.
pub(super) fn to_json(host: &Host, device: &Device) -> Value {
    let region = host.egm_region(device.address);
    json!(region.map(|region| {
        json!({"path": region.path(), "bytes": region.bytes, "gpus": region.gpus})
    }))
}

/// The name of a device's region, for a table.
pub(super) fn name(host: &Host, device: &Device) -> String {
    let region = host.egm_region(device.address);
    or_dash(region.map(|region| format!("egm{}", region.number)))
}

/// A line for each region of the host.
pub(super) fn lines(host: &Host) -> String {
    let line = |region: &EgmRegion| {
        let gpus: Vec<String> = region.gpus.iter().map(ToString::to_string).collect();
        let gpus = match gpus.is_empty() {
            true => "no GPU is listed".to_owned(),
            false => format!("GPUs {}", gpus.join(", ")),
        };
        format!("EGM region {}: {}, {gpus}\n", region.path(), size(region))
    };
    host.egm.iter().map(line).collect()
}

/// The row of a device whose recipe allows EGM memory, or that has a region.
pub(super) fn row(host_view: &HostView, device: &Device) -> Option<(&'static str, String)> {
    let recipe = host_view.recipes.for_device(device);
    let text = match host_view.host.egm_region(device.address) {
        Some(region) => {
            let others = region.gpus.iter().filter(|gpu| **gpu != device.address);
            let others: Vec<String> = others.map(ToString::to_string).collect();
            let shared = match others.is_empty() {
                true => "shared with no bound GPU".to_owned(),
                false => format!("shared with {}", others.join(", ")),
            };
            format!("{}, {}, {shared}", region.path(), size(region))
        }
        None => {
            let recipe = recipe.filter(|recipe| recipe.egm.is_some())?;
            match device.driver.as_ref() == Some(&recipe.driver) {
                true => "none in /sys/class/egm".to_owned(),
                false => format!("not known while it is not bound to {}", recipe.driver),
            }
        }
    };
    Some(("EGM region", text))
}

fn size(region: &EgmRegion) -> String {
    let mib = region.bytes.map(|bytes| format!("{} MiB", bytes >> 20));
    mib.unwrap_or_else(|| "size not known".to_owned())
}
