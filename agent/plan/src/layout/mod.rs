//! The layout of a guest on a host: NUMA cells at the sockets of its devices, pins, memory, huge pages and processor topology. Pure.
//!
//! ```text
//! definition, host, other guests
//!   -> check    the definition's own pins and bindings that libvirt or QEMU would refuse
//!   -> node     the host nodes: those of the devices, then the nearest with room
//!   -> cpu      vCPUs of each node, whole cores first; emulator threads beside them
//!   -> memory   memory of each cell, in the largest huge pages that all nodes have
//!   -> Layout   what `xml` writes, and notes
//! ```
//!
//! The layout never uses a CPU that another guest is pinned to. What it cannot do is a refusal with both values; what only performs
//! badly is a note.

mod check;
mod cpu;
mod memory;
mod node;
mod piece;
mod xml;

use kernel_glue::address::PciAddress;
use kernel_glue::capacity::Capacity;
use kernel_glue::host::Host;
use kernel_glue::numa::{NumaNode, RangeList};

use crate::plan::{Note, PlanInput, locality};
use domain::Domain;
use domain::code::Code;
use domain::refusal::Refusal;

pub use crate::other_guest::Other;
pub(crate) use piece::{State, left_out, state, undo, written};
pub use piece::{may_need_facts, needs_facts};
pub use xml::edits;

/// What a layout is computed from.
#[derive(Clone, Copy, Debug)]
pub struct LayoutInput<'a> {
    /// The host.
    pub host: &'a Host,
    /// Its CPUs and huge pages.
    pub capacity: &'a Capacity,
    /// All other guests, defined and running.
    pub others: &'a [Other],
}

impl<'a> LayoutInput<'a> {
    /// The input for the layout of a plan; `None` if the plan has no facts for one.
    #[must_use]
    pub fn of(input: &PlanInput<'a>) -> Option<Self> {
        let facts = input.numa.facts?;
        Some(Self {
            host: input.host,
            capacity: facts.capacity,
            others: facts.others,
        })
    }

    fn facts(&self) -> locality::Facts<'a> {
        locality::Facts {
            host: self.host,
            capacity: Some(self.capacity),
        }
    }
}

/// A guest's layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The cells with CPUs, by id from 0; each is on another host node.
    pub cells: Vec<LayoutCell>,
    /// The processor topology that the pins have.
    pub topology: Topology,
    /// Host CPUs of the emulator's threads and of iothreads.
    pub emulator: RangeList,
    /// How many iothreads the guest has.
    pub iothreads: u32,
    /// Size of the huge pages of all cells in KiB; `None` for normal pages.
    pub page_kib: Option<u64>,
    /// All memory is locked while the guest runs, because it has host devices.
    pub locked: bool,
    /// What the user should know.
    pub notes: Vec<Note>,
}

/// A cell with CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutCell {
    /// Its id.
    pub id: u32,
    /// The host node of its CPUs and memory.
    pub node: NumaNode,
    /// Its first vCPU; vCPU `first + n` runs on host CPU `pins[n]`.
    pub first: u32,
    /// Host CPUs, one for each vCPU.
    pub pins: Vec<u32>,
    /// Its memory in KiB.
    pub memory_kib: u64,
    /// The guest's devices on this node.
    pub devices: Vec<PciAddress>,
    /// Distances to all cells, by id; empty if the host does not show them.
    pub distances: Vec<u8>,
}

/// `<cpu><topology>`. The product of all is the number of vCPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// `sockets`.
    pub sockets: u32,
    /// `dies` of a socket (x86): caches of level 3.
    pub dies: u32,
    /// `clusters` of a die (arm64).
    pub clusters: u32,
    /// `cores` of a cluster.
    pub cores: u32,
    /// `threads` of a core.
    pub threads: u32,
}

impl Topology {
    /// Sockets, dies, clusters, cores, threads.
    #[must_use]
    pub const fn values(self) -> [u32; 5] {
        [
            self.sockets,
            self.dies,
            self.clusters,
            self.cores,
            self.threads,
        ]
    }
}

impl LayoutCell {
    /// Its vCPUs.
    #[must_use]
    pub fn vcpus(&self) -> RangeList {
        RangeList::from(self.first..self.first + count(&self.pins))
    }

    /// Its host CPUs.
    #[must_use]
    pub fn cpus(&self) -> RangeList {
        self.pins.iter().copied().collect()
    }
}

/// Computes the layout of `domain`. What the definition has of its own is not changed, only compared.
///
/// # Errors
/// A refusal when libvirt or QEMU would refuse the definition's own pins and bindings, when the host has too few CPUs or too
/// little memory, or when the guest's memory is EGM regions.
pub fn layout(input: &LayoutInput<'_>, domain: &Domain) -> Result<Layout, Refusal> {
    check::check(input, domain)?;
    let mut notes = locality::notes(&input.facts(), domain);
    let (devices, unknown) = node::devices(input, domain);
    notes.extend(unknown);
    let room = node::Room::of(input);
    let nodes = node::chosen(input, domain, &room, &devices)?;
    let cpus = cpu::placed(input, domain, &room, &nodes)?;
    let vcpus: Vec<u64> = cpus.cells.iter().map(|pins| pins.len() as u64).collect();
    let memory = memory::placed(input, domain, &room, &nodes, &vcpus)?;
    let distances = distances(input, &nodes);
    notes.extend(held(input, &nodes));
    notes.extend(cpus.notes);
    notes.extend(memory.note);
    let mut first = 0;
    let mut cells = Vec::new();
    for (id, ((node, pins), memory_kib)) in
        (0..).zip(nodes.iter().zip(cpus.cells).zip(memory.cells))
    {
        let here = devices.iter().filter(|(_, at)| at == node);
        let mut devices: Vec<PciAddress> = here.map(|(address, _)| *address).collect();
        devices.sort_unstable();
        let next = first + count(&pins);
        cells.push(LayoutCell {
            id,
            node: *node,
            first,
            pins,
            memory_kib,
            devices,
            distances: distances.get(id as usize).cloned().unwrap_or_default(),
        });
        first = next;
    }
    Ok(Layout {
        cells,
        topology: cpus.topology,
        emulator: cpus.emulator,
        iothreads: domain.tuning.iothreads,
        page_kib: memory.page_kib,
        locked: domain.sources().next().is_some(),
        notes,
    })
}

/// The host's distances between these nodes; empty if one is missing, below 10 or "unreachable".
fn distances(input: &LayoutInput<'_>, nodes: &[NumaNode]) -> Vec<Vec<u8>> {
    let between = |from: NumaNode, to: NumaNode| match from == to {
        true => Some(10),
        false => {
            let distance = input.host.numa.distance(from, to)?;
            (11..255).contains(&distance).then_some(distance)
        }
    };
    let row = |from: &NumaNode| nodes.iter().map(|to| between(*from, *to)).collect();
    let rows: Option<Vec<Vec<u8>>> = nodes.iter().map(row).collect();
    rows.unwrap_or_default()
}

/// Which guests hold CPUs of the chosen nodes.
fn held(input: &LayoutInput<'_>, nodes: &[NumaNode]) -> Vec<Note> {
    let mut notes = Vec::new();
    for other in input.others {
        for node in nodes.iter().filter_map(|id| input.host.numa.node(*id)) {
            let here = node.cpus.and(other.cpus());
            if !here.is_empty() {
                let text = format!(
                    "guest '{}' holds CPUs {here} of node {}",
                    other.name, node.id
                );
                notes.push(Note::new(Code::LayoutHeld, text));
            }
        }
    }
    notes
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

/// Splits `total` by `weights`, with at most `limits` each: the exact shares rounded down, then what is left one by one to the
/// largest remainders, the first of equal ones. `None` if the limits are too low together.
fn split(total: u64, weights: &[u64], limits: &[u64]) -> Option<Vec<u64>> {
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let all: u128 = limits.iter().map(|limit| u128::from(*limit)).sum();
    if sum == 0 || all < u128::from(total) {
        return None;
    }
    let exact = |weight: u64| u128::from(total) * u128::from(weight);
    let share = |(weight, limit): (&u64, &u64)| {
        u64::try_from(exact(*weight) / sum).map_or(*limit, |share| share.min(*limit))
    };
    let mut shares: Vec<u64> = weights.iter().zip(limits).map(share).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|place| std::cmp::Reverse(exact(weights[*place]) % sum));
    let mut left = total - shares.iter().sum::<u64>();
    // First one unit each, then whatever room is left.
    for place in order.iter().copied() {
        let unit = u64::from(left > 0 && shares[place] < limits[place]);
        shares[place] += unit;
        left -= unit;
    }
    for place in order {
        let more = left.min(limits[place] - shares[place]);
        shares[place] += more;
        left -= more;
    }
    Some(shares)
}

/// Splits as [`split`], and every part has at least 1: a part that would have 0 takes one from the largest. `None` also if `total`
/// is less than the number of parts, or a limit is 0.
fn split_to_all(total: u64, weights: &[u64], limits: &[u64]) -> Option<Vec<u64>> {
    if total < weights.len() as u64 || limits.contains(&0) {
        return None;
    }
    let mut shares = split(total, weights, limits)?;
    while let Some(empty) = shares.iter().position(|share| *share == 0) {
        *shares.iter_mut().max()? -= 1;
        shares[empty] = 1;
    }
    Some(shares)
}

#[cfg(test)]
mod piece_test;
#[cfg(test)]
mod tests;
