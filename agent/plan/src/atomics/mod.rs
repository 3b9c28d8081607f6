//! AtomicOps: which widths a guest's driver gets, and the rule that stands against each. Pure.
//!
//! ```text
//! host path (as the host's kernel computes it) + guest's place (as QEMU sees it) -> per width -> the driver's need
//! ```
//!
//! What could not be read is "not visible", never "not supported", and a verdict that hangs on it is left open.

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
pub use fact::{Fact, functions_enabled};
pub use kernel::Kernel;
pub use need::Need;
pub use path::{Element, Judged};
pub use place::{Bus, Place};

/// What a function does with AtomicOps: the widths that it completes, and what else is set.
#[must_use]
pub fn in_words(completer: Widths, routing: bool, blocked: bool) -> String {
    let routing = if routing { ", routing" } else { "" };
    let blocked = if blocked { ", egress blocked" } else { "" };
    format!("{completer}{routing}{blocked}")
}

/// What the judgement is made against.
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

/// Everything there is to say of one device's AtomicOps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The device.
    pub address: PciAddress,
    /// The function that the kernel looks at: the physical one of a virtual function.
    pub judged: PciAddress,
    /// What kind of PCI Express function that is; `None` where it is none, or cannot be seen.
    pub kind: Option<Port>,
    /// Widths it completes itself; `None` where that cannot be seen.
    pub completer: Option<Widths>,
    /// Whether it may send AtomicOps now; `None` where that cannot be seen.
    pub requester_enabled: Option<bool>,
    /// The root port above it.
    pub root_port: Option<PciAddress>,
    /// The ports above it, from above.
    pub path: Vec<Element>,
    /// What VFIO tells QEMU, by width.
    pub host: PerWidth,
    /// Widths that config space gives by the kernel's rules.
    pub computed: Widths,
    /// What VFIO said when it was asked; `host` is that, then.
    pub asked: Option<Widths>,
    /// Where the guest sees it; `None` without a guest.
    pub place: Option<Place>,
    /// Whether QEMU passes the host's widths on there; `None` without a guest.
    pub guest: Option<Judgement>,
    /// Whether the guest's root port has the width; without a guest, the host's part of that.
    pub verdict: PerWidth,
    /// What the guest's driver needs.
    pub need: Need,
    /// Whether it gets that.
    pub driver: Answer,
    /// What to know beside it.
    pub facts: Vec<Fact>,
}

/// A guest, and how a device comes to it.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// Its definition.
    pub domain: &'a Domain,
    /// The device is in no definition yet: it is plugged in while the guest runs.
    pub attach: bool,
}

/// Judges one device in a guest for which a place is planned: a root port of its own, or a port of a switch.
#[must_use]
pub fn report_planned(question: &Question<'_>, device: &Device, switch: bool) -> Report {
    judge(question, device, Some(Place::planned(switch)), None, None)
}

/// Judges one device; `asked` is VFIO's own answer, where somebody had it asked.
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

/// Why config space does not tell; `None` where it does.
fn hidden(config: &Config) -> Option<String> {
    match config {
        Config::Unreadable(why) => Some(why.to_string()),
        Config::Express(_) | Config::Conventional => None,
    }
}

#[cfg(test)]
mod tests;
