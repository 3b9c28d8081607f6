//! Verdicts on modelled paths, and on images of config space.

mod guest;
mod random;

use kernel_glue::atomics::Width;
use kernel_glue::config::Config;

use super::*;
use crate::fixture;
use domain::code::Code;

const ROOT: &str = "0000:00:01.0";
const UP: &str = "0000:01:00.0";
const DOWN: &str = "0000:02:00.0";
const GPU: &str = "0000:03:00.0";

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

/// A GPU behind a switch that passes every rule.
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
fn a_sound_path_passes_the_widths_of_the_device() {
    let report = judged(&chain(&good()), GPU, "7.2", None);
    assert_eq!(codes(&report), [None, None, Some(Code::AtomicsDevice)]);
    assert_eq!(report.host.granted().to_string(), "32, 64");
    assert_eq!(report.root_port, Some(fixture::address(ROOT)));
    assert_eq!(report.driver, Answer::Yes);
}

#[test]
fn each_failing_element_of_the_path_is_named() {
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
fn every_rule_that_fails_is_reported_hardware_before_the_kernel() {
    let mut path = good();
    path[1].1 = image(2, 5, 0, 0x80);
    path[2].1 = image(2, 6, 0, 0);
    let report = judged(&chain(&path), GPU, "6.1", None);
    let rules = |width| {
        let findings = report.host.judgement(width).findings();
        findings
            .map(|rule| (rule.code, rule.at))
            .collect::<Vec<_>>()
    };
    let at = |at: &str| Some(fixture::address(at));
    let path = [
        (Code::AtomicsBlocked, at(UP)),
        (Code::AtomicsUnrouted, at(UP)),
        (Code::AtomicsUnrouted, at(DOWN)),
        (Code::AtomicsKernel, None),
    ];
    assert_eq!(rules(Width::Bits32), path);
    let own = [(Code::AtomicsDevice, at(GPU))];
    assert_eq!(rules(Width::Bits128), [&own[..], &path].concat());
    assert_eq!(codes(&report)[0], Some(Code::AtomicsBlocked));
    let lacking = report.driver.finding().expect("no").reason.clone();
    for part in [
        "it gets none of them",
        "VD-ATM-005",
        "VD-ATM-006",
        "VD-ATM-009",
    ] {
        assert!(lacking.contains(part), "{part}: {lacking}");
    }
}

#[test]
fn a_driver_that_needs_any_width_reports_all_missing_widths() {
    let mut host = chain(&good());
    let gpu = host.devices.get_mut(&fixture::address(GPU)).expect("gpu");
    gpu.id = "15b3:101e".parse().expect("id");
    let report = judged(&host, GPU, "6.1", None);
    let reason = report.driver.finding().expect("no").reason.clone();
    assert!(
        reason.contains("any of 32, 64, 128 bits, it gets none of them"),
        "{reason}"
    );
    assert!(
        reason.contains("VD-ATM-009") && !reason.contains("VD-ATM-003"),
        "{reason}"
    );
}

#[test]
fn bridges_that_the_kernel_ignores_do_not_fail() {
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
fn hidden_config_space_leaves_the_verdict_open_unless_a_rule_fails() {
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
fn the_kernel_decides_for_a_device_without_a_root_port() {
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

#[test]
fn the_drivers_need_comes_from_its_recipe() {
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
fn vfios_answer_replaces_the_computed_one() {
    let host = chain(&good());
    let recipes = recipes();
    let question = Question {
        host: &host,
        recipes: &recipes,
        kernel: Kernel::default(),
        qemu: Version::new(11, 1, 0),
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
