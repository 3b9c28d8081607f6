//! Input of libvirt's hook: arguments, and XML on standard input.

use std::path::Path;

use domain::NAMESPACE;
use hooks::call::Call;
use hooks::input;
use hooks::relevance::Relevance;

/// XML with variantd's mark is never treated as an unrelated guest.
pub(crate) fn input(bytes: &[u8]) {
    let mut source = bytes;
    let read = input::read(&mut source);
    assert!(source.is_empty(), "libvirt's write would fail");
    let relevance = Relevance::of(&read, Path::new("/nonexistent"));
    let named = contains(bytes, NAMESPACE.as_bytes());
    assert!(
        relevance.marked || relevance.unreadable.is_none() || !named,
        "a mark was overlooked"
    );
    if relevance.marked {
        assert!(
            contains(bytes, NAMESPACE.as_bytes()) || contains(bytes, b"&#"),
            "a mark from nowhere"
        );
    }
}

/// Any arguments parse as a call, and its operation is one that libvirt documents.
pub(crate) fn arguments(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let call = Call::from_arguments(text.split('\0').map(str::to_owned));
    let words: Vec<&str> = text.split('\0').collect();
    assert_eq!(call.domain, words.first().copied().unwrap_or_default());
    if let Some(operation) = call.operation {
        assert_eq!(Some(&operation.word()), words.get(1));
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
