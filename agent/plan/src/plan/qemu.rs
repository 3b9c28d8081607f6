//! The QEMU arguments of a definition, parsed as QEMU parses them.
//!
//! An option has one or two dashes, and its value is the next argument (system/vl.c). A value is JSON, or `key=value` pairs
//! with commas between them, where `,,` is a comma and the first element may be a value without its key (util/keyval.c).

use kernel_glue::address::PciAddress;
use serde_json::Value;

use super::command_line;
use domain::{Argument, Domain};

/// One option with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// Without dashes.
    pub(super) option: String,
    /// The first value: the driver of a `-device`, the type of an `-object` or `-machine`.
    pub(super) kind: String,
    properties: Vec<(String, String)>,
}

impl Given {
    /// The last value of a property: in QEMU the last one wins.
    pub(super) fn property(&self, name: &str) -> Option<&str> {
        let mut named = self.properties.iter().rev().filter(|(key, _)| key == name);
        named.next().map(|(_, value)| value.as_str())
    }

    /// The property is on: `on`, `yes`, `true`, or the name alone.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.property(name).is_some_and(is_on)
    }

    /// A host device, in each of QEMU's spellings of it.
    pub(super) fn is_vfio(&self) -> bool {
        self.option == "device" && self.kind.starts_with("vfio-pci")
    }

    /// The window of `virt`.
    pub(super) fn window(&self) -> Option<&str> {
        let is_machine = matches!(self.option.as_str(), "machine" | "M");
        self.property("highmem-mmio-size").filter(|_| is_machine)
    }
}

/// All such options of a definition in order.
pub(super) fn given(domain: &Domain) -> Vec<Given> {
    read_all(arguments(domain).map(|argument| argument.value.as_str()))
}

/// A value of a property of QEMU that is true.
pub(super) fn is_on(value: &str) -> bool {
    matches!(value, "on" | "yes" | "true" | "y")
}

/// The options without those that variantd added.
pub(super) fn foreign(domain: &Domain) -> Vec<Given> {
    let ours = command_line::ours(domain);
    let is_ours = |argument: &Argument| ours.iter().any(|one| std::ptr::eq(*one, argument));
    let foreign = arguments(domain).filter(|argument| !is_ours(argument));
    read_all(foreign.map(|argument| argument.value.as_str()))
}

/// Host devices among QEMU's arguments.
pub(super) fn assigned(domain: &Domain) -> Vec<PciAddress> {
    let given = given(domain);
    given.iter().filter_map(host_device).collect()
}

/// The host device of a `-device vfio-pci`; `None` if a file descriptor names it.
pub(super) fn host_device(given: &Given) -> Option<PciAddress> {
    let named = given
        .property("host")
        .or_else(|| given.property("sysfsdev")?.rsplit('/').next());
    given.is_vfio().then(|| named?.parse().ok()).flatten()
}

/// `pref64-reserve` of ports in KiB, with the index of the port if libvirt added it.
pub(super) fn reserved(domain: &Domain) -> Vec<(Option<u32>, u64)> {
    const RESERVE: &str = "pref64-reserve";
    let kib = |text: &str| size(text).map(|bytes| bytes.div_ceil(1024));
    let overrides = domain.overrides.iter().flat_map(|all| &all.properties);
    let overridden = overrides
        .filter(|property| property.name == RESERVE)
        .filter_map(|property| {
            let index = property.alias.strip_prefix("pci.")?.parse().ok()?;
            Some((Some(index), kib(&property.value)?))
        });
    let given = given(domain);
    let devices = given.iter().filter(|given| given.option == "device");
    let devices = devices.filter_map(|given| Some((None, kib(given.property(RESERVE)?)?)));
    overridden.chain(devices).collect()
}

fn arguments(domain: &Domain) -> impl Iterator<Item = &Argument> {
    let line = domain.command_line.iter();
    line.flat_map(|line| &line.arguments)
}

fn read_all<'a>(arguments: impl Iterator<Item = &'a str>) -> Vec<Given> {
    let all: Vec<&str> = arguments.collect();
    let mut given = Vec::new();
    let mut at = 0;
    while let Some(option) = all.get(at) {
        at += 1;
        let Some(name) = option.strip_prefix('-') else {
            continue;
        };
        let value = all.get(at).filter(|value| !value.starts_with('-'));
        at += usize::from(value.is_some());
        let name = name.strip_prefix('-').unwrap_or(name);
        given.push(read(name, value.copied().unwrap_or_default()));
    }
    given
}

fn read(option: &str, value: &str) -> Given {
    let implied = match option {
        "device" => "driver",
        "object" => "qom-type",
        _ => "type",
    };
    let properties = match serde_json::from_str::<Value>(value) {
        Ok(Value::Object(object)) => object.iter().map(|(k, v)| (k.clone(), scalar(v))).collect(),
        _ => pairs(value, implied),
    };
    let given = Given {
        option: option.to_owned(),
        kind: String::new(),
        properties,
    };
    Given {
        kind: given.property(implied).unwrap_or_default().to_owned(),
        ..given
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn pairs(value: &str, implied: &str) -> Vec<(String, String)> {
    let protected = value.replace(",,", "\0");
    let elements = protected.split(',').enumerate();
    let pair = |(place, element): (usize, &str)| {
        let element = element.replace('\0', ",");
        match element.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None if place == 0 => (implied.to_owned(), element),
            None => (element, "on".to_owned()),
        }
    };
    elements.map(pair).collect()
}

/// A size as QEMU reads it (util/cutils.c, `qemu_strtosz`): bytes, or with a suffix B, K, M, G, T, P or E in either case.
pub(super) fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = text.get(digits.len()..)?;
    let number: u64 = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    let shift = match suffix.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        "P" => 50,
        "E" => 60,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_value_pairs_and_json_are_read_alike() {
        for text in [
            "vfio-pci,host=0009:01:00.0,id=a,,b",
            "host=0009:01:00.0,id=a,,b,driver=vfio-pci",
            "{\"driver\":\"vfio-pci\",\"host\":\"0009:01:00.0\",\"id\":\"a,b\"}",
        ] {
            let given = read("device", text);
            assert_eq!(given.kind, "vfio-pci", "{text}");
            assert_eq!(given.property("host"), Some("0009:01:00.0"), "{text}");
            assert_eq!(given.property("id"), Some("a,b"), "{text}");
        }
        let twice = read("device", "arm-smmuv3,accel=off,accel=on");
        assert!(twice.is_on("accel") && !twice.is_on("ats"));
    }

    #[test]
    fn a_size_accepts_qemus_suffixes() {
        for (text, bytes) in [
            ("512", Some(512)),
            ("512B", Some(512)),
            ("2T", Some(2 << 40)),
            ("1073741824K", Some(1 << 40)),
            ("1g", Some(1 << 30)),
            ("0x10", Some(16)),
            ("", None),
            ("G", None),
            ("99E", None),
            ("1X", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
    }
}
