//! The published guests, and why values of ours differ from theirs.

use super::Published;
use super::guest::Guest;

/// The GPUs of a GB200.
const GB200: [&str; 4] = [
    "0008:01:00.0",
    "0009:01:00.0",
    "0018:01:00.0",
    "0019:01:00.0",
];

const NO_LINK: &str = "the recipe's placement.link is off: the link has no effect on a GPU that is reached by NVLink-C2C";
const OWN_NUMBERS: &str = "any free numbers serve; they count down from the top as libvirt's do";
const HOST_DISTANCE: &str =
    "the host's distances are the default; cpu_distance of the recipe replaces them";
const NO_DISTANCES: &str =
    "without a SLIT the guest's kernel takes 10 and 20; the host's distances are better";
const NO_HOTPLUG: &str = "vfio-pci-nohotplug is not needed: libvirt, NVIDIA's too, writes vfio-pci";
const MODEL: &str = "<driver model> names the driver, so that libvirt cannot fall back to vfio-pci";
const LEAST_WINDOW: &str =
    "the sum of the BARs, as KubeVirt computes it; a larger value of the user is kept";
const PER_GPU: &str =
    "per = \"iommu\": one expander for each SMMU of the host; here each GPU has its own";
const NO_RECIPE: &str =
    "a NIC without a recipe keeps libvirt's place; an expander and an SMMUv3 for it are the user's";
const NO_HMAT: &str =
    "without latencies the HMAT has no entries; <interconnects> of the user are kept";
const OTHER_GPU: &str = "a GB300 takes 1 TiB for each GPU; NVIDIA names 8 TiB for four";
const NO_ROM: &str = "the certified guests leave the ROM on; <rom bar='off'/> of the user is kept";
const NO_IO: &str = "PCI Express devices work without I/O ports (QEMU, docs/pcie.txt), so a port that gets none works";
const BACKING: &str = "libvirt makes the backend of such a cell from <memory model='egm'>; <memoryBacking> applies to no other cell";

pub(super) fn all() -> Vec<Published> {
    let mut all = vec![aie()];
    all.extend(more_of_aie());
    all.push(opennebula());
    all.extend(kata());
    all.extend(kernel_tests());
    all
}

/// NVIDIA's fork of KubeVirt: a GB200 with EGM and command queues.
fn aie() -> Published {
    Published {
        name: "aie-gb200-4gpu-egm",
        title: "aie: GB200, four GPUs, EGM, command queues",
        guest: Guest {
            host: "gb200-egm",
            gpus: &GB200,
            cells: &[("0-59", 468_713_472), ("60-119", 468_713_472)],
            options: "egm='on' cmdqv='on'",
            hugepages: false,
            managed: false,
        },
        items: &[
            (
                "cells",
                "0: cpus 0-59, 468713472 KiB; 1: cpus 60-119, 468713472 KiB",
            ),
            ("initiators", "2-9 10-17 18-25 26-33"),
            (
                "distances",
                "self 10, CPU to CPU 40, CPU to own 80, CPU to other 120, within 11, between 40",
            ),
            ("window", "4294967296 KiB"),
            ("expanders of GPUs", "node 0, node 0, node 1, node 1"),
            ("bus numbers", "33 35 65 67"),
            (
                "ports",
                "each alone at slot 0 function 0 of its own root port",
            ),
            (
                "SMMUv3",
                "4 x accel on, ats on, cmdqv on, oas 48, pasid on, ril off",
            ),
            ("iommufd", "each hostdev"),
            ("hostdev", "managed no, no model"),
            (
                "EGM",
                "/dev/egm4 228864 MiB node 0; /dev/egm4 228864 MiB node 0; /dev/egm5 228864 MiB node 1; /dev/egm5 228864 MiB node 1",
            ),
            ("memory backing", "file, shared, immediate"),
            ("link", "x-speed 16, x-width 1"),
            ("RAS", "on"),
        ],
        decided: &[
            ("bus numbers", OWN_NUMBERS),
            ("hostdev", MODEL),
            ("memory backing", BACKING),
            ("link", NO_LINK),
        ],
    }
}

/// Its other guests, of which only these values are public.
fn more_of_aie() -> [Published; 3] {
    const SMMUS: &str = "4 x accel on, ats on, cmdqv on, oas 48, pasid on, ril off";
    let without = Published {
        name: "aie-gb200-4gpu-hugepages",
        title: "aie: GB200, four GPUs, command queues, huge pages instead of EGM",
        guest: Guest {
            options: "cmdqv='on'",
            hugepages: true,
            ..aie().guest
        },
        items: &[
            ("SMMUv3", SMMUS),
            ("EGM", "none"),
            ("memory backing", "hugepages"),
        ],
        decided: &[],
    };
    let nics = Published {
        name: "aie-gb200-nics",
        title: "aie: GB200, four GPUs, EGM, command queues, NICs",
        guest: Guest {
            host: "gb200-nic-egm",
            gpus: &[
                "0008:01:00.0",
                "0009:01:00.0",
                "0018:01:00.0",
                "0019:01:00.0",
                "0002:01:00.0",
                "0012:01:00.0",
            ],
            ..aie().guest
        },
        items: &[
            ("initiators", "2-9 10-17 18-25 26-33"),
            ("window", "4294967296 KiB"),
            ("expanders of GPUs", "node 0, node 0, node 1, node 1"),
            (
                "NICs",
                "below an expander with an SMMUv3, nodeset of the CPU cell",
            ),
        ],
        decided: &[("NICs", NO_RECIPE)],
    };
    let gb300 = Published {
        name: "aie-gb300-4gpu",
        title: "aie: GB300, four GPUs",
        guest: Guest {
            host: "gb300-4gpu",
            gpus: &[
                "0008:06:00.0",
                "0009:06:00.0",
                "0018:06:00.0",
                "0019:06:00.0",
            ],
            options: "",
            ..aie().guest
        },
        items: &[("window", "8589934592 KiB")],
        decided: &[],
    };
    [without, nics, gb300]
}

/// OpenNebula's certified guest.
fn opennebula() -> Published {
    Published {
        name: "opennebula-gb200-2gpu",
        title: "OpenNebula: GB200, two GPUs, command queues",
        guest: Guest {
            host: "gb200-4gpu",
            gpus: &["0008:01:00.0", "0018:01:00.0"],
            cells: &[("0-70", 268_435_456), ("71-141", 268_435_456)],
            options: "cmdqv='on'",
            hugepages: true,
            managed: true,
        },
        items: &[
            (
                "cells",
                "0: cpus 0-70, 268435456 KiB; 1: cpus 71-141, 268435456 KiB",
            ),
            ("initiators", "2-9 10-17"),
            (
                "distances",
                "self 10, CPU to CPU 20, CPU to own 254, CPU to other 254, within 20, between 20",
            ),
            ("window", "4294967296 KiB"),
            ("expanders of GPUs", "node 0, node 1"),
            ("bus numbers", "160 168"),
            (
                "ports",
                "each alone at slot 0 function 0 of its own root port",
            ),
            (
                "SMMUv3",
                "2 x accel on, ats on, cmdqv on, oas 48, pasid on, ril off",
            ),
            ("iommufd", "each hostdev"),
            ("hostdev", "managed yes, no model"),
            ("EGM", "none"),
            ("memory backing", "hugepages"),
            ("RAS", "on"),
        ],
        decided: &[
            ("distances", HOST_DISTANCE),
            ("window", LEAST_WINDOW),
            ("bus numbers", OWN_NUMBERS),
            ("hostdev", MODEL),
        ],
    }
}

/// Kata's fixtures.
fn kata() -> Vec<Published> {
    const SMMU_1: &str = "1 x accel on, ats on, oas 48, pasid on, ril off";
    const ONE: Guest = Guest {
        host: "gb300-4gpu",
        gpus: &["0008:06:00.0"],
        cells: &[("0-3", 16 << 20)],
        options: "",
        hugepages: false,
        managed: false,
    };
    const GPU: &[(&str, &str)] = &[
        ("cells", "0: cpus 0-3, 16777216 KiB"),
        ("initiators", "1-8"),
        ("distances", "none"),
        ("window", "4294967296 KiB"),
        ("expanders of GPUs", "node 0"),
        ("bus numbers", "1"),
        (
            "ports",
            "each alone at slot 0 function 0 of its own root port",
        ),
        ("SMMUv3", SMMU_1),
        ("iommufd", "each hostdev"),
        ("device type", "vfio-pci-nohotplug"),
        ("ROM", "off"),
        ("port I/O", "io-reserve=0"),
        ("EGM", "none"),
        ("memory backing", "none"),
        ("RAS", "on"),
    ];
    const USUAL: &[(&str, &str)] = &[
        ("distances", NO_DISTANCES),
        ("window", LEAST_WINDOW),
        ("bus numbers", OWN_NUMBERS),
        ("device type", NO_HOTPLUG),
        ("ROM", NO_ROM),
        ("port I/O", NO_IO),
    ];
    vec![
        Published {
            name: "kata-1-one-gpu",
            title: "Kata, fixture 1: one GPU",
            guest: ONE,
            items: GPU,
            decided: USUAL,
        },
        Published {
            name: "kata-2-four-gpus",
            title: "Kata, fixture 2: four GPUs, one cell",
            guest: Guest {
                gpus: &[
                    "0008:06:00.0",
                    "0009:06:00.0",
                    "0018:06:00.0",
                    "0019:06:00.0",
                ],
                ..ONE
            },
            items: &[
                ("cells", "0: cpus 0-3, 16777216 KiB"),
                ("initiators", "1-8 9-16 17-24 25-32"),
                ("distances", "none"),
                ("window", "4294967296 KiB"),
                ("expanders of GPUs", "node 0, node 0, node 0, node 0"),
                ("SMMUv3", "4 x accel on, ats on, oas 48, pasid on, ril off"),
                ("iommufd", "each hostdev"),
                ("EGM", "none"),
            ],
            decided: &[("distances", NO_DISTANCES), ("window", OTHER_GPU)],
        },
        Published {
            name: "kata-3-shared-smmu",
            title: "Kata, fixture 3, its first expander: two GPUs behind one SMMU",
            guest: Guest {
                host: "gb200-shared-smmu",
                gpus: &["0008:01:00.0", "0009:01:00.0"],
                ..ONE
            },
            items: &[
                ("initiators", "1-8 9-16"),
                ("distances", "none"),
                ("expanders of GPUs", "node 0 with 2 GPUs"),
                (
                    "ports",
                    "each alone at slot 0 function 0 of its own root port",
                ),
                ("SMMUv3", SMMU_1),
                ("iommufd", "each hostdev"),
            ],
            decided: &[("distances", NO_DISTANCES)],
        },
        Published {
            name: "kata-4-gpu-and-nic",
            title: "Kata, fixture 4: one GPU and a NIC",
            guest: Guest {
                host: "gb200-nic",
                gpus: &["0002:01:00.0", "0008:01:00.0"],
                ..ONE
            },
            items: &[
                ("initiators", "1-8"),
                ("expanders of GPUs", "node 0"),
                ("NICs", "below an expander with an SMMUv3, no nodeset"),
            ],
            decided: &[("NICs", NO_RECIPE)],
        },
        Published {
            name: "kata-5-command-queues",
            title: "Kata, fixture 5: one GPU, command queues, huge pages",
            guest: Guest {
                options: "cmdqv='on'",
                hugepages: true,
                ..ONE
            },
            items: &[
                ("initiators", "1-8"),
                (
                    "SMMUv3",
                    "1 x accel on, ats on, cmdqv on, oas 48, pasid on, ril off",
                ),
                ("memory backing", "hugepages"),
                ("EGM", "none"),
            ],
            decided: &[],
        },
        Published {
            name: "kata-6-egm-one-per-socket",
            title: "Kata, fixture 6: four sockets with one GPU and one EGM region each",
            guest: Guest {
                host: "gh200-4gpu-egm",
                gpus: &[
                    "0009:01:00.0",
                    "0019:01:00.0",
                    "0029:01:00.0",
                    "0039:01:00.0",
                ],
                cells: &[
                    ("0", 56_896 << 10),
                    ("1", 56_896 << 10),
                    ("2", 56_896 << 10),
                    ("3", 56_896 << 10),
                ],
                options: "egm='on'",
                hugepages: false,
                managed: false,
            },
            items: &[
                (
                    "cells",
                    "0: cpus 0, 58261504 KiB; 1: cpus 1, 58261504 KiB; 2: cpus 2, 58261504 KiB; 3: cpus 3, 58261504 KiB",
                ),
                ("initiators", "4-11 12-19 20-27 28-35"),
                ("distances", "none"),
                ("window", "4294967296 KiB"),
                ("expanders of GPUs", "node 0, node 1, node 2, node 3"),
                ("SMMUv3", "4 x accel on, ats on, oas 48, pasid on, ril off"),
                (
                    "EGM",
                    "/dev/egm4 56896 MiB node 0; /dev/egm5 56896 MiB node 1; /dev/egm6 56896 MiB node 2; /dev/egm7 56896 MiB node 3",
                ),
            ],
            decided: &[("distances", NO_DISTANCES)],
        },
        Published {
            name: "kata-7-egm-two-per-socket",
            title: "Kata, fixture 7: two sockets with two GPUs and one EGM region each",
            guest: Guest {
                host: "gb200-egm",
                gpus: &GB200,
                cells: &[("0-1", 56_896 << 10), ("2-3", 56_896 << 10)],
                options: "egm='on'",
                hugepages: false,
                managed: false,
            },
            items: &[
                (
                    "cells",
                    "0: cpus 0-1, 58261504 KiB; 1: cpus 2-3, 58261504 KiB",
                ),
                ("initiators", "2-9 10-17 18-25 26-33"),
                ("distances", "none"),
                (
                    "expanders of GPUs",
                    "node 0 with 2 GPUs, node 1 with 2 GPUs",
                ),
                ("SMMUv3", "2 x accel on, ats on, oas 48, pasid on, ril off"),
                (
                    "EGM",
                    "/dev/egm4 28448 MiB node 0; /dev/egm4 28448 MiB node 0; /dev/egm5 28448 MiB node 1; /dev/egm5 28448 MiB node 1",
                ),
            ],
            decided: &[
                ("distances", NO_DISTANCES),
                ("expanders of GPUs", PER_GPU),
                ("SMMUv3", PER_GPU),
            ],
        },
    ]
}

/// The test lines of NVIDIA's kernel and QEMU changes.
fn kernel_tests() -> Vec<Published> {
    const ONE: Guest = Guest {
        host: "gh200-4gpu-egm",
        gpus: &["0009:01:00.0"],
        cells: &[("0-3", 16 << 20)],
        options: "egm='on'",
        hugepages: false,
        managed: false,
    };
    vec![
        Published {
            name: "nvidia-kernel-egm",
            title: "NVIDIA's kernel tests with EGM (6.14): one GPU, 16 GiB of a larger region",
            guest: ONE,
            items: &[
                ("cells", "0: cpus 0-3, 16777216 KiB"),
                ("initiators", "1-8"),
                ("expanders of GPUs", "none"),
                ("SMMUv3", "1 x of the whole machine, nested"),
                ("iommufd", "each hostdev"),
                ("device type", "vfio-pci-nohotplug"),
                ("ROM", "off"),
                ("EGM", "/dev/egm4 16384 MiB node 0"),
                ("HMAT", "on"),
                ("RAS", "on"),
            ],
            decided: &[
                (
                    "expanders of GPUs",
                    "later builds have an SMMUv3 for each bus, which needs an expander",
                ),
                (
                    "SMMUv3",
                    "the machine option of that preview is gone; later builds have one for each bus",
                ),
                ("device type", NO_HOTPLUG),
                ("ROM", NO_ROM),
                ("HMAT", NO_HMAT),
            ],
        },
        Published {
            name: "nvidia-qemu-window",
            title: "NVIDIA's QEMU tests (10.1): one GPU, 16 GiB",
            guest: Guest {
                host: "gb200-4gpu",
                gpus: &["0009:01:00.0"],
                options: "",
                ..ONE
            },
            items: &[
                ("cells", "0: cpus 0-3, 16777216 KiB"),
                ("window", "4294967296 KiB"),
                ("EGM", "none"),
                ("HMAT", "on"),
                ("RAS", "on"),
            ],
            decided: &[("window", LEAST_WINDOW), ("HMAT", NO_HMAT)],
        },
    ]
}
