//! Parts as a graph for Graphviz.

use super::{Kind, Part};

/// The graph: each machine in a frame of its own, and a dashed edge where one device is in both.
#[must_use]
pub(crate) fn text(machines: &[Part]) -> String {
    let mut nodes = Vec::new();
    let mut out = String::from(
        "digraph topology {\n  rankdir=LR;\n  node [shape=box, style=\"rounded,filled\", fontname=\"monospace\", fontsize=10];\n",
    );
    for (index, machine) in machines.iter().enumerate() {
        out.push_str(&format!(
            "  subgraph cluster_{index} {{\n    label={};\n",
            quoted(&machine.name)
        ));
        let mut edges = String::new();
        node(machine, &mut nodes, &mut out, &mut edges);
        out.push_str(&format!("{edges}  }}\n"));
    }
    out.push_str(&pairs(&nodes));
    out + "}\n"
}

type Named = (usize, Option<kernel_glue::address::PciAddress>);

/// Writes a part and what is below it; returns its number.
fn node(part: &Part, nodes: &mut Vec<Named>, out: &mut String, edges: &mut String) -> usize {
    let number = nodes.len();
    nodes.push((number, part.device));
    let title = format!("{} {}", part.name, part.label);
    let lines: Vec<&str> = std::iter::once(title.trim())
        .chain(part.facts.iter().map(String::as_str))
        .collect();
    let label = quoted(&lines.join("\n"));
    out.push_str(&format!(
        "    n{number} [label={label}, fillcolor=\"{}\"];\n",
        fill(part.kind)
    ));
    for below in &part.below {
        let child = node(below, nodes, out, edges);
        edges.push_str(&format!("    n{number} -> n{child} [arrowhead=none];\n"));
    }
    number
}

/// An edge from a host's device to the guest's.
fn pairs(nodes: &[Named]) -> String {
    let mut out = String::new();
    for (index, (from, device)) in nodes.iter().enumerate() {
        let same = |(_, other): &&Named| device.is_some() && other == device;
        if let Some((to, _)) = nodes[index + 1..].iter().find(same) {
            out.push_str(&format!(
                // Graphviz must not rank the guest by the place of its devices in the host.
                "  n{from} -> n{to} [style=dashed, constraint=false];\n"
            ));
        }
    }
    out
}

fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('\n', "\\n"))
}

pub(super) fn fill(kind: Kind) -> &'static str {
    match kind {
        Kind::Machine => "#e9ecef",
        Kind::Socket => "#d0ebff",
        Kind::Bus => "#e5dbff",
        Kind::RootPort => "#fff3bf",
        Kind::Switch => "#ffe8cc",
        Kind::Device => "#f1f3f5",
        Kind::Covered => "#d3f9d8",
    }
}
