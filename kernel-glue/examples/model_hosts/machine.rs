//! What a modelled machine is made of, and everything below its directory.

use super::tree::{Entry, Tree, line};
use super::{node, pci, srat};

/// A host to write.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) name: &'static str,
    pub(crate) readme: &'static str,
    pub(crate) release: &'static str,
    pub(crate) platform: Platform,
    pub(crate) sockets: u32,
    /// CPUs of each socket.
    pub(crate) cpus: u32,
    /// Memory of each socket.
    pub(crate) memory_kib: u64,
    /// Distance between sockets.
    pub(crate) remote: u8,
    /// In the order in which the firmware lists their initiators.
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) reader: Reader,
}

/// Who made the processors: decides about SRAT's processor entries and the root ports' ids.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Platform {
    Grace,
    Intel,
    Amd,
}

/// Who looked: without root there is no SRAT, and config space ends after 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    Root,
    User,
}

/// A function with the root port above it.
#[derive(Clone)]
pub(crate) struct Endpoint {
    /// The root port's address; functions of one slot share it. Empty for an endpoint of the root complex.
    pub(crate) port: &'static str,
    /// Ports of switches below the root port, from above; endpoints may share them.
    pub(crate) between: &'static [SwitchPort],
    pub(crate) address: &'static str,
    pub(crate) kind: Kind,
    pub(crate) socket: u32,
    pub(crate) iommu: &'static str,
    pub(crate) bars: [u64; 6],
    pub(crate) devcap2: u32,
    pub(crate) devctl2: u16,
    pub(crate) port_devcap2: u32,
    /// Generic initiators of its own: eight for a Grace GPU, one for each MIG instance and one for the whole.
    pub(crate) initiators: u32,
    /// Its memory, where the host uses it as the first initiator's.
    pub(crate) memory_kib: u64,
    pub(crate) numa_node: At,
    /// The physical function of a virtual one.
    pub(crate) physical: Option<&'static str>,
}

/// A port of a switch.
#[derive(Clone, Copy)]
pub(crate) struct SwitchPort {
    pub(crate) address: &'static str,
    pub(crate) upstream: bool,
    pub(crate) devcap2: u32,
    pub(crate) devctl2: u16,
    /// The ACS control register; 0 without that capability.
    pub(crate) access_control: u16,
}

/// Which product a function is.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) vendor: u16,
    pub(crate) device: u16,
    pub(crate) class: u32,
    pub(crate) driver: &'static str,
    pub(crate) reset: &'static str,
}

/// Which node `numa_node` names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    Socket,
    FirstInitiator,
}

impl Machine {
    /// How many nodes there are: sockets first, then initiators, device by device.
    pub(crate) fn nodes(&self) -> u32 {
        let initiators = self.endpoints.iter().map(|one| one.initiators);
        self.sockets + initiators.sum::<u32>()
    }

    /// The initiator nodes of the `index`th endpoint.
    pub(crate) fn initiators(&self, index: usize) -> std::ops::Range<u32> {
        let before = self.endpoints.iter().take(index).map(|one| one.initiators);
        let first = self.sockets + before.sum::<u32>();
        first..first + self.endpoints[index].initiators
    }

    /// What `numa_node` of the `index`th endpoint says.
    pub(crate) fn numa_node(&self, index: usize) -> u32 {
        let endpoint = &self.endpoints[index];
        match endpoint.numa_node {
            At::Socket => endpoint.socket,
            At::FirstInitiator => self.initiators(index).start,
        }
    }

    /// The endpoint whose initiator a node is; `None` for a socket.
    pub(crate) fn owner(&self, node: u32) -> Option<&Endpoint> {
        let mut all = self.endpoints.iter().enumerate();
        let owner = all.find(|(index, _)| self.initiators(*index).contains(&node));
        owner.map(|(_, endpoint)| endpoint)
    }

    /// Everything below the host's directory.
    pub(crate) fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        tree.insert("README".to_owned(), line(self.readme.trim_end()));
        tree.insert("proc/sys/kernel/osrelease".to_owned(), line(self.release));
        let alias = format!("lib/modules/{}/modules.alias", self.release);
        tree.insert(alias, line(include_str!("modules.alias").trim_end()));
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
        node::add(&mut tree, self);
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

    /// What only root sees, as a recording notes it.
    fn hidden(&self) -> String {
        format!("/{}: permission denied", srat::PATH)
    }
}
