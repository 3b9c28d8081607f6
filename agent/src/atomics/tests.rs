//! Verdicts on modelled paths and guests, on images of config space, and on anything at random.

use kernel_glue::atomics::Width;
use kernel_glue::config::{Config, ConfigError};
use proptest::prelude::*;

use super::*;
use crate::code::Code;
use crate::fixture;

const ROOT: &str = "0000:00:01.0";
const UP: &str = "0000:01:00.0";
const DOWN: &str = "0000:02:00.0";
const GPU: &str = "0000:03:00.0";
const BELOW: [u32; 4] = [4, 5, 6, 0];

/// Config space with a PCI Express capability of this version and port type at 0x60.
fn image(version: u8, port: u32, devcap2: u32, devctl2: u16) -> Vec<u8> {
    let mut bytes = vec![0; 256];
    bytes[0..4].copy_from_slice(&[0x02, 0x10, 0xa1, 0x74]);
    bytes[6] = 0x10;
    bytes[0x34] = 0x60;
    bytes[0x60] = 0x10;
    bytes[0x62] = version | u8::try_from(port).expect("four bits") << 4;
    bytes[0x84..0x88].copy_from_slice(&devcap2.to_le_bytes());
    bytes[0x88..0x8a].copy_from_slice(&devctl2.to_le_bytes());
    bytes
}

/// Functions below each other, each with its config space.
fn chain(functions: &[(&str, Vec<u8>)]) -> Host {
    let mut host = Host::default();
    let mut above = Vec::new();
    for (at, bytes) in functions {
        let mut device = fixture::device(at, "1002:74a1", "vfio-pci");
        device.config = Config::parse(bytes);
        device.class = 0x06_0400;
        device.ancestors.clone_from(&above);
        above.push(device.address);
        host.devices.insert(device.address, device);
    }
    host
}

/// A GPU behind a switch where everything is as it must be.
fn good() -> [(&'static str, Vec<u8>); 4] {
    [
        (ROOT, image(2, 4, 0x380, 0)),
        (UP, image(2, 5, 0x40, 0)),
        (DOWN, image(2, 6, 0x40, 0)),
        (GPU, image(2, 0, 0x180, 0)),
    ]
}

fn recipes() -> Recipes {
    Recipes::shipped().expect("recipes")
}

fn judged(host: &Host, at: &str, kernel: &str, guest: Option<Guest<'_>>) -> Report {
    let recipes = recipes();
    let question = Question {
        host,
        recipes: &recipes,
        kernel: kernel.parse().expect("a release"),
        qemu: Version::new(11, 1, 0),
    };
    let device = &host.devices[&fixture::address(at)];
    report(&question, device, guest, None)
}

/// The code of each width's answer on the host; `None` for yes.
fn codes(report: &Report) -> [Option<Code>; 3] {
    let code = |width| report.host.of(width).finding().map(|f| f.code);
    Width::ALL.map(code)
}

#[test]
fn a_path_without_fault_passes_what_the_device_completes() {
    let report = judged(&chain(&good()), GPU, "7.2", None);
    assert_eq!(codes(&report), [None, None, Some(Code::AtomicsDevice)]);
    assert_eq!(report.host.granted().to_string(), "32, 64");
    assert_eq!(report.root_port, Some(fixture::address(ROOT)));
    assert_eq!(report.driver, Answer::Yes);
}

#[test]
fn each_element_of_the_path_can_end_it_and_is_named() {
    let cases = [
        (
            0,
            image(2, 4, 0x100, 0),
            Code::AtomicsRootPort,
            [true, false],
        ),
        (1, image(2, 5, 0, 0), Code::AtomicsUnrouted, [true, true]),
        (
            1,
            image(2, 5, 0x40, 0x80),
            Code::AtomicsBlocked,
            [true, true],
        ),
        (2, image(2, 6, 0, 0), Code::AtomicsUnrouted, [true, true]),
        (1, image(1, 5, 0x40, 0), Code::AtomicsUnrouted, [true, true]),
        (3, image(2, 0, 0, 0), Code::AtomicsDevice, [true, true]),
    ];
    for (place, bytes, code, fails) in cases {
        let mut path = good();
        path[place].1 = bytes;
        let report = judged(&chain(&path), GPU, "7.2", None);
        for (width, fails) in [Width::Bits32, Width::Bits64].into_iter().zip(fails) {
            let finding = report.host.of(width).finding();
            assert_eq!(
                finding.map(|f| f.code),
                fails.then_some(code),
                "{code} {width}"
            );
            let at = finding.and_then(|finding| finding.at);
            assert_eq!(at, fails.then(|| fixture::address(path[place].0)));
        }
    }
}

#[test]
fn what_the_kernel_does_not_look_at_stands_against_nothing() {
    let mut path = good();
    path[0].1 = image(2, 4, 0x380, 0x80);
    path[2].1 = image(2, 6, 0x40, 0x80);
    let report = judged(&chain(&path), GPU, "7.2", None);
    assert_eq!(report.host.granted().to_string(), "32, 64");
    let blocked = report
        .facts
        .iter()
        .filter(|f| f.code == Code::AtomicsPeerBlocked);
    assert_eq!(blocked.count(), 2);
}

#[test]
fn images_of_config_space_give_a_verdict_or_are_unreadable() {
    let loops = |at: usize, next: u8| {
        let mut bytes = image(2, 0, 0x180, 0);
        bytes[0x34] = 0x50;
        bytes[0x50] = 0x01;
        bytes[at] = next;
        bytes
    };
    let extended_alone = {
        let mut bytes = vec![0; 4096];
        bytes[0x100..0x104].copy_from_slice(&0x0001_000d_u32.to_le_bytes());
        bytes
    };
    let cases: [(&str, Vec<u8>, Option<Code>); 11] = [
        ("version 2", image(2, 0, 0x180, 0), None),
        (
            "version 1",
            image(1, 0, 0x180, 0),
            Some(Code::AtomicsNoEndpoint),
        ),
        ("no capability", vec![0; 256], Some(Code::AtomicsNoEndpoint)),
        (
            "extended alone",
            extended_alone,
            Some(Code::AtomicsNoEndpoint),
        ),
        (
            "a bridge",
            image(2, 7, 0x180, 0),
            Some(Code::AtomicsNoEndpoint),
        ),
        ("a loop", loops(0x51, 0x50), Some(Code::AtomicsHidden)),
        (
            "into the header",
            loops(0x51, 0x20),
            Some(Code::AtomicsHidden),
        ),
        (
            "64 bytes",
            image(2, 0, 0x180, 0)[..64].to_vec(),
            Some(Code::AtomicsHidden),
        ),
        (
            "cut in the capability",
            image(2, 0, 0x180, 0)[..0x86].to_vec(),
            Some(Code::AtomicsHidden),
        ),
        ("all ones", vec![0xff; 4096], Some(Code::AtomicsHidden)),
        ("nothing", Vec::new(), Some(Code::AtomicsHidden)),
    ];
    for (what, bytes, wanted) in cases {
        let mut path = good();
        path[3].1 = bytes;
        let report = judged(&chain(&path), GPU, "7.2", None);
        let answer = report.host.of(Width::Bits32);
        assert_eq!(answer.finding().map(|f| f.code), wanted, "{what}");
        let open = wanted == Some(Code::AtomicsHidden);
        assert_eq!(answer.ok().is_none(), open, "{what}");
    }
}

#[test]
fn what_is_hidden_leaves_it_open_but_not_what_fails_for_certain() {
    for place in 0..3 {
        let mut path = good();
        path[place].1.truncate(64);
        let report = judged(&chain(&path), GPU, "7.2", None);
        assert_eq!(codes(&report)[0], Some(Code::AtomicsHidden), "{place}");
        assert_eq!(report.driver.ok(), None);
        assert_eq!(report.host.of(Width::Bits128).ok(), Some(false));
    }
}

#[test]
fn without_a_root_port_it_depends_on_the_kernel() {
    let integrated = chain(&[("0000:00:05.0", image(2, 9, 0x180, 0))]);
    let isolated = chain(&[("0000:00:05.0", image(2, 0, 0x180, 0))]);
    let enabled = chain(&[("0000:00:05.0", image(2, 0, 0x180, 0x40))]);
    for (host, kernel, wanted) in [
        (&integrated, "7.2", Some(false)),
        (&integrated, "6.12", None),
        (&isolated, "7.2", Some(false)),
        (&isolated, "6.12", None),
        (&enabled, "7.2", Some(true)),
        (&integrated, "6.1", Some(false)),
    ] {
        let report = judged(host, "0000:00:05.0", kernel, None);
        assert_eq!(report.host.of(Width::Bits32).ok(), wanted, "{kernel}");
    }
    let report = judged(&integrated, "0000:00:05.0", "7.2", None);
    assert_eq!(codes(&report)[0], Some(Code::AtomicsIntegrated));
}

#[test]
fn a_virtual_function_is_judged_by_its_physical_one() {
    let mut host = chain(&good());
    let mut function = fixture::device("0000:03:00.2", "1002:74b5", "vfio-pci");
    function.physical_function = Some(fixture::address(GPU));
    function.config = Config::parse(&image(2, 0, 0, 0));
    host.devices.insert(function.address, function);
    let report = judged(&host, "0000:03:00.2", "7.2", None);
    assert_eq!(report.host.granted().to_string(), "32, 64");
    assert_eq!(report.judged, fixture::address(GPU));
    let finding = report.driver.finding().expect("by other means");
    assert_eq!(finding.code, Code::AtomicsOtherwise);
    host.devices.remove(&fixture::address(GPU));
    let report = judged(&host, "0000:03:00.2", "7.2", None);
    assert_eq!(codes(&report), [Some(Code::AtomicsHidden); 3]);
}

/// A guest of q35 with these controllers, and the GPU at this address.
fn guest(controllers: &str, address: &str) -> Domain {
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

fn placed(domain: &Domain, attach: bool, qemu: Version) -> (Option<bool>, Option<Code>) {
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
    let answer = report.guest.expect("a guest");
    (answer.ok(), answer.finding().map(|finding| finding.code))
}

const NEW: Version = Version::new(11, 1, 0);

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
        let (ok, said) = placed(&guest(controllers, &address), false, NEW);
        assert_eq!((ok, said), (Some(code.is_none()), code), "{address}");
    }
}

#[test]
fn qemus_version_decides() {
    let place = guest(PORT, "<address type='pci' bus='1' slot='0' function='0'/>");
    let several = guest(
        PORT,
        "<address type='pci' bus='1' slot='0' function='0' multifunction='on'/>",
    );
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
    let newer = placed(&several, false, Version::new(12, 0, 0));
    assert_eq!(newer, (None, Some(Code::AtomicsQemuNewer)));
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
    assert_eq!(conventional(""), (None, Some(Code::AtomicsGuestUnknown)));
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
fn the_drivers_need_is_what_its_recipe_says() {
    let path = |devcap2| {
        let mut path = good();
        path[3].1 = image(2, 0, devcap2, 0);
        chain(&path)
    };
    let need = |host: &Host| judged(host, GPU, "7.2", None).driver;
    assert_eq!(need(&path(0x180)), Answer::Yes);
    let lacking = need(&path(0x080));
    assert_eq!(lacking.finding().expect("no").code, Code::AtomicsLacking);
    let any = |devcap2| {
        let mut host = path(devcap2);
        let gpu = host.devices.get_mut(&fixture::address(GPU)).expect("gpu");
        gpu.id = "15b3:101e".parse().expect("id");
        need(&host)
    };
    assert_eq!(any(0x100), Answer::Yes);
    assert_eq!(any(0).finding().expect("no").code, Code::AtomicsMissed);
}

#[test]
fn vfios_own_answer_takes_the_place_of_the_computed_one() {
    let host = chain(&good());
    let recipes = recipes();
    let question = Question {
        host: &host,
        recipes: &recipes,
        kernel: Kernel::default(),
        qemu: NEW,
    };
    let asked = Widths::from_devcap2(0x100);
    let report = report(
        &question,
        &host.devices[&fixture::address(GPU)],
        None,
        Some(asked),
    );
    assert_eq!(report.host.granted(), asked);
    assert_eq!(codes(&report)[0], Some(Code::AtomicsVfio));
}

proptest! {
    #[test]
    fn any_path_gets_a_verdict_that_agrees_with_its_bits(
        images in proptest::collection::vec((0_u8..4, 0_u32..11, any::<u32>(), any::<u16>(), 0_usize..300), 4),
        kernel in prop_oneof![Just("6.4"), Just("6.12"), Just("7.2")],
        physical: bool,
    ) {
        let path: Vec<(&str, Vec<u8>)> = [ROOT, UP, DOWN, GPU]
            .into_iter()
            .zip(&images)
            .zip(BELOW)
            .map(|((at, (version, port, devcap2, devctl2, length)), usual)| {
                let port = if *version > 1 { usual } else { *port };
                let mut bytes = image(*version, port, *devcap2, *devctl2);
                bytes.truncate((*length).max(40));
                (at, bytes)
            })
            .collect();
        let mut host = chain(&path);
        if physical {
            let gpu = host.devices.get_mut(&fixture::address(GPU)).expect("gpu");
            gpu.physical_function = Some(fixture::address(UP));
        }
        let report = judged(&host, GPU, kernel, None);
        for (width, answer) in report.host.iter() {
            let own = report.completer.map(|widths| widths.contains(width));
            prop_assert!(*answer != Answer::Yes || (own == Some(true) && kernel != "6.4"));
            prop_assert!(answer.ok() != Some(false) || answer.finding().is_some());
        }
        let hidden = report.path.iter().any(|element| element.hidden.is_some());
        let grants = !report.host.granted().is_empty();
        prop_assert!(!(hidden && grants), "a yes that hangs on what is hidden: {report:?}");
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), place in 0_usize..4) {
        let mut path = good();
        path[place].1 = bytes;
        let host = chain(&path);
        let report = judged(&host, GPU, "7.2", None);
        let unreadable = host.devices.values().any(|d| matches!(d.config, Config::Unreadable(ConfigError::Short(_))));
        prop_assert!(!unreadable || report.host.granted().is_empty());
    }

    #[test]
    fn any_guest_gets_a_verdict(
        models in proptest::collection::vec(0_usize..7, 0..5),
        bus in 0_u8..8, slot in 0_u8..32, function in 0_u8..8, several: bool, addressed: bool, attach: bool,
    ) {
        const MODELS: [&str; 7] = ["pcie-root-port", "pcie-switch-upstream-port", "pcie-switch-downstream-port",
            "pcie-expander-bus", "pcie-to-pci-bridge", "pci-bridge", ""];
        let controllers: String = models.iter().enumerate().map(|(at, model)| {
            format!("<controller type='pci' index='{}' model='{}'/>", at + 1, MODELS[*model])
        }).collect();
        let flag = if several { "on" } else { "off" };
        let address = format!("<address type='pci' bus='{bus}' slot='{slot}' function='{function}' multifunction='{flag}'/>");
        let domain = guest(&controllers, if addressed { &address } else { "" });
        let (ok, code) = placed(&domain, attach, NEW);
        prop_assert_eq!(ok == Some(true), code.is_none());
        let given = addressed && !attach && ok == Some(true);
        prop_assert!(!given || (bus > 0 && (slot, function, several) == (0, 0, false)));
    }
}
