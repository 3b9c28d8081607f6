//! What there is to know beside the verdict: reported, never changed.

use kernel_glue::address::PciAddress;
use kernel_glue::config::Port;

use super::Guest;
use super::path::{Judged, Step};
use super::place::Place;
use crate::code::Code;

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
pub(super) fn facts(
    judged: &Judged<'_>,
    guest: Option<&Guest<'_>>,
    place: Option<&Place>,
) -> Vec<Fact> {
    let mut facts: Vec<Fact> = device(judged).collect();
    facts.extend(judged.path.iter().flat_map(port));
    facts.extend(guest.map(|_| in_guest()));
    if guest.is_some_and(|guest| guest.attach) && place.is_some() {
        let text =
            "a guest driver that read its root port before the device came may act on what it read";
        facts.push(Fact::new(Code::AtomicsHotplug, None, text));
    }
    facts
}

fn device(judged: &Judged<'_>) -> impl Iterator<Item = Fact> {
    let express = judged.express();
    let enabled = express.is_some_and(|express| express.requester_enabled());
    let text = "it may send AtomicOps now (requester enable is set)";
    let at = judged.address;
    enabled
        .then(|| Fact::new(Code::AtomicsRequester, at, text))
        .into_iter()
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
            false => "the root port routes no AtomicOps between devices (peer to peer)",
        };
        facts.push(Fact::new(Code::AtomicsPeerHost, at, text));
    }
    if express.port != Port::UpstreamPort && express.egress_blocked() {
        let text = "it blocks AtomicOps on their way down to a device";
        facts.push(Fact::new(Code::AtomicsPeerBlocked, at, text));
    }
    if express.no_relaxed_peer_passing() {
        let text =
            "relaxed writes between devices do not pass others here (no RO-enabled PR-PR passing)";
        facts.push(Fact::new(Code::AtomicsOrdering, at, text));
    }
    facts
}

fn in_guest() -> Fact {
    let text = "QEMU's ports route no AtomicOps between devices, whatever the host's do";
    Fact::new(Code::AtomicsPeerGuest, None, text)
}
