//! Checks of libvirt and QEMU: they answer, and their versions can express the recipes of this host's devices.

use super::check::Check;
use super::scene::{Libvirt, Scene, Vendor};
use domain::code::Code;
use domain::hint::Hint;
use planner::recipe::{Need, Recipe};
use planner::stack::{Feature, Stack};
use planner::target::Versions;

/// libvirt's error when the driver for a URI is not installed (src/libvirt.c, virConnectOpenInternal).
const NO_DRIVER: &str = "no connection driver available";

pub(super) fn checks(scene: &Scene) -> Vec<Check> {
    match &scene.libvirt {
        Err(why) => vec![
            Check::unavailable(Code::LibvirtSilent, "libvirt answers", why),
            Check::unavailable(Code::TargetOld, "its versions can express the recipes", why),
        ],
        Ok(Libvirt::Silent { unit, why }) => vec![silent(unit.as_deref(), why)],
        Ok(Libvirt::Failed { unit, why }) => vec![failed(unit.as_deref(), why)],
        Ok(Libvirt::Unasked { why, unloaded }) => vec![unasked(why, *unloaded)],
        Ok(Libvirt::Answers { versions, .. }) => {
            let kernel = scene.host.kernel_release.as_deref().unwrap_or("unknown");
            let answers = Check::pass(Code::LibvirtSilent, "libvirt answers")
                .with(format!("{versions}, kernel {kernel}"));
            vec![answers, expressible(scene, *versions)]
        }
    }
}

fn silent(unit: Option<&str>, why: &str) -> Check {
    let hint = match unit {
        Some(unit) => Hint::run(format!("systemctl start {unit}")),
        None => Hint::run("apt-get install libvirt-daemon-system")
            .then(", or your distribution's equivalent"),
    };
    let text = match unit {
        Some(_) => format!("libvirt does not answer: {why}"),
        None => format!(
            "libvirt is not installed: neither libvirtd nor virtqemud is in /usr/sbin ({why})"
        ),
    };
    Check::fail(Code::LibvirtSilent, text, hint)
}

/// A daemon that answers runs already.
fn failed(unit: Option<&str>, why: &str) -> Check {
    let hint = match unit {
        Some(unit) if !why.contains(NO_DRIVER) => format!("see 'journalctl -u {unit}'"),
        _ => "install libvirt's QEMU driver: 'apt-get install libvirt-daemon-system', or 'dnf install libvirt-daemon-driver-qemu'"
            .to_owned(),
    };
    let text = format!("libvirt answers with an error: {why}");
    Check::fail(Code::LibvirtSilent, text, hint)
}

/// No fact about libvirt is available then.
fn unasked(why: &str, unloaded: bool) -> Check {
    let hint = match unloaded {
        true => {
            "install libvirt's library: 'apt-get install libvirt0', or 'dnf install libvirt-libs'"
        }
        false => {
            "install variantd's package again: 'apt-get install --reinstall variantd', or 'dnf reinstall variantd'"
        }
    };
    let text = format!("cannot ask libvirt: {why}");
    Check::fail(Code::LibvirtSilent, text, hint)
}

/// The features that a version lacks, required and preferred.
fn expressible(scene: &Scene, versions: Versions) -> Check {
    let is_arm = scene.boot.vendor == Vendor::Arm;
    let stack = Stack::assumed(versions);
    let mut required = Vec::new();
    let mut preferred = Vec::new();
    for (_, recipe) in scene.covered() {
        lacks(recipe, &stack, is_arm, &mut required, &mut preferred);
    }
    required.dedup();
    preferred.dedup();
    if let Some(first) = required.first() {
        let text = format!("{versions}: too old for {first}");
        return Check::fail(
            Code::TargetOld,
            text,
            "install QEMU 9.0 or newer, for example from your distribution's backports",
        );
    }
    match preferred.is_empty() {
        true => Check::pass(Code::TargetOld, "its versions can express the recipes"),
        false => Check::warn(
            Code::TargetOld,
            format!("{versions}: guests do without {}", preferred.join(", ")),
            "they start without them; newer versions have them",
        ),
    }
}

fn lacks(
    recipe: &Recipe,
    stack: &Stack,
    is_arm: bool,
    required: &mut Vec<&'static str>,
    preferred: &mut Vec<&'static str>,
) {
    if recipe.initiators.is_some() && !stack.has(Feature::GenericInitiator) {
        required.push("generic initiators (QEMU 9.0)");
    }
    let need = recipe.smmu.as_ref().map_or(Need::Ignore, |smmu| smmu.need);
    let old = !(stack.has(Feature::SmmuAccel) && stack.has(Feature::QemuSmmuAccel));
    if is_arm && old {
        let text = "an accelerated SMMUv3 (libvirt 12.7, QEMU 11.0)";
        match need {
            Need::Require => required.push(text),
            Need::Prefer => preferred.push(text),
            Need::Ignore => {}
        }
    }
    if recipe.placement.link && !stack.has(Feature::FastLink) {
        preferred.push("links of 32 GT/s (QEMU 9.0)");
    }
}
