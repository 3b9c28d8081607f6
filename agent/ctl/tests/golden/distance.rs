//! Distances of a completed definition against those of the host that it was planned on.

use std::collections::BTreeMap;

use domain::Domain;
use kernel_glue::host::Host;
use kernel_glue::numa::{NumaNode, RangeList};
use planner::fixture::distances;
use serde_json::Value;

use crate::case::Case;

/// By pair of guest cells.
type Matrix = BTreeMap<(u32, u32), u8>;

/// Host nodes of each device of a plan.
pub(crate) fn host_nodes(plan: &Value) -> BTreeMap<String, RangeList> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    devices(plan)
        .map(|device| (text(&device["address"]), numbers(&device["host_nodes"])))
        .collect()
}

/// Compares every pair of cells that are bound to one host node each; returns how many these are.
pub(crate) fn compare(name: &str, case: &Case, plan: &Value, xml: &str) -> usize {
    let host = Host::read(&case.host()).expect("recorded host");
    let written = distances(&Domain::parse(&case.definition()).expect("definition"));
    let domain = Domain::parse(xml).expect("completed definition");
    let (matrix, bound) = (distances(&domain), bound(&domain, plan));
    let initiators = devices(plan).any(|device| !numbers(&device["host_nodes"]).is_empty());
    let mut pairs = 0;
    for (from, to) in bound.keys().flat_map(|a| bound.keys().map(|b| (*a, *b))) {
        if initiators && from != to && !by_the_user(&written, from, to) {
            let real = host.numa.distance(bound[&from], bound[&to]);
            let real = real.map(expected);
            let planned = matrix.get(&(from, to)).copied();
            assert_eq!(planned, real, "{name}: cell {from} to cell {to}");
            pairs += 1;
        }
    }
    pairs
}

/// 10 is only for a node itself, and 255 (unreachable) never reaches a guest: the recipe has 11 for both.
fn expected(host: u8) -> u8 {
    match host {
        255 => 11,
        other => other.max(11),
    }
}

/// Given by the definition's owner, in one direction or both.
fn by_the_user(written: &Matrix, from: u32, to: u32) -> bool {
    written.contains_key(&(from, to)) || written.contains_key(&(to, from))
}

fn devices(plan: &Value) -> impl Iterator<Item = &Value> {
    plan["devices"].as_array().expect("devices").iter()
}

fn numbers(list: &Value) -> RangeList {
    let numbers = list.as_array().expect("list").iter();
    numbers
        .map(|number| u32::try_from(number.as_u64().expect("number")).expect("small"))
        .collect()
}

/// The host node of each cell: by `<memnode>` for what the user wrote, by the plan for initiators.
fn bound(domain: &Domain, plan: &Value) -> BTreeMap<u32, NumaNode> {
    let node = |id: u32| NumaNode::try_from(id).expect("node");
    let memory = domain
        .memory_nodes
        .iter()
        .filter(|one| one.nodes.len() == 1);
    let memory = memory.flat_map(|one| one.nodes.iter().map(|id| (one.cell, node(id))));
    let initiators = devices(plan).flat_map(|device| {
        let cells: RangeList = device["cells"]
            .as_str()
            .expect("cells")
            .parse()
            .expect("list");
        let nodes: Vec<u32> = numbers(&device["host_nodes"]).iter().collect();
        let cells: Vec<u32> = cells.iter().collect();
        assert_eq!(cells.len(), nodes.len());
        cells.into_iter().zip(nodes)
    });
    let initiators: Vec<(u32, u32)> = initiators.collect();
    let initiators = initiators.into_iter().map(|(cell, id)| (cell, node(id)));
    memory.chain(initiators).collect()
}
