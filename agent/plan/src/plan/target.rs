//! Whether the target can express what the recipes need.

use std::borrow::Cow;

use super::{Assigned, Note, Part, PlanInput};
use crate::recipe::Guest;
use crate::stack::{Feature, Stack};
use crate::target::{Arch, Family};
use domain::Domain;
use domain::code::Code;
use domain::refusal::Refusal;

/// The domain. A missing architecture or machine is filled in from the target, else from libvirt's defaults.
pub(super) fn settled<'a>(
    input: &PlanInput<'_>,
    domain: &'a Domain,
) -> Result<Cow<'a, Domain>, Refusal> {
    let arch = input.target.arch.map(Arch::as_str);
    let machine = input.target.machine.map(Family::as_str);
    let written = domain.machine.as_ref().map(|_| domain.family());
    agrees("arch", domain.arch.as_deref(), arch)?;
    agrees("machine", written, machine)?;
    let printed = input.libvirt;
    let arch = arch.or(printed.arch.as_deref());
    let default = printed.machine.as_ref();
    let missing = (domain.arch.is_none() && arch.is_some())
        || (domain.machine.is_none() && (machine.is_some() || default.is_some()));
    if !missing {
        return Ok(Cow::Borrowed(domain));
    }
    let mut settled = domain.clone();
    settled.arch = settled.arch.or(arch.map(str::to_owned));
    settled.default_machine = default.cloned();
    settled.machine = settled.machine.or(machine.map(str::to_owned));
    Ok(Cow::Owned(settled))
}

fn agrees(what: &str, have: Option<&str>, want: Option<&str>) -> Result<(), Refusal> {
    match have.zip(want) {
        Some((have, want)) if have != want => {
            let reason = format!("the definition has {what} '{have}', the target '{want}'");
            let hint = format!("leave '{what}' out of --target, or correct <os><type>");
            Err(Refusal::new(Code::TargetMachine, reason, hint).at("/domain/os/type"))
        }
        _ => Ok(()),
    }
}

/// Refuses versions and machines that do not support the plan; notes machines for which no guest driver uses it.
pub(super) fn check(
    input: &PlanInput<'_>,
    domain: &Domain,
    assigned: &[Assigned<'_>],
) -> Result<Part, Refusal> {
    let mut part = Part::default();
    for one in assigned {
        let guest = guest(domain, one)?;
        if one.recipe.initiators.is_some() {
            has_initiators(&input.target.stack).map_err(|r| r.of(one.device.address))?;
        }
        if guest.is_some_and(|guest| !guest.driver_uses) {
            let arch = domain.arch.as_deref().unwrap_or("this architecture");
            let text = format!("no guest driver for {arch} is known to use its generic initiators");
            part.notes.push(Note {
                code: Code::TargetUnused,
                device: Some(one.device.address),
                text,
            });
        }
    }
    Ok(part)
}

fn has_initiators(stack: &Stack) -> Result<(), Refusal> {
    let feature = Feature::GenericInitiator;
    if stack.has(feature) {
        return Ok(());
    }
    let reason = format!(
        "QEMU {} cannot give a guest ACPI generic initiators",
        stack.qemu
    );
    let hint = format!("use QEMU {} or newer", feature.first());
    Err(Refusal::new(Code::TargetOld, reason, hint))
}

/// The recipe's entry for the domain's machine; `None` if the architecture is not known.
fn guest<'a>(domain: &Domain, one: &Assigned<'a>) -> Result<Option<&'a Guest>, Refusal> {
    let (Some(arch), family) = (&domain.arch, domain.family()) else {
        return Ok(None);
    };
    if family.is_empty() {
        return Ok(None);
    }
    let machine = domain.machine.as_deref().unwrap_or(family);
    let recipe = one.recipe;
    recipe.guest(domain).map(Some).ok_or_else(|| {
        let guests = recipe.guests.iter();
        let served: Vec<String> = guests
            .map(|guest| format!("{}/{}", guest.arch, guest.machine))
            .collect();
        let (default, hint) = match domain.machine {
            Some(_) => ("", "use one of"),
            None => (
                ", libvirt's default where the definition has none",
                "name the machine in <os><type>, one of",
            ),
        };
        let reason = format!(
            "recipe '{}' does not support machine {arch}/{machine}{default}",
            recipe.name
        );
        let hint = format!("{hint} {}", served.join(", "));
        Refusal::new(Code::TargetMachine, reason, hint)
            .of(one.device.address)
            .at("/domain/os/type")
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fixture, guest, hostdev};
    use crate::fixture::rewrite;
    use crate::plan::PlanInput;
    use domain::code::Code;

    #[test]
    fn a_target_fills_in_missing_values_and_must_not_contradict() {
        let fixture = Fixture::new();
        let with = |text: &str, target: &str| {
            let target = target.parse().expect("target");
            rewrite(
                text,
                &PlanInput {
                    target,
                    ..fixture.input()
                },
            )
        };
        let named = guest(&hostdev("0009:01:00.0", ""));
        let unnamed = named.replace("arch='aarch64' machine='virt'", "");
        let full = with(&named, "libvirt=12.8").expect("named").text;
        let filled = with(&unnamed, "arch=aarch64,machine=virt")
            .expect("filled in")
            .text;
        assert_eq!(
            filled.replace("<type >", "<type arch='aarch64' machine='virt'>"),
            full
        );
        for target in ["arch=x86_64", "machine=q35"] {
            let refusal = with(&named, target).expect_err("contradicts");
            assert_eq!(refusal.code, Code::TargetMachine, "{refusal}");
        }
    }
}
