//! The limit of locked memory (RLIMIT_MEMLOCK) that libvirt sets for QEMU.
//!
//! libvirt, src/qemu/qemu_domain.c, `qemuDomainGetMemLockLimitBytes`. Read in whole in the sources of 9.0.0, 11.3.0 and NVIDIA's
//! 12.0.0, and in the machine code of Debian's 12.8.0; 9.10.0 and 10.7.0 were only seen to count NVMe disks:
//!
//! ```text
//! <hard_limit>                   that
//! <memoryBacking><locked/>       no limit
//! otherwise                      factor * memory + 1 GiB; without a device that counts no limit is set, and QEMU keeps the daemon's
//!
//! since    factor
//! 9.2.0    vDPA devices + NVMe disks + (PCI and mediated host devices: each behind an <iommu>, else once for all)
//! 8.7.0    vDPA devices + (PCI and mediated host devices and NVMe disks: each behind an <iommu>, else once for all)
//! before   1
//! ```
//!
//! Any `<iommu>` counts, an accelerated SMMUv3 too, and a host device counts the same with iommufd. 9.2.0 and 8.7.0 are by
//! libvirt's release notes. ppc64, which has another formula, is no architecture of ours.

use crate::stack::{Feature, Stack};
use domain::Domain;

/// "Space reserved for the MMIO region for the whole system", in KiB.
pub(super) const MMIO: u64 = 1 << 20;

/// The limit in KiB that this libvirt computes where there is no `<hard_limit>`; `None` is no limit at all. `pooled` devices come
/// from networks: libvirt has chosen them by then (qemuProcessPrepareDomain).
pub(super) fn computed(domain: &Domain, pooled: usize, stack: &Stack) -> Option<u64> {
    if domain.platform.locked {
        return None;
    }
    Some(match factor(domain, pooled, stack) {
        0 => 0,
        factor => domain
            .memory_kib
            .saturating_mul(factor)
            .saturating_add(MMIO),
    })
}

fn factor(domain: &Domain, pooled: usize, stack: &Stack) -> u64 {
    let others = domain.lockers;
    let (vfio, nvme) = (
        domain.hostdevs.len() + pooled + others.mediated,
        others.nvme_disks,
    );
    let shared = |devices: usize| match domain.platform.iommus.is_empty() {
        true => devices.min(1),
        false => devices,
    };
    let factor = if stack.has(Feature::LimitByDisk) {
        others.vdpa + nvme + shared(vfio)
    } else if stack.has(Feature::LimitByDevice) {
        others.vdpa + shared(vfio + nvme)
    } else {
        (others.vdpa + vfio + nvme).min(1)
    };
    super::count(factor)
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{guest, hostdev};
    use super::*;
    use crate::target::{Version, Versions};

    const DISK: &str = "<disk type='nvme'><source><address domain='0' bus='9' slot='0' function='0'/></source></disk>";
    const VDPA: &str = "<interface type='vdpa'><source dev='/dev/vhost-vdpa-0'/></interface>";
    const MEDIATED: &str = "<hostdev mode='subsystem' type='mdev' model='vfio-pci'/>";
    const VIOMMU: &str = "<iommu model='intel'/>";
    const SMMU: &str = "<iommu model='smmuv3'><driver pciBus='1' accel='on'/></iommu>";

    fn stack(major: u32, minor: u32) -> Stack {
        Stack::assumed(Versions {
            libvirt: Version::new(major, minor, 0),
            ..Versions::NEWEST_TESTED
        })
    }

    /// How often libvirt counts the memory of a guest with two GPUs and these devices.
    fn times(version: (u32, u32), devices: &[&str]) -> u64 {
        let two = hostdev("0002:01:00.0", "") + &hostdev("0009:01:00.0", "");
        let domain = Domain::parse(&guest(&(two + &devices.concat()))).expect("domain");
        let limit = computed(&domain, 0, &stack(version.0, version.1)).expect("a limit");
        assert_eq!((limit - MMIO) % domain.memory_kib, 0);
        (limit - MMIO) / domain.memory_kib
    }

    #[test]
    fn the_limit_is_that_of_libvirt_for_each_version() {
        let (old, oldstable, disks, newest) = ((8, 6), (9, 0), (9, 2), (12, 8));
        for (devices, expected) in [
            (&[][..], [1, 1, 1, 1]),
            (&[VIOMMU], [1, 2, 2, 2]),
            (&[SMMU], [1, 2, 2, 2]),
            (&[DISK], [1, 1, 2, 2]),
            (&[DISK, DISK], [1, 1, 3, 3]),
            (&[VDPA, VDPA], [1, 3, 3, 3]),
            (&[MEDIATED], [1, 1, 1, 1]),
            (&[VIOMMU, DISK], [1, 3, 3, 3]),
            (&[VIOMMU, MEDIATED], [1, 3, 3, 3]),
            (&[VIOMMU, DISK, VDPA], [1, 4, 4, 4]),
        ] {
            let found = [old, oldstable, disks, newest].map(|version| times(version, devices));
            assert_eq!(found, expected, "{devices:?}");
        }
    }

    /// `pc-hostdev`, `pc-hostdev-nvme`, `pc-kvm` and `pc-locked+hostdev` of libvirt's tests/qemumemlocktest.c (11.3.0).
    #[test]
    fn the_limit_is_that_of_libvirts_own_tests() {
        let limit = |inner: &str, devices: &[&str]| {
            let devices = devices.concat();
            let text = format!(
                "<domain type='kvm'><name>g</name><memory unit='KiB'>1048576</memory>{inner}<devices>{devices}</devices></domain>"
            );
            let domain = Domain::parse(&text).expect("domain");
            computed(&domain, 0, &stack(11, 3)).map(|kib| kib << 10)
        };
        let device = hostdev("0002:01:00.0", "");
        assert_eq!(limit("", &[]), Some(0));
        assert_eq!(limit("", &[&device]), Some(2_147_483_648));
        assert_eq!(limit("", &[&device, DISK]), Some(3_221_225_472));
        let locked = "<memoryBacking><locked/></memoryBacking>";
        assert_eq!(limit(locked, &[&device]), None);
    }
}
