//! What an emulator says about itself: `-version`, `-device help`, `-object help` and the properties of one device.
//!
//! Follows qdev-monitor.c and vl.c of QEMU: a property is printed as `NAME=<TYPE> - description`. `-device X,help` also
//! lists devices that users cannot create; only `-device help` tells those apart.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use planner::target::Version;

/// Maximum size of one output; that of `-device help` has 20 KiB.
pub const MAX_BYTES: usize = 1 << 20;
/// Maximum number of names, and length of one.
const MAX_NAMES: usize = 4096;
const MAX_NAME: usize = 128;

/// Names of properties, and their types as QEMU names them: `bool`, `uint8`, `OnOffAuto`.
pub type Types = BTreeMap<String, String>;

/// An emulator's answers; `None` where it gave none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Properties {
    /// Its version and package.
    pub version: Option<Named>,
    /// The devices that users can create.
    pub devices: Option<BTreeSet<String>>,
    /// The objects that users can create.
    pub objects: Option<BTreeSet<String>>,
    /// The properties of `arm-smmuv3`.
    pub smmu: Option<Types>,
    /// The properties of the machine `virt`; those of an instance, such as `hmat`, are not among them.
    pub machine: Option<Types>,
}

/// A version, and the name of the package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// The version.
    pub version: Version,
    /// What stands in parentheses behind it.
    pub package: Option<String>,
}

impl Properties {
    /// False if a question that every QEMU answers has no answer: it was too slow or failed. Only one for Arm has an SMMUv3.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let has_smmu = |devices: &BTreeSet<String>| devices.contains("arm-smmuv3");
        let is_arm = self.devices.as_ref().is_some_and(has_smmu);
        let lists = self.version.is_some() && self.devices.is_some() && self.objects.is_some();
        lists && (!is_arm || self.smmu.is_some() && self.machine.is_some())
    }

    /// False if a name that another user wrote is not one of QEMU's.
    pub(super) fn is_valid(&self) -> bool {
        let mut names = [&self.devices, &self.objects]
            .into_iter()
            .flatten()
            .flatten();
        let mut types = [&self.smmu, &self.machine].into_iter().flatten().flatten();
        let named = self.version.as_ref();
        let package = named.and_then(|named| named.package.as_ref());
        names.all(|name| is_name(name))
            && types.all(|(name, kind)| is_name(name) && is_name(kind))
            && package.is_none_or(|name| is_text(name))
    }
}

/// Parses `-version`.
#[must_use]
pub fn version(text: &str) -> Option<Named> {
    let first = text.lines().next().filter(|line| is_text(line))?;
    let (_, rest) = first.split_once("version ")?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (version, behind) = rest.split_at(end.unwrap_or(rest.len()));
    let package = behind.trim().strip_prefix('(');
    let package = package.and_then(|package| package.strip_suffix(')'));
    Some(Named {
        version: version.trim_end_matches('.').parse().ok()?,
        package: package.map(str::to_owned),
    })
}

/// Parses `-device help`: the devices that users can create.
#[must_use]
pub fn devices(text: &str) -> Option<BTreeSet<String>> {
    let names = text.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("name \"")?.split_once('"')?;
        Some(name)
    });
    set(text, names)
}

/// Parses `-object help`.
#[must_use]
pub fn objects(text: &str) -> Option<BTreeSet<String>> {
    let mut lines = text.lines();
    lines.next().filter(|line| line.ends_with("objects:"))?;
    set(text, lines.filter_map(|line| line.strip_prefix("  ")))
}

/// Parses the properties of a device (`-device NAME,help`) or a machine (`-machine NAME,help`).
#[must_use]
pub fn types(text: &str) -> Option<Types> {
    let mut lines = text.lines();
    lines.next().filter(|line| line.ends_with(" options:"))?;
    let types: Types = lines.filter_map(property).take(MAX_NAMES).collect();
    (!types.is_empty() && text.len() <= MAX_BYTES).then_some(types)
}

/// The type of a link contains a pair of `<>` itself: `link<PCI>`.
fn property(line: &str) -> Option<(String, String)> {
    let (name, rest) = line.strip_prefix("  ")?.split_once("=<")?;
    let end = rest.find("> ").or_else(|| rest.rfind('>'))?;
    let kind = &rest[..end];
    (is_name(name) && is_name(kind)).then(|| (name.to_owned(), kind.to_owned()))
}

fn set<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<BTreeSet<String>> {
    let names = names.filter(|name| is_name(name)).take(MAX_NAMES);
    let names: BTreeSet<String> = names.map(str::to_owned).collect();
    (!names.is_empty() && text.len() <= MAX_BYTES).then_some(names)
}

fn is_name(name: &str) -> bool {
    let is_printed = |byte: u8| byte.is_ascii_graphic();
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_printed)
}

fn is_text(text: &str) -> bool {
    text.len() <= MAX_NAME
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

#[cfg(test)]
#[path = "properties_test.rs"]
mod test;
