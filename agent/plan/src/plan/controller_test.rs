//! PCI controllers as virt-install and Nova write them, and those that libvirt refuses.

use super::testing::{Fixture, guest, hostdev};
use crate::fixture::revert;
use domain::Domain;
use domain::code::Code;

const WRITTEN: &str = "<controller type=\"pci\" index='0' model='pcie-root'/>";

/// A guest with one GPU and these controllers.
fn with(controllers: &str) -> String {
    let text = guest(&hostdev("0009:01:00.0", ""));
    assert!(text.contains(WRITTEN));
    text.replace(WRITTEN, controllers)
}

#[test]
fn a_root_without_an_index_gets_the_window_and_no_second_root() {
    let text = with(
        "<controller type='pci' model='pcie-root'/>\n    <controller type='pci' model='pcie-root-port'/>\n    <controller type='pci' model='pcie-root-port'/>",
    );
    let completed = Fixture::new().rewrite(&text).text;
    assert_eq!(
        completed.matches("model='pcie-root'").count(),
        1,
        "{completed}"
    );
    let domain = Domain::parse(&completed).expect("completed");
    let window = domain.controller(0).and_then(|root| root.hole64_kib);
    assert!(window.is_some_and(|size| size > 0), "{completed}");
    let port = domain.hostdevs[0].address.expect("placed").at.bus();
    assert_eq!(port, 4, "{completed}");
    assert_eq!(Fixture::new().rewrite(&completed).text, completed);
    assert_eq!(revert(&completed).expect("reverted"), text);
}

#[test]
fn a_device_on_a_port_without_an_index_stays_there() {
    let address =
        "      <address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x0'/>\n";
    let text = guest(&hostdev("0009:01:00.0", address)).replace(
        WRITTEN,
        "<controller type='pci' model='pcie-root'/><controller type='pci' model='pcie-root-port'/><controller type='pci' model='pcie-root-port'/>",
    );
    let completed = Fixture::new().rewrite(&text).text;
    assert_eq!(
        completed.matches("pcie-root-port").count(),
        2,
        "{completed}"
    );
}

#[test]
fn controllers_that_libvirt_refuses_are_refused() {
    let root = |index: &str| format!("<controller type='pci' {index} model='pcie-root'/>");
    let port = |index: &str| format!("<controller type='pci' {index} model='pcie-root-port'/>");
    let cases = [
        (root("index='1'"), "'pcie-root' has index 1"),
        (
            root("index='0'") + &root("index='0'"),
            "two PCI controllers have index 0",
        ),
        (root("") + &root(""), "'pcie-root' has index 1"),
        (port("") + &root(""), "'pcie-root' has index 1"),
        (port(""), "controller 0 is 'pcie-root-port'"),
        (port("index='0'"), "controller 0 is 'pcie-root-port'"),
        (
            root("") + &port("index='3'") + &port("index='3'"),
            "two PCI controllers have index 3",
        ),
    ];
    for (controllers, words) in cases {
        let refusal = Fixture::new().refusal(&with(&controllers));
        assert_eq!(refusal.code, Code::XmlValue, "{refusal}");
        assert!(refusal.reason.contains(words), "{refusal}");
    }
}
