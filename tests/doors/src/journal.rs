//! A file of the journal.

use agent::journal::Entry;

const UUID: &str = "6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11";

/// An entry that is accepted says the same when it is written and read again.
pub(crate) fn entry(bytes: &[u8]) {
    let Ok(entry) = Entry::parse(bytes, UUID) else {
        return;
    };
    assert_eq!(entry.domain().expect("a domain").uuid.to_string(), UUID);
    let text = serde_json::to_vec(&entry).expect("JSON");
    let again = Entry::parse(&text, UUID).expect("our own text");
    assert_eq!(again, entry);
}
