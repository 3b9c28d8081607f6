//! The users of a device in `variantctl show`: holders, virtual functions, the rest of its IOMMU group.

use std::path::Path;

use kernel_glue::device::Device;
use kernel_glue::failure::Failure;
use kernel_glue::holder::{HeldNode, Holder, Holders};
use kernel_glue::host::Host;
use kernel_glue::occupancy::{Occupancy, Onlined};
use serde_json::{Value, json};

use super::list::or_dash;
use super::{HostView, is_snapshot};

/// The occupancy of a device, and its host.
pub(super) struct Seen {
    occupancy: Result<Occupancy, Failure>,
    /// A recorded host has no processes.
    recorded: bool,
}

impl Seen {
    pub(super) fn read(host_view: &HostView, device: &Device) -> Self {
        let read = || Occupancy::read(&host_view.root, device.address);
        Self {
            occupancy: match is_snapshot(&host_view.root) {
                true => Ok(Occupancy::default()),
                false => read(),
            },
            recorded: host_view.root != Path::new("/"),
        }
    }

    /// Rows of name and value; only the first is always printed.
    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let occupancy = match &self.occupancy {
            Ok(occupancy) => occupancy,
            Err(failure) => return vec![("held by", format!("not visible: {}", failure.reason()))],
        };
        let mut rows = holders(&occupancy.holders, self.recorded);
        if occupancy.virtual_functions > 0 {
            rows.push(("virtual functions", occupancy.virtual_functions.to_string()));
        }
        rows.extend(
            occupancy
                .onlined
                .as_ref()
                .map(|memory| ("host memory", onlined(memory))),
        );
        rows
    }

    /// The same as JSON; null for an unavailable fact.
    pub(super) fn json(&self) -> Value {
        let Ok(occupancy) = &self.occupancy else {
            return Value::Null;
        };
        let holders = &occupancy.holders;
        if self.recorded && holders.seen == 0 {
            return Value::Null;
        }
        json!({
            "holders": holders.found.iter().map(holder_json).collect::<Value>(),
            "hidden_processes": holders.hidden,
            "virtual_functions": occupancy.virtual_functions,
            "host_memory": occupancy.onlined.as_ref().map(|memory| {
                json!({"node": memory.node, "ranges": memory.ranges})
            }),
        })
    }
}

/// The group's number and its other members, each with its driver.
pub(super) fn group(host: &Host, device: &Device) -> Option<String> {
    let number = device.iommu_group?;
    let others: Vec<String> = others(host, device)
        .map(|other| format!("{} ({})", other.address, or_dash(other.driver.as_ref())))
        .collect();
    Some(match others.is_empty() {
        true => format!("{number}, alone"),
        false => format!("{number}, with {}", others.join(", ")),
    })
}

pub(super) fn group_json(host: &Host, device: &Device) -> Value {
    let member = |other: &Device| {
        let class = format!("{:06x}", other.class);
        json!({"address": other.address, "class": class, "driver": other.driver})
    };
    others(host, device).map(member).collect()
}

fn others<'a>(host: &'a Host, device: &'a Device) -> impl Iterator<Item = &'a Device> {
    let group = device.iommu_group;
    let members = group.into_iter().flat_map(|number| host.group(number));
    members.filter(|other| other.address != device.address)
}

fn holders(holders: &Holders, recorded: bool) -> Vec<(&'static str, String)> {
    let name = |index: usize| if index == 0 { "held by" } else { "" };
    let mut lines: Vec<String> = holders.found.iter().map(line).collect();
    if holders.hidden > 0 {
        let (hidden, seen) = (holders.hidden, holders.seen);
        lines.push(format!(
            "not visible: {hidden} of {seen} processes; run it as root"
        ));
    }
    if lines.is_empty() {
        let not_recorded = recorded && holders.seen == 0;
        lines.push(
            if not_recorded {
                "not recorded"
            } else {
                "no process"
            }
            .to_owned(),
        );
    }
    let rows = lines.into_iter().enumerate();
    rows.map(|(index, line)| (name(index), line)).collect()
}

fn line(holder: &Holder) -> String {
    // A process may hold a shared node, such as the group's, because of another device.
    match holder.is_certain() {
        true => holder.to_string(),
        false => format!("perhaps {holder}"),
    }
}

fn onlined(memory: &Onlined) -> String {
    let ranges = memory.ranges;
    format!(
        "NUMA node {}, {ranges} ranges in /proc/iomem",
        or_dash(memory.node)
    )
}

fn holder_json(holder: &Holder) -> Value {
    json!({
        "pid": holder.process,
        "command": holder.command,
        "unit": holder.unit,
        "nodes": holder.nodes.iter().map(node_json).collect::<Value>(),
    })
}

fn node_json(node: &HeldNode) -> Value {
    json!({"path": node.path, "fd": node.descriptor, "shared": node.shared})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(recorded: bool, holders: Holders) -> Seen {
        let occupancy = Occupancy {
            holders,
            ..Occupancy::default()
        };
        Seen {
            occupancy: Ok(occupancy),
            recorded,
        }
    }

    fn holder(shared: bool) -> Holder {
        Holder {
            process: 9,
            command: "python3".into(),
            unit: None,
            nodes: vec![HeldNode {
                path: "/dev/nvidia-uvm".into(),
                descriptor: Some(4),
                shared,
            }],
        }
    }

    #[test]
    fn holders_distinguish_no_process_from_not_recorded() {
        let row = |recorded| seen(recorded, Holders::default()).rows();
        assert_eq!(row(false), [("held by", "no process".to_owned())]);
        assert_eq!(row(true), [("held by", "not recorded".to_owned())]);
        assert_eq!(seen(true, Holders::default()).json(), Value::Null);
    }

    #[test]
    fn each_holder_has_a_line_and_hidden_ones_are_counted() {
        let holders = Holders {
            found: vec![holder(false), holder(true)],
            hidden: 2,
            seen: 40,
        };
        let seen = seen(false, holders);
        let lines: Vec<String> = seen.rows().into_iter().map(|(_, line)| line).collect();
        assert_eq!(lines[0], "python3 (pid 9, '/dev/nvidia-uvm' as fd 4)");
        assert!(lines[1].starts_with("perhaps python3"), "{lines:?}");
        assert!(lines[2].contains("2 of 40 processes"), "{lines:?}");
        let json = seen.json();
        assert_eq!(json["holders"][1]["nodes"][0]["shared"], true);
        assert_eq!(json["hidden_processes"], 2);
    }
}
