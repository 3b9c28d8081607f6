//! Every `variantctl` line of a document is a command line that the program accepts.

use std::collections::BTreeSet;

use clap::{CommandFactory, Parser};
use ctl::cli::Cli;

use super::markdown::{code_lines, inline_code};
use super::{Document, documents};

/// The commands of a line of shell that run `variantctl`, as words.
pub(crate) fn commands(line: &str) -> Vec<Vec<String>> {
    let line = line.strip_prefix("$ ").unwrap_or(line);
    let line = line.split(" # ").next().unwrap_or(line);
    let line = line.replace("&&", ";").replace("||", ";").replace('|', ";");
    let parts = line.split(';').map(words);
    parts
        .filter(|words| words.first().is_some_and(|word| word == "variantctl"))
        .collect()
}

/// Words of a simple command, without redirections.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut all = command.split_whitespace();
    while let Some(word) = all.next() {
        match word.trim_start_matches(['1', '2']) {
            "<" | ">" | ">>" => drop(all.next()),
            rest if rest.starts_with(['<', '>']) => {}
            _ => words.push(word.trim_matches(['\'', '"']).to_owned()),
        }
    }
    words
}

fn faults(document: &Document) -> Vec<String> {
    let lines = code_lines(&document.text).into_iter();
    let commands = lines.flat_map(commands);
    let fault = |words: Vec<String>| {
        let error = Cli::try_parse_from(&words).err()?;
        let shown = error.to_string();
        let reason = shown.lines().next().unwrap_or_default();
        Some(format!(
            "{}: '{}': {reason}",
            document.path.display(),
            words.join(" ")
        ))
    };
    commands.filter_map(fault).collect()
}

#[test]
fn every_command_in_a_code_block_is_accepted_by_the_command_line() {
    let documents = documents();
    let all = documents.iter().flat_map(|one| code_lines(&one.text));
    let count = all.flat_map(commands).count();
    assert!(count > 80, "{count} commands");
    let faults: Vec<String> = documents.iter().flat_map(faults).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

/// The verb of inline code and its options that do not exist; `None` for code that is not a command.
fn inline_fault(code: &str, verbs: &[(String, BTreeSet<String>)]) -> Option<String> {
    let rest = code.strip_prefix("variantctl ")?;
    let own = rest.split([' ', '|']).filter(|word| !word.is_empty());
    let first = own
        .clone()
        .find(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))?;
    let Some((_, options)) = verbs.iter().find(|(verb, _)| verb == first) else {
        return Some(format!("'{code}': no verb '{first}'"));
    };
    let given = own.filter(|word| word.starts_with("--"));
    let mut unknown = given.filter(|option| !options.contains(*option));
    unknown
        .next()
        .map(|option| format!("'{code}': no option '{option}'"))
}

/// The verbs of the first level, each with its own options, those of verbs below it, and the global ones.
fn verbs() -> Vec<(String, BTreeSet<String>)> {
    fn collect(command: &clap::Command, into: &mut BTreeSet<String>) {
        into.extend(
            command
                .get_arguments()
                .filter_map(|one| Some(format!("--{}", one.get_long()?))),
        );
        command
            .get_subcommands()
            .for_each(|below| collect(below, into));
    }
    let command = Cli::command();
    let verb = |verb: &clap::Command| {
        let mut options = BTreeSet::from(["--help".to_owned(), "--version".to_owned()]);
        let global = command.get_arguments().filter_map(clap::Arg::get_long);
        options.extend(global.map(|long| format!("--{long}")));
        collect(verb, &mut options);
        (verb.get_name().to_owned(), options)
    };
    command.get_subcommands().map(verb).collect()
}

#[test]
fn every_command_in_inline_code_has_a_verb_and_options_of_the_program() {
    let verbs = verbs();
    let mut faults = Vec::new();
    for document in documents() {
        let code = inline_code(&document.text);
        let found = code.iter().filter_map(|one| inline_fault(one, &verbs));
        faults.extend(found.map(|fault| format!("{}: {fault}", document.path.display())));
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn commands_are_separated_from_the_rest_of_a_line() {
    let line = "$ virsh define a.xml && variantctl --json plan a > p | grep '^#' # why";
    assert_eq!(commands(line), [["variantctl", "--json", "plan", "a"]]);
    assert!(commands("grep variantctl").is_empty());
    let faulty = Document {
        path: "a.md".into(),
        text: "    variantctl lst\n    variantctl list --al\n    variantctl list\n".to_owned(),
    };
    assert_eq!(faults(&faulty).len(), 2);
    let verbs = verbs();
    assert!(inline_fault("variantctl plan --replace NAME", &verbs).is_none());
    assert!(inline_fault("variantctl bind | release", &verbs).is_none());
    assert!(inline_fault("variantctl plans", &verbs).is_some());
    assert!(inline_fault("variantctl list --al", &verbs).is_some());
}
