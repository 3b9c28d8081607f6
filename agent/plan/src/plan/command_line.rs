//! Window, nodes, distances and initiators as QEMU arguments, for a libvirt that has no elements for them.
//!
//! libvirt before 11.8 has no `<acpi nodeset>`, and makes a memory backend of size 0 from a cell without memory, which QEMU
//! refuses. So such cells are on QEMU's command line only, and the hostdev gets an alias that the initiators can name.

use super::cells::first_cell;
use super::distance::{Place, Projection};
use super::fragment::push_number;
use super::layout::Layout;
use super::{Assigned, Change, Part, PlanInput, Planned, alias, virsh, window};
use crate::stack::Feature;
use domain::code::Code;
use domain::edit::Edit;
use domain::refusal::Refusal;
use domain::{Argument, Domain, Mark, Piece, QEMU_NAMESPACE};

/// VIRT_HIGH_PCIE_MMIO (hw/arm/virt.c) in KiB: 512 GiB.
const DEFAULT_WINDOW: u64 = 512 << 20;

/// The window's property.
const WINDOW: &str = "highmem-mmio-size=";

/// What the ids of our initiator objects begin with.
const OBJECT: &str = "acpi-generic-initiator,id=variantd-gi-";

/// Why a hostdev needs an alias here.
const POINTED_AT: alias::Purpose = alias::Purpose {
    code: Code::NodesetMissing,
    reason: "a name that the initiators on QEMU's command line can use",
};

/// Nodes and distances.
const NUMA: &str = "-numa";

/// QEMU arguments that the completed guest needs: options with their values, in order.
#[derive(Debug, Default)]
pub(super) struct Arguments(Vec<(&'static str, String)>);

impl Arguments {
    fn push(&mut self, option: &'static str, value: String) {
        self.0.push((option, value));
    }

    pub(super) fn extend(&mut self, later: Self) {
        self.0.extend(later.0);
    }

    /// Each option, followed by its value.
    fn words(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|(option, value)| [*option, value])
    }

    /// Plans the arguments that are missing, and removes those that are no longer needed.
    pub(super) fn write(self, domain: &Domain) -> Result<Part, Refusal> {
        let mut part = Part::default();
        let ours = ours(domain);
        if self.words().any(|word| word == NUMA) {
            refuse_numa(domain, &ours)?;
        }
        // The same arguments in the same order need no edit, so that a complete definition stays as it is, byte for byte.
        let present = ours.iter().map(|argument| argument.value.as_str());
        if present.eq(self.words()) {
            return Ok(part);
        }
        let removed = ours.iter().map(|argument| argument.element.remove());
        let mut edits: Vec<Edit> = removed.collect();
        if !self.0.is_empty() {
            edits.push(append(domain, &self));
            part.added.extend(piece(domain));
        }
        part.changes.push(change(edits));
        Ok(part)
    }
}

/// The argument for the 64-bit MMIO window of `virt`, in KiB. A size other than 512 GiB needs QEMU 10.0.
pub(super) fn window(input: &PlanInput<'_>, kib: u64) -> Result<Part, Refusal> {
    let stack = &input.target.stack;
    let mut part = Part::default();
    // No argument: then the guest also starts on a QEMU that does not know the property.
    if kib == DEFAULT_WINDOW {
        return Ok(part);
    }
    if stack.has(Feature::QemuVirtWindow) {
        part.arguments.push("-machine", format!("{WINDOW}{kib}K"));
        part.added.insert(window::piece(kib));
        return Ok(part);
    }
    let need = Feature::QemuVirtWindow.first();
    let reason = format!(
        "QEMU {} has a 64-bit MMIO window of 512 GiB on 'virt', and {} GiB are needed",
        stack.qemu,
        kib >> 20
    );
    Err(Refusal::new(
        Code::TargetOld,
        reason,
        format!("use QEMU {need} or newer"),
    ))
}

/// An ACPI table in a file.
pub(super) fn table(path: &str) -> Part {
    let mut part = Part::default();
    part.arguments.push("-acpitable", format!("file={path}"));
    part.added.insert(Piece::Table(path.to_owned()));
    part
}

/// The initiators' arguments, an alias for each device, and a first cell that holds CPUs and memory. `planned` has the nodes of
/// each device.
pub(super) fn plan(
    domain: &Domain,
    assigned: &[Assigned<'_>],
    planned: &[Planned],
    layout: &Layout<'_>,
    projection: &Projection<'_>,
) -> Result<Part, Refusal> {
    let mut part = Part::default();
    if domain.cells.is_empty() {
        part.add(first_cell(layout));
    }
    part.arguments = initiators(domain, assigned, planned, layout, projection)?;
    for one in assigned
        .iter()
        .filter(|one| one.recipe.initiators.is_some())
    {
        part.add(alias::plan(one, POINTED_AT));
    }
    Ok(part)
}

/// The arguments that variantd added: options and values, in order. An option and its value are a pair also if only such pairs
/// are between them, because removing those makes the two adjacent.
pub fn ours(domain: &Domain) -> Vec<&Argument> {
    let has =
        |mark: &&Mark| mark.added.has(&Piece::CommandLine) || mark.added.has(&Piece::Arguments);
    let Some(mark) = domain.mark.as_ref().filter(has) else {
        return Vec::new();
    };
    let arguments = domain.command_line.iter().flat_map(|line| &line.arguments);
    let (mut ours, mut open) = (Vec::new(), Vec::<(usize, &Argument)>::new());
    for value in arguments.enumerate() {
        let is_value =
            |option: &&(usize, &Argument)| is_ours(mark, &option.1.value, &value.1.value);
        match open.last().filter(is_value) {
            Some(option) => {
                ours.extend([*option, value]);
                open.pop();
            }
            None => open.push(value),
        }
    }
    ours.sort_by_key(|(place, _)| *place);
    ours.into_iter().map(|(_, argument)| argument).collect()
}

/// Removes our arguments, or the element around them if we added it and nothing else is in it.
pub(crate) fn undo(domain: &Domain, mark: &Mark) -> Vec<Edit> {
    let ours = ours(domain);
    match &domain.command_line {
        Some(line) if mark.added.has(&Piece::CommandLine) && line.arguments.len() == ours.len() => {
            vec![line.element.remove()]
        }
        _ => ours
            .into_iter()
            .map(|argument| argument.element.remove())
            .collect(),
    }
}

/// True for the value of the window's argument.
pub(super) fn is_window(argument: &Argument) -> bool {
    argument.value.starts_with(WINDOW)
}

fn is_ours(mark: &Mark, option: &str, value: &str) -> bool {
    match option {
        NUMA => value.starts_with("node,nodeid=") || value.starts_with("dist,"),
        "-object" => value.starts_with(OBJECT),
        // A window of another size is the user's.
        "-machine" => match window::ours(mark) {
            Some(kib) => value == format!("{WINDOW}{kib}K"),
            None => value.starts_with(WINDOW) && !mark.added.has(&Piece::UsersWindow),
        },
        "-acpitable" => {
            let path = value.trim_start_matches("file=");
            mark.added.has(&Piece::Table(path.to_owned()))
        }
        _ => false,
    }
}

/// Refuses a '-numa' that is not ours: if it is the last argument, QEMU would read our first one as its value.
fn refuse_numa(domain: &Domain, ours: &[&Argument]) -> Result<(), Refusal> {
    let is_numa = |argument: &&Argument| argument.value == NUMA;
    let lines = domain.command_line.iter();
    let all = lines.flat_map(|line| &line.arguments).filter(is_numa);
    if all.count() == ours.iter().copied().filter(is_numa).count() {
        return Ok(());
    }
    let reason =
        "<qemu:commandline> already has '-numa', which contradicts the nodes of the initiators";
    let hint = virsh::edit(domain, "remove those arguments");
    Err(Refusal::new(Code::CommandLineTaken, reason, hint).at("/domain/qemu:commandline"))
}

fn initiators(
    domain: &Domain,
    assigned: &[Assigned<'_>],
    planned: &[Planned],
    layout: &Layout<'_>,
    projection: &Projection<'_>,
) -> Result<Arguments, Refusal> {
    let mut arguments = Arguments::default();
    for place in layout
        .places
        .iter()
        .filter(|place| place.initiator.is_some())
    {
        arguments.push(NUMA, format!("node,nodeid={}", place.cell));
    }
    for (from, to) in pairs(domain, layout) {
        let value = projection.between(&from, &to)?;
        arguments.push(NUMA, distance(from.cell, to.cell, value.into()));
    }
    for one in assigned {
        let alias = alias::of(one);
        let planned = planned.iter().filter(|it| it.address == one.hostdev.source);
        for cell in planned.flat_map(|planned| planned.cells.iter()) {
            let object = format!("{OBJECT}{cell},pci-dev={alias},node={cell}");
            arguments.push("-object", object);
        }
    }
    Ok(arguments)
}

/// There are thousands of them, and `format!` takes several times as long.
fn distance(from: u32, to: u32, value: u32) -> String {
    let mut text = String::with_capacity("dist,src=127,dst=127,val=255".len());
    for (name, number) in [("dist,src=", from), (",dst=", to), (",val=", value)] {
        text.push_str(name);
        push_number(&mut text, number);
    }
    text
}

/// Pairs of different cells, without those for which libvirt writes the distance: libvirt completes the table of its own cells
/// as soon as one of them has distances.
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

/// The piece for the mark when arguments are appended; `None` if the mark has it.
fn piece(domain: &Domain) -> Option<Piece> {
    let marked = domain.mark.as_ref();
    let is_ours = marked.is_some_and(|mark| mark.added.has(&Piece::CommandLine));
    match &domain.command_line {
        None => Some(Piece::CommandLine),
        // `CommandLine` in the mark covers the arguments in the element as well.
        Some(_) if is_ours => None,
        Some(_) => Some(Piece::Arguments),
    }
}

fn append(domain: &Domain, arguments: &Arguments) -> Edit {
    let line = domain.command_line.as_ref();
    let (margin, prefix) = line.map_or(("  ", "qemu:"), |line| ("", &line.prefix));
    let mut lines = String::new();
    for word in arguments.words() {
        let value = quick_xml::escape::escape(word);
        let end = if lines.is_empty() { "" } else { "\n" };
        lines.extend([end, margin, "<", prefix, "arg value='", &value, "'/>"]);
    }
    match line {
        Some(line) => line.element.append(&lines),
        None => domain.after_devices(&format!(
            "<qemu:commandline xmlns:qemu='{QEMU_NAMESPACE}'>\n{lines}\n</qemu:commandline>"
        )),
    }
}

fn change(edits: Vec<Edit>) -> Change {
    Change {
        code: Code::CellsMissing,
        device: None,
        path: "/domain/qemu:commandline".to_owned(),
        reason: "QEMU arguments for what this libvirt has no elements for: window, initiators, their nodes and distances"
            .to_owned(),
        edits,
    }
}

#[cfg(test)]
mod tests;
