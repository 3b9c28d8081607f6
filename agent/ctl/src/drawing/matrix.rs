//! Device by device: what two of them share, and how far apart their NUMA nodes are.

use kernel_glue::device::Device;
use kernel_glue::host::Host;

use planner::recipe::Recipes;

/// What two devices share, nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shared {
    /// They are one.
    Itself,
    /// Functions of one slot.
    Slot,
    /// A switch.
    Switch,
    /// A root port, past several switches.
    RootPort,
    /// A NUMA node.
    Node,
    /// The host.
    Host,
}

/// What a mark in the matrix means.
const LEGEND: [(&str, &str); 6] = [
    ("X", "itself"),
    ("SLOT", "functions of one slot"),
    (
        "SW",
        "one switch: peers reach each other past the processor",
    ),
    ("PORT", "one root port, past several switches"),
    ("NODE", "one NUMA node, through its processor"),
    ("SYS", "the host alone: across NUMA nodes"),
];

/// The matrix with its legend; empty without devices.
#[must_use]
pub(crate) fn text(host: &Host, recipes: &Recipes) -> String {
    let devices: Vec<&Device> = recipes.covered(host).map(|(device, _)| device).collect();
    if devices.is_empty() {
        return String::new();
    }
    let head = std::iter::once(String::new()).chain((0..devices.len()).map(|n| format!("D{n}")));
    let head = head.chain(["NODE".to_owned(), "CPUS".to_owned(), "DEVICE".to_owned()]);
    let rows = devices.iter().enumerate().map(|(number, device)| {
        let cells = devices.iter().map(|other| cell(host, device, other));
        std::iter::once(format!("D{number}"))
            .chain(cells)
            .chain(place(host, recipes, device))
            .collect()
    });
    let rows: Vec<Vec<String>> = std::iter::once(head.collect()).chain(rows).collect();
    format!("{}\n{}", columns(&rows), legend())
}

/// What two devices share.
#[must_use]
pub(crate) fn shared(host: &Host, one: &Device, other: &Device) -> Shared {
    let slot = |device: &Device| {
        let at = device.address;
        (at.domain(), at.bus(), at.device())
    };
    if one.address == other.address {
        return Shared::Itself;
    }
    if slot(one) == slot(other) {
        return Shared::Slot;
    }
    let same = one.ancestors.iter().zip(&other.ancestors);
    let common = same.take_while(|(a, b)| a == b).count();
    // Below the ports that two paths share, a downstream port each is one switch, more is several.
    let apart = one.ancestors.len().max(other.ancestors.len()) - common;
    match (common, apart) {
        (0, _) if is_near(host, one, other) => Shared::Node,
        (0, _) => Shared::Host,
        (2.., 0..=1) => Shared::Switch,
        _ => Shared::RootPort,
    }
}

/// True at one NUMA node, and where there is only one with processors.
fn is_near(host: &Host, one: &Device, other: &Device) -> bool {
    let is_same = one.numa_node.is_some() && one.numa_node == other.numa_node;
    is_same || host.numa.sockets().count() == 1
}

/// The mark, with the distance if the devices are on different nodes.
fn cell(host: &Host, one: &Device, other: &Device) -> String {
    let shared = shared(host, one, other);
    let mark = LEGEND[shared as usize].0;
    let nodes = one.numa_node.zip(other.numa_node);
    let distance = nodes.and_then(|(from, to)| host.numa.distance(from, to));
    match (shared, distance) {
        (Shared::Host, Some(distance)) => format!("{mark} {distance}"),
        _ => mark.to_owned(),
    }
}

/// The device's node, the processors there, its address and what it is.
fn place(host: &Host, recipes: &Recipes, device: &Device) -> [String; 3] {
    let dash = || "-".to_owned();
    let node = device.numa_node.and_then(|node| host.numa.node(node));
    let recipe = recipes.for_device(device);
    let member = recipe.and_then(|recipe| recipe.member(device));
    let label = member.map_or("", |member| member.label.as_str());
    [
        node.map_or_else(dash, |node| node.id.to_string()),
        node.map_or_else(dash, |node| node.cpus.to_string()),
        format!("{} {label}", device.address),
    ]
}

fn legend() -> String {
    let lines = LEGEND
        .iter()
        .map(|(mark, meaning)| format!("  {mark:<5} {meaning}\n"));
    let distance = "  SYS 40: the kernel's NUMA distance is 40 (10 is local)\n";
    format!("Legend:\n{}{distance}", lines.collect::<String>())
}

/// Rows as columns two spaces apart.
fn columns(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}
