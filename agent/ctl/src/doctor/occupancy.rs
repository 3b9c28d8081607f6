//! Checks of a device's users: holders, virtual functions, memory that the host took, the rest of its IOMMU group.

use kernel_glue::device::Device;
use kernel_glue::occupancy::Occupancy;

use super::check::Check;
use super::device::attribute;
use super::grace;
use super::scene::{Scene, Unavailable};
use agent::assign::check;
use domain::code::Code;

pub(super) fn checks(scene: &Scene, device: &Device) -> Vec<Check> {
    let fine = "no process holds it";
    let mut checks = match scene.occupancy.get(&device.address) {
        None => vec![unavailable(fine, "not recorded")],
        Some(Err(why)) => vec![Check::unavailable(Code::BindHeld, fine, why)],
        Some(Ok(occupancy)) => seen(scene, device, occupancy, fine),
    };
    if !matches!(scene.occupancy.get(&device.address), Some(Ok(_))) {
        checks.extend(enabled(scene, device));
    }
    checks.push(group(scene, device).read_from(attribute(device, "iommu_group")));
    checks
}

fn seen(scene: &Scene, device: &Device, occupancy: &Occupancy, fine: &str) -> Vec<Check> {
    let mut checks = vec![holders(scene, device, occupancy, fine).read_from("/proc/*/fd")];
    if occupancy.virtual_functions > 0 {
        let refused = check::refuse_functions(device.address, occupancy.virtual_functions);
        checks.push(
            Check::of_result(
                Code::DeviceHasFunctions,
                "it has no virtual functions",
                refused,
            )
            .read_from(attribute(device, "sriov_numvfs")),
        );
    }
    let onlined = occupancy.onlined.as_ref().map(check::onlined);
    checks.extend(onlined.map(|refusal| Check::refused(&refusal).read_from("/proc/iomem")));
    checks
}

/// The virtual functions of a recorded host.
fn enabled(scene: &Scene, device: &Device) -> Option<Check> {
    let count = scene.host.virtual_functions(device.address).count();
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let refused = check::refuse_functions(device.address, count).err()?;
    Some(Check::refused(&refused))
}

/// A guest that has the device is its intended user.
fn holders(scene: &Scene, device: &Device, occupancy: &Occupancy, fine: &str) -> Check {
    let holders = &occupancy.holders;
    // By the systemd scope of its QEMU first, which is known without libvirt.
    let scope = holders.found.iter().find_map(check::guest_of);
    let running = || Some(scene.guest_with(device)?.to_owned());
    if let Some(guest) = scope.or_else(running) {
        return Check::pass(Code::BindHeld, "a guest has it").with(guest);
    }
    if let Err(refusal) = check::refuse_holders(device.address, holders) {
        return Check::refused(&refusal);
    }
    match holders.hidden {
        0 => Check::pass(Code::BindHeld, fine),
        hidden => {
            let why = format!(
                "{hidden} of {} processes are not readable; run it as root",
                holders.seen
            );
            Check::unavailable(Code::BindHeld, fine, &Unavailable::to_others(why))
        }
    }
}

fn group(scene: &Scene, device: &Device) -> Check {
    let fine = "its IOMMU group can be assigned";
    match device.iommu_group {
        Some(number) if scene.allow_group => {
            Check::pass(Code::BindGroup, fine).with(format!("group {number}, by allow_group"))
        }
        // Other devices have groups, so SMMUs are in use: only the firmware can have left out the one of this device.
        None if grace::is_grace(scene) && has_groups(scene) => Check::fail(
            Code::IommuOff,
            "it has no IOMMU group and other devices have, so the firmware has its SMMU off",
            "switch its SMMU on in the firmware, so that IORT maps its root complex to it, and boot again",
        ),
        None => unavailable_group(fine, "it has no IOMMU group"),
        Some(number) => Check::of_result(
            Code::BindGroup,
            fine,
            check::refuse_group(&scene.host, device, number),
        )
        .with(format!("group {number}")),
    }
}

fn has_groups(scene: &Scene) -> bool {
    let mut devices = scene.host.devices.values();
    devices.any(|device| device.iommu_group.is_some())
}

fn unavailable(text: &str, why: &str) -> Check {
    Check::unavailable(Code::BindHeld, text, &Unavailable::because(why))
}

fn unavailable_group(text: &str, why: &str) -> Check {
    Check::unavailable(Code::BindGroup, text, &Unavailable::because(why))
}
