//! EGM memory: the share of each GPU in the region that is the memory of its socket's cell.
//!
//! NVIDIA's libvirt (11.9.0+nvidia2) makes one file backend of each region, uses it as the memory of the cell, and gives QEMU an
//! `acpi-egm-memory` for each GPU. QEMU arguments cannot take its place: libvirt writes a backend of its own for each cell, and
//! QEMU refuses a second `-numa node` with the same id (hw/core/numa.c, "Duplicate NUMA nodeid") and `-machine memory-backend`
//! beside `-numa memdev`. Order of the file: plan, recognise, revert; `share.rs` computes, `check.rs` has the rules.

mod check;
mod share;

use kernel_glue::address::PciAddress;

use super::fragment::Fragment;
use super::{Assigned, Change, Note, Part, PlanInput, alias, virsh};
use crate::recipe::Need;
use crate::stack::Feature;
use domain::code::Code;
use domain::edit::Edit;
use domain::hint::{Hint, line};
use domain::refusal::Refusal;
use domain::{Domain, EgmMemory, Mark, Piece};
use share::{Share, shares};

/// Why a GPU's hostdev needs an alias.
const POINTED_AT: alias::Purpose = alias::Purpose {
    code: Code::EgmMissing,
    reason: "a name that the EGM memory can use",
};

/// Why a guest cannot have EGM memory.
struct Fault {
    code: Code,
    device: Option<PciAddress>,
    reason: String,
    hint: Hint,
}

impl Fault {
    fn new(code: Code, reason: impl Into<String>, hint: impl Into<Hint>) -> Self {
        Self {
            code,
            device: None,
            reason: reason.into(),
            hint: hint.into(),
        }
    }

    fn of(self, device: PciAddress) -> Self {
        Self {
            device: Some(device),
            ..self
        }
    }

    fn refusal(self) -> Refusal {
        let refusal = Refusal::new(self.code, self.reason, self.hint);
        let refusal = refusal.at("/domain/devices/memory");
        match self.device {
            Some(device) => refusal.of(device),
            None => refusal,
        }
    }
}

/// Plans EGM memory for the devices for which it is asked. Also returns whether the guest has EGM memory then.
pub(super) fn plan(
    input: &PlanInput<'_>,
    domain: &Domain,
    assigned: &[Assigned<'_>],
) -> Result<(Part, bool), Refusal> {
    let needs = |one: &&Assigned<'_>| need(domain, one) != Need::Ignore;
    let asked: Vec<&Assigned<'_>> = assigned.iter().filter(needs).collect();
    check::elements(input, domain).map_err(Fault::refusal)?;
    let mut part = Part::default();
    if asked.is_empty() {
        unasked(input, domain)?;
        check::sums(input, domain, &[]).map_err(Fault::refusal)?;
        return Ok((part, !domain.platform.egm.is_empty()));
    }
    let required = asked.iter().any(|one| need(domain, one) == Need::Require);
    let lacking = asked.iter().any(|one| own(domain, one).is_none());
    let shares =
        match lack(input, domain, lacking).map_or_else(|| shares(input, domain, &asked), Err) {
            Ok(shares) => shares,
            // Without acceptance of the missing ones, those of the definition must be right.
            Err(fault) if required || !lacking => return Err(fault.refusal()),
            Err(fault) => {
                part.notes.push(left_out(fault));
                Vec::new()
            }
        };
    let mut added = Vec::new();
    for (one, share) in &shares {
        match (share, own(domain, one)) {
            (Some(share), Some(own)) => compare(domain, one, share, own)?,
            (Some(share), None) => {
                if names_itself(input, one) {
                    part.add(alias::plan(one, POINTED_AT));
                }
                part.changes.push(add(domain, one, share));
                part.added.insert(Piece::Egm(alias::of(one)));
                added.push(share);
            }
            (None, _) => part.notes.push(unchecked(one)),
        }
    }
    check::sums(input, domain, &added).map_err(Fault::refusal)?;
    if required {
        part.required.insert(Code::EgmMissing);
    }
    let has_egm = !added.is_empty() || !domain.platform.egm.is_empty();
    Ok((part, has_egm))
}

/// Compares EGM memory with the regions of bound GPUs: the kernel shows each of them then, so what [`plan`] only notes while
/// they are not bound is refused here.
pub(super) fn check_bound(
    input: &PlanInput<'_>,
    domain: &Domain,
    assigned: &[Assigned<'_>],
) -> Result<(), Refusal> {
    for one in assigned {
        let Some(own) = own(domain, one) else {
            continue;
        };
        let Some(region) = input.host.egm_region(one.hostdev.source) else {
            return Err(share::unseen(input, one).refusal());
        };
        // QEMU creates a plain file where a path of a memory backend does not exist.
        if !input.host.egm.iter().any(|other| other.path() == own.path) {
            let (have, want) = (&own.path, region.path());
            return Err(differs(domain, one, Code::EgmWrong, have, &want));
        }
    }
    plan(input, domain, assigned).map(|_| ())
}

/// True when all EGM memory that we added exists.
pub(crate) fn is_intact(domain: &Domain, mark: &Mark) -> bool {
    let mut ours = ours(mark);
    ours.all(|alias| {
        domain
            .platform
            .egm
            .iter()
            .any(|memory| memory.alias == alias)
    })
}

/// Removes the EGM memory that we added.
pub(crate) fn undo(domain: &Domain, mark: &Mark) -> Vec<Edit> {
    let is_ours = |memory: &&EgmMemory| mark.added.has(&Piece::Egm(memory.alias.clone()));
    let ours = domain.platform.egm.iter().filter(is_ours);
    ours.map(|memory| memory.element.remove()).collect()
}

/// The aliases of the hostdevs for which we added EGM memory.
fn ours(mark: &Mark) -> impl Iterator<Item = &str> {
    mark.added.iter().filter_map(|piece| match piece {
        Piece::Egm(alias) => Some(alias.as_str()),
        _ => None,
    })
}

/// The recipe decides which devices can have EGM memory; the domain's option decides before the recipe whether they get it.
fn need(domain: &Domain, one: &Assigned<'_>) -> Need {
    match (one.recipe.egm, domain.options.egm) {
        (None, _) | (Some(_), Some(false)) => Need::Ignore,
        (Some(_), Some(true)) => Need::Require,
        (Some(section), None) => section.need,
    }
}

/// Refuses a domain that asks without a device for it, and EGM memory of ours that is no longer asked for.
fn unasked(input: &PlanInput<'_>, domain: &Domain) -> Result<(), Refusal> {
    if domain.options.egm == Some(true) {
        let reason = "the domain's options ask for EGM, and no recipe of its devices has [egm]";
        let hint = match input.egm {
            Some(_) => Hint::from("plan without '--egm on'"),
            None => virsh::edit(domain, "remove egm='on' from <metadata>"),
        };
        return Err(Fault::new(Code::EgmLeftOut, reason, hint).refusal());
    }
    let mark = domain.mark.iter();
    if mark.flat_map(ours).next().is_none() {
        return Ok(());
    }
    let reason = "the EGM memory that variantd added is no longer asked for";
    Err(Fault::new(Code::EgmWrong, reason, prepare(domain)).refusal())
}

fn prepare(domain: &Domain) -> Hint {
    Hint::run(line(["variantctl", "prepare", &domain.name]))
}

/// The EGM memory that a definition has for a device.
fn own<'a>(domain: &'a Domain, one: &Assigned<'_>) -> Option<&'a EgmMemory> {
    let alias = alias::of(one);
    domain
        .platform
        .egm
        .iter()
        .find(|memory| memory.alias == alias)
}

/// What the stack, the machine or the memory's backing lacks. Elements that exist already are judged by `check` and libvirt.
fn lack(input: &PlanInput<'_>, domain: &Domain, lacking: bool) -> Option<Fault> {
    if !lacking {
        return None;
    }
    let stack = &input.target.stack;
    let (libvirt, qemu) = (&stack.libvirt, &stack.qemu);
    let (reason, hint) = if domain.family() != "virt" {
        let family = domain.family();
        let reason = format!("machine '{family}' cannot have EGM memory, 'virt' can");
        (reason, "use machine 'virt', or no EGM")
    } else {
        match (stack.has(Feature::Egm), stack.has(Feature::QemuEgm)) {
            (true, true) => return check::hugepages(domain).err(),
            (true, false) => (
                format!(
                    "QEMU {qemu} has no 'acpi-egm-memory' for the <memory model='egm'> of libvirt {libvirt}"
                ),
                "use NVIDIA's QEMU, or no EGM",
            ),
            // No argument of QEMU replaces the element: see the head of this file.
            (false, true) => (
                format!(
                    "libvirt {libvirt} has no <memory model='egm'> for the 'acpi-egm-memory' of QEMU {qemu}"
                ),
                "use libvirt 11.9.0+nvidia2, or no EGM",
            ),
            (false, false) => (
                format!("libvirt {libvirt} and QEMU {qemu} have no EGM"),
                "use NVIDIA's libvirt (11.9.0+nvidia2) and QEMU, or no EGM",
            ),
        }
    };
    Some(Fault::new(Code::EgmLeftOut, reason, hint))
}

/// False where `command_line` gives the device an alias.
fn names_itself(input: &PlanInput<'_>, one: &Assigned<'_>) -> bool {
    input.target.stack.has(Feature::AcpiNodeset) || one.recipe.initiators.is_none()
}

fn left_out(fault: Fault) -> Note {
    Note {
        code: Code::EgmLeftOut,
        device: fault.device,
        text: format!("the guest gets no EGM memory: {}", fault.reason),
    }
}

fn unchecked(one: &Assigned<'_>) -> Note {
    Note {
        code: Code::EgmUnbound,
        device: Some(one.hostdev.source),
        text: format!(
            "its EGM memory is not checked: the kernel shows the region only while it is bound to '{}'",
            one.recipe.driver
        ),
    }
}

/// Refuses EGM memory of the definition that differs from the planned one.
fn compare(
    domain: &Domain,
    one: &Assigned<'_>,
    share: &Share,
    own: &EgmMemory,
) -> Result<(), Refusal> {
    let (code, have, want) = if own.path != share.path {
        (Code::EgmWrong, own.path.clone(), share.path.clone())
    } else if own.cell != Some(share.cell) {
        let have = own
            .cell
            .map_or_else(|| "no node".to_owned(), |cell| format!("node {cell}"));
        (Code::EgmCell, have, format!("node {}", share.cell))
    } else if own.kib != share.kib {
        let mib = |kib: u64| format!("{} MiB", kib >> 10);
        (Code::EgmSize, mib(own.kib), mib(share.kib))
    } else {
        return Ok(());
    };
    Err(differs(domain, one, code, &have, &want))
}

/// EGM memory of ours is planned again while the GPU is bound; the user corrects their own.
fn differs(domain: &Domain, one: &Assigned<'_>, code: Code, have: &str, want: &str) -> Refusal {
    let device = one.hostdev.source;
    // A path of the definition: only its start goes into a message.
    let have: String = have.chars().take(64).collect();
    let reason = format!("its EGM memory has {have}, and {want} is needed");
    let added = domain.mark.iter().flat_map(ours);
    let hint = match added.into_iter().any(|alias| alias == alias::of(one)) {
        true => Hint::naming("run {}", &line(["variantctl", "bind", &device.to_string()])).and(
            Hint::naming("{}", &line(["variantctl", "prepare", &domain.name])),
        ),
        false => virsh::edit(domain, "correct it, or remove the <memory>"),
    };
    Fault::new(code, reason, hint).of(device).refusal()
}

fn add(domain: &Domain, one: &Assigned<'_>, share: &Share) -> Change {
    let alias = alias::of(one);
    let target = Fragment::new("target")
        .child(
            Fragment::new("size")
                .with("unit", "MiB")
                .text(share.kib >> 10),
        )
        .child(Fragment::new("node").text(share.cell))
        .child(Fragment::new("pciDev").text(&alias));
    let source = Fragment::new("source").child(Fragment::new("path").text(&share.path));
    let memory = Fragment::new("memory")
        .with("model", "egm")
        .with("access", "shared")
        .children([source, target]);
    Change {
        code: Code::EgmMissing,
        device: Some(one.hostdev.source),
        path: format!("/domain/devices/memory[target/pciDev='{alias}']"),
        reason: format!(
            "its share of {}, which is all memory of cell {}",
            share.path, share.cell
        ),
        edits: vec![domain.append_devices(&memory.print())],
    }
}
