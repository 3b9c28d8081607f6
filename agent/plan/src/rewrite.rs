//! Completes a definition, or checks that it is complete.

mod intact;

use crate::foreign;
use crate::layout::{self, State};
use crate::plan::{
    Note, NumaInput, Origin, Plan, PlanInput, check_bound_egm, option, origin, pair, plan,
    plan_from, plan_unmarked,
};
use crate::revert::{self, revert};
use domain::code::Code;
use domain::edit::{self, Edit};
use domain::hint::{Hint, line};
use domain::refusal::Refusal;
use domain::{Definition, Domain, Mark, Marked};

/// A completed definition and what was planned for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The completed XML; equal to the input, byte for byte, if nothing is missing.
    pub text: String,
    /// The XML to which the plan's edits apply: the input, or the input without the elements of an older plan.
    pub base: String,
    /// The plan.
    pub plan: Plan,
}

/// Completes a definition. Elements that were added by other recipes, for another host or for other versions are reverted first,
/// so that exactly those are replaced. The option of the input is written into a definition whose devices have a recipe.
///
/// # Errors
/// The refusals of [`plan`].
pub fn rewrite(definition: &Definition, input: &PlanInput<'_>) -> Result<Rewrite, Refusal> {
    let edits = option::edits(input, definition.domain());
    if edits.is_empty() {
        return completed(definition, input);
    }
    let with_option = Definition::parse(edited(definition.text(), &edits)?)?;
    let mut rewrite = completed(&with_option, input)?;
    if rewrite.plan.devices.is_empty() {
        return completed(definition, input);
    }
    let notes = option::notes(input, definition.domain());
    rewrite.plan.notes.extend(notes);
    Ok(rewrite)
}

/// The plan of [`rewrite`] for a comparison with other plans: where that is possible without the completed text, the mark and its
/// fingerprint.
///
/// # Errors
/// As [`rewrite`].
pub fn planned(definition: &Definition, input: &PlanInput<'_>) -> Result<Plan, Refusal> {
    let domain = definition.domain();
    let is_plain = domain.mark.is_none() && option::edits(input, domain).is_empty();
    let state = is_plain.then(|| layout::state(input, domain)).transpose()?;
    match state {
        Some(state @ (State::Kept | State::Unknown)) => {
            let mut plan = plan_unmarked(input, domain)?;
            note(definition, &mut plan, input);
            plan.notes
                .extend((state == State::Unknown).then(layout::left_out));
            Ok(plan)
        }
        _ => Ok(rewrite(definition, input)?.plan),
    }
}

fn completed(definition: &Definition, input: &PlanInput<'_>) -> Result<Rewrite, Refusal> {
    let domain = definition.domain();
    match layout::state(input, domain)? {
        State::Kept => with_layout(definition, input),
        State::Unknown => {
            let mut rewrite = with_layout(definition, input)?;
            rewrite.plan.notes.push(layout::left_out());
            Ok(rewrite)
        }
        state => laid(definition, state, input),
    }
}

/// Completes a definition whose NUMA layout stays.
fn with_layout(definition: &Definition, input: &PlanInput<'_>) -> Result<Rewrite, Refusal> {
    let domain = definition.domain();
    let Some(mark) = &domain.mark else {
        return apply(definition, plan(input, domain)?, input);
    };
    // A mark is current if its fingerprint equals that of the inputs now.
    let origin = origin(input, domain).ok();
    let current = origin.as_ref().filter(|now| now.digest == mark.digest);
    let current = current.filter(|_| intact::is_intact(domain, mark));
    match current.map(|current| plan_from(input, domain, Some(current))) {
        Some(Ok(plan)) => kept(definition, mark, plan, input),
        _ => again(definition, mark, origin.as_ref(), input),
    }
}

/// A definition with a current mark: the added elements are kept, unless something is missing or their values were edited.
fn kept(
    definition: &Definition,
    mark: &Mark,
    plan: Plan,
    input: &PlanInput<'_>,
) -> Result<Rewrite, Refusal> {
    let current = apply(definition, plan, input)?;
    // If the definition cannot be planned from the beginning, the current plan is used.
    let Ok(fresh) = again(definition, mark, None, input) else {
        return Ok(current);
    };
    let is_complete = current.text == definition.text();
    match is_complete && is_alike(definition, &fresh)? {
        true => Ok(current),
        false => Ok(fresh),
    }
}

/// True when a definition has the values of one that was planned from the beginning. Mostly the two texts are equal.
fn is_alike(definition: &Definition, fresh: &Rewrite) -> Result<bool, Refusal> {
    if fresh.text == definition.text() {
        return Ok(true);
    }
    let fresh = Domain::parse(&fresh.text)?;
    Ok(intact::has_same_values(definition.domain(), &fresh))
}

/// Reverts the definition and plans it again. Addresses that were replaced are replaced again, unless the user has chosen one
/// since.
fn again(
    definition: &Definition,
    mark: &Mark,
    origin: Option<&Origin>,
    input: &PlanInput<'_>,
) -> Result<Rewrite, Refusal> {
    let base = Definition::parse(revert::pieces(definition)?)?;
    planned_again(definition, &base, mark, origin, input)
}

/// Removes the NUMA layout that was written before, writes the present one if there is one, and completes the result.
fn laid(definition: &Definition, state: State, input: &PlanInput<'_>) -> Result<Rewrite, Refusal> {
    let base = Definition::parse(revert(definition)?)?;
    let written = (state == State::Missing).then(|| layout::written(input, base.domain()));
    let (base, change, notes) = match written.transpose()? {
        None => (base, None, Vec::new()),
        Some(written) => {
            let text = edited(base.text(), &written.edits)?;
            let change = Some(written.change);
            (Definition::parse(text)?, change, written.notes)
        }
    };
    let mut rewrite = match &definition.domain().mark {
        Some(mark) => planned_again(definition, &base, mark, None, input)?,
        None => apply(&base, plan(input, base.domain())?, input)?,
    };
    rewrite.plan.changes.splice(..0, change);
    rewrite.plan.notes.extend(notes);
    Ok(rewrite)
}

fn planned_again(
    definition: &Definition,
    base: &Definition,
    mark: &Mark,
    origin: Option<&Origin>,
    input: &PlanInput<'_>,
) -> Result<Rewrite, Refusal> {
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
        text: "the elements added before are replaced: they were for other devices, recipes, host or versions, or were edited"
            .to_owned(),
    });
    apply(base, plan, &input)
}

/// True for a device that the user moved from our root port to a port that is not ours.
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
    note(base, &mut plan, input);
    let text = edited(base.text(), plan.edits())?;
    Ok(Rewrite {
        text,
        base: base.text().to_owned(),
        plan,
    })
}

/// Adds notes on what else the definition has, besides devices with a recipe.
fn note(base: &Definition, plan: &mut Plan, input: &PlanInput<'_>) {
    if !plan.devices.is_empty() {
        let stack = &input.target.stack;
        plan.notes.extend(foreign::notes(base.domain(), stack));
        plan.notes.extend(pair::notes(base.domain(), stack));
    }
}

fn edited<'e>(text: &str, edits: impl IntoIterator<Item = &'e Edit>) -> Result<String, Refusal> {
    edit::apply(text, edits).map_err(|error| {
        let hint = "please report this with the definition";
        Refusal::new(
            Code::XmlValue,
            format!("internal error: overlapping edits in the plan: {error}"),
            hint,
        )
    })
}

/// The input as a start has it: no user asks, and libvirt's addresses are final.
pub(crate) fn of_start<'a>(input: &PlanInput<'a>) -> PlanInput<'a> {
    PlanInput {
        egm: None,
        numa: NumaInput::default(),
        asked: false,
        formatted: false,
        ..*input
    }
}

/// Checks that a definition has everything that a start needs. A missing mark is accepted, and devices of recipes with
/// `prepare = "on-request"` count only if the mark names them.
///
/// # Errors
/// The refusals of [`plan`], and one that names the first missing piece.
pub fn verify(definition: &Definition, input: &PlanInput<'_>) -> Result<Plan, Refusal> {
    let input = of_start(input);
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

/// Checks the EGM memory of a guest that starts, after its devices were bound.
///
/// # Errors
/// As [`check_bound_egm`].
pub fn verify_bound(definition: &Definition, input: &PlanInput<'_>) -> Result<(), Refusal> {
    let input = of_start(input);
    check_bound_egm(&input, definition.domain())
}

/// If completing the definition again would remove the refusal, the refusal names the outdated mark.
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
        let hint = hint.then(", which replaces the elements added before");
        return Refusal { hint, ..refusal };
    }
    let reason = format!(
        "the elements added before are for another recipe, host or version: {}",
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
