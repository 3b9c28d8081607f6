//! Performs the writes of the agent to sysfs on the recorded host, as a kernel does: a write of `bind` moves the driver link.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::symlink;
use std::path::Path;

use tests::trace::Call;

use super::GPU;
use crate::scene::Scene;

const DRIVERS: &str = "sys/bus/pci/drivers";

/// Adds the attributes of the GPU's two drivers, which a recorded host does not have.
pub(super) fn prepare(scene: &Scene) {
    for driver in ["nvidia", "nvgrace_gpu_vfio_pci"] {
        for attribute in ["bind", "unbind"] {
            scene.write(&format!("host/{DRIVERS}/{driver}/{attribute}"), "");
        }
    }
}

/// Acts on each write below `host`, before the file has it.
pub(super) fn acting(host: &Path) -> impl FnMut(&Call) + Send + use<> {
    let host = host.to_owned();
    let link = host.join("sys/bus/pci/devices").join(GPU).join("driver");
    let first = fs::read_link(&link).unwrap_or_default();
    move |call| match call {
        Call::Write { path, .. } if path.starts_with(&host) => act(path, &link, &first),
        _ => {}
    }
}

/// `first` is the target of the device's driver link when it was recorded.
fn act(path: &Path, link: &Path, first: &Path) {
    match path.file_name().and_then(|name| name.to_str()) {
        Some("driver_override") => {
            let file = OpenOptions::new().write(true).truncate(true).open(path);
            drop(file.expect("the override"));
        }
        Some("unbind") => fs::remove_file(link).expect("a bound device"),
        Some("bind") => {
            let driver = path.parent().and_then(Path::file_name).expect("a driver");
            symlink(first.with_file_name(driver), link).expect("an unbound device");
        }
        _ => {}
    }
}
