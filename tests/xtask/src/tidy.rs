//! `cargo xtask tidy`: what must hold of the tree and Cargo cannot check. Exits with 1 when something does not.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{cycle, graph, language, map, tree};

/// The only folder that names libvirt's bindings.
const LIBVIRT: &str = "agent/src/libvirt/";
/// Crates that only compute: they read and write no file and call no other program.
const PURE: [&str; 2] = ["agent/domain/src/", "agent/plan/src/"];
/// Parts of the standard library that such a crate does not use.
const SYSTEM: [&str; 7] = [
    "env",
    "fs",
    "net",
    "process",
    "thread",
    "time::Instant",
    "time::SystemTime",
];
/// Calls that create, replace or remove a file.
const CHANGES: [&str; 7] = [
    "fs::create_dir(",
    "fs::create_dir_all(",
    "fs::remove_file(",
    "fs::rename(",
    "fs::write(",
    "File::create(",
    "sync_all(",
];
/// Product code that has such calls: the module that does them durably, and files that need not survive a power cut.
#[rustfmt::skip]
const CHANGERS: [&str; 10] = [
    "agent/settings/src/file.rs",
    // Sockets.
    "agent/settings/src/socket.rs",
    "agent/src/hook/socket.rs",
    "hooks/kubevirt/src/server.rs",
    "hooks/kubevirt/src/socket.rs",
    // The time of the last call.
    "hooks/src/bin/variantd-hook/main.rs",
    // VDSM's file, which VDSM writes again for each start.
    "hooks/vdsm/src/lib.rs",
    // A drawing, and the record of a host, which can be made again.
    "agent/ctl/src/cli/topology.rs",
    "kernel-glue/src/record.rs",
    "hooks/build.rs",
];
const KNOWN_CYCLES: &str = include_str!("../known-cycles");

/// A file of Rust code: its path below the repository and its text.
type Source = (PathBuf, String);

pub(crate) fn run(root: &Path) -> Result<()> {
    let sources = sources(root)?;
    let readme = fs::read_to_string(root.join("README.md")).context("README.md")?;
    let mut findings = graph::check(root)?;
    findings.extend(map::check(root, &readme)?);
    findings.extend(sources.iter().filter_map(header));
    findings.extend(sources.iter().filter_map(names_libvirt));
    findings.extend(sources.iter().filter_map(touches_the_system));
    findings.extend(sources.iter().filter_map(panics_at_a_full_stream));
    findings.extend(sources.iter().filter_map(changes_files));
    findings.extend(new_cycles(&sources));
    findings.extend(language::check(root)?);
    findings.extend(page_version(root)?);
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings", findings.len());
    }
    println!("{} files of Rust code: no findings", sources.len());
    Ok(())
}

fn sources(root: &Path) -> Result<Vec<Source>> {
    let files = tree::files(root, &["*.rs"])?.into_iter();
    files
        .map(|path| {
            let text = fs::read_to_string(root.join(&path));
            Ok((
                path.clone(),
                text.with_context(|| path.display().to_string())?,
            ))
        })
        .collect()
}

fn header((path, text): &Source) -> Option<String> {
    let has = text.starts_with("//! ");
    (!has).then(|| format!("'{}' does not begin with a '//!' line", path.display()))
}

fn names_libvirt((path, text): &Source) -> Option<String> {
    let outside = !path.starts_with(LIBVIRT);
    let names = |crate_: &str| {
        let mut found = text.match_indices(crate_).map(|(at, _)| &text[..at]);
        found.any(|before| {
            !before.ends_with(|last: char| last.is_alphanumeric() || "_\"`'".contains(last))
        })
    };
    let is = outside && (names(concat!("virt", "::")) || names(concat!("virt_sys", "::")));
    is.then(|| {
        format!(
            "'{}' names libvirt's bindings; only {LIBVIRT} may",
            path.display()
        )
    })
}

/// The page in Cockpit, whose version npm's files have.
fn page_version(root: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for name in ["package.json", "package-lock.json"] {
        let path = root.join("packaging/cockpit").join(name);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        findings.extend(other_version(name, &text, env!("CARGO_PKG_VERSION")));
    }
    Ok(findings)
}

/// The version is the first one in the file, a line of its own, as npm writes it.
fn other_version(name: &str, text: &str, version: &str) -> Option<String> {
    let found = text.lines().find_map(|line| {
        let value = line.trim().strip_prefix("\"version\": \"")?;
        value.trim_end_matches(',').strip_suffix('"')
    });
    (found != Some(version)).then(|| {
        let found = found.unwrap_or("none");
        format!(
            "'packaging/cockpit/{name}' has version {found}, and Cargo.toml {version}; \
            set it, then run 'npm install --package-lock-only' there"
        )
    })
}

/// The code before the tests of a file; `None` for a file of tests.
fn without_tests<'a>(path: &Path, text: &'a str) -> Option<&'a str> {
    let name = path.file_name()?.to_str()?;
    let is_file = name == "tests.rs" || name.ends_with("_test.rs") || name.ends_with("_fixture.rs");
    let folders = ["tests", "testing", "examples"];
    let is_inside = path
        .iter()
        .any(|part| folders.iter().any(|one| part == *one));
    let mut parts = text.split("#[cfg(test)]\nmod tests {");
    parts.next().filter(|_| !is_file && !is_inside)
}

fn touches_the_system((path, text): &Source) -> Option<String> {
    let text = without_tests(path, text)?;
    let pure = PURE.iter().any(|folder| path.starts_with(folder));
    let mut modules = SYSTEM.iter();
    let found = modules.find(|one| text.contains(&format!("std::{one}")));
    found.filter(|_| pure).map(|found| {
        format!(
            "'{}' uses 'std::{found}', and its crate only computes",
            path.display()
        )
    })
}

/// `print!` and `eprint!` panic when a stream is closed or full, and the program ends with another status.
fn panics_at_a_full_stream((path, text): &Source) -> Option<String> {
    let text = without_tests(path, text)?;
    let product = ["agent", "hooks", "kernel-glue"];
    let product = product.iter().any(|folder| path.starts_with(folder));
    let macros = ["print!(", "println!("].map(|name| format!("e{name}"));
    let found = macros.iter().find(|name| text.contains(name.as_str()));
    found.filter(|_| product).map(|found| {
        format!(
            "'{}' has '{found}..)', which panics when standard error is closed; use 'writeln!'",
            path.display()
        )
    })
}

/// A change of a file is durable only with syncs of the file and of its directory.
fn changes_files((path, text): &Source) -> Option<String> {
    let text = without_tests(path, text)?;
    let product = ["agent", "hooks", "kernel-glue"];
    let product = product.iter().any(|folder| path.starts_with(folder));
    let other = CHANGERS.iter().any(|changer| path == Path::new(changer));
    let found = CHANGES.iter().find(|call| text.contains(**call));
    found.filter(|_| product && !other).map(|found| {
        let path = path.display();
        format!("'{path}' has '{found}..)'; 'settings::file' does it durably")
    })
}

/// The `src` folders that have code, each a crate.
fn crates(sources: &[Source]) -> BTreeSet<&Path> {
    let ancestors = sources.iter().flat_map(|(path, _)| path.ancestors());
    ancestors.filter(|path| path.ends_with("src")).collect()
}

fn new_cycles(sources: &[Source]) -> Vec<String> {
    let known: Vec<BTreeSet<&str>> = KNOWN_CYCLES
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let mut findings = Vec::new();
    println!("import cycles between the modules of a crate:");
    for folder in crates(sources) {
        let files = sources.iter().filter_map(|(path, text)| {
            let below = path.strip_prefix(folder).ok()?;
            Some((below, text.as_str()))
        });
        for cycle in cycle::cycles(&cycle::uses(files)) {
            let names: Vec<&str> = cycle.iter().map(String::as_str).collect();
            println!(
                "  {} ({}): {}",
                folder.display(),
                names.len(),
                names.join(" ")
            );
            let line = folder
                .to_str()
                .into_iter()
                .chain(names.iter().copied())
                .collect();
            if !known.iter().any(|one| one.is_superset(&line)) {
                let names = names.join(", ");
                findings.push(format!(
                    "modules of '{}' that use each other: {names}",
                    folder.display()
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        (path.into(), text.to_owned())
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        assert_eq!(header(&source("a.rs", "//! What it is.\n")), None);
        assert!(header(&source("a.rs", "use a::b;\n")).is_some());
    }

    #[test]
    fn libvirts_bindings_are_named_in_one_folder_only() {
        let text = concat!("use vi", "rt::connect::Connect;");
        assert_eq!(
            names_libvirt(&source("agent/src/libvirt/look.rs", text)),
            None
        );
        assert!(names_libvirt(&source("agent/src/view.rs", text)).is_some());
        let other = concat!("use kubevi", "rt::a;");
        assert_eq!(names_libvirt(&source("agent/src/view.rs", other)), None);
    }

    #[test]
    fn a_crate_that_only_computes_reads_no_file() {
        let reads = concat!("use std::", "fs;");
        assert!(touches_the_system(&source("agent/plan/src/a.rs", reads)).is_some());
        for path in ["agent/plan/src/a/tests.rs", "agent/settings/src/file.rs"] {
            assert_eq!(touches_the_system(&source(path, reads)), None);
        }
    }

    #[test]
    fn the_page_has_the_version_of_the_workspace() {
        let text = "{\n  \"name\": \"a\",\n  \"version\": \"0.2.0\",\n  \"private\": true\n}\n";
        assert_eq!(other_version("package.json", text, "0.2.0"), None);
        assert!(other_version("package.json", text, "0.3.0").is_some());
        assert!(other_version("package.json", "{}", "0.2.0").is_some());
    }

    #[test]
    fn a_cycle_that_is_not_known_is_found() {
        let sources = [
            source("x/src/a.rs", "use crate::b;"),
            source("x/src/b.rs", "use crate::a;"),
        ];
        assert_eq!(new_cycles(&sources).len(), 1);
    }
}
