//! A layout as edits of its definition. The user's own elements stay: what contradicts the layout is a refusal.

use std::collections::BTreeMap;

use kernel_glue::numa::RangeList;

use super::Layout;
use crate::plan::cells::is_numa_ours;
use crate::plan::fragment::Fragment;
use crate::size::kib_in_units;
use domain::code::Code;
use domain::edit::{Edit, Element};
use domain::hint::{Hint, line};
use domain::refusal::Refusal;
use domain::{Domain, Domain as Guest};

/// The edits that write `layout` into its definition: `<topology>` and `<numa>` in `<cpu>`, `<cputune>`, `<numatune>` and
/// `<memoryBacking>`.
///
/// # Errors
/// A refusal when the definition has cells, pins, bindings, a topology or page sizes of its own.
pub fn edits(layout: &Layout, domain: &Domain) -> Result<Vec<Edit>, Refusal> {
    // The first of the user's elements that the layout has as well.
    let own = PARTS
        .iter()
        .find_map(|part| Some((part, (part.have)(domain)?)));
    if let Some((Part { name, want, .. }, have)) = own {
        let want = want(layout);
        let reason =
            format!("the definition has its own {name} ({have}), and the layout has {want}");
        let hint = Hint::with("{}", line(["virsh", "edit", &domain.name]));
        let hint = hint.after(&format!("remove {name} with "));
        return Err(Refusal::new(Code::LayoutTaken, reason, hint));
    }
    let tuning = &domain.tuning;
    let mut outside = String::new();
    let mut edits = Vec::new();
    let mut put =
        |element: Option<&Element>, name: &'static str, children: Vec<Fragment>| match element {
            Some(element) => {
                edits.extend((!children.is_empty()).then(|| element.append(&lines(&children))))
            }
            None if children.is_empty() => {}
            None => {
                outside.push_str(&Fragment::new(name).children(children).print());
                outside.push('\n');
            }
        };
    put(
        tuning.memory_backing.as_ref(),
        "memoryBacking",
        backing(layout),
    );
    put(tuning.cputune.as_ref(), "cputune", pins(layout));
    put(tuning.numatune.as_ref(), "numatune", bindings(layout));
    match &domain.cpu {
        Some(cpu) => edits.push(cpu.append(&lines(&processors(layout)))),
        None => {
            outside.push_str(&Fragment::new("cpu").children(processors(layout)).print());
            outside.push('\n');
        }
    }
    if !outside.is_empty() {
        edits.push(before_devices(domain, outside.trim_end()));
    }
    edits.sort_by_key(|edit| edit.span.start);
    Ok(edits)
}

/// The parents of a layout's elements, by name.
pub(super) fn parents(domain: &Guest) -> [(&'static str, Option<&Element>); 4] {
    let tuning = &domain.tuning;
    [
        ("cpu", domain.cpu.as_ref()),
        ("cputune", tuning.cputune.as_ref()),
        ("numatune", tuning.numatune.as_ref()),
        ("memoryBacking", tuning.memory_backing.as_ref()),
    ]
}

/// True for a definition without a layout of its own, into which one can be written. Cells that were added for devices are not
/// its own.
pub(super) fn is_free(domain: &Guest) -> bool {
    let is_ours = is_numa_ours(domain);
    let is_own = |part: &Part| (part.have)(domain).is_some() && !(is_ours && part.name == NUMA);
    !domain.wants_egm() && !PARTS.iter().any(is_own)
}

/// An element that a definition may have of its own, and a layout has as well.
struct Part {
    name: &'static str,
    /// The definition's value.
    have: fn(&Guest) -> Option<String>,
    /// The layout's value.
    want: fn(&Layout) -> String,
}

const NUMA: &str = "<numa>";

const PARTS: [Part; 10] = [
    Part {
        name: NUMA,
        have: |domain| domain.numa.as_ref().map(|_| cells(domain.cells.len())),
        want: |layout| cells(layout.cells.len()),
    },
    Part {
        name: "<topology>",
        have: |domain| domain.tuning.topology.map(|values| in_words(&values)),
        want: |layout| in_words(&layout.topology.values()),
    },
    Part {
        name: "<vcpupin>",
        have: |domain| first_pin(&domain.binding.pins, "vCPU"),
        want: |layout| {
            let cpu = layout.cells.first().and_then(|cell| cell.pins.first());
            cpu.map_or_else(String::new, |cpu| format!("vCPU 0 on CPU {cpu}"))
        },
    },
    Part {
        name: "<vcpu cpuset>",
        have: |domain| domain.binding.cpuset.as_ref().map(cpus),
        want: pinned,
    },
    Part {
        name: "<vcpu placement='auto'>",
        have: |domain| (domain.tuning.is_automatic).then(|| "numad places it".to_owned()),
        want: pinned,
    },
    Part {
        name: "<emulatorpin>",
        have: |domain| domain.binding.emulator.as_ref().map(cpus),
        want: |layout| cpus(&layout.emulator),
    },
    Part {
        name: "<iothreadpin>",
        have: |domain| first_pin(&domain.binding.iothreads, "iothread"),
        want: |layout| cpus(&layout.emulator),
    },
    Part {
        name: "<numatune><memory>",
        have: |domain| (domain.binding.memory.as_ref()).map(|nodes| format!("nodes {nodes}")),
        want: |layout| {
            let nodes = layout.cells.iter().map(|cell| u32::from(cell.node));
            format!("nodes {}", nodes.collect::<RangeList>())
        },
    },
    Part {
        name: "<memnode>",
        have: |domain| {
            let node = domain.memory_nodes.first()?;
            Some(format!("cell {} on nodes {}", node.cell, node.nodes))
        },
        want: |layout| {
            let first = layout.cells.first();
            first.map_or_else(String::new, |cell| format!("cell 0 on node {}", cell.node))
        },
    },
    Part {
        name: "<hugepages>",
        have: |domain| {
            let sizes = domain.tuning.page_kib.iter();
            let sizes: Vec<String> = sizes.map(|size| kib_in_units(*size)).collect();
            let sizes = match sizes.is_empty() {
                true => "the default size".to_owned(),
                false => sizes.join(", "),
            };
            domain.platform.hugepages.then_some(sizes)
        },
        want: |layout| {
            let size = layout.page_kib.map(kib_in_units);
            size.unwrap_or_else(|| "normal pages".to_owned())
        },
    },
];

fn cpus(list: &RangeList) -> String {
    format!("CPUs {list}")
}

fn first_pin(pins: &BTreeMap<u32, RangeList>, what: &str) -> Option<String> {
    let (id, list) = pins.first_key_value()?;
    Some(format!("{what} {id} on {}", cpus(list)))
}

/// All host CPUs of a layout's vCPUs.
fn pinned(layout: &Layout) -> String {
    let pins = layout.cells.iter().flat_map(|cell| &cell.pins);
    cpus(&pins.copied().collect())
}

fn cells(count: usize) -> String {
    match count {
        1 => "1 cell".to_owned(),
        _ => format!("{count} cells"),
    }
}

fn in_words([sockets, dies, clusters, cores, threads]: &[u32; 5]) -> String {
    format!("{sockets} sockets, {dies} dies, {clusters} clusters, {cores} cores, {threads} threads")
}

/// Inserts elements of `<domain>` after its heading and metadata.
fn before_devices(domain: &Guest, elements: &str) -> Edit {
    match &domain.metadata {
        Some(metadata) => metadata.insert_after(elements),
        None => domain.heading.insert_after(elements),
    }
}

fn lines(children: &[Fragment]) -> String {
    let printed: Vec<String> = children.iter().map(Fragment::print).collect();
    printed.join("\n")
}

fn backing(layout: &Layout) -> Vec<Fragment> {
    let page = layout.page_kib.map(|size| {
        let nodes: Vec<String> = layout
            .cells
            .iter()
            .map(|cell| cell.id.to_string())
            .collect();
        Fragment::new("page")
            .with("size", size)
            .with("unit", "KiB")
            .with("nodeset", nodes.join(","))
    });
    page.map(|page| Fragment::new("hugepages").child(page))
        .into_iter()
        .collect()
}

fn pins(layout: &Layout) -> Vec<Fragment> {
    let mut pins = Vec::new();
    for cell in &layout.cells {
        for (vcpu, cpu) in (cell.first..).zip(&cell.pins) {
            pins.push(
                Fragment::new("vcpupin")
                    .with("vcpu", vcpu)
                    .with("cpuset", cpu),
            );
        }
    }
    pins.push(Fragment::new("emulatorpin").with("cpuset", &layout.emulator));
    for thread in 1..=layout.iothreads {
        let pin = Fragment::new("iothreadpin").with("iothread", thread);
        pins.push(pin.with("cpuset", &layout.emulator));
    }
    pins
}

fn bindings(layout: &Layout) -> Vec<Fragment> {
    let bound = layout.cells.iter().map(|cell| {
        Fragment::new("memnode")
            .with("cellid", cell.id)
            .with("mode", "strict")
            .with("nodeset", cell.node)
    });
    bound.collect()
}

fn processors(layout: &Layout) -> Vec<Fragment> {
    let topology = layout.topology;
    let mut element = Fragment::new("topology").with("sockets", topology.sockets);
    if topology.dies > 1 {
        element = element.with("dies", topology.dies);
    }
    if topology.clusters > 1 {
        element = element.with("clusters", topology.clusters);
    }
    let element = element
        .with("cores", topology.cores)
        .with("threads", topology.threads);
    let cells = layout.cells.iter().map(|cell| {
        let element = Fragment::new("cell")
            .with("id", cell.id)
            .with("cpus", cell.vcpus())
            .with("memory", cell.memory_kib)
            .with("unit", "KiB");
        match cell.distances.is_empty() {
            true => element,
            false => element.child(distances(&cell.distances)),
        }
    });
    vec![element, Fragment::new("numa").children(cells)]
}

fn distances(row: &[u8]) -> Fragment {
    let siblings = (0..)
        .zip(row)
        .map(|(id, value): (u32, _)| Fragment::new("sibling").with("id", id).with("value", value));
    Fragment::new("distances").children(siblings)
}
