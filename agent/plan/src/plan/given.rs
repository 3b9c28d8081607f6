//! Initiators that the user wrote in `<qemu:commandline>`: checks whether they are complete.
//!
//! If a device's initiators are complete, no element is added for it, because the guest would have nodes, initiators or ports
//! twice. An incomplete device cannot be completed by elements, so the refusal names what is missing.
//! Rules: QEMU's hw/core/numa.c (node ids without holes) and hw/acpi/pci.c (a node must exist), and the recipe's count.

use std::collections::{BTreeMap, BTreeSet};

use kernel_glue::address::PciAddress;
use kernel_glue::numa::RangeList;

use super::qemu::{self, Given};
use super::{Assigned, Note, Part, virsh};
use domain::code::Code;
use domain::refusal::Refusal;
use domain::{Cell, Domain};

/// Complete initiators among the user's arguments, by device.
#[derive(Debug, Default)]
pub(super) struct Initiators(BTreeMap<PciAddress, RangeList>);

impl Initiators {
    /// Checks the user's nodes and initiators.
    ///
    /// # Errors
    /// A refusal that names what a device lacks.
    pub(super) fn of(domain: &Domain, assigned: &[Assigned<'_>]) -> Result<Self, Refusal> {
        let line = Line::of(domain);
        let mut complete = BTreeMap::new();
        if line.nodes.is_empty() && line.initiators.is_empty() {
            return Ok(Self(complete));
        }
        for one in assigned {
            let Some(rules) = one.recipe.initiators else {
                continue;
            };
            let source = one.hostdev.source;
            match line.fault(source, rules.cells) {
                None => complete.insert(source, line.of_device(source).into_iter().collect()),
                Some(fault) => return Err(incomplete(domain, &fault).of(source)),
            };
        }
        Ok(Self(complete))
    }

    /// The nodes of a device whose initiators the user wrote.
    pub(super) fn nodes(&self, device: PciAddress) -> Option<&RangeList> {
        self.0.get(&device)
    }

    /// Notes the devices for which nothing is added.
    pub(super) fn notes(&self, domain: &Domain) -> Part {
        let silent = !qemu::foreign(domain).iter().any(is_distance);
        let hint = match silent && domain.cells.iter().all(|cell| cell.distances.is_empty()) {
            true => "; no distances are given, so the guest uses 10 and 20",
            false => "",
        };
        Part::of_notes(self.0.iter().map(|(device, nodes)| Note {
            code: Code::InitiatorsGiven,
            device: Some(*device),
            text: format!(
                "its initiators are complete in <qemu:commandline> (nodes {nodes}): no element is added for it{hint}"
            ),
        }))
    }
}

/// NUMA nodes and initiators in the user's arguments.
struct Line<'a> {
    domain: &'a Domain,
    /// Nodes by id; true for a node without CPUs and memory.
    nodes: BTreeMap<u32, bool>,
    /// Node and device of each initiator.
    initiators: Vec<(u32, Option<PciAddress>)>,
}

impl<'a> Line<'a> {
    fn of(domain: &'a Domain) -> Self {
        let given = qemu::foreign(domain);
        let mut line = Self {
            domain,
            nodes: BTreeMap::new(),
            initiators: Vec::new(),
        };
        for node in given.iter().filter(|given| is_node(given)) {
            let named = node.property("nodeid").and_then(|id| id.parse().ok());
            let id = named.unwrap_or_else(|| line.next());
            let content = ["cpus", "mem", "memdev"];
            let is_empty = content.iter().all(|name| node.property(name).is_none());
            line.nodes.insert(id, is_empty);
        }
        for initiator in given.iter().filter(|given| is_initiator(given)) {
            let node = initiator
                .property("node")
                .and_then(|node| node.parse().ok());
            let name = initiator.property("pci-dev").unwrap_or_default();
            let device = device(domain, &given, name);
            // A node that cannot be read never exists, so `fault` reports it.
            line.initiators.push((node.unwrap_or(u32::MAX), device));
        }
        line
    }

    /// The id that QEMU gives a node without an id.
    fn next(&self) -> u32 {
        u32::try_from(self.domain.cells.len() + self.nodes.len()).unwrap_or(u32::MAX)
    }

    fn of_device(&self, device: PciAddress) -> BTreeSet<u32> {
        let own = self.initiators.iter().filter(|(_, of)| *of == Some(device));
        own.map(|(node, _)| *node).collect()
    }

    /// What is wrong with a device that must have `count` initiators.
    fn fault(&self, device: PciAddress, count: usize) -> Option<String> {
        let own = self.of_device(device);
        if own.len() != count {
            return Some(format!(
                "it has {} of the {count} initiators that its driver needs",
                own.len()
            ));
        }
        let shared = |node: &&u32| {
            let mut all = self.initiators.iter();
            all.any(|(other, of)| other == *node && *of != Some(device))
        };
        let nodes = self.all();
        if let Some(node) = own.iter().find(|node| !nodes.contains_key(node)) {
            return Some(format!("its initiator's node {node} does not exist"));
        }
        if let Some(node) = own.iter().find(|node| nodes.get(node) == Some(&false)) {
            return Some(format!("its initiator's node {node} has CPUs or memory"));
        }
        if let Some(node) = own.iter().find(shared) {
            return Some(format!("node {node} is another device's initiator as well"));
        }
        let hole = (0..).zip(nodes.keys()).find(|(place, id)| place != *id);
        hole.map(|(place, _)| format!("node {place} is missing: node ids must be consecutive"))
    }

    /// All nodes of the guest by id; true for a node without CPUs and memory.
    fn all(&self) -> BTreeMap<u32, bool> {
        let cells = self.domain.cells.iter();
        let mut nodes: BTreeMap<u32, bool> =
            cells.map(|cell| (cell.id, Cell::is_empty(cell))).collect();
        nodes.extend(&self.nodes);
        nodes
    }
}

fn is_node(given: &Given) -> bool {
    given.option == "numa" && given.kind == "node"
}

fn is_distance(given: &Given) -> bool {
    given.option == "numa" && given.kind == "dist"
}

fn is_initiator(given: &Given) -> bool {
    given.option == "object" && given.kind == "acpi-generic-initiator"
}

/// The host device with this id: a hostdev by its alias, which is `hostdev` and its place unless the user gives one that begins
/// with `ua-`, or a `-device vfio-pci`.
fn device(domain: &Domain, given: &[Given], id: &str) -> Option<PciAddress> {
    let named = |place: usize, alias: Option<&str>| match alias {
        Some(alias) if alias.starts_with("ua-") => alias == id,
        _ => id == format!("hostdev{place}"),
    };
    let mut hostdevs = domain.hostdevs.iter();
    let hostdev = hostdevs.find(|one| named(one.place, one.alias.as_deref()));
    hostdev.map(|hostdev| hostdev.source).or_else(|| {
        let mut devices = given.iter();
        let device = devices.find(|given| given.is_vfio() && given.property("id") == Some(id));
        qemu::host_device(device?)
    })
}

fn incomplete(domain: &Domain, fault: &str) -> Refusal {
    let reason =
        format!("<qemu:commandline> has NUMA nodes or initiators of the user's own, but {fault}");
    let what = "add what is missing there, or remove all 'node' and 'acpi-generic-initiator' arguments \
                    so that they are added as elements,";
    let hint = virsh::edit(domain, what);
    Refusal::new(Code::CommandLineTaken, reason, hint).at("/domain/qemu:commandline")
}

#[cfg(test)]
mod tests {
    use super::super::PlanInput;
    use super::super::testing::{Fixture, guest, hostdev};
    use super::*;
    use crate::fixture::{rewrite, verify};

    const GPU: &str = "0009:01:00.0";

    fn argument(option: &str, value: &str) -> String {
        format!("<qemu:arg value='{option}'/><qemu:arg value='{value}'/>")
    }

    /// A guest with a GPU and, among QEMU's arguments, a window, nodes 1 to 8 and an initiator in each of `nodes`.
    fn own(device: &str, nodes: std::ops::Range<u32>) -> String {
        let mut line = argument("-machine", "highmem-mmio-size=2T");
        for id in 1..9 {
            line += &argument("-numa", &format!("node,nodeid={id}"));
        }
        for node in nodes {
            let object = format!("acpi-generic-initiator,id=gi{node},pci-dev={device},node={node}");
            line += &argument("-object", &object);
        }
        let line = format!(
            "</devices><qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>{line}</qemu:commandline>"
        );
        let cpu = "<cpu mode='host-passthrough'><numa><cell id='0' cpus='0-3' memory='4194304'/></numa></cpu>";
        guest(&hostdev(GPU, ""))
            .replace("<cpu mode='host-passthrough'/>", cpu)
            .replace("</devices>", &line)
    }

    fn targets(fixture: &Fixture) -> [PlanInput<'_>; 2] {
        ["libvirt=12.8,qemu=11.1", "libvirt=11.3,qemu=10.0"].map(|target| PlanInput {
            target: target.parse().expect("target"),
            ..fixture.input()
        })
    }

    #[test]
    fn complete_initiators_of_the_users_own_are_left_alone_and_the_guest_starts() {
        let fixture = Fixture::new();
        for input in targets(&fixture) {
            let text = own("hostdev0", 1..9);
            let rewritten = rewrite(&text, &input).expect("planned");
            assert_eq!(rewritten.text, text);
            let device = &rewritten.plan.devices[0];
            assert_eq!(device.cells.to_string(), "1-8");
            let note = |note: &Note| note.code == Code::InitiatorsGiven;
            assert!(rewritten.plan.notes.iter().any(note));
            verify(&text, &input).expect("it starts");
        }
    }

    #[test]
    fn an_incomplete_definition_is_refused_with_the_missing_part() {
        let fixture = Fixture::new();
        let right = own("hostdev0", 1..9);
        let bent = |from: &str, to: &str| {
            assert!(right.contains(from), "{from}");
            right.replace(from, to)
        };
        let other = argument(
            "-object",
            "acpi-generic-initiator,id=x,pci-dev=other,node=8",
        );
        for (text, words) in [
            (own("hostdev0", 1..6), "5 of the 8"),
            (own("hostdev0", 1..1), "0 of the 8"),
            (own("hostdev1", 1..9), "0 of the 8"),
            (own("hostdev0", 2..10), "node 9 does not exist"),
            (own("hostdev0", 0..8), "node 0 has CPUs or memory"),
            (
                bent("node,nodeid=8", "node,nodeid=8,memdev=m"),
                "node 8 has",
            ),
            (bent("</qemu:c", &(other + "</qemu:c")), "another device's"),
        ] {
            for input in targets(&fixture) {
                let refusal = rewrite(&text, &input).expect_err("incomplete");
                assert_eq!(refusal.code, Code::CommandLineTaken, "{refusal}");
                assert!(refusal.reason.contains(words), "{words}: {refusal}");
                assert!(
                    refusal.hint.as_str().starts_with("add what is missing"),
                    "{refusal}"
                );
            }
        }
    }

    #[test]
    fn a_window_that_is_too_small_is_named_and_a_missing_one_is_added() {
        let fixture = Fixture::new();
        let small = own("hostdev0", 1..9).replace("=2T", "=512G");
        let refusal = fixture.refusal(&small);
        assert_eq!(refusal.code, Code::WindowWrong, "{refusal}");
        let window = argument("-machine", "highmem-mmio-size=2T");
        let none = own("hostdev0", 1..9).replace(&window, "");
        let added = fixture.rewrite(&none).text;
        assert!(
            added.contains("<pcihole64 unit='KiB'>1073741824<"),
            "{added}"
        );
        assert!(!added.contains("nodeset="), "{added}");
        assert_eq!(crate::fixture::revert(&added).expect("reverted"), none);
        assert_eq!(fixture.rewrite(&added).text, added);
    }

    #[test]
    fn an_address_without_initiators_for_the_driver_is_refused() {
        let address = "<address type='pci' domain='0' bus='0' slot='5' function='0'/></hostdev>";
        let text = own("hostdev0", 1..9).replace("</hostdev>", address);
        let refusal = Fixture::new().refusal(&text);
        assert!(refusal.code.as_str().starts_with("VD-TOP"), "{refusal}");
    }
}
