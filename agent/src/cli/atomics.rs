//! `variantctl atomics`: whether AtomicOps reach a device's guest, and the rule that stands against them.

mod form;

use std::path::PathBuf;

use clap::Args;
use kernel_glue::address::PciAddress;
use kernel_glue::device::Device;
use serde_json::json;

use super::problem::Problem;
use super::{View, input, output};
use crate::atomics::{Guest, Kernel, Question, Report, report};
use crate::domain::{Domain, MAX_BYTES};
use crate::target::{Version, Versions};

/// What to judge.
#[derive(Debug, Args)]
pub(super) struct Request {
    /// PCI address; by default every device that a recipe covers, or that the guest has
    device: Option<PciAddress>,
    /// Domain XML of the guest ('-' for standard input)
    #[arg(long, value_name = "XML")]
    file: Option<PathBuf>,
    /// The guest's QEMU, such as 11.1; by default the newest that is tested
    #[arg(long, value_name = "VERSION")]
    qemu: Option<Version>,
    /// The host's kernel, such as 7.2; by default the one that it runs
    #[arg(long, value_name = "VERSION")]
    kernel: Option<Kernel>,
}

pub(super) fn run(view: &View, request: &Request) -> Result<(), Problem> {
    let text = request
        .file
        .as_ref()
        .map(|file| input::text(file, MAX_BYTES));
    let domain = text
        .transpose()?
        .map(|text| Domain::parse(&text))
        .transpose()?;
    let reports = reports(view, request, domain.as_ref())?;
    let devices: serde_json::Value = reports.iter().map(form::json).collect();
    output::object(json!({"devices": devices, "gaps": output::gaps_json(&view.host.gaps)}))
}

fn reports(
    view: &View,
    request: &Request,
    domain: Option<&Domain>,
) -> Result<Vec<Report>, Problem> {
    let release = view.host.kernel_release.as_deref();
    let question = Question {
        host: &view.host,
        recipes: &view.recipes,
        kernel: request.kernel.unwrap_or_else(|| Kernel::of(release)),
        qemu: request.qemu.unwrap_or(Versions::NEWEST_TESTED.qemu),
    };
    let devices = devices(view, request.device, domain)?;
    let judge = |device: &&Device| {
        let guest = domain.map(|domain| Guest {
            domain,
            attach: !domain.hostdevs.iter().any(|h| h.source == device.address),
        });
        report(&question, device, guest, None)
    };
    Ok(devices.iter().map(judge).collect())
}

fn devices<'a>(
    view: &'a View,
    one: Option<PciAddress>,
    domain: Option<&Domain>,
) -> Result<Vec<&'a Device>, Problem> {
    let find = |address: PciAddress| {
        let device = view.host.devices.get(&address);
        device.ok_or_else(|| super::device::not_found(address))
    };
    match (one, domain) {
        (Some(address), _) => find(address).map(|device| vec![device]),
        (None, Some(domain)) => domain.hostdevs.iter().map(|h| find(h.source)).collect(),
        (None, None) => Ok(covered(view)),
    }
}

/// Those of which a recipe says something.
fn covered(view: &View) -> Vec<&Device> {
    let known = |device: &&Device| {
        let recipes = &view.recipes;
        recipes.for_device(device).is_some() || recipes.otherwise(device.id).is_some()
    };
    view.host.devices.values().filter(known).collect()
}
