//! The schemas of Debian's libvirt packages, cut to the defines that are read, and changed ones.

use super::*;
use crate::stack::recorded;

fn of(stack: &str) -> Grammar {
    Grammar::parse(&recorded(stack, DOMAIN), &recorded(stack, BASIC))
}

#[test]
fn schemas_of_debian_testing_have_all_upstream_places() {
    let grammar = of("debian-testing");
    assert_eq!(grammar.nodeset, Some(true));
    assert_eq!(grammar.hostdev_iommufd, Some(true));
    assert_eq!(grammar.domain_iommufd, Some(true));
    assert_eq!(grammar.egm, Some(false));
    for name in ["pciBus", "accel", "ats", "ril", "oas", "ssidsize", "cmdqv"] {
        assert_eq!(grammar.has_iommu(name), Some(true), "{name}");
    }
    // An attribute of an element below it, and one of another define.
    for name in ["mode", "nodeset", "pasid", "ssidSize"] {
        assert_eq!(grammar.has_iommu(name), Some(false), "{name}");
    }
    let models = grammar.iommu_models.expect("models");
    assert!(
        models.contains("smmuv3") && !models.contains("on"),
        "{models:?}"
    );
}

#[test]
fn schemas_of_older_libvirts_lack_what_came_later() {
    let grammar = of("debian-13");
    assert_eq!(grammar.nodeset, Some(false));
    assert_eq!(grammar.hostdev_iommufd, Some(false));
    assert_eq!(grammar.domain_iommufd, Some(false));
    assert_eq!(grammar.has_iommu("pciBus"), Some(false));
    assert_eq!(grammar.has_iommu("aw_bits"), Some(true));
    let grammar = of("debian-12");
    assert_eq!(grammar.nodeset, Some(false));
    // libvirt 9.0 has no such define.
    assert_eq!(grammar.hostdev_iommufd, None);
}

#[test]
fn vendor_spellings_and_egm_are_found() {
    let domain = recorded("debian-testing", DOMAIN)
        .replace("\"ssidsize\"", "\"pasid\"")
        .replace(
            "<value>dimm</value>",
            "<value>dimm</value><value>egm</value>",
        )
        .replace("<element name=\"block\">", "<element name=\"pciDev\">");
    let grammar = Grammar::parse(&domain, "");
    assert_eq!(grammar.egm, Some(true));
    assert_eq!(grammar.has_iommu("pasid"), Some(true));
    assert_eq!(grammar.has_iommu("ssidsize"), Some(false));
    assert_eq!(grammar.hostdev_iommufd, None);
}

#[test]
fn truncated_or_strange_schemas_give_no_answer() {
    let (domain, basic) = (
        recorded("debian-testing", DOMAIN),
        recorded("debian-testing", BASIC),
    );
    for end in (0..domain.len() - 2).step_by(97) {
        let cut = Grammar::parse(&domain[..end], &basic[..end.min(basic.len() - 2)]);
        assert_eq!(cut, Grammar::default(), "{end}");
    }
    for text in [
        "",
        "\0\u{1}",
        "<html/>",
        "<grammar/>",
        "<grammar xmlns='http://relaxng.org/ns/structure/1.0'><define name='acpi'><attribute name='nodeset'/></define></grammar>",
    ] {
        assert_eq!(Grammar::parse(text, text), Grammar::default(), "{text}");
    }
    let large = domain.clone() + &" ".repeat(MAX_BYTES);
    assert_eq!(Grammar::parse(&large, "").nodeset, None);
}

#[test]
fn attributes_at_other_places_do_not_count() {
    let domain = recorded("debian-testing", DOMAIN);
    let taken = domain.replace("<ref name=\"cpuset\"/>", "<notAllowed/>");
    assert_eq!(Grammar::parse(&taken, "").nodeset, Some(false));
    let moved = domain.replace(
        "<attribute name=\"nodeset\">",
        "<element name='other'><attribute name='nodeset'/></element><attribute name='x'>",
    );
    assert_eq!(Grammar::parse(&moved, "").nodeset, Some(false));
}
