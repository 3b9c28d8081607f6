//! The hook's answer to libvirt: exit status, output and one sentence.
//!
//! | guest | agent's reply | at prepare, start, migrate, restore | elsewhere |
//! |---|---|---|---|
//! | any | done | pass | pass |
//! | any | refused, late, broken, no bus quota | refuse | pass, with the sentence |
//! | marked | unreachable, of another version, or the XML unreadable | refuse, say what to do | pass, with the sentence |
//! | unmarked | unreachable, of another version | pass, with a warning | pass, with the sentence |
//! | unmarked | the XML is unreadable | pass: an unrelated guest | pass |
//! | any | the XML did not arrive: its mark is unknown | refuse | pass, with the sentence |
//!
//! `reconnect`, `started`, `stopped` and `release` never fail. variantd-hook(8) lists each case, and a test checks each.

use crate::agent::Reply;
use crate::call::{Call, Operation};
use crate::input::Unreadable;
use crate::relevance::Relevance;
use domain::printable::Printable;

/// The code of "the agent cannot be reached"; a test checks that each printed code is in the table.
pub const UNREACHABLE: &str = "VD-AGT-001";
/// The code of "the agent has not answered in time".
const LATE: &str = "VD-BND-045";
/// The code of "the definition is too large".
pub const TOO_LARGE: &str = "VD-HOK-001";
/// The code of "the definition cannot be read".
const UNREADABLE: &str = "VD-HOK-002";
/// The code of "the agent is of another version".
pub const FOREIGN: &str = "VD-HOK-003";
const BROKEN: &str = "VD-HOK-004";
/// The code of "the definition did not arrive".
pub const MISSING: &str = "VD-HOK-005";
/// The code of "the hook itself was killed"; a signal handler or its parent process says so.
pub const KILLED: &str = "VD-HOK-006";

/// The hook's whole effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Exit status 1 instead of 0.
    pub refused: bool,
    /// Standard output; empty keeps the XML.
    pub xml: String,
    /// Standard error, which libvirt shows to the client that started the guest.
    pub sentence: Option<String>,
}

impl Answer {
    /// Exit 0, say nothing.
    #[must_use]
    pub fn pass() -> Self {
        Self::default()
    }
}

/// Turns the agent's reply about a guest's `xml` into the answer.
#[must_use]
pub fn answer(
    call: &Call,
    operation: Operation,
    relevance: &Relevance,
    xml: &str,
    reply: Reply,
) -> Answer {
    let needed = match reply {
        Reply::Done(text) => return rewritten(text, xml),
        Reply::Unreachable(_) | Reply::Foreign(_) => relevance.marked,
        Reply::Refused(_) | Reply::Late(_) | Reply::Broken | Reply::Full(_) => true,
    };
    Answer {
        refused: needed && operation.can_veto(),
        xml: String::new(),
        sentence: Some(sentence(call, operation, needed, &reply)),
    }
}

/// The answer for a guest with an unreadable XML that has the mark, or may have it: the hook does not call the agent.
#[must_use]
pub fn unreadable(call: &Call, operation: Operation, why: &Unreadable) -> Answer {
    let (domain, word) = (Printable(&call.domain), operation.word());
    let prepared = |reason: String| {
        format!(
            "'{word}' of '{domain}': its definition, which variantd prepared, {reason}; \
             make it smaller or correct it with 'virsh edit {domain}'"
        )
    };
    let sentence = match why {
        Unreadable::TooLarge(size) => {
            prepared(format!("has {size} bytes, more than 1 MiB ({TOO_LARGE})"))
        }
        Unreadable::Malformed(why) => {
            prepared(format!("cannot be read: {} ({UNREADABLE})", one_line(why)))
        }
        Unreadable::Missing(why) => format!(
            "'{word}' of '{domain}': its definition did not arrive on the hook's standard input: {} ({MISSING}); \
             see the log of libvirt's daemon, then try again",
            one_line(why)
        ),
    };
    Answer {
        refused: operation.can_veto(),
        xml: String::new(),
        sentence: Some(sentence),
    }
}

fn rewritten(text: String, xml: &str) -> Answer {
    let unchanged = text == xml;
    Answer {
        // libvirt parses and checks a text that it gets, and takes empty output as unchanged.
        xml: if unchanged { String::new() } else { text },
        ..Answer::pass()
    }
}

fn sentence(call: &Call, operation: Operation, needed: bool, reply: &Reply) -> String {
    let (domain, word) = (Printable(&call.domain), operation.word());
    match reply {
        Reply::Done(_) => String::new(),
        Reply::Refused(text) => one_line(text),
        Reply::Late(limit) => format!(
            "'{word}' of '{domain}': variantd did not answer within {} s ({LATE}); \
             see 'journalctl -u variantd'",
            limit.as_secs()
        ),
        Reply::Broken => format!(
            "'{word}' of '{domain}': variantd ended before it answered ({BROKEN}); \
             see 'journalctl -u variantd', then try again"
        ),
        Reply::Full(why) => format!(
            "'{word}' of '{domain}': the system bus has no quota left for a call of variantd: {} ({UNREACHABLE}); try again",
            one_line(why)
        ),
        Reply::Foreign(why) if needed => format!(
            "'{word}' of '{domain}', which variantd prepared: hook and agent versions differ: {} ({FOREIGN}); \
             finish the upgrade with 'systemctl restart variantd'",
            one_line(why)
        ),
        Reply::Foreign(why) => format!(
            "warning: the devices of '{domain}' are not checked: hook and agent versions differ: \
             {} ({FOREIGN}); finish the upgrade with 'systemctl restart variantd'",
            one_line(why)
        ),
        Reply::Unreachable(why) if needed => format!(
            "'{word}' of '{domain}', which variantd prepared: variantd is not running: {} ({UNREACHABLE}); \
             start it with 'systemctl start variantd'",
            one_line(why)
        ),
        Reply::Unreachable(why) => format!(
            "warning: the devices of '{domain}' are not checked: variantd is not running: {} ({UNREACHABLE}); \
             start it with 'systemctl start variantd'",
            one_line(why)
        ),
    }
}

/// libvirt puts all of standard error into one message; systemd and the bus end theirs with a full stop. Parts of the text are from
/// the caller's XML, and a terminal prints it.
#[must_use]
pub fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    Printable(line.trim_end_matches('.')).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MARKED: Relevance = Relevance {
        marked: true,
        device: true,
        absent: false,
        unlisted: None,
        journalled: false,
        unreadable: None,
    };
    const UNMARKED: Relevance = Relevance {
        marked: false,
        device: true,
        absent: false,
        unlisted: None,
        journalled: false,
        unreadable: None,
    };

    fn answer_to(operation: Operation, relevance: &Relevance, reply: Reply) -> Answer {
        let call = Call {
            domain: "d0".into(),
            operation: Some(operation),
            extra: "-".into(),
        };
        answer(&call, operation, relevance, "<domain/>", reply)
    }

    #[test]
    fn refusal_is_one_line() {
        let reply = Reply::Refused("'0009:01:00.0': held by\n nvidia-persistenced".into());
        let answer = answer_to(Operation::Prepare, &UNMARKED, reply);
        let sentence = answer.sentence.as_deref();
        assert!(answer.refused);
        assert_eq!(
            sentence,
            Some("'0009:01:00.0': held by nvidia-persistenced")
        );
    }

    #[test]
    fn answer_escapes_control_characters_of_refusals_and_names() {
        let reply = Reply::Refused("'\u{9b}31m': \u{1b}[2J no \u{202e}".into());
        let sentence = answer_to(Operation::Prepare, &UNMARKED, reply).sentence;
        let wanted = "'\\u{9b}31m': \\u{1b}[2J no \\u{202e}";
        assert_eq!(sentence.as_deref(), Some(wanted));
        let call = Call {
            domain: "d\u{9b}0\n".into(),
            operation: Some(Operation::Prepare),
            extra: "-".into(),
        };
        let answer = answer(&call, Operation::Prepare, &MARKED, "", Reply::Broken);
        let sentence = answer.sentence.expect("a sentence");
        assert!(sentence.contains(r"'d\u{9b}0\u{a}'"), "{sentence}");
    }

    #[test]
    fn late_answer_names_the_timeout() {
        let late = Reply::Late(Duration::from_secs(607));
        let answer = answer_to(Operation::Prepare, &UNMARKED, late);
        let sentence = answer.sentence.expect("sentence");
        assert!(answer.refused);
        assert_eq!(
            sentence,
            "'prepare' of 'd0': variantd did not answer within 607 s (VD-BND-045); see 'journalctl -u variantd'"
        );
    }

    #[test]
    fn reconnect_release_and_stopped_never_fail() {
        for operation in [
            Operation::Reconnect,
            Operation::Release,
            Operation::Stopped,
            Operation::Started,
        ] {
            for reply in [
                Reply::Refused("no".into()),
                Reply::Unreachable("gone".into()),
                Reply::Late(Duration::from_secs(20)),
                Reply::Broken,
                Reply::Full("no room".into()),
                Reply::Foreign("no such method".into()),
            ] {
                assert!(!answer_to(operation, &MARKED, reply).refused);
            }
        }
    }

    #[test]
    fn missing_agent_stops_only_a_marked_guest() {
        let gone = || Reply::Unreachable("no such name".into());
        let marked = answer_to(Operation::Prepare, &MARKED, gone());
        let unmarked = answer_to(Operation::Prepare, &UNMARKED, gone());
        assert!(marked.refused && !unmarked.refused);
        for answer in [marked, unmarked] {
            let sentence = answer.sentence.expect("sentence");
            assert!(sentence.contains("systemctl start variantd"), "{sentence}");
            assert!(
                sentence.contains("no such name (VD-AGT-001); "),
                "{sentence}"
            );
        }
    }

    #[test]
    fn unchanged_domain_is_not_written() {
        let same = answer_to(Operation::Restore, &MARKED, Reply::Done("<domain/>".into()));
        assert_eq!(same, Answer::pass());
        let other = answer_to(
            Operation::Restore,
            &MARKED,
            Reply::Done("<domain a='1'/>".into()),
        );
        assert_eq!(other.xml, "<domain a='1'/>");
    }
}
