//! One call of the agent, with a deadline: past the bus where it is for libvirt's hook, else over the system bus.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use zbus::message::Builder;
use zbus::{Message, Variant};

use crate::again::{Effect, FULL, NO_REPLY, PAUSES};
use crate::bus::{self, Exchange, Fault};
use crate::call::{Call, Operation};

/// What every error of the agent's own begins with.
const OURS: &str = "org.variantd1.";
/// The bus's words for an agent that is late.
const LATE: [&str; 2] = [
    "org.freedesktop.DBus.Error.Timeout",
    "org.freedesktop.DBus.Error.TimedOut",
];
/// What an agent of another version answers.
const UNKNOWN: [&str; 4] = [
    "org.freedesktop.DBus.Error.UnknownMethod",
    "org.freedesktop.DBus.Error.UnknownInterface",
    "org.freedesktop.DBus.Error.UnknownObject",
    "org.freedesktop.DBus.Error.InvalidArgs",
];

/// What came of asking the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done; for a rewriting operation the new XML, empty when unchanged.
    Done(String),
    /// The agent says no, or could not: its sentence.
    Refused(String),
    /// No agent answered the call at all: why.
    Unreachable(String),
    /// The bus had no room for the call, however often it was made: why.
    Full(String),
    /// The agent took the call and did not answer within this time.
    Late(Duration),
    /// The agent took the call and ended.
    Broken,
    /// An agent answers, and does not know this call: it is of another version.
    Foreign(String),
}

/// The agent's socket for libvirt's hook, in its run directory.
pub const SOCKET: &str = "hook";

/// Calls the method for `operation` and waits no longer than `limit`. Where nobody listens in `run`, the agent's run
/// directory, the bus starts the agent.
#[must_use]
pub fn call(call: &Call, operation: Operation, xml: &str, run: &Path, limit: Duration) -> Reply {
    let options = HashMap::from([
        ("domain", Variant::from(call.domain.as_str())),
        ("operation", Variant::from(operation.word())),
        ("extra", Variant::from(call.extra.as_str())),
    ]);
    let name = "org.variantd1.Hook";
    let message =
        numbered(name, "/org/variantd1/Hook", name, operation.method()).build(&(xml, options));
    let socket = run.join(SOCKET);
    let ask = |message: &Message| {
        let asked = Exchange::with_agent(&socket, message, limit);
        asked.unwrap_or_else(|| over_the_bus(message, Effect::Changes, limit))
    };
    replied(message, operation.rewrites(), limit, ask)
}

/// Has the XML of a guest that is about to be made completed, and waits no longer than `limit`.
#[must_use]
pub fn complete(xml: &str, limit: Duration) -> Reply {
    let options: HashMap<&str, Variant<'_>> = HashMap::new();
    let message = numbered(
        "org.variantd1",
        "/org/variantd1",
        "org.variantd1.Manager",
        "PrepareXml",
    )
    .build(&(xml, options));
    replied(message, true, limit, |message| {
        over_the_bus(message, Effect::Reads, limit)
    })
}

/// Makes a call, and makes it again where that is right, for no longer than `limit`.
fn over_the_bus(
    message: &Message,
    effect: Effect,
    limit: Duration,
) -> Result<Option<String>, Fault> {
    let until = Instant::now() + limit;
    let left = || until.saturating_duration_since(Instant::now());
    for pause in PAUSES {
        match Exchange::with_system_bus(message, left()) {
            Err(Fault::Said(name, _)) if effect.allows_another(&name) && pause < left() => {
                sleep(pause);
            }
            other => return other,
        }
    }
    Exchange::with_system_bus(message, left())
}

fn replied(
    message: zbus::Result<Message>,
    wants_text: bool,
    limit: Duration,
    exchange: impl FnOnce(&Message) -> Result<Option<String>, Fault>,
) -> Reply {
    let message = match message {
        Ok(message) => message,
        Err(error) => return Reply::Unreachable(error.to_string()),
    };
    match exchange(&message) {
        Ok(text) if wants_text => match text {
            Some(text) => Reply::Done(text),
            // An agent that gives something else than a text is none that this hook knows.
            None => Reply::Foreign("its answer is no text".into()),
        },
        Ok(_) => Reply::Done(String::new()),
        Err(Fault::Late) => Reply::Late(limit),
        Err(Fault::Ended) => Reply::Broken,
        Err(Fault::Bus(why)) => Reply::Unreachable(why),
        Err(Fault::Said(name, text)) => sort(&name, text, limit),
    }
}

/// A call of the agent with the number that [`Exchange`] waits for.
fn numbered<'a>(name: &'a str, path: &'a str, interface: &'a str, method: &'a str) -> Builder<'a> {
    Message::method_call(path, method)
        .destination(name)
        .interface(interface)
        .serial(NonZeroU32::new(bus::CALL).unwrap_or(NonZeroU32::MAX))
}

/// An error that the agent sent is its answer; any other means that there is no agent.
fn sort(name: &str, text: Option<String>, limit: Duration) -> Reply {
    let words = text.clone().unwrap_or_else(|| name.to_owned());
    match name {
        _ if name.starts_with(OURS) => Reply::Refused(words),
        NO_REPLY => Reply::Broken,
        FULL => Reply::Full(words),
        _ if LATE.contains(&name) => Reply::Late(limit),
        _ if UNKNOWN.contains(&name) => Reply::Foreign(words),
        _ => Reply::Unreachable(text.map_or(words, |text| format!("{name}: {text}"))),
    }
}
