//! `--target`: versions, the name of a stack, or a file of one.

use std::fs::File;
use std::io::Read;

use planner::stack::{Stack, StackError};
use planner::target::Target;

/// Parses the option's value. Clap prints the error beside the option.
pub(super) fn parse(text: &str) -> Result<Target, String> {
    let (first, rest) = text
        .split_once(',')
        .map_or((text, None), |(first, rest)| (first, Some(rest)));
    let target = match is_file(first) {
        true => Target::of(read(first)?, rest),
        false => text.parse(),
    };
    target.map_err(|error| match error {
        planner::target::TargetError::Stack(StackError::Name(..)) => {
            format!("{error}; a file of a stack ends with .json")
        }
        error => error.to_string(),
    })
}

fn is_file(text: &str) -> bool {
    // A list of versions has a '=' before its first comma.
    text.ends_with(".json") && !text.contains('=')
}

fn read(path: &str) -> Result<Stack, String> {
    let mut bytes = Vec::new();
    let limit = Stack::MAX_BYTES as u64 + 1;
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    read.map_err(|error| format!("cannot read '{path}': {error}"))?;
    Stack::parse(&bytes).map_err(|error| format!("'{path}': {error}"))
}
