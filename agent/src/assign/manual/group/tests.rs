//! Manual binds of a device and its group, on a modelled kernel.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kernel_glue::holder::{Holder, Holders};
use kernel_glue::kernel::Kernel;
use kernel_glue::model::{Model, Write};
use kernel_glue::occupancy::{Occupancy, Onlined};
use kernel_glue::rebind;
use nix::errno::Errno;

use super::*;
use crate::assign::OnRefusal;
use crate::context::Context;
use crate::fixture::{self, GPU, NIC, UUID, VARIANT, address, assigner, definition, driver, guest};
use crate::service::{ServiceError, Services};
use settings::config::Config;

const AUDIO: &str = "0009:01:00.1";
const USB: &str = "0009:01:00.2";
const SOUND: &str = "snd_hda_intel";

struct Scene {
    kernel: Arc<Model>,
    assigner: Assigner,
    context: Arc<Context>,
    directory: tempfile::TempDir,
}

/// The GPU with its audio function in its IOMMU group, and its USB function in a group of its own.
fn scene() -> Scene {
    scene_on(SOUND)
}

/// The same with another driver of the audio function.
fn scene_on(driver_of_audio: &str) -> Scene {
    let mut host = fixture::host();
    for (at, class, on, group) in [
        (AUDIO, 0x04_0300, driver_of_audio, 7),
        (USB, 0x0c_0330, "xhci_hcd", 8),
    ] {
        let mut function = fixture::device(at, "10de:22a3", on);
        (function.class, function.iommu_group) = (class, Some(group));
        host.devices.insert(function.address, function);
    }
    let gpu = host.devices.get_mut(&address(GPU)).expect("the GPU");
    gpu.iommu_group = Some(7);
    let kernel = fixture::kernel_of(&host);
    kernel.add_driver(driver("vfio-pci"), []);
    let (directory, context) = fixture::context_of(host, Config::default());
    Scene {
        assigner: assigner(kernel.clone(), &context, &directory),
        kernel,
        context,
        directory,
    }
}

fn bind_options(driver: Option<DriverName>, allow_group: bool) -> BindOptions {
    BindOptions {
        driver,
        allow_group,
        stop_services: false,
    }
}

impl Scene {
    fn bind(&self, allow_group: bool) -> Result<GroupAnswer, AssignError> {
        let device = address(GPU);
        self.assigner
            .bind_group_manually(device, bind_options(None, allow_group))
    }

    fn release(&self, at: &str) -> Result<GroupAnswer, AssignError> {
        self.assigner.release_group_manually(address(at))
    }

    fn prepare(&self) -> Result<(), AssignError> {
        let guest = self.context.look().rewrite(&definition(&guest(GPU)), false);
        self.assigner
            .prepare(&definition(&guest.expect("complete").text))
    }

    fn restarted(&self) -> Assigner {
        assigner(self.kernel.clone(), &self.context, &self.directory)
    }

    /// Drivers of the GPU, its audio and its USB function.
    fn drivers(&self) -> [String; 3] {
        [GPU, AUDIO, USB].map(|at| {
            let driver = self.kernel.driver(address(at)).expect("device");
            driver.map_or("-".into(), |driver| driver.to_string())
        })
    }

    fn is_untouched(&self) -> bool {
        let text = |at| self.kernel.driver_override(address(at)).expect("device");
        self.drivers() == BEFORE
            && [GPU, AUDIO, USB].into_iter().all(|at| text(at).is_none())
            && self.assigner.records.devices().expect("listed").is_empty()
    }
}

const BEFORE: [&str; 3] = ["nvidia", SOUND, "xhci_hcd"];
const TAKEN: [&str; 3] = [VARIANT, "vfio-pci", "vfio-pci"];

#[test]
fn without_consent_a_bind_refuses_as_the_start_of_a_guest_does() {
    let scene = scene();
    let start = scene.prepare().expect_err("refused").to_string();
    let bind = scene.bind(false).expect_err("refused").to_string();
    let dry = scene
        .assigner
        .plan_manual_group(address(GPU), bind_options(None, false));
    assert_eq!(
        dry.expect("planned").device.obstacles,
        std::slice::from_ref(&bind)
    );
    let reason = |text: &str| text.split("; ").next().map(str::to_owned);
    assert_eq!(reason(&start), reason(&bind));
    assert!(bind.contains("VD-BND-007"), "{bind}");
    let way = format!("variantctl bind {GPU} --allow-group");
    assert!(bind.contains(&way) && !start.contains(&way), "{bind}");
    assert!(scene.is_untouched() && scene.kernel.writes().is_empty());
}

#[test]
fn consent_binds_and_releases_the_whole_group() {
    let scene = scene();
    let answer = scene.bind(true).expect("bound");
    let along: Vec<_> = answer.along.iter().map(|one| one.device).collect();
    assert_eq!(along, [address(AUDIO), address(USB)]);
    assert_eq!(scene.drivers(), TAKEN);
    let again = scene.bind(true).expect("again");
    assert_eq!(again.device.outcome, BindOutcome::AlreadySo);
    assert!(again.along.is_empty());
    assert_eq!(scene.release(GPU).expect("released").along.len(), 2);
    assert!(scene.is_untouched());
}

#[test]
fn a_dry_run_lists_the_writes_in_their_order() {
    let scene = scene();
    let plan = scene
        .assigner
        .plan_manual_group(address(GPU), bind_options(None, true));
    let plan = plan.expect("plan");
    assert!(scene.is_untouched());
    scene.bind(true).expect("bound");
    let all = plan.along.into_iter().chain([plan.device]);
    let planned: Vec<String> = all.flat_map(|answer| answer.writes).collect();
    let done: Vec<String> = scene.kernel.writes().iter().map(Write::to_string).collect();
    assert_eq!(planned, done);
}

#[test]
fn failed_bind_of_a_group_restores_all_devices() {
    for number in 1..=9 {
        let scene = scene();
        scene.kernel.fail_write(number, Errno::EIO);
        let error = scene.bind(true).expect_err("fails").to_string();
        assert!(error.contains("VD-BND-001"), "{error}");
        assert!(scene.is_untouched(), "write {number}");
    }
}

#[test]
fn bind_refuses_a_group_with_a_held_companion() {
    let scene = scene();
    let player = Holder {
        process: 9,
        command: "player".into(),
        unit: None,
        nodes: vec![kernel_glue::holder::HeldNode {
            path: "/dev/snd/controlC1".into(),
            descriptor: Some(4),
            shared: false,
        }],
    };
    let holders = Holders {
        found: vec![player],
        ..Holders::default()
    };
    let occupancy = Occupancy {
        holders,
        ..Occupancy::default()
    };
    scene.kernel.set_occupancy(address(USB), occupancy);
    let error = scene.bind(true).expect_err("held").to_string();
    assert!(error.contains("player (pid 9"), "{error}");
    assert!(scene.is_untouched() && scene.kernel.writes().is_empty());
}

/// Memory that NVIDIA's driver added to the host.
fn memory(ranges: usize, is_changing: bool) -> Occupancy {
    let onlined = Onlined {
        node: None,
        ranges,
        is_changing,
    };
    Occupancy {
        onlined: Some(onlined),
        ..Occupancy::default()
    }
}

#[test]
fn bind_waits_until_a_companions_memory_is_stable_and_then_removed() {
    let scene = scene_on("nvidia");
    let found = [
        memory(1, true),
        memory(2, false),
        memory(2, false),
        memory(2, false),
        memory(1, true),
        Occupancy::default(),
    ];
    scene.kernel.set_occupancies(address(AUDIO), found);
    scene.bind(true).expect("bound");
    assert_eq!(scene.drivers(), TAKEN);
}

#[test]
fn bind_is_refused_before_its_first_write_while_a_companions_memory_stays() {
    for (is_changing, words) in [
        (true, "NVIDIA's driver still adds or removes its memory"),
        (false, "as system memory"),
    ] {
        let mut scene = scene_on("nvidia");
        scene.assigner.memory_timeout = Duration::from_millis(300);
        scene
            .kernel
            .set_occupancy(address(AUDIO), memory(2, is_changing));
        let error = scene.bind(true).expect_err("refused").to_string();
        assert!(
            error.contains("VD-BND-009") && error.contains(AUDIO),
            "{error}"
        );
        assert!(error.contains(words), "{error}");
        assert!(scene.kernel.writes().is_empty());
        assert_eq!(scene.drivers()[1], "nvidia");
    }
}

#[test]
fn services_that_hold_a_companion_are_stopped_on_request() {
    let scene = scene_on("nvidia");
    let daemon = Holder {
        process: 9,
        command: "nvidia-persistenced".into(),
        unit: Some("nvidia-persistenced.service".into()),
        nodes: vec![kernel_glue::holder::HeldNode {
            path: "/dev/nvidia1".into(),
            descriptor: Some(4),
            shared: false,
        }],
    };
    let mut held = Occupancy::default();
    held.holders.found = vec![daemon];
    let found = [held.clone(), held, Occupancy::default()];
    scene.kernel.set_occupancies(address(AUDIO), found);
    let options = BindOptions {
        stop_services: true,
        ..bind_options(None, true)
    };
    let stopped = Arc::new(Stopped::default());
    let assigner = scene.restarted().with_services(stopped.clone());
    let bound = assigner.bind_group_manually(address(GPU), options);
    assert_eq!(bound.expect("bound").along.len(), 2);
    let stop = "stop nvidia-persistenced.service";
    assert_eq!(*stopped.0.lock().expect("done"), [stop]);
    assigner
        .release_group_manually(address(GPU))
        .expect("released");
    let start = "start nvidia-persistenced.service";
    assert_eq!(*stopped.0.lock().expect("done"), [stop, start]);
}

/// Notes which services are stopped and started.
#[derive(Default)]
struct Stopped(Mutex<Vec<String>>);

impl Stopped {
    fn note(&self, what: &str, unit: &ServiceName) {
        self.0.lock().expect("done").push(format!("{what} {unit}"));
    }
}

impl Services for Stopped {
    fn dependents(&self, _: &ServiceName) -> Result<Vec<String>, ServiceError> {
        Ok(Vec::new())
    }

    fn stop(&self, unit: &ServiceName) -> Result<(), ServiceError> {
        self.note("stop", unit);
        Ok(())
    }

    fn start(&self, unit: &ServiceName) -> Result<(), ServiceError> {
        self.note("start", unit);
        Ok(())
    }
}

#[test]
fn recover_releases_companions_of_an_interrupted_bind() {
    let scene = scene();
    scene.bind(true).expect("bound");
    assert!(
        scene
            .restarted()
            .recover_manually(None, OnRefusal::Kept)
            .is_empty()
    );
    let gpu = scene.assigner.records.manual(address(GPU)).expect("read");
    let before = gpu.expect("a record").record.before.expect("known");
    rebind::restore(&*scene.kernel, address(GPU), &before).expect("back");
    let removed = scene.assigner.records.set_manual(address(GPU), None);
    removed.expect("removed");
    assert_eq!(
        scene
            .restarted()
            .recover_manually(None, OnRefusal::Kept)
            .len(),
        2
    );
    assert!(scene.is_untouched());
}

#[test]
fn a_release_that_fails_is_called_again() {
    let scene = scene();
    scene.bind(true).expect("bound");
    scene.kernel.set_users(address(AUDIO), &[4711]);
    let error = scene.release(GPU).expect_err("in use").to_string();
    assert!(error.contains("4711"), "{error}");
    assert_eq!(scene.drivers(), ["nvidia", "vfio-pci", "xhci_hcd"]);
    scene.kernel.set_users(address(AUDIO), &[]);
    scene.release(GPU).expect("released");
    assert!(scene.is_untouched());
}

#[test]
fn release_keeps_a_companion_that_a_guest_needs() {
    let scene = scene();
    scene.bind(true).expect("bound");
    scene.prepare().expect("start");
    for at in [GPU, AUDIO] {
        let error = scene.release(at).expect_err("a guest has it").to_string();
        assert!(error.contains("VD-DEV-003"), "{error}");
    }
    let uuid = UUID.parse().expect("uuid");
    scene.assigner.release(&uuid).expect("the guest's end");
    assert_eq!(scene.drivers(), TAKEN);
    scene.release(AUDIO).expect("alone");
    assert_eq!(scene.drivers(), [VARIANT, SOUND, "vfio-pci"]);
}

#[test]
fn bind_to_another_driver_takes_no_companions() {
    let scene = scene();
    scene.kernel.add_driver(driver("pci-stub"), []);
    let id = "10de:2342".parse().expect("id");
    scene.kernel.add_alias("pci_stub", id);
    let stub = Some(driver("pci-stub"));
    let answer = scene
        .assigner
        .bind_group_manually(address(GPU), bind_options(stub, false))
        .expect("bound");
    assert!(answer.along.is_empty());
    let alone = Some(driver("vfio-pci"));
    let nic = scene
        .assigner
        .bind_group_manually(address(NIC), bind_options(alone, true));
    assert!(nic.expect("bound").along.is_empty());
}
