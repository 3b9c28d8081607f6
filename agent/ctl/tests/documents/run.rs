//! Commands of the documents that only read run on a modelled host: a GB200, or one with eight H100.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::command::commands;
use super::markdown::{code_lines, fenced};
use super::{Document, document, root};

/// Verbs that read the host and files, and ask neither the agent nor libvirt.
const READING: [&str; 10] = [
    "list",
    "show",
    "topology",
    "atomics",
    "plan",
    "rewrite",
    "explain",
    "recipe",
    "snapshot",
    "record-host",
];

/// Whether a command needs no agent, no libvirt, no root and no VFIO device.
fn only_reads(words: &[String]) -> bool {
    let has = |word: &str| words.iter().any(|one| one == word);
    let verb = words
        .iter()
        .skip(1)
        .find(|word| READING.contains(&word.as_str()) || *word == "bind");
    let Some(verb) = verb else { return false };
    let of_file = verb != "plan" || words.iter().any(|word| word.ends_with(".xml"));
    let reads = verb != "bind" || has("--dry-run");
    let live = ["--domain", "--regions", "--ask-vfio", "--plan"];
    of_file && reads && !live.iter().any(|option| has(option))
}

/// A folder with the files that the examples name.
fn folder(guest: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["grace.xml", "hopper.xml", "guest.xml"] {
        fs::write(folder.path().join(name), guest).expect("written");
    }
    let recipe = fs::read_to_string(root().join("agent/recipes/nvidia-grace.toml"));
    let recipe = recipe
        .expect("a recipe")
        .replacen("\"nvidia-grace\"", "\"my-gpu\"", 1);
    fs::write(folder.path().join("my-gpu.toml"), recipe).expect("written");
    folder
}

fn run(host: &str, folder: &Path, words: &[String]) -> Result<(), String> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_variantctl"));
    program.current_dir(folder).stdin(Stdio::null());
    program.env("NO_COLOR", "1");
    if !words.iter().any(|word| word == "--host") {
        program.arg("--host").arg(testing::hosts::directory(host));
    }
    // A folder that is written is below the temporary one.
    let words = words[1..]
        .iter()
        .map(|word| word.trim_start_matches("/tmp/"));
    let output = program.args(words).output().expect("variantctl runs");
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Runs what only reads, in order; returns the lines of those that ran.
fn run_all(host: &str, document: &Document, guest: &str) -> BTreeSet<String> {
    let folder = folder(guest);
    let lines = code_lines(&document.text);
    let all = lines.iter().flat_map(|line| commands(line));
    let mut done = BTreeSet::new();
    for words in all.filter(|words| only_reads(words)) {
        let line = words.join(" ");
        let result = run(host, folder.path(), &words);
        assert_eq!(result, Ok(()), "{}: '{line}'", document.path.display());
        done.insert(line);
    }
    done
}

fn guest() -> String {
    first_guest("packaging/doc/grace-guide.md")
}

/// The first definition of a document.
fn first_guest(document_path: &str) -> String {
    let guide = document(document_path);
    let definitions = fenced(&guide.text, "xml");
    definitions.first().expect("a definition").to_string()
}

#[test]
fn the_commands_of_the_grace_guide_run_on_a_modelled_host() {
    let done = run_all(
        "gb200-4gpu",
        &document("packaging/doc/grace-guide.md"),
        &guest(),
    );
    assert!(done.len() > 8, "{done:#?}");
    assert!(done.contains("variantctl plan grace.xml"), "{done:#?}");
    assert!(
        done.contains("variantctl --host host.json plan grace.xml"),
        "{done:#?}"
    );
}

#[test]
fn the_commands_of_the_guide_for_x86_hosts_run_on_modelled_hosts() {
    let path = "packaging/doc/hgx-guide.md";
    let guide = document(path);
    let guest = first_guest(path);
    let done = run_all("hgx-8gpu", &guide, &guest);
    assert!(done.contains("variantctl plan hopper.xml"), "{done:#?}");
    assert!(done.len() > 6, "{done:#?}");

    let first = |text: &str| text.replace("1b:00.0", "05:00.0");
    let text = first(&guide.text);
    let guide = Document { text, ..guide };
    let instinct = guest.replace("bus='0x1b'", "bus='0x05'");
    assert_eq!(run_all("mi300x-8gpu", &guide, &instinct).len(), done.len());
}

#[test]
fn the_commands_of_the_readme_and_of_the_manual_run_on_a_modelled_host() {
    for (path, least) in [("README.md", 5), ("packaging/man/variantctl.1.md", 20)] {
        let done = run_all("gb200-4gpu", &document(path), &guest());
        assert!(done.len() >= least, "{path}: {done:#?}");
    }
}

#[test]
fn the_guest_of_the_grace_guide_is_complete_after_a_rewrite() {
    let folder = folder(&guest());
    let host = testing::hosts::directory("gb200-4gpu");
    let rewrite = |file: &str| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_variantctl"));
        let program = program.current_dir(folder.path()).arg("--host").arg(&host);
        let output = program.args(["rewrite", file]).output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let completed = rewrite("grace.xml");
    assert!(completed.contains("<acpi nodeset='1-8'/>"), "{completed}");
    assert!(
        completed.contains("<driver pciBus='1' accel='on'/>"),
        "{completed}"
    );
    fs::write(folder.path().join("done.xml"), &completed).expect("written");
    assert_eq!(rewrite("done.xml"), completed);
}
