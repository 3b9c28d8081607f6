//! The description of a modelled machine, and the files of its directory.

use super::tree::{Entry, Tree, line};
use super::{node, pci, processor, srat};

/// A host to write.
#[derive(Clone)]
pub struct Machine {
    pub name: &'static str,
    pub readme: &'static str,
    pub release: &'static str,
    pub platform: Platform,
    pub sockets: u32,
    /// CPUs of each socket.
    pub cpus: u32,
    /// Memory of each socket; the last value is that of all further ones.
    pub memory_kib: &'static [u64],
    /// Distance between sockets.
    pub remote: u8,
    pub processors: Processors,
    /// Distance between initiators of one endpoint.
    pub same_device: u8,
    /// Endpoints in the firmware's order of initiators.
    pub endpoints: Vec<Endpoint>,
    pub egm: &'static [Egm],
    pub reader: Reader,
}

/// Cores, caches and huge pages. `sockets` of a machine counts NUMA nodes: a package may have several (SNC, NPS).
#[derive(Clone, Copy)]
pub struct Processors {
    /// SMT siblings of each core; sibling `n` of all cores comes after sibling `n - 1` of all, as on x86.
    pub threads: u32,
    /// Cores that share a cache of level 3; 0 for all of a node.
    pub cache_cores: u32,
    /// CPUs that are offline.
    pub offline: &'static [u32],
    /// Nodes of each package, and the distance between them.
    pub package_nodes: u32,
    pub near: u8,
    /// Huge pages of each node: size in KiB, their number, how many are free.
    pub pages: &'static [(u64, u64, u64)],
}

impl Processors {
    /// One thread for each core, a node for each package, and no huge pages.
    pub const PLAIN: Self = Self {
        threads: 1,
        cache_cores: 0,
        offline: &[],
        package_nodes: 1,
        near: 12,
        pages: &[],
    };
    /// Two threads for each core.
    pub const SMT: Self = Self {
        threads: 2,
        ..Self::PLAIN
    };
}

/// An EGM region.
#[derive(Clone, Copy)]
pub struct Egm {
    pub number: u32,
    pub mib: u64,
    pub gpus: &'static [&'static str],
}

/// The vendor of the processors. It selects SRAT's processor entries and the ids of root ports.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    Grace,
    Intel,
    Amd,
}

/// The reader's privilege: without root there is no SRAT, and config space ends after 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    Root,
    User,
}

/// A function with the root port above it.
#[derive(Clone)]
pub struct Endpoint {
    /// The root port's address; functions of one slot share it. Empty for an endpoint of the root complex.
    pub port: &'static str,
    /// Ports of switches below the root port, from above; endpoints may share them.
    pub between: &'static [SwitchPort],
    pub address: &'static str,
    pub kind: Kind,
    pub socket: u32,
    pub iommu: &'static str,
    pub bars: [u64; 6],
    pub devcap2: u32,
    pub devctl2: u16,
    pub port_devcap2: u32,
    /// The number of its generic initiators: eight for a Grace GPU, one for each MIG instance and one for the whole GPU.
    pub initiators: u32,
    /// Its memory, if the host uses it as memory of the first initiator's node.
    pub memory_kib: u64,
    pub numa_node: At,
    /// The physical function of a virtual one.
    pub physical: Option<&'static str>,
    pub group: Group,
    pub ats: Ats,
}

/// The capability for address translation by an endpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ats {
    Absent,
    Off,
    On,
}

/// The IOMMU group of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The next free number.
    Next,
    Number(usize),
    /// With the switch ports above it, except the first: ACS is set for peer-to-peer traffic.
    WithPorts(usize),
}

/// A port of a switch.
#[derive(Clone, Copy)]
pub struct SwitchPort {
    pub address: &'static str,
    pub upstream: bool,
    pub devcap2: u32,
    pub devctl2: u16,
    /// The ACS control register; 0 without that capability.
    pub access_control: u16,
}

/// AtomicOp routing, bit 6 of Device Capabilities 2.
pub const ROUTING: u32 = 0x0040;

impl SwitchPort {
    /// A port without ACS that blocks nothing.
    pub const fn new(address: &'static str, upstream: bool, devcap2: u32) -> Self {
        Self {
            address,
            upstream,
            devcap2,
            devctl2: 0,
            access_control: 0,
        }
    }
}

/// The product of a function.
#[derive(Clone, Copy)]
pub struct Kind {
    pub vendor: u16,
    pub device: u16,
    pub class: u32,
    pub driver: &'static str,
    pub reset: &'static str,
}

/// The node in `numa_node`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum At {
    Socket,
    FirstInitiator,
}

impl Machine {
    /// The number of nodes: sockets first, then initiators, device by device.
    pub fn nodes(&self) -> u32 {
        let initiators = self.endpoints.iter().map(|one| one.initiators);
        self.sockets + initiators.sum::<u32>()
    }

    /// The initiator nodes of the `index`th endpoint.
    pub fn initiators(&self, index: usize) -> std::ops::Range<u32> {
        let before = self.endpoints.iter().take(index).map(|one| one.initiators);
        let first = self.sockets + before.sum::<u32>();
        first..first + self.endpoints[index].initiators
    }

    /// `numa_node` of the `index`th endpoint.
    pub fn numa_node(&self, index: usize) -> u32 {
        let endpoint = &self.endpoints[index];
        match endpoint.numa_node {
            At::Socket => endpoint.socket,
            At::FirstInitiator => self.initiators(index).start,
        }
    }

    /// Memory of a socket.
    pub fn socket_kib(&self, socket: u32) -> u64 {
        let mut own = self.memory_kib.iter().take(socket as usize + 1);
        own.next_back().copied().unwrap_or_default()
    }

    /// The endpoint of an initiator's node; `None` for a socket.
    pub fn owner(&self, node: u32) -> Option<&Endpoint> {
        let mut all = self.endpoints.iter().enumerate();
        let owner = all.find(|(index, _)| self.initiators(*index).contains(&node));
        owner.map(|(_, endpoint)| endpoint)
    }

    /// All files of the host's directory.
    pub fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        tree.insert("README".to_owned(), line(self.readme.trim_end()));
        tree.insert("proc/sys/kernel/osrelease".to_owned(), line(self.release));
        let alias = format!("lib/modules/{}/modules.alias", self.release);
        tree.insert(alias, line(self.aliases()));
        let (name, text) = match self.platform {
            // The misc device of drivers/iommu/iommufd/main.c; x86-64 hosts are without its module.
            Platform::Grace => ("sys/class/misc/iommu/dev", "10:126"),
            // arch/x86/kernel/cpu/proc.c
            Platform::Intel | Platform::Amd => (
                "proc/cpuinfo",
                "address sizes\t: 52 bits physical, 57 bits virtual",
            ),
        };
        tree.insert(name.to_owned(), line(text));
        self.add_egm(&mut tree);
        node::add(&mut tree, self);
        processor::add(&mut tree, self);
        pci::add(&mut tree, self);
        match self.reader {
            Reader::Root => {
                let table = Entry::File(srat::table(self));
                tree.insert(srat::PATH.to_owned(), table);
            }
            Reader::User => {
                tree.insert("recorded-gaps".to_owned(), line(self.hidden()));
            }
        }
        tree
    }

    /// Regions as NVIDIA's kernels 6.17 and 7.0 show them.
    fn add_egm(&self, tree: &mut Tree) {
        for region in self.egm {
            let dir = format!("sys/class/egm/egm{}", region.number);
            let bytes = region.mib << 20;
            tree.insert(format!("{dir}/dev"), line(format!("240:{}", region.number)));
            tree.insert(format!("{dir}/egm_size"), line(format!("{bytes:#x}")));
            let gpus = line(region.gpus.join("\n"));
            tree.insert(format!("{dir}/gpu_devices"), gpus);
        }
    }

    /// Patterns of the kernel's modules; a kernel of a Vera Rubin machine also knows that GPU.
    fn aliases(&self) -> String {
        let known = include_str!("modules.alias").trim_end();
        let mut ids = self.endpoints.iter().map(|one| one.kind.device);
        let rubin = ids.find(|id| *id == super::grace::RUBIN).map(|id| {
            format!("alias vfio_pci:v000010DEd{id:08X}sv*sd*bc*sc*i* nvgrace_gpu_vfio_pci\n")
        });
        rubin.unwrap_or_default() + known
    }

    /// The parts that only root can read, as in a recording.
    fn hidden(&self) -> String {
        format!("/{}: permission denied", srat::PATH)
    }
}
