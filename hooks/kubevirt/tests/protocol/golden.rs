//! Virt-launcher's domains for one GPU and for four: in both forms the sidecar writes what the golden case has, which
//! `tests/lab translate` takes through the schema, the conversion and the QEMU of three releases.

use super::launcher::Launcher;
use super::scene::{ALL, ONE, Scene, VMI, completed, domain, emitted, program, refusal};
use super::{FOUR, GRACE};

/// The host of each case, as its `case.toml` has it.
const CASES: [(&str, &str); 2] = [(ONE, "gh200-1gpu"), (ALL, "gb200-4gpu")];
/// The versions of each target, as agent/ctl/tests/golden has them.
const TARGETS: [(&str, &str); 3] = [
    ("testing", "libvirt=12.8,qemu=11.1"),
    ("stable", "libvirt=11.3,qemu=10.0"),
    ("oldstable", "libvirt=9.0,qemu=7.2"),
];

#[tokio::test]
async fn both_forms_write_what_goes_through_the_real_libvirt() {
    for (case, host) in CASES {
        for (target, versions) in TARGETS {
            let scene = Scene::of_target(host, versions);
            let launcher = Launcher::find(&scene.sockets()).await;
            let served = launcher.define(&emitted(case)).await;
            let printed = program(scene.path())
                .args(["--target", versions, "onDefineDomain"])
                .args(["--vmi", VMI, "--domain", &emitted(case)])
                .output()
                .expect("it runs");
            let text = String::from_utf8(printed.stdout).expect("text");
            let Some(wanted) = completed(case, target) else {
                let fault = served.expect_err("refused");
                let refusal = refusal(case, target);
                assert_eq!(format!("error: {}", fault.message()), refusal.trim_end());
                assert_eq!(String::from_utf8(printed.stderr).expect("text"), refusal);
                assert!(!printed.status.success() && text.is_empty());
                continue;
            };
            assert_eq!(served.expect("completed"), wanted, "{case} for {target}");
            assert_eq!(text, wanted, "{case} for {target}");
        }
    }
}

#[test]
fn the_domains_of_the_other_tests_are_those_of_the_cases() {
    assert_eq!(domain(&GRACE), emitted(ONE));
    assert_eq!(domain(&FOUR), emitted(ALL));
    for part in [
        "<bios></bios>",
        "<address type=\"pci\" domain=",
        "<qemu:arg value=\"-fw_cfg\">",
    ] {
        assert!(emitted(ALL).contains(part), "{part}");
    }
}
