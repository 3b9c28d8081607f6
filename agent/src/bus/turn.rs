//! How many calls of one caller are under way: bounded, so that nobody fills the agent's queues and threads.
//!
//! Counted before anything else is asked about a call. The hook is not counted: the bus lets root alone call it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zbus::message::Header;

use crate::code::Code;
use crate::refusal::Refusal;

/// Calls of one connection under way. The bus itself lets a user have 256 connections (dbus-daemon(1)).
const LIMIT: usize = 32;

/// The calls under way by connection.
#[derive(Clone, Debug, Default)]
pub struct Turns(Arc<Mutex<BTreeMap<String, usize>>>);

/// One call under way, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    caller: String,
}

impl Turns {
    /// A turn for the sender of a call.
    ///
    /// # Errors
    /// A refusal when too many of its calls are under way.
    pub(super) fn take(&self, header: &Header<'_>) -> Result<Turn, Refusal> {
        let caller = header.sender().map(ToString::to_string).unwrap_or_default();
        let mut counts = self.counts();
        let count = counts.entry(caller.clone()).or_default();
        if *count >= LIMIT {
            let reason = format!("{LIMIT} calls of this connection are under way");
            let mend = "wait for an answer before the next call";
            return Err(Refusal::new(Code::CallsFull, reason, mend));
        }
        *count += 1;
        drop(counts);
        Ok(Turn {
            turns: self.clone(),
            caller,
        })
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut counts = self.turns.counts();
        if let Some(count) = counts.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use zbus::message::Message;

    use super::*;

    fn call(sender: &str) -> Message {
        let builder = Message::method_call("/org/variantd1", "Plan").sender(sender.to_owned());
        builder.build(&()).expect("a call")
    }

    #[test]
    fn a_caller_has_its_turns_and_no_more_and_others_have_theirs() {
        let (turns, one, other) = (Turns::default(), call(":1.1"), call(":1.2"));
        let take = |message: &Message| turns.take(&message.header());
        let mut held: Vec<Turn> = (0..LIMIT).map(|_| take(&one).expect("a turn")).collect();
        let refusal = take(&one).expect_err("one too many").to_string();
        assert!(refusal.contains("VD-AGT-010"), "{refusal}");
        assert!(take(&other).is_ok());
        held.pop();
        assert!(take(&one).is_ok());
        drop(held);
        assert!(
            turns.counts().is_empty(),
            "a caller that is gone is remembered"
        );
    }
}
