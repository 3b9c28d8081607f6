//! Checks that matter only on a host with Grace GPUs: page size, firmware, kernel configuration, emulator, guest kernels.

use super::check::Check;
use super::host::from_daemon;
use super::scene::{HugePages, Peers, Platform, Scene, Unavailable, Vendor};
use super::stack;
use super::{driver, scene::Seen};
use domain::code::Code;
use domain::hint::Hint;
use kernel_glue::iort::{self, Iort};
use planner::recipe::Need;
use planner::stack::{Feature, Package, Stack};

/// The free pages of each node.
const HUGE_PAGES: &str =
    "/sys/devices/system/node/node*/hugepages/hugepages-524288kB/free_hugepages";
const QEMU_CONF: &str = "/etc/libvirt/qemu.conf";
/// The NVIDIA build of QEMU 10.1 whose successor translates the MSI address of an accelerated SMMUv3.
const LAST_WITHOUT_MSI: u32 = 5;
/// NUMA nodes of an arm64 kernel by default (arch/arm64/Kconfig, NODES_SHIFT of 4).
const DEFAULT_NODES: usize = 16;

/// True for an Arm host with a device of NVIDIA's variant driver.
pub(super) fn is_grace(scene: &Scene) -> bool {
    let mut covered = scene.covered();
    let variant = |name: &str| name == driver::NVGRACE;
    scene.boot.vendor == Vendor::Arm
        && covered.any(|(_, recipe)| variant(&driver::module_name(&recipe.driver)))
}

/// Checks of the host.
pub(super) fn of_host(scene: &Scene) -> Vec<Check> {
    let Some(platform) = scene.platform.as_ref().filter(|_| is_grace(scene)) else {
        return Vec::new();
    };
    let nested = scene.covered().any(|(_, recipe)| {
        recipe
            .smmu
            .as_ref()
            .is_some_and(|smmu| smmu.need != Need::Ignore)
    });
    let mut checks = vec![pages(scene, &platform.huge_pages).read_from(HUGE_PAGES)];
    if nested {
        let table = format!("/{}", iort::PATH);
        checks.push(firmware(scene, &platform.iort).read_from(table));
    }
    checks.push(peers(scene, &platform.peers));
    checks
}

/// Checks of libvirt and QEMU.
pub(super) fn of_libvirt(scene: &Scene) -> Vec<Check> {
    let Some(platform) = scene.platform.as_ref().filter(|_| is_grace(scene)) else {
        return Vec::new();
    };
    let mut checks = vec![allowed(scene, platform).read_from(QEMU_CONF)];
    let path = platform.emulator.as_ref().ok().and_then(Option::as_ref);
    let path = path.map(|emulator| &emulator.path);
    let of_emulator = emulator(scene, platform).into_iter();
    checks.extend(of_emulator.map(|check| match path {
        Some(path) => from_daemon(check.read_from(path), scene, &["status"]),
        None => check,
    }));
    checks.extend(stack::of(scene).map(|stack| guest_kernels(scene, &stack)));
    checks
}

fn pages(scene: &Scene, found: &Seen<Option<Vec<HugePages>>>) -> Check {
    let fine = "the kernel has pages of 64 KiB";
    let queues = scene.covered().any(|(_, recipe)| {
        recipe
            .smmu
            .as_ref()
            .is_some_and(|smmu| smmu.cmdqv == Some(true))
    });
    match found {
        Err(why) => Check::unavailable(Code::PageSize, fine, why),
        Ok(None) => Check::warn(
            Code::PageSize,
            "the kernel has no huge pages of 512 MiB, so its pages are not of 64 KiB",
            "install the 64k flavour of the kernel; NVIDIA recommends it for Grace hosts",
        ),
        Ok(Some(nodes)) if queues && nodes.iter().all(|node| node.free == 0) => Check::warn(
            Code::PageSize,
            "no huge page of 512 MiB is free, and command queues need them for all guest memory",
            "add 'default_hugepagesz=512M hugepages=COUNT' to the kernel's command line and boot again",
        ),
        Ok(Some(nodes)) => {
            let with = nodes.iter().filter(|node| node.all > 0);
            let each: Vec<String> = with
                .map(|node| format!("node {}: {} of {} free", node.node, node.free, node.all))
                .collect();
            let detail = match each.is_empty() {
                true => "no huge pages of 512 MiB reserved".to_owned(),
                false => format!("512 MiB: {}", each.join(", ")),
            };
            Check::pass(Code::PageSize, fine).with(detail)
        }
    }
}

/// Linux nests a guest's SMMUv3 only where DMA can be made coherent: the root complex has CANWBS, or the SMMU has S2FWB.
fn firmware(scene: &Scene, found: &Seen<Iort>) -> Check {
    let fine = "the firmware lets an SMMUv3 be nested";
    let iort = match found {
        Ok(iort) => iort,
        Err(why) => return Check::unavailable(Code::NestingFirmware, fine, why),
    };
    let devices = scene.covered().filter(|(_, recipe)| recipe.smmu.is_some());
    let segment = |device: &kernel_glue::device::Device| device.address.domain();
    let mut segments: Vec<u32> = devices.map(|(device, _)| segment(device)).collect();
    // Devices are in the order of their addresses, so equal segments are neighbours.
    segments.dedup();
    let lacks = |number: &&u32| !iort.segments.get(number).is_some_and(|one| one.canwbs);
    let lacking: Vec<String> = segments
        .iter()
        .filter(lacks)
        .map(|one| format!("{one:04x}"))
        .collect();
    let revision = iort.revision;
    match lacking.is_empty() {
        true => Check::pass(Code::NestingFirmware, fine)
            .with(format!("IORT revision {revision}, CANWBS")),
        false => Check::warn(
            Code::NestingFirmware,
            format!(
                "IORT revision {revision} has no CANWBS for PCI segment {}, so a nested SMMUv3 may be refused at start",
                lacking.join(", ")
            ),
            "update the firmware: GB200 needs 1.3 or newer",
        ),
    }
}

/// QEMU maps BARs for other devices through dma-buf when iommufd is used.
fn peers(scene: &Scene, found: &Seen<Peers>) -> Check {
    let fine = "devices on iommufd can reach each other's BARs";
    let kernel = scene.host.kernel_release.as_deref().unwrap_or("unknown");
    match found {
        Err(why) => Check::unavailable(Code::PeerToPeer, fine, why),
        Ok(peers) if peers.lacking.is_empty() => {
            Check::pass(Code::PeerToPeer, fine).read_from(&peers.path)
        }
        Ok(peers) => Check::warn(
            Code::PeerToPeer,
            format!(
                "kernel {kernel} has no {}: a guest with iommufd runs without P2P between its devices",
                peers.lacking.join(" and ")
            ),
            "install a kernel with these options, such as Ubuntu's linux-nvidia 7.0",
        )
        .read_from(&peers.path),
    }
}

/// `cgroup_device_acl` in qemu.conf replaces libvirt's list of devices that QEMU may open.
fn allowed(scene: &Scene, platform: &Platform) -> Check {
    let fine = "QEMU may open /dev/iommu";
    match &platform.devices_allowed {
        Err(why) => Check::unavailable(Code::IommufdDenied, fine, why),
        // The device does not exist then, and the list cannot be judged.
        Ok(_) if !scene.host.iommufd => {
            let why = Unavailable::because("the kernel has no iommufd");
            Check::unavailable(Code::IommufdDenied, fine, &why)
        }
        Ok(Some(list)) if !list.iter().any(|one| one == "/dev/iommu") => Check::warn(
            Code::IommufdDenied,
            "'cgroup_device_acl' in /etc/libvirt/qemu.conf does not name /dev/iommu",
            "add \"/dev/iommu\" to the list, and restart libvirt's daemon",
        ),
        Ok(_) => Check::pass(Code::IommufdDenied, fine),
    }
}

/// A process without a capability in its bounding set cannot execute a file that has it (capabilities(7)).
fn emulator(scene: &Scene, platform: &Platform) -> Option<Check> {
    let fine = "libvirt can execute the emulator";
    let found = match &platform.emulator {
        Ok(found) => found.as_ref()?,
        Err(why) => return Some(Check::unavailable(Code::LockLimit, fine, why)),
    };
    let path = &found.path;
    if !found.has_capabilities {
        return Some(
            Check::pass(Code::LockLimit, fine).with(format!("'{path}' has no file capabilities")),
        );
    }
    let can = match &scene.daemon {
        Ok(Some(daemon)) => daemon.may_lock.clone(),
        Ok(None) => Err(Unavailable::because("libvirt's daemon does not run")),
        Err(why) => Err(why.clone()),
    };
    Some(match can {
        Err(why) => Check::unavailable(Code::LockLimit, fine, &why),
        Ok(true) => Check::pass(Code::LockLimit, fine).with(format!(
            "'{path}' has file capabilities; set them again after each upgrade"
        )),
        Ok(false) => Check::fail(
            Code::LockLimit,
            format!(
                "'{path}' has file capabilities, and libvirt's daemon has no CAP_IPC_LOCK, so it cannot execute it"
            ),
            Hint::with(
                "give its unit CAP_IPC_LOCK, or run {}",
                format!("setcap -r {path}"),
            ),
        ),
    })
}

/// Facts of guest kernels that this host's hardware and QEMU make important.
fn guest_kernels(scene: &Scene, stack: &Stack) -> Check {
    let queued = stack.has(Feature::QemuSmmuAccel) && is_without_msi(&stack.qemu);
    if queued {
        return Check::warn(
            Code::GuestKernel,
            format!(
                "QEMU {} breaks interrupts of guests with 'iommu.passthrough=1' behind an accelerated SMMUv3",
                stack.qemu
            ),
            "install 10.1.0+nvidia6 or newer, or boot guests with 'iommu.passthrough=0': NVIDIA's kernels default to 1",
        );
    }
    let cells = scene
        .covered()
        .filter_map(|(_, recipe)| recipe.initiators.as_ref());
    let nodes: usize = cells.map(|one| one.cells).sum();
    let nodes = nodes + scene.host.numa.sockets().count();
    let detail = match nodes > DEFAULT_NODES {
        true => format!(
            "a guest with all GPUs has {nodes} nodes and needs CONFIG_NODES_SHIFT={}; arm64's default is 4",
            nodes.next_power_of_two().trailing_zeros()
        ),
        false => format!("a guest with all GPUs has {nodes} nodes"),
    };
    Check::pass(Code::GuestKernel, "guest kernels have no known fault here").with(detail)
}

/// NVIDIA's builds of QEMU 10.1 up to +nvidia5.
fn is_without_msi(qemu: &Package) -> bool {
    let name = qemu.name.as_ref().map_or("", |name| name.as_str());
    let Some((before, after)) = name.split_once("+nvidia") else {
        return false;
    };
    let digits = after
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .unwrap_or_default();
    before.ends_with("10.1.0")
        && digits
            .parse()
            .is_ok_and(|build: u32| build <= LAST_WITHOUT_MSI)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Verdict;
    use crate::doctor::scene::{Daemon, Emulator};
    use crate::doctor::testing::{check, daemon, ready};
    use kernel_glue::iort::RootComplex;

    fn iort(canwbs: bool) -> Iort {
        Iort {
            revision: 6,
            segments: [(9, RootComplex { smmu: true, canwbs })].into(),
        }
    }

    fn platform() -> Platform {
        Platform {
            huge_pages: Ok(Some(vec![HugePages {
                node: 0,
                all: 8,
                free: 3,
            }])),
            iort: Ok(iort(true)),
            peers: Ok(Peers::default()),
            devices_allowed: Ok(None),
            emulator: Ok(Some(Emulator {
                path: "/usr/bin/qemu-system-aarch64".into(),
                has_capabilities: false,
            })),
        }
    }

    fn grace(change: impl FnOnce(&mut Scene, &mut Platform)) -> Scene {
        let mut scene = ready();
        scene.boot.vendor = Vendor::Arm;
        scene.host.iommufd = true;
        scene.stack = Stack::named("debian-testing").ok();
        scene.libvirt = Err(Unavailable::because("not recorded"));
        let mut platform = platform();
        change(&mut scene, &mut platform);
        scene.platform = Some(platform);
        scene
    }

    const CODES: [Code; 5] = [
        Code::PageSize,
        Code::NestingFirmware,
        Code::PeerToPeer,
        Code::IommufdDenied,
        Code::GuestKernel,
    ];

    #[test]
    fn prepared_grace_host_passes_and_other_hosts_have_no_such_check() {
        let scene = grace(|_, _| {});
        for code in CODES {
            assert_eq!(check(&scene, code).verdict, Verdict::Pass, "{code}");
        }
        let mut other = grace(|_, _| {});
        other.boot.vendor = Vendor::Intel;
        for code in CODES {
            assert_eq!(check(&other, code).text, "there is no such check", "{code}");
        }
    }

    type Spoil = fn(&mut Scene, &mut Platform);

    #[rustfmt::skip]
    const SPOILED: &[(Spoil, Code, Verdict, &str)] = &[
        (|_, p| p.huge_pages = Ok(None), Code::PageSize, Verdict::Warn, "64k flavour"),
        (|s, p| { cmdqv(s); p.huge_pages = Ok(Some(vec![HugePages { node: 0, all: 8, free: 0 }])) },
         Code::PageSize, Verdict::Warn, "default_hugepagesz=512M"),
        (|_, p| p.iort = Ok(iort(false)), Code::NestingFirmware, Verdict::Warn, "1.3 or newer"),
        (|_, p| p.iort = Ok(Iort::default()), Code::NestingFirmware, Verdict::Warn, "1.3 or newer"),
        (|_, p| p.iort = Err(Unavailable::to_others("root")), Code::NestingFirmware, Verdict::Unavailable, "root"),
        (|_, p| p.peers = Ok(Peers { lacking: vec!["CONFIG_VFIO_PCI_DMABUF".into()], ..Peers::default() }), Code::PeerToPeer, Verdict::Warn, "linux-nvidia 7.0"),
        (|_, p| p.devices_allowed = Ok(Some(vec!["/dev/null".into()])), Code::IommufdDenied, Verdict::Warn, "/dev/iommu"),
        (|s, _| s.host.iommufd = false, Code::IommufdDenied, Verdict::Unavailable, "no iommufd"),
        (|s, _| s.stack = Stack::named("nvidia-10.1").ok(), Code::GuestKernel, Verdict::Warn, "iommu.passthrough=0"),
        (|s, p| locked_out(s, p), Code::LockLimit, Verdict::Fail, "'setcap -r /usr/bin/qemu-system-aarch64'"),
    ];

    fn cmdqv(scene: &mut Scene) {
        let text = include_str!("../../../recipes/nvidia-grace.toml");
        let text = text.replacen("[smmu]\n", "[smmu]\ncmdqv = true\n", 1);
        scene.recipes = planner::recipe::Recipes::of(&[&text]);
    }

    fn locked_out(scene: &mut Scene, platform: &mut Platform) {
        scene.daemon = Ok(Some(Daemon {
            may_lock: Ok(false),
            ..daemon()
        }));
        let emulator = platform.emulator.as_mut().expect("seen");
        emulator.as_mut().expect("installed").has_capabilities = true;
    }

    #[test]
    fn each_unprepared_part_of_a_grace_host_has_its_check_and_hint() {
        for (index, (spoil, code, verdict, words)) in SPOILED.iter().enumerate() {
            let found = check(&grace(spoil), *code);
            assert_eq!(found.verdict, *verdict, "{index}: {found:?}");
            let hint = found.hint.clone().unwrap_or_default();
            assert!(hint.as_str().contains(words), "{index}: {found:?}");
            assert!(found.text.len() <= 160, "{index}: {found:?}");
        }
    }

    #[test]
    fn guest_with_many_gpus_needs_a_kernel_with_more_nodes() {
        let scene = grace(|scene, _| {
            let gpu = scene
                .host
                .devices
                .values()
                .find(|one| one.id.vendor == 0x10de);
            let mut gpu = gpu.expect("gpu").clone();
            gpu.address = "0019:01:00.0".parse().expect("address");
            scene.host.devices.insert(gpu.address, gpu);
        });
        let detail = check(&scene, Code::GuestKernel).detail.expect("a detail");
        assert!(detail.contains("CONFIG_NODES_SHIFT=5"), "{detail}");
    }
}
