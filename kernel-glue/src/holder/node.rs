//! The nodes below `/dev` that give access to a device, by its driver.
//!
//! Follows drivers/vfio (group and device nodes), drivers/gpu/drm, drivers/gpu/drm/amd/amdkfd, and NVIDIA's open kernel
//! modules (kernel-open/nvidia/nv-procfs.c, `Device Minor`).

use crate::address::PciAddress;
use crate::failure::Failure;
use crate::group::Group;
use crate::sysfs::{DEVICES, Root};

/// The PCI driver of NVIDIA's own modules.
pub(crate) const NVIDIA: &str = "nvidia";
const AMDGPU: &str = "amdgpu";
/// Nodes of all GPUs on `nvidia`. Not `nvidiactl`: programs open it to list GPUs.
const NVIDIA_SHARED: [&str; 3] = [
    "/dev/nvidia-uvm",
    "/dev/nvidia-modeset",
    "/dev/nvidia-caps/",
];
/// The node of all GPUs on `amdgpu`.
const AMDGPU_SHARED: [&str; 1] = ["/dev/kfd"];

/// Nodes that give access to one device.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    /// The device itself.
    pub(super) device: Option<PciAddress>,
    own: Vec<String>,
    /// Nodes of the driver; a directory if it ends with a slash.
    driver: &'static [&'static str],
    /// Another device is bound to the driver, too.
    several: bool,
}

impl Nodes {
    pub(super) fn read(root: &Root, device: PciAddress) -> Result<Self, Failure> {
        let dir = format!("{DEVICES}/{device}");
        // The name in /sys/bus/pci/devices is a link. Without this read, an unplugged device would look like one without holders.
        root.link(&dir)?;
        let driver = optional(root.link_name(&format!("{dir}/driver")))?;
        let group = Group::read(root, device)?;
        let mut own: Vec<String> = group.map(Group::node).into_iter().collect();
        own.extend(children(root, &dir, "vfio-dev", "/dev/vfio/devices")?);
        own.extend(children(root, &dir, "drm", "/dev/dri")?);
        let driver = driver.as_deref();
        if driver == Some(NVIDIA) {
            own.extend(minor(root, device)?.map(|minor| format!("/dev/nvidia{minor}")));
        }
        let several = match driver {
            Some(driver) => !is_alone(root, driver)?,
            None => false,
        };
        Ok(Self {
            device: Some(device),
            own,
            several,
            driver: match driver {
                Some(NVIDIA) => &NVIDIA_SHARED,
                Some(AMDGPU) => &AMDGPU_SHARED,
                _ => &[],
            },
        })
    }

    /// Only these nodes.
    #[cfg(test)]
    pub(super) fn of(own: &[String]) -> Self {
        Self {
            own: own.to_vec(),
            ..Self::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.driver.is_empty()
    }

    /// A group's node cannot be mapped (drivers/vfio/group.c), and a device that was opened through it has no name in
    /// mappings.
    pub(super) fn can_be_mapped(&self) -> bool {
        let is_group = |node: &String| {
            let name = node.strip_prefix("/dev/vfio/");
            name.is_some_and(|name| !name.contains('/'))
        };
        !self.driver.is_empty() || !self.own.iter().all(is_group)
    }

    /// Whether `path` is one of the nodes; the inner value says whether it may be for another device. A node that was
    /// removed while it is held has a suffix after its path: libvirt removes those of a guest.
    pub(super) fn find<'a>(&self, path: &'a str) -> Option<(&'a str, bool)> {
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        if self.own.iter().any(|node| node == path) {
            return Some((path, false));
        }
        let named = |node: &&str| match node.ends_with('/') {
            true => path.starts_with(*node),
            false => path == *node,
        };
        let shared = self.driver.iter().any(named);
        shared.then_some((path, self.several))
    }
}

/// True if no second device is bound to the driver.
pub(crate) fn is_alone(root: &Root, driver: &str) -> Result<bool, Failure> {
    let names = optional(root.list(&format!("sys/bus/pci/drivers/{driver}")))?;
    let names = names.unwrap_or_default();
    let devices = names
        .iter()
        .filter(|name| name.parse::<PciAddress>().is_ok());
    Ok(devices.count() < 2)
}

/// The nodes in `directory` that have the names of the entries of `dir/class`.
fn children(root: &Root, dir: &str, class: &str, directory: &str) -> Result<Vec<String>, Failure> {
    let names = optional(root.list(&format!("{dir}/{class}")))?;
    let nodes = names.unwrap_or_default().into_iter();
    Ok(nodes.map(|name| format!("{directory}/{name}")).collect())
}

/// The number in `/dev/nvidiaN`; unknown if NVIDIA's driver does not list the device.
fn minor(root: &Root, device: PciAddress) -> Result<Option<u32>, Failure> {
    let path = format!("proc/driver/nvidia/gpus/{device}/information");
    let text = optional(root.text(&path))?.unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Device Minor:"));
    Ok(line.and_then(|line| line.trim().parse().ok()))
}

/// Turns an absent file into `None`.
pub(crate) fn optional<T>(result: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(failure) if failure.is_absent() => Ok(None),
        Err(failure) => Err(failure),
    }
}
