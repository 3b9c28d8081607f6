//! Nodes, distances and initiators as arguments of QEMU, for a libvirt that has no elements for them.
//!
//! libvirt before 11.8 has no `<acpi nodeset>`, and turns a cell without memory into a memory backend of
//! size 0, which QEMU refuses. So such cells exist on QEMU's command line alone, and the hostdev has an
//! alias that the initiators can name.

use kernel_glue::address::PciAddress;
use kernel_glue::numa::RangeList;

use super::cells::first_cell;
use super::distance::{Place, Projection};
use super::fragment::Fragment;
use super::layout::Layout;
use super::{Assigned, Change, Plan};
use crate::code::Code;
use crate::domain::{Argument, CommandLine, Domain, QEMU_NAMESPACE};
use crate::edit::Edit;
use crate::refusal::Refusal;

/// What the ids of our initiator objects begin with.
const OBJECT: &str = "acpi-generic-initiator,id=variantd-gi-";

/// Plans the arguments, an alias for each device, and a first cell that holds CPUs and memory.
pub(super) fn plan(
    domain: &Domain,
    assigned: &[Assigned<'_>],
    layout: &Layout<'_>,
    projection: &Projection<'_>,
    plan: &mut Plan,
) -> Result<(), Refusal> {
    refuse_foreign(domain)?;
    if domain.cells.is_empty() {
        first_cell(layout, plan);
    }
    let wanted = arguments(domain, assigned, layout, projection, plan)?;
    let ours: Vec<&Argument> = ours(domain).collect();
    if !ours.iter().map(|argument| &argument.value).eq(&wanted) {
        let mut edits: Vec<Edit> = ours
            .iter()
            .map(|argument| argument.element.remove())
            .collect();
        edits.push(append(domain, &wanted, plan));
        plan.changes.push(change(edits));
    }
    for one in assigned
        .iter()
        .filter(|one| one.recipe.initiators.is_some())
    {
        name(one, plan);
    }
    Ok(())
}

/// Arguments that a plan of ours added: options and values, in order.
pub(crate) fn ours(domain: &Domain) -> impl Iterator<Item = &Argument> {
    let pairs = domain.command_line.iter().flat_map(CommandLine::pairs);
    let marked = domain.mark.is_some();
    let added = pairs.filter(move |(option, value)| marked && is_ours(&option.value, &value.value));
    added.flat_map(|(option, value)| [option, value])
}

fn is_ours(option: &str, value: &str) -> bool {
    match option {
        "-numa" => value.starts_with("node,nodeid=") || value.starts_with("dist,"),
        "-object" => value.starts_with(OBJECT),
        _ => false,
    }
}

/// Two sources of NUMA arguments would contradict each other.
fn refuse_foreign(domain: &Domain) -> Result<(), Refusal> {
    let mut pairs = domain.command_line.iter().flat_map(CommandLine::pairs);
    if domain.mark.is_some() || !pairs.any(|(option, _)| option.value == "-numa") {
        return Ok(());
    }
    let reason =
        "its <qemu:commandline> has '-numa' already, which the initiators' nodes would contradict";
    let mend = format!("remove those arguments with 'virsh edit {}'", domain.name);
    Err(Refusal::new(Code::CommandLineTaken, reason, mend).at("/domain/qemu:commandline"))
}

fn arguments(
    domain: &Domain,
    assigned: &[Assigned<'_>],
    layout: &Layout<'_>,
    projection: &Projection<'_>,
    plan: &Plan,
) -> Result<Vec<String>, Refusal> {
    let mut out = Vec::new();
    let mut push = |option: &str, value: String| out.extend([option.to_owned(), value]);
    for place in layout
        .places
        .iter()
        .filter(|place| place.initiator.is_some())
    {
        push("-numa", format!("node,nodeid={}", place.cell));
    }
    for (from, to) in pairs(domain, layout) {
        let value = projection.between(from, to)?;
        push(
            "-numa",
            format!("dist,src={},dst={},val={value}", from.cell, to.cell),
        );
    }
    for one in assigned {
        let alias = alias(one);
        for cell in cells(plan, one.hostdev.source).iter() {
            push(
                "-object",
                format!("{OBJECT}{cell},pci-dev={alias},node={cell}"),
            );
        }
    }
    Ok(out)
}

/// Pairs of different cells, but not those of which libvirt writes the distance itself: it completes the
/// table of its own cells as soon as one of them has distances.
fn pairs(domain: &Domain, layout: &Layout<'_>) -> Vec<(Place, Place)> {
    let complete = domain.cells.iter().any(|cell| !cell.distances.is_empty());
    let places = &layout.places;
    let all = places
        .iter()
        .flat_map(|from| places.iter().map(move |to| (*from, *to)));
    let by_libvirt =
        |from: &Place, to: &Place| complete && from.initiator.is_none() && to.initiator.is_none();
    all.filter(|(from, to)| from.cell != to.cell && !by_libvirt(from, to))
        .collect()
}

fn cells(plan: &Plan, device: PciAddress) -> RangeList {
    let planned = plan
        .devices
        .iter()
        .find(|planned| planned.address == device);
    planned
        .map(|planned| planned.cells.clone())
        .unwrap_or_default()
}

/// The user's own alias, or one that libvirt keeps: it must begin with `ua-`.
fn alias(one: &Assigned<'_>) -> String {
    let own = one
        .hostdev
        .alias
        .as_ref()
        .filter(|alias| alias.starts_with("ua-"));
    let ours = || {
        format!(
            "ua-variantd-{}",
            one.hostdev.source.to_string().replace([':', '.'], "-")
        )
    };
    own.cloned().unwrap_or_else(ours)
}

fn name(one: &Assigned<'_>, plan: &mut Plan) {
    let alias = alias(one);
    if one.hostdev.alias.as_ref() == Some(&alias) {
        return;
    }
    let fragment = Fragment::new("alias").with("name", alias).print();
    let place = one.hostdev.alias_element.as_ref();
    let edit = place.map_or_else(
        || one.hostdev.element.append(&fragment),
        |old| old.replace(&fragment),
    );
    plan.added_for
        .entry(one.hostdev.source)
        .or_default()
        .insert("alias");
    plan.changes.push(Change {
        code: Code::NodesetMissing,
        device: Some(one.hostdev.source),
        path: format!(
            "/domain/devices/hostdev[source='{}']/alias",
            one.hostdev.source
        ),
        reason: "a name that the initiators on QEMU's command line can use".to_owned(),
        edits: vec![edit],
    });
}

fn append(domain: &Domain, arguments: &[String], plan: &mut Plan) -> Edit {
    let argument = |prefix: &str, value: &String| {
        format!(
            "<{prefix}arg value='{}'/>",
            quick_xml::escape::escape(value.as_str())
        )
    };
    if let Some(line) = &domain.command_line {
        let lines: Vec<String> = arguments
            .iter()
            .map(|value| argument(&line.prefix, value))
            .collect();
        return line.element.append(&lines.join("\n"));
    }
    plan.added.insert("commandline");
    let lines: Vec<String> = arguments
        .iter()
        .map(|value| format!("  {}", argument("qemu:", value)))
        .collect();
    let open = format!("<qemu:commandline xmlns:qemu='{QEMU_NAMESPACE}'>");
    domain.devices.insert_after(&format!(
        "{open}\n{}\n</qemu:commandline>",
        lines.join("\n")
    ))
}

fn change(edits: Vec<Edit>) -> Change {
    Change {
        code: Code::CellsMissing,
        device: None,
        path: "/domain/qemu:commandline".to_owned(),
        reason: "generic-initiator nodes, their distances and the initiators: this libvirt has no elements for them"
            .to_owned(),
        edits,
    }
}

#[cfg(test)]
mod tests;
