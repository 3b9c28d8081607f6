//! QEMU's rules on places that a definition gives, and on those that libvirt will choose.

use super::*;

/// A guest of q35 with these controllers, and the GPU at this address.
pub(super) fn guest(controllers: &str, address: &str) -> Domain {
    let text = format!(
        "<domain type='kvm'><name>d</name><memory>1</memory><os><type arch='x86_64' machine='q35'>hvm</type></os><devices>\
         <controller type='pci' index='0' model='pcie-root'/>{controllers}\
         <hostdev mode='subsystem' type='pci'><source><address domain='0' bus='3' slot='0' function='0'/></source>\
         {address}</hostdev></devices></domain>"
    );
    Domain::parse(&text).expect("a domain")
}

const PORT: &str = "<controller type='pci' index='1' model='pcie-root-port'/>";
const SWITCH: &str = "<controller type='pci' index='1' model='pcie-root-port'/>\
    <controller type='pci' index='2' model='pcie-switch-upstream-port'><address type='pci' bus='1' slot='0'/></controller>\
    <controller type='pci' index='3' model='pcie-switch-downstream-port'><address type='pci' bus='2' slot='0'/></controller>";

pub(super) fn placed(domain: &Domain, attach: bool, qemu: Version) -> (Option<bool>, Option<Code>) {
    let host = chain(&good());
    let recipes = recipes();
    let question = Question {
        host: &host,
        recipes: &recipes,
        kernel: "7.2".parse().expect("a release"),
        qemu,
    };
    let guest = Guest { domain, attach };
    let report = report(
        &question,
        &host.devices[&fixture::address(GPU)],
        Some(guest),
        None,
    );
    let answer = report.guest.expect("a guest").answer;
    (answer.ok(), answer.finding().map(|finding| finding.code))
}

pub(super) const NEW: Version = Version::new(11, 1, 0);

#[test]
fn qemus_rules_are_applied_to_the_place() {
    let at = |bus: u32, slot: u32, function: u32, more: &str| {
        format!("<address type='pci' bus='{bus}' slot='{slot}' function='{function}'{more}/>")
    };
    let expander = "<controller type='pci' index='1' model='pcie-expander-bus'/>";
    let bridge = "<controller type='pci' index='1' model='pcie-to-pci-bridge'/>";
    let nic =
        "<interface type='user'><address type='pci' bus='1' slot='0' function='1'/></interface>";
    let shared = format!("{PORT}{nic}");
    let cases = [
        (PORT, at(1, 0, 0, ""), None),
        (PORT, at(7, 0, 0, ""), None),
        (PORT, at(0, 5, 0, ""), Some(Code::AtomicsGuestRootBus)),
        (expander, at(1, 0, 0, ""), Some(Code::AtomicsGuestRootBus)),
        (bridge, at(1, 1, 0, ""), Some(Code::AtomicsGuestBehind)),
        (SWITCH, at(3, 0, 0, ""), Some(Code::AtomicsGuestBehind)),
        (PORT, at(1, 0, 1, ""), Some(Code::AtomicsGuestFunction)),
        (PORT, at(1, 1, 0, ""), Some(Code::AtomicsGuestFunction)),
        (
            PORT,
            at(1, 0, 0, " multifunction='on'"),
            Some(Code::AtomicsGuestMultifunction),
        ),
        (
            &shared,
            at(1, 0, 0, ""),
            Some(Code::AtomicsGuestMultifunction),
        ),
    ];
    for (controllers, address, code) in cases {
        let (ok, printed) = placed(&guest(controllers, &address), false, NEW);
        assert_eq!((ok, printed), (Some(code.is_none()), code), "{address}");
    }
}

#[test]
fn an_old_qemu_does_not_hide_a_wrong_address() {
    let text = guest("", "<address type='pci' bus='0' slot='5' function='1'/>");
    let place = super::super::place::of(
        &Guest {
            domain: &text,
            attach: false,
        },
        &chain(&good()).devices[&fixture::address(GPU)],
    );
    let codes: Vec<Code> = super::super::guest::judge(&place, Version::new(7, 2, 0))
        .findings()
        .map(|rule| rule.code)
        .collect();
    assert_eq!(codes, [Code::AtomicsGuestRootBus, Code::AtomicsQemu]);
}

#[test]
fn qemus_version_decides_whether_widths_are_passed() {
    let place = guest(PORT, "<address type='pci' bus='1' slot='0' function='0'/>");
    let old = Version::new(8, 0, 5);
    assert_eq!(
        placed(&place, false, old),
        (Some(false), Some(Code::AtomicsQemu))
    );
    for qemu in [
        Version::new(8, 1, 0),
        Version::new(10, 0, 2),
        Version::new(12, 0, 0),
    ] {
        assert_eq!(placed(&place, false, qemu), (Some(true), None), "{qemu}");
    }
}

#[test]
fn no_version_of_qemu_accepts_the_multifunction_flag() {
    let several = guest(
        PORT,
        "<address type='pci' bus='1' slot='0' function='0' multifunction='on'/>",
    );
    for qemu in [Version::new(11, 1, 2), Version::new(12, 0, 0)] {
        let refused = (Some(false), Some(Code::AtomicsGuestMultifunction));
        assert_eq!(placed(&several, false, qemu), refused, "{qemu}");
    }
}

#[test]
fn libvirts_choice_is_predicted_where_it_can_be() {
    assert_eq!(placed(&guest("", ""), false, NEW), (Some(true), None));
    assert_eq!(placed(&guest(PORT, ""), false, NEW), (Some(true), None));
    let open = placed(&guest(SWITCH, ""), false, NEW);
    assert_eq!(open, (None, Some(Code::AtomicsGuestUnknown)));
    let conventional = |machine: &str| {
        let text = "<domain><name>d</name><os><type arch='x86_64'MACHINE>hvm</type></os><devices><hostdev mode='subsystem' \
                    type='pci'><source><address bus='3'/></source></hostdev></devices></domain>";
        let domain = Domain::parse(&text.replace("MACHINE", machine)).expect("a domain");
        placed(&domain, false, NEW)
    };
    let i440fx = conventional(" machine='pc-i440fx-10.0'");
    assert_eq!(i440fx, (Some(false), Some(Code::AtomicsGuestMachine)));
    assert_eq!(conventional(""), i440fx, "libvirt's default");
}

#[test]
fn a_device_that_is_attached_takes_the_free_port_of_the_lowest_index() {
    let fixed = PORT.replace("/>", "><target hotplug='off'/></controller>");
    let used = "<address type='pci' bus='1' slot='0' function='0'/>";
    for (controllers, address, wanted) in [
        (PORT, "", (Some(true), None)),
        (SWITCH, "", (Some(false), Some(Code::AtomicsGuestBehind))),
        (PORT, used, (Some(false), Some(Code::AtomicsGuestNoPort))),
        (&fixed, "", (Some(false), Some(Code::AtomicsGuestNoPort))),
        ("", "", (None, Some(Code::AtomicsGuestUnknown))),
    ] {
        assert_eq!(
            placed(&guest(controllers, address), true, NEW),
            wanted,
            "{controllers}"
        );
    }
}

#[test]
fn a_guest_with_initiators_gets_a_note_on_unplugging() {
    let host = chain(&good());
    let warned = |inner: &str| {
        let domain = guest(PORT, inner);
        let guest = Guest {
            domain: &domain,
            attach: false,
        };
        let facts = judged(&host, GPU, "7.2", Some(guest)).facts;
        facts.iter().any(|fact| fact.code == Code::UnplugDangerous)
    };
    assert!(warned("<acpi nodeset='1-8'/>"));
    assert!(!warned(""));
}
