//! `PrepareXml` of `org.variantd1` over the system bus, with a deadline: VDSM's user may not connect to the hook's socket.

use std::collections::HashMap;
use std::time::Duration;

use api::again::{Effect, FULL, NO_REPLY, again, replied};
use api::name::{ERROR, MANAGER, MANAGER_INTERFACE, SERVICE};
use hooks::agent::Reply;
use tokio::runtime;
use tokio::time::timeout;
use zbus::{Connection, Message, Variant};

/// The timeout for the bus's Hello.
const GREETING: Duration = Duration::from_secs(5);

/// The bus's errors for a timeout.
const LATE: [&str; 2] = [
    "org.freedesktop.DBus.Error.Timeout",
    "org.freedesktop.DBus.Error.TimedOut",
];
/// The errors of an agent of another version.
const UNKNOWN: [&str; 4] = [
    "org.freedesktop.DBus.Error.UnknownMethod",
    "org.freedesktop.DBus.Error.UnknownInterface",
    "org.freedesktop.DBus.Error.UnknownObject",
    "org.freedesktop.DBus.Error.InvalidArgs",
];

/// Has the agent complete the definition of a new guest, within `limit`.
#[must_use]
pub fn complete(xml: &str, limit: Duration) -> Reply {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(asked(xml, limit)),
        Err(error) => Reply::Unreachable(error.to_string()),
    }
}

async fn asked(xml: &str, limit: Duration) -> Reply {
    let bus = match timeout(GREETING.min(limit), Connection::system()).await {
        Ok(Ok(bus)) => bus,
        Ok(Err(error)) => return Reply::Unreachable(error.to_string()),
        Err(_) => return Reply::Unreachable("the bus does not answer".into()),
    };
    match timeout(limit, called(&bus, xml)).await {
        Ok(Ok(reply)) => match reply.body().deserialize::<(String, String)>() {
            Ok((completed, _)) => Reply::Done(completed),
            Err(error) => Reply::Foreign(error.to_string()),
        },
        Ok(Err(error)) => match replied(&error) {
            Some((name, text)) => sorted(&name, text, limit),
            None => Reply::Unreachable(error.to_string()),
        },
        Err(_) => Reply::Late(limit),
    }
}

/// Makes the call, and repeats it when it got no answer: it only reads.
async fn called(bus: &Connection, xml: &str) -> zbus::Result<Message> {
    let interface = Some(MANAGER_INTERFACE);
    again(Effect::Reads, async || {
        let options: HashMap<&str, Variant<'_>> = HashMap::new();
        let body = (xml, options);
        bus.call_method(Some(SERVICE), MANAGER, interface, "PrepareXml", &body)
            .await
    })
    .await
}

/// An error from the agent is its answer; any other error means that no agent answered.
fn sorted(name: &str, text: Option<String>, limit: Duration) -> Reply {
    let words = text.clone().unwrap_or_else(|| name.to_owned());
    match name {
        _ if name.starts_with(ERROR) => Reply::Refused(words),
        NO_REPLY => Reply::Broken,
        FULL => Reply::Full(words),
        _ if LATE.contains(&name) => Reply::Late(limit),
        _ if UNKNOWN.contains(&name) => Reply::Foreign(words),
        _ => Reply::Unreachable(text.map_or(words, |text| format!("{name}: {text}"))),
    }
}
