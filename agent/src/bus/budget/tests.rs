//! Shares of calls, bytes and unread replies.

use super::*;

const ONE: u32 = 65_534;
const OTHER: u32 = 65_533;

fn serial(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("a serial")
}

fn call(sender: &str, user: u32, number: u32, bytes: usize) -> Incoming<'_> {
    Incoming {
        sender,
        serial: serial(number),
        user,
        is_root: user == 0,
        bytes,
        is_silent: false,
    }
}

/// Answers the calls with these numbers with `length` bytes.
fn answered(budget: &mut Budget, sender: &str, number: u32, length: usize) -> Outcome {
    let outcome = budget.answer(sender, serial(number), length);
    budget.finish(sender, serial(number));
    outcome
}

#[test]
fn budget_counts_calls_per_user_across_connections() {
    let mut budget = Budget::default();
    for number in 1..=32 {
        let sender = format!(":1.{number}");
        budget.admit(call(&sender, ONE, number, 10)).expect("room");
    }
    let full = budget.admit(call(":1.99", ONE, 1, 10));
    assert_eq!(full, Err(Full::Calls));
    budget
        .admit(call(":1.100", OTHER, 1, 10))
        .expect("room of its own");
    assert_eq!(answered(&mut budget, ":1.7", 7, 100), Outcome::Send);
    budget.admit(call(":1.99", ONE, 1, 10)).expect("room again");
    // A disconnect does not free a share: the calls continue.
    for number in 1..=32 {
        budget.gone(&format!(":1.{number}"));
    }
    assert_eq!(budget.admit(call(":1.200", ONE, 1, 10)), Err(Full::Calls));
    for number in 1..=32 {
        budget.finish(&format!(":1.{number}"), serial(number));
    }
    for sender in [":1.99", ":1.100"] {
        budget.finish(sender, serial(1));
        budget.gone(sender);
    }
    budget.gone(":1.200");
    assert_eq!(budget.calls(), 0);
    assert!(budget.users.is_empty() && budget.peers.is_empty());
}

#[test]
fn root_has_a_share_of_its_own() {
    let mut budget = Budget::default();
    let mut admitted = 0;
    for user in 1000..1100 {
        let sender = format!(":1.{user}");
        for number in 1..=40 {
            let call = call(&sender, user, number, 1 << 20);
            admitted += usize::from(budget.admit(call).is_ok());
        }
    }
    assert_eq!(admitted, 32, "32 MiB of all users but root");
    for number in 1..=60 {
        budget
            .admit(call(":1.1", 0, number, 1 << 20))
            .expect("root's own");
    }
}

#[test]
fn budget_counts_bytes_like_calls() {
    let mut budget = Budget::default();
    for number in 1..=12 {
        budget
            .admit(call(":1.1", ONE, number, 1 << 20))
            .expect("room");
    }
    assert_eq!(
        budget.admit(call(":1.1", ONE, 13, 1 << 20)),
        Err(Full::Bytes)
    );
    budget.admit(call(":1.1", ONE, 14, 0)).expect("no bytes");
}

#[test]
fn caller_that_does_not_read_gets_errors_then_nothing() {
    let mut budget = Budget::default();
    let mut sent = 0;
    for number in 1..=32 {
        budget.admit(call(":1.1", ONE, number, 10)).expect("room");
    }
    for number in 1..=32 {
        sent += usize::from(answered(&mut budget, ":1.1", number, 1 << 20) == Outcome::Send);
    }
    assert_eq!(sent, 8, "8 MiB of one user");
    assert_eq!(budget.admit(call(":1.1", ONE, 40, 10)), Err(Full::Unread));
    // Nor on another connection.
    assert_eq!(budget.admit(call(":1.2", ONE, 1, 10)), Err(Full::Unread));
    budget.count_unread(":1.1", ERROR_REPLIES);
    assert_eq!(
        budget.admit(call(":1.1", ONE, 41, 10)),
        Err(Full::NotReading)
    );
    budget
        .admit(call(":1.3", OTHER, 1, 10))
        .expect("another user");
    budget.admit(call(":1.4", 0, 1, 10)).expect("root");
    budget.gone(":1.1");
    budget
        .admit(call(":1.2", ONE, 2, 10))
        .expect("the bus has dropped them");
}

#[test]
fn ping_reply_confirms_earlier_messages() {
    let mut budget = Budget::default();
    for round in 0..100 {
        let number = 2 * round + 1;
        budget.admit(call(":1.1", ONE, number, 10)).expect("room");
        assert_eq!(
            answered(&mut budget, ":1.1", number, 1 << 20),
            Outcome::Send
        );
        assert!(budget.is_to_be_asked(":1.1"));
        let ping = serial(number + 1);
        budget.asks(":1.1", ping);
        assert!(!budget.is_to_be_asked(":1.1"), "asked already");
        assert!(!budget.has_read(":1.2", ping), "the reply of another");
        assert!(!budget.has_read(":1.1", serial(9999)), "a reply to nothing");
        budget.count_unread(":1.1", 7);
        assert!(budget.has_read(":1.1", ping));
        assert_eq!(budget.peers[":1.1"].unread, 7, "came after the question");
    }
    assert_eq!(budget.pings, 0);
}

#[test]
fn unread_answers_of_a_hundred_users_stay_below_the_buss_limit() {
    let mut budget = Budget::default();
    let mut unread = 0;
    for user in 1000..1100 {
        let sender = format!(":1.{user}");
        for number in 1..=32 {
            if budget.admit(call(&sender, user, number, 10)).is_err() {
                break;
            }
            let outcome = answered(&mut budget, &sender, number, 250 << 10);
            unread += if outcome == Outcome::Send {
                250 << 10
            } else {
                0
            };
        }
    }
    assert!(unread < 127 << 20, "{unread}");
}

#[test]
fn a_call_without_a_reply_is_counted_until_it_would_have_one() {
    let mut budget = Budget::default();
    let silent = Incoming {
        is_silent: true,
        ..call(":1.1", ONE, 1, 10)
    };
    budget.admit(silent).expect("room");
    assert_eq!(budget.calls(), 1);
    assert_eq!(answered(&mut budget, ":1.1", 1, 100), Outcome::Drop);
    assert_eq!(budget.calls(), 0);
}
