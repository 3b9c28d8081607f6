//! Whether a guest is relevant to the agent, from its XML and the agent's files, without a call of the agent.
//!
//! Unrelated guests must start without the agent, so most runs of the hook end here.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use kernel_glue::address::PciAddress;
use kernel_glue::id::PciId;
use memchr::memmem;
use roxmltree::{Document, Node, ParsingOptions};

use crate::input::{Input, NAMESPACE, Unreadable};
use crate::record::RunDirectory;
use domain::argument;
use domain::shape;

/// XML namespace of QEMU's arguments (libvirt, docs/drvqemu.rst).
const QEMU_NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";
/// Most XML nodes in a definition, as the agent has it.
const MAX_NODES: u32 = 1 << 17;
/// Bytes of a list that the agent publishes; 4,096 devices have 13 each.
pub const MAX_LIST: u64 = 64 << 10;
/// Bytes of an id in sysfs: `0x10de` and a newline.
const MAX_ID: u64 = 16;
/// Where the kernel shows PCI functions by address.
pub const PCI_DEVICES: &str = "/sys/bus/pci/devices";

/// Each definition that assigns a PCI function has one of these words.
const ASSIGNING: [&str; 3] = ["hostdev", "nvme", "vfio-pci"];

/// Why a guest is relevant to the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relevance {
    /// The agent prepared this definition before.
    pub marked: bool,
    /// It has a device that a recipe covers.
    pub device: bool,
    /// It has a PCI device that this host does not have. libvirt's hook ignores that, because such a guest does not start.
    pub absent: bool,
    /// It has a PCI device, and the list of covered devices cannot be read: why. The agent knows.
    pub unlisted: Option<String>,
    /// The agent has a record of one of its devices.
    pub journalled: bool,
    /// Why its XML cannot be read; then only the bytes are searched, for the mark.
    pub unreadable: Option<Unreadable>,
}

impl Relevance {
    /// Reads the XML, and `devices`, `ids` and `records` in the agent's run directory.
    #[must_use]
    pub fn of(input: &Input, run: &Path) -> Self {
        Self::with(input, run, Path::new(PCI_DEVICES))
    }

    /// As [`Self::of`], with the directory in which the kernel shows PCI functions.
    #[must_use]
    pub fn with(input: &Input, run: &Path, pci: &Path) -> Self {
        let directory = RunDirectory::open(run);
        let text = input.text.as_deref();
        if text.is_ok_and(|text| is_unrelated(text.as_bytes(), &directory)) {
            return Self::default();
        }
        match text.map_err(Clone::clone).and_then(parse) {
            Ok(document) => Self {
                journalled: is_journalled(&document, &directory),
                ..Self::of_document(&document, run, pci)
            },
            Err(why) => Self {
                marked: input.names_mark,
                unreadable: Some(why),
                ..Self::default()
            },
        }
    }

    fn of_document(document: &Document<'_>, run: &Path, pci: &Path) -> Self {
        let sources: Vec<PciAddress> = document.descendants().filter_map(source).collect();
        let device = has_device(&sources, run, pci);
        Self {
            marked: document.descendants().any(is_mark),
            device: *device.as_ref().unwrap_or(&false),
            absent: sources.iter().any(|address| is_absent(pci, address)),
            unlisted: device.err().map(|why| why.to_string()),
            ..Self::default()
        }
    }

    /// True when the agent must be called, or when the guest may need it and its XML did not arrive.
    #[must_use]
    pub fn any(&self) -> bool {
        let missing = matches!(self.unreadable, Some(Unreadable::Missing(_)));
        self.marked || self.device || self.unlisted.is_some() || self.journalled || missing
    }
}

/// Parses XML of a guest within the limits of a definition, without a document type.
///
/// # Errors
/// It is not XML, or of a shape that no domain has.
pub fn parse(text: &str) -> Result<Document<'_>, Unreadable> {
    if let Some(excess) = shape::excess(text) {
        return Err(Unreadable::Malformed(excess));
    }
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit: MAX_NODES,
        ..Default::default()
    };
    let document = Document::parse_with_options(text, options);
    document.map_err(|error| Unreadable::Malformed(error.to_string()))
}

/// The quick check for most guests: it does not parse the XML, and needs no memory but for a record (see [`RunDirectory`]). libvirt
/// writes such words literally, never as character references, and a device is in `<hostdev>`, `<interface type='hostdev'>`, an NVMe
/// disk or QEMU's own arguments.
#[must_use]
pub fn is_unrelated(text: &[u8], run: &RunDirectory) -> bool {
    let has = |word: &str| memmem::find(text, word.as_bytes()).is_some();
    !has(NAMESPACE) && !ASSIGNING.into_iter().any(has) && run.is_unused()
}

fn is_mark(node: Node<'_, '_>) -> bool {
    node.tag_name().namespace() == Some(NAMESPACE)
}

/// A device that the agent has listed, or a newer one with an id of a recipe: the id identifies a GPU that was plugged in or a
/// new virtual function before the agent has read it, and while no agent runs.
///
/// A missing list is not an empty list: the agent has not run since boot. Neither is a list that cannot be read.
fn has_device(sources: &[PciAddress], run: &Path, pci: &Path) -> io::Result<bool> {
    // Before the lists are read: a guest without PCI devices must start even if they are unreadable.
    if sources.is_empty() {
        return Ok(false);
    }
    let listed: BTreeSet<PciAddress> = list(&run.join("devices"))?;
    if sources.iter().any(|address| listed.contains(address)) {
        return Ok(true);
    }
    let ids: BTreeSet<Covered> = present(list(&run.join("ids")))?.unwrap_or_default();
    if ids.is_empty() {
        return Ok(false);
    }
    for address in sources {
        let Some(id) = present(id(pci, address))?.flatten() else {
            continue;
        };
        let physfn = pci.join(address.to_string()).join("physfn");
        let is_virtual = present(fs::symlink_metadata(physfn))?.is_some();
        if ids
            .iter()
            .any(|covered| covered.id == id && covered.includes(is_virtual))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// False when the kernel's directory of the function cannot be looked up for another reason.
fn is_absent(pci: &Path, address: &PciAddress) -> bool {
    let function = fs::symlink_metadata(pci.join(address.to_string()));
    function.is_err_and(|why| why.kind() == io::ErrorKind::NotFound)
}

/// A list that the agent publishes, one item in each line.
fn list<T: FromStr + Ord>(path: &Path) -> io::Result<BTreeSet<T>> {
    let text = bounded(path, MAX_LIST)?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// An id of a recipe, as the agent publishes it: `10de:2342`, with `virtual` or `any` behind it where the recipe is for
/// virtual functions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Covered {
    id: PciId,
    functions: String,
}

impl Covered {
    /// True when the recipe is for such functions; an unknown keyword of a newer agent counts as both.
    fn includes(&self, is_virtual: bool) -> bool {
        match self.functions.as_str() {
            "" | "physical" => !is_virtual,
            "virtual" => is_virtual,
            _ => true,
        }
    }
}

impl FromStr for Covered {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let (id, functions) = line.split_once(' ').unwrap_or((line, ""));
        Ok(Self {
            id: id.parse().map_err(|_| ())?,
            functions: functions.to_owned(),
        })
    }
}

/// The id of a function as sysfs has it.
fn id(pci: &Path, address: &PciAddress) -> io::Result<Option<PciId>> {
    let directory = pci.join(address.to_string());
    let field = |name| {
        let text = bounded(&directory.join(name), MAX_ID)?;
        let digits = text.trim().strip_prefix("0x");
        Ok::<_, io::Error>(digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()))
    };
    let (vendor, device) = (field("vendor")?, field("device")?);
    let both = vendor.zip(device);
    Ok(both.map(|(vendor, device)| PciId { vendor, device }))
}

fn bounded(path: &Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?
        .take(limit + 1)
        .read_to_string(&mut text)?;
    match read as u64 > limit {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => Ok(text),
    }
}

/// None where there is no such file.
fn present<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// The host address in `<hostdev>`, `<interface type='hostdev'>` and an NVMe disk: `<source><address .../>`; or in an
/// argument of QEMU's.
fn source(node: Node<'_, '_>) -> Option<PciAddress> {
    if node.has_tag_name((QEMU_NAMESPACE, "arg")) {
        return argument::host_device(node.attribute("value")?);
    }
    let parent = node.parent_element()?;
    let is_source = is(node, "address") && is(parent, "source");
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

/// An element of libvirt: elements in an XML namespace belong to other programs.
fn is(node: Node<'_, '_>, name: &str) -> bool {
    node.tag_name().namespace().is_none() && node.tag_name().name() == name
}

/// libvirt's numbers, as it writes them: `0x1f`, octal with a leading 0, or decimal.
fn number(text: &str) -> Option<u32> {
    match (text.strip_prefix("0x"), text.strip_prefix('0')) {
        (Some(digits), _) => u32::from_str_radix(digits, 16).ok(),
        (None, Some(digits)) if !digits.is_empty() => u32::from_str_radix(digits, 8).ok(),
        _ => text.parse().ok(),
    }
}

fn is_journalled(document: &Document<'_>, run: &RunDirectory) -> bool {
    let children = document.root_element().children();
    let uuid = children
        .filter(|child| is(*child, "uuid"))
        .find_map(|child| child.text())
        .map(|text| text.trim().to_ascii_lowercase());
    let shaped = |text: &String| text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    uuid.filter(shaped).is_some_and(|uuid| run.has(&uuid))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn of(text: &str, run: &Path) -> Relevance {
        Relevance::of(&Input::from(text), run)
    }

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
    fn covered_device_makes_a_guest_relevant_and_another_does_not() {
        let run = run_directory();
        assert!(of(&hostdev("0x01"), run.path()).device);
        assert!(of(&hostdev("1"), run.path()).device);
        assert!(of(&hostdev("001"), run.path()).device);
        assert!(!of(&hostdev("0x02"), run.path()).any());
    }

    #[test]
    fn address_of_another_namespace_is_not_a_device() {
        let run = run_directory();
        let foreign = hostdev("0x01").replace("<source>", "<source xmlns='urn:e'>");
        assert!(!of(&foreign, run.path()).any());
    }

    #[test]
    fn id_identifies_a_device_newer_than_the_list() {
        let (run, pci) = (run_directory(), tempfile::tempdir().expect("sysfs"));
        let add = |address: &str, device: &str| {
            let function = pci.path().join(address);
            fs::create_dir(&function).expect("function");
            fs::write(function.join("vendor"), "0x10de\n").expect("vendor");
            fs::write(function.join("device"), device).expect("device");
        };
        let asks =
            |bus| Relevance::with(&Input::from(&*hostdev(bus)), run.path(), pci.path()).any();
        add("0009:02:00.0", "0x2342\n");
        add("0009:03:00.0", "0x1234\n");
        assert!(!asks("0x02"), "no list of ids");
        fs::write(run.path().join("ids"), "10de:2342\n10de:2941\n").expect("ids");
        assert!(asks("0x02"));
        assert!(!asks("0x03"), "another id");
        assert!(!asks("0x04"), "no such function");
        let physfn = pci.path().join("0009:02:00.0/physfn");
        std::os::unix::fs::symlink("../0009:01:00.0", physfn).expect("physfn");
        assert!(
            !asks("0x02"),
            "a virtual function with its physical function's id"
        );
        fs::write(run.path().join("ids"), "10de:2342 any\n").expect("ids");
        assert!(asks("0x02"));
    }

    #[test]
    fn covered_device_makes_a_guest_relevant_in_each_form_of_assignment() {
        let run = run_directory();
        let address = "<address type='pci' domain='0x0009' bus='0x01' slot='0x00' function='0x0'/>";
        let forms = [
            format!("<devices><interface type='hostdev'><source>{address}</source></interface></devices>"),
            format!("<devices><disk type='nvme'><source type='pci'>{address}</source></disk></devices>"),
            "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:arg value='-device'/>\
             <q:arg value='vfio-pci,host=0009:01:00.0'/></q:commandline>"
                .to_owned(),
        ];
        for form in forms {
            assert!(of(&guest(&form), run.path()).device, "{form}");
            let other = form.replace("0x01", "0x02").replace("0009:01", "0009:02");
            assert!(!of(&guest(&other), run.path()).any(), "{other}");
        }
    }

    #[test]
    fn guest_address_is_not_a_host_device() {
        let run = run_directory();
        fs::write(run.path().join("devices"), "0000:01:00.0\n").expect("devices");
        assert!(!of(&hostdev("0x01"), run.path()).any());
    }

    #[test]
    fn mark_makes_a_guest_relevant_without_any_file() {
        let mark = "<metadata><v:prepared xmlns:v='urn:variantd:1'/></metadata>";
        let relevance = of(&guest(mark), Path::new("/nonexistent"));
        assert!(relevance.marked && !relevance.device);
    }

    #[test]
    fn journal_entry_makes_a_guest_relevant() {
        let run = run_directory();
        fs::create_dir(run.path().join("journal")).expect("journal");
        fs::write(run.path().join(format!("journal/{UUID}.json")), "{}").expect("entry");
        assert!(of(&guest(""), run.path()).journalled);
    }

    #[test]
    fn absent_device_is_noted_and_does_not_make_a_guest_relevant_to_the_hook() {
        let (run, pci) = (run_directory(), tempfile::tempdir().expect("sysfs"));
        fs::create_dir(pci.path().join("0009:02:00.0")).expect("function");
        let of = |text: &str| Relevance::with(&Input::from(text), run.path(), pci.path());
        let absent = of(&hostdev("0x03"));
        assert!(absent.absent && !absent.any());
        assert!(!of(&hostdev("0x02")).absent);
        assert!(!of(&guest("<devices><hostdev/></devices>")).absent);
    }

    #[test]
    fn missing_list_makes_only_guests_with_a_pci_device_relevant() {
        for missing in ["/nonexistent", "/dev/null"] {
            let relevance = of(&hostdev("0x01"), Path::new(missing));
            assert!(relevance.any() && relevance.unlisted.is_some() && !relevance.device);
            assert!(!of(&guest("<devices><hostdev/></devices>"), Path::new(missing)).any());
        }
        let run = run_directory();
        fs::write(run.path().join("devices"), "").expect("an empty list");
        assert!(!of(&hostdev("0x01"), run.path()).any());
    }

    #[test]
    fn too_long_list_is_an_error_and_not_cut_off() {
        let run = run_directory();
        let long = "0009:02:00.0\n".repeat(6000);
        fs::write(run.path().join("devices"), long).expect("devices");
        assert!(of(&hostdev("0x01"), run.path()).unlisted.is_some());
    }

    #[test]
    fn missing_definition_makes_a_guest_relevant() {
        assert!(of("", Path::new("/nonexistent")).any());
    }

    #[test]
    fn malformed_definition_is_relevant_only_with_our_namespace() {
        let run = run_directory();
        assert!(!of("<domain", run.path()).any());
        assert!(of("<domain xmlns:v='urn:variantd:1'", run.path()).marked);
    }

    #[test]
    fn too_deep_definition_is_not_parsed() {
        let deep = format!("<v xmlns='urn:variantd:1'>{}", "<a>".repeat(100_000));
        let relevance = of(&deep, Path::new("/nonexistent"));
        assert!(
            matches!(relevance.unreadable, Some(Unreadable::Malformed(why)) if why.contains("nested elements"))
        );
    }

    #[test]
    fn document_type_is_not_read() {
        let declared = "<!DOCTYPE domain [<!ENTITY a 'urn:variantd:1'>]><domain xmlns:v='&a;'/>";
        let relevance = of(declared, Path::new("/nonexistent"));
        assert!(relevance.marked && relevance.unreadable.is_some());
    }
}
