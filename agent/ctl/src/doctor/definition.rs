//! Checks of definitions with a covered device: complete, current, and within the host's memory.

use super::check::Check;
use super::scene::{Guest, Libvirt, Memory, Scene, Unavailable};
use super::{peer, stack};
use domain::code::{Code, Severity};
use domain::hint::{Hint, line};
use domain::refusal::{Refusal, about};
use domain::{Definition, Domain};
use planner::layout::{Other, needs_facts};
use planner::plan::{Note, NumaFacts, NumaInput, PlanInput, locality};
use planner::saved_plan::SavedPlan;
use planner::target::{Target, Versions};

const COMPLETE: &str = "its definition is complete";

pub(super) fn checks(scene: &Scene) -> Vec<Check> {
    let domains = match &scene.libvirt {
        Ok(Libvirt::Answers { domains, .. }) => domains,
        Ok(Libvirt::Silent { .. } | Libvirt::Failed { .. } | Libvirt::Unasked { .. }) => {
            let why = Unavailable::because("libvirt does not answer");
            return vec![Check::unavailable(
                Code::DefinitionLacks,
                "definitions are complete",
                &why,
            )];
        }
        Err(why) => {
            return vec![Check::unavailable(
                Code::DefinitionLacks,
                "definitions are complete",
                why,
            )];
        }
    };
    if domains.is_empty() {
        let none = Check::pass(
            Code::DefinitionLacks,
            "no definition has a device that a recipe covers",
        );
        return vec![none];
    }
    let each = domains.iter().flat_map(|one| {
        let checks = [complete(scene, one), memory(scene, one)].into_iter();
        let checks = checks.chain(localities(scene, one));
        let checks = checks.chain(peer::checks(scene, one));
        checks.map(|check| check.of(format!("'{}'", one.name)))
    });
    each.collect()
}

fn complete(scene: &Scene, one: &Guest) -> Check {
    let own = || planned(scene, one);
    // The agent's plan comes first, because the agent completes the definition.
    match one.planned.clone().unwrap_or_else(own) {
        Ok(codes) if codes == [Code::LayoutLeftOut] => unknown_layout(scene),
        Ok(codes) => of_codes(&one.name, &codes),
        Err(refusal) => refused(scene, &refusal),
    }
}

/// This program's own plan when the agent does not answer: codes of missing elements and of notes.
fn planned(scene: &Scene, one: &Guest) -> Result<Vec<Code>, Refusal> {
    let definition = one.definition.as_ref().map_err(Refusal::clone)?;
    let domain = definition.domain();
    // Each guest beside each other one: not for those that get no layout.
    let is_read = needs_facts(&scene.host, &scene.recipes, None, domain);
    let capacity = scene.capacity.as_ref().ok().filter(|_| is_read);
    let others = capacity.map_or_else(Vec::new, |_| others(scene, domain));
    let facts = capacity.map(|capacity| NumaFacts {
        capacity,
        others: &others,
    });
    let input = PlanInput {
        host: &scene.host,
        recipes: &scene.recipes,
        target: Target {
            iommufd: one.iommufd,
            ..stack::of(scene).map_or(Versions::NEWEST_TESTED.into(), Target::from)
        },
        replace: false,
        egm: None,
        numa: NumaInput {
            wanted: None,
            facts,
        },
        asked: true,
        formatted: true,
        libvirt: &one.libvirt,
    };
    let saved_plan = SavedPlan::make(definition, &input)?;
    Ok(codes(&saved_plan))
}

/// The other guests that are known here: those with a covered device.
fn others(scene: &Scene, domain: &Domain) -> Vec<Other> {
    let Ok(Libvirt::Answers { domains, .. }) = &scene.libvirt else {
        return Vec::new();
    };
    let definitions = domains
        .iter()
        .filter_map(|one| one.definition.as_ref().ok());
    let all = definitions.map(Definition::domain);
    Other::beside(&scene.host.numa, domain, all)
}

/// The codes of a plan's changes, and of the notes that it replaces an older one or leaves a layout out.
pub(super) fn codes(saved_plan: &SavedPlan) -> Vec<Code> {
    let added = saved_plan.changes.iter().map(|change| change.code);
    let notes = saved_plan.notes.iter().map(|note| note.code);
    let told = notes.filter(|code| [Code::MarkOld, Code::LayoutLeftOut].contains(code));
    told.chain(added).collect()
}

/// A definition that lacks nothing except perhaps the layout that is asked for.
fn unknown_layout(scene: &Scene) -> Check {
    let why = match &scene.capacity {
        Ok(_) => Unavailable::because("its NUMA layout was not planned"),
        Err(why) => why.clone().after("the host's CPUs and huge pages: "),
    };
    Check::unavailable(Code::DefinitionLacks, COMPLETE, &why)
}

fn of_codes(name: &str, codes: &[Code]) -> Check {
    let hint = Hint::run(line(["variantctl", "prepare", name]));
    if codes.is_empty() {
        return Check::pass(Code::DefinitionLacks, COMPLETE);
    }
    let is_old = codes.contains(&Code::MarkOld);
    if is_old && codes.contains(&Code::LayoutMissing) {
        // A layout is below the other elements, so these are written again although they are right.
        let text = format!("its definition lacks {}", Code::LayoutMissing);
        return Check::fail(Code::DefinitionLacks, text, hint);
    }
    if is_old {
        let text = "it was completed for another recipe, host or version";
        return Check::fail(Code::MarkOld, text, hint);
    }
    let mut words: Vec<String> = codes.iter().map(ToString::to_string).collect();
    words.sort_unstable();
    words.dedup();
    // If only the mark is missing, the guest has every element that it needs.
    let needed = codes.iter().any(|code| *code != Code::MarkMissing);
    let text = format!("its definition lacks {}", words.join(", "));
    match needed {
        true => Check::fail(Code::DefinitionLacks, text, hint),
        false => Check::warn(Code::DefinitionLacks, text, hint),
    }
}

/// A failed check; UNKNOWN when only root can read the facts.
fn refused(scene: &Scene, refusal: &Refusal) -> Check {
    let is_srat = |gap: &kernel_glue::host::Gap| gap.path.ends_with("/SRAT");
    if refusal.code == Code::InitiatorsUnknown && scene.host.gaps.iter().any(is_srat) {
        let why = Unavailable::to_others("SRAT is not readable; run it as root");
        return Check::unavailable(Code::DefinitionLacks, COMPLETE, &why);
    }
    debug_assert!(refusal.code.severity() >= Severity::Warning);
    Check::fail(refusal.code, refusal.message(), refusal.hint.clone())
}

/// A warning for each part of a definition that contradicts the place of its devices on the host.
fn localities(scene: &Scene, one: &Guest) -> Vec<Check> {
    let Ok(definition) = &one.definition else {
        return Vec::new();
    };
    let facts = locality::Facts {
        host: &scene.host,
        capacity: scene.capacity.as_ref().ok(),
    };
    let notes = locality::notes(&facts, definition.domain()).into_iter();
    let hint = || {
        let sentence = "see the layout of its devices with {}";
        Hint::naming(sentence, &line(["variantctl", "layout", &one.name]))
    };
    let check = |note: Note| {
        let text = about(note.device, &note.text);
        Check::warn(note.code, text, hint())
    };
    notes.map(check).collect()
}

/// A guest's memory is locked at start, so the host must have it.
fn memory(scene: &Scene, one: &Guest) -> Check {
    let fine = "the host has its memory";
    let memory = match &scene.boot.memory {
        Ok(memory) => memory,
        Err(why) => return Check::unavailable(Code::GuestMemory, fine, why),
    };
    match &one.definition {
        Ok(definition) => fits(definition.domain(), memory, one.active, fine),
        Err(refusal) => Check::unavailable(
            Code::GuestMemory,
            fine,
            &Unavailable::because(&refusal.reason),
        ),
    }
}

fn fits(domain: &Domain, memory: &Memory, active: bool, fine: &str) -> Check {
    let wanted = domain.memory_kib;
    if wanted > memory.total {
        return Check::fail(
            Code::GuestMemory,
            format!(
                "it has {} MiB, all locked at start, and the host has {} MiB",
                wanted >> 10,
                memory.total >> 10
            ),
            Hint::with(
                "reduce its memory: {}",
                line(["virsh", "edit", &domain.name]),
            ),
        );
    }
    // The pages of a running guest are already taken.
    let huge = domain.platform.hugepages && memory.page > 0 && !active;
    let pages = wanted.div_ceil(memory.page.max(1));
    if huge && pages > memory.free_pages {
        let more = memory.huge_pages + pages - memory.free_pages;
        return Check::fail(
            Code::GuestMemory,
            format!(
                "it needs {pages} huge pages of {} KiB, and {} are free",
                memory.page, memory.free_pages
            ),
            Hint::run(format!("echo {more} > /proc/sys/vm/nr_hugepages"))
                .then(", or better at boot (hugepages= on the kernel's command line)"),
        );
    }
    Check::pass(Code::GuestMemory, fine).with(format!("{} MiB", wanted >> 10))
}
