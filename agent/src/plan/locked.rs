//! How much memory a guest with host devices locks, as QEMU and the kernel count it.
//!
//! VFIO pins everything that a device can reach. Without a vIOMMU all devices share QEMU's one system address space, which is
//! mapped into one container (or one iommufd IOAS) and counted once. A vIOMMU gives each device an address space of its own:
//! one container or IOAS each, and until the guest's driver takes the vIOMMU over, each maps all of memory (hw/vfio/container.c;
//! libvirt counts alike, qemuDomainGetMemLockLimitBytes). An accelerated SMMUv3 translates in hardware behind the shared
//! address space (hw/arm/smmuv3-accel.c). BARs of host devices are not counted: the kernel skips pages that are not memory.

use super::qemu::{self, Given};
use crate::code::Code;
use crate::domain::{Domain, Iommu};
use crate::refusal::Refusal;

/// What libvirt adds for the MMIO of emulated devices, in KiB.
const MMIO: u64 = 1 << 20;

/// Memory that is locked while a guest runs.
pub(super) struct Locked {
    /// All of it, in KiB.
    pub(super) kib: u64,
    /// The guest's memory in KiB.
    memory: u64,
    /// Host devices.
    devices: u64,
    /// The vIOMMU because of which each device counts.
    viommu: Option<Viommu>,
    /// libvirt does not know of the vIOMMU or of some of the devices.
    hidden: bool,
}

struct Viommu {
    name: String,
    /// Among QEMU's arguments.
    argument: bool,
}

impl Locked {
    pub(super) fn of(domain: &Domain) -> Self {
        let arguments = qemu::given(domain);
        let own = count(domain.hostdevs.len());
        let further = count(arguments.iter().filter(|given| given.is_vfio()).count());
        let viommu = element(domain).or_else(|| arguments.iter().find_map(argument));
        let devices = own + further;
        let times = viommu.as_ref().map_or(1, |_| devices.max(1));
        Self {
            kib: domain.memory_kib.saturating_mul(times),
            memory: domain.memory_kib,
            devices,
            hidden: times > 1 && (further > 0 || viommu.as_ref().is_some_and(|one| one.argument)),
            viommu: viommu.filter(|_| times > 1),
        }
    }

    /// One sentence for the operator.
    pub(super) fn text(&self, domain: &Domain) -> String {
        let mib = |kib: u64| kib >> 10;
        let memory = mib(self.memory);
        let Some(viommu) = &self.viommu else {
            return format!(
                "all {memory} MiB of the guest's memory are locked on the host while it runs"
            );
        };
        let text = format!(
            "{} MiB are locked on the host while the guest runs: behind its vIOMMU '{}' each of {} host devices locks all {memory} MiB of memory",
            mib(self.kib),
            viommu.name,
            self.devices
        );
        match self.hidden && domain.platform.hard_limit_kib.is_none() {
            true => format!(
                "{text}; libvirt does not count what is in <qemu:commandline>, so set <memtune><hard_limit unit='KiB'>{}</hard_limit>",
                self.kib.saturating_add(MMIO)
            ),
            false => text,
        }
    }

    /// Refuses a limit that is too low.
    pub(super) fn check(&self, domain: &Domain) -> Option<Refusal> {
        let limit = domain.platform.hard_limit_kib?;
        if limit >= self.kib {
            return None;
        }
        let why = match &self.viommu {
            Some(viommu) => format!(
                "{} host devices behind the vIOMMU '{}' lock all {} KiB of the guest's memory each, together {} KiB",
                self.devices, viommu.name, self.memory, self.kib
            ),
            None => format!(
                "a host device locks all {} KiB of the guest's memory",
                self.memory
            ),
        };
        let enough = self.kib.saturating_add(MMIO);
        let raise = format!("raise it to {enough} KiB or more");
        let what = match self.hidden {
            true => raise,
            false => {
                format!("remove it, since libvirt sets a fitting limit by itself, or {raise},")
            }
        };
        let mend = format!("{what} with 'virsh edit {}'", domain.name);
        let reason = format!("<hard_limit> is {limit} KiB, and {why}");
        Some(Refusal::new(Code::HardLimit, reason, mend).at("/domain/memtune/hard_limit"))
    }
}

fn count(devices: usize) -> u64 {
    u64::try_from(devices).unwrap_or(u64::MAX)
}

/// An `<iommu>` that translates: every one but an accelerated SMMUv3.
fn element(domain: &Domain) -> Option<Viommu> {
    let translates = |iommu: &&Iommu| !(iommu.model == "smmuv3" && iommu.accelerated);
    let iommu = domain.platform.iommus.iter().find(translates)?;
    Some(Viommu {
        name: iommu.model.clone(),
        argument: false,
    })
}

/// A vIOMMU among QEMU's arguments.
fn argument(given: &Given) -> Option<Viommu> {
    let name = match given.option.as_str() {
        "device" => match given.kind.as_str() {
            "intel-iommu"
            | "amd-iommu"
            | "virtio-iommu-pci"
            | "virtio-iommu-device"
            | "virtio-iommu" => given.kind.as_str(),
            "arm-smmuv3" if !given.is_on("accel") => "arm-smmuv3",
            _ => return None,
        },
        "machine" | "M" => given.property("iommu").filter(|name| *name == "smmuv3")?,
        _ => return None,
    };
    Some(Viommu {
        name: name.to_owned(),
        argument: true,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fixture, guest, hostdev};
    use super::*;

    const MIB: u64 = 1 << 10;

    /// A guest of 4 GiB with two NICs and something more among its devices and arguments.
    fn two(inner: &str, arguments: &[&str]) -> String {
        let devices = hostdev("0002:01:00.0", "") + &hostdev("0009:01:00.0", "");
        let arguments: String = arguments
            .iter()
            .map(|value| format!("<qemu:arg value='{value}'/>"))
            .collect();
        let line = format!(
            "</devices><qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>{arguments}</qemu:commandline>"
        );
        guest(&devices).replace("</devices>", &(inner.to_owned() + &line))
    }

    fn locked(text: &str) -> u64 {
        Locked::of(&Domain::parse(text).expect("domain")).kib / MIB
    }

    #[test]
    fn without_a_viommu_memory_is_locked_once_and_with_one_by_each_device() {
        let accelerated = "<iommu model='smmuv3'><driver pciBus='0' accel='on'/></iommu>";
        for (inner, arguments, mib) in [
            ("", &[][..], 4096),
            ("<iommu model='intel'/>", &[][..], 8192),
            ("<iommu model='virtio'/>", &[][..], 8192),
            ("<iommu model='amd'/>", &[][..], 8192),
            (accelerated, &[][..], 4096),
            ("", &["-device", "intel-iommu,caching-mode=on"][..], 8192),
            (
                "",
                &["-device", "{\"driver\":\"virtio-iommu-pci\"}"][..],
                8192,
            ),
            ("", &["--machine", "virt,iommu=smmuv3"][..], 8192),
            ("", &["-M", "iommu=nested-smmuv3"][..], 4096),
            (
                "",
                &["-device", "arm-smmuv3,primary-bus=pcie.0,accel=on"][..],
                4096,
            ),
            (
                "<iommu model='intel'/>",
                &["-device", "vfio-pci,host=0000:01:00.0"][..],
                12288,
            ),
        ] {
            assert_eq!(locked(&two(inner, arguments)), mib, "{inner} {arguments:?}");
        }
    }

    #[test]
    fn one_device_behind_a_viommu_locks_memory_once() {
        let one = guest(&hostdev("0002:01:00.0", ""))
            .replace("</devices>", "<iommu model='intel'/></devices>");
        assert_eq!(locked(&one), 4096);
    }

    #[test]
    fn a_limit_below_what_all_devices_lock_is_refused_and_a_sufficient_one_is_not() {
        let with = |mib: u64, inner: &str| {
            let limit =
                format!("<memtune><hard_limit unit='MiB'>{mib}</hard_limit></memtune><vcpu>");
            let text = two(inner, &[]).replace("<vcpu>", &limit);
            let domain = Domain::parse(&text).expect("domain");
            Locked::of(&domain).check(&domain)
        };
        assert_eq!(with(4096, ""), None);
        assert_eq!(with(8192, "<iommu model='intel'/>"), None);
        let refusal = with(8191, "<iommu model='intel'/>").expect("refused");
        assert_eq!(refusal.code, Code::HardLimit);
        assert!(refusal.reason.contains("8388608 KiB"), "{refusal}");
        assert!(refusal.mend.contains("9437184 KiB"), "{refusal}");
        assert!(with(4095, "").is_some());
    }

    #[test]
    fn the_note_names_the_limit_that_libvirt_does_not_compute() {
        let note = |inner: &str, arguments: &[&str]| {
            let plan = Fixture::new().rewrite(&two(inner, arguments)).plan;
            let mut notes = plan.notes.into_iter();
            let note = notes.find(|note| note.code == Code::MemoryLocked);
            note.expect("a note").text
        };
        let hidden = note("", &["-device", "virtio-iommu-pci"]);
        assert!(hidden.contains("8192 MiB are locked"), "{hidden}");
        assert!(hidden.contains("'KiB'>9437184<"), "{hidden}");
        let known = note("<iommu model='virtio'/>", &[]);
        assert!(
            known.contains("each of 2") && !known.contains("hard_limit"),
            "{known}"
        );
    }
}
