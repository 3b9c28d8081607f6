//! One call of the agent for one run of the hook, and its outcome.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::call::{Call, Operation};
use crate::exchange::{Fault, exchange};
use crate::protocol::{self, Arguments, MethodCall, MethodReply, SOCKET};

pub use crate::exchange::Limits;

/// The time limit for the next reply, and for each whole operation but `prepare`: after `release` the agent continues in the
/// background, and libvirt does not wait.
const SILENCE: Duration = Duration::from_secs(20);
/// The time limit for `prepare` with any number of progress replies; the agent needs less for each start.
const LONGEST: Duration = Duration::from_secs(1500);

/// Attempts to send a call that an ending agent has not read; the next agent serves the same socket.
const TRIES: usize = 3;
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// The errors of an agent of another version.
const UNKNOWN: [&str; 4] = [
    protocol::INTERFACE_NOT_FOUND,
    protocol::METHOD_NOT_FOUND,
    protocol::METHOD_NOT_IMPLEMENTED,
    protocol::INVALID_PARAMETER,
];

/// The outcome of a call of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done; for a rewriting operation the new XML, empty when unchanged.
    Done(String),
    /// The agent refused or failed: its message.
    Refused(String),
    /// No agent answered the call: why.
    Unreachable(String),
    /// The bus refused each attempt for lack of quota (VDSM's hook): why.
    Full(String),
    /// The agent did not answer within this time.
    Late(Duration),
    /// The agent read the call and ended.
    Broken,
    /// An agent of another version answered that it does not know the call.
    Foreign(String),
}

impl Limits {
    /// For an operation.
    #[must_use]
    pub fn of(operation: Operation) -> Self {
        let total = match operation {
            Operation::Prepare => LONGEST,
            _ => SILENCE,
        };
        Self {
            silence: SILENCE,
            total,
        }
    }

    /// The same limit for all.
    #[must_use]
    pub fn within(limit: Duration) -> Self {
        Self {
            silence: limit,
            total: limit,
        }
    }
}

/// Calls the agent of the run directory `run` for `operation`.
#[must_use]
pub fn call(call: &Call, operation: Operation, xml: &str, run: &Path, limits: Limits) -> Reply {
    let message = MethodCall {
        method: protocol::RUN.into(),
        parameters: Arguments {
            operation: Some(operation.word().into()),
            sub: Some(operation.sub().into()),
            domain: Some(call.domain.as_str().into()),
            extra: Some(call.extra.as_str().into()),
            xml: Some(xml.into()),
            ..Arguments::default()
        },
        more: true,
        ..MethodCall::default()
    };
    let message = match protocol::encoded(&message) {
        Ok(message) => message,
        Err(error) => return Reply::Unreachable(error.to_string()),
    };
    match exchanged(&run.join(SOCKET), &message, limits) {
        Ok(reply) => reply.into(),
        Err(Fault::Unreachable(why)) => Reply::Unreachable(why),
        // Each attempt was closed unread: no agent behaves so while it exits, only one that does not know this protocol.
        Err(Fault::NotTaken) => {
            Reply::Foreign("it closed the connection before it read the call".into())
        }
        Err(Fault::Silent(limit)) if !is_held(run) => Reply::Unreachable(format!(
            "it did not start within {} s; see 'journalctl -u variantd'",
            limit.as_secs()
        )),
        Err(Fault::Silent(limit) | Fault::Late(limit)) => Reply::Late(limit),
        Err(Fault::Broken) => Reply::Broken,
    }
}

fn exchanged(path: &Path, message: &[u8], limits: Limits) -> Result<MethodReply, Fault> {
    for _ in 1..TRIES {
        match exchange(path, message, limits) {
            Err(Fault::NotTaken) => thread::sleep(PAUSE),
            taken => return taken,
        }
    }
    exchange(path, message, limits)
}

/// Whether an agent runs: it holds the lock of its run directory. The socket is no sign, because systemd listens on it.
fn is_held(run: &Path) -> bool {
    let tried = File::open(run).map(|directory| directory.try_lock_shared());
    matches!(tried, Ok(Err(TryLockError::WouldBlock)))
}

impl From<MethodReply> for Reply {
    /// Other errors of `org.varlink.service` count as an unreachable agent.
    fn from(reply: MethodReply) -> Self {
        let results = reply.parameters;
        match reply.error.as_deref() {
            None => Self::Done(results.xml.unwrap_or_default()),
            Some(error) if UNKNOWN.contains(&error) => {
                let what = [results.interface, results.method, results.parameter];
                let what = what.into_iter().flatten().next().unwrap_or_default();
                Self::Foreign(format!("{error} '{what}'"))
            }
            Some(error) if is_ours(error) => Self::Refused(match results.message {
                Some(_) => results.sentence(),
                None => error.to_owned(),
            }),
            Some(error) => Self::Unreachable(error.to_owned()),
        }
    }
}

fn is_ours(error: &str) -> bool {
    let rest = error.strip_prefix(protocol::INTERFACE);
    rest.is_some_and(|rest| rest.starts_with('.'))
}
