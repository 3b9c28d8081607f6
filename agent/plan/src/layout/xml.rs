//! A layout as edits of its definition. The user's own elements stay: what contradicts the layout is a refusal.

use super::Layout;
use crate::plan::fragment::Fragment;
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
    if let Some(own) = own(domain) {
        let reason = format!("the definition has its own {own}, which the layout does not replace");
        let hint = Hint::with("{}", line(["virsh", "edit", &domain.name]));
        let hint = hint.after(&format!("remove {own} with "));
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

/// The first element that says something else than a layout would.
fn own(domain: &Guest) -> Option<&'static str> {
    let binding = &domain.binding;
    let is_own = [
        (!domain.cells.is_empty(), "<numa> cells"),
        (domain.numa.is_some(), "<numa>"),
        (domain.tuning.has_topology, "<topology>"),
        (!binding.pins.is_empty(), "<vcpupin>"),
        (binding.cpuset.is_some(), "<vcpu cpuset>"),
        (domain.tuning.is_automatic, "<vcpu placement='auto'>"),
        (binding.emulator.is_some(), "<emulatorpin>"),
        (!binding.iothreads.is_empty(), "<iothreadpin>"),
        (binding.memory.is_some(), "<numatune><memory>"),
        (!domain.memory_nodes.is_empty(), "<memnode>"),
        (domain.platform.hugepages, "<hugepages>"),
    ];
    is_own
        .into_iter()
        .find(|(is_own, _)| *is_own)
        .map(|(_, name)| name)
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
