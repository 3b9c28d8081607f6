//! The host CPU of each vCPU, the guest's processor topology that matches, and the CPUs of emulator threads and iothreads.

use std::collections::BTreeSet;

use kernel_glue::numa::{NumaNode, RangeList};

use super::node::{Free, Room};
use super::{LayoutInput, Topology, count, split};
use crate::plan::Note;
use domain::Domain;
use domain::code::Code;
use domain::hint::Hint;
use domain::refusal::Refusal;

/// CPUs of all cells.
pub(super) struct Cpus {
    /// Host CPUs of each cell in the order of its vCPUs.
    pub(super) cells: Vec<Vec<u32>>,
    pub(super) topology: Topology,
    pub(super) emulator: RangeList,
    pub(super) notes: Vec<Note>,
}

/// A core with free CPUs, and the cache or cluster that it is in.
struct Core {
    free: Vec<u32>,
    /// All of its online CPUs are free.
    whole: bool,
    group: Option<usize>,
}

/// Pins each vCPU to one free CPU of its node.
pub(super) fn placed(
    input: &LayoutInput<'_>,
    domain: &Domain,
    room: &Room,
    nodes: &[NumaNode],
) -> Result<Cpus, Refusal> {
    let groups = groups(input, domain);
    let free: Vec<&Free> = nodes.iter().filter_map(|node| room.at(*node)).collect();
    let cores: Vec<Vec<Core>> = free.iter().map(|one| cores(input, one, groups)).collect();
    let of_cores = threads(input, &cores).filter(|threads| domain.vcpus.is_multiple_of(*threads));
    let by_cores = of_cores.and_then(|threads| {
        let whole = |cores: &Vec<Core>| cores.iter().filter(|core| core.whole).count() as u64;
        let limits: Vec<u64> = cores.iter().map(whole).collect();
        let shares = even(domain.vcpus / threads, &limits)?;
        // A cell without vCPUs would leave its devices without a near one.
        (!shares.contains(&0)).then_some((threads, shares))
    });
    let limits: Vec<u64> = free.iter().map(|one| one.cpus.len() as u64).collect();
    let singly = || even(domain.vcpus, &limits).map(|shares| (1, shares));
    let Some((threads, shares)) = by_cores.or_else(singly) else {
        // `node::chosen` has checked the sum.
        let reason = format!(
            "{} vCPUs do not fit on the nodes of its devices",
            domain.vcpus
        );
        return Err(Refusal::new(
            Code::LayoutNoRoom,
            reason,
            Hint::from("reduce <vcpu>"),
        ));
    };
    let cells: Vec<Vec<u32>> = (cores.iter().zip(&shares))
        .map(|(cores, share)| taken(cores, *share, threads))
        .collect();
    let mut notes = Vec::new();
    let split_cores = split_cores(input, &cells);
    if !split_cores.is_empty() {
        let text = format!(
            "CPUs {split_cores} are SMT siblings of the guest's and not its own: another guest or the host runs there"
        );
        notes.push(Note::new(Code::LayoutShared, text));
    }
    let shares: Vec<u32> = cells.iter().map(|pins| count(pins) / threads).collect();
    if shares.windows(2).any(|pair| pair[0] != pair[1]) {
        let sizes: Vec<String> = cells.iter().map(|pins| pins.len().to_string()).collect();
        let text = format!("the cells have {} vCPUs", sizes.join(", "));
        notes.push(Note::new(Code::LayoutUneven, text));
    }
    let groups_of = |pins: &[u32]| parts(groups, pins, threads);
    let parts = cells.first().map_or(1, |pins| groups_of(pins));
    let parts = match cells.iter().all(|pins| groups_of(pins) == parts) {
        true => parts,
        false => 1,
    };
    let topology = topology(domain, &shares, threads, parts);
    let (emulator, shared) = emulator(&free, &cells, &cores);
    notes.extend(shared);
    Ok(Cpus {
        cells,
        topology,
        emulator,
        notes,
    })
}

/// Groups of cores inside a node: clusters of arm64, else caches of level 3, for which QEMU's x86 machines have `dies`.
fn groups<'a>(input: &LayoutInput<'a>, domain: &Domain) -> &'a [RangeList] {
    match domain.arch.as_deref() {
        Some("aarch64") => &input.capacity.clusters,
        _ => &input.capacity.caches,
    }
}

/// The cores of a node with free CPUs: by group, the group with most whole cores first, so that a small guest stays in one cache.
fn cores(input: &LayoutInput<'_>, free: &Free, groups: &[RangeList]) -> Vec<Core> {
    let mut seen = BTreeSet::new();
    let mut cores = Vec::new();
    for cpu in &free.cpus {
        if seen.contains(cpu) {
            continue;
        }
        let siblings = input.capacity.siblings(*cpu);
        let own: Vec<u32> = siblings
            .iter()
            .filter(|one| free.cpus.contains(one))
            .collect();
        seen.extend(own.iter().copied());
        cores.push(Core {
            whole: own.len() == siblings.len(),
            group: groups.iter().position(|group| group.contains(*cpu)),
            free: own,
        });
    }
    let whole_in = |group: Option<usize>, cores: &[Core]| {
        cores
            .iter()
            .filter(|core| core.group == group && core.whole)
            .count()
    };
    let sizes: Vec<usize> = cores
        .iter()
        .map(|core| whole_in(core.group, &cores))
        .collect();
    let mut sized: Vec<(usize, Core)> = sizes.into_iter().zip(cores).collect();
    sized.sort_by_key(|(size, core)| (!core.whole, std::cmp::Reverse(*size), core.group));
    sized.into_iter().map(|(_, core)| core).collect()
}

/// The number of siblings of all whole cores; `None` if they differ or there is none.
fn threads(input: &LayoutInput<'_>, cores: &[Vec<Core>]) -> Option<u32> {
    if input.capacity.cores.is_empty() {
        return None;
    }
    let mut whole = cores.iter().flatten().filter(|core| core.whole);
    let first = count(&whole.next()?.free);
    whole
        .all(|core| count(&core.free) == first)
        .then_some(first)
}

/// Shares as equal as the limits allow.
fn even(total: u32, limits: &[u64]) -> Option<Vec<u64>> {
    split(total.into(), &vec![1; limits.len()], limits)
}

/// `share` times `threads` CPUs: of whole cores, or with one thread any, core by core.
fn taken(cores: &[Core], share: u64, threads: u32) -> Vec<u32> {
    let wanted = usize::try_from(share * u64::from(threads)).unwrap_or(usize::MAX);
    let usable = cores.iter().filter(|core| threads == 1 || core.whole);
    usable
        .flat_map(|core| core.free.iter().copied())
        .take(wanted)
        .collect()
}

/// Siblings of the guest's CPUs that are not the guest's.
fn split_cores(input: &LayoutInput<'_>, cells: &[Vec<u32>]) -> RangeList {
    let own: BTreeSet<u32> = cells.iter().flatten().copied().collect();
    let siblings = own.iter().flat_map(|cpu| {
        let siblings: Vec<u32> = input.capacity.siblings(*cpu).iter().collect();
        siblings
    });
    siblings.filter(|cpu| !own.contains(cpu)).collect()
}

/// The number of groups of equal size that the cores of a cell fill one after the other; 1 if they do not.
fn parts(groups: &[RangeList], pins: &[u32], threads: u32) -> u32 {
    let of = |cpu: u32| groups.iter().position(|group| group.contains(cpu));
    let mut runs: Vec<(Option<usize>, usize)> = Vec::new();
    for group in pins.iter().map(|cpu| of(*cpu)) {
        match runs.last_mut() {
            Some((last, length)) if *last == group => *length += 1,
            _ => runs.push((group, 1)),
        }
    }
    let distinct: BTreeSet<Option<usize>> = runs.iter().map(|(group, _)| *group).collect();
    let first = runs.first().map_or(0, |(_, length)| *length);
    let equal = runs
        .iter()
        .all(|(group, length)| group.is_some() && *length == first);
    let whole_cores = first.is_multiple_of(threads as usize);
    match equal && distinct.len() == runs.len() && whole_cores {
        true => count(&runs).max(1),
        false => 1,
    }
}

/// A socket for each cell, or several of equal size where the cells differ. No socket has CPUs of two cells: Linux drops scheduling
/// domains whose CPUs are on several nodes (arch/x86/kernel/smpboot.c, topology_sane).
fn topology(domain: &Domain, cores: &[u32], threads: u32, parts: u32) -> Topology {
    let size = cores.iter().copied().fold(0, divisor).max(1);
    let sockets = (cores.iter().sum::<u32>() / size).max(1);
    let parts = match sockets == count(cores) && size.is_multiple_of(parts) {
        true => parts,
        false => 1,
    };
    let (dies, clusters) = match domain.arch.as_deref() {
        Some("aarch64") => (1, parts),
        _ => (parts, 1),
    };
    Topology {
        sockets,
        dies,
        clusters,
        cores: size / parts,
        threads,
    }
}

/// The greatest common divisor.
fn divisor(one: u32, other: u32) -> u32 {
    match other {
        0 => one,
        _ => divisor(other, one % other),
    }
}

/// CPUs of the emulator's threads: the first free core of a chosen node that no vCPU has, the first cell's node first; without one,
/// any free CPU; without that, the first cell's CPUs.
fn emulator(free: &[&Free], cells: &[Vec<u32>], cores: &[Vec<Core>]) -> (RangeList, Option<Note>) {
    let own: BTreeSet<u32> = cells.iter().flatten().copied().collect();
    let is_left = |cpu: &u32| !own.contains(cpu);
    let left = cores.iter().flatten().filter(|core| core.whole);
    let core = left
        .map(|core| &core.free)
        .find(|cpus| cpus.iter().all(&is_left));
    let single = || {
        let mut all = free.iter().flat_map(|one| one.cpus.iter().copied());
        all.find(|cpu| is_left(cpu)).map(|cpu| vec![cpu])
    };
    match core.cloned().or_else(single) {
        Some(cpus) => (cpus.into_iter().collect(), None),
        None => {
            let first: RangeList = cells.iter().take(1).flatten().copied().collect();
            let text = format!(
                "no CPU of the guest's nodes is left for the emulator's threads: they share CPUs {first} with vCPUs"
            );
            (first, Some(Note::new(Code::LayoutShared, text)))
        }
    }
}
