//! Verbs that read a domain of libvirt's, with a program that answers instead of libvirt.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use agent::libvirt::{Capabilities, Defined, Found, LookError};
use planner::from_libvirt::Networks;
use planner::target::Versions;
use tests::program;

const POOL: &str = "<network><name>p</name><forward mode='hostdev'>\
    <address type='pci' domain='0' bus='0x81' slot='0' function='2'/></forward></network>";

fn guest(devices: &str) -> String {
    format!(
        "<domain type='kvm'><name>g</name><memory unit='GiB'>4</memory><vcpu>2</vcpu>\
         <os><type arch='x86_64' machine='q35'>hvm</type></os><devices>{devices}</devices></domain>"
    )
}

/// An interface of the network with this name.
fn interface(network: &str) -> String {
    format!("<interface type='network'><source network='{network}'/></interface>")
}

/// A device that no host has, so that no verdict depends on this one.
const DEVICE: &str = "<hostdev mode='subsystem' type='pci'><source>\
    <address domain='0xffff' bus='0xfe' slot='0x1f' function='7'/></source></hostdev>";

/// Runs a verb where libvirt gives this answer.
fn answered(found: Result<Option<Found>, LookError>, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().expect("directory");
    let path = |name: &str| directory.path().join(name);
    let variantctl = Path::new(env!("CARGO_BIN_EXE_variantctl"));
    program::copy(variantctl, &path("variantctl"));
    let answer = serde_json::to_string(&found).expect("JSON");
    fs::write(path("answer"), answer).expect("answer");
    let script = "#!/bin/sh\ncat >\"${0%/*}/question\"\nexec cat \"${0%/*}/answer\"\n";
    program::script(&path("variantd-libvirt"), script);
    Command::new(path("variantctl"))
        .args(["--recipes", "/nonexistent"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("variantctl runs")
}

fn found(devices: &str, networks: Option<Networks>) -> Result<Option<Found>, LookError> {
    let domain = Defined {
        name: "g".to_owned(),
        xml: guest(devices),
        active: false,
        has: Vec::new(),
        capabilities: Capabilities::default(),
    };
    Ok(Some(Found {
        versions: Some(Versions::NEWEST_TESTED),
        domain,
        networks,
    }))
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const VERBS: [&[&str]; 2] = [
    &["atomics", "--domain", "g"],
    &["topology", "--domain", "g"],
];

#[test]
fn the_pool_of_a_network_is_named_by_each_verb() {
    for verb in VERBS {
        let pools = Networks::new([("p".to_owned(), POOL)]);
        let output = answered(found(&interface("p"), Some(pools)), verb);
        let printed = printed(&output);
        assert!(output.status.success(), "{verb:?}: {printed}");
        let named = "network 'p' is assigned one of 0000:81:00.2 when the guest starts";
        assert!(printed.contains(named), "{verb:?}: {printed}");
        assert!(printed.contains("(VD-DEV-008)"), "{verb:?}: {printed}");
    }
}

#[test]
fn an_unknown_network_is_not_judged() {
    for (networks, why) in [
        (Some(Networks::default()), "libvirt has no such network"),
        (None, "unknown until libvirt is asked"),
    ] {
        let noted = |devices: &str| {
            let output = answered(found(devices, networks.clone()), VERBS[1]);
            printed(&output).contains(why)
        };
        assert!(noted(&format!("{}{DEVICE}", interface("p"))), "{why}");
        assert!(!noted(&interface("p")), "{why}: an ordinary guest");
    }
}

#[test]
fn the_name_of_a_network_is_escaped_on_a_terminal() {
    let hostile = "a&#x9b;31m";
    let pools = Networks::new([("a\u{9b}31m".to_owned(), POOL)]);
    for verb in VERBS {
        let output = answered(found(&interface(hostile), Some(pools.clone())), verb);
        let printed = printed(&output);
        assert!(
            printed.contains("31m' is assigned one of"),
            "{verb:?}: {printed}"
        );
        assert!(!printed.contains('\u{9b}'), "{verb:?}: {printed:?}");
    }
}

#[test]
fn a_missing_domain_and_a_hanging_libvirt_have_different_exit_statuses() {
    for verb in VERBS {
        let missing = answered(Ok(None), verb);
        assert_eq!(missing.status.code(), Some(3), "{verb:?}");
        let silent = answered(Err(LookError::Silent("no socket".to_owned())), verb);
        assert_eq!(silent.status.code(), Some(4), "{verb:?}");
        assert!(printed(&silent).contains("no socket"), "{verb:?}");
    }
}
