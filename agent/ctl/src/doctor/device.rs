//! Checks of each covered device: whether a guest can have it, and whether its driver's needs are met.

use kernel_glue::config::{Config, ConfigError};
use kernel_glue::device::Device;

use super::check::Check;
use super::scene::{Scene, Unavailable};
use super::{driver, occupancy, record};
use domain::code::Code;
use domain::hint::Hint;
use planner::atomics::{self, Answer, Kernel, Question};
use planner::plan::{PlanInput, initiators};
use planner::recipe::{Need, Recipe};
use planner::target::Versions;

/// IORESOURCE_UNSET (include/linux/ioport.h): the firmware and the kernel found no room for it.
const UNSET: u64 = 0x2000_0000;

const SRAT: &str = "/sys/firmware/acpi/tables/SRAT";

pub(super) fn checks(scene: &Scene) -> Vec<Check> {
    let mut checks: Vec<Check> = Vec::new();
    for (device, recipe) in scene.covered() {
        let own = one(scene, device, recipe).into_iter();
        checks.extend(own.map(|check| check.of(device.address)));
    }
    if checks.is_empty() {
        checks.push(Check::warn(
            Code::NothingCovered,
            "no device of this host is covered by a recipe",
            Hint::naming(
                "{} lists every PCI function; [[device]] in variantd.conf adds an id to a recipe",
                "variantctl list --all",
            ),
        ));
    }
    checks.extend(record::reservations(scene));
    checks
}

fn one(scene: &Scene, device: &Device, recipe: &Recipe) -> Vec<Check> {
    let from = |check: Check, file: &str| check.read_from(attribute(device, file));
    let mut checks = vec![from(answers(device), "config")];
    checks.extend(driver::checks(scene, device, recipe));
    checks.extend(occupancy::checks(scene, device));
    checks.push(from(reset(device, recipe), "reset_method"));
    checks.extend(reset_fault(device, recipe));
    checks.push(from(bars(device, recipe), "resource"));
    checks.push(from(node(scene, device), "numa_node"));
    let nodes = initiator_nodes(scene, device, recipe).into_iter();
    checks.extend(nodes.map(|check| check.read_from(SRAT)));
    let atomics = atomics(scene, device).into_iter();
    checks.extend(atomics.map(|check| from(check, "config")));
    checks
}

/// A file of a device.
pub(super) fn attribute(device: &Device, file: &str) -> String {
    format!("/sys/bus/pci/devices/{}/{file}", device.address)
}

fn answers(device: &Device) -> Check {
    match &device.config {
        Config::Unreadable(ConfigError::AllOnes) => Check::fail(
            Code::BindSilent,
            "it does not answer: config space reads as all ones",
            "boot the host again; if it still fails, the device is broken or has no power",
        ),
        Config::Unreadable(ConfigError::Io(why)) => Check::unavailable(
            Code::BindSilent,
            "it answers",
            &Unavailable::of_reason("", why),
        ),
        _ => Check::pass(Code::BindSilent, "it answers").with(device.id.to_string()),
    }
}

fn reset(device: &Device, recipe: &Recipe) -> Check {
    let methods = device.reset_methods.join(" ");
    let result = agent::assign::check::refuse_without_reset(device, recipe.needs_reset);
    let check = Check::of_result(Code::ResetMissing, "the kernel can reset it", result);
    match methods.is_empty() {
        true => check,
        false => check.with(methods),
    }
}

fn reset_fault(device: &Device, recipe: &Recipe) -> Option<Check> {
    let fault = recipe.reset_fault(device.id)?;
    let hint = format!(
        "start and stop a guest with it once before production use; source: {}",
        fault.source
    );
    Some(Check::warn(Code::ResetFault, fault.fault.clone(), hint))
}

fn bars(device: &Device, recipe: &Recipe) -> Check {
    let fine = "its BARs have addresses";
    let unset = device
        .bars
        .iter()
        .position(|bar| bar.size > 0 && bar.flags & UNSET != 0);
    if let Some(index) = unset {
        let (size, text) = (
            gib(device.bars[index].size),
            "has no address, so the device does not work",
        );
        return Check::fail(
            Code::BarUnset,
            format!("BAR {index} ({size}) {text}"),
            "switch 'Above 4G Decoding' (64-bit MMIO) on in the firmware, make its window larger, and boot again",
        );
    }
    let window = recipe.member(device).map_or(0, |one| one.window_gib);
    let detail = match device.shown_bytes() {
        Some(bytes) => format!("a guest sees {}", gib(bytes)),
        None if window > 0 => format!("a guest sees {window} GiB"),
        None => String::new(),
    };
    match detail.is_empty() {
        true => Check::pass(Code::BarUnset, fine),
        false => Check::pass(Code::BarUnset, fine).with(detail),
    }
}

fn gib(bytes: u64) -> String {
    match bytes >> 30 {
        0 => format!("{} MiB", bytes >> 20),
        gib => format!("{gib} GiB"),
    }
}

fn node(scene: &Scene, device: &Device) -> Check {
    let sockets = scene.host.numa.sockets().count();
    let fine = "its NUMA node is known";
    match device.numa_node {
        Some(node) => Check::pass(Code::NodeUnknown, fine).with(format!("node {node}")),
        None if sockets < 2 => {
            Check::pass(Code::NodeUnknown, fine).with("one node with processors")
        }
        None => Check::warn(
            Code::NodeUnknown,
            "the firmware does not report its NUMA node",
            "install a firmware that has _PXM for its root port; until then pin the guest manually",
        ),
    }
}

fn initiator_nodes(scene: &Scene, device: &Device, recipe: &Recipe) -> Option<Check> {
    recipe.initiators?;
    let fine = "its generic-initiator nodes are known";
    let input = PlanInput::newest(&scene.host, &scene.recipes);
    let srat = |gap: &&kernel_glue::host::Gap| gap.path.ends_with("/SRAT");
    Some(match initiators(&input, device) {
        Ok(nodes) => {
            let nodes: kernel_glue::numa::RangeList = nodes.into_iter().map(u32::from).collect();
            Check::pass(Code::InitiatorsUnknown, fine).with(format!("host nodes {nodes}"))
        }
        Err(refusal) => match scene.host.gaps.iter().find(srat) {
            Some(gap) => {
                let why = Unavailable::of_reason("SRAT: ", &gap.reason);
                Check::unavailable(Code::InitiatorsUnknown, fine, &why)
            }
            None => Check::refused(&refusal),
        },
    })
}

fn atomics(scene: &Scene, device: &Device) -> Option<Check> {
    let question = Question {
        host: &scene.host,
        recipes: &scene.recipes,
        kernel: Kernel::of(scene.host.kernel_release.as_deref()),
        // The version counts only for a guest, and none is judged here.
        qemu: Versions::NEWEST_TESTED.qemu,
    };
    let report = atomics::report(&question, device, None, None);
    let code = match report.need.need {
        Need::Ignore => return None,
        Need::Prefer => Code::AtomicsMissed,
        Need::Require => Code::AtomicsLacking,
    };
    let fine = "AtomicOps reach the root";
    let hint = Hint::naming("see {}", &format!("variantctl atomics {}", device.address));
    Some(match report.driver {
        Answer::Yes => Check::pass(code, fine).with(format!("{} bits", report.host.granted())),
        Answer::Open(finding) => {
            Check::unavailable(code, fine, &Unavailable::because(finding.reason))
        }
        Answer::No(finding) if code == Code::AtomicsLacking => {
            Check::fail(code, finding.reason, hint)
        }
        Answer::No(finding) => Check::warn(code, finding.reason, hint),
    })
}
