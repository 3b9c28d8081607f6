//! Device by device: what two of them share, how far apart their NUMA nodes are, and the routes below one switch.

use kernel_glue::config::Ats;
use kernel_glue::device::Device;
use kernel_glue::host::Host;
use kernel_glue::peer::Shared;

use super::peer;
use planner::recipe::Recipes;

/// What a mark in the matrix means.
const LEGEND: [(&str, &str); 6] = [
    ("X", "itself"),
    ("SLOT", "functions of one slot"),
    ("SW", "one switch; below are the routes of requests"),
    ("PORT", "one root port, past several switches"),
    ("NODE", "one NUMA node, through its processor"),
    ("SYS", "the host alone: across NUMA nodes"),
];

/// The covered devices, and the physical functions of network adapters, by address; none on a host without a covered device.
#[must_use]
pub(crate) fn devices<'a>(host: &'a Host, recipes: &Recipes) -> Vec<&'a Device> {
    if recipes.covered(host).next().is_none() {
        return Vec::new();
    }
    let adapter =
        |device: &Device| device.is_network_adapter() && device.physical_function.is_none();
    let all = host.devices.values();
    all.filter(|device| recipes.for_device(device).is_some() || adapter(device))
        .collect()
}

/// The matrix with its legend; empty without devices.
#[must_use]
pub(crate) fn text(host: &Host, recipes: &Recipes) -> String {
    let devices = devices(host, recipes);
    if devices.is_empty() {
        return String::new();
    }
    let head = std::iter::once(String::new()).chain((0..devices.len()).map(|n| format!("D{n}")));
    let head = head.chain(["NODE", "CPUS", "ATS", "RO", "DEVICE"].map(str::to_owned));
    let rows = devices.iter().enumerate().map(|(number, device)| {
        let cells = devices.iter().map(|other| cell(host, device, other));
        std::iter::once(format!("D{number}"))
            .chain(cells)
            .chain(place(host, recipes, device))
            .collect()
    });
    let rows: Vec<Vec<String>> = std::iter::once(head.collect()).chain(rows).collect();
    let paths = peer::text(host, &devices);
    format!("{}\n{}{paths}", columns(&rows), legend())
}

/// The mark, with the distance if the devices are on different nodes.
fn cell(host: &Host, one: &Device, other: &Device) -> String {
    let shared = host.shared(one, other);
    let mark = LEGEND[shared as usize].0;
    let nodes = one.numa_node.zip(other.numa_node);
    let distance = nodes.and_then(|(from, to)| host.numa.distance(from, to));
    match (shared, distance) {
        (Shared::Host, Some(distance)) => format!("{mark} {distance}"),
        _ => mark.to_owned(),
    }
}

/// The device's node, the processors there, ATS, relaxed ordering, its address and what it is.
fn place(host: &Host, recipes: &Recipes, device: &Device) -> [String; 5] {
    let dash = || "-".to_owned();
    let node = device.numa_node.and_then(|node| host.numa.node(node));
    let recipe = recipes.for_device(device);
    let member = recipe.and_then(|recipe| recipe.member(device));
    let label = match member {
        Some(member) => member.label.as_str(),
        None => "network adapter",
    };
    [
        node.map_or_else(dash, |node| node.id.to_string()),
        node.map_or_else(dash, |node| node.cpus.to_string()),
        ats(device).to_owned(),
        relaxed_ordering(host, device).to_owned(),
        format!("{} {label}", device.address),
    ]
}

fn ats(device: &Device) -> &'static str {
    match device.ats() {
        Some(Ats::On) => "on",
        Some(Ats::Off) => "off",
        Some(Ats::Absent) => "no",
        None => "?",
    }
}

fn relaxed_ordering(host: &Host, device: &Device) -> &'static str {
    match host.relaxed_ordering(device) {
        _ if host.relaxed_ordering_erratum(device).is_some() => "no",
        Some(true) => "on",
        Some(false) => "off",
        None => "?",
    }
}

fn legend() -> String {
    let lines = LEGEND
        .iter()
        .map(|(mark, meaning)| format!("  {mark:<5} {meaning}\n"));
    let rest = "  SYS 40: the kernel's NUMA distance is 40 (10 is local)\n  \
                ATS: the device asks the IOMMU for addresses: on, off until a driver or guest uses the device, no\n  \
                RO: relaxed ordering: on, off, no (the root port has an erratum, and the kernel disables it)\n  \
                ?: config space is not visible; run it as root\n";
    format!("Legend:\n{}{rest}", lines.collect::<String>())
}

/// Rows as columns two spaces apart.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
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
