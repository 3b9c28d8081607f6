//! Pairs of devices: the route of requests from one to the other, on the host and in a guest that has both.

use kernel_glue::address::PciAddress;
use kernel_glue::config::AccessControl;
use kernel_glue::device::Device;
use kernel_glue::host::Host;
use kernel_glue::peer::{PathPort, Route, Shared};
use serde_json::{Value, json};

use super::matrix::columns;

/// The routes of pairs that share a slot, a switch or a root port, without those of two adapters. A pair is one line if both
/// directions are equal.
#[must_use]
pub(super) fn text(host: &Host, devices: &[&Device]) -> String {
    let mut rows = vec![
        ["PAIR", "ON THE HOST", "IN A GUEST WITH BOTH"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for (first, one) in devices.iter().enumerate() {
        for (offset, other) in devices[first + 1..].iter().enumerate() {
            rows.extend(pair(host, (first, one), (first + 1 + offset, other)));
        }
    }
    match rows.len() {
        1 if devices.len() < 2 => String::new(),
        1 => {
            "\nRequests between these devices go through the root complex: no two share a switch.\n"
                .to_owned()
        }
        _ => format!(
            "\nRequests between devices below one switch; all others go through the root complex:\n{}",
            columns(&rows)
        ),
    }
}

/// The lines of a pair; none if no bridge is above both.
fn pair(host: &Host, one: (usize, &Device), other: (usize, &Device)) -> Vec<Vec<String>> {
    let routes = |from: &Device, to: &Device| {
        let path = host.peer_path(from, to);
        let routes = [path.on_host(), path.in_guest()];
        (routes[0] != Route::Apart).then(|| [words(&routes[0], false), words(&routes[1], true)])
    };
    if one.1.is_network_adapter() && other.1.is_network_adapter() {
        return Vec::new();
    }
    let row = |from: usize, between: &str, to: usize, [host, guest]: [String; 2]| {
        vec![format!("D{from} {between} D{to}"), host, guest]
    };
    match routes(one.1, other.1).zip(routes(other.1, one.1)) {
        None => Vec::new(),
        Some((there, back)) if there == back => vec![row(one.0, "<->", other.0, there)],
        Some((there, back)) => vec![
            row(one.0, "->", other.0, there),
            row(other.0, "->", one.0, back),
        ],
    }
}

fn words(route: &Route, in_guest: bool) -> String {
    match route {
        Route::Direct => "direct".to_owned(),
        Route::Apart => "root complex".to_owned(),
        Route::Unknown(at) => format!("UNKNOWN: config space of {at} is not visible"),
        Route::Redirected { ports, no_ats } => {
            let ats = no_ats.then(|| "no ATS".to_owned());
            let without = if in_guest {
                " without direct translated"
            } else {
                ""
            };
            let ports = (!ports.is_empty()).then(|| format!("ACS{without} at {}", list(ports)));
            let why: Vec<String> = ats.into_iter().chain(ports).collect();
            format!("root complex: {}", why.join(", "))
        }
    }
}

/// Addresses in order, so that both directions of a pair read the same.
fn list(ports: &[PciAddress]) -> String {
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    ports.join(" ")
}

/// Each ordered pair of different devices.
#[must_use]
pub(crate) fn json(host: &Host, devices: &[&Device]) -> Value {
    let from = devices.iter();
    let pairs = from.flat_map(|from| devices.iter().map(move |to| (from, to)));
    let pairs = pairs.filter(|(from, to)| from.address != to.address);
    pairs.map(|(from, to)| one(host, from, to)).collect()
}

fn one(host: &Host, from: &Device, to: &Device) -> Value {
    let path = host.peer_path(from, to);
    let nodes = from.numa_node.zip(to.numa_node);
    json!({
        "from": from.address,
        "to": to.address,
        "shared": shared(path.shared),
        "distance": nodes.and_then(|(from, to)| host.numa.distance(from, to)),
        "ports": path.ports.iter().map(port).collect::<Value>(),
        "on_host": route(&path.on_host()),
        "in_guest": route(&path.in_guest()),
    })
}

fn shared(shared: Shared) -> &'static str {
    match shared {
        Shared::Itself => "itself",
        Shared::Slot => "slot",
        Shared::Switch => "switch",
        Shared::RootPort => "root_port",
        Shared::Node => "node",
        Shared::Host => "host",
    }
}

fn port(port: &PathPort<'_>) -> Value {
    let set = port.controls();
    let set = set.map(|set| set.into_iter().map(control).collect::<Vec<_>>());
    json!({"address": port.address, "access_control": set})
}

fn control(bit: AccessControl) -> &'static str {
    match bit {
        AccessControl::RequestRedirect => "request_redirect",
        AccessControl::CompletionRedirect => "completion_redirect",
        AccessControl::UpstreamForwarding => "upstream_forwarding",
        AccessControl::EgressControl => "egress_control",
        AccessControl::DirectTranslated => "direct_translated",
    }
}

fn route(route: &Route) -> Value {
    match route {
        Route::Direct => json!({"route": "direct"}),
        Route::Apart => json!({"route": "root_complex"}),
        Route::Redirected { ports, no_ats } => {
            json!({"route": "redirected", "redirected_by": ports, "no_ats": no_ats})
        }
        Route::Unknown(at) => json!({"route": null, "not_visible": at}),
    }
}
