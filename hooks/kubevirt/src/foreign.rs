//! Elements that KubeVirt itself has written (its Grace support, VEP 199), and elements that its own parser loses.
//!
//! KubeVirt gives the first initiators of the host to the first GPUs of the guest, so a guest with other GPUs than the host's first
//! gets distances of other GPUs.
//!
//! KubeVirt's elements are kept and completed, never duplicated. A value that contradicts the host is refused, with both values.

use domain::Domain;
use domain::code::Code;
use domain::refusal::Refusal;
use planner::plan::{Differing, Note};

/// The names of the elements that KubeVirt wrote.
pub type Found = Vec<&'static str>;

/// The elements of a Grace guest in a domain that variantd has not completed.
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

/// Adds KubeVirt's elements to the refusal of a domain that has some.
#[must_use]
pub fn contradicted(refusal: Refusal, found: &Found) -> Refusal {
    if found.is_empty() {
        return refusal;
    }
    let reason = format!(
        "KubeVirt wrote {}, which does not fit the host: {} ({})",
        found.join(", "),
        refusal.reason,
        refusal.code
    );
    let hint = format!(
        "let only one of the two write them: turn off KubeVirt's Grace support for this VMI, or this sidecar; {}",
        refusal.hint
    );
    Refusal {
        code: Code::KubevirtContradicts,
        reason,
        hint: hint.into(),
        ..refusal
    }
}

/// Refuses distances that KubeVirt took from nodes of other devices than the guest's.
///
/// # Errors
/// With the first such distance, in the domain and on the host.
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

/// The warnings for a completed domain.
#[must_use]
pub fn notes(before: &Domain, after: &str, found: &Found) -> Vec<Note> {
    let mut notes = Vec::new();
    if !found.is_empty() {
        let text = format!(
            "KubeVirt wrote {}: they are kept, and only missing elements were added",
            found.join(", ")
        );
        notes.push(Note::new(Code::KubevirtDone, text));
    }
    let lost = lost(after);
    if before.mark.is_none() && !lost.is_empty() {
        let text = format!(
            "KubeVirt's own types have no {}: it goes to libvirt as it is, unless an object of kind Plugin is loaded, \
             which would drop it",
            lost.join(", ")
        );
        notes.push(Note::new(Code::KubevirtLossy, text));
    }
    notes
}

/// Elements that KubeVirt's round trip through libvirt's Go types drops (libvirtxml 1.12002). It keeps `accel`, `ats` and `ril`, and
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
