//! The codes, one entry each: severity, meaning in one line (the doc comment), why it is so, and where that is written.

use super::{Entry, Severity};

codes! {
    /// The text is not well-formed XML.
    XmlMalformed = "VD-XML-001" {
        severity: Refusal,
        explanation: "The text cannot be read as XML; the message has line and column. Nothing was written.",
        source: "XML 1.0, section 2.1",
    }

    /// The text has a document type declaration.
    XmlDtd = "VD-XML-002" {
        severity: Refusal,
        explanation: "libvirt's definitions have no document type declaration. One could make a reader expand entities \
            or read other files, so a text with one is not read at all.",
        source: "libvirt, format of domain XML; CWE-611",
    }

    /// The text is over 1 MiB, or has more nodes, or more of something, than a domain can have.
    XmlTooLarge = "VD-XML-003" {
        severity: Refusal,
        explanation: "A definition with 128 NUMA cells and all their distances has about 700 KiB. What is over 1 MiB, \
            has over 131,072 nodes, 256 elements in each other, 256 attributes of an element, 1024 cells or \
            hostdevs, 4096 controllers or other devices, or 65,536 processors, is not a definition of one \
            domain.",
        source: "QEMU takes 128 nodes (MAX_NODES)",
    }

    /// The root element is not `<domain>`, or an element every domain has is missing.
    XmlNoDomain = "VD-XML-004" {
        severity: Refusal,
        explanation: "The text is XML, but not one <domain> with <name> and <devices>. 'virsh dumpxml --inactive' prints \
            what is expected.",
        source: "libvirt, format of domain XML",
    }

    /// An attribute or text cannot be read as what it must be.
    XmlValue = "VD-XML-005" {
        severity: Refusal,
        explanation: "A number, address, size, UUID or list in the definition cannot be read as what it must be, or the \
            ids of its NUMA cells are not 0, 1, 2 and so on. Guessing could assign the wrong device, so the \
            definition is refused.",
        source: "libvirt, format of domain XML, src/conf/numa_conf.c",
    }

    /// libvirt dropped an element that was defined.
    XmlDropped = "VD-XML-006" {
        severity: Refusal,
        explanation: "libvirt drops elements that its version does not know, without a word. The definition was read \
            back after it was defined, and pieces were gone.",
        source: "seen with libvirt 9.0, 11.3 and 12.8",
    }

    /// The definition changed while it was being prepared.
    XmlRaced = "VD-XML-007" {
        severity: Refusal,
        explanation: "Between reading a definition and writing the completed one somebody else changed it, several times \
            in a row. His change stays.",
        source: "libvirt has no compare-and-define",
    }

    /// The guest has no ACPI, or no firmware for it.
    AcpiMissing = "VD-XML-008" {
        severity: Refusal,
        explanation: "Generic initiators and SMMUs exist only in ACPI tables (SRAT, IORT), and libvirt gives a guest \
            ACPI only with <features><acpi/>; on aarch64 also only with UEFI firmware ('ACPI requires UEFI on \
            this architecture'). Without it the guest starts, and its driver finds nothing.",
        source: "libvirt 12.8, qemu_validate.c; QEMU, hw/acpi/pci.c",
    }

    /// An ACPI table is given to a machine that takes none.
    AcpiTableRefused = "VD-XML-009" {
        severity: Refusal,
        explanation: "QEMU has -acpitable on x86 alone: on Arm it says that the option is not supported for this target \
            and exits. An SRAT for 'virt' can be had only from QEMU's own objects.",
        source: "QEMU 11.1, system/vl.c; run on aarch64",
    }

    /// An ACPI table that the recipe names is not given to the guest.
    AcpiTableMissing = "VD-XML-010" {
        severity: Missing,
        explanation: "A recipe can name ACPI tables ([[acpi_table]]) that the guest's firmware hands on as they are: as \
            <os><acpi><table type='raw'> since libvirt 11.2, before that as -acpitable on QEMU's command line.",
        source: "libvirt, format of domain XML",
    }

    /// The definition has an attribute or element that this libvirt does not know.
    XmlForeign = "VD-XML-011" {
        severity: Warning,
        explanation: "Builds of libvirt from vendors have attributes and elements that upstream's has not, or has under \
            another name: 'pasid' and 'ssidSize' of an SMMUv3 (upstream: 'ssidsize', libvirt 12.7), memory of \
            model 'egm'. libvirt drops an attribute that it does not know without a word, and refuses a model \
            that it does not know.",
        source: "run with libvirt 12.8; libvirt, format of domains",
    }

    /// A definition was completed again and again, and did not stay complete.
    XmlLoop = "VD-XML-012" {
        severity: Refusal,
        explanation: "The agent completes a definition when it is defined, and its own define is such an event. Where \
            another program takes out what was added, or libvirt writes it otherwise each time, that would go \
            on for ever. After 10 defines within 60 s the agent leaves the domain alone until its text is \
            another one or somebody runs 'variantctl prepare'.",
        source: "variantctl(1), prepare",
    }

    /// Another client's change of a definition may have been overwritten.
    XmlOverwritten = "VD-XML-013" {
        severity: Warning,
        explanation: "libvirt has no compare-and-define. A change that another client makes in the milliseconds in which \
            libvirt takes the completed definition can be replaced by it. The agent sees that by libvirt's \
            events and writes such a change again where it could still read it; here it could not.",
        source: "libvirt, virDomainDefineXMLFlags",
    }

    /// A snapshot of a host cannot be read.
    SnapshotUnreadable = "VD-HST-001" {
        severity: Refusal,
        explanation: "The file is not there, cannot be read, is no JSON, or says something that no host can be. A \
            directory with 'sys' is a recorded host, and everything else that --host names must be a snapshot, \
            which 'variantctl snapshot' writes and the agent publishes in /run/variantd/host.json.",
        source: "variantctl(1), snapshot",
    }

    /// A snapshot of a host has a form that this version does not know.
    SnapshotVersion = "VD-HST-002" {
        severity: Refusal,
        explanation: "The form of snapshots has a number, and each variantctl reads the numbers that it knows. Write the \
            snapshot anew with a variantctl as old as the one that reads it, or read it with a newer one.",
        source: "variantctl(1), snapshot",
    }

    /// A snapshot of a host is larger than any host's.
    SnapshotTooLarge = "VD-HST-003" {
        severity: Refusal,
        explanation: "A host of 4,096 PCI functions and 1,024 NUMA nodes makes a snapshot of some 7 MiB; what is above \
            16 MiB is not read.",
        source: "variantctl(1), snapshot",
    }

    /// A host's kernel lacks the driver that a guest's device needs.
    FleetDriver = "VD-FLT-001" {
        severity: Refusal,
        explanation: "The snapshot has the vfio_pci lines of the host's modules.alias, none of them names the driver, \
            and no device there is on it. A guest that is moved there would not start.",
        source: "variantctl(1), plan",
    }

    /// Whether a host's kernel has the driver was not seen.
    FleetDriverUnknown = "VD-FLT-002" {
        severity: Warning,
        explanation: "The snapshot has no line of the host's modules.alias: it could not be read when it was taken, or \
            it was taken in a container that does not see /lib/modules.",
        source: "variantctl(1), snapshot",
    }

    /// A guest is of another architecture than a host.
    FleetArch = "VD-FLT-003" {
        severity: Refusal,
        explanation: "The snapshot says of which architecture the host is. A guest of another one is emulated there, \
            which no GPU is assigned for.",
        source: "variantctl(1), plan",
    }

    /// What is added to a guest is other, or written otherwise, on another host.
    FleetSpelling = "VD-FLT-004" {
        severity: Warning,
        explanation: "What is added to the guest's definition differs from what the first host on which it fits wants: \
            other pieces, or the same for other versions of libvirt and QEMU, such as elements in the place of \
            QEMU's arguments. A definition that was completed for the one is completed anew for the other; a \
            running guest cannot be moved between them.",
        source: "variantctl(1), plan",
    }

    /// A guest gets another MMIO window on another host.
    FleetWindow = "VD-FLT-005" {
        severity: Warning,
        explanation: "The BARs of the devices there need another 64-bit MMIO window. The guest sees the difference, so \
            it cannot be moved while it runs.",
        source: "variantctl(1), plan",
    }

    /// A guest's device has another driver or other nodes on another host.
    FleetNodes = "VD-FLT-006" {
        severity: Warning,
        explanation: "The device there is for another driver, or its generic initiators are other nodes of the host or \
            other cells of the guest. Other cells are seen by the guest; other nodes of the host alone change \
            distances.",
        source: "variantctl(1), plan",
    }

    /// The versions of libvirt and QEMU of a host are not known.
    FleetVersions = "VD-FLT-007" {
        severity: Warning,
        explanation: "The snapshot was taken where nobody knew the versions, so what is planned is for the newest that \
            are tested. 'variantctl snapshot --target libvirt=...,qemu=...' says them.",
        source: "variantctl(1), snapshot",
    }

    /// No host is named.
    FleetEmpty = "VD-FLT-008" {
        severity: Refusal,
        explanation: "The list is empty, or the directory has no file that ends in '.json'.",
        source: "variantctl(1), plan",
    }

    /// KubeVirt's sidecar has no snapshot of its host.
    KubevirtSnapshot = "VD-KVT-001" {
        severity: Refusal,
        explanation: "The sidecar plans from /run/variantd/host.json of its node, which the agent's DaemonSet keeps and \
            the pod must mount (hostPath). It is not there, or its form is another: the message says which.",
        source: "packaging/kubevirt/README.md",
    }

    /// The VMI that KubeVirt hands over cannot be read.
    KubevirtVmi = "VD-KVT-002" {
        severity: Refusal,
        explanation: "virt-launcher hands the VirtualMachineInstance over as one JSON object beside the domain.",
        source: "KubeVirt, pkg/hooks/v1alpha3/api_v1alpha3.proto",
    }

    /// A domain is near or above what a program takes as one argument.
    KubevirtArgument = "VD-KVT-003" {
        severity: Warning,
        explanation: "KubeVirt's shim passes the domain to a program as one argument, and Linux takes at most 128 KiB \
            (MAX_ARG_STRLEN): with some 45 NUMA cells and all their distances a domain is larger, and the \
            program is not even started (E2BIG, 'argument list too long'). The server form has no such limit.",
        source: "execve(2); packaging/kubevirt/README.md",
    }

    /// KubeVirt has written pieces itself, which are kept.
    KubevirtDone = "VD-KVT-004" {
        severity: Note,
        explanation: "KubeVirt's own Grace support (VEP 199) writes expander buses, generic initiators, an SMMUv3 and a \
            window for ids that it knows. What it wrote is kept, and what it lacks is added; nothing is \
            doubled.",
        source: "kubevirt/enhancements, VEP 199",
    }

    /// KubeVirt has written pieces itself that contradict the host or its recipe.
    KubevirtContradicts = "VD-KVT-005" {
        severity: Refusal,
        explanation: "What KubeVirt's own Grace support has written is not what the host's tables or the recipe want; \
            both values are in the message. Distances are wrong where a guest has other GPUs than the host's \
            first ones, for KubeVirt counts the host's initiators from its first GPU. One of the two has to \
            leave the pieces to the other.",
        source: "kubevirt/enhancements, VEP 199",
    }

    /// KubeVirt's own reading of a domain loses what was added.
    KubevirtLossy = "VD-KVT-006" {
        severity: Warning,
        explanation: "What a sidecar hands back goes to libvirt as it is, and is also read into KubeVirt's own types, \
            which know not all of it; with an object of kind Plugin loaded (VEP 190) it makes a round trip \
            through libvirt's Go types, which drop name and model of a hostdev's <driver>, ssidsize of an \
            SMMUv3, and variantd's metadata. accel, ats and ril are kept. The sidecar adds what is missing at \
            the next define; what is dropped behind it does not reach libvirt.",
        source: "kubevirt/enhancements, VEP 190; libvirtxml 1.12002",
    }

    /// A device is not on this host.
    DeviceMissing = "VD-DEV-001" {
        severity: Refusal,
        explanation: "A <hostdev> names a PCI function that this host does not have: a wrong address, a device that was \
            removed, or one whose number changed at boot.",
        source: "/sys/bus/pci/devices",
    }

    /// A definition assigns one device twice.
    DeviceTwice = "VD-DEV-002" {
        severity: Refusal,
        explanation: "One PCI function cannot be given to a guest twice.",
        source: "VFIO opens a device once",
    }

    /// Another domain uses the device.
    DeviceTaken = "VD-DEV-003" {
        severity: Refusal,
        explanation: "Another running domain holds the device. Taking it would unplug it from that guest.",
        source: "Linux, drivers/vfio/vfio_main.c (the REQ event) and QEMU's answer to it",
    }

    /// Another definition assigns the device, too.
    DeviceShared = "VD-DEV-004" {
        severity: Warning,
        explanation: "Two definitions may name one device, for guests that take turns. The one that starts second is \
            refused while the first runs (VD-DEV-003). The same holds for a device in the pool of a network: an interface of \
            that network is assigned any device of the pool that no other interface of it has.",
        source: "libvirt, src/util/virhostdev.c (active devices); src/network/bridge_driver.c (networkAllocatePort)",
    }

    /// The device has virtual functions.
    DeviceHasFunctions = "VD-DEV-005" {
        severity: Refusal,
        explanation: "A physical function whose virtual functions are enabled cannot be bound to a VFIO driver (EBUSY), \
            and removing them takes them from whoever has them.",
        source: "Linux, drivers/vfio/pci/vfio_pci_core.c (vfio_pci_core_register_device)",
    }

    /// Virtual functions of an assigned device are enabled on this host.
    FunctionsEnabled = "VD-DEV-006" {
        severity: Warning,
        explanation: "A plan, or a look at a recorded host, found virtual functions of a device that a definition \
            assigns. A start is refused while they are enabled (VD-DEV-005).",
        source: "Linux, drivers/vfio/pci/vfio_pci_core.c (vfio_pci_core_register_device)",
    }

    /// A virtual function has an id that a recipe names for physical functions only.
    FunctionUncovered = "VD-DEV-007" {
        severity: Warning,
        explanation: "Virtual functions of some devices have the id of their physical function: an NVIDIA vGPU is such a \
            function on the driver 'nvidia', and is lost when it leaves that driver. A recipe is for physical \
            functions unless it says functions = \"virtual\" or \"any\".",
        source: "NVIDIA vGPU software, user guide; variantd.recipe(5)",
    }

    /// A device is assigned by QEMU's own arguments or from a network's pool, and not checked.
    DeviceUnjudged = "VD-DEV-008" {
        severity: Warning,
        explanation: "A '-device vfio-pci' among <qemu:commandline> assigns a host device past libvirt, which neither \
            binds nor places it. variantd counts it as assigned (VD-DEV-002, VD-DEV-003), and says no more of it. Write a \
            <hostdev> to have it completed. An interface of a network with a pool of host devices gets one of them when \
            the guest starts, and libvirt takes its driver from the network's <forward>: it counts as a host device \
            (locked memory), and the pool is named. Without libvirt (a file, --host) the pool is unknown.",
        source: "libvirt, docs/drvqemu.rst and formatnetwork",
    }

    /// The guest address is not slot 0.
    GuestSlot = "VD-TOP-001" {
        severity: Refusal,
        explanation: "A device behind a root port is only found in slot 0, and NVIDIA's guest driver looks for generic \
            initiators only at slot 0, function 0.",
        source: "PCIe base specification 7.3.1; NVIDIA open-gpu-kernel-modules",
    }

    /// The guest address is not function 0.
    GuestFunction = "VD-TOP-002" {
        severity: Refusal,
        explanation: "QEMU passes AtomicOps on only to a device at devfn 0, and NVIDIA's guest driver looks for generic \
            initiators only at slot 0, function 0.",
        source: "QEMU, hw/vfio/pci.c, vfio_pci_enable_rp_atomics",
    }

    /// The guest address has the multifunction flag.
    GuestMultifunction = "VD-TOP-003" {
        severity: Refusal,
        explanation: "With the multifunction flag QEMU does not set AtomicOp completer bits on the root port, since \
            another function could have other abilities.",
        source: "QEMU, hw/vfio/pci.c, vfio_pci_enable_rp_atomics",
    }

    /// The device is not directly below a root port.
    GuestNotOnRootPort = "VD-TOP-004" {
        severity: Refusal,
        explanation: "Directly on the root bus a device becomes an integrated endpoint, and behind a switch QEMU does \
            not pass AtomicOps on: its emulated switches do not route them. Only a pcie-root-port does.",
        source: "QEMU, hw/vfio/pci.c and hw/pci-bridge/xio3130_downstream.c",
    }

    /// Another device shares the root port.
    GuestPortShared = "VD-TOP-005" {
        severity: Refusal,
        explanation: "Two functions on one root port are a multifunction device, for which QEMU passes no AtomicOps on.",
        source: "QEMU, hw/vfio/pci.c, vfio_pci_enable_rp_atomics",
    }

    /// The device has no guest address yet.
    GuestNoAddress = "VD-TOP-006" {
        severity: Missing,
        explanation: "The device has no guest address yet. libvirt would choose one; the plan chooses a root port of its \
            own, slot 0, function 0, so that the outcome is known.",
        source: "libvirt, format of PCI addresses",
    }

    /// The device's root port is on no expander bus.
    GuestNoExpander = "VD-TOP-007" {
        severity: Warning,
        explanation: "The device has a good address of its owner's, below a root port on the guest's root bus. There it \
            works, but the guest sees no NUMA node for it and it can have no SMMUv3, since both belong to an \
            expander bus. libvirt gives every device such an address when it is defined, and nothing tells it \
            from one that somebody chose: so the agent moves it when it completes a definition for the first \
            time, and 'revert' brings it back. Later, and in a file, it is taken for its owner's, and moved by \
            '--replace' alone.",
        source: "QEMU, pxb-pcie and arm-smmuv3 'primary-bus'; seen with libvirt 12.8",
    }

    /// The guest has no PCI bus number left.
    GuestBusNumbers = "VD-TOP-008" {
        severity: Refusal,
        explanation: "PCI has 256 bus numbers per segment. Each expander bus takes one and each root port on it another; \
            those of the guest's own root bus grow from below and must not reach the lowest expander.",
        source: "PCIe base specification 7.3.1; QEMU, hw/pci-bridge/pci_expander_bridge.c ('bus_nr'). This holds \
            for expanders that the user wrote, too: firmware numbers each port below one from its 'busNr' on, \
            and must not reach the next",
    }

    /// Devices of different groups share one expander bus.
    GuestExpanderShared = "VD-TOP-009" {
        severity: Refusal,
        explanation: "One accelerated SMMUv3 of a guest is one instance of one SMMU of the host, so devices behind two \
            SMMUs of the host must not share one expander bus.",
        source: "QEMU 11.1, hw/arm/smmuv3-accel.c",
    }

    /// The guest cell of an expander bus cannot be told.
    ExpanderCellUnknown = "VD-TOP-010" {
        severity: Warning,
        explanation: "An expander bus tells the guest which NUMA cell its devices are near. That cell is the one whose \
            memory comes from the device's socket (<numatune> with one host node), or else whose processors \
            are pinned to it (<vcpupin>, <vcpu cpuset>). Where none is, nothing is guessed.",
        source: "QEMU, pxb-pcie 'numa_node'",
    }

    /// The root port does not show the link of the device's path.
    LinkMissing = "VD-TOP-011" {
        severity: Missing,
        explanation: "QEMU's root ports advertise 16 GT/s and 32 lanes whatever the device's own link is, and libvirt \
            has no element for it. A recipe with placement.link has the slowest link of the host's path shown, \
            as NVIDIA's fork of KubeVirt does.",
        source: "QEMU, pcie-root-port 'x-speed' and 'x-width'; libvirt 8.2, <qemu:override>",
    }

    /// The link of the device's path cannot be shown.
    LinkUnknown = "VD-TOP-012" {
        severity: Warning,
        explanation: "Link capabilities are in config space beyond its first 64 bytes, which only root can read; and a \
            <qemu:override> of the definition's owner is not touched. The guest sees QEMU's defaults.",
        source: "PCIe base specification 7.5.3.6",
    }

    /// A device is behind a switch as on the host.
    SwitchMirrored = "VD-TOP-013" {
        severity: Warning,
        explanation: "With placement.switch devices behind one switch of the host are behind one switch in the guest, so \
            that its driver sees which are near to each other. QEMU's switch ports do not route AtomicOps, so \
            none reach such a device; without the key each device has a root port of its own.",
        source: "QEMU, hw/pci-bridge/xio3130_upstream.c; PCIe base specification 6.15",
    }

    /// A device is left at a place of the user's that its recipe would not choose.
    GuestPlaceKept = "VD-TOP-014" {
        severity: Warning,
        explanation: "The definition puts the device where its recipe would not: behind a switch of the guest, on a root \
            bus, or as one of several functions. A recipe requires a root port where it has initiators or \
            atomics.need = \"require\", and a port of the device's own with placement.own_root_port; any other \
            place is the user's choice and stays. A switch that mirrors the host's shows the guest which \
            devices are near each other, and ends AtomicOps. placement.switch = true accepts it without this \
            note.",
        source: "variantd.recipe(5); QEMU, hw/pci-bridge/xio3130_downstream.c",
    }

    /// Config space on the way of AtomicOps cannot be read.
    AtomicsHidden = "VD-ATM-001" {
        severity: Warning,
        explanation: "Whether a port completes, routes or blocks AtomicOps stands in its PCI Express capability. The \
            kernel gives a reader without CAP_SYS_ADMIN 64 bytes of config space and no error, which ends \
            before any capability; a device that is gone or powered down reads as all ones. Neither means that \
            AtomicOps are not supported: run it as root, or wake the device.",
        source: "Linux, drivers/pci/pci-sysfs.c (pci_read_config)",
    }

    /// The device is no PCI Express endpoint of version 2.
    AtomicsNoEndpoint = "VD-ATM-002" {
        severity: Warning,
        explanation: "Linux enables AtomicOps for PCI Express endpoints and legacy endpoints alone, and the register \
            that has them (Device Capabilities 2) came with version 2 of the capability.",
        source: "Linux, drivers/pci/pci.c, pci_enable_atomic_ops_to_root; PCIe base specification 7.5.3.15",
    }

    /// The device itself does not complete AtomicOps of this width.
    AtomicsDevice = "VD-ATM-003" {
        severity: Warning,
        explanation: "VFIO names a width only when the function itself completes it (Device Capabilities 2, bits 7 to \
            9), although a function that only sends AtomicOps would not have to. For a virtual function its \
            physical one is looked at. Nothing in the guest mends it.",
        source: "Linux, drivers/vfio/pci/vfio_pci_core.c, vfio_pci_info_atomic_cap",
    }

    /// The host's root port does not complete AtomicOps of this width.
    AtomicsRootPort = "VD-ATM-004" {
        severity: Warning,
        explanation: "AtomicOps to memory end at the root port, which must complete the width (Device Capabilities 2, \
            bits 7 to 9). Some firmware has a setting for it; otherwise another slot may have another root \
            port.",
        source: "Linux, drivers/pci/pci.c, pci_enable_atomic_ops_to_root",
    }

    /// A switch port of the host does not route AtomicOps.
    AtomicsUnrouted = "VD-ATM-005" {
        severity: Warning,
        explanation: "Each port of a switch between device and root port must route AtomicOps (Device Capabilities 2, \
            bit 6). Use a slot without that switch.",
        source: "Linux, drivers/pci/pci.c, pci_enable_atomic_ops_to_root",
    }

    /// A switch port of the host blocks AtomicOps.
    AtomicsBlocked = "VD-ATM-006" {
        severity: Warning,
        explanation: "An upstream port with AtomicOp egress blocking (Device Control 2, bit 7) sends none on to the root \
            port. Firmware or an administrator set it; variantd never writes it.",
        source: "Linux, drivers/pci/pci.c, pci_enable_atomic_ops_to_root",
    }

    /// The device is integrated into the host's root complex.
    AtomicsIntegrated = "VD-ATM-007" {
        severity: Warning,
        explanation: "An endpoint of the root complex has no root port that could be asked. Linux before 7.1 took it for \
            granted that such a device has AtomicOps; since then, and in stable kernels down to 5.15 since \
            June 2026, it has none.",
        source: "Linux, drivers/pci/pci.c, pci_enable_atomic_ops_to_root; commit 1ae8c4ce1570",
    }

    /// The host shows no root port above the device.
    AtomicsNoRootPort = "VD-ATM-008" {
        severity: Warning,
        explanation: "Above the device is no root port that the host shows, as in many guests and on s390. Linux before \
            7.1 enabled AtomicOps there unseen; since then, and in stable kernels down to 5.15 since June \
            2026, it does not.",
        source: "Linux, drivers/pci/pci.c, pci_enable_atomic_ops_to_root; commit 1ae8c4ce1570",
    }

    /// The host's kernel does not tell QEMU of AtomicOps.
    AtomicsKernel = "VD-ATM-009" {
        severity: Warning,
        explanation: "VFIO tells QEMU of AtomicOps since Linux 6.5 (VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP); with an older \
            kernel QEMU sets no bit on the root port of any guest. Kernels of distributions may have it \
            earlier: --ask-vfio tells.",
        source: "Linux, include/uapi/linux/vfio.h",
    }

    /// VFIO itself was asked for AtomicOps.
    AtomicsVfio = "VD-ATM-010" {
        severity: Note,
        explanation: "With --ask-vfio the device is opened as QEMU would open it, and what VFIO says takes the place of \
            what was computed. Opening resets the device, and the question sets AtomicOp requester enable in \
            it (or in its physical function); the last close puts that back. A device that is in use is left \
            alone.",
        source: "Linux, drivers/vfio/pci/vfio_pci_core.c, vfio_pci_info_atomic_cap",
    }

    /// The target's QEMU passes no AtomicOps on.
    AtomicsQemu = "VD-ATM-011" {
        severity: Warning,
        explanation: "QEMU puts the host's AtomicOp widths on the guest's root port since 8.1; an older one never does.",
        source: "QEMU, hw/vfio/pci.c, vfio_pci_enable_rp_atomics",
    }

    /// The guest sees the device on its root bus.
    AtomicsGuestRootBus = "VD-ATM-012" {
        severity: Warning,
        explanation: "Directly on the root bus, of the machine or of an expander, a device becomes an integrated \
            endpoint, and there is no root port on which QEMU could set AtomicOp widths.",
        source: "QEMU, hw/vfio/pci.c, vfio_pci_enable_rp_atomics",
    }

    /// The guest sees the device behind something that is no root port.
    AtomicsGuestBehind = "VD-ATM-013" {
        severity: Warning,
        explanation: "QEMU sets AtomicOp widths only on a root port directly above the device. Its switch ports neither \
            pass them on nor route AtomicOps.",
        source: "QEMU, hw/vfio/pci.c, vfio_pci_enable_rp_atomics; hw/pci- bridge/xio3130_downstream.c",
    }

    /// The guest does not see the device as function 0 of slot 0.
    AtomicsGuestFunction = "VD-ATM-014" {
        severity: Warning,
        explanation: "QEMU passes AtomicOps on only for slot 0, function 0 of the root port; another slot is not even \
            found by most guests.",
        source: "QEMU, hw/vfio/pci.c, vfio_pci_enable_rp_atomics",
    }

    /// The guest sees the device as one of several functions.
    AtomicsGuestMultifunction = "VD-ATM-015" {
        severity: Warning,
        explanation: "With the multifunction flag, which libvirt also sets by itself where a slot has several functions, \
            QEMU sets no AtomicOp widths: another function could have other ones. A change that takes the \
            widths of all functions was proposed in 2025 and is not in QEMU 11.1.",
        source: "QEMU, hw/vfio/pci.c, vfio_pci_enable_rp_atomics; qemu-devel, February 2026",
    }

    /// The guest's root port has AtomicOps of another device.
    AtomicsGuestPortTaken = "VD-ATM-016" {
        severity: Warning,
        explanation: "QEMU sets AtomicOp widths only on a root port that has none yet. Two devices on one port can never \
            both have them.",
        source: "QEMU, hw/vfio/pci.c, vfio_pci_enable_rp_atomics",
    }

    /// The guest's machine has no PCI Express.
    AtomicsGuestMachine = "VD-ATM-017" {
        severity: Warning,
        explanation: "Machines such as pc (i440FX) have conventional PCI buses, on which a device loses its PCI Express \
            capability. Use q35, or virt on aarch64.",
        source: "QEMU, hw/vfio/pci.c",
    }

    /// It cannot be told where the guest will see the device.
    AtomicsGuestUnknown = "VD-ATM-018" {
        severity: Warning,
        explanation: "The definition gives the device no address, and which one libvirt will choose depends on what it \
            does not say: the machine type, or which of several free ports other devices get first. Give the \
            device an address, or have it completed.",
        source: "libvirt, src/conf/domain_addr.c",
    }

    /// The guest has no free root port for a device that is attached while it runs.
    AtomicsGuestNoPort = "VD-ATM-019" {
        severity: Warning,
        explanation: "libvirt plugs a device into a free port of a running guest and can add none. Define root ports for \
            later beside those that are in use (<controller type='pci' model='pcie-root-port'/>).",
        source: "libvirt, PCI topology and hotplug",
    }

    /// The target's QEMU is newer than what is known of its rules.
    AtomicsQemuNewer = "VD-ATM-020" {
        severity: Warning,
        explanation: "A change that lets several functions of a slot share their AtomicOp widths was under review when \
            this was written, and this QEMU is newer than the newest whose rules are known (11.1).",
        source: "qemu-devel, February 2026",
    }

    /// The guest's driver lacks AtomicOps that it needs.
    AtomicsLacking = "VD-ATM-021" {
        severity: Warning,
        explanation: "The recipe requires AtomicOps that the guest's root port will not have. 'variantctl atomics' shows \
            which rule fails for each width, where, and what mends it.",
        source: "the recipe's [atomics]",
    }

    /// The guest's driver lacks AtomicOps that it works better with.
    AtomicsMissed = "VD-ATM-022" {
        severity: Warning,
        explanation: "The recipe prefers AtomicOps that the guest's root port will not have; the guest's driver works \
            without them.",
        source: "the recipe's [atomics]",
    }

    /// The guest's driver has its atomic operations by other means.
    AtomicsOtherwise = "VD-ATM-023" {
        severity: Note,
        explanation: "The driver does not look at PCI Express AtomicOps to the root port: AMD's virtual functions are \
            told by the host's driver, accelerators in the processor's package and Grace GPUs have a coherent \
            link of their own. What the device advertises is then a finding, and not a fault.",
        source: "the recipe's [atomics]",
    }

    /// It cannot be told whether the guest's driver gets its AtomicOps.
    AtomicsUndecided = "VD-ATM-024" {
        severity: Warning,
        explanation: "Something that decides could not be seen; the reasons for each width name it. Nothing is guessed, \
            and no start is refused for it.",
        source: "VD-ATM-001, VD-ATM-018",
    }

    /// The host's root port routes no AtomicOps between devices.
    AtomicsPeerHost = "VD-ATM-031" {
        severity: Note,
        explanation: "On a root port AtomicOp routing (Device Capabilities 2, bit 6) is about traffic between devices \
            below different root ports, and optional. AtomicOps to memory do not need it.",
        source: "PCIe base specification 6.15",
    }

    /// The guest's ports route no AtomicOps between devices.
    AtomicsPeerGuest = "VD-ATM-032" {
        severity: Note,
        explanation: "QEMU's root ports and switch ports never advertise AtomicOp routing, whatever the host's do: a \
            guest's driver cannot send AtomicOps from device to device.",
        source: "QEMU, hw/pci-bridge/xio3130_upstream.c and xio3130_downstream.c",
    }

    /// Relaxed ordering on the way of the device.
    AtomicsOrdering = "VD-ATM-033" {
        severity: Note,
        explanation: "Relaxed ordering is the device's own switch (Device Control, bit 4), which the guest may change. \
            'No RO-enabled PR-PR passing' (Device Capabilities 2, bit 10) says that a port never lets relaxed \
            writes between devices overtake others. Both are reported and left alone.",
        source: "PCIe base specification 2.4.1 and 7.5.3.15",
    }

    /// The device may send AtomicOps now.
    AtomicsRequester = "VD-ATM-034" {
        severity: Note,
        explanation: "AtomicOp requester enable (Device Control 2, bit 6) is set by whoever used the device last, or \
            uses it now. VFIO sets it when QEMU asks for widths, and the guest may set and clear it.",
        source: "Linux, drivers/pci/pci.c, pci_enable_atomic_ops_to_root",
    }

    /// Access control sends traffic between devices up to the root port.
    AtomicsAccessControl = "VD-ATM-035" {
        severity: Note,
        explanation: "Access Control Services that redirect requests send traffic between devices up to the root port, \
            where the IOMMU sees it: good for isolation, slow for peer to peer, and AtomicOps between devices \
            then need a root port that routes them. It is reported and left alone.",
        source: "PCIe base specification 6.12; Linux, drivers/pci/pci.c (pci_acs_init)",
    }

    /// A guest that runs may not see AtomicOps of a device that is attached.
    AtomicsHotplug = "VD-ATM-036" {
        severity: Warning,
        explanation: "QEMU sets a root port's widths when a device is plugged in and clears them when it leaves. A \
            guest's driver that read the port earlier may act on what it read. And where an attach fails \
            half-way, QEMU 10.0 leaves the widths on the port until it is gone, so that the next device there \
            gets none.",
        source: "QEMU, hw/vfio/pci.c, vfio_pci_enable_rp_atomics and vfio_exitfn",
    }

    /// A port blocks AtomicOps in a direction that the kernel does not look at.
    AtomicsPeerBlocked = "VD-ATM-037" {
        severity: Note,
        explanation: "AtomicOp egress blocking on a root port or downstream port stops AtomicOps that go down to a \
            device, not those that it sends to memory.",
        source: "PCIe base specification 6.15; Linux, drivers/pci/pci.c, pci_enable_atomic_ops_to_root",
    }

    /// The hostdev does not name the driver it needs.
    DriverMissing = "VD-DRV-001" {
        severity: Missing,
        explanation: "libvirt since 10.0 picks the VFIO variant driver by /lib/modules/RELEASE/modules.alias, and falls \
            back to plain vfio-pci where that file is not found. <driver model> names the driver, so that \
            libvirt uses it or says why not.",
        source: "libvirt, src/util/virpci.c",
    }

    /// libvirt would use another driver than the recipe needs.
    DriverWrong = "VD-DRV-002" {
        severity: Refusal,
        explanation: "The definition makes libvirt put the device on another driver than its recipe needs: by <driver \
            model>, or by managed='yes' with a libvirt before 10.0, which knows plain vfio-pci alone. The \
            guest would see a GPU without its memory.",
        source: "libvirt 10.0 release notes; src/util/virhostdev.c",
    }

    /// The host's generic-initiator nodes of a device cannot be told.
    InitiatorsUnknown = "VD-NUM-001" {
        severity: Refusal,
        explanation: "The kernel does not tell which generic-initiator nodes belong to which device: it only prints the \
            handle. SRAT tells (root only); otherwise numa_node and distances, where they leave no choice that \
            matters. Anything else would be a guess, and could describe another GPU's memory.",
        source: "Linux, drivers/acpi/numa/srat.c",
    }

    /// The host's distance table misses a pair.
    DistanceMissing = "VD-NUM-002" {
        severity: Refusal,
        explanation: "The guest's distance table is projected from the host's, and a pair is missing there. A recipe may \
            name distances for this case.",
        source: "Linux, /sys/devices/system/node/nodeN/distance; ACPI 6.5, 5.2.17",
    }

    /// More NUMA cells than QEMU takes.
    TooManyCells = "VD-NUM-003" {
        severity: Refusal,
        explanation: "QEMU takes 128 NUMA nodes.",
        source: "QEMU, MAX_NODES",
    }

    /// The guest lacks generic-initiator cells of a device.
    CellsMissing = "VD-NUM-004" {
        severity: Missing,
        explanation: "NVIDIA's driver in a Grace guest puts GPU memory into NUMA nodes of its own: one for the GPU and \
            one for each of seven MIG instances. The guest needs cells without CPUs and memory for them.",
        source: "NVIDIA open-gpu-kernel-modules; A. Williamson on qemu-devel, 2023",
    }

    /// The hostdev's nodeset is missing.
    NodesetMissing = "VD-NUM-005" {
        severity: Missing,
        explanation: "<acpi nodeset> makes QEMU write a Generic Initiator Affinity Structure per node into SRAT; without \
            it the driver reports that it cannot get coherent link information.",
        source: "ACPI 6.5, 5.2.16.6; QEMU, acpi-generic-initiator",
    }

    /// The hostdev's nodeset names cells that cannot be its initiators.
    NodesetWrong = "VD-NUM-006" {
        severity: Refusal,
        explanation: "The nodeset names cells that do not exist, have CPUs or memory, are another device's, or are too \
            few. libvirt accepts most of these; QEMU exits at start, or the guest's driver misbehaves.",
        source: "run with libvirt 12.8 and QEMU 11.1",
    }

    /// Distances between cells are missing.
    CellDistanceMissing = "VD-NUM-007" {
        severity: Missing,
        explanation: "Without distances for all pairs QEMU writes no SLIT, or libvirt fills in 20. A guest then takes \
            GPU memory for as near as any other.",
        source: "QEMU, hw/core/numa.c",
    }

    /// A cell is bound to no host node, so its distances are assumed.
    CellUnbound = "VD-NUM-008" {
        severity: Warning,
        explanation: "A cell with CPUs that is bound to no single host node has no true distance to a GPU. Bind it with \
            <numatune><memnode cellid='N' nodeset='M'/> (or <memory nodeset>), or its processors with \
            <vcpupin> or <vcpu cpuset>, to get the host's distance; until then the nearest socket's is taken, \
            and distances that the definition has are not compared.",
        source: "libvirt, NUMA tuning and CPU tuning",
    }

    /// The guest has more nodes than an arm64 kernel with its default configuration takes.
    GuestNodeLimit = "VD-NUM-009" {
        severity: Warning,
        explanation: "arm64 kernels take 16 NUMA nodes by default (CONFIG_NODES_SHIFT=4); more are ignored with 'Too \
            many proximity domains'. Two GPUs need 17.",
        source: "Linux, arch/arm64/Kconfig",
    }

    /// The definition gives QEMU NUMA, initiator or window arguments of its own.
    CommandLineTaken = "VD-NUM-010" {
        severity: Refusal,
        explanation: "The definition has nodes or initiators in <qemu:commandline>, and they are not all that a device \
            needs. What is missing cannot be added beside them: QEMU takes each node once, and initiators of \
            two kinds give the guest's driver memory nodes that it does not expect. Complete ones are left \
            alone. For a libvirt that has no elements for them, the agent's go there, too, and a '-numa' of \
            the user's would contradict them.",
        source: "QEMU, hw/core/numa.c, hw/acpi/pci.c",
    }

    /// Two hostdevs name the same initiator cell.
    NodesetOverlap = "VD-NUM-011" {
        severity: Refusal,
        explanation: "A cell without CPUs and memory stands for the memory of one device. If two hostdevs name it, both \
            drivers in the guest put memory into one node.",
        source: "ACPI 6.5, 5.2.16.6; NVIDIA open-gpu-kernel-modules takes every matching node",
    }

    /// The distances between cells make no table.
    DistanceInvalid = "VD-NUM-012" {
        severity: Refusal,
        explanation: "ACPI's SLIT has 10 for a node itself and more for any other; Linux drops a table that says \
            otherwise as a whole. QEMU takes one direction for both only as long as no pair differs.",
        source: "ACPI 6.5, 5.2.17; Linux, drivers/acpi/numa/srat.c (slit_valid); QEMU, hw/core/numa.c",
    }

    /// A device with initiators must not be hot-unplugged.
    UnplugDangerous = "VD-NUM-013" {
        severity: Warning,
        explanation: "QEMU rebuilds its ACPI tables at each guest reset, and exits with status 1 when the device that a \
            generic initiator names is gone. So after a hot-unplug the guest dies at its next reboot, unless \
            the initiator objects are deleted too; the agent does that as soon as libvirt says that the device \
            is gone, and gives the device back. A device that is plugged in again has no initiators until the \
            guest is started anew.",
        source: "reproduced with QEMU 11.1.2",
    }

    /// The definition gives QEMU a device's initiators itself, and they are complete.
    InitiatorsGiven = "VD-NUM-014" {
        severity: Note,
        explanation: "Each initiator of the device is in <qemu:commandline>, in a node of its own without CPUs and \
            memory, as many as its driver needs. So the guest is taken as its author wrote it: nodes, root \
            port, expander bus, SMMUv3 and driver of the device are not touched, and it starts. Only the MMIO \
            window is checked, and added where there is none.",
        source: "QEMU, hw/acpi/pci.c, hw/core/numa.c",
    }

    /// A device was hot-unplugged, and its initiators are still there.
    InitiatorsStale = "VD-ATM-041" {
        severity: Warning,
        explanation: "A device was hot-unplugged, and the agent could not delete its initiator objects in QEMU \
            (VD-NUM-013), so QEMU exits at the guest's next reset. The message has the command that deletes \
            them; a guest that is shut down and started again has none left.",
        source: "reproduced with QEMU 11.1.2",
    }

    /// An expander bus has no SMMUv3 in front of it.
    SmmuMissing = "VD-IOM-001" {
        severity: Missing,
        explanation: "With an accelerated SMMUv3 the guest's translation tables are used by the host's SMMU as they are \
            (nested translation), which address translation services of the GPU need. KubeVirt gives each GPU \
            one, Kata one per physical SMMU: the recipe's [expander] chooses.",
        source: "QEMU 11.0, arm-smmuv3 'accel'; libvirt 12.7, <iommu><driver pciBus accel>",
    }

    /// The guest gets no SMMUv3.
    SmmuLeftOut = "VD-IOM-002" {
        severity: Warning,
        explanation: "The recipe would give the guest an accelerated SMMUv3, and versions, host or guest cannot have it; \
            the note says which. Without one the GPU still works, with its DMA mapped by the host alone. The \
            recipe's [smmu] need = \"require\" makes this a refusal.",
        source: "libvirt 12.7 (accel), 12.1 (iommufd); QEMU 11.0; Linux, CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV",
    }

    /// An SMMUv3's attributes are assumed, not the host's.
    SmmuAssumed = "VD-IOM-003" {
        severity: Warning,
        explanation: "A QEMU before 11.1 does not take ATS, range invalidation, SubstreamID size and output address size \
            from the host's SMMU, and the kernel shows them only to the owner of the device \
            (IOMMU_GET_HW_INFO). So the recipe's values are used; where the host has less, QEMU says so at \
            start and exits.",
        source: "QEMU 11.1, hw/arm/smmuv3-accel.c",
    }

    /// An SMMUv3 is in front of a bus that can have none.
    SmmuWrongBus = "VD-IOM-004" {
        severity: Refusal,
        explanation: "An SMMUv3 can be in front of the guest's root bus or an expander bus, not of a root port. libvirt \
            accepts a root port and QEMU exits at start.",
        source: "QEMU 11.1, arm-smmuv3 'primary-bus'; run",
    }

    /// Two SMMUv3 are in front of one bus.
    SmmuTwice = "VD-IOM-005" {
        severity: Refusal,
        explanation: "One bus has one IOMMU: QEMU exits when a second SMMUv3 names the same bus, or when one is for the \
            machine and another for its root bus.",
        source: "QEMU 11.1, hw/arm/smmu-common.c; run",
    }

    /// A host device is behind an SMMUv3 without acceleration.
    SmmuIdle = "VD-IOM-006" {
        severity: Refusal,
        explanation: "QEMU's SMMUv3 tells nobody when the guest maps a page, and VFIO must know to map it in the host. \
            So a host device behind one that is not accelerated fails at start ('requires iommu MAP \
            notifier').",
        source: "QEMU, hw/arm/smmuv3.c, smmuv3_notify_flag_changed",
    }

    /// Host devices do not go through iommufd.
    IommufdMissing = "VD-IOM-007" {
        severity: Missing,
        explanation: "An accelerated SMMUv3 nests its tables through iommufd; with the older VFIO container QEMU exits \
            at start, and libvirt does not check it. <driver iommufd='yes'/> is for one hostdev (libvirt \
            12.1), <iommufd enabled='yes'/> for all host devices of a domain (12.2); one of the two is enough.",
        source: "libvirt 12.2 release notes; QEMU 11.1",
    }

    /// Host devices cannot go through iommufd.
    IommufdLeftOut = "VD-IOM-008" {
        severity: Warning,
        explanation: "Something needs iommufd for host devices, and libvirt (before 12.1) or the host's kernel (no \
            /dev/iommu) has none, or the definition says iommufd='no'. Debian's kernels are built without it.",
        source: "Linux, drivers/iommu/iommufd; libvirt 12.1 release notes",
    }

    /// Command queues are asked for, and the guest's memory is not in huge pages.
    CommandQueues = "VD-IOM-009" {
        severity: Warning,
        explanation: "A recipe with smmu.cmdqv = true gives the guest's SMMUv3 the command queues of Tegra241 (Grace), \
            which the hardware reads from guest memory as one contiguous range: only huge pages are that.",
        source: "NVIDIA's fork of KubeVirt requires them; Linux, drivers/iommu/arm/arm-smmu-v3/tegra241-cmdqv.c",
    }

    /// The 64-bit MMIO window is not set.
    WindowMissing = "VD-MEM-001" {
        severity: Missing,
        explanation: "GPU memory appears in a BAR of 128 to 512 GiB. Arm's virt machine has a 64-bit MMIO window of 512 \
            GiB unless told otherwise, and a guest cannot place what does not fit.",
        source: "QEMU, hw/arm/virt.c, highmem-mmio-size",
    }

    /// The 64-bit MMIO window is too small or no power of two.
    WindowWrong = "VD-MEM-002" {
        severity: Refusal,
        explanation: "The window must be a power of two of at least 512 GiB, and hold the BARs of all devices. libvirt \
            does not check; QEMU exits, or drops the window without a word. A value of yours is never changed.",
        source: "QEMU, hw/arm/virt.c",
    }

    /// The 64-bit MMIO window does not fit the guest's address width.
    WindowTooWide = "VD-MEM-003" {
        severity: Refusal,
        explanation: "QEMU places the 64-bit window of 'virt' at a multiple of its own size and drops it without a word \
            when it does not fit the CPU's physical addresses; on q35 it exits. The guest then cannot place \
            its BARs.",
        source: "QEMU, hw/arm/virt.c (virt_set_high_memmap), hw/i386/pc.c ('phys-bits too low')",
    }

    /// The guest's addresses are too narrow for memory and MMIO window.
    AddressWidthMissing = "VD-MEM-004" {
        severity: Missing,
        explanation: "An x86 CPU model without a width of its own has 40 bits of physical address in QEMU, 1 TiB for \
            memory and BARs together: not enough for several large GPUs, and firmware sizes its window by it. \
            <maxphysaddr mode='passthrough'/> gives the host's.",
        source: "QEMU, target/i386/cpu.h; libvirt 8.7, <maxphysaddr>",
    }

    /// The limit of locked memory is below the guest's memory.
    HardLimit = "VD-MEM-005" {
        severity: Refusal,
        explanation: "VFIO pins all memory of a guest before it starts, and behind a vIOMMU (intel-iommu, amd-iommu, \
            virtio-iommu) once for each host device, since each has an address space of its own. Each NVMe \
            disk and each vDPA device locks all of it once more. <memtune><hard_limit> is also the limit of \
            locked memory, and libvirt computes one, with 1 GiB for MMIO, only when it is not set.",
        source: "libvirt, qemu_domain.c (qemuDomainGetMemLockLimitBytes)",
    }

    /// All of the guest's memory is locked on the host.
    MemoryLocked = "VD-MEM-006" {
        severity: Note,
        explanation: "A host device can reach all of the guest's memory, so all of it is allocated and locked at start, \
            and overcommitment, ballooning and swap do not help. Without a vIOMMU all devices share one \
            address space and memory counts once, with iommufd as well; a vIOMMU gives each device its own, so \
            memory counts once for each. An accelerated SMMUv3 shares one. Each NVMe disk and each vDPA device \
            locks all of it once more. libvirt computes a limit from its own elements; it does not see a \
            vIOMMU or device in <qemu:commandline>, and before 9.2 it counts NVMe disks together with the host \
            devices. Where its limit is too low, set <memtune><hard_limit>.",
        source: "Linux, VFIO documentation; QEMU, hw/vfio; libvirt, qemu_domain.c (qemuDomainGetMemLockLimitBytes)",
    }

    /// VFIO does not tell a device's regions.
    RegionsUnknown = "VD-REG-001" {
        severity: Warning,
        explanation: "The BARs that hold GPU memory exist only while a VFIO variant driver has the device, and only VFIO \
            tells their sizes (VFIO_DEVICE_GET_REGION_INFO). Asking opens the device, which resets it: so it \
            is done only when somebody asks, as root, and never for a device that is in use. Until then the \
            recipe's table counts. A Grace GPU whose firmware names no memory is not opened at all, because \
            Linux then refuses every Grace GPU until the next boot.",
        source: "Linux, include/uapi/linux/vfio.h and drivers/vfio/pci/nvgrace-gpu/main.c",
    }

    /// The guest cannot migrate.
    NotMigratable = "VD-MIG-001" {
        severity: Note,
        explanation: "A guest with a host device migrates only if the VFIO driver of each can save its state. \
            nvgrace_gpu_vfio_pci and vfio-pci cannot, so 'virsh migrate', 'save' and memory snapshots fail.",
        source: "Linux 7.2, drivers/vfio/pci",
    }

    /// The mark that records what was added is missing or old.
    MarkMissing = "VD-MRK-001" {
        severity: Missing,
        explanation: "The mark in <metadata> records what was added for which device by which recipe, so that it can be \
            checked and taken back.",
        source: "libvirt, custom metadata",
    }

    /// What was added before is for another recipe, host or version.
    MarkOld = "VD-MRK-002" {
        severity: Note,
        explanation: "The mark in the metadata says what a plan was made of, as a digest: what the recipe says of \
            definitions, the host's facts about the devices, what the versions can express. It is another one \
            now, so what was added before is taken back and the definition is completed anew; what its owner \
            changed stays.",
        source: "variantctl(1), revert",
    }

    /// The target's libvirt or QEMU is too old for a piece.
    TargetOld = "VD-TGT-001" {
        severity: Refusal,
        explanation: "This version of libvirt or QEMU cannot express a piece. Generic initiators need QEMU 9.0, and \
            <acpi nodeset> libvirt 11.8.",
        source: "release notes of both",
    }

    /// The recipe does not serve this architecture or machine type.
    TargetMachine = "VD-TGT-002" {
        severity: Refusal,
        explanation: "The recipe does not know what its devices need on this architecture and machine type.",
        source: "the recipe's [[guest]] entries; 'variantctl recipe show NAME'",
    }

    /// The recipe serves this architecture, but no guest driver is known to use it there.
    TargetUnused = "VD-TGT-003" {
        severity: Warning,
        explanation: "The guest gets its generic initiators, but no driver is known that uses them on this architecture.",
        source: "NVIDIA open-gpu-kernel-modules (aarch64 only)",
    }

    /// The versions of libvirt and QEMU are not known.
    TargetUnknown = "VD-TGT-004" {
        severity: Refusal,
        explanation: "A plan is made for versions of libvirt and QEMU, and the agent has not reached libvirt since it \
            started, so it knows neither.",
        source: "variantd",
    }

    /// The definition names another QEMU than the one that was planned for.
    TargetEmulator = "VD-TGT-005" {
        severity: Warning,
        explanation: "libvirt tells the version of the QEMU that it uses by default. A definition with another \
            <emulator> may run on a QEMU that can do less or more; 'variantctl plan --target qemu=...' plans \
            for its version.",
        source: "libvirt, virConnectGetVersion and domain capabilities",
    }

    /// A driver could not be bound.
    BindFailed = "VD-BND-001" {
        severity: Refusal,
        explanation: "The kernel refused to bind the driver; its own error is in the message. The device was put back as \
            it was.",
        source: "Linux, Documentation/ABI/testing/sysfs-bus-pci",
    }

    /// The device is not on the planned driver.
    BindWrongDriver = "VD-BND-002" {
        severity: Refusal,
        explanation: "The guest is about to get the device, and it is not on the driver that its recipe names: another \
            manager changed it meanwhile.",
        source: "/sys/bus/pci/devices/ADDRESS/driver",
    }

    /// The device is in use.
    BindInUse = "VD-BND-003" {
        severity: Refusal,
        explanation: "A process has the device open through VFIO, or NVIDIA's driver counts users of it and does not \
            give its unbindLock. Unbinding it would wait for ever in the kernel, and unplug the device from a \
            guest.",
        source: "Linux, drivers/vfio/vfio_main.c, vfio_unregister_group_dev; NVIDIA open-gpu-kernel-modules, \
            kernel-open/nvidia/nv-procfs.c",
    }

    /// A failed undo left the device in an unknown state.
    BindDegraded = "VD-BND-004" {
        severity: Refusal,
        explanation: "A change failed, and taking it back failed too. No guest gets the device before it is as it was. \
            That is tried again when libvirt releases the guest, when variantd starts and by 'variantctl \
            recover'.",
        source: "variantd.journal(5)",
    }

    /// A process of the host holds the device.
    BindHeld = "VD-BND-005" {
        severity: Refusal,
        explanation: "A process has one of the device's nodes open or mapped (/dev/nvidiaN, /dev/dri, /dev/kfd, \
            /dev/vfio), so taking the device from its driver would wait for ever in the kernel. Nodes that all \
            GPUs of NVIDIA's or AMD's driver share count only where there is one such GPU.",
        source: "/proc/PID/fd and /proc/PID/maps; NVIDIA open-gpu-kernel-modules, kernel-open/nvidia/nv-pci.c \
            (non-zero usage count)",
    }

    /// It cannot be seen who holds the device.
    BindHolderHidden = "VD-BND-006" {
        severity: Refusal,
        explanation: "Looking into other users' processes takes CAP_SYS_PTRACE. A device that may be held is not taken \
            from its driver.",
        source: "proc(5), /proc/PID/fd",
    }

    /// The host uses another function of the IOMMU group.
    BindGroup = "VD-BND-007" {
        severity: Refusal,
        explanation: "Functions of one IOMMU group cannot be kept apart: VFIO takes the group only when none of them is \
            on a driver that does DMA for the host (EPERM). Bridges and unbound functions are harmless; an \
            NVSwitch (class 0680) is no bridge. With allow_group = true, or by hand with 'variantctl bind \
            --allow-group', what the host uses is bound to vfio-pci with the device and given back with it, \
            but for storage and network.",
        source: "Linux, drivers/iommu/iommu.c",
    }

    /// The kernel has no way to reset the device.
    ResetMissing = "VD-BND-008" {
        severity: Refusal,
        explanation: "A device is reset before a guest opens it. Where the kernel has no method (sysfs reset_method), or \
            somebody turned them off, memory of the last guest can reach the next. A recipe with needs_reset = \
            false accepts that.",
        source: "Linux, Documentation/ABI/testing/sysfs-bus-pci; drivers/vfio/pci/vfio_pci_core.c",
    }

    /// The host uses the device's memory as its own.
    BindMemoryOnlined = "VD-BND-009" {
        severity: Refusal,
        explanation: "On Grace NVIDIA's driver gives the GPU's memory to the host as a NUMA node. While something has \
            memory there it cannot be taken back, and the driver does not let go of the device. Where several \
            GPUs are on the driver, its numa_status says whose memory it is.",
        source: "/proc/iomem; NVIDIA open-gpu-kernel-modules, kernel-open/nvidia/nv-procfs.c; OpenNebula's manual \
            for GB200",
    }

    /// The journal of bound devices cannot be read or written.
    JournalFailed = "VD-BND-010" {
        severity: Refusal,
        explanation: "What a guest's devices were bound to is journalled before anything is changed, so that a crash can \
            be taken back. Without the entry nothing is bound; with one that cannot be ended, the domain goes \
            on holding its devices.",
        source: "variantd.journal(5)",
    }

    /// A newer variantd wrote the journal.
    JournalNewer = "VD-BND-011" {
        severity: Refusal,
        explanation: "The entry may say what this version does not know, so it is left alone, and so are its devices: no \
            other guest gets them. All other domains are served.",
        source: "variantd.journal(5)",
    }

    /// The device does not answer.
    BindSilent = "VD-BND-012" {
        severity: Refusal,
        explanation: "All of its config space reads as ones: it is off its bus, without power, or in a failed reset. \
            Binding a driver to it would block or hang up the guest, so it is not touched.",
        source: "PCI Express Base Specification, 2.3.2, completions without a completer",
    }

    /// A service that holds the device could not be stopped.
    ServiceNotStopped = "VD-BND-013" {
        severity: Refusal,
        explanation: "A service that may be stopped ('stop_services' in variantd.conf, or 'bind --stop-services') holds \
            the device and did not end within 15 s, or systemd would stop another unit with it that nobody \
            named. Nothing was bound; what was stopped is started again.",
        source: "org.freedesktop.systemd1(5), StopUnit; systemd.unit(5), Requires=, BindsTo= and PartOf=",
    }

    /// A service that was stopped for a device does not run again.
    ServiceNotStarted = "VD-BND-014" {
        severity: Refusal,
        explanation: "What is stopped for a device is started again when the device is given back, when it was not bound \
            after all, and when variantd starts. systemd could not be asked, or said no. The \
            device's record names the service until it was started.",
        source: "org.freedesktop.systemd1(5), StartUnit",
    }

    /// The driver shows the guest no GPU memory.
    MemoryNotShown = "VD-BND-015" {
        severity: Refusal,
        explanation: "nvgrace_gpu_vfio_pci takes the place and size of a GPU's memory from the properties \
            nvidia,gpu-mem-base-pa and nvidia,gpu-mem-size of the firmware. Without them it binds all the \
            same, says nothing, and shows what the device itself has, as vfio-pci does: the guest would run \
            without GPU memory. No table with the property is seen before a device is touched; a property that \
            is missing for one GPU, or 0, only by opening it (verify = \"regions\" in variantd.conf), and \
            Linux 7.2 then refuses every Grace GPU until the next boot.",
        source: "Linux, drivers/vfio/pci/nvgrace-gpu/main.c (nvgrace_gpu_fetch_memory_property)",
    }

    /// The device is being bound or released by hand.
    DeviceBusy = "VD-BND-020" {
        severity: Refusal,
        explanation: "This device is being worked on by 'variantctl bind', 'release' or 'recover', or by the reservation \
            at boot: one at a time, and no guest starts with it meanwhile. A bind takes up to 40 s, or what \
            its recipe says.",
        source: "variantctl(1); variantd.recipe(5), bind_seconds",
    }

    /// Another device is at a reserved address.
    ReservedOther = "VD-BND-021" {
        severity: Refusal,
        explanation: "A reservation names a device by its address, with the vendor and device id beside it. PCI \
            addresses move when cards or firmware settings change, so a device with another id at that address \
            is left alone.",
        source: "variantctl(1), reserve",
    }

    /// No driver is known for the device.
    DriverUnknown = "VD-BND-022" {
        severity: Refusal,
        explanation: "The driver of a device is what its recipe names, and no recipe covers this one. A recipe may be \
            extended by [[device]] in variantd.conf.",
        source: "variantctl(1), bind; variantd.recipe(5)",
    }

    /// The GPU was not ready in time.
    BindNotReady = "VD-BND-030" {
        severity: Refusal,
        explanation: "The driver waits 30 s for the GPU's link and memory, or as long as a part that is attached by CXL \
            says (up to 256 s), and this one did not come up. The device was put back as it was; after a reset \
            it may need longer than the driver waits.",
        source: "Linux, drivers/vfio/pci/nvgrace-gpu/main.c",
    }

    /// The kernel has not come back from a write.
    BindStuck = "VD-BND-031" {
        severity: Refusal,
        explanation: "A write that binds or unbinds waits in the kernel for the device: for its driver, for who has it \
            open, or for a change that somebody else makes. It cannot be taken back, so nothing else is \
            written to this device until it has ended; other devices are not concerned.",
        source: "Linux, drivers/base/dd.c",
    }

    /// A module has not been loaded in time.
    ModuleStuck = "VD-BND-032" {
        severity: Refusal,
        explanation: "modprobe loads a driver's module before a device is bound, in a process of its own, and has not \
            ended within 30 s: the module's own start, an 'install' command in modprobe.d, or another module \
            that is being loaded keeps it. Nothing was bound. The same module is not asked for again until \
            that process has ended; the guest, and all others, can be started then.",
        source: "modprobe.d(5); Linux, kernel/module/main.c",
    }

    /// The driver is not one that the device may be bound to.
    DriverRefused = "VD-BND-033" {
        severity: Refusal,
        explanation: "Loading a driver's module runs its code in the kernel, and an override makes any driver probe any \
            device. So a device is bound only to vfio-pci, to a driver that a recipe or variantd.conf names, \
            to one that modules.alias of the running kernel lists for this device, or to the one that it is or \
            was on. Nothing was loaded.",
        source: "variantd.recipe(5); modules.alias of depmod(8)",
    }

    /// The device is given back, without the driver that it had before.
    LeftWithoutDriver = "VD-BND-034" {
        severity: Refusal,
        explanation: "The driver that the device was on before does not have it any more: its module is not there (its \
            package was removed, or another kernel runs), it does not load, or, where 'variantctl recover' \
            asked for it, it refuses the device. The device is released all the same: it is on no driver, its \
            override is cleared, and every guest can have it. A driver that is loaded later takes it by \
            itself.",
        source: "variantd.journal(5); Linux, Documentation/ABI/testing/sysfs-bus-pci",
    }

    /// The agent has not answered libvirt's hook in time.
    HookLate = "VD-BND-045" {
        severity: Refusal,
        explanation: "While it works on a guest's start, the agent tells libvirt's hook every 3 s that it goes on, for as \
            long as the longest bind of the recipes, taking it back and what else may be waited for take. The hook waits \
            20 s for each sign, and 20 s in all at any other operation. The agent goes on, and gives back what a refused \
            start has bound. Where a device needs longer, raise bind_seconds in its recipe.",
        source: "variantd-hook(8); variantd.recipe(5)",
    }

    /// No IOMMU confines the device, and VFIO would give it to a guest all the same.
    DeviceUnconfined = "VD-BND-050" {
        severity: Refusal,
        explanation: "A device that is in no IOMMU group reaches all memory. VFIO gives such a one to nobody, unless \
            enable_unsafe_noiommu_mode is on; then it is not given to a guest by variantd either.",
        source: "drivers/vfio/group.c (vfio_noiommu)",
    }

    /// A prepared definition is over 1 MiB, and the hook cannot check it.
    HookTooLarge = "VD-HOK-001" {
        severity: Refusal,
        explanation: "libvirt gave its hook a definition of over 1 MiB that has variantd's mark somewhere. It is not \
            looked at, so the guest does not start; a guest that runs is left alone. Metadata of other \
            programs may have grown: see 'virsh dumpxml'.",
        source: "variantd-hook(8)",
    }

    /// A prepared definition is no XML that the hook can read.
    HookUnreadable = "VD-HOK-002" {
        severity: Refusal,
        explanation: "What libvirt gave its hook has variantd's mark somewhere, and is no well-formed XML, has a \
            document type, or is nested deeper than libvirt's own parser takes. The guest does not start; one \
            that runs is left alone.",
        source: "variantd-hook(8)",
    }

    /// The agent is of another version than the hook.
    HookForeign = "VD-HOK-003" {
        severity: Refusal,
        explanation: "The hook and the agent come in one package. During an upgrade an agent from before may still run, \
            and know another protocol: a prepared guest waits for the new one, any other starts unchecked.",
        source: "variantd-hook(8)",
    }

    /// The agent ended before it answered the hook.
    HookBroken = "VD-HOK-004" {
        severity: Refusal,
        explanation: "The agent took the hook's call and ended before it answered: it crashed, was killed or restarted. \
            What it had begun is taken back when it starts again; then the guest can be started.",
        source: "'journalctl -u variantd'",
    }

    /// The definition did not arrive on the hook's standard input.
    HookInputMissing = "VD-HOK-005" {
        severity: Refusal,
        explanation: "libvirt sends its hook the guest's definition on standard input. It was empty, closed, or could \
            not be read, for example because memory was short. Whether the guest needs variantd is then \
            unknown, so it does not start; a guest that runs is left alone.",
        source: "variantd-hook(8)",
    }

    /// A signal ended the hook itself.
    HookKilled = "VD-HOK-006" {
        severity: Refusal,
        explanation: "The hook works in a child process, and a signal ended that: the memory, stack or process limit of \
            libvirt's daemon is too small, or somebody killed it. A guest does not start then; one that runs \
            is left alone, and 'systemctl restart variantd' makes the agent look at running guests again.",
        source: "variantd-hook(8)",
    }

    /// The agent cannot be reached.
    AgentUnreachable = "VD-AGT-001" {
        severity: Refusal,
        explanation: "variantd does not answer on the system bus, or the bus has no room for a call of it. A guest that \
            it prepared is not started without it.",
        source: "variantd; 'systemctl status variantd'",
    }

    /// The host cannot be read.
    HostUnreadable = "VD-AGT-002" {
        severity: Refusal,
        explanation: "There is no /sys/bus/pci/devices to read, or it cannot be read.",
        source: "Linux, sysfs",
    }

    /// The IOMMU of the host is off.
    IommuOff = "VD-DOC-001" {
        severity: Failure,
        explanation: "VFIO gives a guest only devices whose DMA an IOMMU confines, and the kernel puts every such device \
            into an IOMMU group. Where no device has one, the IOMMU is off in the firmware or on the kernel's \
            command line.",
        source: "Linux, Documentation/driver-api/vfio.rst; admin-guide/kernel-parameters.txt (intel_iommu, \
            amd_iommu)",
    }

    /// VFIO takes devices without an IOMMU.
    IommuNone = "VD-DOC-002" {
        severity: Warning,
        explanation: "With enable_unsafe_noiommu_mode VFIO offers devices that no IOMMU confines: whoever has one can \
            reach all of the host's memory. No guest of libvirt's needs it.",
        source: "Linux, drivers/vfio/vfio_main.c and group.c",
    }

    /// VFIO takes devices whose interrupts are not isolated.
    InterruptsUnsafe = "VD-DOC-003" {
        severity: Warning,
        explanation: "With allow_unsafe_interrupts a guest's device can send any interrupt message of the host's, so a \
            guest can disturb the host or another guest. It is a way out for old machines without interrupt \
            remapping.",
        source: "Linux, drivers/vfio/vfio_iommu_type1.c",
    }

    /// IOMMU groups are split against what the hardware isolates.
    AcsOverride = "VD-DOC-004" {
        severity: Warning,
        explanation: "pcie_acs_override, a patch that some distributions carry, tells the kernel that ports isolate \
            devices from each other although they do not say so. Devices of such groups can reach each other \
            past the IOMMU.",
        source: "Linux, drivers/pci/quirks.c (ACS); the patch is not in Linux",
    }

    /// libvirt cannot let QEMU lock a guest's memory.
    LockLimit = "VD-DOC-005" {
        severity: Failure,
        explanation: "VFIO locks all of a guest's memory, and libvirt raises QEMU's limit for it at start. Its daemon \
            can do so when it has CAP_SYS_RESOURCE or no limit itself, as the units of distributions have; in \
            a container it often cannot, and the guest's start fails with ENOMEM.",
        source: "libvirt, qemuProcessStart and virProcessSetMaxMemLock; Linux, capabilities(7)",
    }

    /// The host has not the memory that a guest locks.
    GuestMemory = "VD-DOC-006" {
        severity: Failure,
        explanation: "A guest with a host device has all of its memory allocated and locked at start. One that is larger \
            than the host's memory, or asks for more huge pages than are free, does not start.",
        source: "Linux, Documentation/driver- api/vfio.rst and admin-guide/mm/hugetlbpage.rst",
    }

    /// No device of the host is covered by a recipe.
    NothingCovered = "VD-DOC-009" {
        severity: Warning,
        explanation: "A recipe lists the PCI ids that it is for, and none of them was found. Either the device is not in \
            this host, or its id is new: [[device]] in variantd.conf adds an id to a recipe.",
        source: "variantd.recipe(5)",
    }

    /// The kernel offers no VFIO driver for the device.
    ModuleMissing = "VD-DOC-010" {
        severity: Failure,
        explanation: "libvirt and variantd look for a VFIO variant driver in modules.alias, where each such driver lists \
            its ids. A kernel that is too old, was built without the driver, or whose index is old has no line \
            for it, and vfio-pci alone shows none of the GPU's memory.",
        source: "libvirt, src/util/virpci.c; Linux, drivers/vfio/pci/nvgrace- gpu/Kconfig (Linux 6.8)",
    }

    /// The file of the device's VFIO driver is gone.
    ModuleFile = "VD-DOC-011" {
        severity: Failure,
        explanation: "The index of modules (modules.dep) names a file that is not there, so modprobe fails when a guest \
            starts, if the driver is not loaded already.",
        source: "modules.dep(5), depmod(8)",
    }

    /// The device's VFIO driver is kept from being loaded.
    ModuleBlocked = "VD-DOC-012" {
        severity: Failure,
        explanation: "A blacklist or install line of modprobe.d, or module_blacklist on the kernel's command line, names \
            the driver's module. libvirt loads it with 'modprobe -b', which heeds a blacklist.",
        source: "modprobe.d(5); Linux, admin- guide/kernel-parameters.txt; libvirt, src/util/virkmod.c",
    }

    /// The device is on no driver, and its override keeps others away.
    OverrideStray = "VD-DOC-013" {
        severity: Warning,
        explanation: "driver_override names a driver that is not loaded, so the device stays without one. variantd \
            writes its own override when a guest starts and restores this one afterwards.",
        source: "Linux, Documentation/ABI/testing/sysfs- bus-pci",
    }

    /// A reserved device is not on its driver.
    ReservedUnbound = "VD-DOC-014" {
        severity: Failure,
        explanation: "A reservation ('variantctl reserve') has the device bound at each boot by \
            variantd-reserve.service. It is on another driver now: the unit has not run, could not bind it, or \
            somebody bound it elsewhere since.",
        source: "variantctl(1), reserve",
    }

    /// The reset of the device is known to fail.
    ResetFault = "VD-DOC-017" {
        severity: Warning,
        explanation: "The device's recipe lists it with a reported fault of its reset. A guest's start and end reset the \
            device, so the fault shows at the second start at the latest.",
        source: "the recipe; 'variantctl recipe show'",
    }

    /// A BAR of the device has no address.
    BarUnset = "VD-DOC-018" {
        severity: Failure,
        explanation: "The firmware, or the kernel after it, found no room in the host's MMIO window for a BAR, so \
            nothing can use the device. Large BARs need a 64-bit window ('Above 4G Decoding').",
        source: "Linux, include/linux/ioport.h (IORESOURCE_UNSET)",
    }

    /// The NUMA node of the device is not known.
    NodeUnknown = "VD-DOC-019" {
        severity: Warning,
        explanation: "The firmware gives the device's root bus no proximity domain (_PXM), so numa_node reads -1 and a \
            guest cannot be placed beside its device.",
        source: "Linux, Documentation/ABI/testing/sysfs-bus-pci; ACPI 6.5, 6.2.14",
    }

    /// libvirt does not answer.
    LibvirtSilent = "VD-DOC-025" {
        severity: Failure,
        explanation: "No daemon of libvirt's listens at qemu:///system or it answers with an error, so no guest can be \
            defined or started, and variantd cannot complete definitions. Or variantctl's own program that \
            asks it (variantd-libvirt) is missing or cannot run; then nothing is known of libvirt. The check \
            says which.",
        source: "libvirt, docs/daemons.rst",
    }

    /// A definition lacks what its device's driver needs.
    DefinitionLacks = "VD-DOC-031" {
        severity: Failure,
        explanation: "What is missing, and why, is shown by 'variantctl plan DOMAIN'; the hook refuses to start the \
            guest until it is there.",
        source: "the codes that the check names",
    }

    /// libvirt's hook is not installed.
    HookMissing = "VD-DOC-040" {
        severity: Failure,
        explanation: "libvirt calls /etc/libvirt/hooks/qemu and what is in qemu.d around a guest's life. Without \
            variantd's hook there a guest starts unchecked, on whatever driver libvirt chooses.",
        source: "libvirt, docs/hooks.rst",
    }

    /// libvirt's hook cannot be executed.
    HookNotExecutable = "VD-DOC-041" {
        severity: Failure,
        explanation: "libvirt passes over a hook that is not executable, with a line in its log alone: guests start \
            unchecked.",
        source: "libvirt, src/util/virhook.c; seen with 12.8",
    }

    /// The running libvirt does not call its hook.
    HookNotCalled = "VD-DOC-042" {
        severity: Failure,
        explanation: "libvirt looks for hooks when its daemon starts (virHookInitialize); where no qemu hook was there \
            then, none is called until the daemon is started again. The hook notes each call in \
            /run/variantd/called: a call since the daemon's start proves it, and a hook that is older than the \
            daemon is trusted. An upgrade of the package, whose hook is newer, keeps what was known before.",
        source: "libvirt, src/util/virhook.c; seen with 12.8",
    }

    /// Another program is in the place of libvirt's hook.
    HookOther = "VD-DOC-043" {
        severity: Failure,
        explanation: "The path of variantd's hook leads to something else, so variantd is not asked about guests. Other \
            hooks belong beside it in qemu.d, where libvirt calls each in turn.",
        source: "libvirt, docs/hooks.rst",
    }

    /// libvirt may not run its hook.
    HookConfined = "VD-DOC-044" {
        severity: Failure,
        explanation: "AppArmor's profile of libvirt's daemon (usr.sbin.libvirtd) lets it run programs of /usr/sbin and \
            /usr/bin and the files below /etc/libvirt/hooks, and a hook elsewhere fails with status 126; so \
            the package puts it into /usr/sbin. Under SELinux the hook runs in the daemon's own domain.",
        source: "libvirt, src/security/apparmor/usr.sbin.libvirtd.in",
    }

    /// The agent is of another version than variantctl.
    AgentVersion = "VD-DOC-046" {
        severity: Warning,
        explanation: "The package was replaced and the agent that runs is the one from before: it is restarted by the \
            package's script where it can be.",
        source: "variantd's debian/postinst",
    }

    /// The bus policy of variantd is missing.
    PolicyMissing = "VD-DOC-047" {
        severity: Failure,
        explanation: "dbus-daemon lets nobody own a name or call it without a policy \
            (/usr/share/dbus-1/system.d/org.variantd1.conf): root alone may change something, everybody may \
            look.",
        source: "dbus-daemon(1)",
    }

    /// Configuration or recipes cannot be read.
    SettingsUnusable = "VD-DOC-048" {
        severity: Failure,
        explanation: "variantd.conf or a file of recipes.d has a mistake; the message names file, line and the nearest \
            key. The agent does not start with it, and when it runs it goes on with what it read before.",
        source: "variantd.conf, variantd.recipe(5)",
    }

    /// A unit of variantd does not start with the host.
    UnitDisabled = "VD-DOC-049" {
        severity: Warning,
        explanation: "variantd.service is started on demand by the bus, but completes definitions unasked only while it \
            runs; variantd-reserve.service binds what is reserved, at boot alone.",
        source: "systemd.unit(5); variantctl(1), reserve",
    }

    /// A job cannot be cancelled any more.
    JobBegun = "VD-AGT-003" {
        severity: Refusal,
        explanation: "A job can be cancelled while it waits: for an answer of polkit, or for its turn. Once it changes a \
            device or a definition it goes on to its end, because a change that is cut off in the middle is \
            worse than one that is finished or taken back.",
        source: "org.variantd1.xml, Job",
    }

    /// There are too many jobs.
    JobsFull = "VD-AGT-004" {
        severity: Refusal,
        explanation: "Each caller may have 8 jobs under way, and all but root 32 together, so that no caller takes the \
            agent's memory; and no user but root may start more than 16 jobs within a minute. Wait for one of \
            them to complete.",
        source: "org.variantd1.xml, StartJob",
    }

    /// A job was cancelled.
    JobCancelled = "VD-AGT-005" {
        severity: Refusal,
        explanation: "Whoever started the job, or root, cancelled it before it changed anything.",
        source: "org.variantd1.xml, Job",
    }

    /// The caller may not do this.
    NotAuthorized = "VD-AGT-006" {
        severity: Refusal,
        explanation: "Looking and planning are open to everybody; what changes something is asked of polkit, by an \
            action for each kind of change: org.variantd1.prepare, bind, bind-in-use and recover. 'pkaction \
            --verbose --action-id ACTION' shows who gets it; a rule below /etc/polkit-1/rules.d grants it \
            without a password. Without polkit only root may change something. libvirt's hook is root's alone.",
        source: "org.variantd1.policy; polkit(8)",
    }

    /// polkit gives no answer.
    AuthoritySilent = "VD-AGT-007" {
        severity: Refusal,
        explanation: "polkit is there, and failed or did not answer in time, so nobody but root is let through.",
        source: "'systemctl status polkit' and its journal",
    }

    /// Too many calls of one user are under way.
    CallsFull = "VD-AGT-010" {
        severity: Refusal,
        explanation: "Each user but root may have 32 calls of the agent with 12 MiB under way, whatever the number of \
            its connections, and all such users together 128 calls with 32 MiB, so that no user takes the \
            agent's memory or keeps others waiting. Wait for answers; StartJob does not wait for its work.",
        source: "org.variantd1(5)",
    }

    /// A call is larger than its method can use.
    CallTooLarge = "VD-AGT-011" {
        severity: Refusal,
        explanation: "The length of each call is looked at before it is read. A call may have 64 KiB, PrepareXml 1 MiB \
            more for its text, and Prepare and StartJob 8 MiB more for a saved plan.",
        source: "org.variantd1(5)",
    }

    /// Too many answers to one user have not been read.
    AnswersUnread = "VD-AGT-012" {
        severity: Refusal,
        explanation: "The message bus keeps an answer until its caller reads it, and counts it as one of the agent's, so \
            answers that nobody reads would keep the agent from answering anybody. Each user but root may \
            leave 8 MiB unread, and less while many users do. A connection whose D-Bus library answers Ping of \
            org.freedesktop.DBus.Peer, as most do by themselves, is known to read; another one has to be \
            closed after 8 MiB of answers, and opened again.",
        source: "org.variantd1(5); dbus-daemon(1), max_incoming_bytes",
    }

    /// A configuration file says something that has no meaning.
    ConfigMistake = "VD-CFG-001" {
        severity: Refusal,
        explanation: "A key is unknown, or a value is not of its kind; the message has file, line and the nearest key. \
            The agent does not start with it, and a reload leaves the old configuration in force. 'variantctl \
            config check' names every mistake in all files.",
        source: "variantd.conf and its comments",
    }

    /// A configuration file cannot be read.
    ConfigUnreadable = "VD-CFG-002" {
        severity: Refusal,
        explanation: "The file or the directory of drop-ins is there and cannot be read, so what it says would be \
            missed.",
        source: "variantctl(1), config",
    }

    /// What a saved plan was made from changed since.
    PlanStale = "VD-PLN-001" {
        severity: Refusal,
        explanation: "A saved plan holds for the definition, host, recipes and versions that it was made from; the \
            message names what is different now. Nothing was changed: read a new plan before it is applied. A \
            plan that was made of a file without root has not seen SRAT, and then the host counts as \
            different.",
        source: "variantctl(1)",
    }

    /// The text is no saved plan, or somebody edited it.
    PlanUnreadable = "VD-PLN-002" {
        severity: Refusal,
        explanation: "The agent applies a plan of its own, and only if the saved one says exactly the same. This one \
            cannot be read, or says something else although it was made from the same definition, host, \
            recipes and versions.",
        source: "variantctl(1)",
    }
}
