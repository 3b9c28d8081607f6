//! Judges a device that is to be attached to a domain, and completes its element. Pure.
//!
//! An attach call has one element, so it can carry only what belongs into that element: `<driver>`. For the next start the definition
//! with the device must be one that can be completed, which the agent does before that start. For a running guest the live XML is the
//! definition: it must pass the check of a start with the device at the address that libvirt will choose, and a device with
//! initiators is refused.

mod plugged;

use kernel_glue::address::PciAddress;

use crate::plan::{Change, Note, Plan, PlanInput, Planned, host_device, plan};
use crate::recipe::{Need, Prepare, Recipe};
use crate::rewrite::{of_start, rewrite, verify};
use domain::code::Code;
use domain::hint::{Hint, line};
use domain::refusal::Refusal;
use domain::{Attachment, Definition, Joined};

/// What an attach changes: one of libvirt's `virDomainModificationImpact`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affects {
    /// The definition for the next start.
    Config,
    /// The running guest.
    Live,
}

/// A device that may be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The completed device.
    pub device: Attachment,
    /// The devices of recipes in it.
    pub devices: Vec<Planned>,
    /// What was added to it.
    pub changes: Vec<Change>,
    /// What the user should know about it.
    pub notes: Vec<Note>,
    /// A running guest gets it at once.
    pub live: bool,
}

/// Completes a device that is to be attached to `definition`; unchanged if no recipe covers it.
///
/// # Errors
/// The refusals of [`plan`] and [`verify`], and for a running guest [`Code::InitiatorsAtRunTime`] and [`Code::AtomicsGuestNoPort`].
pub fn attach(
    definition: &Definition,
    device: Attachment,
    affects: Affects,
    input: &PlanInput<'_>,
) -> Result<Attached, Refusal> {
    let input = of_start(input);
    let covered = covered(&input, &device.join(definition)?)?;
    let Some((address, recipe)) = covered else {
        return Ok(Attached::unchanged(device));
    };
    if affects == Affects::Config {
        return judge(definition, device, (affects, address), &input);
    }
    has_no_initiators(address, recipe, &definition.domain().name)?;
    let placed = plugged::placed(definition, &device, address, &input)?;
    let is_placed = placed != device;
    let mut attached = judge(definition, placed, (affects, address), &input)?;
    if is_placed {
        attached.device = plugged::unplaced(definition, &attached.device)?;
    }
    if recipe.atomics.need != Need::Ignore {
        attached.notes.push(plugged::note(address));
    }
    attached.live = true;
    Ok(attached)
}

/// Completes a device of a recipe, and judges the definition with it.
fn judge(
    definition: &Definition,
    device: Attachment,
    (affects, address): (Affects, PciAddress),
    input: &PlanInput<'_>,
) -> Result<Attached, Refusal> {
    let joined = device.join(definition)?;
    let name = &definition.domain().name;
    let mut changes = match plan(input, joined.definition.domain()) {
        Ok(plan) => plan.changes,
        Err(refusal) if !is_completable(&joined, input) => return Err(refusal),
        Err(refusal) if affects == Affects::Live => {
            return Err(insufficient(refusal, name).of(address));
        }
        // Elements that were added for other devices are in the way; they are replaced with the rest.
        Err(_) => Vec::new(),
    };
    changes.retain(|change| is_own(&joined, change));
    let edits = changes.iter().flat_map(|change| &change.edits);
    let device = device.edited(&joined, edits)?;
    let completed = device.join(definition)?;
    let plan = verify(&completed.definition, input);
    let plan = plan.or_else(|refusal| match affects {
        // The agent completes the whole definition when libvirt reports the change.
        Affects::Config => rewrite(&completed.definition, input).map(|rewrite| rewrite.plan),
        Affects::Live => Err(insufficient(refusal, name).of(address)),
    })?;
    Attached::of(plan, device, changes, address)
}

impl Attached {
    /// A device that needs nothing.
    #[must_use]
    pub fn unchanged(device: Attachment) -> Self {
        Self {
            device,
            devices: Vec::new(),
            changes: Vec::new(),
            notes: Vec::new(),
            live: false,
        }
    }

    /// The same device after one more judgement, of the completed one.
    #[must_use]
    pub fn then(mut self, next: Self) -> Self {
        self.changes.extend(next.changes);
        let is_new = |note: &Note| !self.notes.contains(note);
        let notes: Vec<Note> = next.notes.into_iter().filter(is_new).collect();
        self.notes.extend(notes);
        Self {
            device: next.device,
            devices: next.devices,
            live: self.live || next.live,
            ..self
        }
    }

    /// Refuses what no change of the definition can fix, as a start does.
    fn of(
        plan: Plan,
        device: Attachment,
        changes: Vec<Change>,
        address: PciAddress,
    ) -> Result<Self, Refusal> {
        if let Some(unmet) = plan.unmet {
            return Err(unmet);
        }
        let (mut devices, mut notes) = (plan.devices, plan.notes);
        devices.retain(|planned| planned.address == address);
        notes.retain(|note| note.device == Some(address));
        Ok(Self {
            device,
            devices,
            changes,
            notes,
            live: false,
        })
    }
}

/// The PCI function of the device with its recipe, if a start needs something for it.
fn covered<'a>(
    input: &PlanInput<'a>,
    joined: &Joined,
) -> Result<Option<(PciAddress, &'a Recipe)>, Refusal> {
    let domain = joined.definition.domain();
    let Some(hostdev) = plugged::own(joined).filter(|_| domain.platform.is_qemu()) else {
        return Ok(None);
    };
    let device = host_device(input.host, hostdev.source)?;
    let recipe = input
        .recipes
        .for_device(device)
        .filter(|recipe| recipe.prepare == Prepare::OnDefine || domain.is_marked(hostdev.source));
    Ok(recipe.map(|recipe| (hostdev.source, recipe)))
}

/// libvirt makes the objects of initiators only at a start.
fn has_no_initiators(address: PciAddress, recipe: &Recipe, name: &str) -> Result<(), Refusal> {
    if recipe.initiators.is_none() {
        return Ok(());
    }
    let reason = "a running guest cannot get its generic initiators";
    let refusal = Refusal::new(Code::InitiatorsAtRunTime, reason, restart(name));
    Err(refusal.of(address))
}

/// A change of the device's own `<driver>`. An address, a nodeset or an alias is of no use without the elements to which it refers.
fn is_own(joined: &Joined, change: &Change) -> bool {
    [Code::DriverMissing, Code::IommufdMissing].contains(&change.code)
        && change.edits.iter().all(|edit| joined.contains(edit))
}

/// True when defining the whole definition would help: elements that were added for other devices are in the way.
fn is_completable(joined: &Joined, input: &PlanInput<'_>) -> bool {
    rewrite(&joined.definition, input).is_ok()
}

/// The running guest needs more than the device, for this device or for another one beside it.
fn insufficient(refusal: Refusal, name: &str) -> Refusal {
    Refusal {
        reason: format!(
            "a running guest cannot get all it needs: {}",
            refusal.reason
        ),
        hint: restart(name),
        ..refusal
    }
}

/// 'virsh edit' defines, and a define is completed.
fn restart(name: &str) -> Hint {
    let command = line(["virsh", "edit", name]);
    Hint::naming(
        "add it with {}, which has the definition completed, then stop and start the guest",
        &command,
    )
}

#[cfg(test)]
#[path = "attach_test.rs"]
mod test;
