//! Calls of `org.variantd1` over the system bus, with a deadline: for programs whose user may not connect to the hook's socket.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use api::again::{Effect, FULL, NO_REPLY, again, replied};
use api::name::{ERROR, MANAGER, MANAGER_INTERFACE, SERVICE};
use api::refused::Kind;
use hooks::agent::Reply;
use hooks::answer::{FOREIGN, UNREACHABLE, one_line};
use serde::Serialize;
use tokio::runtime;
use tokio::time::timeout;
use zbus::{Connection, Message, Type, Variant};

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

/// Options of a call: none.
type Options<'a> = HashMap<&'a str, Variant<'a>>;

/// Has the agent complete the definition of a new guest, within `limit`.
#[must_use]
pub fn complete(xml: &str, limit: Duration) -> Reply {
    let body = (xml, Options::new());
    match called("PrepareXml", &body, limit) {
        Ok(reply) => completed(&reply),
        Err(fault) => fault.reply,
    }
}

/// What an attach changes: libvirt's `virDomainModificationImpact`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affects {
    /// `VIR_DOMAIN_AFFECT_LIVE`.
    pub live: bool,
    /// `VIR_DOMAIN_AFFECT_CONFIG`.
    pub config: bool,
}

/// Has the agent complete a device that is to be attached to the domain of this name or UUID, within `limit`; unchanged if the agent
/// does not know the domain.
#[must_use]
pub fn attach(domain: &str, xml: &str, affects: Affects, limit: Duration) -> Reply {
    let Affects { live, config } = affects;
    let options = [("live", live), ("config", config)].into_iter();
    // Only options that are set: an agent of an earlier version refuses unknown ones.
    let options = options.filter(|(_, given)| *given);
    let options: Options<'_> = options.map(|(key, given)| (key, given.into())).collect();
    let body = (domain, xml, options);
    match called("PrepareDevice", &body, limit) {
        Ok(reply) => completed(&reply),
        Err(Fault {
            kind: Some(Kind::NotFound),
            ..
        }) => Reply::Done(xml.to_owned()),
        Err(fault) => fault.reply,
    }
}

/// A guest whose libvirt is not this host's.
#[derive(Clone, Copy, Debug)]
pub struct OfGuest<'a> {
    /// Its UUID in the management system.
    pub uuid: &'a str,
    /// Its name there.
    pub name: &'a str,
}

/// Has the agent bind the devices of a guest that is about to start, within `limit`.
#[must_use]
pub fn bind_guest(guest: OfGuest<'_>, devices: &[String], limit: Duration) -> Reply {
    let body = (guest.uuid, guest.name, devices, Options::new());
    done(called("BindGuest", &body, limit))
}

/// Has the agent release the devices that [`bind_guest`] bound, within `limit`.
#[must_use]
pub fn release_guest(guest: OfGuest<'_>, limit: Duration) -> Reply {
    done(called("ReleaseGuest", &(guest.uuid, Options::new()), limit))
}

fn done(answer: Result<Message, Fault>) -> Reply {
    answer.map_or_else(|fault| fault.reply, |_| Reply::Done(String::new()))
}

fn completed(reply: &Message) -> Reply {
    match reply.body().deserialize::<(String, String)>() {
        Ok((completed, _)) => Reply::Done(completed),
        Err(error) => Reply::Foreign(error.to_string()),
    }
}

/// A call without an answer, or with an error of the agent.
struct Fault {
    /// The kind of the agent's error.
    kind: Option<Kind>,
    reply: Reply,
}

impl From<Reply> for Fault {
    fn from(reply: Reply) -> Self {
        Self { kind: None, reply }
    }
}

/// Waits until the agent has no change of this domain pending, at most `limit`. For a user who may complete definitions the agent
/// completes this one, if it is out of date; for another user it only waits.
#[must_use]
pub fn settle(domain: &str, limit: Duration) -> Reply {
    let began = Instant::now();
    let waited = match waited("Wait", domain, limit) {
        Err(fault) if fault.kind == Some(Kind::NotAuthorized) => {
            waited("WaitPending", domain, limit.saturating_sub(began.elapsed()))
        }
        waited => waited,
    };
    done(waited)
}

fn waited(method: &str, domain: &str, limit: Duration) -> Result<Message, Fault> {
    let milliseconds = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
    called(method, &(domain, milliseconds, Options::new()), limit)
}

/// The message of a definition that was not completed, as one line.
#[must_use]
pub fn failure(reply: &Reply) -> String {
    failure_of(reply, "complete the guest")
}

/// The message of `work` that was not done, as one line.
#[must_use]
pub fn failure_of(reply: &Reply, work: &str) -> String {
    match reply {
        Reply::Done(_) => String::new(),
        Reply::Refused(text) => one_line(text),
        Reply::Unreachable(why) => format!(
            "cannot {work}: variantd is not running: {} ({UNREACHABLE}); start it with \
                 'systemctl start variantd'",
            one_line(why)
        ),
        Reply::Foreign(why) => format!(
            "cannot {work}: hook and agent versions differ: {} ({FOREIGN}); finish the upgrade with \
                 'systemctl restart variantd'",
            one_line(why)
        ),
        Reply::Full(why) => format!(
            "cannot {work}: the system bus has no quota left for a call of variantd: {} ({UNREACHABLE}); \
                 try again",
            one_line(why)
        ),
        Reply::Late(_) | Reply::Broken => {
            format!(
                "cannot {work}: variantd did not answer; see 'journalctl -u variantd', then try again"
            )
        }
    }
}

fn called<B: Serialize + Type>(method: &str, body: &B, limit: Duration) -> Result<Message, Fault> {
    // A runtime for each call: the callers are programs without one, and a call may come from any thread.
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(asked(method, body, limit)),
        Err(error) => Err(Reply::Unreachable(error.to_string()).into()),
    }
}

async fn asked<B: Serialize + Type>(
    method: &str,
    body: &B,
    limit: Duration,
) -> Result<Message, Fault> {
    let bus = match timeout(GREETING.min(limit), Connection::system()).await {
        Ok(Ok(bus)) => bus,
        Ok(Err(error)) => return Err(Reply::Unreachable(error.to_string()).into()),
        Err(_) => return Err(Reply::Unreachable("the bus does not answer".into()).into()),
    };
    // All these methods can be repeated when they got no answer: they read, wait, or change nothing the second time.
    let call = again(Effect::Reads, async || {
        let interface = Some(MANAGER_INTERFACE);
        bus.call_method(Some(SERVICE), MANAGER, interface, method, body)
            .await
    });
    match timeout(limit, call).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) => Err(match replied(&error) {
            Some((name, text)) => Fault {
                kind: Kind::of_name(&name).map(|(kind, _)| kind),
                reply: sorted(&name, text, limit),
            },
            None => Reply::Unreachable(error.to_string()).into(),
        }),
        Err(_) => Err(Reply::Late(limit).into()),
    }
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
