//! Guests on modelled hosts, with the layout that variantd computes.

use std::collections::BTreeMap;

use kernel_glue::capacity::Capacity;
use kernel_glue::host::Host;
use kernel_glue::numa::NumaNode;
use planner::layout::{self, Layout, LayoutInput};
use planner::plan::{NumaFacts, NumaInput, PlanInput};
use planner::recipe::Recipes;
use planner::rewrite::rewrite;

use domain::{Definition, Domain, NumaMode};
use testing::hosts::machine::{Machine, Processors};
use testing::hosts::numa::{GRACE_PAGES, PAGES, definition, desktop, hgx, nps4, with};
use testing::hosts::tree;

/// A guest and its host.
pub(super) struct Guest {
    pub(super) title: &'static str,
    pub(super) host: Host,
    pub(super) capacity: Capacity,
    /// The definition as its user writes it.
    pub(super) domain: Domain,
    pub(super) layout: Layout,
    /// The definition with the layout and everything else that variantd adds.
    pub(super) completed: Domain,
}

/// Some vCPUs of a cell on host CPUs, in the order of the vCPUs.
pub(super) struct Cell {
    pub(super) node: NumaNode,
    pub(super) pins: Vec<u32>,
    pub(super) memory_kib: u64,
}

/// All guests of the page.
pub(super) fn all() -> Vec<Guest> {
    let grace = with(
        "gb200-4gpu",
        Processors {
            pages: GRACE_PAGES,
            ..Processors::PLAIN
        },
    );
    let mi300x = with(
        "mi300x-8gpu",
        Processors {
            pages: PAGES,
            ..Processors::PLAIN
        },
    );
    // The last GPU, which is on the second socket.
    let last = Machine {
        endpoints: hgx().endpoints[7..8].to_vec(),
        ..hgx()
    };
    vec![
        guest("GB200, two sockets with two GPUs each", &grace, 120, 512),
        guest(
            "HGX H100, eight GPUs and eight network adapters, two threads for each core",
            &hgx(),
            96,
            512,
        ),
        guest("HGX H100, one GPU of the second socket", &last, 16, 64),
        guest("MI300X, eight GPUs", &mi300x, 128, 512),
        guest(
            "MI300X with NPS4: eight nodes with a GPU each",
            &nps4(),
            128,
            512,
        ),
        guest(
            "A desktop with one GPU and no huge pages",
            &desktop(),
            12,
            32,
        ),
    ]
}

fn guest(title: &'static str, machine: &Machine, vcpus: u32, gib: u64) -> Guest {
    let scratch = tempfile::tempdir().expect("a folder");
    let root = scratch.path().join("host");
    tree::write(&root, &machine.tree()).expect("a host");
    let host = Host::read(&root).expect("a host");
    let capacity = Capacity::read(&root, &host.numa).expect("its CPUs");
    let definition: Definition = definition(machine, vcpus, gib)
        .parse()
        .expect("a definition");
    let domain = definition.domain().clone();
    let input = LayoutInput {
        host: &host,
        capacity: &capacity,
        others: &[],
    };
    let layout = layout::layout(&input, &domain).expect(title);
    let recipes = Recipes::shipped().expect("recipes");
    let facts = NumaFacts {
        capacity: &capacity,
        others: &[],
    };
    let numa = NumaInput {
        wanted: Some(NumaMode::Mirror),
        facts: Some(facts),
    };
    let input = PlanInput {
        numa,
        ..PlanInput::newest(&host, &recipes)
    };
    let completed = rewrite(&definition, &input).expect(title);
    let completed = Domain::parse(&completed.text).expect("a definition");
    Guest {
        title,
        host,
        capacity,
        domain,
        layout,
        completed,
    }
}

impl Guest {
    /// Threads of each core in the guest.
    pub(super) fn threads(&self) -> u32 {
        self.layout.topology.threads
    }

    /// Online CPUs of a node by core, of those in `all`.
    pub(super) fn cores(&self, node: NumaNode, is_usable: impl Fn(u32) -> bool) -> Vec<Vec<u32>> {
        let node = self.host.numa.node(node).expect("a node");
        let cores = self.capacity.cores.iter();
        let cores = cores.map(|core| {
            core.iter()
                .filter(|cpu| node.cpus.contains(*cpu) && is_usable(*cpu))
                .collect()
        });
        cores.filter(|core: &Vec<u32>| !core.is_empty()).collect()
    }

    /// The host node of each device, with the word for its kind.
    pub(super) fn devices(&self) -> impl Iterator<Item = (NumaNode, &'static str)> {
        self.domain.hostdevs.iter().map(|one| {
            let device = &self.host.devices[&one.source];
            // PCI class 02: network controller.
            let kind = if device.class >> 16 == 2 {
                "adapter"
            } else {
                "GPU"
            };
            (device.numa_node.expect("a node"), kind)
        })
    }
}

fn each(cells: &[Cell], text: impl Fn((usize, &Cell)) -> String) -> String {
    let texts: Vec<String> = cells.iter().enumerate().map(text).collect();
    texts.join("; ")
}

/// Cells as a text: node, vCPUs and memory.
pub(super) fn cells(cells: &[Cell]) -> String {
    let one = |(id, cell): (usize, &Cell)| {
        let (count, gib) = (cell.pins.len(), cell.memory_kib >> 20);
        format!("{id} on node {}: {count} vCPUs, {gib} GiB", cell.node)
    };
    each(cells, one)
}

/// The first host CPUs of each cell.
pub(super) fn pins(cells: &[Cell]) -> String {
    let one = |(id, cell): (usize, &Cell)| {
        let first: Vec<String> = cell.pins.iter().take(4).map(ToString::to_string).collect();
        format!("{id}: {} ...", first.join(" "))
    };
    each(cells, one)
}

/// Sockets, cores and threads; dies and clusters where there are several.
pub(super) fn topology([sockets, dies, clusters, cores, threads]: [u32; 5]) -> String {
    let mut parts = vec![format!("{sockets} sockets")];
    parts.extend((dies > 1).then(|| format!("{dies} dies")));
    parts.extend((clusters > 1).then(|| format!("{clusters} clusters")));
    parts.push(format!("{cores} cores"));
    parts.push(format!("{threads} threads"));
    parts.join(" x ")
}

/// Devices at an expander bus of each cell, and those without one.
pub(super) fn expanders(devices: impl Iterator<Item = (Option<u32>, &'static str)>) -> String {
    let mut counts = BTreeMap::<(u32, &str), u32>::new();
    for (cell, kind) in devices {
        *counts.entry((cell.unwrap_or(u32::MAX), kind)).or_default() += 1;
    }
    let mut buses = BTreeMap::<u32, Vec<String>>::new();
    for ((cell, kind), count) in counts {
        let plural = if count == 1 { "" } else { "s" };
        let text = format!("{count} {kind}{plural}");
        buses.entry(cell).or_default().push(text);
    }
    let one = |(cell, kinds): (u32, Vec<String>)| match cell {
        u32::MAX => format!("root bus: {}", kinds.join(", ")),
        cell => format!("bus at cell {cell}: {}", kinds.join(", ")),
    };
    buses.into_iter().map(one).collect::<Vec<_>>().join("; ")
}
