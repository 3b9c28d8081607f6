//! The initiator objects of a running guest, from QEMU's monitor and its command line.
//!
//! QEMU lists its objects and devices (`qom-list`), but does not report which device an `acpi-generic-initiator` names:
//! that is only in the `-object` argument, as JSON or as `key=value` pairs.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use domain::DomainUuid;

const KIND: &str = "acpi-generic-initiator";
/// The QOM path of objects that `-object` and `-device` created.
pub(super) const OBJECTS: &str = "/objects";
pub(super) const DEVICES: &str = "/machine/peripheral";

/// Device id by object id of all initiators on a guest's command line; empty if its process is not found.
pub(super) fn started_with(processes: &Path, guest: &DomainUuid) -> BTreeMap<String, String> {
    let uuid = guest.to_string();
    let entries = fs::read_dir(processes).into_iter().flatten().flatten();
    // The agent's SELinux domain may not search each other directory of /proc.
    let is_process = |name: &OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let processes = entries.filter(|entry| is_process(&entry.file_name()));
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    // libvirt passes the domain's UUID as `-uuid`, which also finds a QEMU that was started by an earlier daemon.
    let mut commands = lines.map(|line| arguments(&line));
    let own = commands.find(|words| values(words, "-uuid").any(|value| value == uuid));
    own.map_or_else(BTreeMap::new, |words| {
        values(&words, "-object").filter_map(named).collect()
    })
}

/// Whether the live XML has the device of each initiator.
pub(super) fn have_devices(started_with: &BTreeMap<String, String>, live: &str) -> bool {
    let has = |device: &String| live.contains(&format!("<alias name='{device}'/>"));
    started_with.values().all(has)
}

/// The remaining objects whose device does not exist.
pub(super) fn stale(
    started_with: &BTreeMap<String, String>,
    objects: &BTreeSet<String>,
    devices: &BTreeSet<String>,
) -> Vec<String> {
    let gone = |(object, device): &(&String, &String)| {
        objects.contains(*object) && !devices.contains(*device)
    };
    let stale = started_with.iter().filter(gone);
    stale.map(|(object, _)| object.clone()).collect()
}

/// The command that lists the names below `path`.
pub(super) fn list(path: &str) -> String {
    json!({"execute": "qom-list", "arguments": {"path": path}}).to_string()
}

/// The command that deletes an object.
pub(super) fn delete(id: &str) -> String {
    json!({"execute": "object-del", "arguments": {"id": id}}).to_string()
}

/// The names in a reply to [`list`]; QEMU's error text if it failed.
pub(super) fn names(answer: &str) -> Result<BTreeSet<String>, String> {
    #[derive(Deserialize)]
    struct Property {
        name: String,
    }
    let properties: Vec<Property> = returned(answer)?;
    Ok(properties.into_iter().map(|one| one.name).collect())
}

/// QEMU's return value; its error text if it failed.
pub(super) fn returned<T: for<'a> Deserialize<'a>>(answer: &str) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Answer<T> {
        #[serde(rename = "return")]
        returned: Option<T>,
        error: Option<Words>,
    }
    #[derive(Deserialize)]
    struct Words {
        desc: String,
    }
    let answer: Answer<T> = serde_json::from_str(answer).map_err(|why| why.to_string())?;
    match (answer.returned, answer.error) {
        (_, Some(words)) => Err(words.desc),
        (Some(returned), None) => Ok(returned),
        (None, None) => Err("QEMU returned nothing".into()),
    }
}

fn arguments(line: &[u8]) -> Vec<String> {
    let words = line.split(|byte| *byte == 0);
    words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

fn values<'a>(words: &'a [String], option: &'a str) -> impl Iterator<Item = &'a str> {
    let pairs = words.windows(2).filter(move |pair| pair[0] == option);
    pairs.map(|pair| pair[1].as_str())
}

/// Object and device of an `-object` argument that creates an initiator.
fn named(argument: &str) -> Option<(String, String)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Object {
        qom_type: String,
        id: String,
        pci_dev: Option<String>,
    }
    if argument.starts_with('{') {
        let object: Object = serde_json::from_str(argument).ok()?;
        let device = object.pci_dev?;
        return (object.qom_type == KIND).then_some((object.id, device));
    }
    let (kind, rest) = argument.split_once(',')?;
    // The `key=value` form, which libvirt writes for a QEMU without JSON objects and users write in <qemu:commandline>.
    let kind = kind.strip_prefix("qom-type=").unwrap_or(kind);
    let value = |key| rest.split(',').find_map(|pair| pair.strip_prefix(key));
    let pair = (value("id=")?.to_owned(), value("pci-dev=")?.to_owned());
    (kind == KIND).then_some(pair)
}

#[cfg(test)]
#[path = "initiator_test.rs"]
mod test;
