//! What each code means, why it is so, and where that is written: `variantctl explain` and variantd.codes(7).

use super::Code;

impl Code {
    /// A paragraph on the code, ending with its source.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "one table")]
    pub fn explanation(self) -> &'static str {
        match self {
            Self::XmlMalformed => {
                "The text cannot be read as XML; the message has line and column. Nothing was written. Source: XML 1.0, \
                 section 2.1."
            }
            Self::XmlDtd => {
                "libvirt's definitions have no document type declaration. One could make a reader expand entities or read \
                 other files, so a text with one is not read at all. Source: libvirt, format of domain XML; CWE-611."
            }
            Self::XmlTooLarge => {
                "A definition with 128 NUMA cells and all their distances has about 700 KiB. What is over 1 MiB, or has over \
                 131,072 nodes, is not a definition of one domain. Source: QEMU takes 128 nodes (MAX_NODES)."
            }
            Self::XmlNoDomain => {
                "The text is XML, but not one <domain> with <name> and <devices>. 'virsh dumpxml --inactive' prints what is \
                 expected. Source: libvirt, format of domain XML."
            }
            Self::XmlValue => {
                "A number, address, size, UUID or list in the definition cannot be read as what it must be. Guessing could \
                 assign the wrong device, so the definition is refused. Source: libvirt, format of domain XML."
            }
            Self::XmlDropped => {
                "libvirt drops elements that its version does not know, without a word. The definition was read back after it \
                 was defined, and pieces were gone. Source: seen with libvirt 9.0, 11.3 and 12.8."
            }
            Self::XmlRaced => {
                "Between reading a definition and writing the completed one somebody else changed it, several times in a row. \
                 His change stays. Source: libvirt has no compare-and-define."
            }
            Self::DeviceMissing => {
                "A <hostdev> names a PCI function that this host does not have: a wrong address, a device that was removed, or \
                 one whose number changed at boot. Source: /sys/bus/pci/devices."
            }
            Self::DeviceTwice => {
                "One PCI function cannot be given to a guest twice. Source: VFIO opens a device once."
            }
            Self::DeviceTaken => {
                "Another running domain holds the device. Taking it would unplug it from that guest. Source: Linux, \
                 drivers/vfio/vfio_main.c (the REQ event) and QEMU's answer to it."
            }
            Self::GuestSlot => {
                "A device behind a root port is only found in slot 0, and NVIDIA's guest driver looks for generic initiators \
                 only at slot 0, function 0. Source: PCIe base specification 7.3.1; NVIDIA open-gpu-kernel-modules."
            }
            Self::GuestFunction => {
                "QEMU passes AtomicOps on only to a device at devfn 0, and NVIDIA's guest driver looks for generic initiators \
                 only at slot 0, function 0. Source: QEMU, hw/vfio/pci.c, vfio_pci_enable_rp_atomics."
            }
            Self::GuestMultifunction => {
                "With the multifunction flag QEMU does not set AtomicOp completer bits on the root port, since another function \
                 could have other abilities. Source: QEMU, hw/vfio/pci.c, vfio_pci_enable_rp_atomics."
            }
            Self::GuestNotOnRootPort => {
                "Directly on the root bus a device becomes an integrated endpoint, and behind a switch QEMU does not pass \
                 AtomicOps on: its emulated switches do not route them. Only a pcie-root-port does. Source: QEMU, \
                 hw/vfio/pci.c and hw/pci-bridge/xio3130_downstream.c."
            }
            Self::GuestPortShared => {
                "Two functions on one root port are a multifunction device, for which QEMU passes no AtomicOps on. Source: QEMU, \
                 hw/vfio/pci.c, vfio_pci_enable_rp_atomics."
            }
            Self::GuestNoAddress => {
                "The device has no guest address yet. libvirt would choose one; the plan chooses a root port of its own, slot 0, \
                 function 0, so that the outcome is known. Source: libvirt, format of PCI addresses."
            }
            Self::InitiatorsUnknown => {
                "The kernel does not tell which generic-initiator nodes belong to which device: it only prints the handle. SRAT \
                 tells (root only); otherwise numa_node and distances, where they leave no choice that matters. Anything else \
                 would be a guess, and could describe another GPU's memory. Source: Linux, drivers/acpi/numa/srat.c."
            }
            Self::DistanceMissing => {
                "The guest's distance table is projected from the host's, and a pair is missing there. A recipe may name \
                 distances for this case. Source: Linux, /sys/devices/system/node/nodeN/distance; ACPI 6.5, 5.2.17."
            }
            Self::TooManyCells => "QEMU takes 128 NUMA nodes. Source: QEMU, MAX_NODES.",
            Self::CellsMissing => {
                "NVIDIA's driver in a Grace guest puts GPU memory into NUMA nodes of its own: one for the GPU and one for each \
                 of seven MIG instances. The guest needs cells without CPUs and memory for them. Source: NVIDIA \
                 open-gpu-kernel-modules; A. Williamson on qemu-devel, 2023."
            }
            Self::NodesetMissing => {
                "<acpi nodeset> makes QEMU write a Generic Initiator Affinity Structure per node into SRAT; without it the \
                 driver reports that it cannot get coherent link information. Source: ACPI 6.5, 5.2.16.6; QEMU, \
                 acpi-generic-initiator."
            }
            Self::NodesetWrong => {
                "The nodeset names cells that do not exist, have CPUs or memory, are another device's, or are too few. libvirt \
                 accepts most of these; QEMU exits at start, or the guest's driver misbehaves. Source: run with libvirt 12.8 and \
                 QEMU 11.1."
            }
            Self::CellDistanceMissing => {
                "Without distances for all pairs QEMU writes no SLIT, or libvirt fills in 20. A guest then takes GPU memory for \
                 as near as any other. Source: QEMU, hw/core/numa.c."
            }
            Self::CellUnbound => {
                "A cell with CPUs that is bound to no single host node has no true distance to a GPU. Bind it with \
                 <numatune><memnode cellid='N' nodeset='M'/> to get the host's distance; until then the nearest socket's is \
                 taken. Source: libvirt, NUMA tuning."
            }
            Self::GuestNodeLimit => {
                "arm64 kernels take 16 NUMA nodes by default (CONFIG_NODES_SHIFT=4); more are ignored with 'Too many proximity \
                 domains'. Two GPUs need 17. Source: Linux, arch/arm64/Kconfig."
            }
            Self::CommandLineTaken => {
                "For a libvirt before 11.8 the initiators' nodes go through <qemu:commandline>, and the definition has '-numa' \
                 arguments there already. QEMU takes each node once. Source: QEMU, hw/core/numa.c."
            }
            Self::WindowMissing => {
                "GPU memory appears in a BAR of 128 to 512 GiB. Arm's virt machine has a 64-bit MMIO window of 512 GiB unless \
                 told otherwise, and a guest cannot place what does not fit. Source: QEMU, hw/arm/virt.c, highmem-mmio-size."
            }
            Self::WindowWrong => {
                "The window must be a power of two of at least 512 GiB, and hold the BARs of all devices. libvirt does not \
                 check; QEMU exits, or drops the window without a word. A value of yours is never changed. Source: QEMU, \
                 hw/arm/virt.c."
            }
            Self::MarkMissing => {
                "The mark in <metadata> records what was added for which device by which recipe, so that it can be checked and \
                 taken back. Source: libvirt, custom metadata."
            }
            Self::TargetOld => {
                "This version of libvirt or QEMU cannot express a piece. Generic initiators need QEMU 9.0, and <acpi nodeset> \
                 libvirt 11.8. Source: release notes of both."
            }
            Self::TargetMachine => {
                "The recipe does not know what its devices need on this architecture and machine type. Source: the recipe's \
                 [[guest]] entries; 'variantctl recipe show NAME'."
            }
            Self::TargetUnused => {
                "The guest gets its generic initiators, but no driver is known that uses them on this architecture. Source: \
                 NVIDIA open-gpu-kernel-modules (aarch64 only)."
            }
            Self::TargetUnknown => {
                "A plan is made for versions of libvirt and QEMU, and the agent has not reached libvirt since it started, so it \
                 knows neither. Source: variantd."
            }
            Self::BindFailed => {
                "The kernel refused to bind the driver; its own error is in the message. The device was put back as it was. \
                 Source: Linux, Documentation/ABI/testing/sysfs-bus-pci."
            }
            Self::BindWrongDriver => {
                "The guest is about to get the device, and it is not on the driver that its recipe names: another manager \
                 changed it meanwhile. Source: /sys/bus/pci/devices/ADDRESS/driver."
            }
            Self::BindInUse => {
                "A process has the device open through VFIO. Unbinding it would wait for ever in the kernel, and unplug the \
                 device from a guest. Source: Linux, drivers/vfio/vfio_main.c, vfio_unregister_group_dev."
            }
            Self::BindDegraded => {
                "A change failed, and taking it back failed too. The device is left as it is, is not touched again by itself, \
                 and needs a look. Source: variantd."
            }
            Self::AgentUnreachable => {
                "variantd does not answer on the system bus. A guest that it prepared is not started without it. Source: \
                 variantd; 'systemctl status variantd'."
            }
            Self::HostUnreadable => {
                "There is no /sys/bus/pci/devices to read, or it cannot be read. Source: Linux, sysfs."
            }
            Self::PlanStale => {
                "A saved plan holds for the definition, host, recipes and versions that it was made from; the message names \
                 what is different now. Nothing was changed: read a new plan before it is applied. A plan that was made of a \
                 file without root has not seen SRAT, and then the host counts as different. Source: variantctl(1)."
            }
            Self::PlanUnreadable => {
                "The agent applies a plan of its own, and only if the saved one says exactly the same. This one cannot be read, \
                 or says something else although it was made from the same definition, host, recipes and versions. Source: \
                 variantctl(1)."
            }
        }
    }
}
