//! Memory that a guest with host devices locks, as QEMU and the kernel count it, and whether the limit is sufficient.
//!
//! VFIO pins all memory that a device can reach. Without a vIOMMU all devices share QEMU's one system address space, which is
//! mapped into one container (or one iommufd IOAS) and counted once. A vIOMMU gives each device an address space of its own:
//! one container or IOAS each, and each maps all of memory until the guest's driver uses the vIOMMU (hw/vfio/container.c).
//! An accelerated SMMUv3 translates in hardware behind the shared address space (hw/arm/smmuv3-accel.c). BARs of host devices are
//! not counted: the kernel skips pages that are not memory. An NVMe disk has a container of QEMU's block layer for itself
//! (util/vfio-helpers.c), and each vDPA device maps all of memory (hw/virtio/vhost-vdpa.c). A mediated device pins only what its
//! driver requests.

mod limit;

use super::PlanInput;
use super::qemu::{self, Given};
use super::virsh;
use domain::code::Code;
use domain::refusal::Refusal;
use domain::{Domain, Iommu};

use limit::MMIO;

/// Memory that is locked while a guest runs.
pub(super) struct Locked {
    /// All of it, in KiB.
    pub(super) kib: u64,
    /// The guest's memory in KiB.
    memory: u64,
    /// Host devices.
    devices: u64,
    nvme_disks: u64,
    vdpa: u64,
    /// The vIOMMU, with which each device counts separately.
    viommu: Option<String>,
    /// The limit in KiB that libvirt sets by default; `None` for no limit.
    limit: Option<u64>,
}

impl Locked {
    pub(super) fn of(input: &PlanInput<'_>, domain: &Domain) -> Self {
        let pooled = input.libvirt.assigned(domain);
        let arguments = qemu::given(domain);
        let further = arguments.iter().filter(|given| given.is_vfio()).count();
        let devices = count(domain.hostdevs.len() + pooled + further);
        let viommu = element(domain).or_else(|| arguments.iter().find_map(argument));
        // With one device there is one address space, with or without a vIOMMU.
        let viommu = viommu.filter(|_| devices > 1);
        let spaces = if viommu.is_some() {
            devices
        } else {
            devices.min(1)
        };
        let (nvme_disks, vdpa) = (count(domain.lockers.nvme_disks), count(domain.lockers.vdpa));
        let times = spaces.saturating_add(nvme_disks).saturating_add(vdpa);
        Self {
            kib: domain.memory_kib.saturating_mul(times),
            memory: domain.memory_kib,
            devices,
            nvme_disks,
            vdpa,
            viommu,
            limit: limit::computed(domain, pooled, &input.target.stack),
        }
    }

    /// One sentence for the operator.
    pub(super) fn text(&self, domain: &Domain) -> String {
        let mib = |kib: u64| kib >> 10;
        let memory = mib(self.memory);
        let text = match self.kib > self.memory {
            false => {
                format!("the guest locks all its {memory} MiB of memory on the host while it runs")
            }
            true => format!(
                "the guest locks {} MiB on the host while it runs: {} all {memory} MiB of memory",
                mib(self.kib),
                self.who()
            ),
        };
        match self.limit {
            Some(limit) if limit < self.kib && domain.platform.hard_limit_kib.is_none() => {
                format!(
                    "{text}; {}, so set <memtune><hard_limit unit='KiB'>{}</hard_limit>",
                    set(limit),
                    self.enough()
                )
            }
            _ => text,
        }
    }

    /// Refuses a limit that is too low.
    pub(super) fn check(&self, domain: &Domain) -> Option<Refusal> {
        let limit = domain.platform.hard_limit_kib?;
        if limit >= self.kib {
            return None;
        }
        let together = match self.kib > self.memory {
            true => format!(", together {} KiB", self.kib),
            false => String::new(),
        };
        let raise = format!("raise it to {} KiB or more", self.enough());
        let fits = self.limit.is_none_or(|limit| limit >= self.kib);
        let what = match fits {
            false => raise,
            true => format!("remove it (libvirt then sets a sufficient limit), or {raise},"),
        };
        let hint = virsh::edit(domain, &what);
        let reason = format!(
            "<hard_limit> is {limit} KiB, but {} all {} KiB of the guest's memory{together}",
            self.who(),
            self.memory
        );
        Some(Refusal::new(Code::HardLimit, reason, hint).at("/domain/memtune/hard_limit"))
    }

    /// A sufficient limit, in KiB.
    fn enough(&self) -> u64 {
        // libvirt adds the same amount for MMIO to its own limit.
        self.kib.saturating_add(MMIO)
    }

    /// Which devices lock all of memory, with the verb.
    fn who(&self) -> String {
        let each = |count: u64, what: &str| match count {
            0 => None,
            1 => Some(what.to_owned()),
            _ => Some(format!(
                "each of {count} {}s",
                what.split_once(' ').map_or(what, |(_, kind)| kind)
            )),
        };
        let devices = match &self.viommu {
            Some(name) => each(self.devices, "a host device")
                .map(|devices| format!("{devices} behind the vIOMMU '{name}'")),
            None if self.devices > 1 => Some("all host devices together".to_owned()),
            None => each(self.devices, "a host device"),
        };
        let others = [
            each(self.nvme_disks, "an NVMe disk"),
            each(self.vdpa, "a vDPA device"),
        ];
        let all: Vec<String> = devices
            .into_iter()
            .chain(others.into_iter().flatten())
            .collect();
        let together = self.viommu.is_none() && self.devices > 1;
        let verb = match all.len() > 1 || together {
            true => "lock",
            false => "locks",
        };
        format!("{} {verb}", all.join(" and "))
    }
}

/// The limit that libvirt sets, as a clause.
fn set(limit: u64) -> String {
    match limit {
        0 => "libvirt sets no limit for these devices".to_owned(),
        _ => format!("the limit that libvirt sets is {} MiB", limit >> 10),
    }
}

fn count(devices: usize) -> u64 {
    u64::try_from(devices).unwrap_or(u64::MAX)
}

/// An `<iommu>` that translates: every one but an accelerated SMMUv3.
fn element(domain: &Domain) -> Option<String> {
    let translates = |iommu: &&Iommu| !(iommu.model == "smmuv3" && iommu.accelerated);
    let iommu = domain.platform.iommus.iter().find(translates)?;
    Some(iommu.model.clone())
}

/// A vIOMMU among QEMU's arguments.
fn argument(given: &Given) -> Option<String> {
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
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fixture, guest, hostdev};
    use super::*;
    use crate::fixture::rewrite;
    use crate::target::{Version, Versions};

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

    fn of(domain: &Domain) -> Locked {
        Locked::of(&Fixture::new().input(), domain)
    }

    fn locked(text: &str) -> u64 {
        of(&Domain::parse(text).expect("domain")).kib / MIB
    }

    #[test]
    fn a_viommu_locks_memory_once_for_each_device() {
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
            of(&domain).check(&domain)
        };
        assert_eq!(with(4096, ""), None);
        assert_eq!(with(8192, "<iommu model='intel'/>"), None);
        let refusal = with(8191, "<iommu model='intel'/>").expect("refused");
        assert_eq!(refusal.code, Code::HardLimit);
        assert!(refusal.reason.contains("8388608 KiB"), "{refusal}");
        assert!(refusal.hint.as_str().contains("9437184 KiB"), "{refusal}");
        assert!(with(4095, "").is_some());
    }

    const DISK: &str = "<disk type='nvme'><source><address domain='0' bus='9' slot='0' function='0'/></source></disk>";
    const VDPA: &str = "<interface type='vdpa'><source dev='/dev/vhost-vdpa-0'/></interface>";

    #[test]
    fn nvme_disks_and_vdpa_devices_lock_memory_once_each() {
        for (inner, mib) in [
            (DISK.to_owned(), 8192),
            (DISK.repeat(2) + VDPA, 16384),
            (format!("<iommu model='intel'/>{DISK}"), 12288),
        ] {
            assert_eq!(locked(&two(&inner, &[])), mib, "{inner}");
        }
    }

    #[test]
    fn a_limit_without_room_for_an_nvme_disk_is_refused() {
        let limit = "<memtune><hard_limit unit='MiB'>6144</hard_limit></memtune><vcpu>";
        let text = two(DISK, &[]).replace("<vcpu>", limit);
        let refusal = Fixture::new().refusal(&text);
        assert_eq!(refusal.code, Code::HardLimit);
        let why = "all host devices together and an NVMe disk lock all 4194304 KiB of the guest's memory, together 8388608 KiB";
        assert!(refusal.reason.contains(why), "{refusal}");
    }

    /// The text of the note on locked memory.
    fn note(libvirt: Version, text: &str) -> String {
        let fixture = Fixture::new();
        let versions = Versions {
            libvirt,
            ..Versions::NEWEST_TESTED
        };
        let input = PlanInput {
            target: versions.into(),
            ..fixture.input()
        };
        let plan = rewrite(text, &input).expect("a plan").plan;
        let mut notes = plan.notes.into_iter();
        let note = notes.find(|note| note.code == Code::MemoryLocked);
        note.expect("a note").text
    }

    #[test]
    fn the_note_names_a_limit_where_this_libvirt_counts_an_nvme_disk_with_the_host_devices() {
        let disk = two(DISK, &[]).replace("managed='yes'", "managed='no'");
        assert!(!note(Version::new(9, 2, 0), &disk).contains("hard_limit"));
        let note = note(Version::new(9, 1, 0), &disk);
        assert!(
            note.contains("the limit that libvirt sets is 5120 MiB"),
            "{note}"
        );
        assert!(note.contains("'KiB'>9437184<"), "{note}");
    }

    #[test]
    fn the_note_names_the_limit_that_libvirt_does_not_compute() {
        let newest = Versions::NEWEST_TESTED.libvirt;
        let note = |inner: &str, arguments: &[&str]| note(newest, &two(inner, arguments));
        let hidden = note("", &["-device", "virtio-iommu-pci"]);
        assert!(hidden.contains("locks 8192 MiB"), "{hidden}");
        assert!(hidden.contains("'KiB'>9437184<"), "{hidden}");
        let known = note("<iommu model='virtio'/>", &[]);
        assert!(
            known.contains("each of 2") && !known.contains("hard_limit"),
            "{known}"
        );
    }
}
