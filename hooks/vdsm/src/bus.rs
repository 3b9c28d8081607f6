//! `PrepareXml` of `org.variantd1` over the system bus, with a deadline: VDSM's user may not connect to the hook's socket.

use std::collections::HashMap;
use std::time::Duration;

use hooks::again::{Effect, FULL, NO_REPLY, PAUSES};
use hooks::agent::Reply;
use tokio::runtime;
use tokio::time::{sleep, timeout};
use zbus::{Connection, DBusError, Message, Variant};

/// How long the bus may take until it has greeted us.
const GREETING: Duration = Duration::from_secs(5);

const NAME: &str = "org.variantd1";
/// What every error of the agent's own begins with.
const OURS: &str = "org.variantd1.";
/// The bus's errors for one that is late.
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

/// Has the definition of a guest that is about to be made completed, and waits no longer than `limit`.
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
        Ok(Err(error)) => match named(&error) {
            Some((name, text)) => sorted(&name, text, limit),
            None => Reply::Unreachable(error.to_string()),
        },
        Err(_) => Reply::Late(limit),
    }
}

/// Makes the call, and makes it again where it got no answer: it only reads.
async fn called(bus: &Connection, xml: &str) -> zbus::Result<Message> {
    let interface = Some("org.variantd1.Manager");
    let call = async || {
        let options: HashMap<&str, Variant<'_>> = HashMap::new();
        let body = (xml, options);
        bus.call_method(Some(NAME), "/org/variantd1", interface, "PrepareXml", &body)
            .await
    };
    for pause in PAUSES {
        match call().await {
            Err(error) if is_made_again(&error) => sleep(pause).await,
            other => return other,
        }
    }
    call().await
}

fn is_made_again(error: &zbus::Error) -> bool {
    named(error).is_some_and(|(name, _)| Effect::Reads.allows_another(&name))
}

/// Name and text of an error that came as a reply; zbus has types of its own for those of the bus.
fn named(error: &zbus::Error) -> Option<(String, Option<String>)> {
    match error {
        zbus::Error::MethodError(name, text, _) => Some((name.to_string(), text.clone())),
        zbus::Error::FDO(error) => {
            let text = error.description().map(str::to_owned);
            Some((error.name().to_string(), text))
        }
        _ => None,
    }
}

/// An error that the agent sent is its answer; any other means that there is no agent.
fn sorted(name: &str, text: Option<String>, limit: Duration) -> Reply {
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
