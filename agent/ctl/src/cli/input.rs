//! Reads a file or standard input up to one byte over its limit.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::problem::Problem;

/// The text of a file; '-' is standard input. It may have one byte more than `limit`, so that the parser
/// can refuse it as too large.
pub(super) fn text(file: &Path, limit: usize) -> Result<String, Problem> {
    let name = file.display();
    let mut bytes = Vec::new();
    let source: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        let file = File::open(file).map_err(|error| unreadable(file, &error))?;
        // Only a hint for the first allocation: a pipe has no length.
        let length = file.metadata().map_or(0, |known| known.len());
        bytes.reserve(usize::try_from(length).map_or(0, |length| length.min(limit) + 1));
        Box::new(file)
    };
    let limit = u64::try_from(limit).map_or(u64::MAX, |max| max + 1);
    source
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(file, &error))?;
    String::from_utf8(bytes)
        .map_err(|_| Problem::Failed(format!("cannot read '{name}': it is not UTF-8 text")))
}

fn unreadable(file: &Path, error: &io::Error) -> Problem {
    let text = format!("cannot read '{}': {error}", file.display());
    if error.kind() == io::ErrorKind::NotFound {
        Problem::NotFound(text)
    } else {
        Problem::Failed(text)
    }
}
