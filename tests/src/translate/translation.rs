//! One definition through one release: validated, defined, translated, checked, compared and started.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use roxmltree::Document;
use similar::TextDiff;

use super::argument;
use super::check::{self, Verdict};
use super::daemon::Daemon;
use super::piece::{self, Piece};
use super::stand_in::{self, Replaced};
use super::{normal, start};

/// The path of a definition for the daemon's programs.
const FILE: &str = "/tmp/definition.xml";

/// libvirt's result for a definition.
struct Translated {
    completed: String,
    native: String,
}

/// Runs all steps for the definition; returns a summary.
pub fn translate(daemon: &Daemon, written: &str, golden: &Path, update: bool) -> Result<String> {
    validate(daemon, written)?;
    let Translated { completed, native } = define(daemon, written)?;
    let arguments = argument::parse(&native).context("cannot read libvirt's arguments")?;
    let emulator = native.split_whitespace().find(|word| word.starts_with('/'));
    let emulator = emulator.context("libvirt names no emulator")?;
    let Verdict { planned, faults } = check::check(written, &completed, &arguments)?;
    if !faults.is_empty() {
        bail!(
            "libvirt's arguments are not what was planned:\n    {}",
            faults.join("\n    ")
        );
    }
    let text = normal::text(emulator, &arguments, &machine(written)?)?;
    compare(&text, golden, update)?;
    let replaced = stand_in::arguments(emulator, &arguments)?;
    let variables = variables(&completed)?;
    start::start(daemon, emulator, &replaced, variables.as_deref(), &planned)
        .context("QEMU does not start with libvirt's arguments")?;
    Ok(summary(&planned, &replaced))
}

fn summary(planned: &BTreeSet<Piece>, replaced: &Replaced) -> String {
    let count = piece::count(planned);
    let withheld = replaced.withheld.iter();
    let smmu = withheld.filter(|(driver, _)| driver == "arm-smmuv3");
    let names: Vec<&str> = smmu.map(|(_, name)| name.as_str()).collect();
    if names.is_empty() {
        return count;
    }
    format!(
        "{count}; started without the SMMUs' {}, for which QEMU needs KVM",
        names.join(", ")
    )
}

/// A refused definition has no golden arguments.
pub fn no_arguments(golden: &Path, update: bool) -> Result<()> {
    match (golden.exists(), update) {
        (false, _) => Ok(()),
        (true, true) => {
            fs::remove_file(golden).with_context(|| format!("cannot remove '{}'", golden.display()))
        }
        (true, false) => bail!(
            "'{}' exists, but the case is refused: 'tests/lab translate --update' removes it",
            golden.display()
        ),
    }
}

/// Validates the unchanged definition against the schema of this release.
fn validate(daemon: &Daemon, written: &str) -> Result<()> {
    fs::write(daemon.path(FILE), written).context("cannot write the definition for the daemon")?;
    let valid = daemon.output("virt-xml-validate", &[FILE, "domain"]);
    valid
        .map(drop)
        .context("it is not valid by libvirt's schema")
}

/// Defines, dumps, translates and undefines it.
fn define(daemon: &Daemon, written: &str) -> Result<Translated> {
    let text = stand_in::definition(written)?;
    fs::write(daemon.path(FILE), &text).context("cannot write the definition for the daemon")?;
    let name = name(&text)?;
    daemon
        .virsh(&["define", "--validate", FILE])
        .context("libvirt does not take it")?;
    let translated = read_back(daemon, &name);
    daemon
        .virsh(&["undefine", "--nvram", &name])
        .context("libvirt does not give it back")?;
    translated
}

fn read_back(daemon: &Daemon, name: &str) -> Result<Translated> {
    Ok(Translated {
        completed: daemon.virsh(&["dumpxml", "--inactive", name])?,
        native: daemon
            .virsh(&["domxml-to-native", "qemu-argv", "--domain", name])
            .context("libvirt does not translate it")?,
    })
}

fn compare(text: &str, golden: &Path, update: bool) -> Result<()> {
    if update {
        return fs::write(golden, text)
            .with_context(|| format!("cannot write '{}'", golden.display()));
    }
    let known = fs::read_to_string(golden).with_context(|| {
        format!(
            "cannot read '{}': 'tests/lab translate --update' writes it",
            golden.display()
        )
    })?;
    let diff = TextDiff::from_lines(known.as_str(), text);
    let diff = diff.unified_diff().header("golden", "libvirt").to_string();
    ensure!(
        diff.is_empty(),
        "'{}' differs; if the new arguments are right, 'tests/lab translate --update' writes them:\n{diff}",
        golden.display()
    );
    Ok(())
}

fn name(text: &str) -> Result<String> {
    let document = Document::parse(text).context("the definition is not XML")?;
    let mut children = document.root_element().children();
    let name = children.find(|child| child.has_tag_name("name"));
    let name = name.and_then(|name| name.text());
    Ok(name.context("the definition has no <name>")?.to_owned())
}

fn machine(text: &str) -> Result<String> {
    let document = Document::parse(text).context("the definition is not XML")?;
    let machine = document
        .descendants()
        .find_map(|node| node.attribute("machine"));
    Ok(machine
        .context("the definition names no machine")?
        .to_owned())
}

/// The template of the firmware's variables, if the guest has such firmware.
fn variables(text: &str) -> Result<Option<String>> {
    let document = Document::parse(text).context("libvirt's definition is not XML")?;
    let nvram = document
        .descendants()
        .find(|node| node.has_tag_name("nvram"));
    Ok(nvram
        .and_then(|nvram| nvram.attribute("template"))
        .map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_arguments_are_written_once_and_then_compared() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let golden = folder.path().join("testing.argv");
        let error = compare("-S\n", &golden, false).expect_err("no golden file");
        assert!(error.to_string().contains("--update"), "{error}");
        compare("-S\n-numa node\n", &golden, true).expect("writable");
        compare("-S\n-numa node\n", &golden, false).expect("the same");
        let error = compare("-S\n", &golden, false).expect_err("another");
        assert!(error.to_string().contains("\n--numa node\n"), "{error}");
    }

    #[test]
    fn a_refused_definition_has_no_golden_arguments() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let golden = folder.path().join("stable.argv");
        no_arguments(&golden, false).expect("no golden file");
        fs::write(&golden, "-S\n").expect("writable");
        assert!(no_arguments(&golden, false).is_err());
        no_arguments(&golden, true).expect("removed");
        assert!(!golden.exists());
    }

    #[test]
    fn all_values_of_a_definition_are_read() {
        let text = "<domain><name>n</name><os><type machine='q35'/><nvram template='/t'>/v</nvram></os></domain>";
        assert_eq!(name(text).expect("a name"), "n");
        assert_eq!(machine(text).expect("a machine"), "q35");
        assert_eq!(variables(text).expect("XML").as_deref(), Some("/t"));
        assert!(machine("<domain/>").is_err() && name("<domain/>").is_err());
    }
}
