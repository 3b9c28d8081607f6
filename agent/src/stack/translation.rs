//! What libvirt writes for QEMU: small definitions, each with one element, are translated and the arguments searched.
//!
//! libvirt starts nothing for it. It drops an element that it does not know without an error, so only an argument shows
//! that it knows one. A definition with a host device needs VFIO on this host; the others do not.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Maximum size of libvirt's answer; ordinary ones have 3 KiB.
const MAX_BYTES: usize = 1 << 20;

/// libvirt's answer to a definition: the arguments, or its error.
pub type Translated = Result<String, String>;

/// The answers; `None` where libvirt gave none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// A cell without memory has no memory backend.
    pub empty_cell: Option<bool>,
    /// `<pcihole64>` sets the window of `virt`.
    pub window: Option<bool>,
    /// `<iommu model='smmuv3'>` with `pciBus`.
    pub smmu: Option<Smmu>,
    /// `<acpi nodeset>` makes an initiator.
    pub nodeset: Option<bool>,
    /// `<driver iommufd>` gives the host device an iommufd.
    pub hostdev_iommufd: Option<bool>,
    /// `<memory model='egm'>` makes `acpi-egm-memory`.
    pub egm: Option<bool>,
}

/// What an SMMUv3 of one bus becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Smmu {
    /// An SMMUv3 of the whole machine, or nothing.
    NotPerBus,
    /// A device. The types are `None` if libvirt refused the attributes.
    PerBus(Option<Types>),
}

/// The properties of a device in JSON.
pub type Types = BTreeMap<String, Json>;

/// The type of a property in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Json {
    Bool,
    Number,
    Text,
}

/// Every spelling of each attribute: libvirt drops those that it does not know.
const ATTRIBUTES: &str =
    "accel='on' ats='on' ril='off' oas='48' pasid='on' ssidSize='20' ssidsize='20'";

const EMPTY_CELL: &str = "<cell id='1' memory='0' unit='KiB'/>";
const WINDOW: &str = "<controller type='pci' index='0' model='pcie-root'><pcihole64 unit='KiB'>4294967296</pcihole64></controller>";
const EXPANDER: &str = "<controller type='pci' index='0' model='pcie-root'/>\
    <controller type='pci' index='1' model='pcie-expander-bus'><target busNr='64'/></controller>";
/// libvirt accepts an address that no device has.
const HOSTDEV: &str = "<hostdev mode='subsystem' type='pci' managed='no'><driver iommufd='yes'/><source>\
    <address domain='0xffff' bus='0xff' slot='0x1f' function='0x7'/></source><alias name='ua-probe'/><acpi nodeset='1'/></hostdev>";
const EGM: &str = "<memory model='egm' access='shared'><source><path>/dev/egm0</path></source><target><size unit='KiB'>65536</size>\
    <node>0</node><pciDev>ua-probe</pciDev></target></memory>";

/// Accelerator and CPU: KVM may be missing on this host, TCG in this QEMU.
const KINDS: [(&str, &str); 2] = [("kvm", "host-passthrough"), ("qemu", "maximum")];

/// A guest without a device, for queries that need a definition.
#[must_use]
pub fn plain() -> String {
    definition(KINDS[1], "", "")
}

/// Asks libvirt by `translate`.
pub fn ask(translate: impl Fn(&str) -> Translated) -> Translation {
    let translate = |xml: &str| translate(xml).and_then(|text| Arguments::parse(&text));
    let works = |kind: &(&str, &str)| translate(&definition(*kind, "", "")).is_ok();
    let Some(kind) = KINDS.into_iter().find(works) else {
        return Translation::default();
    };
    let say = |cells, devices: &str| translate(&definition(kind, cells, devices));
    // An error, if libvirt knows the element and QEMU or this machine type does not.
    let hostdev = say(EMPTY_CELL, HOSTDEV).ok();
    let has_egm = |printed: Arguments| printed.objects("acpi-egm-memory").next().is_some();
    let egm = say(EMPTY_CELL, &(HOSTDEV.to_owned() + EGM))
        .ok()
        .map(has_egm);
    let translation = Translation {
        empty_cell: say(EMPTY_CELL, "")
            .ok()
            .map(|printed| printed.has_bare_cell()),
        window: Some(
            say("", WINDOW).is_ok_and(|printed| printed.machine_has("highmem-mmio-size=")),
        ),
        smmu: smmu(|attributes| {
            let driver = format!("<driver pciBus='1' {attributes}/>");
            let element = format!("{EXPANDER}<iommu model='smmuv3'>{driver}</iommu>");
            say("", &element).ok()
        }),
        nodeset: hostdev
            .as_ref()
            .map(|printed| printed.objects("acpi-generic-initiator").next().is_some()),
        hostdev_iommufd: hostdev
            .as_ref()
            .and_then(Arguments::host_device_has_iommufd),
        // An error says nothing: the element has more conditions.
        egm: egm.filter(|has| *has),
    };
    // If the connection was lost meanwhile, its errors are not answers.
    if works(&kind) {
        translation
    } else {
        Translation::default()
    }
}

/// `cmdqv` may be refused alone, and so may all attributes by a QEMU that does not accelerate.
fn smmu(say: impl Fn(&str) -> Option<Arguments>) -> Option<Smmu> {
    let all = say(&format!("{ATTRIBUTES} cmdqv='on'")).or_else(|| say(ATTRIBUTES));
    if let Some(printed) = all {
        return Some(printed.smmu(true));
    }
    say("").map(|printed| printed.smmu(false))
}

fn definition((kind, cpu): (&str, &str), cells: &str, devices: &str) -> String {
    format!(
        "<domain type='{kind}'><name>variantd-probe</name><memory unit='KiB'>65536</memory><vcpu>1</vcpu>\
         <os><type arch='aarch64' machine='virt'>hvm</type></os><features><gic version='3'/></features>\
         <cpu mode='{cpu}'><numa><cell id='0' cpus='0' memory='65536' unit='KiB'/>{cells}</numa></cpu>\
         <devices>{devices}</devices></domain>"
    )
}

/// QEMU's arguments, in pairs of option and value.
struct Arguments(Vec<(String, String)>);

impl Arguments {
    fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err("the answer is larger than 1 MiB".to_owned());
        }
        let words = words(text).ok_or("a quote is not closed")?;
        let pairs = words.windows(2).filter(|pair| pair[0].starts_with('-'));
        let pairs: Vec<_> = pairs
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect();
        let is_qemu = pairs.iter().any(|(option, _)| option == "-machine");
        is_qemu
            .then_some(Self(pairs))
            .ok_or_else(|| "it has no '-machine'".to_owned())
    }

    fn values<'a>(&'a self, option: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(name, _)| name == option);
        named.map(|(_, value)| value.as_str())
    }

    /// The JSON values of an option whose `key` is `name`; those of older libvirts have the comma form, and no types.
    fn json<'a>(
        &'a self,
        option: &'a str,
        key: &'a str,
        name: &'a str,
    ) -> impl Iterator<Item = Map<String, Value>> {
        self.values(option).filter_map(move |value| {
            let first = value.split(',').next();
            let map: Map<String, Value> = match first == Some(name) {
                true => Map::new(),
                false => serde_json::from_str(value).ok()?,
            };
            let named = map.get(key).and_then(Value::as_str);
            (map.is_empty() || named == Some(name)).then_some(map)
        })
    }

    fn objects<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Map<String, Value>> {
        self.json("-object", "qom-type", name)
    }

    fn has_bare_cell(&self) -> bool {
        let mut cells = self.values("-numa");
        cells.any(|cell| cell.starts_with("node,nodeid=1") && !cell.contains("mem"))
    }

    fn machine_has(&self, property: &str) -> bool {
        let mut machines = self.values("-machine");
        machines.any(|machine| machine.split(',').any(|part| part.starts_with(property)))
    }

    /// `None` without a host device.
    fn host_device_has_iommufd(&self) -> Option<bool> {
        let device = self.json("-device", "driver", "vfio-pci").next()?;
        Some(device.contains_key("iommufd"))
    }

    fn smmu(&self, with_attributes: bool) -> Smmu {
        match self.json("-device", "driver", "arm-smmuv3").next() {
            Some(device) => {
                Smmu::PerBus(with_attributes.then(|| device.iter().filter_map(typed).collect()))
            }
            None => Smmu::NotPerBus,
        }
    }
}

fn typed((name, value): (&String, &Value)) -> Option<(String, Json)> {
    let kind = match value {
        Value::Bool(_) => Json::Bool,
        Value::Number(_) => Json::Number,
        Value::String(_) => Json::Text,
        // No property of an SMMUv3 has these types.
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    Some((name.clone(), kind))
}

/// Splits as a shell does: blanks, single quotes, and a backslash outside them. `None` if a quote is not closed.
fn words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next()? {
                        '\'' => break,
                        quoted => word.push(quoted),
                    }
                }
            }
            '\\' => match characters.next()? {
                '\n' => words.extend(word.take()),
                escaped => word.get_or_insert_default().push(escaped),
            },
            blank if blank.is_whitespace() => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
#[path = "translation_test.rs"]
mod test;
#[cfg(test)]
pub(super) use test::{answer as recorded_answer, asked as recorded_answers, kind_of};
