//! `cargo xtask regen`: writes the generated files that need no lab, by running the tests that compare them.
//!
//! What needs the lab is written by `tests/lab translate --update` (QEMU's arguments), `tests/lab stacks --update`,
//! `tests/lab demo --write` and `tests/bench/run --write`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

/// A group of generated files.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// packaging/dbus/org.variantd1.xml
    Contract,
    /// variantd.codes(7), org.variantd1(5), and entries of new verbs in variantctl(1)
    Manual,
    /// packaging/completions
    Completions,
    /// packaging/schema of verbs that have none yet
    Schemas,
    /// Stacks of Debian in agent/plan/stacks, and the definitions of tests/data/stack that `tests/lab stacks` translates
    Stacks,
    /// Plans and completed definitions of tests/data/case
    Golden,
    /// Lists of writes in tests/data/writes
    Writes,
    /// insta's snapshots
    Snapshots,
}

/// The variable that makes tests write, and the tests with their crates; in this order, for the manual is made of the contract.
const PARTS: [(Part, &str, &[&[&str]]); 8] = [
    (
        Part::Contract,
        "VARIANTD_WRITE_CONTRACT=1",
        &[&["agent", "--lib", "contract_equals_the_served_interfaces"]],
    ),
    (
        Part::Manual,
        "VARIANTD_WRITE_MANUAL=1",
        &[&["ctl", "--test", "manual"]],
    ),
    (
        Part::Completions,
        "VARIANTD_WRITE_COMPLETIONS=1",
        &[&["ctl", "--test", "cli", "packaged_scripts"]],
    ),
    (
        Part::Schemas,
        "VARIANTD_WRITE_SCHEMAS=1",
        &[&["ctl", "--test", "daemon", "json::"]],
    ),
    (
        Part::Stacks,
        "VARIANTD_WRITE_STACKS=1",
        &[&["agent", "--lib", "stack::debian_test"]],
    ),
    (
        Part::Golden,
        "VARIANTD_WRITE_GOLDEN=1",
        &[&["ctl", "--test", "golden"]],
    ),
    (
        Part::Writes,
        "VARIANTD_WRITE_GOLDEN=1",
        &[&["agent", "--lib", "assign::writes_test"]],
    ),
    (
        Part::Snapshots,
        "INSTA_UPDATE=always",
        &[
            &["planner", "--lib"],
            &["ctl", "--lib"],
            &["ctl", "--test", "cli"],
            &["ctl", "--test", "golden", "summary"],
        ],
    ),
];

pub(crate) fn run(root: &Path, only: &[Part]) -> Result<()> {
    let parts = PARTS.iter();
    for (_, variable, tests) in parts.filter(|(part, ..)| only.is_empty() || only.contains(part)) {
        for test in *tests {
            write(root, variable, test)?;
        }
    }
    println!("review the changes with 'git diff'");
    Ok(())
}

fn write(root: &Path, variable: &str, test: &[&str]) -> Result<()> {
    let (name, value) = variable.split_once('=').context("NAME=VALUE")?;
    println!("= {variable} cargo test -p {}", test.join(" "));
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "-q", "--locked", "-p"]).args(test);
    let status = cargo.current_dir(root).env(name, value).status();
    let status = status.context("cannot run cargo")?;
    ensure!(status.success(), "the tests of '{}' fail", test.join(" "));
    Ok(())
}
