//! A layout as edits of its definition. The user's own elements stay: what contradicts the layout is a refusal.

use std::collections::BTreeMap;

use kernel_glue::numa::RangeList;

use super::Layout;
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
    if let Some(own) = own(domain, layout) {
        let (name, have, want) = (own.name, own.have, own.want);
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

/// True for a definition without a layout of its own, into which one can be written.
pub(super) fn is_free(domain: &Guest) -> bool {
    let has_egm = !domain.platform.egm.is_empty() || domain.options.egm == Some(true);
    let mut names = NAMES.into_iter();
    !has_egm && !names.any(|name| have(domain, name).is_some())
}

/// An element of the user that a layout has as well, with both values.
struct Own {
    name: &'static str,
    have: String,
    want: String,
}

/// What a definition may have of its own.
const NAMES: [&str; 10] = [
    "<numa>",
    "<topology>",
    "<vcpupin>",
    "<vcpu cpuset>",
    "<vcpu placement='auto'>",
    "<emulatorpin>",
    "<iothreadpin>",
    "<numatune><memory>",
    "<memnode>",
    "<hugepages>",
];

/// The definition's value for one of [`NAMES`].
fn have(domain: &Guest, name: &str) -> Option<String> {
    let (binding, tuning) = (&domain.binding, &domain.tuning);
    let first = |pins: &BTreeMap<u32, RangeList>, what: &str| {
        let (id, cpus) = pins.first_key_value()?;
        Some(format!("{what} {id} on CPUs {cpus}"))
    };
    match name {
        "<numa>" => domain.numa.as_ref().map(|_| cells(domain.cells.len())),
        "<topology>" => tuning.topology.map(|values| in_words(&values)),
        "<vcpupin>" => first(&binding.pins, "vCPU"),
        "<vcpu cpuset>" => binding.cpuset.as_ref().map(|cpus| format!("CPUs {cpus}")),
        "<vcpu placement='auto'>" => tuning.is_automatic.then(|| "numad places it".to_owned()),
        "<emulatorpin>" => binding.emulator.as_ref().map(|cpus| format!("CPUs {cpus}")),
        "<iothreadpin>" => first(&binding.iothreads, "iothread"),
        "<numatune><memory>" => binding
            .memory
            .as_ref()
            .map(|nodes| format!("nodes {nodes}")),
        "<memnode>" => {
            let node = domain.memory_nodes.first()?;
            Some(format!("cell {} on nodes {}", node.cell, node.nodes))
        }
        _ => {
            let sizes = tuning.page_kib.iter().map(|size| kib_in_units(*size));
            let sizes: Vec<String> = sizes.collect();
            let sizes = match sizes.is_empty() {
                true => "the default size".to_owned(),
                false => sizes.join(", "),
            };
            domain.platform.hugepages.then_some(sizes)
        }
    }
}

/// A layout's value for one of [`NAMES`].
fn want(layout: &Layout, name: &str) -> String {
    let cpus: RangeList = layout
        .cells
        .iter()
        .flat_map(|cell| cell.pins.clone())
        .collect();
    let nodes: RangeList = layout
        .cells
        .iter()
        .map(|cell| u32::from(cell.node))
        .collect();
    let first = layout.cells.first();
    match name {
        "<numa>" => cells(layout.cells.len()),
        "<topology>" => in_words(&layout.topology.values()),
        "<vcpupin>" => {
            let cpu = first.and_then(|cell| cell.pins.first());
            cpu.map_or_else(String::new, |cpu| format!("vCPU 0 on CPU {cpu}"))
        }
        "<vcpu cpuset>" | "<vcpu placement='auto'>" => format!("CPUs {cpus}"),
        "<emulatorpin>" | "<iothreadpin>" => format!("CPUs {}", layout.emulator),
        "<numatune><memory>" => format!("nodes {nodes}"),
        "<memnode>" => {
            first.map_or_else(String::new, |cell| format!("cell 0 on node {}", cell.node))
        }
        _ => match layout.page_kib {
            Some(size) => kib_in_units(size),
            None => "normal pages".to_owned(),
        },
    }
}

/// The first of the user's elements that a layout has as well.
fn own(domain: &Guest, layout: &Layout) -> Option<Own> {
    NAMES.into_iter().find_map(|name| {
        let have = have(domain, name)?;
        let want = want(layout, name);
        Some(Own { name, have, want })
    })
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
