//! The hook protocol on `/run/variantd/hook`: the readers of both ends.

use hooks::agent::Reply;
use hooks::answer;
use hooks::call::{Call, Operation};
use hooks::protocol::{Frames, MethodCall, MethodReply, TooLong, encoded};
use hooks::relevance::Relevance;

/// The limit of a message here, in bytes; small, so that the fuzzer exceeds it.
const LIMIT: usize = 1 << 10;
/// The bytes arrive in pieces of these sizes.
const PIECES: [usize; 3] = [1, 7, usize::MAX];

/// The agent's end: a call is complete and bounded, and does not depend on the sizes of the pieces; sent again it is equal.
pub(crate) fn call(bytes: &[u8]) {
    for message in messages(bytes) {
        if let Ok(call) = serde_json::from_slice::<MethodCall<'_>>(&message) {
            let again = encoded(&call).expect("a call has a text");
            let (nul, text) = again.split_last().expect("a NUL byte");
            assert!(*nul == 0 && !text.contains(&0), "one NUL byte, at the end");
            let read: MethodCall<'_> = serde_json::from_slice(text).expect("a call");
            assert_eq!(read, call);
        }
    }
}

/// The hook's end: only a reply of the agent refuses, with one line, and never at `reconnect`.
pub(crate) fn reply(bytes: &[u8]) {
    let relevance = Relevance::default();
    let call = Call {
        domain: "d0".into(),
        operation: None,
        extra: "-".into(),
    };
    for message in messages(bytes) {
        let Ok(reply) = serde_json::from_slice::<MethodReply>(&message) else {
            continue;
        };
        let is_error = reply.error.is_some();
        let reply = Reply::from(reply);
        assert_eq!(
            is_error,
            !matches!(reply, Reply::Done(_)),
            "an error is no success"
        );
        for operation in Operation::ALL {
            let answer = answer::answer(&call, operation, &relevance, "", reply.clone());
            assert!(!answer.refused || operation.can_veto(), "{operation:?}");
            let sentence = answer.sentence.unwrap_or_default();
            assert!(!sentence.contains(char::is_control), "{sentence:?}");
        }
    }
}

fn messages(bytes: &[u8]) -> Vec<Vec<u8>> {
    let [(first, how), others @ ..] = PIECES.map(|size| arrived(bytes, size));
    for (other, ends) in others {
        assert_eq!(other, first, "the pieces decide");
        assert_eq!(ends, how, "the pieces decide");
    }
    first
}

/// The messages of `bytes` that arrive in pieces of this size, and the result of the last read.
fn arrived(bytes: &[u8], size: usize) -> (Vec<Vec<u8>>, Result<(), TooLong>) {
    let (mut frames, mut found) = (Frames::new(LIMIT), Vec::new());
    for piece in bytes.chunks(size) {
        frames.push(piece);
        loop {
            match frames.take() {
                Ok(Some(message)) => found.push(message),
                Ok(None) => break,
                Err(error) => return (found, Err(error)),
            }
        }
        assert!(frames.kept() <= LIMIT, "{} bytes are kept", frames.kept());
    }
    (found, Ok(()))
}
