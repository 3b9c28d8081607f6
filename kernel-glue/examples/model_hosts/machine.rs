//! The machines that are modelled.

use super::tree::{Tree, line};
use super::{pci, srat};

/// Generic initiators of each GPU: one for each MIG instance and one for the whole.
pub(crate) const INITIATORS: u32 = 8;
const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// A host to write.
pub(crate) struct Machine {
    pub(crate) name: &'static str,
    readme: &'static str,
    release: &'static str,
    pub(crate) sockets: u32,
    /// CPUs of each socket.
    pub(crate) cpus: u32,
    /// Memory of each socket.
    pub(crate) memory_kib: u64,
    pub(crate) gpus: Vec<Gpu>,
}

/// A GPU at `DOMAIN:01:00.0`, below a root port at `DOMAIN:00:00.0`.
pub(crate) struct Gpu {
    pub(crate) domain: u16,
    pub(crate) socket: u32,
    pub(crate) device: u16,
    pub(crate) smmu: &'static str,
    pub(crate) bars: [u64; 6],
    pub(crate) devcap2: u32,
    pub(crate) port_devcap2: u32,
}

/// Every machine, by name.
pub(crate) fn all() -> [Machine; 2] {
    [gb200(), gh200()]
}

fn gh200() -> Machine {
    Machine {
        name: "gh200-1gpu",
        readme: include_str!("gh200.txt"),
        release: "6.17.0-1008-nvidia-64k",
        sockets: 1,
        cpus: 72,
        memory_kib: 501_219_328,
        gpus: vec![Gpu {
            domain: 0x0009,
            socket: 0,
            device: 0x2342,
            smmu: "smmu3.0x0000000012000000",
            bars: [16 * MIB, 0, 0, 0, 32 * MIB, 0],
            devcap2: 0x0000_0180,
            port_devcap2: 0x0000_0380,
        }],
    }
}

fn gb200() -> Machine {
    let gpu = |domain, socket, smmu| Gpu {
        domain,
        socket,
        device: 0x2941,
        smmu,
        bars: [64 * MIB, 0, 256 * GIB, 0, 32 * MIB, 0],
        devcap2: 0,
        port_devcap2: 0x0000_0380,
    };
    Machine {
        name: "gb200-4gpu",
        readme: include_str!("gb200.txt"),
        release: "6.17.0-1008-nvidia-64k",
        sockets: 2,
        cpus: 72,
        memory_kib: 501_219_328,
        gpus: vec![
            gpu(0x0008, 0, "smmu3.0x0000000011000000"),
            gpu(0x0009, 0, "smmu3.0x0000000012000000"),
            gpu(0x0018, 1, "smmu3.0x0000100011000000"),
            gpu(0x0019, 1, "smmu3.0x0000100012000000"),
        ],
    }
}

impl Machine {
    pub(crate) fn gpu_count(&self) -> u32 {
        u32::try_from(self.gpus.len()).unwrap_or(u32::MAX)
    }

    /// How many nodes there are: sockets first, then the initiators of each GPU.
    pub(crate) fn nodes(&self) -> u32 {
        self.sockets + INITIATORS * self.gpu_count()
    }

    /// The initiator nodes of the `index`th GPU.
    pub(crate) fn initiators(&self, index: usize) -> std::ops::Range<u32> {
        let before: u32 = self.gpus.iter().take(index).map(|_| INITIATORS).sum();
        let first = self.sockets + before;
        first..first + INITIATORS
    }

    /// Everything below the host's directory.
    pub(crate) fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        tree.insert("README".to_owned(), line(self.readme.trim_end()));
        tree.insert("proc/sys/kernel/osrelease".to_owned(), line(self.release));
        let alias = format!("lib/modules/{}/modules.alias", self.release);
        tree.insert(alias, line(include_str!("modules.alias").trim_end()));
        let table = super::tree::Entry::File(srat::table(self));
        tree.insert("sys/firmware/acpi/tables/SRAT".to_owned(), table);
        self.add_nodes(&mut tree);
        for (index, gpu) in self.gpus.iter().enumerate() {
            pci::add(&mut tree, gpu, index);
        }
        tree
    }

    fn add_nodes(&self, tree: &mut Tree) {
        let last = self.nodes() - 1;
        let dir = "sys/devices/system/node";
        tree.insert(format!("{dir}/online"), line(format!("0-{last}")));
        let initiators = line(format!("{}-{last}", self.sockets));
        tree.insert(format!("{dir}/has_generic_initiator"), initiators);
        for node in 0..=last {
            let socket = node < self.sockets;
            let first = node * self.cpus;
            let cpus = if socket {
                format!("{first}-{}", first + self.cpus - 1)
            } else {
                String::new()
            };
            let memory = if socket { self.memory_kib } else { 0 };
            let distances: Vec<String> = (0..=last)
                .map(|to| self.distance(node, to).to_string())
                .collect();
            let dir = format!("{dir}/node{node}");
            tree.insert(format!("{dir}/cpulist"), line(cpus));
            let meminfo = line(format!("Node {node} MemTotal:       {memory} kB"));
            tree.insert(format!("{dir}/meminfo"), meminfo);
            tree.insert(format!("{dir}/distance"), line(distances.join(" ")));
        }
    }

    fn distance(&self, from: u32, to: u32) -> u8 {
        if from == to {
            return 10;
        }
        match (self.gpu_of(from), self.gpu_of(to)) {
            (Some(a), Some(b)) if std::ptr::eq(a, b) => 11,
            (None, None) | (Some(_), Some(_)) => 40,
            (Some(gpu), None) if gpu.socket == to => 80,
            (None, Some(gpu)) if gpu.socket == from => 80,
            _ => 120,
        }
    }

    /// The GPU whose initiator a node is; `None` for a socket.
    fn gpu_of(&self, node: u32) -> Option<&Gpu> {
        let mut gpus = self.gpus.iter().enumerate();
        let owner = gpus.find(|(index, _)| self.initiators(*index).contains(&node));
        owner.map(|(_, gpu)| gpu)
    }
}
