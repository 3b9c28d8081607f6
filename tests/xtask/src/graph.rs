//! The workspace's dependency graph, which has one direction.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Each crate uses only crates that stand before it.
const ORDER: [&str; 17] = [
    "kernel-glue",
    "domain",
    "planner",
    "settings",
    "api",
    "hooks",
    "ask",
    "vdsm",
    "connect",
    "agent",
    "ctl",
    "kubevirt",
    "testing",
    "tests",
    "inputs",
    "bench",
    "xtask",
];

/// Crates that only compute: they may not use what talks to the system or to another process.
const PURE: [&str; 2] = ["domain", "planner"];

/// Crates that [`PURE`] ones may not use.
const IMPURE: [&str; 6] = ["nix", "rustix", "tokio", "virt", "virt-sys", "zbus"];

/// Crates that tests of any crate may use.
const FOR_TESTS: [&str; 2] = ["testing", "tests"];

/// The first crate of [`ORDER`] that only tests use.
const FIRST_OF_TESTS: &str = "testing";

/// What each crate of the workspace uses of the others; `dev` is what only its tests use.
#[derive(Default)]
struct Uses {
    normal: Vec<String>,
    dev: Vec<String>,
    /// Crates of others that its programs use.
    foreign: Vec<String>,
}

/// Prints the graph; findings are the edges against the direction.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let graph = read(root)?;
    println!("crates, and what each uses of the workspace (in parentheses: only its tests):");
    let mut findings = Vec::new();
    for name in ORDER {
        if let Some(uses) = graph.get(name) {
            println!(
                "  {name}: {} ({})",
                uses.normal.join(", "),
                uses.dev.join(", ")
            );
        }
    }
    for (name, uses) in &graph {
        findings.extend(against(name, uses));
        findings.extend(impure(name, uses));
    }
    Ok(findings)
}

fn against(name: &str, uses: &Uses) -> Vec<String> {
    let Some(place) = place(name) else {
        return vec![format!(
            "crate '{name}' has no place in ORDER of tests/xtask/src/graph.rs"
        )];
    };
    let first_of_tests = ORDER.iter().position(|one| *one == FIRST_OF_TESTS);
    let is_product = Some(place) < first_of_tests;
    let wrong = |other: &&String| {
        let before = self::place(other).is_some_and(|at| at < place);
        !before || is_product && self::place(other) >= first_of_tests
    };
    let wrong_dev = |other: &&String| {
        !FOR_TESTS.contains(&other.as_str()) && self::place(other).is_none_or(|at| at >= place)
    };
    let normal = uses.normal.iter().filter(wrong);
    let dev = uses.dev.iter().filter(wrong_dev);
    normal
        .chain(dev)
        .map(|other| format!("crate '{name}' uses '{other}', which is not before it"))
        .collect()
}

fn impure(name: &str, uses: &Uses) -> Vec<String> {
    let named = uses
        .foreign
        .iter()
        .filter(|one| IMPURE.contains(&one.as_str()));
    named
        .filter(|_| PURE.contains(&name))
        .map(|one| format!("crate '{name}' only computes and may not use '{one}'"))
        .collect()
}

fn place(name: &str) -> Option<usize> {
    ORDER.iter().position(|one| *one == name)
}

fn read(root: &Path) -> Result<BTreeMap<String, Uses>> {
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--no-deps", "--format-version", "1"]);
    let output = cargo
        .current_dir(root)
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "'cargo metadata' fails");
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo's metadata")?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    packages.iter().map(package).collect()
}

fn package(package: &Value) -> Result<(String, Uses)> {
    let name = package["name"]
        .as_str()
        .context("a package without a name")?;
    let dependencies = package["dependencies"]
        .as_array()
        .context("no dependencies")?;
    let mut uses = Uses::default();
    for dependency in dependencies {
        let of_workspace = dependency["path"].is_string();
        let list = match dependency["kind"].as_str() {
            Some("dev") if of_workspace => &mut uses.dev,
            Some("dev") => continue,
            _ if of_workspace => &mut uses.normal,
            _ => &mut uses.foreign,
        };
        list.push(dependency["name"].as_str().context("no name")?.to_owned());
    }
    Ok((name.to_owned(), uses))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(normal: &[&str], dev: &[&str]) -> Uses {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Uses {
            normal: owned(normal),
            dev: owned(dev),
            foreign: Vec::new(),
        }
    }

    #[test]
    fn a_crate_may_use_what_is_before_it_and_its_tests_the_test_crates() {
        let allowed = uses(&["domain", "hooks", "kernel-glue"], &["testing", "tests"]);
        assert_eq!(against("agent", &allowed), [""; 0]);
    }

    #[test]
    fn a_crate_that_only_computes_may_not_use_the_bus() {
        let on_the_bus = Uses {
            foreign: vec!["serde".to_owned(), "zbus".to_owned()],
            ..Uses::default()
        };
        assert_eq!(impure("planner", &on_the_bus).len(), 1);
        assert_eq!(impure("agent", &on_the_bus), [""; 0]);
    }

    #[test]
    fn an_edge_against_the_direction_is_found() {
        assert_eq!(against("domain", &uses(&["agent"], &[])).len(), 1);
        assert_eq!(against("kernel-glue", &uses(&[], &["agent"])).len(), 1);
        assert_eq!(against("agent", &uses(&["testing"], &[])).len(), 1);
        assert_eq!(against("unheard-of", &uses(&[], &[])).len(), 1);
    }
}
