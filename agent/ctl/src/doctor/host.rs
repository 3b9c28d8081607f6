//! Checks of the host as a whole: its IOMMU, options that weaken it, and limits of locked memory.

use super::check::Check;
use super::scene::{Boot, Scene, Seen, Unavailable, Vendor};
use super::{egm, grace};
use domain::code::Code;
use domain::hint::Hint;

const NO_IOMMU: &str = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
const INTERRUPTS: &str = "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";

pub(super) fn checks(scene: &Scene) -> Vec<Check> {
    let mut checks = vec![
        iommu(scene).read_from("/sys/bus/pci/devices/*/iommu_group"),
        no_iommu(&scene.boot).read_from(NO_IOMMU),
        interrupts(&scene.boot).read_from(INTERRUPTS),
        acs(&scene.boot).read_from("/proc/cmdline"),
        from_daemon(lock_limit(scene), scene, &["limits", "status"]),
    ];
    checks.extend(grace::of_host(scene));
    checks.extend(egm::check(scene));
    checks
}

fn iommu(scene: &Scene) -> Check {
    let groups = scene.host.devices.values().filter_map(|d| d.iommu_group);
    let groups: std::collections::BTreeSet<u32> = groups.collect();
    if !groups.is_empty() {
        return Check::pass(Code::IommuOff, "the IOMMU is on")
            .with(format!("groups: {}", groups.len()));
    }
    let boot = &scene.boot;
    let line = boot.command_line.as_deref().unwrap_or_default();
    let off = ["intel_iommu=off", "amd_iommu=off", "iommu=off"];
    let hint = match off.iter().find(|word| line.split(' ').any(|w| w == **word)) {
        Some(word) => format!("remove '{word}' from the kernel's command line and boot again"),
        None => switch_on(boot.vendor).to_owned(),
    };
    Check::fail(
        Code::IommuOff,
        "no device has an IOMMU group, so the IOMMU is off",
        hint,
    )
}

fn switch_on(vendor: Vendor) -> &'static str {
    match vendor {
        Vendor::Intel => {
            "switch VT-d on in the firmware, add 'intel_iommu=on' to the kernel's command line (GRUB_CMDLINE_LINUX \
             in /etc/default/grub, then update-grub) and boot again"
        }
        Vendor::Amd => {
            "switch the IOMMU (AMD-Vi) on in the firmware and boot again; the kernel needs no argument for it"
        }
        Vendor::Arm => {
            "switch the SMMU on in the firmware, so that ACPI has an IORT table that names it, and boot again"
        }
        Vendor::Unknown => {
            "switch the IOMMU on in the firmware (VT-d, AMD-Vi, SMMU), on Intel also with 'intel_iommu=on' on the \
             kernel's command line, and boot again"
        }
    }
}

fn no_iommu(boot: &Boot) -> Check {
    switch(
        Code::IommuNone,
        &boot.no_iommu,
        "VFIO works only with an IOMMU",
        "VFIO also takes devices without an IOMMU, whose DMA reaches all memory",
        Hint::run(format!("echo N > {NO_IOMMU}"))
            .then(", and remove the option from /etc/modprobe.d"),
    )
}

fn interrupts(boot: &Boot) -> Check {
    switch(
        Code::InterruptsUnsafe,
        &boot.unsafe_interrupts,
        "interrupts of devices must be isolated",
        "VFIO also takes devices whose interrupts are not isolated, so a guest can forge the host's",
        Hint::run(format!("echo N > {INTERRUPTS}"))
            .then(", and remove the option from /etc/modprobe.d"),
    )
}

fn switch(code: Code, on: &Seen<bool>, safe: &str, unsafe_: &str, hint: Hint) -> Check {
    match on {
        Ok(false) => Check::pass(code, safe),
        Ok(true) => Check::warn(code, unsafe_, hint),
        Err(why) => Check::unavailable(code, safe, why),
    }
}

fn acs(boot: &Boot) -> Check {
    let fine = "IOMMU groups follow the hardware";
    let line = match &boot.command_line {
        Ok(line) => line,
        Err(why) => return Check::unavailable(Code::AcsOverride, fine, why),
    };
    let word = line
        .split(' ')
        .find(|word| word.starts_with("pcie_acs_override"));
    match word {
        None => Check::pass(Code::AcsOverride, fine),
        Some(word) => Check::warn(
            Code::AcsOverride,
            format!("'{word}' splits IOMMU groups that the hardware does not isolate"),
            format!("remove '{word}' from the kernel's command line, and assign whole groups"),
        ),
    }
}

/// A check whose facts are from files of libvirt's daemon in `/proc`.
pub(super) fn from_daemon(check: Check, scene: &Scene, files: &[&str]) -> Check {
    let Ok(Some(daemon)) = &scene.daemon else {
        return check;
    };
    let paths = files.iter().map(|file| format!("{}/{file}", daemon.files));
    paths.fold(check, Check::read_from)
}

/// libvirt raises QEMU's limit itself, and needs CAP_SYS_RESOURCE when its own limit is lower.
fn lock_limit(scene: &Scene) -> Check {
    let fine = "libvirt can let QEMU lock all of a guest's memory";
    let can = match &scene.daemon {
        Ok(Some(daemon)) => daemon.can_lock.clone(),
        Ok(None) => Err(Unavailable::because("libvirt's daemon does not run")),
        Err(why) => Err(why.clone()),
    };
    match can {
        Ok(true) => Check::pass(Code::LockLimit, fine),
        Ok(false) => Check::fail(
            Code::LockLimit,
            "libvirt's daemon has a limit of locked memory and cannot raise it",
            Hint::with(
                "give its unit LimitMEMLOCK=infinity or CAP_SYS_RESOURCE ({}), and restart it",
                "systemctl edit libvirtd",
            ),
        ),
        Err(why) => Check::unavailable(Code::LockLimit, fine, &why),
    }
}
