//! Calls libvirt in a helper process, with a deadline: `variantctl` seldom needs libvirt, and loading libvirt's libraries
//! takes longer than the rest of its work.

use std::process::Command;
use std::time::Duration;

use kernel_glue::address::PciAddress;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use agent::helper::{HelperError, Running};
use agent::libvirt::{Found, Look, LookError};
use agent::program;

/// The helper program.
pub const PROGRAM: &str = "variantd-libvirt";

/// A query.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// Versions, and definitions with one of the devices.
    Look {
        /// libvirt's connection URI, here and below.
        uri: String,
        /// The devices.
        devices: Vec<PciAddress>,
    },
    /// One domain, with the facts from libvirt that planning needs.
    Definition {
        /// See above.
        uri: String,
        /// The domain's name or UUID.
        name: String,
        /// A device for which the live XML is wanted where the definition does not have it.
        device: Option<PciAddress>,
    },
    /// The XML of all domains, running or not.
    Definitions {
        /// See above.
        uri: String,
    },
    /// The names of all domains that have a definition.
    Names {
        /// See above.
        uri: String,
    },
    /// Creates a transient guest.
    Create {
        /// See above.
        uri: String,
        /// Its definition.
        xml: String,
        /// The guest stays paused.
        paused: bool,
    },
}

/// libvirt's versions and definitions; see [`agent::libvirt::look`].
///
/// # Errors
/// libvirt's error, or [`LookError::Late`].
pub fn look(uri: &str, devices: Vec<PciAddress>, limit: Duration) -> Result<Look, LookError> {
    let uri = uri.to_owned();
    ask(&Question::Look { uri, devices }, Some(limit))
}

/// A domain's definition, with the facts from libvirt that planning needs; see [`agent::libvirt::definition`].
///
/// # Errors
/// As [`look`].
pub fn definition(
    uri: &str,
    name: &str,
    device: Option<PciAddress>,
    limit: Duration,
) -> Result<Option<Found>, LookError> {
    let question = Question::Definition {
        uri: uri.to_owned(),
        name: name.to_owned(),
        device,
    };
    ask(&question, Some(limit))
}

/// Names of all domains that have a definition.
///
/// # Errors
/// As [`look`].
pub fn names(uri: &str, limit: Duration) -> Result<Vec<String>, LookError> {
    let uri = uri.to_owned();
    ask(&Question::Names { uri }, Some(limit))
}

/// The XML of all domains; see [`agent::libvirt::definitions`].
///
/// # Errors
/// As [`look`].
pub fn definitions(uri: &str, limit: Duration) -> Result<Vec<String>, LookError> {
    let uri = uri.to_owned();
    ask(&Question::Definitions { uri }, Some(limit))
}

/// Creates a transient guest, and waits for as long as its start takes; see [`agent::libvirt::create`].
///
/// # Errors
/// libvirt's error, which may be the hook's refusal.
pub fn create(uri: &str, xml: &str, paused: bool) -> Result<String, LookError> {
    let (uri, xml) = (uri.to_owned(), xml.to_owned());
    ask(&Question::Create { uri, xml, paused }, None)
}

fn ask<T: DeserializeOwned + Send + 'static>(
    question: &Question,
    limit: Option<Duration>,
) -> Result<T, LookError> {
    let program = program::find(PROGRAM).map_err(broken)?;
    answered(Command::new(program), question, limit)
}

fn answered<T: DeserializeOwned + Send + 'static>(
    command: Command,
    question: &Question,
    limit: Option<Duration>,
) -> Result<T, LookError> {
    let unasked = |why: HelperError| match why {
        HelperError::Io(why) => broken(why),
        HelperError::Silent { .. } if why.is_unloaded() => {
            LookError::Unloaded(format!("'{PROGRAM}': {why}"))
        }
        HelperError::Silent { .. } => broken(format!("'{PROGRAM}': {why}")),
    };
    let running = Running::<Result<T, LookError>>::start(command, question, || {});
    let running = running.map_err(unasked)?;
    let Some(limit) = limit else {
        return running.wait().map_err(unasked)?;
    };
    match running.within(limit) {
        Some(answer) => answer.map_err(unasked)?,
        None => {
            // A call of libvirt's library cannot be cancelled.
            running.end();
            Err(LookError::Late(limit.as_secs()))
        }
    }
}

fn broken(why: impl ToString) -> LookError {
    LookError::Broken(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(script: &str, seconds: u64) -> Result<Vec<String>, LookError> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let uri = "test:///default".to_owned();
        let limit = Some(Duration::from_secs(seconds));
        answered(command, &Question::Names { uri }, limit)
    }

    #[test]
    fn inquiry_returns_answers_and_errors_of_its_helper() {
        let names = says(r#"cat >/dev/null; echo '{"Ok":["a","b"]}'"#, 20);
        assert_eq!(names, Ok(vec!["a".to_owned(), "b".to_owned()]));
        let denied = says(r#"cat >/dev/null; echo '{"Err":{"denied":"no"}}'"#, 20);
        assert_eq!(denied, Err(LookError::Denied("no".to_owned())));
    }

    #[test]
    fn inquiry_kills_a_hanging_helper_and_reports_a_broken_one() {
        assert_eq!(
            says("cat >/dev/null; exec sleep 1000", 1),
            Err(LookError::Late(1))
        );
        let broken = says("cat >/dev/null", 20);
        assert!(matches!(broken, Err(LookError::Broken(_))), "{broken:?}");
        let unloaded = says(
            "exec 0<&-; echo 'libvirt.so.0: cannot open' >&2; exit 127",
            20,
        );
        let Err(LookError::Unloaded(why)) = unloaded else {
            unreachable!("{unloaded:?}");
        };
        assert!(
            why.ends_with("exited without a reply: libvirt.so.0: cannot open"),
            "{why}"
        );
    }
}
