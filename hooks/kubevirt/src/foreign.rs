//! Pieces that KubeVirt itself has written (its Grace support, VEP 199), and what its own reading of a domain loses.
//!
//! KubeVirt gives the first initiators of the host to the first GPUs of the guest, so a guest with other GPUs than the host's first
//! gets distances of the wrong ones.
//!
//! What is there is kept and completed, never doubled; what contradicts the host is refused with both values.

use domain::Domain;
use domain::code::Code;
use domain::refusal::Refusal;
use planner::plan::{Differing, Note};

/// Pieces that KubeVirt made, in words.
pub type Found = Vec<&'static str>;

/// The pieces of a Grace guest that a domain has although we have not completed it.
#[must_use]
pub fn found(domain: &Domain) -> Found {
    if domain.mark.is_some() {
        return Vec::new();
    }
    let models = |wanted: &str| domain.controllers.iter().any(|one| one.model == wanted);
    let pieces = [
        ("expander buses", models("pcie-expander-bus")),
        (
            "generic initiators",
            domain.hostdevs.iter().any(|one| one.nodeset.is_some()),
        ),
        ("IOMMUs", !domain.platform.iommus.is_empty()),
        (
            "the MMIO window",
            domain
                .controllers
                .iter()
                .any(|one| one.hole64_kib.is_some_and(|size| size > 0)),
        ),
    ];
    let there = pieces.into_iter().filter(|(_, there)| *there);
    there.map(|(word, _)| word).collect()
}

/// A refusal of a domain that KubeVirt has worked on says so.
#[must_use]
pub fn contradicted(refusal: Refusal, found: &Found) -> Refusal {
    if found.is_empty() {
        return refusal;
    }
    let reason = format!(
        "KubeVirt has written {} itself, and the host wants something else: {} ({})",
        found.join(", "),
        refusal.reason,
        refusal.code
    );
    let hint = format!(
        "leave these pieces to one of the two: turn KubeVirt's Grace support off for this VMI, or this sidecar; {}",
        refusal.hint
    );
    Refusal {
        code: Code::KubevirtContradicts,
        reason,
        hint: hint.into(),
        ..refusal
    }
}

/// Refuses distances that KubeVirt took from other nodes than those of the guest's devices.
///
/// # Errors
/// With the first of them, as it is and as the host has it.
pub fn same_distances(differing: &[Differing], found: &Found) -> Result<(), Refusal> {
    let (Some(first), false) = (differing.first(), found.is_empty()) else {
        return Ok(());
    };
    let Differing {
        from,
        to,
        have,
        want,
    } = first;
    let more = match differing.len() {
        1 => String::new(),
        count => format!(", and {} more differ", count - 1),
    };
    let reason = format!(
        "KubeVirt has written the distance {have} from cell {from} to cell {to}, and the host has {want} between the nodes \
         behind them{more}"
    );
    let hint = "turn KubeVirt's Grace support off for this VMI, so that this sidecar writes cells and distances";
    Err(Refusal::new(Code::KubevirtContradicts, reason, hint).at("/domain/cpu/numa"))
}

/// What is to be known of a domain that was completed.
#[must_use]
pub fn notes(before: &Domain, after: &str, found: &Found) -> Vec<Note> {
    let mut notes = Vec::new();
    if !found.is_empty() {
        let text = format!(
            "KubeVirt has written {} itself: they are kept as they are, and only what they lack was added",
            found.join(", ")
        );
        notes.push(note(Code::KubevirtDone, text));
    }
    let lost = lost(after);
    if before.mark.is_none() && !lost.is_empty() {
        let text = format!(
            "KubeVirt's own types have no {}: it goes to libvirt as it is, unless an object of kind Plugin is loaded, \
             whose round trip would drop it",
            lost.join(", ")
        );
        notes.push(note(Code::KubevirtLossy, text));
    }
    notes
}

/// Pieces that KubeVirt's round trip through libvirt's Go types drops (libvirtxml 1.12002). It keeps `accel`, `ats` and `ril`, and
/// of a hostdev's `<driver name='vfio' model='...'/>` it leaves an empty `<driver></driver>`.
fn lost(after: &str) -> Vec<&'static str> {
    let pieces = [
        (
            "driver name and model of <hostdev>",
            "<driver name='vfio' model=",
        ),
        ("ssidsize of <iommu>", "ssidsize="),
        ("metadata of variantd", "urn:variantd:1"),
    ];
    let there = pieces.into_iter().filter(|(_, sign)| after.contains(sign));
    there.map(|(word, _)| word).collect()
}

fn note(code: Code, text: String) -> Note {
    Note {
        code,
        device: None,
        text,
    }
}
