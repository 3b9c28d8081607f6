//! `variantctl atomics`: whether AtomicOps reach a device's guest, and the rule that prevents it.

mod ask;
mod definition;
mod fix;
mod form;
mod text;

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use kernel_glue::address::PciAddress;
use kernel_glue::atomics::Widths;
use kernel_glue::device::Device;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::completion;
use super::problem::Problem;
use super::{HostView, defined, diff, output};
use domain::{Domain, Usage};
use planner::atomics::{Guest, Kernel, Question, Report, report};
use planner::target::{Version, Versions};

use definition::GuestDefinition;

/// The devices and versions to check.
#[derive(Debug, Args)]
pub(super) struct Request {
    /// PCI address; default: every device of the guest, or every device of a recipe
    #[arg(add = ArgValueCandidates::new(completion::devices))]
    device: Option<PciAddress>,
    /// Name or UUID of the guest in libvirt
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    #[arg(add = ArgValueCandidates::new(completion::domains))]
    domain: Option<String>,
    /// Domain XML of the guest ('-' for standard input)
    #[arg(long, value_name = "XML")]
    file: Option<PathBuf>,
    /// The guest's QEMU, such as 11.1; default: libvirt's for a domain, else the newest tested one
    #[arg(long, value_name = "VERSION")]
    qemu: Option<Version>,
    /// The host's kernel, such as 7.2; default: the running one
    #[arg(long, value_name = "VERSION")]
    kernel: Option<Kernel>,
    /// Ask VFIO as QEMU does; opens and so resets the device, and enables its AtomicOp requests meanwhile (root only)
    #[arg(long, requires = "device")]
    ask_vfio: bool,
    /// When to colour the diff
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: diff::Color,
}

pub(super) fn run(host_view: &HostView, request: &Request) -> Result<(), Problem> {
    let definition = GuestDefinition::of(host_view, request)?;
    let domain = definition.as_ref().map(|guest| guest.definition.domain());
    let devices = devices(host_view, request.device, domain)?;
    let asked = ask::vfio(host_view, request);
    let question = question(host_view, request, definition.as_ref());
    let told = asked.as_ref().ok().copied().flatten();
    let reports: Vec<Report> = devices
        .iter()
        .map(|device| judge(&question, device, domain, told))
        .collect();
    let fix = definition
        .as_ref()
        .and_then(|definition| fix::of(host_view, definition, &question, &reports));
    match host_view.json {
        true => print_json(host_view, &reports, fix.as_ref())?,
        false => {
            text::print(&reports, &host_view.root)?;
            assumptions(host_view, request, definition.as_ref());
            fix.iter().try_for_each(|fix| fix.print(request.color))?;
            output::gaps(&text::concerned(&host_view.host.gaps, &reports));
        }
    }
    // The report does not need the answer of VFIO, so it is printed first; then an error decides the exit status.
    asked.map(drop)
}

fn question<'a>(
    host_view: &'a HostView,
    request: &Request,
    definition: Option<&GuestDefinition>,
) -> Question<'a> {
    let release = host_view.host.kernel_release.as_deref();
    let of_domain = definition.and_then(|definition| definition.versions);
    let of_domain = of_domain.map(|versions| versions.qemu);
    let newest = Versions::NEWEST_TESTED.qemu;
    Question {
        host: &host_view.host,
        recipes: &host_view.recipes,
        kernel: request.kernel.unwrap_or_else(|| Kernel::of(release)),
        qemu: request.qemu.or(of_domain).unwrap_or(newest),
    }
}

fn judge(
    question: &Question<'_>,
    device: &Device,
    domain: Option<&Domain>,
    told: Option<Widths>,
) -> Report {
    let guest = domain.map(|domain| Guest {
        domain,
        // A device that the definition does not have is judged as if it were attached to the guest.
        attach: !domain.uses(device.address),
    });
    report(question, device, guest, told)
}

fn print_json(
    host_view: &HostView,
    reports: &[Report],
    fix: Option<&fix::Fix>,
) -> Result<(), Problem> {
    output::stream(&Answer {
        devices: reports,
        fix: fix.map(fix::Fix::json),
        gaps: output::gaps_json(&host_view.host.gaps),
        version: output::SCHEMA,
    })
}

/// The output of `--json`, written as a stream: JSON of thousands of devices is never in memory at once.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(serialize_with = "each")]
    devices: &'a [Report],
    fix: Option<Value>,
    gaps: Value,
    version: u32,
}

fn each<S: Serializer>(reports: &[Report], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(reports.iter().map(form::DeviceForm::of))
}

fn assumptions(host_view: &HostView, request: &Request, definition: Option<&GuestDefinition>) {
    let Some(definition) = definition else {
        return;
    };
    defined::say_networks(&definition.libvirt, definition.definition.domain());
    if request.qemu.is_none() && definition.versions.is_none() {
        let newest = Versions::NEWEST_TESTED.qemu;
        output::say(&format!(
            "note: checked for QEMU {newest}; for another version add --qemu VERSION"
        ));
    }
    if request.kernel.is_none() && host_view.host.kernel_release.is_none() {
        output::say("note: the host's kernel is unknown; add --kernel VERSION");
    }
}

fn devices<'a>(
    host_view: &'a HostView,
    one: Option<PciAddress>,
    domain: Option<&Domain>,
) -> Result<Vec<&'a Device>, Problem> {
    let find = |address: PciAddress| {
        let device = host_view.host.devices.get(&address);
        device.ok_or_else(|| super::device::not_found(address, &host_view.root))
    };
    match (one, domain) {
        (Some(address), _) => find(address).map(|device| vec![device]),
        (None, Some(domain)) => assigned(domain).map(find).collect(),
        (None, None) => Ok(known(host_view)),
    }
}

/// The devices that the guest gets as PCI functions.
fn assigned(domain: &Domain) -> impl Iterator<Item = PciAddress> {
    let arguments = domain
        .elsewhere
        .iter()
        .filter(|one| one.usage == Usage::Argument);
    let hostdevs = domain.hostdevs.iter().map(|hostdev| hostdev.source);
    hostdevs.chain(arguments.map(|one| one.source))
}

/// The devices that a recipe names.
fn known(host_view: &HostView) -> Vec<&Device> {
    let known = |device: &&Device| {
        let recipes = &host_view.recipes;
        recipes.for_device(device).is_some() || recipes.otherwise(device.id).is_some()
    };
    host_view.host.devices.values().filter(known).collect()
}
