//! Merges the answers of all sources into a stack, the surest first: libvirt's translation, its schemas, QEMU's own
//! answers, libvirt's cache. What none of them tells is assumed by version.

use planner::stack::{Feature, How, Spelling, Stack, Value, ValueType};
use planner::target::Versions;

use super::flags::Entry;
use super::grammar::Grammar;
use super::properties::{Properties, Types};
use super::translation::{Json, Smmu, Translation};

/// What the sources answered; `None` or empty where one did not.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// libvirt's schemas.
    pub grammar: Grammar,
    /// libvirt's translation.
    pub translation: Translation,
    /// libvirt's cache about the emulator.
    pub entry: Option<Entry>,
    /// The emulator's own answers.
    pub properties: Option<Properties>,
    /// The version of libvirt's package.
    pub package: Option<String>,
}

/// The stack of the installed programs.
#[must_use]
pub fn merge(versions: Versions, sources: &Sources) -> Stack {
    // The emulator's own version comes before the one that libvirt reports: libvirt asks its default emulator, which may be another file.
    let named = sources
        .properties
        .as_ref()
        .and_then(|printed| printed.version.as_ref());
    let qemu = named.map_or(versions.qemu, |named| named.version);
    let mut stack = Stack::assumed(Versions { qemu, ..versions });
    let entry = sources.entry.as_ref();
    let package = named.and_then(|named| named.package.as_ref());
    let package = package.or_else(|| entry.and_then(|entry| entry.package.as_ref()));
    stack.qemu.name = package.and_then(|name| name.parse().ok());
    let package = sources.package.as_ref();
    stack.libvirt.name = package.and_then(|name| name.parse().ok());
    let mut merging = Merging(stack);
    merging.libvirt(&sources.grammar, &sources.translation);
    merging.libvirt_smmu(&sources.grammar, &sources.translation);
    if let Some(entry) = entry {
        merging.flags(entry);
    }
    if let Some(properties) = &sources.properties {
        merging.properties(properties);
    }
    merging.vendor();
    merging.0
}

/// The stack so far; a later answer replaces an earlier one.
struct Merging(Stack);

impl Merging {
    fn set(&mut self, feature: Feature, value: Value, how: How) {
        // A value of another kind is no answer.
        let _ = self.0.set(feature, value, how);
    }

    fn has(&mut self, feature: Feature, has: Option<bool>, how: How) {
        if let Some(has) = has {
            self.set(feature, Value::Has(has), how);
        }
    }

    fn libvirt(&mut self, grammar: &Grammar, translation: &Translation) {
        let translated = How::Translated;
        self.has(Feature::DomainIommufd, grammar.domain_iommufd, How::Grammar);
        self.has(Feature::AcpiNodeset, grammar.nodeset, How::Grammar);
        self.has(Feature::AcpiNodeset, translation.nodeset, translated);
        self.has(
            Feature::HostdevIommufd,
            grammar.hostdev_iommufd,
            How::Grammar,
        );
        self.has(
            Feature::HostdevIommufd,
            translation.hostdev_iommufd,
            translated,
        );
        self.has(Feature::Egm, grammar.egm, How::Grammar);
        self.has(Feature::Egm, translation.egm, translated);
        self.has(Feature::EmptyCell, translation.empty_cell, translated);
        self.has(Feature::VirtWindow, translation.window, translated);
    }

    /// The schema has the attributes, the translation also the properties and types that they become.
    fn libvirt_smmu(&mut self, grammar: &Grammar, translation: &Translation) {
        self.has(
            Feature::SmmuPerBus,
            grammar.has_iommu("pciBus"),
            How::Grammar,
        );
        self.has(Feature::SmmuAccel, grammar.has_iommu("accel"), How::Grammar);
        if let Some(has_accel) = grammar.has_iommu("accel") {
            self.schema_of_smmu(grammar, has_accel);
        }
        match &translation.smmu {
            Some(Smmu::NotPerBus) => {
                self.has(Feature::SmmuPerBus, Some(false), How::Translated);
                self.has(Feature::SmmuAccel, Some(false), How::Translated);
            }
            Some(Smmu::PerBus(types)) => {
                self.has(Feature::SmmuPerBus, Some(true), How::Translated);
                if let Some(types) = types {
                    self.translated_smmu(grammar, types);
                }
            }
            None => {}
        }
    }

    /// The types that builds with this spelling write: NVIDIA's 11.9 and the drafts booleans and numbers, upstream strings.
    fn schema_of_smmu(&mut self, grammar: &Grammar, has_accel: bool) {
        let spelling = spelling(grammar);
        let is_upstream = spelling == Some(Spelling::SsidSize);
        let typed = |vendor| match is_upstream {
            true => Value::Type(ValueType::Text),
            false => Value::Type(vendor),
        };
        for (feature, attribute, vendor) in TYPES {
            match has_accel && grammar.has_iommu(attribute) == Some(true) {
                true => self.set(feature, typed(vendor), How::Assumed),
                false => self.set(feature, Value::Has(false), How::Grammar),
            }
        }
        let ssid = spelling.map_or(Value::Has(false), Value::Named);
        self.set(Feature::SmmuSsid, ssid, How::Grammar);
        let cmdqv = match is_upstream {
            true => Spelling::Cmdqv,
            false => Spelling::Tegra241Cmdqv,
        };
        match grammar.has_iommu("cmdqv") {
            Some(true) => self.set(Feature::SmmuCmdqv, Value::Named(cmdqv), How::Assumed),
            _ => self.set(Feature::SmmuCmdqv, Value::Has(false), How::Grammar),
        }
    }

    fn translated_smmu(&mut self, grammar: &Grammar, types: &super::translation::Types) {
        let how = How::Translated;
        self.has(Feature::SmmuAccel, Some(types.contains_key("accel")), how);
        // libvirts that write '-device' in the comma form have no types.
        if types.is_empty() {
            return;
        }
        for (feature, attribute, _) in TYPES {
            let value = types
                .get(attribute)
                .map_or(Value::Has(false), |kind| written(*kind));
            self.set(feature, value, how);
        }
        // The property alone does not tell the attribute: the drafts and upstream both write `ssidsize`, as a number and as a string.
        let ssid = match (types.contains_key("pasid"), types.get("ssidsize")) {
            (true, _) => Value::Named(Spelling::Pasid),
            (_, Some(kind)) => Value::Named(spelling(grammar).unwrap_or(match kind {
                Json::Text => Spelling::SsidSize,
                Json::Bool | Json::Number => Spelling::SsidSizeVendor,
            })),
            (false, None) => Value::Has(false),
        };
        self.set(Feature::SmmuSsid, ssid, how);
        // Refused command queues are no answer.
        if let Some(name) = queues(|name| types.contains_key(name)) {
            self.set(Feature::SmmuCmdqv, Value::Named(name), how);
        }
    }

    /// Only yes: a libvirt without a flag may not know it.
    fn flags(&mut self, entry: &Entry) {
        for (feature, flag) in FLAGS {
            if entry.flags.contains(flag) {
                self.set(feature, Value::Has(true), How::Asked);
            }
        }
        if entry.flags.contains(QUEUES_FLAG) {
            let name = Value::Named(Spelling::Cmdqv);
            self.set(Feature::QemuSmmuCmdqv, name, How::Asked);
        }
    }

    fn properties(&mut self, printed: &Properties) {
        let how = How::Asked;
        if let Some(objects) = &printed.objects {
            for (feature, name) in OBJECTS {
                self.has(feature, Some(objects.contains(name)), how);
            }
        }
        // An emulator of another architecture has neither 'virt' nor an SMMU.
        let Some(machine) = &printed.machine else {
            return;
        };
        let window = machine.contains_key("highmem-mmio-size");
        self.has(Feature::QemuVirtWindow, Some(window), how);
        self.has(Feature::QemuRas, Some(machine.contains_key("ras")), how);
        let Some(devices) = &printed.devices else {
            return;
        };
        let is_creatable = devices.contains("arm-smmuv3");
        self.has(Feature::QemuSmmuPerBus, Some(is_creatable), how);
        match (&printed.smmu, is_creatable) {
            (Some(types), true) => self.qemu_smmu(types),
            (_, false) => self.qemu_smmu(&Types::new()),
            (None, true) => {}
        }
    }

    fn qemu_smmu(&mut self, types: &Types) {
        let how = How::Asked;
        self.has(
            Feature::QemuSmmuAccel,
            Some(types.contains_key("accel")),
            how,
        );
        for (feature, name) in QEMU_TYPES {
            let value = match types.get(name) {
                Some(kind) => taken(kind),
                None => Some(Value::Has(false)),
            };
            if let Some(value) = value {
                self.set(feature, value, how);
            }
        }
        let named = |spelling: Option<Spelling>| spelling.map_or(Value::Has(false), Value::Named);
        let mut ssid = [Spelling::SsidSize, Spelling::Pasid].into_iter();
        let ssid = ssid.find(|name| types.contains_key(name.as_str()));
        self.set(Feature::QemuSmmuSsid, named(ssid), how);
        let cmdqv = queues(|name| types.contains_key(name));
        self.set(Feature::QemuSmmuCmdqv, named(cmdqv), how);
    }

    /// NVIDIA's builds write the initiators in the order of their nodes; no question tells.
    fn vendor(&mut self) {
        let name = self.0.qemu.name;
        if name.is_some_and(|name| name.as_str().contains("nvidia")) {
            self.has(Feature::InitiatorOrder, Some(true), How::Assumed);
        }
    }
}

/// libvirt's attributes, and the type that vendors' builds write.
const TYPES: [(Feature, &str, ValueType); 3] = [
    (Feature::SmmuAtsType, "ats", ValueType::Bool),
    (Feature::SmmuRilType, "ril", ValueType::Bool),
    (Feature::SmmuOasType, "oas", ValueType::Integer),
];

const QEMU_TYPES: [(Feature, &str); 3] = [
    (Feature::QemuSmmuAtsType, "ats"),
    (Feature::QemuSmmuRilType, "ril"),
    (Feature::QemuSmmuOasType, "oas"),
];

const OBJECTS: [(Feature, &str); 3] = [
    (Feature::GenericInitiator, "acpi-generic-initiator"),
    (Feature::QemuEgm, "acpi-egm-memory"),
    (Feature::QemuIommufd, "iommufd"),
];

/// libvirt's names (qemu_capabilities.c).
const FLAGS: [(Feature, &str); 8] = [
    (Feature::GenericInitiator, "acpi-generic-initiator"),
    (Feature::QemuEgm, "acpi-egm-memory"),
    (Feature::QemuIommufd, "iommufd"),
    (Feature::QemuSmmuPerBus, "arm-smmuv3"),
    (Feature::QemuSmmuAccel, "arm-smmuv3.accel"),
    (Feature::QemuVirtWindow, "machine.virt.highmem-mmio-size"),
    (Feature::QemuRas, "machine.virt.ras"),
    (Feature::Hmat, "numa.hmat"),
];

/// libvirt's flag for the property with upstream's name.
const QUEUES_FLAG: &str = "arm-smmuv3.cmdqv";

/// The attribute for the size of the substream id that this libvirt knows, the newest first.
fn spelling(grammar: &Grammar) -> Option<Spelling> {
    let all = [
        Spelling::SsidSize,
        Spelling::SsidSizeVendor,
        Spelling::Pasid,
    ];
    let mut known = all.into_iter();
    known.find(|name| grammar.has_iommu(name.as_str()) == Some(true))
}

fn queues(has: impl Fn(&str) -> bool) -> Option<Spelling> {
    let mut all = [Spelling::Cmdqv, Spelling::Tegra241Cmdqv].into_iter();
    all.find(|name| has(name.as_str()))
}

fn written(kind: Json) -> Value {
    Value::Type(match kind {
        Json::Bool => ValueType::Bool,
        Json::Number => ValueType::Integer,
        Json::Text => ValueType::Text,
    })
}

/// QEMU's name of a type; `None` if it is unknown.
fn taken(kind: &str) -> Option<Value> {
    Some(Value::Type(match kind {
        "bool" => ValueType::Bool,
        "uint8" | "uint16" | "uint32" | "int" | "int32" => ValueType::Integer,
        auto if auto.ends_with("Auto") || auto.ends_with("Mode") => ValueType::Auto,
        _ => return None,
    }))
}

#[cfg(test)]
#[path = "merge_test.rs"]
mod test;
#[cfg(test)]
pub(super) use test::sources as recorded_sources;
