//! Facts beside the verdict: reported, never changed.

use kernel_glue::address::PciAddress;
use kernel_glue::config::Port;
use kernel_glue::device::Device;
use kernel_glue::host::Host;

use super::Guest;
use super::path::{Judged, Step};
use domain::code::Code;

/// The sentence about a device that is plugged into a running guest.
pub const PLUGGED: &str = "it is plugged into a running guest: its driver may use widths that it read from the root port before, \
                           and a failed attach may leave widths on the port";

/// Something to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The stable code.
    pub code: Code,
    /// The function of the host it is about.
    pub at: Option<PciAddress>,
    /// What: lower case, no full stop.
    pub text: String,
}

impl Fact {
    fn new(code: Code, at: impl Into<Option<PciAddress>>, text: impl Into<String>) -> Self {
        Self {
            code,
            at: at.into(),
            text: text.into(),
        }
    }
}

/// All of them, from the device up, and those of the guest last.
pub(super) fn facts(judged: &Judged<'_>, guest: Option<&Guest<'_>>, initiators: bool) -> Vec<Fact> {
    let mut facts: Vec<Fact> = device(judged);
    facts.extend(judged.path.iter().rev().flat_map(port));
    if let Some(guest) = guest {
        facts.push(in_guest());
        facts.extend(plugged(guest, initiators));
    }
    facts
}

/// Enabled virtual functions: with them VFIO refuses the physical function.
pub(super) fn functions(host: &Host, device: &Device) -> Option<Fact> {
    let count = host.virtual_functions(device.address).count();
    let text = functions_enabled(device, count);
    (count > 0).then(|| Fact::new(Code::FunctionsEnabled, device.address, text))
}

/// The sentence that virtual functions of a device are enabled, and how to disable them.
pub fn functions_enabled(device: &Device, count: usize) -> String {
    format!(
        "its virtual functions are enabled ({count}); VFIO refuses the device (EBUSY) until \
         'echo 0 > /sys/bus/pci/devices/{}/sriov_numvfs'",
        device.address
    )
}

fn device(judged: &Judged<'_>) -> Vec<Fact> {
    let Some(express) = judged.express() else {
        return Vec::new();
    };
    let mut facts = Vec::new();
    if express.requester_enabled() {
        let text = "it may send AtomicOps now (requester enable is set)";
        facts.push(Fact::new(Code::AtomicsRequester, judged.address, text));
    }
    if express.relaxed_ordering() {
        let text = "its writes may be relaxed (relaxed ordering is enabled)";
        facts.push(Fact::new(Code::AtomicsOrdering, judged.address, text));
    }
    facts
}

fn plugged(guest: &Guest<'_>, initiators: bool) -> Vec<Fact> {
    let mut facts = Vec::new();
    if guest.attach {
        facts.push(Fact::new(Code::AtomicsHotplug, None, PLUGGED));
    }
    if initiators {
        let text = "do not unplug it from a running guest: QEMU exits at the guest's next reset when a device with initiators is gone";
        facts.push(Fact::new(Code::UnplugDangerous, None, text));
    }
    facts
}

fn port(step: &Step<'_>) -> Vec<Fact> {
    let Some(express) = step.express() else {
        return Vec::new();
    };
    let at = step.address;
    let mut facts = Vec::new();
    if express.port == Port::RootPort {
        let text = match express.routes_atomics() {
            true => "the root port routes AtomicOps between devices below different root ports",
            false => "the root port does not route AtomicOps between devices (peer to peer)",
        };
        facts.push(Fact::new(Code::AtomicsPeerHost, at, text));
    }
    if express.port != Port::UpstreamPort && express.egress_blocked() {
        let text = "it blocks AtomicOps on their way down to a device";
        facts.push(Fact::new(Code::AtomicsPeerBlocked, at, text));
    }
    if express.redirects_peers() {
        let text = "it sends requests between devices up to the root port (ACS request redirect)";
        facts.push(Fact::new(Code::AtomicsAccessControl, at, text));
    }
    if express.no_relaxed_peer_passing() {
        let text =
            "relaxed writes between devices do not pass others here (no RO-enabled PR-PR passing)";
        facts.push(Fact::new(Code::AtomicsOrdering, at, text));
    }
    facts
}

fn in_guest() -> Fact {
    let text = "QEMU's ports do not route AtomicOps between devices, even if the host's do";
    Fact::new(Code::AtomicsPeerGuest, None, text)
}
