//! Answers of Debian's libvirts to the definitions, without the arguments that say nothing about them.

use super::*;
use crate::stack::recorded;

/// The name of a definition.
pub(in crate::stack) fn kind_of(xml: &str) -> &'static str {
    let kinds = [
        ("kvm", "<domain type='kvm'"),
        ("hole", "pcihole64"),
        ("smmu", "accel="),
        ("bare", "pciBus="),
        ("egm", "model='egm'"),
        ("hostdev", "<hostdev"),
        ("cell", "id='1'"),
        ("plain", "<domain"),
    ];
    let kind = kinds.into_iter().find(|(_, part)| xml.contains(part));
    kind.expect("a definition").0
}

/// The recorded answer to a definition.
pub(in crate::stack) fn answer(stack: &str, xml: &str) -> Translated {
    let name = kind_of(xml);
    let all = recorded(stack, "translation.txt");
    let section = all.split("=== ").find_map(|part| part.strip_prefix(name));
    let text = section.expect("recorded").trim();
    match text.strip_prefix("error: ") {
        Some(error) => Err(error.to_owned()),
        None => Ok(text.to_owned()),
    }
}

pub(in crate::stack) fn asked(stack: &str) -> Translation {
    ask(|xml| answer(stack, xml))
}

#[test]
fn libvirt_of_debian_testing_translates_every_upstream_element() {
    let translation = asked("debian-testing");
    assert_eq!(translation.empty_cell, Some(true));
    assert_eq!(translation.window, Some(true));
    assert_eq!(translation.nodeset, Some(true));
    assert_eq!(translation.hostdev_iommufd, Some(true));
    assert_eq!(translation.egm, None);
    let Some(Smmu::PerBus(Some(types))) = translation.smmu else {
        unreachable!("{translation:?}");
    };
    let kind = |name: &str| types.get(name).copied();
    assert_eq!(kind("accel"), Some(Json::Bool));
    assert_eq!(kind("ats"), Some(Json::Text));
    assert_eq!(kind("oas"), Some(Json::Text));
    assert_eq!(kind("ssidsize"), Some(Json::Text));
    assert_eq!(kind("cmdqv"), Some(Json::Text));
    assert_eq!(kind("pasid"), None);
}

#[test]
fn elements_that_older_libvirts_drop_or_refuse_are_not_translated() {
    for stack in ["debian-13", "debian-12"] {
        let translation = asked(stack);
        assert_eq!(translation.empty_cell, Some(false), "{stack}");
        assert_eq!(translation.window, Some(false), "{stack}");
        assert_eq!(translation.smmu, Some(Smmu::NotPerBus), "{stack}");
    }
    let translation = asked("debian-13");
    assert_eq!(translation.nodeset, Some(false));
    assert_eq!(translation.hostdev_iommufd, Some(false));
    // libvirt 9.0 without VFIO: "invalid PCI passthrough type 'default'".
    assert_eq!(asked("debian-12").nodeset, None);
}

#[test]
fn vendor_types_and_egm_are_found() {
    let vendor = |xml: &str| {
        let text = answer("debian-testing", &xml.replace("model='egm'", "model='x'"))?;
        let text = text
            .replace(
                "\"ats\":\"on\",\"ril\":\"off\",\"ssidsize\":\"20\",\"oas\":\"48\"",
                "\"ats\":true,\"ril\":false,\"pasid\":true,\"oas\":48",
            )
            .replace("\"cmdqv\":\"on\"", "\"tegra241-cmdqv\":true");
        Ok(match xml.contains("model='egm'") {
            true => text + " -object '{\"qom-type\":\"acpi-egm-memory\",\"id\":\"egm0\"}'",
            false => text,
        })
    };
    let translation = ask(vendor);
    assert_eq!(translation.egm, Some(true));
    let Some(Smmu::PerBus(Some(types))) = translation.smmu else {
        unreachable!("{translation:?}");
    };
    assert_eq!(types.get("oas"), Some(&Json::Number));
    assert_eq!(types.get("tegra241-cmdqv"), Some(&Json::Bool));
}

#[test]
fn missing_vfio_leaves_the_answers_about_host_devices_open() {
    let without = |xml: &str| match xml.contains("<hostdev") {
        true => Err("VFIO PCI device assignment is not supported by the host".to_owned()),
        false => answer("debian-testing", xml),
    };
    let translation = ask(without);
    assert_eq!(translation.nodeset, None);
    assert_eq!(translation.hostdev_iommufd, None);
    assert_eq!(translation.window, Some(true));
}

#[test]
fn refused_attributes_leave_their_types_open() {
    let refuses = |part: &'static str| {
        move |xml: &str| match xml.contains(part) {
            true => Err("unsupported configuration".to_owned()),
            false => answer("debian-testing", xml),
        }
    };
    let smmu = |part| ask(refuses(part)).smmu;
    assert_eq!(smmu("accel="), Some(Smmu::PerBus(None)));
    assert!(matches!(smmu("cmdqv="), Some(Smmu::PerBus(Some(_)))));
    assert_eq!(smmu("pciBus="), None);
}

#[test]
fn failing_or_strange_libvirt_gives_no_answer() {
    let large = "x".repeat(MAX_BYTES + 1);
    for text in ["", "'", "\\", "-machine", "a b c", "-x '", &large] {
        assert_eq!(ask(|_| Ok(text.to_owned())), Translation::default());
    }
    assert_eq!(ask(|_| Err("down".to_owned())), Translation::default());
}

#[test]
fn lost_connection_is_not_an_answer() {
    let calls = std::cell::Cell::new(0);
    let lost = |xml: &str| {
        calls.set(calls.get() + 1);
        match calls.get() {
            0..4 => answer("debian-testing", xml),
            _ => Err("end of file while reading data".to_owned()),
        }
    };
    assert_eq!(ask(lost), Translation::default());
}

#[test]
fn comma_form_has_no_types() {
    let text = "/q -machine virt -device arm-smmuv3,primary-bus=pci.1,oas=48";
    let printed = Arguments::parse(text).expect("arguments");
    assert_eq!(printed.smmu(true), Smmu::PerBus(Some(Types::new())));
}
