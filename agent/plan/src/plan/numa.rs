//! The generic-initiator cells of each device, their distances, and the nodeset that names them.

use kernel_glue::numa::{Numa, NumaNode, RangeList};

use super::distance::{Projection, UNREACHABLE};
use super::fragment::Fragment;
use super::layout::Layout;
use super::{Assigned, Change, Note, Part, PlanInput, Planned, association, command_line};
use crate::recipe::Initiators;
use crate::stack::Feature;
use domain::code::Code;
use domain::edit::{Edit, Element};
use domain::refusal::Refusal;
use domain::{Domain, Hostdev, Marked, Opened, Piece};

/// QEMU's limit of nodes (MAX_NODES, include/sysemu/numa.h).
const MAX_CELLS: usize = 128;

/// The default limit of nodes in arm64 kernels (NODES_SHIFT 4, arch/arm64/Kconfig).
const ARM64_NODES: usize = 16;

/// Plans cells, distances and nodesets.
pub(super) fn plan(
    input: &PlanInput<'_>,
    domain: &Domain,
    assigned: &[Assigned<'_>],
) -> Result<Part, Refusal> {
    let mut part = Part::default();
    let elements = input.target.stack.has(Feature::AcpiNodeset);
    let mut layout = Layout::of(&input.host.numa, domain, elements);
    let mut none = true;
    for one in assigned {
        let (mut cells, mut host_nodes) = (RangeList::default(), Vec::new());
        if let Some(rules) = one.recipe.initiators {
            host_nodes = association::nodes(input, one.device, rules.cells)?;
            cells = layout.give(one, rules, &host_nodes)?;
            none &= cells.is_empty();
            part.notes
                .extend(lowered(&input.host.numa, one, rules, &host_nodes));
        }
        part.devices.push(planned(one, cells, host_nodes));
    }
    if none {
        return Ok(part);
    }
    part.add(limit(input, domain, &layout)?);
    let numa = &input.host.numa;
    let projection = Projection { numa };
    part.add(match elements {
        false => command_line::plan(domain, assigned, &part.devices, &layout, &projection)?,
        true => layout.write(&projection)?,
    });
    if elements {
        let nodesets = assigned.iter().zip(&part.devices).map(nodeset);
        let nodesets: Vec<Part> = nodesets.collect();
        nodesets.into_iter().for_each(|nodeset| part.add(nodeset));
    }
    Ok(part)
}

/// A note if the host's distances between a device's initiators are replaced.
fn lowered(numa: &Numa, one: &Assigned<'_>, rules: Initiators, nodes: &[NumaNode]) -> Option<Note> {
    let unreachable = |from: &NumaNode| {
        nodes
            .iter()
            .any(|to| numa.distance(*from, *to) == Some(UNREACHABLE))
    };
    nodes.iter().any(unreachable).then(|| Note {
        code: Code::DistanceLowered,
        device: Some(one.hostdev.source),
        text: format!(
            "the host's distance between its initiators is 255 (unreachable); the guest gets {}",
            rules.lower_unreachable_to
        ),
    })
}

/// True when a hostdev's nodeset names cells that a mark's entry records.
pub(crate) fn is_carried(marked: &Marked, hostdev: &Hostdev) -> bool {
    let mut cells = hostdev.nodeset.iter().flat_map(RangeList::iter);
    marked.added.has(&Piece::Nodeset) && cells.any(|cell| marked.cells.contains(cell))
}

/// True when a hostdev has the nodeset that was added to it.
pub(crate) fn is_intact(marked: &Marked, hostdev: &Hostdev) -> bool {
    !marked.added.has(&Piece::Nodeset) || hostdev.nodeset.as_ref() == Some(&marked.cells)
}

/// Removes the nodeset; with `<acpi>` if we added it.
pub(crate) fn undo(marked: &Marked, hostdev: &Hostdev) -> Option<Edit> {
    if marked.added.opened(Opened::Nodeset) {
        let attribute = hostdev.nodeset_attribute.clone();
        return attribute.map(Edit::removal);
    }
    hostdev.acpi_element.as_ref().map(Element::remove)
}

pub(super) fn planned(one: &Assigned<'_>, cells: RangeList, host_nodes: Vec<NumaNode>) -> Planned {
    Planned {
        address: one.hostdev.source,
        recipe: one.recipe.name.clone(),
        label: one
            .recipe
            .member(one.device)
            .map(|member| member.label.clone())
            .unwrap_or_default(),
        driver: one.recipe.driver.clone(),
        cells,
        host_nodes,
    }
}

fn limit(input: &PlanInput<'_>, domain: &Domain, layout: &Layout<'_>) -> Result<Part, Refusal> {
    let mut part = Part::default();
    let count = layout.places.len();
    if count > MAX_CELLS {
        let reason = format!("the guest would have {count} NUMA cells, QEMU supports {MAX_CELLS}");
        return Err(Refusal::new(
            Code::TooManyCells,
            reason,
            "assign fewer devices to one guest",
        )
        .at("/domain/cpu/numa"));
    }
    if count > ARM64_NODES && domain.arch.as_deref() == Some("aarch64") {
        let text = format!(
            "the guest has {count} NUMA nodes; an arm64 kernel with CONFIG_NODES_SHIFT=4 supports {ARM64_NODES}: use a kernel built with 6 or more"
        );
        part.notes.push(Note {
            code: Code::GuestNodeLimit,
            device: None,
            text,
        });
    }
    let several = input.host.numa.sockets().count() > 1;
    let places = layout.places.iter();
    let unbound = places.filter(|place| several && place.node.is_none());
    for place in unbound {
        let text = format!(
            "cell {} is not bound to one host node (by <numatune>, <vcpupin> or <vcpu cpuset>): its distances are those of the nearest socket{}",
            place.cell,
            match layout.has_distances(place.cell) {
                true =>
                    ", and those that the definition gives it cannot be compared with the host's",
                false => "",
            }
        );
        part.notes.push(Note {
            code: Code::CellUnbound,
            device: None,
            text,
        });
    }
    Ok(part)
}

/// Names a device's cells on its hostdev, if it has no nodeset.
fn nodeset((one, planned): (&Assigned<'_>, &Planned)) -> Part {
    let mut part = Part::default();
    let (device, cells) = (one.hostdev.source, &planned.cells);
    if one.hostdev.nodeset.is_some() || cells.is_empty() {
        return part;
    }
    part.add_for(device, Piece::Nodeset);
    let edit = match &one.hostdev.acpi_element {
        // The user's `<acpi>` may have an index, which must be kept.
        Some(own) => {
            part.add_for(device, Piece::Open(Opened::Nodeset));
            own.with_attribute(&format!("nodeset='{cells}'"))
        }
        None => {
            let acpi = Fragment::new("acpi").with("nodeset", cells).print();
            one.hostdev.element.append(&acpi)
        }
    };
    part.changes.push(Change {
        code: Code::NodesetMissing,
        device: Some(device),
        path: format!("{}/acpi", one.hostdev.path()),
        reason: "ACPI generic initiators: they tell the guest's driver which nodes are this GPU's"
            .to_owned(),
        edits: vec![edit],
    });
    part
}
