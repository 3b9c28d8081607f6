//! One case: a definition, the recorded host that it is planned on, and what `variantctl` says of it for each target.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::Deserialize;

/// Extensions of what is generated beside a definition.
const GENERATED: [&str; 3] = ["plan", "xml", "refusal"];

/// A folder of `tests/data/case`.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) settings: Settings,
    dir: PathBuf,
}

/// `case.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// What is special about it, for readers.
    pub(crate) title: String,
    /// A modelled or recorded host; see `testing::hosts`.
    pub(crate) host: String,
    /// Releases of Debian; see [`versions`].
    pub(crate) targets: Vec<String>,
    /// Whether `--replace` is given.
    #[serde(default)]
    pub(crate) replace: bool,
    /// Whether it is bad input: every target must refuse it.
    #[serde(default)]
    pub(crate) refused: bool,
    /// What is known to be wrong with the output; nothing else is claimed of it then.
    pub(crate) fault: Option<String>,
    /// The host nodes that each device must get, written manually.
    #[serde(default)]
    pub(crate) nodes: BTreeMap<String, String>,
}

/// Contents by file name.
pub(crate) type Files = BTreeMap<String, String>;

/// The versions that a release of Debian has.
fn versions(target: &str) -> Option<&'static str> {
    Some(match target {
        "testing" => "libvirt=12.8,qemu=11.1",
        "stable" => "libvirt=11.3,qemu=10.0",
        "oldstable" => "libvirt=9.0,qemu=7.2",
        _ => return None,
    })
}

/// Fails with the differences from committed files, if there are any.
pub(crate) fn expect_none(differences: &str) {
    let hint = "read the differences; 'cargo xtask regen golden' writes them";
    assert!(differences.is_empty(), "{differences}{hint}");
}

pub(crate) fn data(path: &str) -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.join("../../tests/data").join(path)
}

/// Every case, by name.
pub(crate) fn all() -> Vec<Case> {
    let entries = fs::read_dir(data("case")).expect("folder of cases");
    let mut dirs: Vec<PathBuf> = entries.map(|entry| entry.expect("entry").path()).collect();
    dirs.sort();
    let beginning = std::env::var("VARIANTD_CASES").unwrap_or_default();
    let mut cases: Vec<Case> = dirs.into_iter().map(Case::read).collect();
    cases.retain(|case| case.name.starts_with(&beginning));
    assert!(!cases.is_empty(), "no case begins with '{beginning}'");
    cases
}

impl Case {
    fn read(dir: PathBuf) -> Self {
        let name = dir.file_name().expect("name").to_string_lossy();
        let text = fs::read_to_string(dir.join("case.toml")).expect("case.toml");
        Self {
            settings: toml::from_str(&text).expect(&name),
            name: name.into_owned(),
            dir,
        }
    }

    pub(crate) fn host(&self) -> PathBuf {
        testing::hosts::directory(&self.settings.host)
    }

    /// The definition as a user wrote it.
    pub(crate) fn definition(&self) -> String {
        fs::read_to_string(self.dir.join("domain.xml")).expect("domain.xml")
    }

    /// What is generated, as it is committed.
    pub(crate) fn committed(&self) -> Files {
        let entries = fs::read_dir(&self.dir).expect("folder of a case");
        let names = entries.map(|entry| entry.expect("entry").file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        names
            .filter(|name| is_generated(name))
            .map(|name| {
                let text = fs::read_to_string(self.dir.join(&name)).expect("text");
                (name, text)
            })
            .collect()
    }

    /// Replaces what is generated.
    pub(crate) fn write(&self, files: &Files) {
        for name in self.committed().keys() {
            fs::remove_file(self.dir.join(name)).expect("removed");
        }
        for (name, text) in files {
            fs::write(self.dir.join(name), text).expect("written");
        }
    }

    /// Runs `variantctl VERB` on the case's definition, or on the text given.
    pub(crate) fn run(&self, target: &str, verb: &[&str], text: Option<&str>) -> Output {
        let versions = versions(target).expect("a target is testing, stable or oldstable");
        self.run_for(versions, verb, text)
    }

    /// The same for any value of `--target`.
    pub(crate) fn run_for(&self, target: &str, verb: &[&str], text: Option<&str>) -> Output {
        let mut arguments = verb.to_vec();
        arguments.extend(["--target", target]);
        arguments.extend(self.settings.replace.then_some("--replace"));
        self.run_verb(&arguments, text)
    }

    /// Runs a verb that has no option `--target` on a text.
    pub(crate) fn run_without_target(&self, verb: &[&str], text: &str) -> Output {
        self.run_verb(verb, Some(text))
    }

    fn run_verb(&self, arguments: &[&str], text: Option<&str>) -> Output {
        let mut command = variantctl();
        let scratch = tempfile::tempdir().expect("folder");
        command.current_dir(self.arrange(scratch.path()));
        command.stdin(Stdio::null());
        command.args(["--recipes", "/nonexistent", "--host"]);
        let host = Path::new("../../hosts").join(&self.settings.host);
        command.arg(host).args(arguments);
        let file = text.map_or_else(
            || PathBuf::from("domain.xml"),
            |text| {
                let file = scratch.path().join("domain.xml");
                fs::write(&file, text).expect("written");
                file
            },
        );
        command.arg(file).output().expect("variantctl runs")
    }

    /// Makes the directory that `variantctl` runs in. Hints repeat the host's and the definition's path, so that both are
    /// relative: 'hosts/HOST' is a link to the host's directory, 'case/NAME' has the definition.
    fn arrange(&self, scratch: &Path) -> PathBuf {
        let (hosts, dir) = (scratch.join("hosts"), scratch.join("case").join(&self.name));
        fs::create_dir_all(&hosts).expect("folder");
        fs::create_dir_all(&dir).expect("folder");
        symlink(self.host(), hosts.join(&self.settings.host)).expect("link");
        fs::copy(self.dir.join("domain.xml"), dir.join("domain.xml")).expect("copied");
        dir
    }

    /// Takes back what was added to `text`.
    pub(crate) fn revert(&self, text: &str) -> String {
        let scratch = tempfile::tempdir().expect("folder");
        let file = scratch.path().join("domain.xml");
        fs::write(&file, text).expect("written");
        let mut command = variantctl();
        let output = command.args(["revert", "--file"]).arg(file).output();
        let output = output.expect("variantctl runs");
        String::from_utf8(output.stdout).expect("text")
    }
}

/// The program of this build, or the command line in VARIANTD_VARIANTCTL: an emulator and a program for another processor (tests/arm64).
fn variantctl() -> Command {
    let Ok(line) = std::env::var("VARIANTD_VARIANTCTL") else {
        return Command::new(env!("CARGO_BIN_EXE_variantctl"));
    };
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words);
    command
}

fn is_generated(name: &str) -> bool {
    let extension = Path::new(name).extension().unwrap_or_default();
    name != "domain.xml" && GENERATED.iter().any(|one| extension == *one)
}
