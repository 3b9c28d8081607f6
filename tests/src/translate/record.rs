//! Records what each Debian release's libvirt and QEMU tell about themselves (tests/data/stack). Tests of the agent read these
//! texts, and `cargo xtask regen stacks` makes the stacks of Debian (agent/plan/stacks) from them.
//!
//! The texts are the programs' own, cut to what is asked for. Times of files are those of a tree, so a fixed one stands there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use roxmltree::{Document, Node};

use super::daemon::Daemon;
use crate::lab::cache::Cache;
use crate::lab::debian::{self, Suite};

const EMULATOR: &str = "/usr/bin/qemu-system-aarch64";
/// libvirt's file for this emulator: the SHA-256 of its path.
const ENTRY: &str = "/var/cache/libvirt/qemu/capabilities/a013a09a30bf35fbea5b0236d43e579da4a041eaea677bc2f449290e5b7a5d5e.xml";
const SCHEMAS: &str = "/usr/share/libvirt/schemas";
/// The path of a definition for the daemon.
const INSIDE: &str = "/tmp/definition.xml";
/// Stands for each time of a file.
const TIME: &str = "1795825844";

/// Questions to the emulator, and the file of each answer.
const HELP: [(&str, &[&str]); 5] = [
    ("version", &["-version"]),
    ("device", &["-device", "help"]),
    ("object", &["-object", "help"]),
    ("arm-smmuv3", &["-device", "arm-smmuv3,help"]),
    ("machine", &["-machine", "virt,help"]),
];
/// Devices of the list that are kept.
const DEVICES: [&str; 5] = [
    "arm-smmuv3",
    "pcie-root-port",
    "pxb-pcie",
    "vfio-pci",
    "vfio-pci-nohotplug",
];
/// Defines of the schemas that are kept; of `domain`, only that it exists.
const DEFINES: [&str; 7] = [
    "iommufd",
    "iommu",
    "acpi",
    "memorydev",
    "memorydev-target",
    "virYesNo",
    "hostdevDriver",
];
/// Flags of libvirt's entry that are kept.
const FLAGS: [&str; 12] = [
    "pxb-pcie",
    "numa.hmat",
    "acpi-generic-initiator",
    "acpi-egm-memory",
    "iommufd",
    "arm-smmuv3",
    "arm-smmuv3.smmu_per_bus",
    "arm-smmuv3.accel",
    "arm-smmuv3.cmdqv",
    "machine.virt.iommu",
    "machine.virt.ras",
    "machine.virt.highmem-mmio-size",
];

/// Records these suites; without `update`, compares with what is recorded. True if nothing differs.
pub fn run(suites: &[Suite], update: bool, fresh: bool) -> Result<bool> {
    let cache = Cache::open()?;
    let mut same = true;
    for suite in suites {
        let tree = debian::translate_tree(&cache, *suite, fresh)?;
        let daemon = Daemon::start(&tree)?;
        println!("{suite}: {}", daemon.versions()?);
        let target = folder().join(name(*suite));
        for (file, text) in recorded(&daemon, &tree.root())? {
            let path = target.join(&file);
            if fs::read_to_string(&path).is_ok_and(|known| known == text) {
                continue;
            }
            match update {
                true => {
                    fs::create_dir_all(&target)?;
                    let written = fs::write(&path, &text);
                    written.with_context(|| format!("cannot write '{}'", path.display()))?;
                }
                false => {
                    println!("{suite}: '{}' differs", path.display());
                    same = false;
                }
            }
        }
    }
    Ok(same)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/stack")
}

/// The stack of a suite.
fn name(suite: Suite) -> &'static str {
    match suite {
        Suite::Testing => "debian-testing",
        Suite::Stable => "debian-13",
        Suite::Oldstable => "debian-12",
    }
}

/// The files of a suite with their texts.
fn recorded(daemon: &Daemon, root: &Path) -> Result<Vec<(String, String)>> {
    let read = |path: &str| {
        let path = root.join(path.trim_start_matches('/'));
        fs::read_to_string(&path).with_context(|| format!("cannot read '{}'", path.display()))
    };
    let mut files = Vec::new();
    for (name, words) in HELP {
        let printed = daemon.output(EMULATOR, words)?;
        files.push((format!("{name}.txt"), help(name, &printed)));
    }
    for name in ["domaincommon.rng", "basictypes.rng"] {
        files.push((
            name.to_owned(),
            schema(&read(&format!("{SCHEMAS}/{name}"))?)?,
        ));
    }
    files.push(("capabilities.xml".to_owned(), entry(&read(ENTRY)?)));
    files.push((
        "package.txt".to_owned(),
        package(&read("/var/lib/dpkg/status")?)?,
    ));
    files.push(("translation.txt".to_owned(), translations(daemon)?));
    Ok(files)
}

/// The emulator's text; of the long list of devices, only the known ones.
fn help(name: &str, printed: &str) -> String {
    let is_kept = |line: &&str| {
        let device = line
            .strip_prefix("name \"")
            .and_then(|rest| rest.split('"').next());
        device.is_none_or(|device| DEVICES.contains(&device))
    };
    let lines = printed
        .lines()
        .filter(|line| name != "device" || is_kept(line));
    let lines: Vec<&str> = match name {
        "version" => lines.take(1).collect(),
        _ => lines.collect(),
    };
    lines.join("\n") + "\n"
}

/// The defines that are read, as they are in the file.
fn schema(text: &str) -> Result<String> {
    let document = Document::parse(text).context("a schema is not XML")?;
    let root = document.root_element();
    let define = |node: Node<'_, '_>| match node.attribute("name") {
        Some("domain") => Some(
            "  <define name=\"domain\">\n    <element name=\"domain\"/>\n  </define>\n".to_owned(),
        ),
        Some(name) if DEFINES.contains(&name) => Some(format!("  {}\n", &text[node.range()])),
        _ => None,
    };
    let defines = root
        .children()
        .filter(|node| node.has_tag_name((ROOT, "define")));
    let defines: String = defines.filter_map(define).collect();
    ensure!(!defines.is_empty(), "a schema has none of the defines");
    let first = root.first_child().context("a schema is empty")?;
    let head = text[..first.range().start].trim_end();
    Ok(format!("{head}\n{defines}</grammar>\n"))
}

const ROOT: &str = "http://relaxng.org/ns/structure/1.0";

/// libvirt's entry without processors, machines and most flags.
fn entry(text: &str) -> String {
    let value = |line: &str, tag: &str| line.trim().starts_with(&format!("<{tag}>"));
    let times = ["qemuctime", "qemumoddirmtime", "selfctime"];
    let kept = [
        "emulator",
        "selfvers",
        "version",
        "kvmVersion",
        "microcodeVersion",
        "package",
        "arch",
    ];
    let lines = text.lines().filter_map(|line| {
        let flag = line
            .trim()
            .strip_prefix("<flag name='")
            .and_then(|rest| rest.split('\'').next());
        if flag.is_some_and(|flag| FLAGS.contains(&flag)) || kept.iter().any(|tag| value(line, tag))
        {
            return Some(line.to_owned());
        }
        let time = times.iter().find(|tag| value(line, tag))?;
        Some(format!("  <{time}>{TIME}</{time}>"))
    });
    let lines: Vec<String> = lines.collect();
    format!("<qemuCaps>\n{}\n</qemuCaps>\n", lines.join("\n"))
}

/// The version of libvirt's package.
fn package(status: &str) -> Result<String> {
    let mut paragraphs = status.split("\n\n");
    let ours = paragraphs.find(|text| text.starts_with("Package: libvirt0\n"));
    let version =
        ours.and_then(|text| text.lines().find_map(|line| line.strip_prefix("Version: ")));
    Ok(version
        .context("the package libvirt0 is not installed")?
        .to_owned()
        + "\n")
}

/// libvirt's answer to each of the agent's definitions.
fn translations(daemon: &Daemon) -> Result<String> {
    let definitions = folder().join("definition");
    let listed = fs::read_dir(&definitions).with_context(|| {
        format!(
            "'{}': run 'cargo xtask regen stacks'",
            definitions.display()
        )
    })?;
    let mut files: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let mut all = String::new();
    for file in files {
        let name = file
            .file_stem()
            .context("a file without a name")?
            .to_string_lossy()
            .into_owned();
        fs::copy(&file, daemon.path(INSIDE))
            .context("cannot write the definition for the daemon")?;
        let mut virsh = daemon.command("virsh");
        virsh.args([
            "-q",
            "-c",
            "qemu:///system",
            "domxml-to-native",
            "qemu-argv",
            INSIDE,
        ]);
        let done = virsh.stdin(Stdio::null()).output()?;
        let printed = match done.status.success() {
            true => done.stdout,
            false => done.stderr,
        };
        let printed = String::from_utf8_lossy(&printed);
        let line = printed.trim().lines().last().unwrap_or_default();
        let line = match done.status.success() {
            true => arguments(line),
            false => line.to_owned(),
        };
        all += &format!("=== {name}\n{line}\n");
    }
    Ok(all)
}

/// libvirt's line without the daemon's environment, and without the random UUID of the definition.
fn arguments(line: &str) -> String {
    let from_emulator = line.find(EMULATOR).map_or(line, |at| &line[at..]);
    let Some((before, rest)) = from_emulator.split_once(" -uuid ") else {
        return from_emulator.to_owned();
    };
    let after = rest.find(' ').map_or("", |at| &rest[at..]);
    format!("{before}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_of_devices_is_cut_and_other_lists_are_not() {
        let text = "Misc devices:\nname \"vfio-pci\", bus PCI\nname \"other\", bus PCI";
        assert_eq!(
            help("device", text),
            "Misc devices:\nname \"vfio-pci\", bus PCI\n"
        );
        assert_eq!(help("object", text), format!("{text}\n"));
        assert_eq!(help("version", text), "Misc devices:\n");
    }

    #[test]
    fn schema_keeps_its_head_and_the_defines_that_are_read() {
        let head = format!("<?xml version=\"1.0\"?>\n<grammar xmlns=\"{ROOT}\">\n");
        let kept = "  <define name=\"acpi\">\n    <text/>\n  </define>\n";
        let other = "  <define name=\"other\"><text/></define>\n";
        let text = format!("{head}{other}{kept}{other}</grammar>\n");
        assert_eq!(
            schema(&text).expect("a schema"),
            format!("{head}{kept}</grammar>\n")
        );
        assert!(schema(&format!("{head}{other}</grammar>")).is_err());
    }

    #[test]
    fn entry_has_no_times_processors_and_other_flags() {
        let text = "<qemuCaps>\n  <emulator>/q</emulator>\n  <qemuctime>7</qemuctime>\n  <flag name='iommufd'/>\n  <flag name='sdl'/>\n  <cpu name='max'/>\n</qemuCaps>\n";
        let wanted = format!(
            "<qemuCaps>\n  <emulator>/q</emulator>\n  <qemuctime>{TIME}</qemuctime>\n  <flag name='iommufd'/>\n</qemuCaps>\n"
        );
        assert_eq!(entry(text), wanted);
    }

    #[test]
    fn arguments_have_no_environment_and_no_uuid() {
        let line = format!("PATH=/x:/y HOME=/ {EMULATOR} -S -uuid 1-2 -numa node");
        assert_eq!(arguments(&line), format!("{EMULATOR} -S -numa node"));
        assert_eq!(arguments("-S"), "-S");
    }

    #[test]
    fn package_is_that_of_the_library() {
        let text = "Package: libvirt-daemon\nVersion: 1\n\nPackage: libvirt0\nStatus: x\nVersion: 12.8.0-1\n";
        assert_eq!(package(text).expect("a version"), "12.8.0-1\n");
        assert!(package("Package: x\n").is_err());
    }
}
