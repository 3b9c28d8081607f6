//! Checks of libvirt and QEMU: they answer, and can express the recipes of this host's devices.

use super::check::Check;
use super::grace;
use super::scene::{Libvirt, Scene};
use super::stack;
use domain::code::Code;
use domain::hint::Hint;

/// libvirt's error when the driver for a URI is not installed (src/libvirt.c, virConnectOpenInternal).
const NO_DRIVER: &str = "no connection driver available";

pub(super) fn checks(scene: &Scene) -> Vec<Check> {
    let stack = stack::of(scene);
    let mut checks = vec![answers(scene)];
    match (&scene.libvirt, &stack) {
        (_, Some(stack)) => checks.extend(stack::checks(scene, stack)),
        (Err(why), None) => {
            let fine = "libvirt and QEMU can express the recipes";
            checks.push(Check::unavailable(Code::TargetOld, fine, why));
        }
        (Ok(_), None) => {}
    }
    checks.extend(grace::of_libvirt(scene));
    checks
}

fn answers(scene: &Scene) -> Check {
    match &scene.libvirt {
        Err(why) => Check::unavailable(Code::LibvirtSilent, "libvirt answers", why),
        Ok(Libvirt::Silent { unit, why }) => silent(unit.as_deref(), why),
        Ok(Libvirt::Failed { unit, why }) => failed(unit.as_deref(), why),
        Ok(Libvirt::Unasked { why, unloaded }) => unasked(why, *unloaded),
        Ok(Libvirt::Answers { versions, .. }) => {
            let kernel = scene.host.kernel_release.as_deref().unwrap_or("unknown");
            Check::pass(Code::LibvirtSilent, "libvirt answers")
                .with(format!("{versions}, kernel {kernel}"))
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
