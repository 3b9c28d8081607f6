//! The codes, one entry each: severity, meaning in one line (the doc comment), why it is so, and where that is written.

use super::{Entry, Severity};

codes! {
    /// The text is not well-formed XML.
    XmlMalformed = "VD-XML-001" {
        severity: Refusal,
        explanation: "The text cannot be parsed as XML; the message names line and column. Nothing was written.",
        source: "XML 1.0, section 2.1",
    }

    /// The text has a document type declaration.
    XmlDtd = "VD-XML-002" {
        severity: Refusal,
        explanation: "libvirt's definitions have no document type declaration. A declaration could make a parser \
            expand entities or read other files, so variantd refuses a text that has one without parsing it.",
        source: "libvirt, format of domain XML; CWE-611",
    }

    /// The text is larger than 1 MiB, or has more nodes or elements than a domain can have.
    XmlTooLarge = "VD-XML-003" {
        severity: Refusal,
        explanation: "A definition with 128 NUMA cells and all their distances has about 700 KiB. A text of one \
            domain has at most 1 MiB, 131,072 nodes, 256 levels of elements, 256 attributes per element, 1024 cells, \
            1024 hostdevs, 4096 controllers or other devices, and 65,536 processors.",
        source: "QEMU supports 128 NUMA nodes (MAX_NODES)",
    }

    /// The root element is not `<domain>`, or an element that every domain has is missing.
    XmlNoDomain = "VD-XML-004" {
        severity: Refusal,
        explanation: "The text is XML, but not one <domain> with <name> and <devices>. 'virsh dumpxml --inactive' \
            prints the expected form.",
        source: "libvirt, format of domain XML",
    }

    /// An attribute or element text has an invalid value.
    XmlValue = "VD-XML-005" {
        severity: Refusal,
        explanation: "A number, address, size, UUID or list in the definition is invalid, or the ids of its NUMA \
            cells are not 0, 1, 2 and so on. A guess could assign the wrong device, so the definition is refused.",
        source: "libvirt, format of domain XML, src/conf/numa_conf.c",
    }

    /// libvirt dropped an element of the definition.
    XmlDropped = "VD-XML-006" {
        severity: Refusal,
        explanation: "libvirt drops elements that its version does not know, without an error. variantd read the \
            definition back after the define, and elements were missing.",
        source: "seen with libvirt 9.0, 11.3 and 12.8",
    }

    /// The definition changed while variantd prepared it.
    XmlRaced = "VD-XML-007" {
        severity: Refusal,
        explanation: "Another client changed the definition between variantd's read and its define, several times in \
            a row. The concurrent edit is kept.",
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

    /// The machine type does not accept the ACPI table of the definition.
    AcpiTableRefused = "VD-XML-009" {
        severity: Refusal,
        explanation: "QEMU supports -acpitable only on x86: on Arm it reports that the option is not supported for \
            this target and exits. Only QEMU's own objects create an SRAT for 'virt'.",
        source: "QEMU 11.1, system/vl.c; run on aarch64",
    }

    /// The guest lacks an ACPI table that the recipe names.
    AcpiTableMissing = "VD-XML-010" {
        severity: Missing,
        explanation: "A recipe can name ACPI tables ([[acpi_table]]) that the guest's firmware passes to the guest \
            unchanged: as <os><acpi><table type='raw'> since libvirt 11.2, as -acpitable on QEMU's command line \
            before.",
        source: "libvirt, format of domain XML",
    }

    /// The definition has an attribute or element that this libvirt does not know.
    XmlForeign = "VD-XML-011" {
        severity: Warning,
        explanation: "Vendor builds of libvirt have attributes and elements that upstream lacks or names differently: \
            'pasid' and 'ssidSize' of an SMMUv3 (upstream: 'ssidsize', libvirt 12.7), memory of model 'egm'. libvirt \
            drops an unknown attribute without an error, and refuses an unknown model.",
        source: "run with libvirt 12.8; libvirt, format of domains",
    }

    /// The agent completed a definition repeatedly, and it did not stay complete.
    XmlLoop = "VD-XML-012" {
        severity: Refusal,
        explanation: "The agent completes a definition when it is defined, and its own define causes another such \
            event. If another program removes the added elements, or libvirt formats them differently each time, this \
            would never end. After 10 defines within 60 s the agent ignores the domain until its definition changes \
            or a user runs 'variantctl prepare'.",
        source: "variantctl(1), prepare",
    }

    /// variantd may have overwritten another client's change of a definition.
    XmlOverwritten = "VD-XML-013" {
        severity: Warning,
        explanation: "libvirt has no compare-and-define. If another client changes a definition during the \
            milliseconds in which libvirt stores the completed one, that change can be lost. The agent detects it by \
            libvirt's events and writes the change again if it could still read it; here it could not.",
        source: "libvirt, virDomainDefineXMLFlags",
    }

    /// A snapshot of a host cannot be read.
    SnapshotUnreadable = "VD-HST-001" {
        severity: Refusal,
        explanation: "The file does not exist, cannot be read, is not JSON, or has a value that no host can have. A \
            directory with 'sys' is a recorded host; any other path after --host must be a snapshot. 'variantctl \
            snapshot' writes snapshots, and the agent publishes one in /run/variantd/host.json.",
        source: "variantctl(1), snapshot",
    }

    /// A snapshot of a host has a format version that this variantctl does not know.
    SnapshotVersion = "VD-HST-002" {
        severity: Refusal,
        explanation: "The snapshot format has a version number, and each variantctl reads the versions that it knows. \
            Write the snapshot again with a variantctl as old as the one that reads it, or read it with a newer one.",
        source: "variantctl(1), snapshot",
    }

    /// A snapshot of a host is larger than 16 MiB.
    SnapshotTooLarge = "VD-HST-003" {
        severity: Refusal,
        explanation: "A host with 4,096 PCI functions and 1,024 NUMA nodes makes a snapshot of about 7 MiB; \
            variantctl does not read files above 16 MiB.",
        source: "variantctl(1), snapshot",
    }

    /// The kernel of a host lacks the driver that a guest's device needs.
    FleetDriver = "VD-FLT-001" {
        severity: Refusal,
        explanation: "The snapshot has the vfio_pci lines of the host's modules.alias. None of them names the driver, \
            and no device of that host is bound to it. A guest that is moved to that host would not start.",
        source: "variantctl(1), plan",
    }

    /// It is unknown whether the kernel of a host has the driver.
    FleetDriverUnknown = "VD-FLT-002" {
        severity: Warning,
        explanation: "The snapshot has no line of the host's modules.alias: the file was not readable when the \
            snapshot was taken, or the snapshot was taken in a container without /lib/modules.",
        source: "variantctl(1), snapshot",
    }

    /// A guest and a host have different architectures.
    FleetArch = "VD-FLT-003" {
        severity: Refusal,
        explanation: "The snapshot names the architecture of the host. The host would have to emulate a guest of \
            another architecture, and an emulated guest cannot use an assigned GPU.",
        source: "variantctl(1), plan",
    }

    /// The elements that a guest needs differ between hosts.
    FleetSpelling = "VD-FLT-004" {
        severity: Warning,
        explanation: "The elements that this host adds to the definition differ from those of the first host that the \
            guest fits: other pieces, or the same pieces for other versions of libvirt and QEMU, such as elements \
            instead of QEMU arguments. A definition that was completed for one host is completed again for the other; \
            a running guest cannot be moved between them.",
        source: "variantctl(1), plan",
    }

    /// A guest needs another MMIO window on another host.
    FleetWindow = "VD-FLT-005" {
        severity: Warning,
        explanation: "The BARs of the devices of that host need another 64-bit MMIO window. The guest sees the \
            difference, so it cannot be moved while it runs.",
        source: "variantctl(1), plan",
    }

    /// The device of a guest has another driver or other nodes on another host.
    FleetNodes = "VD-FLT-006" {
        severity: Warning,
        explanation: "The device of that host needs another driver, or its generic initiators are other nodes of the \
            host or other cells of the guest. The guest sees other cells; other host nodes change only distances.",
        source: "variantctl(1), plan",
    }

    /// The versions of libvirt and QEMU of a host are unknown.
    FleetVersions = "VD-FLT-007" {
        severity: Warning,
        explanation: "The snapshot has no versions of libvirt and QEMU, so the plan is for the newest tested ones. \
            Set them with 'variantctl snapshot --target libvirt=...,qemu=...'.",
        source: "variantctl(1), snapshot",
    }

    /// The fleet contains no host.
    FleetEmpty = "VD-FLT-008" {
        severity: Refusal,
        explanation: "The list is empty, or the directory has no file whose name ends in '.json'.",
        source: "variantctl(1), plan",
    }

    /// KubeVirt's sidecar has no snapshot of its host.
    KubevirtSnapshot = "VD-KVT-001" {
        severity: Refusal,
        explanation: "The sidecar plans from /run/variantd/host.json of its node. The agent's DaemonSet writes this \
            file and the pod must mount it (hostPath). The file does not exist or has an unknown format version; the \
            message says which.",
        source: "packaging/kubevirt/README.md",
    }

    /// The VMI that KubeVirt passes cannot be read.
    KubevirtVmi = "VD-KVT-002" {
        severity: Refusal,
        explanation: "virt-launcher passes the VirtualMachineInstance as one JSON object together with the domain.",
        source: "KubeVirt, pkg/hooks/v1alpha3/api_v1alpha3.proto",
    }

    /// A domain is near or above the size limit of one program argument.
    KubevirtArgument = "VD-KVT-003" {
        severity: Warning,
        explanation: "KubeVirt's shim passes the domain to a program as one argument, and Linux limits an argument to \
            128 KiB (MAX_ARG_STRLEN). A domain with about 45 NUMA cells and all their distances is larger, and the \
            program does not start (E2BIG, 'argument list too long'). The server form has no such limit.",
        source: "execve(2); packaging/kubevirt/README.md",
    }

    /// KubeVirt wrote some of the elements itself; they are kept.
    KubevirtDone = "VD-KVT-004" {
        severity: Note,
        explanation: "KubeVirt's own Grace support (VEP 199) writes expander buses, generic initiators, an SMMUv3 and \
            an MMIO window for ids that it knows. The sidecar keeps these elements and adds only the missing ones.",
        source: "kubevirt/enhancements, VEP 199",
    }

    /// KubeVirt wrote elements that contradict the host or the recipe.
    KubevirtContradicts = "VD-KVT-005" {
        severity: Refusal,
        explanation: "The elements that KubeVirt's own Grace support wrote differ from what the host's tables or the \
            recipe require; the message has both values. Distances are wrong if a guest has other GPUs than the \
            host's first ones, because KubeVirt counts the host's initiators from its first GPU. Disable KubeVirt's \
            Grace support or this sidecar for the guest.",
        source: "kubevirt/enhancements, VEP 199",
    }

    /// KubeVirt's own types lose some of the added elements.
    KubevirtLossy = "VD-KVT-006" {
        severity: Warning,
        explanation: "The domain of a sidecar goes to libvirt unchanged, and is also parsed into KubeVirt's own \
            types, which lack some elements. If an object of kind Plugin is loaded (VEP 190), the domain is converted \
            to libvirt's Go types and back, which drops name and model of a hostdev's <driver>, ssidsize of an \
            SMMUv3, and variantd's metadata. accel, ats and ril are kept. The sidecar adds missing elements at the \
            next define; elements that are dropped after it do not reach libvirt.",
        source: "kubevirt/enhancements, VEP 190; libvirtxml 1.12002",
    }

    /// KubeVirt calls a hook that this version does not know.
    KubevirtCall = "VD-KVT-007" {
        severity: Refusal,
        explanation: "A plugin's hook (VEP 190) gets the hook point and the type of the domain by name. This version does \
            not know the name in the message: KubeVirt is newer, or the Plugin object names the wrong socket. Nothing was \
            changed.",
        source: "KubeVirt, pkg/hooks/plugins/v1alpha1/api.proto",
    }

    /// The devices that Kubernetes chose for a guest are not known on the node.
    KubevirtDevices = "VD-KVT-008" {
        severity: Refusal,
        explanation: "A device plugin passes the PCI addresses of a guest's devices to virt-launcher in its environment, in \
            a variable PCI_RESOURCE_NAME for each resource. The node hook reads it from the oldest process of the guest's \
            pod. It needs 'hostPID: true', and a deviceName for each device. Devices of a resource claim (DRA) are not \
            supported: reserve them on the node. Nothing was changed, and KubeVirt calls again.",
        source: "KubeVirt, pkg/virt-launcher/virtwrap/device/hostdevice/addresspool.go; packaging/kubevirt/README.md",
    }

    /// The host does not have the device.
    DeviceMissing = "VD-DEV-001" {
        severity: Refusal,
        explanation: "A <hostdev> names a PCI function that this host does not have: the address is wrong, the device \
            was removed, or its address changed at boot.",
        source: "/sys/bus/pci/devices",
    }

    /// A definition assigns one device twice.
    DeviceTwice = "VD-DEV-002" {
        severity: Refusal,
        explanation: "A guest can be assigned a PCI function only once.",
        source: "VFIO opens a device once",
    }

    /// Another domain uses the device.
    DeviceTaken = "VD-DEV-003" {
        severity: Refusal,
        explanation: "Another running domain holds the device. Binding it would unplug it from that guest.",
        source: "Linux, drivers/vfio/vfio_main.c (the REQ event) and QEMU's answer to it",
    }

    /// Another definition assigns the same device.
    DeviceShared = "VD-DEV-004" {
        severity: Warning,
        explanation: "Two definitions may name the same device if their guests run at different times. While the \
            first runs, the start of the second is refused (VD-DEV-003). The same holds for a device in the pool of a \
            network: libvirt assigns an interface of that network any device of the pool that no other interface has.",
        source: "libvirt, src/util/virhostdev.c (active devices); src/network/bridge_driver.c (networkAllocatePort)",
    }

    /// Virtual functions of the device are enabled.
    DeviceHasFunctions = "VD-DEV-005" {
        severity: Refusal,
        explanation: "A physical function whose virtual functions are enabled cannot be bound to a VFIO driver \
            (EBUSY), and disabling them removes them from their users.",
        source: "Linux, drivers/vfio/pci/vfio_pci_core.c (vfio_pci_core_register_device)",
    }

    /// Virtual functions of an assigned device are enabled on this host.
    FunctionsEnabled = "VD-DEV-006" {
        severity: Warning,
        explanation: "A plan, or a check of a recorded host, found virtual functions of a device that a definition \
            assigns. The start is refused while they are enabled (VD-DEV-005).",
        source: "Linux, drivers/vfio/pci/vfio_pci_core.c (vfio_pci_core_register_device)",
    }

    /// A virtual function has an id that a recipe lists for physical functions only.
    FunctionUncovered = "VD-DEV-007" {
        severity: Warning,
        explanation: "Virtual functions of some devices have the id of their physical function: an NVIDIA vGPU is \
            such a function bound to the driver 'nvidia', and is lost when that driver is unbound. A recipe covers \
            only physical functions unless it has functions = \"virtual\" or \"any\".",
        source: "NVIDIA vGPU software, user guide; variantd.recipe(5)",
    }

    /// QEMU arguments or a network's pool assign a device, and variantd does not check it.
    DeviceUnjudged = "VD-DEV-008" {
        severity: Warning,
        explanation: "A '-device vfio-pci' in <qemu:commandline> assigns a host device without libvirt, which neither \
            binds nor places it. variantd counts it as assigned (VD-DEV-002, VD-DEV-003) and does not check it \
            further. Use a <hostdev> to have it completed. An interface of a network with a pool of host devices gets \
            one of them when the guest starts, and libvirt takes its driver from the network's <forward>: it counts \
            as a host device (locked memory), and the message names the pool. Without libvirt (a file, --host) the \
            pool is unknown.",
        source: "libvirt, docs/drvqemu.rst and formatnetwork",
    }

    /// The guest address is not slot 0.
    GuestSlot = "VD-TOP-001" {
        severity: Refusal,
        explanation: "A device behind a root port is found only in slot 0, and NVIDIA's guest driver reads generic \
            initiators only for slot 0, function 0.",
        source: "PCIe base specification 7.3.1; NVIDIA open-gpu-kernel-modules",
    }

    /// The guest address is not function 0.
    GuestFunction = "VD-TOP-002" {
        severity: Refusal,
        explanation: "QEMU passes AtomicOps on only to a device at devfn 0, and NVIDIA's guest driver reads generic \
            initiators only for slot 0, function 0.",
        source: "QEMU, hw/vfio/pci.c, vfio_pci_enable_rp_atomics",
    }

    /// The guest address has the multifunction flag.
    GuestMultifunction = "VD-TOP-003" {
        severity: Refusal,
        explanation: "If the multifunction flag is set, QEMU does not set AtomicOp completer bits on the root port, \
            because another function could support other widths.",
        source: "QEMU, hw/vfio/pci.c, vfio_pci_enable_rp_atomics",
    }

    /// The device is not directly below a root port.
    GuestNotOnRootPort = "VD-TOP-004" {
        severity: Refusal,
        explanation: "A device on the root bus itself becomes an integrated endpoint, and behind a switch QEMU does \
            not pass AtomicOps on: its emulated switches do not route them. Only a pcie-root-port does.",
        source: "QEMU, hw/vfio/pci.c and hw/pci-bridge/xio3130_downstream.c",
    }

    /// Another device shares the root port.
    GuestPortShared = "VD-TOP-005" {
        severity: Refusal,
        explanation: "Two functions on one root port form a multifunction device, and QEMU does not pass AtomicOps on \
            for one.",
        source: "QEMU, hw/vfio/pci.c, vfio_pci_enable_rp_atomics",
    }

    /// The device has no guest address yet.
    GuestNoAddress = "VD-TOP-006" {
        severity: Missing,
        explanation: "The device has no guest address yet. libvirt would choose one; the plan chooses slot 0, \
            function 0 of a separate root port, so that the result is known.",
        source: "libvirt, format of PCI addresses",
    }

    /// The device's root port is not on an expander bus.
    GuestNoExpander = "VD-TOP-007" {
        severity: Warning,
        explanation: "The device has an address in the definition, below a root port on the guest's root bus. The \
            device works there, but the guest sees no NUMA node for it and it can have no SMMUv3, because both belong \
            to an expander bus. libvirt assigns such an address to every device at define, and it cannot be \
            distinguished from an address that a user chose. So the agent moves the device when it completes a \
            definition for the first time, and 'revert' restores the address. Later, and in a file, the address \
            counts as the user's choice, and only '--replace' moves the device.",
        source: "QEMU, pxb-pcie and arm-smmuv3 'primary-bus'; seen with libvirt 12.8",
    }

    /// The guest has no PCI bus number left.
    GuestBusNumbers = "VD-TOP-008" {
        severity: Refusal,
        explanation: "PCI has 256 bus numbers per segment. Each expander bus uses one and each root port on it \
            another; the bus numbers of the guest's own root bus grow upwards and must not reach the lowest expander. \
            Firmware numbers the ports below an expander from its 'busNr' on, also below one that the user wrote, and \
            must not reach the next expander.",
        source: "PCIe base specification 7.3.1; QEMU, hw/pci-bridge/pci_expander_bridge.c ('bus_nr')",
    }

    /// Devices of different groups share one expander bus.
    GuestExpanderShared = "VD-TOP-009" {
        severity: Refusal,
        explanation: "An accelerated SMMUv3 of a guest is backed by one SMMU of the host, so devices behind two SMMUs \
            of the host must not share one expander bus.",
        source: "QEMU 11.1, hw/arm/smmuv3-accel.c",
    }

    /// The guest cell of an expander bus is unknown.
    ExpanderCellUnknown = "VD-TOP-010" {
        severity: Warning,
        explanation: "An expander bus tells the guest which NUMA cell its devices are near. That is the cell whose \
            memory comes from the device's socket (<numatune> with one host node), otherwise the cell whose \
            processors are pinned to it (<vcpupin>, <vcpu cpuset>). If there is neither, variantd does not guess.",
        source: "QEMU, pxb-pcie 'numa_node'",
    }

    /// The root port does not advertise the link of the device's path.
    LinkMissing = "VD-TOP-011" {
        severity: Missing,
        explanation: "QEMU's root ports advertise 16 GT/s and 32 lanes regardless of the device's own link, and \
            libvirt has no element for it. A recipe with placement.link makes the root port advertise the slowest \
            link of the host's path, as NVIDIA's fork of KubeVirt does.",
        source: "QEMU, pcie-root-port 'x-speed' and 'x-width'; libvirt 8.2, <qemu:override>",
    }

    /// The link of the device's path cannot be advertised.
    LinkUnknown = "VD-TOP-012" {
        severity: Warning,
        explanation: "Only root can read config space after its first 64 bytes, where the link capabilities are. \
            variantd does not change a <qemu:override> that the user wrote. The guest sees QEMU's defaults.",
        source: "PCIe base specification 7.5.3.6",
    }

    /// A device is behind a switch as on the host.
    SwitchMirrored = "VD-TOP-013" {
        severity: Warning,
        explanation: "With placement.switch, devices behind one switch of the host are behind one switch in the \
            guest, so that the guest driver sees which devices are near each other. QEMU's switch ports do not route \
            AtomicOps, so such a device gets none; without the key each device has its own root port. NCCL uses GPUDirect \
            between two devices by default only if no host bridge is between them, which in the guest only a common switch \
            shows; the file of 'variantctl topology --nccl' tells it the same without a switch. ROCm needs AtomicOps, so the \
            key is refused for its recipe.",
        source: "QEMU, hw/pci-bridge/xio3130_upstream.c; PCIe base specification 6.15; NCCL, src/graph/paths.cc",
    }

    /// The definition places a device where its recipe would not.
    GuestPlaceKept = "VD-TOP-014" {
        severity: Warning,
        explanation: "The definition places the device where its recipe would not: behind a switch of the guest, on a \
            root bus, or as one of several functions. A recipe requires a root port if it has initiators or \
            atomics.need = \"require\", and a port of the device's own with placement.own_root_port; any other \
            address is the user's choice and is kept. A switch that mirrors the host's shows the guest which devices \
            are near each other, and stops AtomicOps. placement.switch = true accepts it without this note.",
        source: "variantd.recipe(5); QEMU, hw/pci-bridge/xio3130_downstream.c",
    }

    /// Config space on the path of AtomicOps cannot be read.
    AtomicsHidden = "VD-ATM-001" {
        severity: Warning,
        explanation: "The PCI Express capability of a port says whether it completes, routes or blocks AtomicOps. The \
            kernel returns only 64 bytes of config space, without an error, to a reader without CAP_SYS_ADMIN, and \
            capabilities start after these. A removed or powered-down device reads as all ones. Neither means that \
            AtomicOps are not supported: run the command as root, or wake the device.",
        source: "Linux, drivers/pci/pci-sysfs.c (pci_read_config)",
    }

    /// The device is not a PCI Express endpoint with capability version 2.
    AtomicsNoEndpoint = "VD-ATM-002" {
        severity: Warning,
        explanation: "Linux enables AtomicOps only for PCI Express endpoints and legacy endpoints, and the register \
            that describes them (Device Capabilities 2) exists since version 2 of the capability.",
        source: "Linux, drivers/pci/pci.c, pci_enable_atomic_ops_to_root; PCIe base specification 7.5.3.15",
    }

    /// The device itself does not complete AtomicOps of this width.
    AtomicsDevice = "VD-ATM-003" {
        severity: Warning,
        explanation: "VFIO reports a width only if the function itself completes it (Device Capabilities 2, bits 7 to \
            9), although a function that only sends AtomicOps would not need to. For a virtual function VFIO reads \
            its physical function. No change of the guest fixes this.",
        source: "Linux, drivers/vfio/pci/vfio_pci_core.c, vfio_pci_info_atomic_cap",
    }

    /// The host's root port does not complete AtomicOps of this width.
    AtomicsRootPort = "VD-ATM-004" {
        severity: Warning,
        explanation: "AtomicOps to memory end at the root port, which must complete the width (Device Capabilities 2, \
            bits 7 to 9). Some firmware has a setting for it; otherwise try a slot with another root port.",
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
        explanation: "An upstream port with AtomicOp egress blocking (Device Control 2, bit 7) does not forward \
            AtomicOps to the root port. Firmware or an administrator set the bit; variantd never writes it.",
        source: "Linux, drivers/pci/pci.c, pci_enable_atomic_ops_to_root",
    }

    /// The device is integrated into the host's root complex.
    AtomicsIntegrated = "VD-ATM-007" {
        severity: Warning,
        explanation: "An endpoint of the root complex has no root port to check. Linux before 7.1 assumed that such a \
            device has AtomicOps; since 7.1, and in stable kernels down to 5.15 since June 2026, it has none.",
        source: "Linux, drivers/pci/pci.c, pci_enable_atomic_ops_to_root; commit 1ae8c4ce1570",
    }

    /// The host shows no root port above the device.
    AtomicsNoRootPort = "VD-ATM-008" {
        severity: Warning,
        explanation: "The host shows no root port above the device, as in many guests and on s390. Linux before 7.1 \
            enabled AtomicOps there without a check; since 7.1, and in stable kernels down to 5.15 since June 2026, \
            it does not.",
        source: "Linux, drivers/pci/pci.c, pci_enable_atomic_ops_to_root; commit 1ae8c4ce1570",
    }

    /// The host's kernel does not report AtomicOps to QEMU.
    AtomicsKernel = "VD-ATM-009" {
        severity: Warning,
        explanation: "VFIO reports AtomicOps to QEMU since Linux 6.5 (VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP); with an \
            older kernel QEMU sets no bit on the root port of any guest. Kernels of distributions may have it \
            earlier: check with --ask-vfio.",
        source: "Linux, include/uapi/linux/vfio.h",
    }

    /// VFIO itself reported the AtomicOps.
    AtomicsVfio = "VD-ATM-010" {
        severity: Note,
        explanation: "With --ask-vfio variantctl opens the device as QEMU would, and VFIO's answer replaces the \
            computed one. The open resets the device, and the query sets AtomicOp requester enable in it (or in its \
            physical function); the last close restores that bit. A device that is in use is not opened.",
        source: "Linux, drivers/vfio/pci/vfio_pci_core.c, vfio_pci_info_atomic_cap",
    }

    /// The target's QEMU does not pass AtomicOps on.
    AtomicsQemu = "VD-ATM-011" {
        severity: Warning,
        explanation: "QEMU sets the host's AtomicOp widths on the guest's root port since 8.1; older versions never \
            do.",
        source: "QEMU, hw/vfio/pci.c, vfio_pci_enable_rp_atomics",
    }

    /// The guest sees the device on its root bus.
    AtomicsGuestRootBus = "VD-ATM-012" {
        severity: Warning,
        explanation: "Directly on the root bus, of the machine or of an expander, a device becomes an integrated \
            endpoint, and there is no root port on which QEMU could set AtomicOp widths.",
        source: "QEMU, hw/vfio/pci.c, vfio_pci_enable_rp_atomics",
    }

    /// The guest sees the device behind a bridge that is not a root port.
    AtomicsGuestBehind = "VD-ATM-013" {
        severity: Warning,
        explanation: "QEMU sets AtomicOp widths only on a root port directly above the device. Its switch ports neither \
            pass them on nor route AtomicOps.",
        source: "QEMU, hw/vfio/pci.c, vfio_pci_enable_rp_atomics; hw/pci-bridge/xio3130_downstream.c",
    }

    /// The guest does not see the device as function 0 of slot 0.
    AtomicsGuestFunction = "VD-ATM-014" {
        severity: Warning,
        explanation: "QEMU passes AtomicOps on only for slot 0, function 0 of the root port; most guests do not find \
            a device in another slot.",
        source: "QEMU, hw/vfio/pci.c, vfio_pci_enable_rp_atomics",
    }

    /// The guest sees the device as one of several functions.
    AtomicsGuestMultifunction = "VD-ATM-015" {
        severity: Warning,
        explanation: "With the multifunction flag, which libvirt also sets by itself if a slot has several functions, \
            QEMU sets no AtomicOp widths: another function could support other ones. QEMU's maintainer declined a \
            change for several functions. Give the device a root port of its own.",
        source: "QEMU, hw/vfio/pci.c, vfio_pci_enable_rp_atomics; qemu-devel, February 2026",
    }

    /// The guest's root port has the AtomicOps of another device.
    AtomicsGuestPortTaken = "VD-ATM-016" {
        severity: Warning,
        explanation: "QEMU sets AtomicOp widths only on a root port that has none yet, so two devices on one port \
            never both get them.",
        source: "QEMU, hw/vfio/pci.c, vfio_pci_enable_rp_atomics",
    }

    /// The guest's machine has no PCI Express.
    AtomicsGuestMachine = "VD-ATM-017" {
        severity: Warning,
        explanation: "Machines such as pc (i440FX) have conventional PCI buses, on which a device loses its PCI Express \
            capability. Use q35, or virt on aarch64.",
        source: "QEMU, hw/vfio/pci.c",
    }

    /// The guest address of the device cannot be predicted.
    AtomicsGuestUnknown = "VD-ATM-018" {
        severity: Warning,
        explanation: "The definition gives the device no address. The address that libvirt will choose depends on \
            facts that the definition does not have: the machine type, or which of several free ports other devices \
            get first. Give the device an address, or let variantd complete the definition.",
        source: "libvirt, src/conf/domain_addr.c",
    }

    /// The guest has no free root port for a device that is attached while it runs.
    AtomicsGuestNoPort = "VD-ATM-019" {
        severity: Warning,
        explanation: "libvirt plugs a device into a free port of a running guest and cannot add a port. Define spare \
            root ports beside those that are in use (<controller type='pci' model='pcie-root-port'/>).",
        source: "libvirt, PCI topology and hotplug",
    }

    /// The guest's driver lacks AtomicOps that it needs.
    AtomicsLacking = "VD-ATM-021" {
        severity: Warning,
        explanation: "The recipe requires AtomicOps that the guest's root port will not have. 'variantctl atomics' \
            shows for each width which rule fails, where, and the fix.",
        source: "the recipe's [atomics]",
    }

    /// The guest's driver lacks AtomicOps that improve it.
    AtomicsMissed = "VD-ATM-022" {
        severity: Warning,
        explanation: "The recipe prefers AtomicOps that the guest's root port will not have; the guest's driver works \
            without them.",
        source: "the recipe's [atomics]",
    }

    /// The guest's driver does not depend on PCI Express AtomicOps.
    AtomicsOtherwise = "VD-ATM-023" {
        severity: Note,
        explanation: "The driver does not check PCI Express AtomicOps to the root port. AMD's virtual functions get \
            this information from the host driver; accelerators in the processor's package and Grace GPUs have a \
            coherent link of their own. The AtomicOps that the device advertises are then information, not a fault.",
        source: "the recipe's [atomics]",
    }

    /// It is unknown whether the guest's driver gets its AtomicOps.
    AtomicsUndecided = "VD-ATM-024" {
        severity: Warning,
        explanation: "A fact that decides this is unknown; the reasons for each width name it. variantd does not \
            guess, and refuses no start for it.",
        source: "VD-ATM-001, VD-ATM-018",
    }

    /// The host's root port routes no AtomicOps between devices.
    AtomicsPeerHost = "VD-ATM-031" {
        severity: Note,
        explanation: "AtomicOp routing of a root port (Device Capabilities 2, bit 6) is optional and concerns traffic \
            between devices below different root ports. AtomicOps to memory do not need it.",
        source: "PCIe base specification 6.15",
    }

    /// The guest's ports route no AtomicOps between devices.
    AtomicsPeerGuest = "VD-ATM-032" {
        severity: Note,
        explanation: "QEMU's root ports and switch ports never advertise AtomicOp routing, even if the host's ports \
            do: a guest's driver cannot send AtomicOps from device to device.",
        source: "QEMU, hw/pci-bridge/xio3130_upstream.c and xio3130_downstream.c",
    }

    /// Relaxed ordering is set on the path of the device.
    AtomicsOrdering = "VD-ATM-033" {
        severity: Note,
        explanation: "Relaxed ordering is a setting of the device (Device Control, bit 4), which the guest may \
            change. 'No RO-enabled PR-PR passing' (Device Capabilities 2, bit 10) says that a port never lets relaxed \
            writes between devices overtake others. variantd reports both and changes neither.",
        source: "PCIe base specification 2.4.1 and 7.5.3.15",
    }

    /// The device may send AtomicOps at present.
    AtomicsRequester = "VD-ATM-034" {
        severity: Note,
        explanation: "AtomicOp requester enable (Device Control 2, bit 6) is set by the last or the current user of \
            the device. VFIO sets it when QEMU queries the widths, and the guest may set and clear it.",
        source: "Linux, drivers/pci/pci.c, pci_enable_atomic_ops_to_root",
    }

    /// Access control sends traffic between devices up to the root port.
    AtomicsAccessControl = "VD-ATM-035" {
        severity: Note,
        explanation: "Access Control Services that redirect requests send traffic between devices up to the root \
            port, where the IOMMU checks it. This is good for isolation and slow for peer to peer, and AtomicOps \
            between devices then need a root port that routes them. variantd reports the setting and does not change \
            it.",
        source: "PCIe base specification 6.12; Linux, drivers/pci/pci.c (pci_acs_init)",
    }

    /// A running guest may not see the AtomicOps of a device that is attached.
    AtomicsHotplug = "VD-ATM-036" {
        severity: Warning,
        explanation: "QEMU sets a root port's widths when a device is plugged in and clears them when it is removed. \
            A guest driver that read the port earlier may use the earlier value. If an attach fails part way, QEMU \
            10.0 keeps the widths on the port until the port is removed, so the next device there gets none.",
        source: "QEMU, hw/vfio/pci.c, vfio_pci_enable_rp_atomics and vfio_exitfn",
    }

    /// A port blocks AtomicOps in a direction that the kernel does not check.
    AtomicsPeerBlocked = "VD-ATM-037" {
        severity: Note,
        explanation: "AtomicOp egress blocking on a root port or downstream port stops AtomicOps to a device, not \
            AtomicOps from the device to memory.",
        source: "PCIe base specification 6.15; Linux, drivers/pci/pci.c, pci_enable_atomic_ops_to_root",
    }

    /// The hostdev does not name the driver it needs.
    DriverMissing = "VD-DRV-001" {
        severity: Missing,
        explanation: "libvirt since 10.0 selects the VFIO variant driver by /lib/modules/RELEASE/modules.alias, and \
            uses plain vfio-pci if that file is not found. <driver model> names the driver, so that libvirt uses it \
            or reports why it cannot.",
        source: "libvirt, src/util/virpci.c",
    }

    /// libvirt would use another driver than the recipe needs.
    DriverWrong = "VD-DRV-002" {
        severity: Refusal,
        explanation: "The definition makes libvirt bind the device to another driver than its recipe needs: by \
            <driver model>, or by managed='yes' with a libvirt before 10.0, which knows only plain vfio-pci. The \
            guest would see a GPU without its memory.",
        source: "libvirt 10.0 release notes; src/util/virhostdev.c",
    }

    /// The host's generic-initiator nodes of a device are unknown.
    InitiatorsUnknown = "VD-NUM-001" {
        severity: Refusal,
        explanation: "The kernel does not export which generic-initiator nodes belong to which device: it only prints \
            the handle. variantd reads SRAT (root only), otherwise numa_node and distances if they allow only one \
            result that matters. A guess could describe another GPU's memory.",
        source: "Linux, drivers/acpi/numa/srat.c",
    }

    /// The host's distance table lacks a pair.
    DistanceMissing = "VD-NUM-002" {
        severity: Refusal,
        explanation: "variantd computes the guest's distance table from the host's, which lacks a pair. A recipe can \
            name distances for this case.",
        source: "Linux, /sys/devices/system/node/nodeN/distance; ACPI 6.5, 5.2.17",
    }

    /// The guest has more NUMA cells than QEMU supports.
    TooManyCells = "VD-NUM-003" {
        severity: Refusal,
        explanation: "QEMU supports 128 NUMA nodes.",
        source: "QEMU, MAX_NODES",
    }

    /// The guest lacks generic-initiator cells of a device.
    CellsMissing = "VD-NUM-004" {
        severity: Missing,
        explanation: "NVIDIA's driver in a Grace guest puts GPU memory into NUMA nodes of its own: one for the GPU \
            and one for each of seven MIG instances. The guest needs cells without CPUs and memory for them.",
        source: "NVIDIA open-gpu-kernel-modules; A. Williamson on qemu-devel, 2023",
    }

    /// The hostdev's nodeset is missing.
    NodesetMissing = "VD-NUM-005" {
        severity: Missing,
        explanation: "<acpi nodeset> makes QEMU write a Generic Initiator Affinity Structure per node into SRAT; \
            without it the guest driver reports that it cannot get coherent link information.",
        source: "ACPI 6.5, 5.2.16.6; QEMU, acpi-generic-initiator",
    }

    /// The hostdev's nodeset names cells that cannot be its initiators.
    NodesetWrong = "VD-NUM-006" {
        severity: Refusal,
        explanation: "The nodeset names cells that do not exist, have CPUs or memory, belong to another device, or \
            are too few. libvirt accepts most of these; QEMU exits at start, or the guest's driver misbehaves.",
        source: "run with libvirt 12.8 and QEMU 11.1",
    }

    /// Distances between cells are missing.
    CellDistanceMissing = "VD-NUM-007" {
        severity: Missing,
        explanation: "Without distances for all pairs QEMU writes no SLIT, or libvirt fills in 20. A guest then \
            treats GPU memory as near as any other memory.",
        source: "QEMU, hw/core/numa.c",
    }

    /// A cell is not bound to a host node, so its distances are assumed.
    CellUnbound = "VD-NUM-008" {
        severity: Warning,
        explanation: "A cell with CPUs that is not bound to one host node has no true distance to a GPU. Bind it with \
            <numatune><memnode cellid='N' nodeset='M'/> (or <memory nodeset>), or its processors with <vcpupin> or \
            <vcpu cpuset>, to get the host's distance. Until then variantd uses the distance of the nearest socket, \
            and does not compare distances of the definition.",
        source: "libvirt, NUMA tuning and CPU tuning",
    }

    /// The guest has more nodes than an arm64 kernel supports by default.
    GuestNodeLimit = "VD-NUM-009" {
        severity: Warning,
        explanation: "arm64 kernels support 16 NUMA nodes by default (CONFIG_NODES_SHIFT=4); they ignore further \
            nodes with 'Too many proximity domains'. Two GPUs need 17.",
        source: "Linux, arch/arm64/Kconfig",
    }

    /// The definition has its own QEMU arguments for NUMA, initiators or MMIO window.
    CommandLineTaken = "VD-NUM-010" {
        severity: Refusal,
        explanation: "The definition has nodes or initiators in <qemu:commandline>, and they are not all that a \
            device needs. variantd cannot add the missing ones: QEMU accepts each node once, and initiators of two \
            kinds give the guest's driver memory nodes that it does not expect. Complete ones are not changed. For a \
            libvirt without elements for them, the agent writes arguments, too, and a '-numa' of the user would \
            contradict them.",
        source: "QEMU, hw/core/numa.c, hw/acpi/pci.c",
    }

    /// Two hostdevs name the same initiator cell.
    NodesetOverlap = "VD-NUM-011" {
        severity: Refusal,
        explanation: "A cell without CPUs and memory represents the memory of one device. If two hostdevs name it, \
            both drivers in the guest put memory into one node.",
        source: "ACPI 6.5, 5.2.16.6; NVIDIA open-gpu-kernel-modules uses every matching node",
    }

    /// The distances between cells are not a valid table.
    DistanceInvalid = "VD-NUM-012" {
        severity: Refusal,
        explanation: "ACPI's SLIT has 10 for a node itself and more for any other; Linux drops the whole table \
            otherwise. QEMU uses one direction for both only if no pair differs.",
        source: "ACPI 6.5, 5.2.17; Linux, drivers/acpi/numa/srat.c (slit_valid); QEMU, hw/core/numa.c",
    }

    /// A device with initiators must not be hot-unplugged.
    UnplugDangerous = "VD-NUM-013" {
        severity: Warning,
        explanation: "QEMU rebuilds its ACPI tables at each guest reset, and exits with status 1 if the device that a \
            generic initiator names does not exist. So after a hot-unplug the guest ends at its next reboot, unless \
            the initiator objects are deleted too. The agent deletes them and releases the device when libvirt \
            reports that the device is removed. A device that is plugged in again has no initiators until the guest \
            is stopped and started.",
        source: "reproduced with QEMU 11.1.2",
    }

    /// The definition has all initiators of a device as QEMU arguments.
    InitiatorsGiven = "VD-NUM-014" {
        severity: Note,
        explanation: "Each initiator of the device is in <qemu:commandline>, in a node of its own without CPUs and \
            memory, as many as its driver needs. variantd does not change nodes, root port, expander bus, SMMUv3 and \
            driver of the device, and lets the guest start. It checks only the MMIO window, and adds it if it is \
            missing.",
        source: "QEMU, hw/acpi/pci.c, hw/core/numa.c",
    }

    /// The host says that initiators of one device cannot reach each other.
    DistanceLowered = "VD-NUM-015" {
        severity: Note,
        explanation: "The firmware of GH200 hosts gives distance 255 (unreachable) between the generic initiators of \
            one GPU. In the guest that would mean that one part of the GPU's memory cannot be reached from another. \
            The guest gets the recipe's 'lower_unreachable_to' instead.",
        source: "ACPI 6.5, 5.2.17; Linux 63db8170bf34",
    }

    /// A device with initiators is attached to a running guest.
    InitiatorsAtRunTime = "VD-NUM-016" {
        severity: Refusal,
        explanation: "libvirt makes the initiators of a device only when it starts the guest, so a device that is \
            attached to a running guest has none (VD-NUM-013), and its driver finds no nodes for the GPU's memory. \
            Add the device to the definition, and stop and start the guest. Only the transport variantd-connect \
            refuses such a call; over libvirt's own socket it is made.",
        source: "reproduced with QEMU 11.1.2; variantd-connect(8)",
    }

    /// The host has too few free CPUs or too little free memory for the guest's layout.
    LayoutNoRoom = "VD-NUM-017" {
        severity: Refusal,
        explanation: "A layout pins each vCPU to a CPU of its own and binds the memory of each cell to one host node. CPUs that other guests \
            are pinned to, and memory that they bind, are not used. The message has the guest's value, the host's, and the \
            guests that hold the rest.",
        source: "libvirt, CPU tuning and NUMA tuning",
    }

    /// Another guest is pinned to CPUs of the guest's nodes.
    LayoutHeld = "VD-NUM-018" {
        severity: Note,
        explanation: "The layout leaves these CPUs out. A pin to all CPUs of a host node does not count: it leaves the threads to the \
            scheduler.",
        source: "libvirt, CPU tuning",
    }

    /// The guest's memory cannot be in huge pages of its nodes.
    LayoutPages = "VD-NUM-019" {
        severity: Warning,
        explanation: "Each cell needs its memory in free huge pages of one size on its own node. Reserve them per node in \
            /sys/devices/system/node/nodeN/hugepages/hugepages-SIZEkB/nr_hugepages, or at boot. Normal pages work, with more \
            TLB misses and a longer start of a guest with host devices.",
        source: "Linux, Documentation/admin-guide/mm/hugetlbpage.rst",
    }

    /// The cells of the layout have different numbers of vCPUs.
    LayoutUneven = "VD-NUM-020" {
        severity: Note,
        explanation: "The number of vCPUs is not a multiple of the number of cells and of the threads of a core, or a node has fewer free \
            CPUs. The guest's topology then has smaller sockets, so that no socket has CPUs of two cells.",
        source: "Linux, arch/x86/kernel/smpboot.c (topology_sane)",
    }

    /// vCPUs of the layout share a core or a CPU with other threads.
    LayoutShared = "VD-NUM-021" {
        severity: Warning,
        explanation: "No whole core is left: the emulator's threads run on CPUs of vCPUs, or an SMT sibling of a vCPU's CPU belongs to \
            another guest or to the host.",
        source: "libvirt, CPU tuning",
    }

    /// The NUMA node of a device is not known, so the layout has no cell near it.
    LayoutNoNode = "VD-NUM-022" {
        severity: Warning,
        explanation: "The device is not in the host, its numa_node is -1, or two sockets are equally near. The layout places the guest \
            by its other devices.",
        source: "Linux, Documentation/ABI/testing/sysfs-bus-pci (numa_node)",
    }

    /// The definition has a layout of its own.
    LayoutTaken = "VD-NUM-023" {
        severity: Refusal,
        explanation: "A layout is written only into a definition without cells, pins, bindings, topology and page sizes. What the user \
            wrote is never changed. Memory that is EGM regions has the layout of these regions.",
        source: "variantctl(1)",
    }

    /// The definition has pins, bindings or page sizes that libvirt or QEMU refuses.
    BindingInvalid = "VD-NUM-024" {
        severity: Refusal,
        explanation: "A vCPU is pinned only to CPUs that are offline or absent, <memnode> names a cell or a host node that does not \
            exist, a vCPU is in two cells, or the host has no huge pages of the size. The start fails, in part after the \
            devices are bound.",
        source: "libvirt, src/conf/numa_conf.c, src/qemu/qemu_process.c; sched_setaffinity(2)",
    }

    /// The definition's own layout is not that of its devices.
    LocalityWrong = "VD-NUM-025" {
        severity: Warning,
        explanation: "An expander bus names a cell on another host node than its device, all vCPUs are pinned to other nodes than a \
            device's, <memnode> spans sockets, or a pin names CPUs that are not online. The guest runs, and DMA and memory \
            accesses cross sockets.",
        source: "libvirt, NUMA tuning and CPU tuning",
    }

    /// The guest's layout is not that of the host nodes of its devices.
    LayoutMissing = "VD-NUM-026" {
        severity: Missing,
        explanation: "With numa='mirror' in the domain's options, or default = \"mirror\" in [numa] of the recipe, the definition gets cells, \
            memory bindings, pins, processor topology and huge pages of the host nodes of its devices. They stay until the \
            guest's vCPUs or devices or the host's nodes change, and 'revert' removes them.",
        source: "variantd.recipe(5), OPTIONS OF A DOMAIN",
    }

    /// The domain's option for the NUMA layout is set.
    NumaOption = "VD-NUM-027" {
        severity: Note,
        explanation: "With --numa, 'plan', 'prepare' and 'create' write numa='mirror' or numa='keep' into the domain's options in \
            <metadata>. The option stays after 'revert'. 'keep' removes a layout that variantd wrote.",
        source: "variantd.recipe(5), OPTIONS OF A DOMAIN",
    }

    /// The CPUs and huge pages of the host are not known, so its layout cannot be mirrored.
    LayoutUnknown = "VD-NUM-028" {
        severity: Refusal,
        explanation: "A layout needs the online CPUs, cores, caches and huge pages of the host. They are read on the host and from a \
            recorded host ('variantctl record-host'); a snapshot of an older release has none.",
        source: "Linux, Documentation/ABI/stable/sysfs-devices-system-cpu",
    }

    /// A plan without the CPUs and huge pages of the host leaves out the NUMA layout that the options ask for.
    LayoutLeftOut = "VD-NUM-029" {
        severity: Warning,
        explanation: "The other pieces are planned. 'variantctl prepare' on the host writes the layout.",
        source: "variantd.recipe(5), OPTIONS OF A DOMAIN",
    }

    /// A device was hot-unplugged, and its initiators still exist.
    InitiatorsStale = "VD-ATM-041" {
        severity: Warning,
        explanation: "A device was hot-unplugged, and the agent could not delete its initiator objects in QEMU \
            (VD-NUM-013), so QEMU exits at the guest's next reset. The message has the command that deletes them; a \
            guest that is shut down and started again has none left.",
        source: "reproduced with QEMU 11.1.2",
    }

    /// An expander bus has no SMMUv3 in front of it.
    SmmuMissing = "VD-IOM-001" {
        severity: Missing,
        explanation: "With an accelerated SMMUv3 the host's SMMU uses the guest's translation tables directly (nested \
            translation), which address translation services of the GPU need. KubeVirt gives each GPU one, Kata one \
            per physical SMMU: the recipe's [expander] chooses.",
        source: "QEMU 11.0, arm-smmuv3 'accel'; libvirt 12.7, <iommu><driver pciBus accel>",
    }

    /// The guest gets no SMMUv3.
    SmmuLeftOut = "VD-IOM-002" {
        severity: Warning,
        explanation: "The recipe requests an accelerated SMMUv3 for the guest, and the versions, the host or the \
            guest do not support it; the note says which. Without one the GPU still works, and the host alone maps \
            its DMA. NVIDIA's builds (libvirt 11.9, QEMU 10.1) have what upstream has since libvirt 12.7 and QEMU 11.0. \
            The recipe's [smmu] need = \"require\" makes this a refusal.",
        source: "libvirt 12.7 (accel), 12.1 (iommufd); QEMU 11.0; Linux, CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV",
    }

    /// The attributes of an SMMUv3 are assumed, not read from the host.
    SmmuAssumed = "VD-IOM-003" {
        severity: Warning,
        explanation: "A QEMU before 11.1 does not take ATS, range invalidation, SubstreamID size and output address \
            size from the host's SMMU, and the kernel shows them only to the owner of the device (IOMMU_GET_HW_INFO). \
            So variantd uses the recipe's values; if the host supports less, QEMU reports it at start and exits.",
        source: "QEMU 11.1, hw/arm/smmuv3-accel.c",
    }

    /// An SMMUv3 is in front of a bus that does not support one.
    SmmuWrongBus = "VD-IOM-004" {
        severity: Refusal,
        explanation: "An SMMUv3 can be in front of the guest's root bus or an expander bus, not of a root port. \
            libvirt accepts a root port and QEMU exits at start.",
        source: "QEMU 11.1, arm-smmuv3 'primary-bus'; tested",
    }

    /// Two SMMUv3 are in front of one bus.
    SmmuTwice = "VD-IOM-005" {
        severity: Refusal,
        explanation: "One bus has one IOMMU: QEMU exits if a second SMMUv3 names the same bus, or if one is for the \
            machine and another for its root bus.",
        source: "QEMU 11.1, hw/arm/smmu-common.c; tested",
    }

    /// A host device is behind an SMMUv3 without acceleration.
    SmmuIdle = "VD-IOM-006" {
        severity: Refusal,
        explanation: "QEMU's SMMUv3 sends no notification when the guest maps a page, and VFIO needs it to map the \
            page in the host. So a host device behind an SMMUv3 that is not accelerated fails at start ('requires \
            iommu MAP notifier').",
        source: "QEMU, hw/arm/smmuv3.c, smmuv3_notify_flag_changed",
    }

    /// Host devices do not use iommufd.
    IommufdMissing = "VD-IOM-007" {
        severity: Missing,
        explanation: "An accelerated SMMUv3 nests its tables through iommufd; with the older VFIO container QEMU \
            exits at start, and libvirt does not check it. <driver iommufd='yes'/> is for one hostdev (libvirt 12.1), \
            <iommufd enabled='yes'/> for all host devices of a domain (12.2); one of the two is enough.",
        source: "libvirt 12.2 release notes; QEMU 11.1",
    }

    /// Host devices cannot use iommufd.
    IommufdLeftOut = "VD-IOM-008" {
        severity: Warning,
        explanation: "A piece needs iommufd for host devices, but libvirt is older than 12.1, the host's kernel has \
            no /dev/iommu, or the definition has iommufd='no'. Debian's kernels are built without iommufd.",
        source: "Linux, drivers/iommu/iommufd; libvirt 12.1 release notes",
    }

    /// Command queues are requested, and the guest cannot have or use them.
    CommandQueues = "VD-IOM-009" {
        severity: Warning,
        explanation: "smmu.cmdqv = true in the recipe, or cmdqv='on' in the domain's options, gives the guest's SMMUv3 the \
            command queues of Tegra241 (Grace). The host's kernel needs CONFIG_TEGRA241_CMDQV and Linux 6.17, or NVIDIA's \
            backport. The hardware reads the queues from guest memory as one contiguous range, which huge pages and EGM \
            provide.",
        source: "NVIDIA's fork of KubeVirt requires these; Linux, drivers/iommu/arm/arm-smmu-v3/tegra241-cmdqv.c",
    }

    /// libvirt and QEMU do not fit each other in an attribute of an SMMUv3.
    SmmuPair = "VD-IOM-010" {
        severity: Warning,
        explanation: "libvirt writes each attribute of an SMMUv3 as a property with its own name and JSON type. NVIDIA's \
            libvirt 11.9 writes 'pasid', numbers and booleans; QEMU 11.1 has 'ssidsize' and takes strings. QEMU exits at \
            start if a property is missing or has another type. So variantd leaves out what does not fit, and refuses a \
            definition that has it where both packages were asked. Install a libvirt and a QEMU of one vendor and age.",
        source: "libvirt 12.8 with QEMU 11.1, run; NVIDIA's libvirt 11.9, read; 'variantctl plan --target' with a stack",
    }

    /// The guest lacks EGM memory.
    EgmMissing = "VD-EGM-001" {
        severity: Missing,
        explanation: "With EGM (Extended GPU Memory) firmware keeps most of the host's memory from Linux, and a region of it \
            becomes the memory of a cell of one guest: <memory model='egm'> for each GPU of the region. It is off by default; \
            need in [egm] of the recipe, or egm='on' in the domain's options, asks for it.",
        source: "NVIDIA's libvirt 11.9 and QEMU 10.1 (acpi-egm-memory), read; variantd.recipe(5)",
    }

    /// The guest cannot have EGM memory.
    EgmLeftOut = "VD-EGM-002" {
        severity: Warning,
        explanation: "EGM needs NVIDIA's libvirt (11.9.0+nvidia2 or newer), NVIDIA's QEMU (10.1.0+nvidia, or 11.0.0+nvidia3 and \
            newer), a kernel with nvgrace_egm (Ubuntu's linux-nvidia 6.17 and 7.0), and EGM enabled in the firmware. QEMU's \
            arguments cannot take libvirt's place: libvirt writes a memory backend for each cell, and QEMU refuses a second one \
            for the same node. A recipe with need = \"require\" and the domain's option refuse the guest; need = \"prefer\" \
            leaves EGM out.",
        source: "NVIDIA's trees, read; QEMU, hw/core/numa.c ('Duplicate NUMA nodeid')",
    }

    /// An EGM region is not known while its GPU is not bound.
    EgmUnbound = "VD-EGM-003" {
        severity: Warning,
        explanation: "The kernel shows /sys/class/egm/egmN only while a GPU of the region is bound to nvgrace_gpu_vfio_pci, and \
            lists only bound GPUs. Before that, EGM memory cannot be planned: bind the GPUs of the guest first. A guest that has \
            EGM memory may start with unbound GPUs. The agent binds them, compares sizes and paths with the regions, which it \
            waits for up to 5 s, and refuses the start with another VD-EGM code and restores the drivers if they differ.",
        source: "NVIDIA's kernels, drivers/vfio/pci/nvgrace-gpu/egm.c, read",
    }

    /// Not all GPUs of an EGM region are in the guest.
    EgmShared = "VD-EGM-004" {
        severity: Refusal,
        explanation: "An EGM region has one user at a time: its first open zeroes all of it, and a second open gets no memory. So \
            all GPUs of a region go to one guest, or the guest has no EGM.",
        source: "NVIDIA's kernels, egm.c; NVIDIA's fork of KubeVirt and kubevirt-gpu-device-plugin, read",
    }

    /// The EGM memory does not fit the region or the cell.
    EgmSize = "VD-EGM-005" {
        severity: Refusal,
        explanation: "The GPUs of a region share the cell's memory evenly, in whole MiB, and their sizes add up to \
            the cell's memory. The sum must not exceed egm_size: the kernel does not check it, and a larger backend \
            maps memory of other owners.",
        source: "NVIDIA's kernels, egm.c (mmap); NVIDIA's libvirt 11.9, read",
    }

    /// The cell of EGM memory is not that of the GPUs' socket.
    EgmCell = "VD-EGM-006" {
        severity: Refusal,
        explanation: "QEMU describes the region to the guest as all memory of one node, so this must be the cell with CPUs that is \
            bound to the GPUs' socket (by <numatune>, <vcpupin> or <vcpu cpuset>), and each region needs a cell of its own.",
        source: "NVIDIA's QEMU, hw/acpi (acpi-egm-memory), read",
    }

    /// The guest's memory cannot be EGM and in huge pages.
    EgmHugepages = "VD-EGM-007" {
        severity: Refusal,
        explanation: "EGM memory is contiguous and is not made of huge pages of the host. <hugepages/> would ask for \
            a second memory of the same cells.",
        source: "NVIDIA's fork of KubeVirt, admission rules, read",
    }

    /// EGM memory in the definition contradicts the host or the rest of the definition.
    EgmWrong = "VD-EGM-008" {
        severity: Refusal,
        explanation: "A <memory model='egm'> names the region, the cell, and the GPU by the alias of its hostdev. \
            variantd keeps one that the user wrote, and refuses it if the region, the cell or the size differs from \
            the host's. 'variantctl prepare' replaces EGM memory that variantd added.",
        source: "NVIDIA's libvirt 11.9, read",
    }

    /// The domain's option for EGM is set.
    EgmOption = "VD-EGM-009" {
        severity: Note,
        explanation: "With --egm, 'plan' and 'prepare' write egm='on' or egm='off' into the domain's options in \
            <metadata>, as 'virsh metadata' does. The option stays after 'revert'. A later '--egm', or an edit of the \
            metadata, changes it. 'on' refuses a guest that cannot have EGM; 'off' removes EGM memory that variantd \
            added.",
        source: "variantd.recipe(5), OPTIONS OF A DOMAIN",
    }

    /// The 64-bit MMIO window is not set.
    WindowMissing = "VD-MEM-001" {
        severity: Missing,
        explanation: "GPU memory appears in a BAR of 128 to 512 GiB. Arm's virt machine has a 64-bit MMIO window of \
            512 GiB by default, and a guest cannot place BARs that do not fit.",
        source: "QEMU, hw/arm/virt.c, highmem-mmio-size",
    }

    /// The 64-bit MMIO window is too small or not a power of two.
    WindowWrong = "VD-MEM-002" {
        severity: Refusal,
        explanation: "The window must be a power of two of at least 512 GiB, and large enough for the BARs of all \
            devices. libvirt does not check this; QEMU exits, or drops the window without an error. variantd never \
            changes a value that the user wrote.",
        source: "QEMU, hw/arm/virt.c",
    }

    /// The 64-bit MMIO window does not fit the guest's address width.
    WindowTooWide = "VD-MEM-003" {
        severity: Refusal,
        explanation: "QEMU places the 64-bit window of 'virt' at a multiple of its own size and drops it without an \
            error if it does not fit the CPU's physical addresses; on q35 QEMU exits. The guest then cannot place its \
            BARs.",
        source: "QEMU, hw/arm/virt.c (virt_set_high_memmap), hw/i386/pc.c ('phys-bits too low')",
    }

    /// The guest's addresses are too narrow for memory and MMIO window.
    AddressWidthMissing = "VD-MEM-004" {
        severity: Missing,
        explanation: "An x86 CPU model without a width of its own has 40 bits of physical address in QEMU, 1 TiB for \
            memory and BARs together. That is too little for several large GPUs, and firmware sizes its window by it. \
            <maxphysaddr mode='passthrough'/> gives the guest the host's width.",
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
        explanation: "A host device can reach all of the guest's memory, so all of it is allocated and locked at \
            start; overcommitment, ballooning and swap do not help. Without a vIOMMU all devices share one address \
            space and memory counts once, with iommufd as well. A vIOMMU gives each device its own address space, so \
            memory counts once for each; an accelerated SMMUv3 shares one. Each NVMe disk and each vDPA device locks \
            all of it once more. libvirt computes a limit from its own elements; it does not see a vIOMMU or device \
            in <qemu:commandline>, and before 9.2 it counts NVMe disks together with the host devices. If that limit \
            is too low, set <memtune><hard_limit>.",
        source: "Linux, VFIO documentation; QEMU, hw/vfio; libvirt, qemu_domain.c (qemuDomainGetMemLockLimitBytes)",
    }

    /// Large BARs are mapped in small steps.
    BarsByPage = "VD-MEM-007" {
        severity: Note,
        explanation: "The BARs of such a GPU are as large as its memory, and each time the guest or its firmware enables \
            them, the kernel maps them into the IOMMU while the guest waits. Before Linux 6.15 it takes one step for each page \
            of 4 KiB (measured by the change's author: about 1 s for 32 GiB), since then one for each mapping of the page \
            table: of up to 1 GiB with Linux 6.12 and QEMU 9.2, which aligns the BARs. Distributions may have both changes in \
            older versions.",
        source: "Linux 6.15, drivers/vfio/vfio_iommu_type1.c (commit 0fd06844de5d); QEMU 9.2, hw/vfio (commit 00b519c0bca0)",
    }

    /// QEMU does not map the BARs of a device.
    BarsUnmapped = "VD-MEM-008" {
        severity: Warning,
        explanation: "With x-no-mmap QEMU gives the guest no mapping of the BARs: each access ends in QEMU, and the IOMMU has \
            no mapping of them, so that GPUDirect between devices of the guest does not work. It shortens the start of a \
            guest with large BARs on an older kernel; a newer kernel and QEMU do that without the loss (VD-MEM-007).",
        source: "QEMU, hw/vfio/region.c (vfio_region_setup), hw/vfio/listener.c (vfio_listener_skipped_section)",
    }

    /// VFIO has not reported the regions of a device.
    RegionsUnknown = "VD-REG-001" {
        severity: Warning,
        explanation: "The BARs with GPU memory exist only while the device is bound to a VFIO variant driver, and \
            only VFIO reports their sizes (VFIO_DEVICE_GET_REGION_INFO). The query opens the device, which resets it: \
            variantd does it only on request, as root, and never for a device that is in use. Until then it uses the \
            recipe's table. variantd does not open a Grace GPU whose firmware names no memory, because Linux then \
            refuses every Grace GPU until the next boot.",
        source: "Linux, include/uapi/linux/vfio.h and drivers/vfio/pci/nvgrace-gpu/main.c",
    }

    /// The guest cannot migrate.
    NotMigratable = "VD-MIG-001" {
        severity: Note,
        explanation: "A guest with a host device migrates only if the VFIO driver of each device can save its state. \
            nvgrace_gpu_vfio_pci and vfio-pci cannot, so 'virsh migrate', 'save' and memory snapshots fail.",
        source: "Linux 7.2, drivers/vfio/pci",
    }

    /// The mark that records the added elements is missing or old.
    MarkMissing = "VD-MRK-001" {
        severity: Missing,
        explanation: "The mark in <metadata> records which elements were added for which device by which recipe, so \
            that they can be checked and reverted.",
        source: "libvirt, custom metadata",
    }

    /// The mark was written for another recipe, host or version.
    MarkOld = "VD-MRK-002" {
        severity: Note,
        explanation: "The mark in the metadata has a digest of the inputs of a plan: the recipe's requirements, the \
            host's facts about the devices, the features of the versions. The digest is different now, so variantd \
            reverts the elements that it added before and completes the definition again; changes of the user are \
            kept.",
        source: "variantctl(1), revert",
    }

    /// The target's libvirt or QEMU is too old for a piece.
    TargetOld = "VD-TGT-001" {
        severity: Refusal,
        explanation: "This version of libvirt or QEMU cannot express a piece. Generic initiators need QEMU 9.0, and \
            <acpi nodeset> needs libvirt 11.8.",
        source: "release notes of libvirt and QEMU",
    }

    /// The recipe does not support this architecture or machine type.
    TargetMachine = "VD-TGT-002" {
        severity: Refusal,
        explanation: "The recipe has no [[guest]] entry for this architecture and machine type, so the needs of its \
            devices are unknown.",
        source: "the recipe's [[guest]] entries; 'variantctl recipe show NAME'",
    }

    /// The recipe supports this architecture, but no guest driver is known to use it there.
    TargetUnused = "VD-TGT-003" {
        severity: Warning,
        explanation: "The guest gets its generic initiators, but no known driver uses them on this architecture.",
        source: "NVIDIA open-gpu-kernel-modules (aarch64 only)",
    }

    /// The versions of libvirt and QEMU are unknown.
    TargetUnknown = "VD-TGT-004" {
        severity: Refusal,
        explanation: "A plan depends on the versions of libvirt and QEMU. The agent has not reached libvirt since it \
            started, so it knows neither.",
        source: "variantd",
    }

    /// The definition names another QEMU than the plan is for.
    TargetEmulator = "VD-TGT-005" {
        severity: Warning,
        explanation: "libvirt reports the version of its default QEMU. A definition with another <emulator> may run \
            on a QEMU with fewer or more features; 'variantctl plan --target qemu=...' plans for its version.",
        source: "libvirt, virConnectGetVersion and domain capabilities",
    }

    /// A driver could not be bound.
    BindFailed = "VD-BND-001" {
        severity: Refusal,
        explanation: "The kernel refused to bind the driver; the message has its error. variantd restored the \
            device's previous driver.",
        source: "Linux, Documentation/ABI/testing/sysfs-bus-pci",
    }

    /// The device is not bound to the planned driver.
    BindWrongDriver = "VD-BND-002" {
        severity: Refusal,
        explanation: "The guest is about to get the device, and the device is not bound to the driver that its recipe \
            names: another program changed it meanwhile.",
        source: "/sys/bus/pci/devices/ADDRESS/driver",
    }

    /// The device is in use.
    BindInUse = "VD-BND-003" {
        severity: Refusal,
        explanation: "A process has the device open through VFIO, or NVIDIA's driver counts users of it and does not \
            grant its unbindLock. An unbind would wait forever in the kernel, and unplug the device from a guest.",
        source: "Linux, drivers/vfio/vfio_main.c, vfio_unregister_group_dev; NVIDIA open-gpu-kernel-modules, \
            kernel-open/nvidia/nv-procfs.c",
    }

    /// A failed undo left the device in an unknown state.
    BindDegraded = "VD-BND-004" {
        severity: Refusal,
        explanation: "A change failed, and its undo failed too. No guest gets the device until its previous state is \
            restored. variantd retries when libvirt releases the guest, when variantd starts, and on 'variantctl \
            recover'.",
        source: "variantd.journal(5)",
    }

    /// A process of the host holds the device.
    BindHeld = "VD-BND-005" {
        severity: Refusal,
        explanation: "A process has one of the device's nodes open or mapped (/dev/nvidiaN, /dev/dri, /dev/kfd, \
            /dev/vfio), so an unbind would wait forever in the kernel. Nodes that all GPUs of NVIDIA's or AMD's \
            driver share count only if there is one such GPU.",
        source: "/proc/PID/fd and /proc/PID/maps; NVIDIA open-gpu-kernel-modules, kernel-open/nvidia/nv-pci.c \
            (non-zero usage count)",
    }

    /// It is unknown which processes hold the device.
    BindHolderHidden = "VD-BND-006" {
        severity: Refusal,
        explanation: "Reading the open files of other users' processes needs CAP_SYS_PTRACE. variantd does not unbind \
            a device that may be in use.",
        source: "proc(5), /proc/PID/fd",
    }

    /// The host uses another function of the IOMMU group.
    BindGroup = "VD-BND-007" {
        severity: Refusal,
        explanation: "VFIO does not separate the functions of one IOMMU group: it accepts the group only if none of \
            them is bound to a driver that does DMA for the host (EPERM). Bridges and unbound functions do not \
            matter; an NVSwitch (class 0680) is not a bridge. With allow_group = true, or with 'variantctl bind \
            --allow-group', variantd binds the other functions to vfio-pci with the device and releases them with it, \
            except storage and network functions.",
        source: "Linux, drivers/iommu/iommu.c",
    }

    /// The kernel has no way to reset the device.
    ResetMissing = "VD-BND-008" {
        severity: Refusal,
        explanation: "VFIO resets a device before a guest opens it. If the kernel has no method (sysfs reset_method), \
            or an administrator disabled them, memory of the last guest can reach the next. A recipe with needs_reset \
            = false accepts that.",
        source: "Linux, Documentation/ABI/testing/sysfs-bus-pci; drivers/vfio/pci/vfio_pci_core.c",
    }

    /// The host uses the device's memory as system memory.
    BindMemoryOnlined = "VD-BND-009" {
        severity: Refusal,
        explanation: "On Grace, NVIDIA's driver adds the GPU's memory to the host as a NUMA node. While processes use \
            that memory, it cannot be removed, and the driver does not release the device. Before a bind variantd waits up \
            to 30 s until the driver has finished adding memory, stops the services that it may stop, and waits up to 30 s \
            until the memory is removed; the refusal then names the processes that have memory there. If several GPUs are bound \
            to the driver, its numa_status says which GPU the memory belongs to.",
        source: "/proc/iomem; NVIDIA open-gpu-kernel-modules, kernel-open/nvidia/nv-procfs.c; OpenNebula's manual \
            for GB200",
    }

    /// The journal of bound devices cannot be read or written.
    JournalFailed = "VD-BND-010" {
        severity: Refusal,
        explanation: "variantd journals the previous drivers of a guest's devices before it changes them, so that it \
            can restore them after a crash. Without the entry it binds nothing; if it cannot end the entry, the \
            domain keeps holding its devices.",
        source: "variantd.journal(5)",
    }

    /// A newer variantd wrote the journal.
    JournalNewer = "VD-BND-011" {
        severity: Refusal,
        explanation: "The entry may have fields that this version does not know, so variantd does not change the \
            entry or its devices: no other guest gets them. All other domains are served.",
        source: "variantd.journal(5)",
    }

    /// The device does not answer.
    BindSilent = "VD-BND-012" {
        severity: Refusal,
        explanation: "All of its config space reads as ones: it is off its bus, without power, or in a failed reset. \
            A bind would block, or the guest would hang, so variantd does not touch the device.",
        source: "PCI Express Base Specification, 2.3.2, completions without a completer",
    }

    /// A service that holds the device could not be stopped.
    ServiceNotStopped = "VD-BND-013" {
        severity: Refusal,
        explanation: "A service that may be stopped ('stop_services' in variantd.conf, or 'bind --stop-services') \
            holds the device and did not end within 15 s, or systemd would stop another unit with it that is not \
            listed. Nothing was bound; stopped services were started again.",
        source: "org.freedesktop.systemd1(5), StopUnit; systemd.unit(5), Requires=, BindsTo= and PartOf=",
    }

    /// A service that was stopped for a device did not start again.
    ServiceNotStarted = "VD-BND-014" {
        severity: Refusal,
        explanation: "variantd starts a stopped service again when the device is released, when the bind did not \
            happen, and when variantd starts. systemd did not answer, or refused. The device's record names the \
            service until it was started.",
        source: "org.freedesktop.systemd1(5), StartUnit",
    }

    /// The driver gives the guest no GPU memory.
    MemoryNotShown = "VD-BND-015" {
        severity: Refusal,
        explanation: "nvgrace_gpu_vfio_pci reads the address and size of a GPU's memory from the firmware properties \
            nvidia,gpu-mem-base-pa and nvidia,gpu-mem-size. Without them it binds without an error and offers only \
            the BARs of the device itself, as vfio-pci does: the guest would run without GPU memory. variantd detects \
            a missing table before it touches a device. It detects a property that is missing for one GPU, or 0, only \
            by opening the device (verify = \"regions\" in variantd.conf), and Linux 7.2 then refuses every Grace GPU \
            until the next boot.",
        source: "Linux, drivers/vfio/pci/nvgrace-gpu/main.c (nvgrace_gpu_fetch_memory_property)",
    }

    /// Another operation binds or releases the device.
    DeviceBusy = "VD-BND-020" {
        severity: Refusal,
        explanation: "Another operation ('variantctl bind', 'release' or 'recover', or the reservation at boot) \
            changes this device at present. Only one operation at a time changes a device, and no guest starts with \
            it meanwhile. A bind takes up to 40 s, or bind_seconds of its recipe.",
        source: "variantctl(1); variantd.recipe(5), bind_seconds",
    }

    /// Another device is at a reserved address.
    ReservedOther = "VD-BND-021" {
        severity: Refusal,
        explanation: "A reservation names a device by its address and its vendor and device id. PCI addresses can \
            change when cards or firmware settings change, so variantd does not touch a device with another id at \
            that address.",
        source: "variantctl(1), reserve",
    }

    /// No driver is known for the device.
    DriverUnknown = "VD-BND-022" {
        severity: Refusal,
        explanation: "The recipe of a device names its driver, and no recipe covers this device. [[device]] in \
            variantd.conf adds a device to a recipe.",
        source: "variantctl(1), bind; variantd.recipe(5)",
    }

    /// The GPU was not ready in time.
    BindNotReady = "VD-BND-030" {
        severity: Refusal,
        explanation: "The driver waits 30 s for the GPU's link and memory, or as long as a device that is attached by \
            CXL reports (up to 256 s), and this one was not ready. variantd restored the device's previous driver; \
            after a reset the GPU may need longer than the driver waits.",
        source: "Linux, drivers/vfio/pci/nvgrace-gpu/main.c",
    }

    /// The kernel has not completed a write.
    BindStuck = "VD-BND-031" {
        severity: Refusal,
        explanation: "A write that binds or unbinds waits in the kernel for the device: for its driver, for a process \
            that has it open, or for a change by another program. The write cannot be cancelled, so variantd writes \
            nothing else to this device until it ends; other devices are not affected.",
        source: "Linux, drivers/base/dd.c",
    }

    /// A module was not loaded in time.
    ModuleStuck = "VD-BND-032" {
        severity: Refusal,
        explanation: "modprobe loads a driver's module before a device is bound, in a process of its own, and has not \
            ended within 30 s. It waits for the module's init function, an 'install' command in modprobe.d, or \
            another module that is being loaded. Nothing was bound. variantd does not load the same module again \
            until that process ends; then this guest and all others can be started.",
        source: "modprobe.d(5); Linux, kernel/module/main.c",
    }

    /// The device may not be bound to this driver.
    DriverRefused = "VD-BND-033" {
        severity: Refusal,
        explanation: "Loading a driver's module runs its code in the kernel, and driver_override makes any driver \
            probe any device. So variantd binds a device only to vfio-pci, to a driver that a recipe or variantd.conf \
            names, to one that modules.alias of the running kernel lists for this device, or to its current or \
            previous driver. No module was loaded.",
        source: "variantd.recipe(5); modules.alias of depmod(8)",
    }

    /// The device was released without its previous driver.
    LeftWithoutDriver = "VD-BND-034" {
        severity: Refusal,
        explanation: "The previous driver of the device no longer accepts it: its module does not exist (its package \
            was removed, or another kernel runs), does not load, or, with 'variantctl recover', refuses the device. \
            The device is released: it has no driver, its driver_override is cleared, and every guest can use it. A \
            driver that is loaded later binds it.",
        source: "variantd.journal(5); Linux, Documentation/ABI/testing/sysfs-bus-pci",
    }

    /// The agent did not answer libvirt's hook in time.
    HookLate = "VD-BND-045" {
        severity: Refusal,
        explanation: "While the agent works on a guest's start, it sends libvirt's hook a progress message every 3 s, \
            for as long as the longest bind of the recipes, its undo and other waits take. The hook waits 20 s for \
            each message, and 20 s in all at any other operation. The agent continues, and releases the devices of a \
            refused start. If a device needs longer, raise bind_seconds in its recipe.",
        source: "variantd-hook(8); variantd.recipe(5)",
    }

    /// No IOMMU confines the device, and VFIO would assign it anyway.
    DeviceUnconfined = "VD-BND-050" {
        severity: Refusal,
        explanation: "A device without an IOMMU group can reach all memory. VFIO refuses such a device, unless \
            enable_unsafe_noiommu_mode is on; variantd then refuses it.",
        source: "drivers/vfio/group.c (vfio_noiommu)",
    }

    /// A prepared definition is over 1 MiB, and the hook cannot check it.
    HookTooLarge = "VD-HOK-001" {
        severity: Refusal,
        explanation: "libvirt sent its hook a definition of over 1 MiB that contains variantd's mark. The hook does \
            not parse it, so the guest does not start; a running guest is not touched. Metadata of other programs may \
            have grown: see 'virsh dumpxml'.",
        source: "variantd-hook(8)",
    }

    /// The hook cannot parse a prepared definition.
    HookUnreadable = "VD-HOK-002" {
        severity: Refusal,
        explanation: "The definition that libvirt sent its hook contains variantd's mark, and is not well-formed XML, \
            has a document type declaration, or is nested deeper than libvirt's own parser accepts. The guest does \
            not start; a running guest is not touched.",
        source: "variantd-hook(8)",
    }

    /// The hook and agent versions differ.
    HookForeign = "VD-HOK-003" {
        severity: Refusal,
        explanation: "One package contains the hook and the agent. During an upgrade the old agent may still run, and \
            use another protocol: a prepared guest is refused until the new agent runs, and any other guest starts \
            unchecked.",
        source: "variantd-hook(8)",
    }

    /// The agent ended before it answered the hook.
    HookBroken = "VD-HOK-004" {
        severity: Refusal,
        explanation: "The agent accepted the hook's call and ended before it answered: it crashed, was killed or \
            restarted. It reverts unfinished changes when it starts again; then the guest can be started.",
        source: "'journalctl -u variantd'",
    }

    /// The definition did not arrive on the hook's standard input.
    HookInputMissing = "VD-HOK-005" {
        severity: Refusal,
        explanation: "libvirt sends its hook the guest's definition on standard input. It was empty, closed, or not \
            readable, for example because memory was short. It is then unknown whether the guest needs variantd, so \
            the guest does not start; a running guest is not touched.",
        source: "variantd-hook(8)",
    }

    /// A signal ended the hook itself.
    HookKilled = "VD-HOK-006" {
        severity: Refusal,
        explanation: "A fault of the hook, or a signal to its child process, ended its work: the memory, stack or process \
            limit of libvirt's daemon is too small, or another process killed it. A starting guest is refused; a \
            running guest is not touched, and 'systemctl restart variantd' makes the agent check running guests again.",
        source: "variantd-hook(8)",
    }

    /// The agent cannot be reached.
    AgentUnreachable = "VD-AGT-001" {
        severity: Refusal,
        explanation: "variantd does not answer on the system bus, or the bus has no free slot for another call. A \
            guest that variantd prepared does not start without it.",
        source: "variantd; 'systemctl status variantd'",
    }

    /// The host cannot be read.
    HostUnreadable = "VD-AGT-002" {
        severity: Refusal,
        explanation: "/sys/bus/pci/devices does not exist or cannot be read.",
        source: "Linux, sysfs",
    }

    /// The IOMMU of the host is off.
    IommuOff = "VD-DOC-001" {
        severity: Failure,
        explanation: "VFIO assigns only devices whose DMA an IOMMU confines, and the kernel puts every such device \
            into an IOMMU group. If no device has one, the IOMMU is off in the firmware or on the kernel's command \
            line.",
        source: "Linux, Documentation/driver-api/vfio.rst; admin-guide/kernel-parameters.txt (intel_iommu, \
            amd_iommu)",
    }

    /// VFIO accepts devices without an IOMMU.
    IommuNone = "VD-DOC-002" {
        severity: Warning,
        explanation: "With enable_unsafe_noiommu_mode VFIO offers devices that no IOMMU confines: their user can \
            reach all of the host's memory. libvirt's guests never need it.",
        source: "Linux, drivers/vfio/vfio_main.c and group.c",
    }

    /// VFIO accepts devices whose interrupts are not isolated.
    InterruptsUnsafe = "VD-DOC-003" {
        severity: Warning,
        explanation: "With allow_unsafe_interrupts a guest's device can send any interrupt message of the host, so a \
            guest can disturb the host or another guest. It is a workaround for old machines without interrupt \
            remapping.",
        source: "Linux, drivers/vfio/vfio_iommu_type1.c",
    }

    /// IOMMU groups are smaller than the hardware isolates.
    AcsOverride = "VD-DOC-004" {
        severity: Warning,
        explanation: "pcie_acs_override, a patch of some distributions, tells the kernel that ports isolate devices \
            from each other although they do not advertise it. Devices of such groups can reach each other past the \
            IOMMU.",
        source: "Linux, drivers/pci/quirks.c (ACS); the patch is not in Linux",
    }

    /// libvirt cannot let QEMU lock a guest's memory.
    LockLimit = "VD-DOC-005" {
        severity: Failure,
        explanation: "VFIO locks all of a guest's memory, and libvirt raises QEMU's limit for it at start. Its daemon \
            can do so if it has CAP_SYS_RESOURCE or no limit itself, as the units of distributions have. In a \
            container it often cannot, and the guest's start fails with ENOMEM.",
        source: "libvirt, qemuProcessStart and virProcessSetMaxMemLock; Linux, capabilities(7)",
    }

    /// The host has less memory than a guest locks.
    GuestMemory = "VD-DOC-006" {
        severity: Failure,
        explanation: "All memory of a guest with a host device is allocated and locked at start. A guest that is \
            larger than the host's memory, or needs more huge pages than are free, does not start.",
        source: "Linux, Documentation/driver-api/vfio.rst and admin-guide/mm/hugetlbpage.rst",
    }

    /// No recipe covers a device of the host.
    NothingCovered = "VD-DOC-009" {
        severity: Warning,
        explanation: "A recipe lists its PCI ids, and the host has no device with such an id. Either the device is \
            not in this host, or its id is new: [[device]] in variantd.conf adds an id to a recipe.",
        source: "variantd.recipe(5)",
    }

    /// The kernel has no VFIO driver for the device.
    ModuleMissing = "VD-DOC-010" {
        severity: Failure,
        explanation: "libvirt and variantd look for a VFIO variant driver in modules.alias, where each such driver \
            lists its ids. A kernel that is too old, was built without the driver, or has an old index has no line \
            for it, and vfio-pci alone offers none of the GPU's memory.",
        source: "libvirt, src/util/virpci.c; Linux, drivers/vfio/pci/nvgrace-gpu/Kconfig (Linux 6.8)",
    }

    /// The module file of the device's VFIO driver does not exist.
    ModuleFile = "VD-DOC-011" {
        severity: Failure,
        explanation: "The index of modules (modules.dep) names a file that does not exist, so modprobe fails when a \
            guest starts, unless the driver is already loaded.",
        source: "modules.dep(5), depmod(8)",
    }

    /// The module of the device's VFIO driver is blocked.
    ModuleBlocked = "VD-DOC-012" {
        severity: Failure,
        explanation: "A blacklist or install line of modprobe.d, or module_blacklist on the kernel's command line, \
            names the driver's module. libvirt loads it with 'modprobe -b', which applies the blacklist.",
        source: "modprobe.d(5); Linux, admin-guide/kernel-parameters.txt; libvirt, src/util/virkmod.c",
    }

    /// The device has no driver, and its driver_override excludes all loaded ones.
    OverrideStray = "VD-DOC-013" {
        severity: Warning,
        explanation: "driver_override names a driver that is not loaded, so the device has no driver. variantd writes \
            its own driver_override when a guest starts and restores this one afterwards.",
        source: "Linux, Documentation/ABI/testing/sysfs-bus-pci",
    }

    /// A reserved device is not bound to its driver.
    ReservedUnbound = "VD-DOC-014" {
        severity: Failure,
        explanation: "A reservation ('variantctl reserve') makes variantd-reserve.service bind the device at each \
            boot. The device is now bound to another driver: the unit has not run or could not bind it, or another \
            program changed the driver since.",
        source: "variantctl(1), reserve",
    }

    /// The reset of the device is known to fail.
    ResetFault = "VD-DOC-017" {
        severity: Warning,
        explanation: "The device's recipe lists it with a reported fault of its reset. A guest's start and end reset \
            the device, so the fault appears at the second start at the latest.",
        source: "the recipe; 'variantctl recipe show'",
    }

    /// A BAR of the device has no address.
    BarUnset = "VD-DOC-018" {
        severity: Failure,
        explanation: "The firmware and the kernel found no space in the host's MMIO window for a BAR, so the device \
            cannot be used. Large BARs need a 64-bit window ('Above 4G Decoding').",
        source: "Linux, include/linux/ioport.h (IORESOURCE_UNSET)",
    }

    /// The NUMA node of the device is unknown.
    NodeUnknown = "VD-DOC-019" {
        severity: Warning,
        explanation: "The firmware gives the device's root bus no proximity domain (_PXM), so numa_node reads -1 and \
            a guest cannot be placed near its device.",
        source: "Linux, Documentation/ABI/testing/sysfs-bus-pci; ACPI 6.5, 6.2.14",
    }

    /// libvirt does not answer.
    LibvirtSilent = "VD-DOC-025" {
        severity: Failure,
        explanation: "No libvirt daemon listens at qemu:///system, or it answers with an error: no guest can be \
            defined or started, and variantd cannot complete definitions. Or variantctl's program that calls libvirt \
            (variantd-libvirt) is missing or cannot run; the state of libvirt is then unknown. The check says which.",
        source: "libvirt, docs/daemons.rst",
    }

    /// A definition lacks elements that its device's driver needs.
    DefinitionLacks = "VD-DOC-031" {
        severity: Failure,
        explanation: "The definition is incomplete: 'variantctl plan DOMAIN' shows the missing elements and the \
            reasons. The hook refuses to start the guest until they are added.",
        source: "the codes that the check names",
    }

    /// libvirt's hook is not installed.
    HookMissing = "VD-DOC-040" {
        severity: Failure,
        explanation: "libvirt calls /etc/libvirt/hooks/qemu and the programs in qemu.d when a guest starts and ends. \
            Without variantd's hook a guest starts unchecked, with the driver that libvirt chooses.",
        source: "libvirt, docs/hooks.rst",
    }

    /// libvirt's hook cannot be executed.
    HookNotExecutable = "VD-DOC-041" {
        severity: Failure,
        explanation: "libvirt skips a hook that is not executable and only writes a line to its log: guests start \
            unchecked.",
        source: "libvirt, src/util/virhook.c; seen with 12.8",
    }

    /// The running libvirt does not call its hook.
    HookNotCalled = "VD-DOC-042" {
        severity: Failure,
        explanation: "libvirt looks for hooks when its daemon starts (virHookInitialize); if there was no qemu hook \
            then, it calls none until the daemon restarts. The hook records each call in /run/variantd/called: a call \
            since the daemon's start proves it, and a hook that is older than the daemon counts as called. An upgrade \
            of the package, whose hook is newer, keeps the earlier result.",
        source: "libvirt, src/util/virhook.c; seen with 12.8",
    }

    /// Another program has replaced libvirt's hook of variantd.
    HookOther = "VD-DOC-043" {
        severity: Failure,
        explanation: "The path of variantd's hook leads to another program, so variantd does not check guests. Put \
            other hooks beside it in qemu.d, where libvirt calls each in turn.",
        source: "libvirt, docs/hooks.rst",
    }

    /// A security policy prevents libvirt from running its hook.
    HookConfined = "VD-DOC-044" {
        severity: Failure,
        explanation: "AppArmor's profile of libvirt's daemon (usr.sbin.libvirtd) lets it run programs of /usr/sbin \
            and /usr/bin and the files below /etc/libvirt/hooks, and a hook elsewhere fails with status 126; so the \
            package installs it into /usr/sbin. There it runs in its own profile (security-modules.md).",
        source: "libvirt, src/security/apparmor/usr.sbin.libvirtd.in",
    }

    /// The kernel has no pages of 64 KiB, or no free huge pages for command queues.
    PageSize = "VD-DOC-050" {
        severity: Warning,
        explanation: "NVIDIA recommends a kernel with pages of 64 KiB on Grace. Only such a kernel has huge pages of 512 MiB, \
            which the command queues of a guest's SMMUv3 need for all guest memory, unless it comes from EGM. The check reads \
            free_hugepages of hugepages-524288kB of each node.",
        source: "NVIDIA Grace performance tuning guide; OpenNebula's manual for GB200; Linux, admin-guide/mm/hugetlbpage.rst",
    }

    /// The firmware does not let an SMMUv3 be nested.
    NestingFirmware = "VD-DOC-051" {
        severity: Warning,
        explanation: "Linux nests a guest's SMMUv3 in the host's only where DMA can be made coherent: IORT gives the root \
            complex the memory access flag CANWBS, or the SMMU has S2FWB. The check reads /sys/firmware/acpi/tables/IORT as \
            root. Without either, QEMU exits at start.",
        source: "Arm DEN0049, IO Remapping Table, E.f; Linux, drivers/iommu/arm/arm-smmu-v3 (arm_smmu_master_canwbs)",
    }

    /// The kernel cannot share BARs as dma-buf.
    PeerToPeer = "VD-DOC-052" {
        severity: Warning,
        explanation: "QEMU since 11.0 maps BARs for other devices through dma-buf when iommufd is used. Without \
            CONFIG_VFIO_PCI_DMABUF and CONFIG_PCI_P2PDMA (/boot/config-RELEASE, else /proc/config.gz) such a guest runs, and its \
            devices cannot reach each other's BARs.",
        source: "Linux, drivers/vfio/pci/Kconfig; QEMU 11.0, hw/vfio",
    }

    /// QEMU may not open /dev/iommu.
    IommufdDenied = "VD-DOC-053" {
        severity: Warning,
        explanation: "cgroup_device_acl in qemu.conf replaces libvirt's list of devices that QEMU may open. Without /dev/iommu \
            in it, a guest with iommufd may not start.",
        source: "libvirt, src/qemu/qemu.conf.in (cgroup_device_acl)",
    }

    /// A device was bound to its variant driver by `new_id`.
    DynamicId = "VD-DOC-054" {
        severity: Warning,
        explanation: "The ids of a variant driver are only for devices whose driver_override names it. A device that is bound \
            without one was bound by 'new_id', and the driver then claims every unbound and every later device with this id, also \
            after a hot reset. 'variantctl reserve' binds one device at each boot.",
        source: "Linux, Documentation/ABI/testing/sysfs-bus-pci; drivers/pci/pci-driver.c",
    }

    /// This QEMU needs something of guest kernels.
    GuestKernel = "VD-DOC-055" {
        severity: Warning,
        explanation: "NVIDIA's QEMU 10.1.0 up to +nvidia5 does not translate the address of interrupt messages behind an \
            accelerated SMMUv3: guests that boot with iommu.passthrough=1, the default of NVIDIA's kernels after 6.11, report \
            C_BAD_CD. Each GPU also has 8 NUMA nodes in its guest; a guest kernel has 2 to the power of CONFIG_NODES_SHIFT of them, on \
            arm64 16 by default, and ignores the rest.",
        source: "NVIDIA/QEMU pull request 15; NV-Kernels pull request 226; Linux, arch/arm64/Kconfig",
    }

    /// EGM is asked for, and the kernel shows no region.
    EgmAbsent = "VD-DOC-056" {
        severity: Failure,
        explanation: "A recipe (need in [egm]) or a guest (egm='on' in its options, or <memory model='egm'>) asks for \
            EGM, and /sys/class/egm is missing or empty. It needs a kernel with the module nvgrace_egm, which makes \
            the class (Ubuntu's linux-nvidia 6.17 and 7.0; Linux 7.2 and the generic kernels have none), firmware \
            that has EGM enabled, and a GPU that is bound to nvgrace_gpu_vfio_pci: the kernel shows a region only \
            then. Without EGM a guest that requires it does not start; a guest whose recipe has need = \"prefer\" \
            starts without EGM.",
        source: "NVIDIA's kernels, drivers/vfio/pci/nvgrace-gpu/egm.c, read",
    }

    /// A guest's network adapter reaches a GPU below the same switch only through the root complex.
    PeersRedirected = "VD-DOC-057" {
        severity: Warning,
        explanation: "A guest's device sends addresses of the guest, which only the IOMMU in the root complex can translate. So \
            requests from a network adapter to a GPU (GPUDirect RDMA) take the direct route through the switch of the host \
            only if the adapter has ATS and asks for the translation first, and only if each port between the two that \
            redirects requests (ACS, as Linux sets it for isolation) has Direct Translated P2P set. Otherwise they go up to \
            the root complex and down again, which is slower. The other bits of ACS stay as they are: they keep IOMMU groups apart. \
            'variantctl topology --matrix' shows the route of each pair.",
        source: "PCIe base specification 6.12 and 10.1; Linux, drivers/pci/pci.c (config_acs) and p2pdma.c; NVIDIA AI Enterprise, \
            optimizing VM configuration, ATS and ACS configuration",
    }

    /// SELinux has no module for variantd, or it is not in force.
    SelinuxModule = "VD-DOC-060" {
        severity: Failure,
        explanation: "SELinux enforces a policy, and variantd's module is not in it, the files of variantd do not have \
            their labels, or the agent runs in another domain. Agent and hook then have the rights of another domain, \
            which libvirt's daemon and modprobe may not serve. 'variantd-selinux load' loads the module, labels the \
            files and restarts the agent. The check reads file_contexts of the policy, the labels of the programs and \
            the agent's label.",
        source: "packaging/selinux/variantd.cil; semodule(8), restorecon(8)",
    }

    /// A boolean of SELinux's policy keeps a guest from its device.
    SelinuxBoolean = "VD-DOC-061" {
        severity: Failure,
        explanation: "Debian's policy lets QEMU open devices of VFIO only while the boolean virt_use_vfio is on, and it is \
            off by default; Fedora's policy has no such boolean. While secure_mode_insmod is on, no module can be loaded \
            until the next boot, so the variant driver must be loaded before.",
        source: "refpolicy, policy/modules/services/virt.te and policy/modules/kernel/kernel.te; booleans(8)",
    }

    /// AppArmor does not confine the agent.
    AppArmorProfile = "VD-DOC-062" {
        severity: Warning,
        explanation: "AppArmor is enabled, and the agent does not run in its profile, or only in complain mode. It works, \
            and only the unit's sandbox limits it. A process keeps the profile that it had when its program started, so the \
            agent is restarted after the profile is loaded.",
        source: "apparmor.d(5); packaging/apparmor/variantd",
    }

    /// AppArmor keeps QEMU from a device of this host.
    AppArmorDevice = "VD-DOC-063" {
        severity: Warning,
        explanation: "libvirt adds the devices of a definition to the profile of its guest: those of iommufd only in newer \
            versions (12.8 does, 11.3 does not), and EGM in none. The package installs \
            abstractions/libvirt-qemu.d/variantd, which names both for every guest; libvirt 9.0 of Debian 12 does not \
            include that folder. Which guest has them is decided by libvirt's private /dev and its list of devices.",
        source: "libvirt, src/security/virt-aa-helper.c and src/security/apparmor/libvirt-qemu.in",
    }

    /// The agent and variantctl have different versions.
    AgentVersion = "VD-DOC-046" {
        severity: Warning,
        explanation: "The package was replaced and the running agent is the earlier one. The package's script \
            restarts it if it can.",
        source: "variantd's debian/postinst",
    }

    /// The D-Bus policy of variantd is missing.
    PolicyMissing = "VD-DOC-047" {
        severity: Failure,
        explanation: "dbus-daemon refuses to let a program own a name or call it without a policy \
            (/usr/share/dbus-1/system.d/org.variantd1.conf): root alone may change something, all users may read.",
        source: "dbus-daemon(1)",
    }

    /// The configuration or a recipe is invalid.
    SettingsUnusable = "VD-DOC-048" {
        severity: Failure,
        explanation: "variantd.conf or a file of recipes.d has an error; the message names file, line and the nearest \
            key. The agent does not start with it; a running agent keeps the configuration that it read before.",
        source: "variantd.conf, variantd.recipe(5)",
    }

    /// A unit of variantd does not start at boot.
    UnitDisabled = "VD-DOC-049" {
        severity: Warning,
        explanation: "D-Bus starts variantd.service on demand, but it completes definitions automatically only while \
            it runs; variantd-reserve.service binds reserved devices only at boot.",
        source: "systemd.unit(5); variantctl(1), reserve",
    }

    /// The job can no longer be cancelled.
    JobBegun = "VD-AGT-003" {
        severity: Refusal,
        explanation: "A job can be cancelled while it waits for polkit or for its turn. After it starts to change a \
            device or a definition it continues to its end, because an interrupted change is worse than a finished or \
            a reverted one.",
        source: "org.variantd1.xml, Job",
    }

    /// Too many jobs are running.
    JobsFull = "VD-AGT-004" {
        severity: Refusal,
        explanation: "Each caller may have 8 running jobs, and all callers except root 32 together, so that no caller \
            exhausts the agent's memory. Users other than root may start at most 16 jobs within a minute. Wait until \
            one of them completes.",
        source: "org.variantd1.xml, StartJob",
    }

    /// A job was cancelled.
    JobCancelled = "VD-AGT-005" {
        severity: Refusal,
        explanation: "The caller that started the job, or root, cancelled it before it changed anything.",
        source: "org.variantd1.xml, Job",
    }

    /// The caller is not authorized.
    NotAuthorized = "VD-AGT-006" {
        severity: Refusal,
        explanation: "All users may read and plan. A change needs polkit's authorization, with an action for each \
            kind of change: org.variantd1.prepare, bind, bind-in-use and recover. 'pkaction --verbose --action-id \
            ACTION' shows who is authorized; a rule below /etc/polkit-1/rules.d grants it without a password. Without \
            polkit only root may change something. Only root may call libvirt's hook interface.",
        source: "org.variantd1.policy; polkit(8)",
    }

    /// polkit does not answer.
    AuthoritySilent = "VD-AGT-007" {
        severity: Refusal,
        explanation: "polkit failed or did not answer in time, so only root is authorized.",
        source: "'systemctl status polkit' and its journal",
    }

    /// The user has too many unfinished calls.
    CallsFull = "VD-AGT-010" {
        severity: Refusal,
        explanation: "Each user except root may have 32 unfinished calls of the agent with 12 MiB, on all connections \
            together, and all such users together 128 calls with 32 MiB, so that no user exhausts the agent's memory \
            or delays others. Wait for replies; StartJob returns before its work is done.",
        source: "org.variantd1(5)",
    }

    /// A call is larger than its method needs.
    CallTooLarge = "VD-AGT-011" {
        severity: Refusal,
        explanation: "The agent checks the length of each call before it reads it. A call may have 64 KiB, PrepareXml \
            and PrepareDevice 1 MiB more for the text, and Prepare and StartJob 8 MiB more for a saved plan.",
        source: "org.variantd1(5)",
    }

    /// Too many replies to the user are unread.
    AnswersUnread = "VD-AGT-012" {
        severity: Refusal,
        explanation: "The message bus queues a reply until its caller reads it, and counts it against the agent's \
            limit, so unread replies could stop the agent from sending any. Each user except root may leave 8 MiB \
            unread, and less while many users do. The agent knows what a connection has read if its D-Bus library \
            answers Ping of org.freedesktop.DBus.Peer, as most libraries do; other connections must be closed after 8 \
            MiB of replies and opened again.",
        source: "org.variantd1(5); dbus-daemon(1), max_incoming_bytes",
    }

    /// An older version of variantd cannot use the state of this one.
    Downgrade = "VD-AGT-013" {
        severity: Refusal,
        explanation: "Before a downgrade the package's scripts write the records of devices in the form that the older version \
            reads. A device that is bound for a guest of KubeVirt, a record that cannot be read, and a key of the configuration \
            or of a recipe that the older version does not know have no such form. Nothing is changed then, and the agent \
            of the older version is not started, so that no guest's device is forgotten.",
        source: "variantd(8), DOWNGRADE",
    }

    /// A configuration file has an invalid key or value.
    ConfigMistake = "VD-CFG-001" {
        severity: Refusal,
        explanation: "A key is unknown, or a value has the wrong type; the message has file, line and the nearest \
            key. The agent does not start with it, and a reload keeps the old configuration. 'variantctl config \
            check' names every error in all files.",
        source: "variantd.conf and its comments",
    }

    /// A configuration file cannot be read.
    ConfigUnreadable = "VD-CFG-002" {
        severity: Refusal,
        explanation: "The file or the directory of drop-ins exists and cannot be read, so its settings would be \
            missing.",
        source: "variantctl(1), config",
    }

    /// `variantctl connect` does not change libvirt.conf.
    ConnectSettings = "VD-CON-001" {
        severity: Refusal,
        explanation: "With --enable 'variantctl connect' adds lines to the libvirt.conf of root's clients, and with \
            --disable it removes exactly these. It changes no other line: a uri_default of the administrator stays, a \
            file that libvirt cannot read is not changed, and lines that were edited since are not removed.",
        source: "variantctl(1), connect; libvirt, src/util/virconf.c",
    }

    /// A socket for several users cannot serve a libvirt with fine-grained access control.
    ConnectAccess = "VD-CON-002" {
        severity: Refusal,
        explanation: "A connection over /run/variantd/libvirt-sock has the rights of the user variantd-proxy. With \
            access_drivers in libvirtd.conf or in the file of a modular daemon, libvirt judges each user, so all clients of \
            the socket would have equal rights. The URI with 'qemu+ext' runs the transport as the client itself. A file that \
            cannot be read is refused, too.",
        source: "libvirt, Fine grained access control (acl.html)",
    }

    /// The inputs of a saved plan have changed.
    PlanStale = "VD-PLN-001" {
        severity: Refusal,
        explanation: "A saved plan is valid for the definition, host, recipes and versions that it was made from; the \
            message names what is different now. Nothing was changed: make and review a new plan before you apply it. \
            A plan that was made from a file without root lacks SRAT, so the host counts as different.",
        source: "variantctl(1)",
    }

    /// The text is not a saved plan, or it was edited.
    PlanUnreadable = "VD-PLN-002" {
        severity: Refusal,
        explanation: "The agent makes its own plan, and applies it only if it is identical to the saved one. This \
            saved plan cannot be read, or differs although it was made from the same definition, host, recipes and \
            versions.",
        source: "variantctl(1)",
    }
}
