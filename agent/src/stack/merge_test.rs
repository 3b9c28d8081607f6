//! The stacks of Debian's packages from recorded answers, and vendor pairs made of them.

use super::*;
use crate::stack::translation::Json;
use crate::stack::{emulator, properties, recorded};
use planner::target::Version;

fn grammar(stack: &str) -> Grammar {
    Grammar::parse(
        &recorded(stack, "domaincommon.rng"),
        &recorded(stack, "basictypes.rng"),
    )
}

fn emulated(stack: &str) -> Properties {
    let text = |name: &str| recorded(stack, &format!("{name}.txt"));
    Properties {
        version: properties::version(&text("version")),
        devices: properties::devices(&text("device")),
        objects: properties::objects(&text("object")),
        smmu: properties::types(&text("arm-smmuv3")),
        machine: properties::types(&text("machine")),
    }
}

pub(in crate::stack) fn sources(stack: &str) -> Sources {
    Sources {
        grammar: grammar(stack),
        translation: crate::stack::translation::recorded_answers(stack),
        entry: Entry::parse(&recorded(stack, "capabilities.xml")),
        properties: Some(emulated(stack)),
        package: None,
    }
}

fn versions(libvirt: [u32; 3], qemu: [u32; 3]) -> Versions {
    let version = |[a, b, c]: [u32; 3]| Version::new(a, b, c);
    Versions {
        libvirt: version(libvirt),
        qemu: version(qemu),
    }
}

const TESTING: ([u32; 3], [u32; 3]) = ([12, 8, 0], [11, 1, 2]);

fn how(stack: &Stack, feature: Feature) -> How {
    stack.answer(feature).expect("an answer").how
}

/// Each answer of the real programs is what was assumed of their versions.
#[test]
fn answers_of_debians_packages_are_those_that_versions_assume() {
    for (name, libvirt, qemu) in [
        ("debian-testing", TESTING.0, TESTING.1),
        ("debian-13", [11, 3, 0], [10, 0, 13]),
        ("debian-12", [9, 0, 0], [7, 2, 22]),
    ] {
        let versions = versions(libvirt, qemu);
        let (asked, assumed) = (merge(versions, &sources(name)), Stack::assumed(versions));
        for feature in Feature::ALL {
            let (own, by_version) = (asked.value(feature), assumed.value(feature));
            assert_eq!(own, by_version, "{name}: {feature:?}");
        }
        assert!(asked.misfits().is_empty(), "{name}");
        assert!(asked.qemu.name.is_some(), "{name}");
    }
}

#[test]
fn each_answer_has_its_source() {
    let stack = merge(versions(TESTING.0, TESTING.1), &sources("debian-testing"));
    for (feature, known) in [
        (Feature::AcpiNodeset, How::Translated),
        (Feature::DomainIommufd, How::Grammar),
        (Feature::SmmuOasType, How::Translated),
        (Feature::QemuSmmuOasType, How::Asked),
        (Feature::FastLink, How::Assumed),
    ] {
        assert_eq!(how(&stack, feature), known, "{feature:?}");
    }
    let none = merge(versions(TESTING.0, TESTING.1), &Sources::default());
    assert_eq!(none, Stack::assumed(versions(TESTING.0, TESTING.1)));
}

/// NVIDIA's libvirt 11.9 as its tests show it: `pasid`, booleans and numbers.
fn vendor_libvirt() -> Sources {
    let mut sources = sources("debian-testing");
    let text = recorded("debian-testing", "domaincommon.rng").replace("\"ssidsize\"", "\"pasid\"");
    sources.grammar = Grammar::parse(&text, &recorded("debian-testing", "basictypes.rng"));
    let types = [
        ("accel", Json::Bool),
        ("ats", Json::Bool),
        ("ril", Json::Bool),
        ("pasid", Json::Bool),
        ("oas", Json::Number),
        ("tegra241-cmdqv", Json::Bool),
    ];
    let types = types.map(|(name, kind)| (name.to_owned(), kind)).into();
    sources.translation.smmu = Some(Smmu::PerBus(Some(types)));
    sources
}

#[test]
fn vendor_pair_fits_and_half_an_upgrade_does_not() {
    let mut pair = vendor_libvirt();
    let text = recorded("debian-testing", "arm-smmuv3.txt")
        .replace("ssidsize=<SsidSizeMode>", "pasid=<bool>")
        .replace("OasMode", "uint8")
        .replace("OnOffAuto", "bool")
        .replace("cmdqv=", "tegra241-cmdqv=");
    let version = "QEMU emulator version 10.1.0 (Debian 1:10.1.0+nvidia5-1)";
    if let Some(printed) = &mut pair.properties {
        printed.smmu = properties::types(&text);
        printed.version = properties::version(version);
    }
    let asked = |sources: &Sources| merge(versions([11, 9, 0], [10, 1, 0]), sources);
    let stack = asked(&pair);
    assert!(stack.misfits().is_empty(), "{:?}", stack.misfits());
    assert_eq!(stack.spelling(Feature::SmmuSsid), Some(Spelling::Pasid));
    assert_eq!(
        stack.value_type(Feature::SmmuOasType),
        Some(ValueType::Integer)
    );
    assert!(stack.has(Feature::QemuSmmuAccel) && stack.has(Feature::SmmuAccel));
    assert!(stack.has(Feature::InitiatorOrder));
    assert!(stack.has(Feature::VirtWindow));
    // The same libvirt with QEMU 11.1.
    let names: Vec<_> = asked(&vendor_libvirt()).misfits();
    let names: Vec<&str> = names.iter().map(|misfit| misfit.attribute).collect();
    assert_eq!(names, ["ats", "ril", "oas", "ssidsize", "cmdqv"]);
    // libvirt was upgraded alone.
    let upgraded = Sources {
        properties: pair.properties,
        ..sources("debian-testing")
    };
    let names = merge(versions(TESTING.0, [10, 1, 0]), &upgraded).misfits();
    assert_eq!(names.len(), 5, "{names:?}");
}

#[test]
fn schema_alone_tells_the_vendors_types() {
    let mut sources = vendor_libvirt();
    sources.translation = Translation::default();
    let stack = merge(versions([11, 9, 0], [10, 1, 0]), &sources);
    assert_eq!(stack.spelling(Feature::SmmuSsid), Some(Spelling::Pasid));
    assert_eq!(how(&stack, Feature::SmmuSsid), How::Grammar);
    assert_eq!(
        stack.value_type(Feature::SmmuOasType),
        Some(ValueType::Integer)
    );
    assert_eq!(how(&stack, Feature::SmmuOasType), How::Assumed);
}

#[test]
fn emulator_without_answers_leaves_the_versions_to_decide() {
    let silent = Sources {
        properties: Some(emulator::ask("/nonexistent".as_ref(), emulator::DEADLINE)),
        ..Sources::default()
    };
    let versions = versions(TESTING.0, TESTING.1);
    assert_eq!(merge(versions, &silent), Stack::assumed(versions));
}

#[test]
fn libvirts_cache_tells_the_command_queues_of_an_emulator_that_was_not_asked() {
    let queues = |stack: &Stack| stack.value(Feature::QemuSmmuCmdqv);
    let versions = versions([12, 8, 0], [10, 1, 0]);
    let mut sources = sources("debian-testing");
    sources.properties = None;
    let stack = merge(versions, &sources);
    assert_eq!(queues(&stack), Some(Value::Named(Spelling::Cmdqv)));
    assert_eq!(how(&stack, Feature::QemuSmmuCmdqv), How::Asked);
    sources.entry = None;
    let stack = merge(versions, &sources);
    assert_eq!(queues(&stack), Some(Value::Has(false)));
}
