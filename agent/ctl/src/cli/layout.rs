//! `variantctl layout`: the NUMA layout of a guest on a host, as tables, JSON, or written into the definition.

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use kernel_glue::address::PciAddress;
use kernel_glue::capacity::Capacity;
use kernel_glue::numa::RangeList;
use serde_json::{Value, json};

use super::problem::Problem;
use super::{HostView, capacity, completion, defined, input, output, plan};
use domain::edit::apply;
use domain::{Definition, Domain, MAX_BYTES};
use planner::layout::{self, Layout, LayoutCell, LayoutInput};
use planner::saved_plan::Note;
use planner::size::kib_in_units;

/// The guest, and the guests beside it.
#[derive(Debug, Args)]
pub(super) struct Request {
    /// File with domain XML ('-' for standard input), or name or UUID of a domain in libvirt
    #[arg(value_name = "FILE|DOMAIN", add = ArgValueCompleter::new(completion::files_and_domains))]
    subject: PathBuf,
    /// The domain XML of another guest that uses the host, in FILE; may be given several times. By default, on this host, all
    /// domains in libvirt
    #[arg(long, value_name = "FILE")]
    beside: Vec<PathBuf>,
    /// Print the definition with the layout written into it; refused when it has cells, pins or a topology of its own
    #[arg(long)]
    xml: bool,
}

pub(super) fn run(host_view: &HostView, request: &Request) -> Result<(), Problem> {
    let definition = request.definition(host_view)?;
    let domain = definition.domain();
    let is_file = plan::is_file(&request.subject);
    let others = capacity::others(host_view, domain, &request.beside, is_file)?;
    let capacity = capacity(host_view)?;
    let layout_input = LayoutInput {
        host: &host_view.host,
        capacity: &capacity,
        others: &others,
    };
    let layout = layout::layout(&layout_input, domain)?;
    let notes: Vec<Note> = layout.notes.iter().map(Note::of).collect();
    if request.xml {
        let edits = layout::edits(&layout, domain)?;
        let text = apply(definition.text(), edits.iter());
        output::data(&text.map_err(|why| Problem::Failed(why.to_string()))?)?;
    } else if host_view.json {
        let mut object = as_json(host_view, domain, &layout);
        object["notes"] = json!(notes);
        // The object contains the notes.
        return output::object(object);
    } else {
        output::text(&text(host_view, domain, &layout))?;
    }
    plan::notes(&notes);
    output::gaps(&capacity.gaps);
    Ok(())
}

impl Request {
    fn definition(&self, host_view: &HostView) -> Result<Definition, Problem> {
        if plan::is_file(&self.subject) {
            return Ok(Definition::parse(input::text(&self.subject, MAX_BYTES)?)?);
        }
        let name = self.subject.to_string_lossy();
        let found = defined::in_libvirt(host_view, &name, None)?;
        Ok(Definition::parse(found.domain.xml)?)
    }
}

/// CPUs and huge pages; none of them for a snapshot of an earlier release.
fn capacity(host_view: &HostView) -> Result<Capacity, Problem> {
    if let Some(capacity) = capacity::read(host_view)? {
        return Ok(capacity);
    }
    output::say(
        "note: this snapshot has no cores, caches and huge pages; write it again with 'variantctl snapshot'",
    );
    Ok(Capacity::default())
}

fn text(host_view: &HostView, domain: &Domain, layout: &Layout) -> String {
    let topology = layout.topology;
    let mut parts = vec![format!("sockets {}", topology.sockets)];
    for (name, count) in [("dies", topology.dies), ("clusters", topology.clusters)] {
        parts.extend((count > 1).then(|| format!("{name} {count}")));
    }
    parts.push(format!(
        "cores {}, threads {}",
        topology.cores, topology.threads
    ));
    let locked = if layout.locked { ", locked" } else { "" };
    let pages = match layout.page_kib {
        Some(size) => format!("huge pages of {}", kib_in_units(size)),
        None => "normal pages".to_owned(),
    };
    let mut text = format!(
        "guest {}: {} vCPUs ({}), memory in {pages}{locked}\n\n",
        domain.name,
        domain.vcpus,
        parts.join(", ")
    );
    let head = ["cell", "host node", "vCPUs", "CPUs", "memory", "devices"];
    let row = |cell: &LayoutCell| {
        vec![
            cell.id.to_string(),
            cell.node.to_string(),
            cell.vcpus().to_string(),
            in_order(&cell.pins),
            kib_in_units(cell.memory_kib),
            cell.devices
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
        ]
    };
    let rows = layout.cells.iter().map(row);
    let rows: Vec<Vec<String>> = [head.map(str::to_owned).to_vec()]
        .into_iter()
        .chain(rows)
        .collect();
    text.push_str(&output::columns(&rows));
    let threads = match layout.iothreads {
        0 => "emulator threads".to_owned(),
        count => format!("emulator threads and {count} iothreads"),
    };
    text.push_str(&format!("\n{threads}: CPUs {}\n", layout.emulator));
    text.push_str(&matrix(host_view, layout));
    text
}

/// Distances from each cell to the cells and the devices.
fn matrix(host_view: &HostView, layout: &Layout) -> String {
    let cells = layout.cells.iter();
    let mut head = vec!["distance".to_owned()];
    head.extend(cells.clone().map(|cell| format!("cell {}", cell.id)));
    let devices: Vec<PciAddress> = cells
        .clone()
        .flat_map(|cell| cell.devices.clone())
        .collect();
    head.extend(devices.iter().map(ToString::to_string));
    let row = |cell: &LayoutCell| {
        let mut row = vec![format!("cell {}", cell.id)];
        row.extend(cell.distances.iter().map(u8::to_string));
        row.extend(vec![
            "?".to_owned();
            layout.cells.len() - cell.distances.len()
        ]);
        row.extend(devices.iter().map(|device| {
            let distance = to_device(host_view, cell, *device);
            distance.map_or("?".to_owned(), |distance| distance.to_string())
        }));
        row
    };
    let rows: Vec<Vec<String>> = [head].into_iter().chain(cells.map(row)).collect();
    format!("\n{}", output::columns(&rows))
}

/// The host's distance from a cell's node to the `numa_node` of a device.
fn to_device(host_view: &HostView, cell: &LayoutCell, device: PciAddress) -> Option<u8> {
    let node = host_view.host.devices.get(&device)?.numa_node?;
    host_view.host.numa.distance(cell.node, node)
}

/// CPUs in the order of the vCPUs, ascending runs shortened; SMT siblings alternate, so that a sorted list would hide the order.
fn in_order(pins: &[u32]) -> String {
    let list: RangeList = pins.iter().copied().collect();
    match pins.is_sorted() {
        true => list.to_string(),
        false => format!("{list} (siblings together)"),
    }
}

fn as_json(host_view: &HostView, domain: &Domain, layout: &Layout) -> Value {
    let cells = layout.cells.iter().map(|cell| {
        let devices = cell.devices.iter();
        let devices: Value = devices.map(|one| json!(one)).collect();
        let all = layout.cells.iter().flat_map(|cell| &cell.devices);
        let to_devices: serde_json::Map<String, Value> = all
            .map(|one| (one.to_string(), json!(to_device(host_view, cell, *one))))
            .collect();
        json!({
            "id": cell.id,
            "node": cell.node,
            "vcpus": cell.vcpus().to_string(),
            "cpus": cell.cpus().to_string(),
            "pins": cell.pins,
            "memory_kib": cell.memory_kib,
            "devices": devices,
            "distances": cell.distances,
            "device_distances": to_devices,
        })
    });
    let topology = layout.topology;
    json!({
        "domain": domain.name,
        "vcpus": domain.vcpus,
        "cells": cells.collect::<Value>(),
        "topology": {
            "sockets": topology.sockets,
            "dies": topology.dies,
            "clusters": topology.clusters,
            "cores": topology.cores,
            "threads": topology.threads,
        },
        "emulator": layout.emulator.to_string(),
        "iothreads": layout.iothreads,
        "page_kib": layout.page_kib,
        "locked": layout.locked,
    })
}
