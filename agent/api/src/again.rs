//! Which calls over the bus are repeated, and when.
//!
//! A bus that has no room for a message refuses it with `LimitsExceeded` (dbus-daemon: "The maximum number of ... has been
//! reached", dbus-broker: a quota): the agent has not seen the call, so every call is made again. `NoReply` says that the agent
//! ended or that its answer was lost: only a call that changes nothing is made again.

use std::time::Duration;

use tokio::time::sleep;
use zbus::DBusError;

/// A quota of the bus is used up: for messages, connections or names.
pub const FULL: &str = "org.freedesktop.DBus.Error.LimitsExceeded";
/// The agent ended before it answered, or its answer was lost.
pub const NO_REPLY: &str = "org.freedesktop.DBus.Error.NoReply";

/// Before each further attempt, 3.15 s together: when a queue is still full then, no process reads it.
const PAUSES: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1600),
];

/// The effect of a call, which decides when it is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It only reads: it is repeated whenever it has no answer.
    Reads,
    /// It changes something: it is repeated only when the agent has not received it.
    Changes,
}

impl Effect {
    /// Whether a call that failed with this error name is repeated.
    #[must_use]
    pub fn allows_another(self, error: &str) -> bool {
        match self {
            Self::Reads => [FULL, NO_REPLY].contains(&error),
            Self::Changes => error == FULL,
        }
    }
}

/// Makes a call, and repeats it where that is safe.
///
/// # Errors
/// That of the last attempt.
pub async fn again<T>(effect: Effect, call: impl AsyncFn() -> zbus::Result<T>) -> zbus::Result<T> {
    for pause in PAUSES {
        match call().await {
            Err(error) if replied(&error).is_some_and(|(name, _)| effect.allows_another(&name)) => {
                sleep(pause).await;
            }
            other => return other,
        }
    }
    call().await
}

/// Name and text of an error that came as a reply; zbus has types of its own for those of the bus.
#[must_use]
pub fn replied(error: &zbus::Error) -> Option<(String, Option<String>)> {
    match error {
        zbus::Error::MethodError(name, text, _) => Some((name.to_string(), text.clone())),
        zbus::Error::FDO(error) => {
            let text = error.description().map(str::to_owned);
            Some((error.name().to_string(), text))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn again_repeats_only_reading_calls_that_the_agent_may_have_received() {
        assert!(Effect::Reads.allows_another(FULL) && Effect::Reads.allows_another(NO_REPLY));
        assert!(Effect::Changes.allows_another(FULL) && !Effect::Changes.allows_another(NO_REPLY));
        for effect in [Effect::Reads, Effect::Changes] {
            assert!(!effect.allows_another("org.variantd1.Error.Refused"));
            assert!(!effect.allows_another("org.freedesktop.DBus.Error.ServiceUnknown"));
        }
    }
}
