//! Whether a guest is the agent's business, told from its XML and three files, without D-Bus.
//!
//! A host full of other guests must not depend on the agent, so most runs of the hook end here.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use kernel_glue::address::PciAddress;
use memchr::memmem;
use roxmltree::{Document, Node};

/// The namespace of the mark that the agent leaves in a definition's metadata.
pub const NAMESPACE: &str = "urn:variantd:1";

/// Why a guest concerns the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Business {
    /// The agent prepared this definition before.
    pub marked: bool,
    /// It is given a device that some recipe covers.
    pub device: bool,
    /// The agent holds a journal entry for it.
    pub journalled: bool,
}

impl Business {
    /// Looks at the XML, at `devices` and at `journal` in the agent's run directory.
    #[must_use]
    pub fn of(xml: &str, run: &Path) -> Self {
        if !names(xml, NAMESPACE) && !names(xml, "hostdev") && is_empty(&run.join("journal")) {
            return Self::default();
        }
        let Ok(document) = Document::parse(xml) else {
            return Self {
                marked: xml.contains(NAMESPACE),
                ..Self::default()
            };
        };
        Self {
            marked: document.descendants().any(is_mark),
            device: has_device(&document, &covered(&run.join("devices"))),
            journalled: is_journalled(&document, run),
        }
    }

    /// True when the agent has to be asked.
    #[must_use]
    pub fn any(&self) -> bool {
        self.marked || self.device || self.journalled
    }
}

/// Most guests end here, without their XML being parsed. libvirt writes such words as they are, never as references to
/// characters, and a device is in `<hostdev>` or `<interface type='hostdev'>`.
fn names(xml: &str, word: &str) -> bool {
    memmem::find(xml.as_bytes(), word.as_bytes()).is_some()
}

/// No entry is there, or no directory. One that cannot be read may have some.
fn is_empty(directory: &Path) -> bool {
    match fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn is_mark(node: Node<'_, '_>) -> bool {
    node.tag_name().namespace() == Some(NAMESPACE)
}

/// The devices that the agent published, one address a line.
fn covered(path: &Path) -> BTreeSet<PciAddress> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn has_device(document: &Document<'_>, covered: &BTreeSet<PciAddress>) -> bool {
    let mut sources = document.descendants().filter_map(source);
    !covered.is_empty() && sources.any(|address| covered.contains(&address))
}

/// The host address in `<hostdev>` and `<interface type='hostdev'>`: `<source><address .../>`.
fn source(node: Node<'_, '_>) -> Option<PciAddress> {
    let parent = node.parent_element()?;
    let is_source = node.has_tag_name("address") && parent.has_tag_name("source");
    let field = |name| {
        node.attribute(name)
            .map_or(Some(0), number)
            .and_then(|n| u8::try_from(n).ok())
    };
    let domain = node.attribute("domain").map_or(Some(0), number)?;
    is_source
        .then(|| PciAddress::new(domain, field("bus")?, field("slot")?, field("function")?).ok())
        .flatten()
}

/// libvirt's numbers: `0x1f` or decimal.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn is_journalled(document: &Document<'_>, run: &Path) -> bool {
    let children = document.root_element().children();
    let uuid = children
        .filter(|child| child.has_tag_name("uuid"))
        .find_map(|child| child.text())
        .map(|text| text.trim().to_ascii_lowercase());
    let shaped = |text: &String| text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    uuid.filter(shaped)
        .is_some_and(|uuid| run.join("journal").join(format!("{uuid}.json")).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11";

    fn guest(inner: &str) -> String {
        format!("<domain type='kvm'><uuid>{UUID}</uuid>{inner}</domain>")
    }

    fn hostdev(bus: &str) -> String {
        guest(&format!(
            "<devices><hostdev mode='subsystem' type='pci'><source>\
             <address domain='0x0009' bus='{bus}' slot='0x00' function='0x0'/></source>\
             <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>\
             </hostdev></devices>"
        ))
    }

    fn run_directory() -> tempfile::TempDir {
        let run = tempfile::tempdir().expect("run directory");
        fs::write(run.path().join("devices"), "0009:01:00.0\n").expect("devices");
        run
    }

    #[test]
    fn a_covered_device_is_business_and_another_is_not() {
        let run = run_directory();
        assert!(Business::of(&hostdev("0x01"), run.path()).device);
        assert!(Business::of(&hostdev("1"), run.path()).device);
        assert!(!Business::of(&hostdev("0x02"), run.path()).any());
    }

    #[test]
    fn the_address_inside_the_guest_is_not_a_host_device() {
        let run = run_directory();
        fs::write(run.path().join("devices"), "0000:01:00.0\n").expect("devices");
        assert!(!Business::of(&hostdev("0x01"), run.path()).any());
    }

    #[test]
    fn a_marked_guest_is_business_without_any_file() {
        let mark = "<metadata><v:prepared xmlns:v='urn:variantd:1'/></metadata>";
        let business = Business::of(&guest(mark), Path::new("/nonexistent"));
        assert!(business.marked && !business.device);
    }

    #[test]
    fn a_journal_entry_is_business() {
        let run = run_directory();
        fs::create_dir(run.path().join("journal")).expect("journal");
        fs::write(run.path().join(format!("journal/{UUID}.json")), "{}").expect("entry");
        assert!(Business::of(&guest(""), run.path()).journalled);
    }

    #[test]
    fn what_cannot_be_parsed_is_business_only_with_our_namespace() {
        let run = run_directory();
        assert!(!Business::of("<domain", run.path()).any());
        assert!(Business::of("<domain xmlns:v='urn:variantd:1'", run.path()).marked);
    }
}
