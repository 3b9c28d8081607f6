//! AtomicOps: which widths a guest's driver gets, and the rule that prevents each. Pure.
//!
//! ```text
//! host path (as the host's kernel computes it) + guest address (as QEMU checks it) -> per width -> the driver's need
//! ```
//!
//! A value that could not be read is "not visible", never "not supported", and a verdict that depends on it is unknown.

mod answer;
mod fact;
mod guest;
mod host;
mod kernel;
mod need;
mod path;
mod place;
pub mod word;

use kernel_glue::address::PciAddress;
use kernel_glue::atomics::Widths;
use kernel_glue::config::{Config, Express, Port};
use kernel_glue::device::Device;
use kernel_glue::host::Host;

use crate::recipe::Recipes;
use crate::target::Version;
use domain::Domain;

pub use answer::{Answer, Finding, Judgement, PerWidth};
pub use fact::{Fact, PLUGGED, functions_enabled};
pub use kernel::Kernel;
pub use need::Need;
pub use path::{Element, Judged};
pub use place::{Bus, Place};

/// The AtomicOps capabilities of a function as text: widths, routing, egress blocking.
#[must_use]
pub fn in_words(completer: Widths, routing: bool, blocked: bool) -> String {
    let routing = if routing { ", routing" } else { "" };
    let blocked = if blocked { ", egress blocked" } else { "" };
    format!("{completer}{routing}{blocked}")
}

/// The inputs of a verdict.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The host.
    pub host: &'a Host,
    /// The recipes in force: what guest drivers need.
    pub recipes: &'a Recipes,
    /// The host's kernel.
    pub kernel: Kernel,
    /// The QEMU that will run the guest.
    pub qemu: Version,
}

/// The report on one device's AtomicOps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The device.
    pub address: PciAddress,
    /// The function that the kernel checks: the physical one of a virtual function.
    pub judged: PciAddress,
    /// Its PCI Express type; `None` if it has none or is not visible.
    pub kind: Option<Port>,
    /// Widths that it completes; `None` if not visible.
    pub completer: Option<Widths>,
    /// Whether it may send AtomicOps now; `None` if not visible.
    pub requester_enabled: Option<bool>,
    /// The root port above it.
    pub root_port: Option<PciAddress>,
    /// The ports above it, from the root.
    pub path: Vec<Element>,
    /// What VFIO reports to QEMU, by width.
    pub host: PerWidth,
    /// Widths that config space gives by the kernel's rules.
    pub computed: Widths,
    /// VFIO's own answer, if it was asked; then `host` is that answer.
    pub asked: Option<Widths>,
    /// Its guest address; `None` without a guest.
    pub place: Option<Place>,
    /// Whether QEMU passes the host's widths on there; `None` without a guest.
    pub guest: Option<Judgement>,
    /// Whether the guest's root port has the width; without a guest, the host's part only.
    pub verdict: PerWidth,
    /// What the guest's driver needs.
    pub need: Need,
    /// Whether the driver gets that.
    pub driver: Answer,
    /// Facts beside the verdict.
    pub facts: Vec<Fact>,
}

/// A guest, and whether the device is hot-plugged.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// Its definition.
    pub domain: &'a Domain,
    /// The definition does not have the device: it is plugged in while the guest runs.
    pub attach: bool,
}

/// The report for a device with a planned guest address: a root port of its own, or a port of a switch.
#[must_use]
pub fn report_planned(question: &Question<'_>, device: &Device, switch: bool) -> Report {
    judge(question, device, Some(Place::planned(switch)), None, None)
}

/// The guest address that libvirt gives a device that is plugged into a running guest.
pub(crate) fn plugged(domain: &Domain, device: &Device) -> Place {
    let attach = true;
    place::of(&Guest { domain, attach }, device)
}

/// The report for a device; `asked` is VFIO's own answer, if VFIO was asked.
#[must_use]
pub fn report(
    question: &Question<'_>,
    device: &Device,
    guest: Option<Guest<'_>>,
    asked: Option<Widths>,
) -> Report {
    let place = guest.map(|guest| place::of(&guest, device));
    judge(question, device, place, guest, asked)
}

fn judge(
    question: &Question<'_>,
    device: &Device,
    place: Option<Place>,
    guest: Option<Guest<'_>>,
    asked: Option<Widths>,
) -> Report {
    let judged = Judged::of(question.host, device);
    let computed = host::judge(&judged, question.kernel);
    let granted = computed.granted();
    let host = asked.map_or_else(
        || computed.clone(),
        |asked| host::as_asked(asked, &computed),
    );
    let passed = place
        .as_ref()
        .map(|place| guest::judge(place, question.qemu));
    let verdict = passed
        .as_ref()
        .map_or_else(|| host.clone(), |guest| host.and(guest));
    let need = Need::of(question.recipes, device);
    let driver = need.judge(&verdict);
    let express = judged.express();
    Report {
        address: device.address,
        judged: judged.address,
        kind: express.map(|express| express.port),
        completer: judged.completer(),
        requester_enabled: express.map(Express::requester_enabled),
        root_port: judged.root_port(),
        path: judged.path.iter().map(Element::of).collect(),
        facts: fact::functions(question.host, device)
            .into_iter()
            .chain(fact::facts(
                &judged,
                guest.as_ref(),
                initiators(question, device, guest.as_ref()),
            ))
            .collect(),
        host,
        computed: granted,
        asked,
        place,
        guest: passed,
        verdict,
        need,
        driver,
    }
}

/// Whether the guest has generic initiators of the device, or may get them with it.
fn initiators(question: &Question<'_>, device: &Device, guest: Option<&Guest<'_>>) -> bool {
    let Some(guest) = guest else {
        return false;
    };
    let mut hostdevs = guest.domain.hostdevs.iter();
    let given = hostdevs.any(|h| h.source == device.address && h.nodeset.is_some());
    let recipe = question.recipes.for_device(device);
    let wanted = recipe.is_some_and(|recipe| recipe.initiators.is_some());
    given || (guest.attach && wanted)
}

/// Why config space is not readable; `None` if it is.
fn hidden(config: &Config) -> Option<String> {
    match config {
        Config::Unreadable(why) => Some(why.to_string()),
        Config::Express(_) | Config::Conventional => None,
    }
}

#[cfg(test)]
mod tests;
