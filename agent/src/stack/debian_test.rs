//! Debian's stacks (`agent/plan/stacks`) are made of what its packages told: `tests/lab stacks` records that, and
//! `cargo xtask regen stacks` writes the definitions for it and the stacks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::merge::{Sources, merge, recorded_sources};
use super::recorded;
use super::translation::{ask, kind_of, recorded_answer};
use planner::stack::{Feature, How, Stack};
use planner::target::Versions;

const STACKS: [(&str, &str); 3] = [
    ("debian-12", "Debian 12"),
    ("debian-13", "Debian 13"),
    ("debian-testing", "Debian testing of autumn 2026"),
];

fn writes() -> bool {
    std::env::var_os("VARIANTD_WRITE_STACKS").is_some()
}

/// Compares a generated file, or writes it.
fn check(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    if writes() {
        fs::create_dir_all(path.parent().expect("above")).expect("a folder");
        fs::write(&path, text).expect("written");
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        known,
        text,
        "'{}': run 'cargo xtask regen stacks'",
        path.display()
    );
}

/// The stack of recorded answers.
fn stack(name: &str) -> Stack {
    let sources = Sources {
        package: Some(recorded(name, "package.txt").trim().to_owned()),
        ..recorded_sources(name)
    };
    let properties = sources
        .properties
        .as_ref()
        .and_then(|printed| printed.version.as_ref());
    let versions = Versions {
        libvirt: sources.entry.as_ref().expect("an entry").libvirt,
        qemu: properties.expect("a version").version,
    };
    merge(versions, &sources)
}

/// As a file: all answers that are not assumed by version.
fn toml(title: &str, stack: &Stack) -> String {
    let mut text = format!(
        "# {title}: what its packages told, recorded by 'tests/lab stacks' and written by 'cargo xtask regen stacks'.\n\n"
    );
    for (half, package) in [("libvirt", &stack.libvirt), ("qemu", &stack.qemu)] {
        let name = package.name.as_ref().expect("a package").as_str();
        let version = package.version;
        writeln!(
            text,
            "{half} = {{ version = \"{version}\", name = \"{name}\" }}"
        )
        .expect("a text");
    }
    text += "\n[answers]\n";
    for feature in Feature::ALL {
        let Some(answer) = stack
            .answer(feature)
            .filter(|answer| answer.how != How::Assumed)
        else {
            continue;
        };
        let word = |value: serde_json::Result<String>| value.expect("a word");
        let value = word(serde_json::to_string(&answer.value));
        let how = word(serde_json::to_string(&answer.how));
        let name = feature.name();
        writeln!(text, "{name} = {{ value = {value}, how = {how} }}").expect("a text");
    }
    text
}

#[test]
fn stacks_of_debian_equal_the_answers_of_its_packages() {
    for (name, title) in STACKS {
        let stack = stack(name);
        check(
            &format!("agent/plan/stacks/{name}.toml"),
            &toml(title, &stack),
        );
        // The program has the file as it was when it was compiled.
        assert!(writes() || Stack::named(name) == Ok(stack), "{name}");
    }
}

#[test]
fn definitions_that_libvirt_translates_are_recorded() {
    let asked = RefCell::new(BTreeMap::new());
    // Each refusal has another definition follow.
    let _ = ask(|xml| {
        let kind = kind_of(xml);
        asked
            .borrow_mut()
            .entry(kind)
            .or_insert_with(|| xml.to_owned());
        match kind {
            "smmu" => Err("refused".to_owned()),
            _ => recorded_answer("debian-testing", xml),
        }
    });
    let asked = asked.into_inner();
    assert_eq!(asked.len(), 8, "{:?}", asked.keys());
    for (kind, xml) in asked {
        check(
            &format!("tests/data/stack/definition/{kind}.xml"),
            &(xml + "\n"),
        );
    }
}
