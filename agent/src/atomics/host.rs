//! The host's path as its kernel computes it, for each width.
//!
//! Follows vfio_pci_info_atomic_cap (drivers/vfio/pci/vfio_pci_core.c) and pci_enable_atomic_ops_to_root
//! (drivers/pci/pci.c) of Linux 7.2, and of 6.5 where they differ. A rule that fails for certain wins over one
//! that cannot be told.

use kernel_glue::atomics::{Width, Widths};
use kernel_glue::config::{Config, Port};

use super::answer::{Answer, Finding, PerWidth};
use super::kernel::Kernel;
use super::path::{Judged, Step};
use crate::code::Code;

/// What VFIO will tell QEMU.
pub(super) fn judge(judged: &Judged<'_>, kernel: Kernel) -> PerWidth {
    let told = told(kernel);
    PerWidth::each(|width| {
        Answer::all([
            told.clone(),
            function(judged, width),
            way(judged, kernel, width),
        ])
    })
}

/// What VFIO said.
pub(super) fn as_asked(widths: Widths) -> PerWidth {
    PerWidth::each(|width| match widths.contains(width) {
        true => Answer::Yes,
        false => Answer::No(Finding::new(
            Code::AtomicsVfio,
            format!("VFIO was asked, and does not name {width} bits"),
        )),
    })
}

fn told(kernel: Kernel) -> Answer {
    let finding = |reason| Finding::new(Code::AtomicsKernel, reason);
    match kernel.tells() {
        Some(true) => Answer::Yes,
        Some(false) => Answer::No(finding(
            "the host's kernel is older than 6.5, whose VFIO is the first that tells QEMU",
        )),
        None => Answer::Open(finding(
            "whether the host's kernel tells QEMU does not show in its version",
        )),
    }
}

/// The device's own part: it must be an endpoint that completes the width itself.
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
    let endpoint = matches!(
        express.port,
        Port::Endpoint | Port::LegacyEndpoint | Port::RootComplexEndpoint
    );
    if !endpoint || express.version < 2 {
        let reason = match endpoint {
            true => format!(
                "its PCI Express capability is of version {}, AtomicOps came with version 2",
                express.version
            ),
            false => "it is a port, and not an endpoint".to_owned(),
        };
        return no(Code::AtomicsNoEndpoint, reason);
    }
    if express.completer().contains(width) {
        return Answer::Yes;
    }
    let reason = format!("the device completes {}", bits(express.completer(), width));
    no(Code::AtomicsDevice, reason)
}

/// The way up to the root port; that of a function that is not shown is not known either.
fn way(judged: &Judged<'_>, kernel: Kernel, width: Width) -> Answer {
    if judged.function.is_none() {
        return Answer::Yes;
    }
    let Some(root) = judged.root_index() else {
        return without_root_port(judged, kernel);
    };
    let below = judged.path[root + 1..].iter().map(switch_port);
    Answer::all(std::iter::once(root_port(&judged.path[root], width)).chain(below))
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

/// Bridges that are no switch ports are not looked at.
fn switch_port(step: &Step<'_>) -> Answer {
    if let Some(hidden) = hidden(step) {
        return hidden;
    }
    let no = |code, what: &str| {
        let reason = format!("the switch port '{}' {what}", step.address);
        Answer::No(Finding::new(code, reason).at(step.address))
    };
    match step.express() {
        Some(up) if up.port == Port::UpstreamPort && up.egress_blocked() => {
            no(Code::AtomicsBlocked, "blocks AtomicOps on their way up")
        }
        Some(port)
            if matches!(port.port, Port::UpstreamPort | Port::DownstreamPort)
                && !port.routes_atomics() =>
        {
            no(Code::AtomicsUnrouted, "does not route AtomicOps")
        }
        _ => Answer::Yes,
    }
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

/// Older kernels look at the bridges there are, and take the rest for granted.
fn without_root_port(judged: &Judged<'_>, kernel: Kernel) -> Answer {
    let strict = strictly(judged);
    let lax = Answer::all(judged.path.iter().map(switch_port));
    match kernel.is_strict() {
        Some(true) => strict,
        Some(false) => lax,
        None if strict.ok() == lax.ok() => strict,
        None => Answer::Open(match strict {
            Answer::No(finding) => Finding {
                reason: format!(
                    "{}; whether the host's kernel minds does not show in its version",
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
        let reason = "it is integrated into the root complex, so there is no root port to ask";
        return Answer::No(Finding::new(Code::AtomicsIntegrated, reason).at(judged.address));
    }
    // What somebody enabled before is left as it is.
    if express.is_some_and(|express| express.requester_enabled()) {
        return Answer::Yes;
    }
    let reason = "the host shows no root port above it";
    Answer::No(Finding::new(Code::AtomicsNoRootPort, reason).at(judged.address))
}
