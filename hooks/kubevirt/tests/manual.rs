//! variantd-kubevirt(8) against the program.

use std::collections::BTreeSet;
use std::process::Command;

use kubevirt::server::{HOOK_POINT, NAME, VERSIONS};

const PAGE: &str = include_str!("../../../packaging/man/variantd-kubevirt.8.md");

/// The shim's name for the hook point.
const PROGRAM: &str = "onDefineDomain";

/// Long options in a text.
fn options(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '-'));
    words
        .filter(|word| word.starts_with("--") && word.len() > 2)
        .collect()
}

fn help(form: &[&str]) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_variantd-kubevirt"));
    let output = program.args(form).arg("--help").output().expect("it runs");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_page_has_every_option_and_no_other() {
    let forms = [&[][..], &[PROGRAM], &["domain-hook"], &["node-hook"]].map(help);
    let known: BTreeSet<&str> = forms.iter().flat_map(|text| options(text)).collect();
    assert!(
        known.contains("--vmi") && known.contains("--socket-dir"),
        "{known:?}"
    );
    assert_eq!(options(PAGE), known);
}

#[test]
fn the_page_has_the_protocol_and_the_defaults() {
    let server = help(&[]);
    let defaults = server.split("[default: ").skip(1);
    let defaults: Vec<&str> = defaults.filter_map(|rest| rest.split(']').next()).collect();
    assert_eq!(defaults.len(), 3, "{server}");
    let socket = format!("{NAME}.sock");
    let words = [HOOK_POINT, PROGRAM, &socket];
    for word in words.iter().chain(&VERSIONS).chain(&defaults) {
        assert!(PAGE.contains(word), "the page lacks '{word}'");
    }
}
