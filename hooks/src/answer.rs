//! What the hook tells libvirt: exit status, output and one sentence.
//!
//! | guest | agent's reply | at prepare, start, migrate, restore | elsewhere |
//! |---|---|---|---|
//! | any | done | pass | pass |
//! | any | refused, late, broken, the bus is full | refuse | pass, with the sentence |
//! | marked | unreachable, of another version, or the XML unreadable | refuse, say what to do | pass, with the sentence |
//! | unmarked | unreachable, of another version | pass, with a warning | pass, with the sentence |
//! | unmarked | the XML is unreadable | pass: an unrelated guest | pass |
//! | any | the XML did not arrive: its mark is unknown | refuse | pass, with the sentence |
//!
//! `reconnect`, `started`, `stopped` and `release` never fail. variantd-hook(8) has each case, and a test of each.

use crate::agent::Reply;
use crate::business::Business;
use crate::call::{Call, Operation};
use crate::input::Unreadable;
use domain::printable::Printable;

/// The code of "the agent cannot be reached"; a test of the agent's knows every code that is printed.
pub const UNREACHABLE: &str = "VD-AGT-001";
/// The code of "the agent has not answered in time".
const LATE: &str = "VD-BND-045";
/// The codes of what hooks say by themselves.
const TOO_LARGE: &str = "VD-HOK-001";
const UNREADABLE: &str = "VD-HOK-002";
/// The code of "the agent is of another version".
pub const FOREIGN: &str = "VD-HOK-003";
const BROKEN: &str = "VD-HOK-004";
/// The code of "the definition did not arrive".
pub const MISSING: &str = "VD-HOK-005";
/// The code of "the hook itself was killed"; its parent process says so.
pub const KILLED: &str = "VD-HOK-006";

/// The hook's whole effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Exit status 1 instead of 0.
    pub refused: bool,
    /// Standard output; empty keeps the XML.
    pub xml: String,
    /// Standard error, which libvirt shows to whoever started the guest.
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
    business: &Business,
    xml: &str,
    reply: Reply,
) -> Answer {
    let needed = match reply {
        Reply::Done(text) => return rewritten(text, xml),
        Reply::Unreachable(_) | Reply::Foreign(_) => business.marked,
        Reply::Refused(_) | Reply::Late(_) | Reply::Broken | Reply::Full(_) => true,
    };
    Answer {
        refused: needed && operation.can_veto(),
        xml: String::new(),
        sentence: Some(sentence(call, operation, needed, &reply)),
    }
}

/// The answer for a guest whose XML cannot be read and that has the mark, or may have it: the agent is not asked.
#[must_use]
pub fn unreadable(call: &Call, operation: Operation, why: &Unreadable) -> Answer {
    let (domain, word) = (Printable(&call.domain), operation.word());
    let prepared = |reason: String| {
        format!(
            "at '{word}' the definition of '{domain}', which variantd prepared, {reason}; \
             make it smaller or correct it with 'virsh edit {domain}'"
        )
    };
    let sentence = match why {
        Unreadable::TooLarge(size) => {
            prepared(format!("has {size} bytes, over 1 MiB ({TOO_LARGE})"))
        }
        Unreadable::Malformed(why) => {
            prepared(format!("cannot be read: {} ({UNREADABLE})", one_line(why)))
        }
        Unreadable::Missing(why) => format!(
            "at '{word}' the definition of '{domain}' did not arrive on the hook's standard input: {} ({MISSING}); \
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
            "variantd did not answer within {} s at '{word}' of '{domain}' ({LATE}); \
             see 'journalctl -u variantd'",
            limit.as_secs()
        ),
        Reply::Broken => format!(
            "variantd ended before it answered at '{word}' of '{domain}' ({BROKEN}); \
             see 'journalctl -u variantd', then try again"
        ),
        Reply::Full(why) => format!(
            "the system bus has no room for a call of variantd at '{word}' of '{domain}': {} ({UNREACHABLE}); try again",
            one_line(why)
        ),
        Reply::Foreign(why) if needed => format!(
            "variantd, which prepared '{domain}', is of another version than its hook: {} ({FOREIGN}); \
             end the upgrade with 'systemctl restart variantd'",
            one_line(why)
        ),
        Reply::Foreign(why) => format!(
            "warning: variantd is of another version than its hook, so the devices of '{domain}' are not checked: \
             {} ({FOREIGN}); end the upgrade with 'systemctl restart variantd'",
            one_line(why)
        ),
        Reply::Unreachable(why) if needed => format!(
            "variantd, which prepared '{domain}', is not running: {} ({UNREACHABLE}); \
             start it with 'systemctl start variantd'",
            one_line(why)
        ),
        Reply::Unreachable(why) => format!(
            "warning: variantd is not running, so the devices of '{domain}' are not checked: {} ({UNREACHABLE}); \
             start it with 'systemctl start variantd'",
            one_line(why)
        ),
    }
}

/// libvirt puts all of standard error into one message; systemd and the bus end theirs with a stop. The words are of the caller's
/// XML, too, and end on a terminal.
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

    const MARKED: Business = Business {
        marked: true,
        device: true,
        unlisted: None,
        journalled: false,
        unreadable: None,
    };
    const UNMARKED: Business = Business {
        marked: false,
        device: true,
        unlisted: None,
        journalled: false,
        unreadable: None,
    };

    fn answer_to(operation: Operation, business: &Business, reply: Reply) -> Answer {
        let call = Call {
            domain: "d0".into(),
            operation: Some(operation),
            extra: "-".into(),
        };
        answer(&call, operation, business, "<domain/>", reply)
    }

    #[test]
    fn a_refusal_reaches_libvirt_as_one_line() {
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
    fn control_characters_of_a_refusal_and_of_a_name_do_not_reach_a_terminal() {
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
    fn a_late_agent_is_said_with_the_time_that_it_had() {
        let late = Reply::Late(Duration::from_secs(607));
        let answer = answer_to(Operation::Prepare, &UNMARKED, late);
        let sentence = answer.sentence.expect("sentence");
        assert!(answer.refused);
        assert_eq!(
            sentence,
            "variantd did not answer within 607 s at 'prepare' of 'd0' (VD-BND-045); see 'journalctl -u variantd'"
        );
    }

    #[test]
    fn nothing_makes_reconnect_release_or_stopped_fail() {
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
    fn without_the_agent_only_a_marked_guest_stays_down() {
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
    fn an_unchanged_domain_is_not_written() {
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
