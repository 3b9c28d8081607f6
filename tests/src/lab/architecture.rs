//! Differences between the processor architectures of emulated hosts.

use std::fmt;

use clap::ValueEnum;

/// Instruction set of the emulated host. The outer machine is x86-64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Architecture {
    /// `q35` with an Intel IOMMU.
    #[default]
    #[value(name = "x86_64")]
    X86_64,
    /// `virt` with an SMMUv3, as Grace has it.
    #[value(name = "aarch64")]
    Aarch64,
}

impl Architecture {
    /// Debian's name for it.
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// Suffix of the families of its artefacts.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::X86_64 => "",
            Self::Aarch64 => "-arm64",
        }
    }

    /// The program that emulates it.
    pub fn qemu(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86_64",
            Self::Aarch64 => "qemu-system-aarch64",
        }
    }

    /// Machine type of the guests that run in it.
    pub fn guest_machine(self) -> &'static str {
        match self {
            Self::X86_64 => "q35",
            Self::Aarch64 => "virt",
        }
    }

    /// Serial console.
    pub fn console(self) -> &'static str {
        match self {
            Self::X86_64 => "ttyS0",
            Self::Aarch64 => "ttyAMA0",
        }
    }

    /// Most GPUs with eight initiator nodes each. Debian's arm64 kernel supports 16 nodes (CONFIG_NODES_SHIFT=4).
    pub fn most_gpus(self) -> u32 {
        match self {
            Self::X86_64 => 4,
            Self::Aarch64 => 1,
        }
    }

    /// Default number of GPUs of a lab. Each one adds a process, and eight nodes at boot.
    pub fn usual_gpus(self) -> u32 {
        self.most_gpus().min(2)
    }

    /// The start of GPU memory, above the memory map of the machine type.
    pub fn gpu_memory_base(self) -> u64 {
        match self {
            Self::X86_64 => 0x40_0000_0000,
            // 'virt' has redistributors and ECAM from 256 GiB, the MMIO window from 512 GiB to 1 TiB
            Self::Aarch64 => 0x200_0000_0000,
        }
    }

    /// Firmware tables that are read at a first boot and changed.
    pub fn tables(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &["DSDT", "SRAT"],
            Self::Aarch64 => &["SRAT", "IORT"],
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        })
    }
}
