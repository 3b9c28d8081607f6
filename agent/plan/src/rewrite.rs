//! Text in, text out: completes a definition, or checks that it is complete.

mod intact;

use crate::foreign;
use crate::plan::{Note, Origin, Plan, PlanInput, origin, plan, plan_from};
use crate::revert::revert;
use domain::code::Code;
use domain::edit;
use domain::hint::{Hint, line};
use domain::refusal::Refusal;
use domain::{Definition, Domain, Mark, Marked};

/// A completed definition and what was planned for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The text; equal to the input, byte for byte, when nothing is missing.
    pub text: String,
    /// The text that the plan's edits are for: the input, or the input without what an older plan added.
    pub base: String,
    /// The plan.
    pub plan: Plan,
}

/// Completes a definition. What was added by other recipes, for another host or for other versions is taken
/// back first, so that exactly that is replaced.
///
/// # Errors
/// The refusals of [`plan`].
pub fn rewrite(definition: &Definition, input: &PlanInput<'_>) -> Result<Rewrite, Refusal> {
    let domain = definition.domain();
    let Some(mark) = &domain.mark else {
        return apply(definition, plan(input, domain)?, input);
    };
    // Of an old mark only what the plan would be made of counts.
    let origin = origin(input, domain).ok();
    let current = origin.as_ref().filter(|now| now.digest == mark.digest);
    let current = current.filter(|_| intact::is_intact(domain, mark));
    match current.map(|current| plan_from(input, domain, Some(current))) {
        Some(Ok(plan)) => kept(definition, mark, plan, input),
        _ => again(definition, mark, origin.as_ref(), input),
    }
}

/// A definition whose plan is that of before: what was added stays, unless something is missing or its values were edited.
fn kept(
    definition: &Definition,
    mark: &Mark,
    plan: Plan,
    input: &PlanInput<'_>,
) -> Result<Rewrite, Refusal> {
    let current = apply(definition, plan, input)?;
    // A definition that cannot be planned from the beginning is as its user wants it.
    let Ok(fresh) = again(definition, mark, None, input) else {
        return Ok(current);
    };
    let is_complete = current.text == definition.text();
    match is_complete && is_alike(definition, &fresh)? {
        true => Ok(current),
        false => Ok(fresh),
    }
}

/// True when a definition has the values of one that was planned from the beginning. Mostly the two are equal.
fn is_alike(definition: &Definition, fresh: &Rewrite) -> Result<bool, Refusal> {
    if fresh.text == definition.text() {
        return Ok(true);
    }
    let fresh = Domain::parse(&fresh.text)?;
    Ok(intact::has_same_values(definition.domain(), &fresh))
}

/// Plans the definition from before what was added to it. Addresses that were replaced are replaced again, unless
/// somebody has chosen one since.
fn again(
    definition: &Definition,
    mark: &Mark,
    origin: Option<&Origin>,
    input: &PlanInput<'_>,
) -> Result<Rewrite, Refusal> {
    let base = Definition::parse(revert(definition)?)?;
    let domain = definition.domain();
    let chosen = mark.devices.iter().any(|marked| is_chosen(domain, marked));
    let replaced = mark.devices.iter().any(|marked| marked.replaced.is_some());
    let input = PlanInput {
        replace: input.replace || (replaced && !chosen),
        formatted: input.formatted && !chosen,
        ..*input
    };
    let mut plan = plan_from(&input, base.domain(), origin)?;
    plan.notes.push(Note {
        code: Code::MarkOld,
        device: None,
        text: "what was added before is replaced: it was for other devices, recipes, host or versions, or was edited since"
            .to_owned(),
    });
    apply(&base, plan, &input)
}

/// True for a device that was moved away from the root port that we gave it, and to none that we gave another.
fn is_chosen(domain: &Domain, marked: &Marked) -> bool {
    let hostdev = domain.hostdevs.iter().find(|h| h.source == marked.address);
    let bus = hostdev
        .and_then(|hostdev| hostdev.address)
        .map(|a| u32::from(a.at.bus()));
    let had_port = marked.added.ports().next().is_some();
    let marks = domain.mark.iter().flat_map(|mark| &mark.devices);
    let mut ports = marks.flat_map(|marked| marked.added.ports());
    bus.is_some() && had_port && !ports.any(|port| Some(port) == bus)
}

fn apply(base: &Definition, mut plan: Plan, input: &PlanInput<'_>) -> Result<Rewrite, Refusal> {
    if !plan.devices.is_empty() {
        let libvirt = input.target.versions.libvirt;
        plan.notes.extend(foreign::notes(base.domain(), libvirt));
    }
    let text = edit::apply(base.text(), plan.edits()).map_err(|error| {
        let hint = "please report this with the definition";
        Refusal::new(
            Code::XmlValue,
            format!("the plan contradicts itself: {error}"),
            hint,
        )
    })?;
    Ok(Rewrite {
        text,
        base: base.text().to_owned(),
        plan,
    })
}

/// Checks that a definition is what its plan wants, as far as a start may be refused for it: a missing
/// mark is no fault, and devices that wait for a request count only once they are marked.
///
/// # Errors
/// The refusals of [`plan`], and one that names the first missing piece.
pub fn verify(definition: &Definition, input: &PlanInput<'_>) -> Result<Plan, Refusal> {
    let input = PlanInput {
        asked: false,
        formatted: false,
        ..*input
    };
    let plan = plan(&input, definition.domain())
        .map_err(|refusal| outdated(definition, &input, refusal))?;
    let Some(missing) = plan.lacking() else {
        return Ok(plan);
    };
    let first = plan.devices.first().map(|device| device.address);
    let reason = format!("the definition lacks {}: {}", missing.path, missing.reason);
    let hint = Hint::run(line(["variantctl", "prepare", &plan.domain]));
    let refusal = Refusal::new(missing.code, reason, hint).at(missing.path.clone());
    Err(match missing.device.or(first) {
        Some(device) => refusal.of(device),
        None => refusal,
    })
}

/// A refusal that completing the definition again would mend is one of an old mark.
fn outdated(definition: &Definition, input: &PlanInput<'_>, refusal: Refusal) -> Refusal {
    let domain = definition.domain();
    let input = PlanInput {
        asked: true,
        ..*input
    };
    let (Some(mark), Ok(again)) = (&domain.mark, rewrite(definition, &input)) else {
        return refusal;
    };
    let hint = Hint::run(line(["variantctl", "prepare", &domain.name]));
    if mark.digest.is_empty() || mark.digest == again.plan.digest {
        let hint = hint.then(", which replaces what was added before");
        return Refusal { hint, ..refusal };
    }
    let reason = format!(
        "what was added before is for another recipe, host or version: {}",
        refusal.reason
    );
    let old =
        Refusal::new(Code::MarkMissing, reason, hint).at("/domain/metadata/variantd:prepared");
    match refusal.device {
        Some(device) => old.of(device),
        None => old,
    }
}

#[cfg(test)]
#[path = "rewrite_test.rs"]
mod test;
