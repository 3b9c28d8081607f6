//! Checks of the pair of libvirt and QEMU: the features that it lacks for the recipes, and whether the two fit each other.

use super::check::Check;
use super::scene::{Libvirt, Scene, Vendor};
use domain::code::Code;
use planner::recipe::{Need, Recipe};
use planner::stack::{Feature, Half, How, Stack};

const FINE: &str = "libvirt and QEMU can express the recipes";
/// The certified pair for Grace (OpenNebula, 2026), and the first upstream versions with the same features.
const FOR_GRACE: &str = "install NVIDIA's libvirt 11.9.0+nvidia4 and QEMU 10.1.0+nvidia5 or newer, or upstream's libvirt 12.7 and QEMU 11.1";
const FOR_OTHERS: &str =
    "install QEMU 9.0 or newer, for example from your distribution's backports";

/// A feature that a recipe uses.
struct Use {
    feature: Feature,
    name: &'static str,
    required: bool,
}

/// The pair that the checks are about: as asked or recorded, or assumed by the versions that libvirt reports.
pub(super) fn of(scene: &Scene) -> Option<Stack> {
    let Ok(Libvirt::Answers { versions, .. }) = &scene.libvirt else {
        return scene.stack;
    };
    // Answers for other versions are from before an upgrade.
    let asked = scene.stack.filter(|stack| stack.versions() == *versions);
    Some(asked.unwrap_or_else(|| Stack::assumed(*versions)))
}

pub(super) fn checks(scene: &Scene, stack: &Stack) -> Vec<Check> {
    let is_arm = scene.boot.vendor == Vendor::Arm;
    let mut used: Vec<Use> = Vec::new();
    for new in scene.covered().flat_map(|(_, recipe)| uses(recipe, is_arm)) {
        match used.iter_mut().find(|one| one.feature == new.feature) {
            Some(known) => known.required |= new.required,
            None => used.push(new),
        }
    }
    let misfits = stack.misfits_in_use().into_iter().map(|misfit| {
        Check::warn(
            Code::SmmuPair,
            misfit.text(stack),
            "guests get an SMMUv3 without it; install a libvirt and a QEMU of one vendor and age",
        )
    });
    let own = expressible(stack, &used, is_arm);
    // The pairs are attributes of an SMMUv3, which only guests for Arm have.
    match is_arm {
        true => [own].into_iter().chain(misfits).collect(),
        false => vec![own],
    }
}

fn expressible(stack: &Stack, used: &[Use], is_arm: bool) -> Check {
    let lacking: Vec<&Use> = used.iter().filter(|one| !stack.has(one.feature)).collect();
    let required = lacking.iter().any(|one| one.required);
    let all = of_halves(stack, &lacking);
    let check = match (!required, lacking.is_empty()) {
        (true, true) => Check::pass(Code::TargetOld, FINE).with(stack.to_string()),
        (true, false) => Check::warn(
            Code::TargetOld,
            format!("guests start without these features: {all}"),
            "newer versions and NVIDIA's packages have them",
        ),
        (false, _) => {
            let text = format!("no guest can have a GPU of this host: {all}");
            let hint = if is_arm { FOR_GRACE } else { FOR_OTHERS };
            Check::fail(Code::TargetOld, text, hint)
        }
    };
    with_assumed(check, stack, used)
}

/// Names the features whose answers are by version only.
fn with_assumed(check: Check, stack: &Stack, used: &[Use]) -> Check {
    let is_assumed = |one: &&Use| match stack.answer(one.feature) {
        Some(answer) => answer.how == How::Assumed,
        None => true,
    };
    let assumed = used.iter().filter(is_assumed).count();
    let detail = check.detail.clone();
    match assumed {
        0 => check,
        count => {
            let text = format!(
                "{count} of {} answers assumed by version, not asked",
                used.len()
            );
            let detail = detail.map_or(text.clone(), |own| format!("{own}; {text}"));
            check.with(detail)
        }
    }
}

/// `libvirt PACKAGE has no A, B; QEMU PACKAGE has no C`.
fn of_halves(stack: &Stack, lacking: &[&Use]) -> String {
    let halves = [("libvirt", Half::Libvirt), ("QEMU", Half::Qemu)];
    let texts = halves.into_iter().filter_map(|(name, half)| {
        let own = lacking.iter().filter(|one| one.feature.half() == half);
        let names: Vec<&str> = own.map(|one| one.name).collect();
        let package = stack.package(half);
        (!names.is_empty()).then(|| format!("{name} {package} has no {}", names.join(", ")))
    });
    texts.collect::<Vec<_>>().join("; ")
}

/// The features that a recipe's pieces use. `<acpi nodeset>`, cells without memory and `<pcihole64>` are not among them: for a
/// libvirt without these the same is passed as QEMU arguments.
fn uses(recipe: &Recipe, is_arm: bool) -> Vec<Use> {
    let mut uses = Vec::new();
    let mut add = |feature, name, required| {
        uses.push(Use {
            feature,
            name,
            required,
        });
    };
    if recipe.initiators.is_some() {
        add(Feature::GenericInitiator, "generic initiators", true);
    }
    if is_arm && recipe.window.is_some() {
        add(
            Feature::QemuVirtWindow,
            "64-bit MMIO window above 512 GiB",
            false,
        );
    }
    let need = recipe.smmu.as_ref().map_or(Need::Ignore, |smmu| smmu.need);
    if is_arm && need != Need::Ignore {
        let required = need == Need::Require;
        add(Feature::SmmuAccel, "accelerated SMMUv3", required);
        add(Feature::HostdevIommufd, "iommufd", required);
        add(Feature::QemuSmmuAccel, "accelerated SMMUv3", required);
        add(Feature::QemuIommufd, "iommufd", required);
    }
    if recipe.placement.link {
        add(Feature::FastLink, "links of 32 GT/s", false);
    }
    uses
}
