//! Asks libvirt in a process of its own, with a deadline: `variantctl` asks seldom, and loading libvirt's libraries
//! takes longer than all else it does.

use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use kernel_glue::address::PciAddress;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::libvirt::{Found, Look, LookError};
use crate::program;

/// The program that asks.
pub const PROGRAM: &str = "variantd-libvirt";
/// Bytes of the longest question: a definition of 1 MiB, escaped.
const LONGEST: u64 = 8 << 20;
/// Bytes of its standard error that are shown.
const COMPLAINT: u64 = 1 << 10;

/// What is asked, as JSON on the program's standard input.
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
    /// One domain, with what planning for it asks of libvirt.
    Definition {
        /// See above.
        uri: String,
        /// The domain's name or UUID.
        name: String,
        /// A device for which the live XML is wanted where the definition does not have it.
        device: Option<PciAddress>,
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
        /// It is left paused.
        paused: bool,
    },
}

/// What libvirt says; see [`crate::libvirt::look`].
///
/// # Errors
/// libvirt's words, or [`LookError::Late`].
pub fn look(uri: &str, devices: Vec<PciAddress>, limit: Duration) -> Result<Look, LookError> {
    let uri = uri.to_owned();
    ask(&Question::Look { uri, devices }, Some(limit))
}

/// A domain's definition, with what planning for it asks of libvirt; see [`crate::libvirt::definition`].
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

/// Creates a transient guest, and waits for as long as its start takes; see [`crate::libvirt::create`].
///
/// # Errors
/// libvirt's words, the hook's refusal among them.
pub fn create(uri: &str, xml: &str, paused: bool) -> Result<String, LookError> {
    let (uri, xml) = (uri.to_owned(), xml.to_owned());
    ask(&Question::Create { uri, xml, paused }, None)
}

/// The program's side: one question, and the answer of `reply` on standard output.
pub fn serve(reply: impl FnOnce(Question) -> serde_json::Result<Vec<u8>>) -> ExitCode {
    let mut text = String::new();
    let read = io::stdin().take(LONGEST).read_to_string(&mut text);
    let question = read.ok().and_then(|_| serde_json::from_str(&text).ok());
    let Some(question) = question else {
        eprintln!("{PROGRAM}: this is variantctl's own; people use 'variantctl' and 'virsh'");
        return ExitCode::from(2);
    };
    let answer = reply(question).map_err(io::Error::from);
    match answer.and_then(|bytes| io::stdout().write_all(&bytes)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn ask<T: DeserializeOwned + Send + 'static>(
    question: &Question,
    limit: Option<Duration>,
) -> Result<T, LookError> {
    let program = program::find(PROGRAM).map_err(broken)?;
    answered(Command::new(program), question, limit)
}

fn answered<T: DeserializeOwned + Send + 'static>(
    mut command: Command,
    question: &Question,
    limit: Option<Duration>,
) -> Result<T, LookError> {
    let text = serde_json::to_vec(question).map_err(broken)?;
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.stderr(Stdio::piped()).spawn().map_err(broken)?;
    let (send, receive) = mpsc::channel();
    let (input, output, complaint) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::spawn(move || send.send(exchange(input, output, complaint, &text)));
    let read = match limit {
        Some(limit) => receive.recv_timeout(limit),
        None => receive.recv().map_err(mpsc::RecvTimeoutError::from),
    };
    end(&mut child, read.is_err());
    let late = |_| LookError::Late(limit.unwrap_or_default().as_secs());
    let (answer, complaint) = read.map_err(late)?.map_err(broken)?;
    let unread = |_| LookError::Broken(format!("'{PROGRAM}' ended without an answer{complaint}"));
    serde_json::from_slice::<Result<T, LookError>>(&answer).map_err(unread)?
}

/// The answer, and what was on standard error, such as the words of the dynamic loader where libvirt's library is not installed.
fn exchange(
    input: Option<impl Write>,
    output: Option<impl Read>,
    complaint: Option<impl Read>,
    question: &[u8],
) -> io::Result<(Vec<u8>, String)> {
    let (Some(mut input), Some(mut output)) = (input, output) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    // A program that cannot run reads nothing.
    let _ = input.write_all(question);
    drop(input);
    let (mut answer, mut words) = (Vec::new(), Vec::new());
    output.read_to_end(&mut answer)?;
    if let Some(complaint) = complaint {
        complaint.take(COMPLAINT).read_to_end(&mut words)?;
    }
    let words = String::from_utf8_lossy(&words);
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(match words.is_empty() {
        true => (answer, words),
        false => (answer, format!(": {words}")),
    })
}

/// One that is late only reads, and holds nothing.
fn end(child: &mut Child, late: bool) {
    if late {
        let _ = child.kill();
    }
    let _ = child.wait();
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
    fn an_answer_is_read_and_an_error_is_one() {
        let names = says(r#"cat >/dev/null; echo '{"Ok":["a","b"]}'"#, 20);
        assert_eq!(names, Ok(vec!["a".to_owned(), "b".to_owned()]));
        let denied = says(r#"cat >/dev/null; echo '{"Err":{"denied":"no"}}'"#, 20);
        assert_eq!(denied, Err(LookError::Denied("no".to_owned())));
    }

    #[test]
    fn a_program_that_hangs_is_ended_and_one_that_breaks_is_not_libvirts_silence() {
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
        let Err(LookError::Broken(why)) = unloaded else {
            unreachable!("{unloaded:?}");
        };
        assert!(
            why.ends_with("ended without an answer: libvirt.so.0: cannot open"),
            "{why}"
        );
    }
}
