//! Values of valid definitions, and refusals of invalid ones.

use super::*;
use crate::DomainUuid;
use proptest::prelude::*;

const GUEST: &str = r#"<domain type='kvm'>
  <name>d0</name>
  <uuid>AAAAAAAA-2222-3333-4444-555555555555</uuid>
  <metadata>
    <v:prepared xmlns:v='urn:variantd:1'><v:device address='0009:01:00.0' recipe='nvidia-grace' cells='1-8'/></v:prepared>
  </metadata>
  <memory unit='GiB'>1</memory>
  <vcpu placement='static'>4</vcpu>
  <numatune><memnode cellid='0' mode='strict' nodeset='1'/></numatune>
  <os><type arch='aarch64' machine='virt-10.1'>hvm</type></os>
  <cpu mode='host-passthrough'>
    <numa>
      <cell id='0' cpus='0-3' memory='1048576' unit='KiB'>
        <distances><sibling id='0' value='10'/></distances>
      </cell>
    </numa>
  </cpu>
  <devices>
    <controller type='pci' index='0' model='pcie-root'><pcihole64 unit='KiB'>1073741824</pcihole64></controller>
    <controller type='pci' index='1' model='pcie-root-port'/>
    <disk type='file' device='disk'>
      <address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x0'/>
    </disk>
    <hostdev mode='subsystem' type='pci' managed='yes'>
      <source><address domain='0x0009' bus='0x01' slot='0' function='0'/></source>
      <acpi nodeset='1-8'/>
      <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x1' multifunction='on'/>
    </hostdev>
    <hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/></source></hostdev>
  </devices>
</domain>
"#;

fn refusal(text: &str) -> Refusal {
    Domain::parse(text).expect_err("it must be refused")
}

#[test]
fn parse_reads_all_parts_that_planning_needs() {
    let domain = Domain::parse(GUEST).expect("a good definition");
    assert_eq!(domain.name, "d0");
    assert_eq!(
        domain.uuid.expect("uuid").to_string(),
        "aaaaaaaa-2222-3333-4444-555555555555"
    );
    assert_eq!(
        (domain.arch.as_deref(), domain.machine.as_deref()),
        (Some("aarch64"), Some("virt-10.1"))
    );
    assert_eq!((domain.memory_kib, domain.vcpus), (1 << 20, 4));
    assert_eq!(domain.cells[0].distances.get(&0), Some(&10));
    assert_eq!(domain.memory_nodes[0].nodes.to_string(), "1");
    assert_eq!(domain.controllers[0].hole64_kib, Some(1 << 30));
    assert_eq!(domain.other_addresses.len(), 1);
    assert_eq!(
        domain.mark.expect("mark").devices[0].cells.to_string(),
        "1-8"
    );
}

#[test]
fn pci_hostdev_has_host_and_guest_address() {
    let domain = Domain::parse(GUEST).expect("a good definition");
    assert_eq!(domain.hostdevs.len(), 1, "the USB hostdev is not read");
    let hostdev = &domain.hostdevs[0];
    assert_eq!(hostdev.source.to_string(), "0009:01:00.0");
    let guest = hostdev.address.expect("guest address");
    assert_eq!(
        (guest.to_string().as_str(), guest.multifunction),
        ("0000:01:00.1", true)
    );
    assert_eq!(
        hostdev.nodeset.as_ref().expect("nodeset").to_string(),
        "1-8"
    );
    assert!(hostdev.managed);
}

#[test]
fn parse_refuses_malformed_xml_with_its_position() {
    let refusal = refusal("<domain><name>x</domain>");
    assert_eq!(refusal.code, Code::XmlMalformed);
    assert!(refusal.reason.contains("1:"), "{}", refusal.reason);
}

#[test]
fn a_document_type_declaration_is_refused() {
    let text = "<!DOCTYPE domain [<!ENTITY e SYSTEM 'file:///etc/shadow'>]><domain/>";
    assert_eq!(refusal(text).code, Code::XmlDtd);
}

#[test]
fn parse_refuses_a_definition_over_one_mebibyte() {
    assert_eq!(refusal(&" ".repeat(MAX_BYTES + 1)).code, Code::XmlTooLarge);
}

#[test]
fn deep_nesting_does_not_panic() {
    let deep = format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000));
    assert!(Domain::parse(&deep).is_err());
}

#[test]
fn parse_refuses_another_root_element() {
    assert!(refusal("<network/>").reason.contains("<network>"));
    assert_eq!(
        refusal("<domain><devices/></domain>").code,
        Code::XmlNoDomain
    );
}

#[test]
fn parse_reports_an_invalid_value_with_its_line() {
    let text = GUEST.replace("slot='0' function='0'", "slot='0x40' function='0'");
    let refusal = refusal(&text);
    assert_eq!(refusal.code, Code::XmlValue);
    assert!(refusal.reason.contains("line 25"), "{}", refusal.reason);
    assert_eq!(
        refusal.path.as_deref(),
        Some("/domain/devices/hostdev/source/address")
    );
}

#[test]
fn numbers_are_parsed_as_libvirt_does() {
    let read = |from: &str, to: &str| {
        assert!(GUEST.contains(from), "{from}");
        Domain::parse(&GUEST.replacen(from, to, 1))
    };
    let bus = |text: &str| {
        read(
            "bus='0x01' slot='0' function='0'/></source>",
            &format!("bus='{text}' slot='0' function='0'/></source>"),
        )
    };
    assert_eq!(bus("017").expect("octal").hostdevs[0].source.bus(), 0x0f);
    assert_eq!(
        bus(" +0X1f").expect("hexadecimal").hostdevs[0].source.bus(),
        0x1f
    );
    for text in ["08", "1 ", "-1", "1f", ""] {
        assert_eq!(
            bus(text).expect_err("refused").code,
            Code::XmlValue,
            "{text:?}"
        );
    }
    let nodeset = read("nodeset='1-8'", "nodeset='1-2,5-7,^6,'").expect("a list");
    let nodeset = nodeset.hostdevs[0].nodeset.clone().expect("nodeset");
    assert_eq!(nodeset.to_string(), "1-2,5,7");
    let cpus = read("cpus='0-3'", "cpus='0-3,'").expect("a list");
    assert_eq!(cpus.cells[0].cpus.to_string(), "0-3");
    let hole = read("<pcihole64 unit='KiB'>", "<pcihole64 unit='b'>").expect("a size");
    assert_eq!(hole.controllers[0].hole64_kib, Some(1 << 20));
    let expander = "<controller type='pci' index='3' model='pcie-expander-bus'><target busNr='0xfe'><node>0</node></target></controller><disk";
    let expander = read("<disk", expander).expect("an expander");
    assert_eq!(
        (
            expander.controllers[2].bus_number,
            expander.controllers[2].cell
        ),
        (Some(254), Some(0))
    );
    let width = read("<numa>", "<maxphysaddr mode='emulate'/><numa>").expect("no bits");
    assert_eq!(
        width.platform.address_width,
        Some(crate::AddressWidth::Default)
    );
}

#[test]
fn memory_is_the_sum_of_cells_and_memory_devices() {
    let text = GUEST.replace("<memory unit='GiB'>1<", "<memory unit='tib'>1<");
    assert_eq!(Domain::parse(&text).expect("cells").memory_kib, 1 << 20);
    let dimm = "<memory model='dimm'><target><size unit='MiB'>256</size></target></memory>";
    let more = Domain::parse(&text.replace("<disk", &format!("{dimm}<disk"))).expect("a DIMM");
    assert_eq!(
        (more.memory_kib, more.memory_devices_kib),
        ((1 << 20) + (1 << 18), 1 << 18)
    );
    let none = "<domain><name>d</name><memory>8</memory><devices>DIMM</devices></domain>";
    let none = Domain::parse(&none.replace("DIMM", dimm)).expect("no cells");
    assert_eq!(none.memory_kib, 8);
}

#[test]
fn cpus_without_a_cell_are_in_cell_0() {
    let text = GUEST.replace("cpus='0-3'", "cpus='2'");
    let domain = Domain::parse(&text).expect("cells");
    assert_eq!(domain.cells[0].cpus.to_string(), "0-3");
}

#[test]
fn a_definition_may_have_no_devices_or_several() {
    let none = Domain::parse("<domain><name>d</name></domain>").expect("none");
    assert!(none.devices.is_none() && none.hostdevs.is_empty());
    let several = GUEST.replace("<disk", "</devices><devices><disk");
    assert_eq!(Domain::parse(&several).expect("several").hostdevs.len(), 1);
}

#[test]
fn element_of_another_namespace_is_ignored() {
    let foreign = |from: &str, to: &str| {
        let text = GUEST.replacen(from, to, 1);
        Domain::parse(&text.replacen("<domain ", "<domain xmlns:e='urn:e' ", 1))
    };
    let before = foreign("<cpu ", "<e:cpu><numa><cell/></numa></e:cpu><cpu ").expect("foreign");
    assert_eq!(before.cells.len(), 1);
    let other = foreign("<disk", "<e:x><address type='pci' bus='3'/></e:x><disk").expect("foreign");
    assert_eq!(other.other_addresses.len(), 1);
    let all = GUEST.replacen("<domain ", "<domain xmlns='urn:e' ", 1);
    assert_eq!(refusal(&all).code, Code::XmlNoDomain);
}

#[test]
fn uuid_is_parsed_as_libvirt_does() {
    let id = |text: &str| text.parse::<DomainUuid>().map(|uuid| uuid.to_string()).ok();
    let canonical = Some("aaaaaaaa-2222-3333-4444-555555555555".to_owned());
    assert_eq!(id(" AAAAAAAA22223333 4444-555555555555\n"), canonical);
    assert_eq!(id("--aaaaaaaa-2222-3333-4444-555555555555"), canonical);
    for wrong in [
        "",
        "aaaaaaaa-2222-3333-4444-55555555555-5",
        "aaaaaaaa-2222-3333-4444-555555555555-",
        "é",
    ] {
        assert_eq!(id(wrong), None, "{wrong:?}");
    }
}

proptest! {
    #[test]
    fn damaged_definition_does_not_panic(at in 0usize..1600, with in "\\PC{0,3}") {
        let mut text = GUEST.to_owned();
        let at = (0..=at.min(text.len() - 1)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.replace_range(at..at + 1, &with);
        let _ = Domain::parse(&text);
    }
}
