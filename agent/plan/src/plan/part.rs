//! What one part of planning returns, and how parts become a plan.
//!
//! A part reads its arguments and returns a [`Part`]; it does not see the plan. What a later part needs from an earlier one
//! (the new root ports, the planned devices) is a typed argument of it.

use std::collections::{BTreeMap, BTreeSet};

use kernel_glue::address::PciAddress;

use super::command_line::Arguments;
use super::{Change, Differing, Note, Plan, Planned};
use domain::code::Code;
use domain::refusal::Refusal;
use domain::{Added, Piece};

/// What one part adds to a plan. The fields have the meaning of those of [`Plan`].
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) devices: Vec<Planned>,
    pub(super) changes: Vec<Change>,
    pub(super) required: BTreeSet<Code>,
    pub(super) notes: Vec<Note>,
    pub(super) unmet: Option<Refusal>,
    pub(super) added: Added,
    pub(super) added_for: BTreeMap<PciAddress, Added>,
    pub(super) replaced: BTreeMap<PciAddress, String>,
    pub(super) aliases: BTreeMap<PciAddress, String>,
    pub(super) differing: Vec<Differing>,
    /// Arguments of QEMU, which one change writes after all parts are known.
    pub(super) arguments: Arguments,
}

impl Part {
    /// A part that has notes only.
    pub(super) fn of_notes(notes: impl IntoIterator<Item = Note>) -> Self {
        Self {
            notes: notes.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Records a piece in the mark of a device.
    pub(super) fn add_for(&mut self, device: PciAddress, piece: Piece) {
        self.added_for.entry(device).or_default().insert(piece);
    }

    /// Merges a later part. The only place that merges.
    pub(super) fn add(&mut self, later: Self) {
        self.devices.extend(later.devices);
        self.changes.extend(later.changes);
        self.required.extend(later.required);
        self.notes.extend(later.notes);
        self.unmet = self.unmet.take().or(later.unmet);
        self.added.extend(later.added);
        for (device, added) in later.added_for {
            self.added_for.entry(device).or_default().extend(added);
        }
        self.replaced.extend(later.replaced);
        self.aliases.extend(later.aliases);
        self.differing.extend(later.differing);
        self.arguments.extend(later.arguments);
    }

    /// The plan of all parts together.
    pub(super) fn into_plan(self, domain: String, digest: String) -> Plan {
        Plan {
            domain,
            devices: self.devices,
            changes: self.changes,
            required: self.required,
            notes: self.notes,
            unmet: self.unmet,
            added: self.added,
            added_for: self.added_for,
            replaced: self.replaced,
            aliases: self.aliases,
            differing: self.differing,
            digest,
        }
    }
}
