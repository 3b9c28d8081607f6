//! The elements that are added to a guest on one host, in a form for comparing two hosts.

use std::collections::{BTreeMap, BTreeSet};

use kernel_glue::address::PciAddress;

use super::Finding;
use domain::code::Code;
use planner::plan::{Change, Plan};
use planner::target::{Version, Versions};

/// Maximum number of characters of a piece in a message.
const SHOWN: usize = 80;

/// The purpose of a piece.
type Key = (Code, Option<PciAddress>);

/// The additions of a plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    /// libvirt's version and QEMU's.
    versions: (Version, Version),
    /// Of each device its driver, the guest's cells and the host's nodes.
    devices: BTreeMap<PciAddress, (String, String, Vec<u32>)>,
    /// Text by code and device, in the plan's order.
    pieces: BTreeMap<Key, String>,
}

impl Shape {
    pub(super) fn of(plan: &Plan, versions: Versions) -> Self {
        let mut pieces: BTreeMap<_, String> = BTreeMap::new();
        // The mark names host and versions, and nothing that the guest sees.
        let seen = plan
            .changes
            .iter()
            .filter(|one| one.code != Code::MarkMissing);
        for change in seen {
            let piece = pieces.entry((change.code, change.device)).or_default();
            push(piece, change);
        }
        let devices = plan.devices.iter().map(|one| {
            let nodes = one.host_nodes.iter().map(|node| u32::from(*node));
            let driver = one.driver.to_string();
            (
                one.address,
                (driver, one.cells.to_string(), nodes.collect()),
            )
        });
        Self {
            versions: (versions.libvirt, versions.qemu),
            devices: devices.collect(),
            pieces,
        }
    }

    /// The differences to `reference`; empty when the guest sees no difference.
    #[must_use]
    pub(crate) fn differences(&self, reference: &Self) -> Vec<Finding> {
        let mut found = self.cells(reference);
        let keys: BTreeSet<&Key> = self.pieces.keys().chain(reference.pieces.keys()).collect();
        let other = keys
            .into_iter()
            .filter(|key| self.pieces.get(key) != reference.pieces.get(key));
        let (window, spelling): (Vec<&Key>, Vec<&Key>) =
            other.partition(|(code, _)| *code == Code::WindowMissing);
        found.extend(window.into_iter().map(|key| Finding {
            code: Code::FleetWindow,
            device: key.1,
            text: format!(
                "the window for its BARs is {} instead of {}",
                shown(self.pieces.get(key)),
                shown(reference.pieces.get(key))
            ),
        }));
        found.extend(self.spelling(reference, &spelling));
        found
    }

    fn cells(&self, reference: &Self) -> Vec<Finding> {
        let words = |(driver, cells, nodes): &(String, String, Vec<u32>)| {
            format!("driver '{driver}', guest cells '{cells}' for host nodes {nodes:?}")
        };
        let one = |(address, here): (&PciAddress, _)| {
            let there = reference.devices.get(address)?;
            (here != there).then(|| Finding {
                code: Code::FleetNodes,
                device: Some(*address),
                text: format!("{} instead of {}", words(here), words(there)),
            })
        };
        self.devices.iter().filter_map(one).collect()
    }

    /// One sentence for all pieces that differ.
    fn spelling(&self, reference: &Self, keys: &[&(Code, Option<PciAddress>)]) -> Option<Finding> {
        let codes: BTreeSet<&str> = keys.iter().map(|(code, _)| code.as_str()).collect();
        let codes: Vec<&str> = codes.into_iter().collect();
        let versions = match self.versions == reference.versions {
            true => String::new(),
            false => format!(
                ", since they are for libvirt {} and QEMU {} instead of {} and {}",
                self.versions.0, self.versions.1, reference.versions.0, reference.versions.1
            ),
        };
        (!codes.is_empty()).then(|| {
            let text = format!(
                "pieces differ or are written differently ({}){versions}",
                codes.join(", ")
            );
            Finding::new(Code::FleetSpelling, text)
        })
    }
}

/// Adds the texts of the change's edits. They are nearly all of a shape, so they are copied once.
fn push(piece: &mut String, change: &Change) {
    let edits = change.edits.iter().map(|edit| edit.text.trim());
    for (index, text) in edits.enumerate() {
        piece.reserve(text.len() + 1);
        if index > 0 {
            piece.push(' ');
        }
        piece.push_str(text);
    }
}

fn shown(piece: Option<&String>) -> String {
    let Some(piece) = piece else {
        return "none".to_owned();
    };
    let words = piece.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("'{}...'", &words[..end]),
        None => format!("'{words}'"),
    }
}
