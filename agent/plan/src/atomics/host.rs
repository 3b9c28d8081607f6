//! The host's path as its kernel computes it, for each width.
//!
//! Follows vfio_pci_info_atomic_cap (drivers/vfio/pci/vfio_pci_core.c) and pci_enable_atomic_ops_to_root
//! (drivers/pci/pci.c) of Linux 7.2, and of 6.5 where they differ. A failing rule takes precedence over an unknown one. All rules
//! are evaluated, hardware before the kernel, so that a user does not install a newer kernel when the hardware fails anyway.

use kernel_glue::atomics::{Width, Widths};
use kernel_glue::config::{Config, Port};

use super::answer::{Answer, Finding, Judgement, PerWidth};
use super::kernel::Kernel;
use super::path::{Judged, Step};
use domain::code::Code;

/// The widths that VFIO will report to QEMU.
pub(super) fn judge(judged: &Judged<'_>, kernel: Kernel) -> PerWidth {
    let told = told(kernel);
    PerWidth::each(|width| {
        let mut answers = vec![function(judged, width)];
        answers.extend(way(judged, kernel, width));
        answers.push(told.clone());
        answers
    })
}

/// VFIO's answer; for a width that it does not report, the computed rules give the reason.
pub(super) fn as_asked(widths: Widths, computed: &PerWidth) -> PerWidth {
    PerWidth::each(|width| {
        if widths.contains(width) {
            return Vec::new();
        }
        let printed = Answer::No(Finding::new(
            Code::AtomicsVfio,
            "VFIO does not report this width",
        ));
        let failing = &computed.judgement(width).failing;
        let certain = failing.iter().filter(|answer| answer.ok() == Some(false));
        certain.cloned().chain([printed]).collect()
    })
}

fn told(kernel: Kernel) -> Answer {
    let finding = |reason| Finding::new(Code::AtomicsKernel, reason);
    match kernel.tells() {
        Some(true) => Answer::Yes,
        Some(false) => Answer::No(finding(
            "the host's kernel is older than 6.5, the first whose VFIO reports AtomicOps to QEMU",
        )),
        None => Answer::Open(finding(
            "the version of the host's kernel does not show whether it reports AtomicOps to QEMU",
        )),
    }
}

/// The device's part: it must be an endpoint that completes the width.
fn function(judged: &Judged<'_>, width: Width) -> Answer {
    let Some(function) = judged.function else {
        let reason = "the host does not show its physical function".to_owned();
        return Answer::Open(Finding::new(Code::AtomicsHidden, reason).at(judged.address));
    };
    let no = |code, reason: String| Answer::No(Finding::new(code, reason).at(judged.address));
    let express = match &function.config {
        Config::Express(express) => express,
        Config::Conventional => {
            let reason = "it has no PCI Express capability".to_owned();
            return no(Code::AtomicsNoEndpoint, reason);
        }
        Config::Unreadable(why) => {
            let reason = format!("its config space is not visible: {why}");
            return Answer::Open(Finding::new(Code::AtomicsHidden, reason).at(judged.address));
        }
    };
    // An integrated endpoint fails, too, but for the lack of a root port: `strictly` has that reason.
    let endpoint = matches!(
        express.port,
        Port::Endpoint | Port::LegacyEndpoint | Port::RootComplexEndpoint
    );
    if !endpoint || express.version < 2 {
        let reason = match endpoint {
            true => format!(
                "its PCI Express capability has version {}, AtomicOps need version 2",
                express.version
            ),
            false => "it is a port, not an endpoint".to_owned(),
        };
        return no(Code::AtomicsNoEndpoint, reason);
    }
    if express.completer().contains(width) {
        return Answer::Yes;
    }
    let reason = format!("the device completes {}", bits(express.completer(), width));
    no(Code::AtomicsDevice, reason)
}

/// The path up to the root port; unknown for a function that the host does not show.
fn way(judged: &Judged<'_>, kernel: Kernel, width: Width) -> Vec<Answer> {
    if judged.function.is_none() {
        return Vec::new();
    }
    let Some(root) = judged.root_index() else {
        return vec![without_root_port(judged, kernel)];
    };
    // The routing bit of the root port itself is about traffic between root ports, and the kernel does not test it.
    let below = judged.path[root + 1..].iter().flat_map(switch_port);
    let mut answers = vec![root_port(&judged.path[root], width)];
    answers.extend(below);
    answers
}

fn root_port(step: &Step<'_>, width: Width) -> Answer {
    if let Some(hidden) = hidden(step) {
        return hidden;
    }
    let completer = step.express().map(|express| express.completer());
    let completer = completer.unwrap_or_default();
    if completer.contains(width) {
        return Answer::Yes;
    }
    let reason = format!(
        "the root port '{}' completes {}",
        step.address,
        bits(completer, width)
    );
    Answer::No(Finding::new(Code::AtomicsRootPort, reason).at(step.address))
}

/// Bridges other than switch ports are not checked.
fn switch_port(step: &Step<'_>) -> Vec<Answer> {
    if let Some(hidden) = hidden(step) {
        return vec![hidden];
    }
    let Some(port) = step.express() else {
        return Vec::new();
    };
    let no = |code, what: &str| {
        let reason = format!("the switch port '{}' {what}", step.address);
        Answer::No(Finding::new(code, reason).at(step.address))
    };
    let is_switch = matches!(port.port, Port::UpstreamPort | Port::DownstreamPort);
    // Only upstream ports: traffic to the root leaves the switch there, and the kernel tests no other port.
    let blocks = port.port == Port::UpstreamPort && port.egress_blocked();
    let unrouted = is_switch && !port.routes_atomics();
    let blocks = blocks.then(|| no(Code::AtomicsBlocked, "blocks AtomicOps on their way up"));
    let unrouted = unrouted.then(|| no(Code::AtomicsUnrouted, "does not route AtomicOps"));
    blocks.into_iter().chain(unrouted).collect()
}

fn bits(widths: Widths, lacking: Width) -> String {
    match widths.is_empty() {
        true => "no AtomicOps".to_owned(),
        false => format!("{widths} bits, not {lacking}"),
    }
}

fn hidden(step: &Step<'_>) -> Option<Answer> {
    let why = step.hidden()?;
    let reason = format!("config space of '{}' is not visible: {why}", step.address);
    Some(Answer::Open(
        Finding::new(Code::AtomicsHidden, reason).at(step.address),
    ))
}

/// Older kernels check only the existing bridges.
fn without_root_port(judged: &Judged<'_>, kernel: Kernel) -> Answer {
    let strict = strictly(judged);
    let lax = Judgement::of(judged.path.iter().flat_map(switch_port)).answer;
    match kernel.is_strict() {
        Some(true) => strict,
        Some(false) => lax,
        None if strict.ok() == lax.ok() => strict,
        None => Answer::Open(match strict {
            Answer::No(finding) => Finding {
                reason: format!(
                    "{}; the version of the host's kernel does not show whether it accepts that",
                    finding.reason
                ),
                ..finding
            },
            _ => Finding::new(Code::AtomicsKernel, "the host's kernel is not known"),
        }),
    }
}

fn strictly(judged: &Judged<'_>) -> Answer {
    if let Some(hidden) = judged.path.iter().find_map(hidden) {
        return hidden;
    }
    let express = judged.express();
    if express.is_some_and(|express| express.port == Port::RootComplexEndpoint) {
        let reason = "it is integrated into the root complex, so it has no root port";
        return Answer::No(Finding::new(Code::AtomicsIntegrated, reason).at(judged.address));
    }
    // The kernel does not change a requester enable bit that is already set.
    if express.is_some_and(|express| express.requester_enabled()) {
        return Answer::Yes;
    }
    let reason = "the host shows no root port above it";
    Answer::No(Finding::new(Code::AtomicsNoRootPort, reason).at(judged.address))
}
