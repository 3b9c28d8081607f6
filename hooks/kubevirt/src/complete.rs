//! Completes one domain: reads the snapshot, rewrites the text, and returns warnings.

use std::path::PathBuf;

use domain::code::Code;
use domain::refusal::Refusal;
use domain::{Definition, MAX_BYTES};
use planner::plan::{Note, PlanInput};
use planner::recipe::Recipes;
use planner::rewrite::rewrite;
use planner::target::Target;
use serde_json::Value;
use settings::snapshot::Snapshot;

use crate::foreign;

/// The arguments of a sidecar.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The snapshot of the host, which the agent keeps.
    pub host: PathBuf,
    /// The recipes in force.
    pub recipes: Recipes,
    /// The versions in virt-launcher's image, which are not those of the host.
    pub target: Option<Target>,
}

/// A completed domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// The text; equal to the input, byte for byte, when nothing is missing.
    pub text: String,
    /// Warnings for the operator.
    pub notes: Vec<Note>,
}

/// Completes a domain from virt-launcher, with its VMI as JSON.
///
/// # Errors
/// A refusal with its code, about the snapshot, the input or the domain.
pub fn complete(setup: &Setup, domain: &[u8], vmi: &[u8]) -> Result<Completed, Refusal> {
    let text = text(domain)?;
    known_vmi(vmi)?;
    let definition = Definition::parse(text)?;
    let before = definition.domain();
    if before.hostdevs.is_empty() {
        return Ok(Completed {
            text: text.to_owned(),
            notes: Vec::new(),
        });
    }
    // Read at each call: the agent writes it again when the host changes.
    let snapshot = Snapshot::read(&setup.host).map_err(unavailable)?;
    let input = PlanInput {
        target: setup.target.unwrap_or(snapshot.target.target()),
        ..PlanInput::newest(&snapshot.host, &setup.recipes)
    };
    let found = foreign::found(before);
    let done =
        rewrite(&definition, &input).map_err(|refusal| foreign::contradicted(refusal, &found))?;
    foreign::same_distances(&done.plan.differing, &found)?;
    let mut notes = done.plan.notes;
    if !done.plan.devices.is_empty() {
        notes.extend(foreign::notes(before, &done.text, &found));
    }
    Ok(Completed {
        text: done.text,
        notes,
    })
}

fn text(domain: &[u8]) -> Result<&str, Refusal> {
    if domain.len() > MAX_BYTES {
        let reason = format!("the domain has more than {} MiB", MAX_BYTES >> 20);
        return Err(Refusal::new(
            Code::XmlTooLarge,
            reason,
            "make the VMI smaller",
        ));
    }
    std::str::from_utf8(domain).map_err(|_| {
        let reason = "the domain is not UTF-8 text";
        Refusal::new(
            Code::XmlMalformed,
            reason,
            "pass the domain that KubeVirt wrote",
        )
    })
}

/// The VMI names the guest; the plan does not depend on it.
fn known_vmi(vmi: &[u8]) -> Result<(), Refusal> {
    let broken = |why: String| {
        let hint = "pass the VMI as virt-launcher does";
        Refusal::new(
            Code::KubevirtVmi,
            format!("the VMI cannot be read: {why}"),
            hint,
        )
    };
    match serde_json::from_slice(vmi) {
        Ok(Value::Object(_)) => Ok(()),
        Ok(_) => Err(broken("it is not a JSON object".to_owned())),
        Err(error) => Err(broken(error.to_string())),
    }
}

fn unavailable(refusal: Refusal) -> Refusal {
    let hint =
        "run variantd's DaemonSet on this node, and mount its /run/variantd into the sidecar";
    let reason = format!("{} ({})", refusal.reason, refusal.code);
    Refusal::new(Code::KubevirtSnapshot, reason, hint)
}
