//! A domain's definition and other facts from libvirt, for the verbs that only read.

use std::path::Path;
use std::time::Duration;

use kernel_glue::address::PciAddress;

use super::problem::Problem;
use super::progress::Progress;
use super::{HostView, output};
use crate::inquiry;
use agent::libvirt::Found;
use domain::Domain;
use domain::code::Code;
use planner::from_libvirt::FromLibvirt;

/// The system's libvirt, as the agent uses it; reading needs no rights there.
const URI: &str = "qemu:///system";
/// libvirt's time limit; libvirt waits while the hook of another guest runs.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The domain with this name or UUID; the live XML when it runs with a `device` that its definition does not have.
pub(super) fn in_libvirt(
    host_view: &HostView,
    name: &str,
    device: Option<PciAddress>,
) -> Result<Found, Problem> {
    if host_view.root != Path::new("/") {
        let text = "a recorded host has no libvirt; pass the definition with --file";
        return Err(Problem::Usage(text.to_owned()));
    }
    let _progress = Progress::begin("waiting for libvirt");
    let found = inquiry::definition(URI, name, device, TIMEOUT);
    let found = found.map_err(|why| Problem::Unreachable(why.to_string()))?;
    let missing = || {
        let text = format!("libvirt has no domain '{name}'; run 'virsh list --all'");
        Problem::NotFound(text)
    };
    found.ok_or_else(missing)
}

/// The definitions of all domains; a text that cannot be parsed is left out.
pub(super) fn all() -> Result<Vec<Domain>, Problem> {
    let _progress = Progress::begin("waiting for libvirt");
    let texts = inquiry::definitions(URI, TIMEOUT);
    let texts = texts.map_err(|why| Problem::Unreachable(why.to_string()))?;
    Ok(texts
        .iter()
        .filter_map(|text| Domain::parse(text).ok())
        .collect())
}

/// Prints the network interfaces that may add a host device which is neither checked nor drawn.
pub(super) fn say_networks(libvirt: &FromLibvirt, domain: &Domain) {
    let has_devices = domain.sources().next().is_some();
    for (sentence, _) in libvirt.interfaces(domain, has_devices) {
        output::say(&format!("note: {sentence} ({})", Code::DeviceUnjudged));
    }
}
