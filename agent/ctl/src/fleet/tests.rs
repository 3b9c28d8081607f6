//! One guest on several hosts: where it fits, and what differs.

use std::path::Path;

use super::*;
use agent::snapshot::Snapshot;
use planner::target::Version;

fn host(name: &str) -> Host {
    Host::read(&testing::hosts::directory(name)).expect("a modelled or recorded host")
}

fn guest() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/golden/gh200.xml");
    std::fs::read_to_string(path).expect("a definition")
}

fn runs(libvirt: Version, qemu: Version) -> Runs {
    Runs {
        versions: Some(Versions { libvirt, qemu }),
        arch: Some(Arch::Aarch64),
        stack: None,
    }
}

fn newest() -> Runs {
    let Versions { libvirt, qemu } = Versions::NEWEST_TESTED;
    runs(libvirt, qemu)
}

fn answer(text: &str, host: &Host, runs: Runs) -> Answer {
    let recipes = Recipes::shipped().expect("recipes");
    let question =
        Question::new(text.parse().expect("a domain"), &recipes, None, false).expect("a domain");
    question.of(host, None, runs)
}

fn differences(here: &Answer, there: &Answer) -> Vec<Finding> {
    let (here, there) = (here.shape.as_ref(), there.shape.as_ref());
    here.expect("fits").differences(there.expect("fits"))
}

fn codes(findings: &[Finding]) -> Vec<Code> {
    findings.iter().map(|one| one.code).collect()
}

#[test]
fn equal_hosts_have_no_differences() {
    let (text, host) = (guest(), host("gh200-1gpu"));
    let one = answer(&text, &host, newest());
    assert_eq!(codes(&one.findings), []);
    assert_eq!(differences(&one, &answer(&text, &host, newest())), []);
}

#[test]
fn shapes_differ_by_version_and_unknown_versions_are_reported() {
    let (text, host) = (guest(), host("gh200-1gpu"));
    let one = answer(&text, &host, newest());
    let old = runs(Version::new(11, 3, 0), Version::new(10, 0, 0));
    let found = differences(&answer(&text, &host, old), &one);
    assert_eq!(
        codes(&found).last(),
        Some(&Code::FleetSpelling),
        "{found:?}"
    );
    assert!(
        found.last().expect("one").text.contains("11.3.0"),
        "{found:?}"
    );
    let unknown = answer(&text, &host, Runs::default());
    assert_eq!(codes(&unknown.findings), [Code::FleetVersions]);
}

#[test]
fn a_kernel_without_the_driver_does_not_fit_and_an_unknown_one_is_reported() {
    let (text, mut host) = (guest(), host("gh200-1gpu"));
    for device in host.devices.values_mut() {
        device.driver = None;
    }
    let fits = answer(&text, &host, newest());
    assert!(fits.shape.is_some(), "{fits:?}");
    host.variants.retain(|one| !one.module.contains("nvgrace"));
    assert!(!host.variants.is_empty());
    let lacking = answer(&text, &host, newest());
    assert_eq!(
        (lacking.shape, codes(&lacking.findings)),
        (None, vec![Code::FleetDriver])
    );
    host.variants.clear();
    let unavailable = answer(&text, &host, newest());
    assert!(unavailable.shape.is_some());
    assert_eq!(codes(&unavailable.findings), [Code::FleetDriverUnknown]);
}

#[test]
fn another_architecture_and_a_missing_device_do_not_fit() {
    let text = guest();
    let x86 = Runs {
        arch: Some(Arch::X86_64),
        ..newest()
    };
    let emulated = answer(&text, &host("gh200-1gpu"), x86);
    assert_eq!(codes(&emulated.findings), [Code::FleetArch]);
    let missing = answer(&text, &host("mi300x-8gpu"), newest());
    assert_eq!(codes(&missing.findings), [Code::DeviceMissing]);
}

#[test]
fn fleet_plans_a_completed_guest_again_and_reports_that_it_cannot_start() {
    let (text, here) = (guest(), host("gh200-1gpu"));
    let recipes = Recipes::shipped().expect("recipes");
    let input = PlanInput::newest(&here, &recipes);
    let done = rewrite::rewrite(&text.parse().expect("definition"), &input)
        .expect("completed")
        .text;
    let same = answer(&done, &here, newest());
    assert_eq!(codes(&same.findings), []);
    assert_eq!(differences(&same, &answer(&text, &here, newest())), []);
    let old = runs(Version::new(11, 3, 0), Version::new(10, 0, 0));
    let moved = answer(&done, &here, old);
    assert!(moved.shape.is_some());
    assert!(
        moved
            .findings
            .iter()
            .any(|one| one.text.contains("completed for another host")),
        "{moved:?}"
    );
}

#[test]
fn hosts_are_asked_in_parallel_and_printed_in_order() {
    let directory = tempfile::tempdir().expect("directory");
    let snapshot = Snapshot::new(host("gh200-1gpu"), newest(), Vec::new()).text();
    let mut paths = Vec::new();
    for number in 0..40 {
        let path = directory.path().join(format!("{number}.json"));
        let text = if number % 10 == 7 { "{}" } else { &*snapshot };
        std::fs::write(&path, text).expect("written");
        paths.push(path);
    }
    let (text, recipes) = (guest(), Recipes::shipped().expect("recipes"));
    let question =
        Question::new(text.parse().expect("a domain"), &recipes, None, false).expect("a domain");
    let mut last = 0;
    let asked = ask(&paths, &question, |done| last = done);
    assert_eq!((asked.len(), last), (40, 40));
    for (number, one) in asked.iter().enumerate() {
        let code = one.findings.first().map(|one| one.code);
        let bad = (number % 10 == 7).then_some(Code::SnapshotUnreadable);
        assert_eq!(code, bad, "{number}");
    }
    let shape = asked[0].shape.as_ref().expect("fits");
    assert!(std::sync::Arc::ptr_eq(
        shape,
        asked[39].shape.as_ref().expect("fits")
    ));
}
