//! What differs between the processors that an emulated host may have.

use std::fmt;

use clap::ValueEnum;

/// Instruction set of the emulated host. The machine around it is x86-64.
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

    /// What the families of its artefacts end with.
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

    /// Most GPUs with eight initiator nodes each. Debian's arm64 kernel has room for 16 nodes in all (CONFIG_NODES_SHIFT=4).
    pub fn most_gpus(self) -> u32 {
        match self {
            Self::X86_64 => 4,
            Self::Aarch64 => 1,
        }
    }

    /// GPUs of a lab that is not asked for a number: each one is a process more and eight nodes more at boot.
    pub fn usual_gpus(self) -> u32 {
        self.most_gpus().min(2)
    }

    /// Where GPU memory begins: above all that the machine type uses itself.
    pub fn gpu_memory_base(self) -> u64 {
        match self {
            Self::X86_64 => 0x40_0000_0000,
            // 'virt' has redistributors and ECAM from 256 GiB, the MMIO window from 512 GiB to 1 TiB
            Self::Aarch64 => 0x200_0000_0000,
        }
    }

    /// Firmware tables that are read at a first boot and corrected.
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
