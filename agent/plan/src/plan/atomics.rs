//! AtomicOps in a plan: notes on rules that fail, and the change that gives a device a root port.
//!
//! A start is refused only if the recipe requires AtomicOps and the verdict is "no". An unknown verdict does not refuse.

use kernel_glue::address::PciAddress;
use kernel_glue::device::Device;

use super::{Assigned, Change, Note, Part, Placed, PlanInput, host_device, placement, switch};
use crate::atomics::{Answer, Finding, Guest, Kernel, Question, report, report_planned};
use crate::recipe::{Need, Placement, Recipe};
use domain::Domain;
use domain::code::Code;
use domain::hint::Hint;
use domain::refusal::Refusal;

/// The recipe for a device that has none: it only gives the device a root port.
const PLACE_ALONE: &str = r#"
name = "place-alone"
title = "a root port of its own"
driver = "vfio-pci"
prepare = "on-request"
device = [{ id = "ffff:ffff", label = "any" }]
guest = [{ arch = "x86_64", machine = "q35" }]
placement = { own_root_port = true }
"#;

/// Notes the rules that keep AtomicOps from each driver that wants them.
pub(super) fn plan(
    input: &PlanInput<'_>,
    domain: &Domain,
    assigned: &[Assigned<'_>],
    placed: &Placed,
) -> Part {
    let mut part = Part::default();
    let wanting = |one: &&Assigned<'_>| one.recipe.atomics.need != Need::Ignore;
    for one in assigned.iter().filter(wanting) {
        let answer = judge(input, domain, one, placed);
        let Some(finding) = answer.finding() else {
            continue;
        };
        part.notes.push(Note {
            code: finding.code,
            device: Some(one.hostdev.source),
            text: finding.reason.clone(),
        });
        let refused = one.recipe.atomics.need == Need::Require && answer.ok() == Some(false);
        if refused && part.unmet.is_none() {
            part.unmet = Some(refusal(one, finding));
        }
    }
    part
}

/// Whether the driver gets AtomicOps in the completed guest.
fn judge(input: &PlanInput<'_>, domain: &Domain, one: &Assigned<'_>, placed: &Placed) -> Answer {
    let question = Question {
        host: input.host,
        recipes: input.recipes,
        kernel: Kernel::of(input.host.kernel_release.as_deref()),
        qemu: input.target.versions().qemu,
    };
    let mirrored = switch::of(input.host, one).is_some();
    if placed.ports.contains_key(&one.hostdev.source) {
        return report_planned(&question, one.device, mirrored).driver;
    }
    let guest = Guest {
        domain,
        attach: false,
    };
    report(&question, one.device, Some(guest), None).driver
}

fn refusal(one: &Assigned<'_>, finding: &Finding) -> Refusal {
    let command = format!("variantctl atomics {}", one.hostdev.source);
    let hint = Hint::naming("see {}", &command).then(&format!(
        ", or set need = \"prefer\" in [atomics] of recipe '{}'",
        one.recipe.name
    ));
    Refusal::new(Code::AtomicsLacking, finding.reason.clone(), hint).of(one.hostdev.source)
}

/// Changes the place only. The expander bus of the recipe is kept, a mirrored switch is not.
pub(super) fn placed(
    input: &PlanInput<'_>,
    domain: &Domain,
    devices: &[PciAddress],
) -> Result<Vec<Change>, Refusal> {
    let hostdevs = domain.hostdevs.iter();
    let hostdevs = hostdevs.filter(|hostdev| devices.contains(&hostdev.source));
    let found = hostdevs.map(|hostdev| {
        let device = host_device(input.host, hostdev.source)?;
        Ok((hostdev, device, for_place(input, device)))
    });
    let found: Vec<_> = found.collect::<Result<_, Refusal>>()?;
    let assigned = found.iter().map(|(hostdev, device, recipe)| Assigned {
        hostdev,
        device,
        recipe,
    });
    let input = PlanInput {
        replace: true,
        ..*input
    };
    let assigned: Vec<Assigned<'_>> = assigned.collect();
    let (mut part, _) = placement::plan(&input, domain, &assigned)?;
    part.changes
        .sort_by_key(|change| change.edits.first().map(|edit| edit.span.start));
    Ok(part.changes)
}

fn for_place(input: &PlanInput<'_>, device: &Device) -> Recipe {
    let bare = || Recipe::parse("place-alone.toml", PLACE_ALONE).expect("a recipe of our own");
    let recipe = input.recipes.for_device(device).cloned();
    let mut recipe = recipe.unwrap_or_else(bare);
    recipe.placement = Placement {
        own_root_port: true,
        switch: false,
        ..recipe.placement
    };
    recipe
}
