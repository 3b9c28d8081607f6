//! Generated hosts: sockets, GPUs with their initiators, distances, and the kernel's files.

use std::collections::{BTreeMap, BTreeSet};

use kernel_glue::address::PciAddress;
use kernel_glue::config::{Config, ConfigError};
use kernel_glue::device::{Bar, Device};
use kernel_glue::egm::EgmRegion;
use kernel_glue::host::Host;
use kernel_glue::numa::{Node, Numa, NumaNode, RangeList};
use kernel_glue::srat::Srat;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::xml::Dice;

/// Initiators of a Grace GPU.
pub(crate) const INITIATORS: u32 = 8;
/// Devices of every host: address, id, whether only x86-64 guests are supported.
pub(crate) const OTHERS: [(&str, &str, bool); 6] = [
    ("0000:1b:00.0", "10de:2330", true),
    ("0000:1c:00.0", "10de:2330", true),
    ("0000:c5:00.0", "1002:74a1", true),
    ("0002:01:00.0", "15b3:1021", false),
    ("0002:01:00.2", "15b3:101e", false),
    ("10000:e1:00.0", "144d:a80a", false),
];
const GRACE: [&str; 5] = [
    "10de:2342",
    "10de:2345",
    "10de:2348",
    "10de:2941",
    "10de:31c2",
];

/// The parameters of a host.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// How many GPUs each socket has.
    gpus: Vec<u32>,
    id: usize,
    /// Other devices with initiators: socket and how many.
    foreign: Vec<(u32, u32)>,
    /// Order in which the firmware lists initiators.
    order: Option<u64>,
    distances: Distances,
    /// `numa_node` of a GPU is its first initiator.
    head: bool,
    /// The host uses the GPUs' memory.
    memory: bool,
    /// `has_generic_initiator` exists.
    listed: bool,
    /// SRAT can be read.
    srat: bool,
    /// GPUs of a socket share an SMMU.
    shared: bool,
    /// iommufd is loaded.
    iommufd: bool,
}

#[derive(Clone, Debug)]
struct Distances {
    sockets: u8,
    /// Between initiators of one device; some hosts have 10.
    within: u8,
    near: u8,
    far: u8,
    same_socket: u8,
    other_socket: u8,
    /// Added between a GPU with an even address and one with an odd address.
    skew: u8,
}

/// A device with initiators and where these are.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) address: PciAddress,
    pub(crate) socket: u32,
    pub(crate) gpu: bool,
    pub(crate) nodes: std::ops::Range<u32>,
}

impl Owner {
    fn is_even(&self) -> bool {
        self.address.domain().is_multiple_of(2)
    }
}

fn distances() -> impl Strategy<Value = Distances> {
    let far = (20u8..90, 1u8..100);
    let other = (0u8..50, prop_oneof![2 => Just(0u8), 1 => 1u8..20]);
    (12u8..60, 10u8..16, far, 20u8..100, other).prop_map(
        |(sockets, within, (near, more), same_socket, (step, skew))| Distances {
            sockets,
            within,
            near,
            far: near + more,
            same_socket,
            other_socket: same_socket + step,
            skew,
        },
    )
}

/// Hosts of one to four sockets with up to four GPUs each, one at least.
pub(crate) fn shape() -> impl Strategy<Value = Shape> {
    let gpus = vec(0u32..=4, 1..=4).prop_map(|mut gpus| {
        if gpus.iter().sum::<u32>() == 0 {
            gpus[0] = 1;
        }
        gpus
    });
    let foreign = prop_oneof![4 => Just(Vec::new()), 1 => vec((0u32..4, 1u32..=8), 1..=2)];
    let told = (
        any::<bool>(),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.7),
        any::<[bool; 2]>(),
    );
    let order = prop::option::weighted(0.8, any::<u64>());
    (gpus, 0..GRACE.len(), foreign, order, distances(), told).prop_map(
        |(gpus, id, foreign, order, distances, (head, memory, listed, srat, [shared, iommufd]))| {
            Shape {
                gpus,
                id,
                foreign,
                order,
                distances,
                head,
                memory,
                listed,
                srat,
                shared,
                iommufd,
            }
        },
    )
}

impl Shape {
    pub(crate) fn sockets(&self) -> u32 {
        u32::try_from(self.gpus.len()).expect("few")
    }

    /// The same host, read without root.
    pub(crate) fn without_table(&self) -> Self {
        Self {
            srat: false,
            ..self.clone()
        }
    }

    pub(crate) fn with_table(&self) -> Self {
        Self {
            srat: true,
            ..self.clone()
        }
    }

    /// Devices with initiators, in the firmware's order.
    pub(crate) fn owners(&self) -> Vec<Owner> {
        let gpus = (0u32..).zip(&self.gpus).flat_map(|(socket, count)| {
            (0..*count).map(move |index| (socket * 16 + 8 + index, socket, INITIATORS, true))
        });
        let foreign = (0x100u32..).zip(&self.foreign);
        let foreign = foreign
            .map(|(domain, (socket, count))| (domain, socket % self.sockets(), *count, false));
        let mut listed: Vec<_> = gpus.chain(foreign).collect();
        if let Some(seed) = self.order {
            Dice(seed).shuffle(&mut listed);
        }
        let mut next = self.sockets();
        let owner = |(domain, socket, count, gpu): (u32, u32, u32, bool)| {
            let nodes = next..next + count;
            next = nodes.end;
            Owner {
                address: PciAddress::new(domain, 1, 0, 0).expect("address"),
                socket,
                gpu,
                nodes,
            }
        };
        listed.into_iter().map(owner).collect()
    }

    /// GPUs by address.
    pub(crate) fn gpus(&self) -> Vec<PciAddress> {
        let gpus = self.owners().into_iter().filter(|owner| owner.gpu);
        let mut gpus: Vec<PciAddress> = gpus.map(|owner| owner.address).collect();
        gpus.sort();
        gpus
    }

    pub(crate) fn build(&self) -> Host {
        let owners = self.owners();
        let others = OTHERS.iter().map(|(at, id, _)| {
            let at = at.parse().expect("address");
            self.device(at, id, 0, 0)
        });
        let own = owners.iter().map(|owner| {
            let id = if owner.gpu {
                GRACE[self.id]
            } else {
                "1af4:1100"
            };
            let numa_node = match self.head && owner.gpu {
                true => owner.nodes.start,
                false => owner.socket,
            };
            self.device(owner.address, id, numa_node, owner.socket)
        });
        Host {
            devices: own.chain(others).map(|one| (one.address, one)).collect(),
            numa: self.numa(&owners),
            srat: self.srat.then(|| table(&owners)),
            address_bits: Some(52),
            iommufd: self.iommufd,
            ..Host::default()
        }
    }

    /// The same host with its GPUs bound to their driver, and an EGM region for the GPUs of each socket.
    pub(crate) fn build_with_egm(&self) -> Host {
        let mut host = self.build();
        for owner in self.owners().into_iter().filter(|owner| owner.gpu) {
            let gpu = host.devices.get_mut(&owner.address).expect("a GPU");
            gpu.driver = Some("nvgrace_gpu_vfio_pci".parse().expect("driver"));
            let number = owner.socket + 4;
            let known = host.egm.iter().position(|region| region.number == number);
            let place = known.unwrap_or_else(|| {
                host.egm.push(EgmRegion {
                    number,
                    bytes: Some(1 << 38),
                    gpus: BTreeSet::new(),
                });
                host.egm.len() - 1
            });
            host.egm[place].gpus.insert(owner.address);
        }
        host.egm.sort_by_key(|region| region.number);
        host
    }

    fn device(&self, address: PciAddress, id: &str, numa_node: u32, socket: u32) -> Device {
        let bar = Bar {
            size: 32 << 20,
            flags: 0x0014_220c,
        };
        let smmu = if self.shared {
            socket
        } else {
            address.domain()
        };
        Device {
            address,
            id: id.parse().expect("id"),
            class: 0x03_0200,
            driver: None,
            driver_override: None,
            numa_node: Some(node(numa_node)),
            iommu_group: None,
            iommu: Some(format!("smmu3.0x{smmu:016x}")),
            modalias: String::new(),
            bars: [
                bar,
                Bar::default(),
                bar,
                Bar::default(),
                bar,
                Bar::default(),
            ],
            regions: None,
            reset_methods: Vec::new(),
            physical_function: None,
            ancestors: Vec::new(),
            config: Config::Unreadable(ConfigError::Short(64)),
        }
    }

    fn numa(&self, owners: &[Owner]) -> Numa {
        let sockets = self.sockets();
        let count = owners.iter().map(|one| one.nodes.end).max();
        let count = count.unwrap_or(sockets);
        let cpus = |id| match id < sockets {
            true => (id * 8..id * 8 + 8).collect(),
            false => RangeList::default(),
        };
        let nodes = (0..count).map(|id| Node {
            id: node(id),
            cpus: cpus(id),
            memory_kib: self.memory_kib(owners, id),
            distances: (0..count).map(|to| self.distance(owners, id, to)).collect(),
        });
        Numa {
            nodes: nodes.collect(),
            generic_initiators: self.listed.then(|| (sockets..count).collect()),
        }
    }

    fn memory_kib(&self, owners: &[Owner], id: u32) -> u64 {
        let first = owners.iter().any(|one| one.gpu && one.nodes.start == id);
        let used = id < self.sockets() || (self.memory && first);
        if used { 1 << 27 } else { 0 }
    }

    pub(crate) fn distance(&self, owners: &[Owner], a: u32, b: u32) -> u8 {
        let owner = |id| owners.iter().find(|one| one.nodes.contains(&id));
        let d = &self.distances;
        match (owner(a), owner(b)) {
            _ if a == b => 10,
            (None, None) => d.sockets,
            (Some(x), Some(y)) if x.address == y.address => d.within,
            (Some(x), Some(y)) if x.socket == y.socket => d.same_socket,
            (Some(x), Some(y)) if x.is_even() == y.is_even() => d.other_socket,
            (Some(_), Some(_)) => d.other_socket + d.skew,
            (Some(x), None) if x.socket == b => d.near,
            (None, Some(y)) if y.socket == a => d.near,
            _ => d.far,
        }
    }
}

fn table(owners: &[Owner]) -> Srat {
    let initiators = owners
        .iter()
        .map(|owner| (owner.address, owner.nodes.clone().map(node).collect()));
    Srat {
        initiators: initiators.collect::<BTreeMap<_, _>>(),
    }
}

pub(crate) fn node(id: u32) -> NumaNode {
    id.try_into().expect("node")
}
