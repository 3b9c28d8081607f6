//! `variantctl monitor`: prints a line for each event of devices, domains and jobs, until Ctrl-C.

use std::io::{self, Write};

use ::domain::printable::Printable;
use api::again::{Effect, again};
use api::client::next;
use api::name::{JOB_INTERFACE, MANAGER, SERVICE};
use tokio::signal::ctrl_c;
use zbus::fdo::{NameOwnerChanged, ObjectManagerProxy, PropertiesProxy};
use zbus::message::Type;
use zbus::names::InterfaceName;
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath};

use event::Event;

use super::domain;
use super::output;
use super::problem::Problem;

mod event;

/// Why the verb ends.
enum End {
    /// The user pressed Ctrl-C.
    Wanted,
    Failed(Problem),
}

/// Prints events until Ctrl-C, also when the agent ends and when it is back.
pub(super) fn run(as_json: bool) -> Result<(), Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Problem::Failed(format!("cannot start: {error}")))?;
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = follow(as_json) => ended,
            _ = ctrl_c() => Ok(()),
        }
    });
    match ended {
        Ok(()) | Err(End::Wanted) => Ok(()),
        Err(End::Failed(problem)) => Err(problem),
    }
}

async fn follow(as_json: bool) -> Result<(), End> {
    let bus = Connection::system().await?;
    // Both subscriptions come before the first read of the state, so that no change between them is lost.
    let signals = MatchRule::builder().msg_type(Type::Signal).sender(SERVICE);
    let mut signals = stream(&bus, signals.build()?).await?;
    let owners = MatchRule::builder().msg_type(Type::Signal);
    let owners = owners
        .sender("org.freedesktop.DBus")
        .member("NameOwnerChanged");
    let mut owners = stream(&bus, owners.add_arg(SERVICE).build()?).await?;
    show_all(&bus, as_json).await?;
    loop {
        let event = tokio::select! {
            signal = next(&mut signals) => {
                let signal = signal.ok_or_else(closed)??;
                match Event::job_of(&signal) {
                    Some(job) => look(&bus, job).await,
                    None => Event::of_signal(&signal),
                }
            }
            owner = next(&mut owners) => {
                let message = owner.ok_or_else(closed)??;
                let Some(change) = NameOwnerChanged::from_message(message) else { continue };
                let is_back = change.args()?.new_owner().is_some();
                // A new agent sends signals for changes only, and not for the state that it starts with.
                if is_back {
                    show_all(&bus, as_json).await?;
                }
                Some(Event::of_agent(is_back))
            }
        };
        if let Some(event) = event {
            print(&event, as_json)?;
        }
    }
}

async fn stream(bus: &Connection, rule: MatchRule<'_>) -> Result<MessageStream, End> {
    Ok(MessageStream::for_match_rule(rule, bus, None).await?)
}

/// Reads a job's properties. Its signals only say that it changed; only its owner and root may read the properties.
async fn look(bus: &Connection, job: OwnedObjectPath) -> Option<Event> {
    let properties = PropertiesProxy::builder(bus)
        .destination(SERVICE)
        .path(&job);
    let properties = properties.build().await.ok()?;
    let job_interface = InterfaceName::try_from(JOB_INTERFACE).ok()?;
    let all = properties.get_all(job_interface).await.ok()?;
    Event::of_job(&job, &all)
}

/// The state before the first event.
async fn show_all(bus: &Connection, as_json: bool) -> Result<(), End> {
    let objects = ObjectManagerProxy::builder(bus)
        .path(MANAGER)
        .destination(SERVICE);
    let objects = objects.build().await?;
    let listed = again(Effect::Reads, async || {
        Ok(objects.get_managed_objects().await?)
    });
    let objects = listed.await?;
    let mut events: Vec<Event> = objects
        .iter()
        .filter_map(|(path, interfaces)| Event::of_object(path, interfaces))
        .collect();
    events.sort_by(|one, other| one.subject().cmp(&other.subject()));
    events.iter().try_for_each(|event| print(event, as_json))
}

fn print(event: &Event, as_json: bool) -> Result<(), End> {
    let line = match as_json {
        true => output::escaped(&event.to_json().to_string()),
        false => Printable(&event.to_string()).to_string(),
    };
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{line}").and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => End::Wanted,
        _ => End::Failed(Problem::Failed(format!(
            "cannot write to standard output: {error}"
        ))),
    })
}

fn closed() -> End {
    End::Failed(Problem::Unreachable(
        "the system bus has closed the connection".into(),
    ))
}

impl From<zbus::Error> for End {
    fn from(error: zbus::Error) -> Self {
        Self::Failed(domain::problem(error.into()))
    }
}
