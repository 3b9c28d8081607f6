//! Defines many files with the libvirt of a suite and writes libvirt's text of each. `tests/differential` compares these texts
//! with the values that variantd reads.
//!
//! The result for FILE.xml is FILE.given.xml, with replacements for missing hardware, and either FILE.dumped.xml or FILE.refused
//! with libvirt's error.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use roxmltree::{Document, Node};

use super::daemon::Daemon;
use crate::lab::cache::Cache;
use crate::lab::debian::{self, Suite, Tree};
use crate::lab::progress::say;

/// The path of the definition for the daemon.
const INSIDE: &str = "/tmp/given.xml";

/// Machine types with a version; newer QEMUs have removed the older ones.
const VERSIONED: [(&str, &str); 5] = [
    ("pc-q35-", "q35"),
    ("pc-i440fx-", "pc"),
    ("pc-0.", "pc"),
    ("pc-1.", "pc"),
    ("virt-", "virt"),
];

/// Defines all files of a folder.
pub fn run(suite: Suite, from: &Path, to: &Path) -> Result<()> {
    let tree = debian::translate_tree(&Cache::open()?, suite, false)?;
    let mut daemon = Daemon::start(&tree)?;
    say(&format!("{suite}: {}", daemon.versions()?));
    for file in files(from)? {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let name = file.file_stem().context("no name")?.to_string_lossy();
        let write = |kind: &str, text: &str| {
            let path = to.join(format!("{name}.{kind}"));
            fs::write(&path, text).with_context(|| format!("cannot write '{}'", path.display()))
        };
        let given = stand_in(&text);
        write("given.xml", &given)?;
        match dumped(&daemon, &given) {
            Ok(dumped) => write("dumped.xml", &dumped)?,
            Err(error) => {
                write("refused", &format!("{error:#}\n"))?;
                daemon = revived(daemon, &tree)?;
            }
        }
    }
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed =
        fs::read_dir(folder).with_context(|| format!("cannot list '{}'", folder.display()))?;
    let paths = listed.flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|kind| kind == "xml"))
        .collect();
    files.sort();
    Ok(files)
}

/// Starts a new daemon if a definition made the old one exit.
fn revived(daemon: Daemon, tree: &Tree) -> Result<Daemon> {
    match daemon.virsh(&["uri"]) {
        Ok(_) => Ok(daemon),
        Err(_) => {
            drop(daemon);
            Daemon::start(tree)
        }
    }
}

/// libvirt's text of a definition.
fn dumped(daemon: &Daemon, given: &str) -> Result<String> {
    fs::write(daemon.path(INSIDE), given)?;
    let name = name(given).context("it names no domain")?;
    let script = format!("define {INSIDE}; dumpxml --inactive '{name}'; undefine --nvram '{name}'");
    let mut virsh = daemon.command("virsh");
    virsh.args(["-q", "-c", "qemu:///system", &script]);
    let done = virsh.stdin(Stdio::null()).output()?;
    let printed = String::from_utf8_lossy(&done.stdout);
    let Some(start) = printed.find("<domain ") else {
        let errors = String::from_utf8_lossy(&done.stderr);
        let reason = errors
            .lines()
            .find(|line| !line.contains("Failed to define domain"));
        bail!("{}", reason.unwrap_or_default());
    };
    Ok(printed[start..].trim().to_owned())
}

fn name(given: &str) -> Option<String> {
    let document = Document::parse(given).ok()?;
    let mut children = document.root_element().children();
    let name = children.find(|child| child.has_tag_name("name"))?.text()?;
    (!name.contains(['\'', '\\', '\n'])).then(|| name.to_owned())
}

/// Replaces KVM by TCG, the host's processor by QEMU's, machine types by those without versions, and the emulator by the suite's.
fn stand_in(text: &str) -> String {
    let Ok(document) = Document::parse(text) else {
        return text.to_owned();
    };
    let root = document.root_element();
    let mut edits: Vec<(Range<usize>, &str)> = Vec::new();
    let mut value = |node: Node<'_, '_>, name: &str, is: &dyn Fn(&str) -> Option<&'static str>| {
        let attribute = node.attribute_node(name);
        let new = attribute.and_then(|one| is(one.value()).map(|new| (one.range_value(), new)));
        edits.extend(new);
    };
    value(root, "type", &|kind| (kind == "kvm").then_some("qemu"));
    for node in root.descendants() {
        if node.has_tag_name("type") {
            value(node, "machine", &|machine| {
                let known = VERSIONED
                    .iter()
                    .find(|(version, _)| machine.starts_with(version));
                known.map(|(_, family)| *family)
            });
        }
        if node.has_tag_name("cpu") {
            value(node, "mode", &|mode| {
                (mode == "host-passthrough").then_some("maximum")
            });
        }
    }
    let emulator = root
        .descendants()
        .find(|node| node.has_tag_name("emulator"));
    edits.extend(emulator.map(|node| (node.range(), "")));
    edits.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    let mut text = text.to_owned();
    for (range, new) in edits {
        text.replace_range(range, new);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::stand_in;

    #[test]
    fn only_parts_that_the_host_lacks_are_replaced() {
        let text = "<domain type='kvm'><os><type machine='pc-q35-2.4'>hvm</type></os><cpu mode='host-passthrough'/><devices><emulator>/x</emulator><a type='kvm'/></devices></domain>";
        let expected = "<domain type='qemu'><os><type machine='q35'>hvm</type></os><cpu mode='maximum'/><devices><a type='kvm'/></devices></domain>";
        assert_eq!(stand_in(text), expected);
        assert_eq!(stand_in("<domain"), "<domain");
    }
}
