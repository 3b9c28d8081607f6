//! The real agent and oVirt's hook, called as VDSM does: every program of a hook point's directory by name, one file
//! with the domain, and a stop at exit status 2.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use tests::program;

use crate::scene::Scene;

const POINTS: [&str; 2] = ["before_vm_start", "before_vm_migrate_destination"];
const GUEST: &str = include_str!("../../../tests/data/golden/gh200.xml");

/// A guest for which the test driver's QEMU, without a version, is not too old.
const OTHER: &str = include_str!("../../../tests/data/case/q35-h100/domain.xml");
const FOREIGN: &str = "<domain type='kvm'><name>other</name></domain>";

/// VDSM's result of a hook point: the domain that it creates, or its error.
type Ran = Result<String, String>;

impl Scene {
    /// VDSM's directories, with our hook between two others; the second records that it ran.
    fn with_hooks(host: &str) -> Self {
        let scene = Self::on(host);
        for point in POINTS {
            let folder = scene.path(&format!("hooks/{point}"));
            fs::create_dir_all(&folder).expect("folder");
            symlink(
                program::built("vdsm", "variantd-vdsm"),
                folder.join("50_variantd"),
            )
            .expect("link");
            let before = "#!/bin/sh\nsed -i 's/name-of-vdsm/hopper/' \"$_hook_domxml\"\n";
            let behind = "#!/bin/sh\necho \"$vmId\" > \"$noted\"\n";
            for (name, text) in [("10_before", before), ("60_behind", behind)] {
                program::script(&folder.join(name), text);
            }
        }
        scene
    }

    /// Runs hooks like `_runHooksDir` of VDSM.
    fn vdsm(&self, point: &str, domain: &str) -> Ran {
        let file = tempfile::NamedTempFile::new().expect("file");
        fs::write(file.path(), domain).expect("domain");
        let entries = fs::read_dir(self.path("hooks").join(point)).expect("hooks");
        let mut scripts: Vec<PathBuf> = entries.map(|entry| entry.expect("entry").path()).collect();
        scripts.sort();
        let mut errors = Vec::new();
        for script in scripts {
            let mut hook = Command::new(script);
            hook.env("vmId", "6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11")
                .env("custom_property", "1")
                .env("noted", self.path("noted"))
                .env("_hook_domxml", file.path())
                .env("DBUS_SYSTEM_BUS_ADDRESS", self.bus.address())
                .env("VARIANTD_RUN_DIR", self.path("run"))
                .stdin(Stdio::null());
            let output = hook.output().expect("the hook runs");
            if !output.status.success() {
                errors.push(String::from_utf8(output.stderr).expect("text"));
            }
            if output.status.code() == Some(2) {
                break;
            }
        }
        match errors.pop() {
            Some(error) => Err(error),
            None => Ok(fs::read_to_string(file.path()).expect("domain")),
        }
    }

    /// Whether the hook after ours ran since the last call.
    fn went_on(&self) -> bool {
        fs::remove_file(self.path("noted")).is_ok()
    }
}

#[test]
fn both_hook_points_create_the_completed_guest() {
    let scene = Scene::with_hooks("hgx-8gpu");
    let recipe = include_str!("../../recipes/nvidia-x86.toml").replace("on-request", "on-define");
    scene.write("recipes.d/nvidia-x86.toml", &recipe);
    let mut agent = scene.start();
    agent.says("serves");
    scene.write("guest.xml", OTHER);
    let versions = fs::read_to_string(scene.path("state/versions")).expect("learned versions");
    let read = ["--host", "host", "--recipes", "recipes.d", "rewrite"];
    let wanted = scene.says(&[&read[..], &["--target", versions.trim(), "guest.xml"]].concat());
    assert!(wanted.contains("urn:variantd:1"), "{wanted}");
    let emitted = OTHER.replace("hopper", "name-of-vdsm");
    for point in POINTS {
        let created = scene.vdsm(point, &emitted).expect("completed");
        assert_eq!(created, wanted, "{point}");
        assert!(scene.went_on(), "{point}");
        let again = scene.vdsm(point, &created).expect("complete");
        assert_eq!(
            again, wanted,
            "{point}: what comes from another host stays as it is"
        );
    }
    assert_eq!(scene.vdsm(POINTS[0], FOREIGN).as_deref(), Ok(FOREIGN));
}

#[test]
fn a_refusal_of_the_agent_ends_the_start_with_its_sentence() {
    let scene = Scene::with_hooks("gh200-1gpu");
    let mut agent = scene.start();
    agent.says("serves");
    for point in POINTS {
        let error = scene.vdsm(point, GUEST).expect_err("too old");
        assert!(
            error.contains("VD-TGT-001") && error.contains("0009:01:00.0"),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(!scene.went_on(), "{point}");
    }
}

#[test]
fn without_its_agent_a_guest_with_a_device_does_not_start_and_another_does() {
    let scene = Scene::with_hooks("gh200-1gpu");
    let mut agent = scene.start();
    agent.says("serves");
    agent.send(Signal::SIGKILL);
    agent.wait();
    for point in POINTS {
        let error = scene.vdsm(point, GUEST).expect_err("no reply");
        assert!(
            error.contains("VD-AGT-001") && error.contains("systemctl start variantd"),
            "{error}"
        );
        assert!(!scene.went_on(), "{point}");
        assert_eq!(scene.vdsm(point, FOREIGN).as_deref(), Ok(FOREIGN));
        assert!(scene.went_on(), "{point}");
    }
}
