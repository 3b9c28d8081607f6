//! The manual against its sources: codes against the table and against what the code prints, verbs and
//! options against the command line. `cargo xtask regen manual` writes variantd.codes(7) and org.variantd1(5).

mod bus;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory;
use ctl::cli::Cli;
use domain::code::Code;
use serde_json::Value;

/// Columns that a paragraph of a page is filled to.
const WIDTH: usize = 118;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page(name: &str) -> PathBuf {
    root().join("packaging/man").join(name)
}

#[test]
fn page_of_codes_equals_explain() {
    let output = Command::new(env!("CARGO_BIN_EXE_variantctl"))
        .args(["explain", "--json"])
        .output()
        .expect("variantctl runs");
    let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let wanted = codes_page(printed["codes"].as_array().expect("codes"));
    let path = page("variantd.codes.7.md");
    if std::env::var_os("VARIANTD_WRITE_MANUAL").is_some() {
        fs::write(&path, &wanted).expect("written");
    }
    let shipped = fs::read_to_string(path).expect("the page");
    assert!(
        shipped == wanted,
        "variantd.codes.7.md is old: run 'cargo xtask regen manual'"
    );
}

const HEAD: &str = "% VARIANTD.CODES 7 \"\" variantd \"Codes\"

# NAME

variantd.codes - what each code of a refusal, note or check means

# DESCRIPTION

Every refusal and note of variantd, its hook and variantctl(1), and every check of `variantctl doctor`, has a code. A released code
keeps its meaning. `variantctl explain CODE` prints the same text as this page.

The words after a code are its severity. A `refusal` is an error that stops the operation. A `failure` is an error that `doctor` found: a guest does not
start, or does not work. A `warning` or a `note` does not stop a guest. `missing` is a piece that a definition lacks.

# CODES
";

const TAIL: &str = "
# EXAMPLES

The meaning of one code, and all codes as JSON:

    variantctl explain VD-TOP-002
    variantctl explain --json

# SEE ALSO

variantctl(1), variantd.recipe(5)
";

fn codes_page(codes: &[Value]) -> String {
    let entry = |code: &Value| {
        let text = |key: &str| code[key].as_str().expect(key).to_owned();
        let (title, body) = (escaped(&text("title")), escaped(&text("explanation")));
        format!(
            "\n`{}` ({}) {title}\n{}",
            text("code"),
            text("severity"),
            filled(&body)
        )
    };
    let entries: String = codes.iter().map(entry).collect();
    format!("{HEAD}{entries}{TAIL}")
}

/// Without what Markdown would read as markup.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        if "\\`*_<>[]".contains(letter) {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

/// As a definition: a colon before the first line, the others indented as far.
fn filled(text: &str) -> String {
    let mut lines = vec![String::from(":  ")];
    // roff takes a line that begins with one of these for a command.
    for words in text.replace(" '", "\0'").replace(" .", "\0.").split(' ') {
        let last = lines.last_mut().expect("one line at least");
        let width = last.chars().count() + 1 + words.chars().count();
        let words = words.replace('\0', " ");
        if width > WIDTH {
            lines.push(format!("    {words}"));
        } else {
            last.push(' ');
            last.push_str(&words);
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn no_line_of_a_manual_page_starts_a_roff_request() {
    for entry in fs::read_dir(page("")).expect("the pages") {
        let path = entry.expect("a page").path();
        for line in fs::read_to_string(&path).expect("a page").lines() {
            let text = line.trim_start_matches([':', ' ']);
            let page = path.display();
            assert!(!text.starts_with(['\'', '.']), "{page}: '{line}'");
        }
    }
}

/// The Rust sources of the programs without the table of codes and without tests.
fn sources() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for folder in ["agent", "hooks", "kernel-glue"] {
        collect(&root().join(folder), &mut found);
    }
    assert!(found.len() > 80, "{} files", found.len());
    found
}

fn collect(folder: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name")
            .to_owned();
        if path.is_dir() && !["code", "tests"].contains(&name.as_str()) {
            collect(&path, found);
        } else if name.ends_with(".rs") && !is_test(&name) {
            let text = fs::read_to_string(&path).expect("a source");
            found.insert(path, without_tests(&text).to_owned());
        }
    }
}

fn is_test(name: &str) -> bool {
    let parts = [
        "tests.rs",
        "_test.rs",
        "testing.rs",
        "fixture.rs",
        "fake.rs",
    ];
    parts.iter().any(|part| name.ends_with(part))
}

/// The text before the tests that stand at its end.
fn without_tests(text: &str) -> &str {
    let end = text.find("#[cfg(test)]\nmod tests {");
    &text[..end.unwrap_or(text.len())]
}

/// Everything in `text` that has the form of a code: VD, three letters, three digits.
fn printed(text: &str) -> BTreeSet<String> {
    let shaped = |found: &&str| {
        let bytes = found.as_bytes();
        bytes[3..6].iter().all(u8::is_ascii_uppercase)
            && bytes[6] == b'-'
            && bytes[7..].iter().all(u8::is_ascii_digit)
    };
    let found = text
        .match_indices("VD-")
        .filter_map(|(at, _)| text.get(at..at + 10));
    found.filter(shaped).map(str::to_owned).collect()
}

/// The codes that `text` names as `Code::Name`.
fn named(text: &str) -> BTreeSet<String> {
    let word = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric()).collect();
    let found = text.match_indices("Code::").filter(|(at, _)| {
        let before = text[..*at].chars().next_back();
        !before.is_some_and(char::is_alphanumeric)
    });
    found
        .map(|(at, found)| word(&text[at + found.len()..]))
        .collect()
}

#[test]
fn every_code_that_a_program_prints_is_in_the_table() {
    let table: BTreeSet<String> = Code::ALL.iter().map(ToString::to_string).collect();
    for (path, text) in sources() {
        let unknown: Vec<_> = printed(&text).difference(&table).cloned().collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", path.display());
    }
}

#[test]
fn every_code_in_the_table_is_used_by_a_program() {
    let texts: Vec<String> = sources().into_values().collect();
    let named: BTreeSet<String> = texts.iter().flat_map(|text| named(text)).collect();
    let printed: BTreeSet<String> = texts.iter().flat_map(|text| printed(text)).collect();
    let dead = Code::ALL
        .iter()
        .filter(|code| !named.contains(&format!("{code:?}")) && !printed.contains(code.as_str()));
    let dead: Vec<&Code> = dead.collect();
    assert!(dead.is_empty(), "never used: {dead:?}");
}

#[test]
fn codes_are_found_in_texts_and_not_in_tests() {
    let text = "x(Code::XmlDtd, \"VD-ABC-123\", ExitCode::SUCCESS, VD-abc-123 VD-XML-0)\n\
                #[cfg(test)]\nmod tests { Code::Other, VD-DEF-456 }";
    let text = without_tests(text);
    assert_eq!(printed(text), BTreeSet::from(["VD-ABC-123".to_owned()]));
    assert_eq!(named(text), BTreeSet::from(["XmlDtd".to_owned()]));
    assert_eq!(printed("VD-"), BTreeSet::new());
}

/// The entries of a page: what is before `:` and the text behind it, without the marks of code.
fn entries(page: &str) -> Vec<(String, String)> {
    let page = page.replace('`', "");
    let blocks = page.split("\n\n");
    let entry = |block: &str| {
        let (term, text) = block.split_once("\n:   ")?;
        Some((term.trim().to_owned(), text.to_owned()))
    };
    blocks.filter_map(entry).collect()
}

/// Every verb with its visible long options, verbs below verbs as `recipe list`.
fn verbs(command: &clap::Command, path: &str) -> Vec<(String, Vec<String>)> {
    let shown = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    shown
        .flat_map(|verb| {
            let name = format!("{path}{}", verb.get_name());
            if verb.has_subcommands() {
                return verbs(verb, &format!("{name} "));
            }
            vec![(name, options(verb))]
        })
        .collect()
}

fn options(command: &clap::Command) -> Vec<String> {
    let arguments = command.get_arguments().filter(|one| !one.is_hide_set());
    let long = arguments.filter_map(|one| Some(format!("--{}", one.get_long()?)));
    long.collect()
}

/// Where an entry goes that the page lacks; a person moves it, and says more.
const NEW: &str = "\n# VERBS THAT CHANGE DEFINITIONS\n";

#[test]
fn the_page_of_variantctl_names_every_verb_and_option() {
    let path = page("variantctl.1.md");
    let mut text = fs::read_to_string(&path).expect("the page");
    let command = Cli::command();
    for option in options(&command) {
        assert!(
            !text_of(&text, &option).is_empty(),
            "the page lacks '{option}'"
        );
    }
    for (verb, options) in verbs(&command, "") {
        if text_of(&text, &verb).is_empty() && std::env::var_os("VARIANTD_WRITE_MANUAL").is_some() {
            let new = format!("{}{NEW}", entry(&command, &verb));
            text = text.replacen(NEW, &new, 1);
            fs::write(&path, &text).expect("written");
        }
        let printed = text_of(&text, &verb);
        assert!(
            !printed.is_empty(),
            "the page lacks the verb '{verb}': run 'cargo xtask regen manual'"
        );
        for option in options {
            assert!(
                printed.contains(&option),
                "the page lacks '{option}' of '{verb}'"
            );
        }
    }
}

/// The entries of a page that begin with these words.
fn text_of(page: &str, start: &str) -> String {
    let own = |term: &String| term == start || term.starts_with(&format!("{start} "));
    let entries = entries(page).into_iter();
    let own = entries.filter(|(term, _)| own(term));
    own.map(|(term, text)| format!("{term}\n{text}")).collect()
}

/// An entry with what `--help` says of a verb.
fn entry(command: &clap::Command, path: &str) -> String {
    let below = |command: &clap::Command, name: &str| command.find_subcommand(name).cloned();
    let verb = path
        .split(' ')
        .try_fold(command.clone(), |at, name| below(&at, name));
    let verb = verb.expect("a verb");
    let shown = |one: &&clap::Arg| !one.is_hide_set();
    let arguments = verb.get_arguments().filter(shown);
    let (mut head, mut body) = (format!("`{path}`"), format!("{}.", help(verb.get_about())));
    for one in arguments {
        let values = one.get_value_names().unwrap_or_default();
        let value = values
            .iter()
            .map(|name| format!(" {name}"))
            .collect::<String>();
        let help = help(one.get_help());
        match one.get_long() {
            Some(long) => {
                let value = if one.get_action().takes_values() {
                    value
                } else {
                    String::new()
                };
                head += &format!(" [`--{long}`{value}]");
                body += &format!(" `--{long}`: {help}.");
            }
            None => head += &value.to_uppercase(),
        }
    }
    format!("\n{head}\n{}", filled(&body))
}

fn help(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

#[test]
fn manual_entry_equals_help() {
    let entry = entry(&Cli::command(), "config check");
    let (head, text) = entry.trim_start().split_once('\n').expect("two lines");
    assert_eq!(head, "`config check`");
    assert!(
        text.starts_with(":   Check all files and print every mistake."),
        "{text}"
    );
    let entry = self::entry(&Cli::command(), "unreserve");
    assert!(
        entry.starts_with("\n`unreserve` DEVICE [`--now`]\n:   End a reservation. `--now`: "),
        "{entry}"
    );
}

#[test]
fn the_page_of_variantctl_names_only_existing_options() {
    let page = fs::read_to_string(page("variantctl.1.md")).expect("the page");
    let command = Cli::command();
    let mut known: BTreeSet<String> = options(&command).into_iter().collect();
    known.extend(
        verbs(&command, "")
            .into_iter()
            .flat_map(|(_, options)| options),
    );
    // clap's own, and one of virsh.
    known.extend(["--help", "--version", "--inactive"].map(String::from));
    let words = page.split(|c: char| !(c.is_alphanumeric() || c == '-'));
    // Dashes alone are rules of a table.
    let is_option = |word: &&str| word.starts_with("--") && !word.trim_matches('-').is_empty();
    for option in words.filter(is_option) {
        assert!(known.contains(option), "'{option}' is no option");
    }
}
