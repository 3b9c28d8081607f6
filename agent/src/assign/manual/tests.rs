//! Manual binds and releases on a modelled kernel.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kernel_glue::kernel::{Attribute, Kernel};
use kernel_glue::model::{Model, Write};
use nix::errno::Errno;

use super::*;
use crate::context::Context;
use crate::fixture::{
    GPU, NIC, UUID, VARIANT, address, as_the_model, assigner, context, definition, driver, guest,
    kernel,
};
use crate::record::{Phase, Records};
use domain::Definition;
use settings::config::Config;

struct Scene {
    kernel: Arc<Model>,
    assigner: Assigner,
    context: Arc<Context>,
    directory: tempfile::TempDir,
}

fn scene() -> Scene {
    let (directory, context) = context(Config::default());
    let kernel = kernel();
    Scene {
        assigner: assigner(kernel.clone(), &context, &directory),
        kernel,
        context,
        directory,
    }
}

impl Scene {
    fn bind(&self) -> Result<Answer, AssignError> {
        self.assigner.bind_manually(address(GPU), None)
    }

    fn release(&self) -> Result<Answer, AssignError> {
        self.assigner.release_manually(address(GPU))
    }

    fn complete(&self) -> Definition {
        let rewrite = self.context.look().rewrite(&definition(&guest(GPU)), false);
        definition(&rewrite.expect("a complete guest").text)
    }

    fn restarted(&self) -> Assigner {
        assigner(self.kernel.clone(), &self.context, &self.directory)
    }

    fn write(&self, manual: &Manual) {
        let written = self
            .assigner
            .records
            .set_manual(manual.device, Some(manual.clone()));
        written.expect("written");
    }

    /// Driver and override.
    fn state(&self) -> (String, Option<String>) {
        let driver = self.kernel.driver(address(GPU)).expect("device");
        let text = self.kernel.driver_override(address(GPU)).expect("device");
        (driver.map_or("-".into(), |d| d.to_string()), text)
    }

    fn lines(&self) -> Vec<String> {
        self.kernel.writes().iter().map(Write::to_string).collect()
    }
}

fn bound() -> (String, Option<String>) {
    (VARIANT.into(), Some(VARIANT.into()))
}

fn unbound() -> (String, Option<String>) {
    ("nvidia".into(), None)
}

#[test]
fn release_restores_a_manually_bound_device() {
    let scene = scene();
    assert_eq!(scene.bind().expect("bind").outcome, BindOutcome::Bound);
    assert_eq!(scene.state(), bound());
    let writes = scene.kernel.writes().len();
    assert_eq!(scene.bind().expect("again").outcome, BindOutcome::AlreadySo);
    assert_eq!(scene.kernel.writes().len(), writes);
    assert_eq!(
        scene.release().expect("release").outcome,
        BindOutcome::Released
    );
    assert_eq!(scene.state(), unbound());
    let again = scene.release().expect("again");
    assert_eq!(again.outcome, BindOutcome::AlreadySo);
    assert_eq!(again.driver, Some(driver("nvidia")));
}

#[test]
fn a_dry_run_prints_the_writes_that_the_kernel_then_sees() {
    let scene = scene();
    let plan = scene.assigner.plan_manual_bind(address(GPU), None);
    let plan = plan.expect("plan");
    assert_eq!(plan.module.as_deref(), Some(VARIANT));
    assert!(scene.kernel.writes().is_empty() && scene.kernel.loaded().is_empty());
    assert_eq!(plan.writes.len(), 3);
    let done = scene.bind().expect("bind");
    assert_eq!((&plan.writes, &done.writes), (&scene.lines(), &plan.writes));
    let after = scene.assigner.plan_manual_bind(address(GPU), None);
    assert!(after.expect("plan").writes.is_empty());
}

#[test]
fn second_manual_bind_keeps_the_first_previous_state() {
    let scene = scene();
    scene.kernel.add_driver(driver("vfio-pci"), []);
    let other = Some(driver("vfio-pci"));
    scene
        .assigner
        .bind_manually(address(GPU), other)
        .expect("vfio-pci");
    scene.bind().expect("variant");
    scene.release().expect("release");
    assert_eq!(scene.state(), unbound());
}

#[test]
fn a_driver_that_is_not_for_the_device_is_refused_before_its_module_is_loaded() {
    let scene = scene();
    for (name, known) in [("floppy", true), ("sctp", false), ("mlx5_core", true)] {
        if known {
            scene.kernel.add_module(name, driver(name));
        }
        let named = || Some(driver(name));
        let gpu = address(GPU);
        for error in [
            scene.assigner.bind_manually(gpu, named()).map(drop),
            scene.assigner.plan_manual_bind(gpu, named()).map(drop),
            scene.assigner.reservable(gpu, named()).map(drop),
            scene.assigner.claim_reserved(gpu, named()).map(drop),
        ] {
            let error = error.expect_err(name).to_string();
            assert!(
                error.contains("VD-BND-033") && error.contains(name),
                "{error}"
            );
        }
    }
    assert!(scene.kernel.loaded().is_empty() && scene.kernel.writes().is_empty());
    scene.kernel.add_module("nouveau", driver("nouveau"));
    let id = "10de:2342".parse().expect("id");
    scene.kernel.add_alias("nouveau", id);
    for name in ["nouveau", "nvgrace-gpu-vfio-pci", "nvidia"] {
        let bound = scene
            .assigner
            .bind_manually(address(GPU), Some(driver(name)));
        bound.expect(name);
    }
}

#[test]
fn release_without_driver_if_the_previous_driver_was_removed() {
    let scene = scene();
    scene.bind().expect("bind");
    scene.kernel.remove_driver(&driver("nvidia"));
    let released = scene.release().expect("released");
    assert_eq!(
        (released.outcome, &released.driver),
        (BindOutcome::Released, &None)
    );
    assert!(released.obstacles[0].contains("VD-BND-034"), "{released:?}");
    assert_eq!(scene.state(), ("-".into(), None));
    scene.bind().expect("the next bind");
}

#[test]
fn guest_end_keeps_a_manually_bound_device() {
    let scene = scene();
    scene.bind().expect("bind");
    scene.assigner.prepare(&scene.complete()).expect("start");
    let bind = scene.bind().expect_err("the guest has it").to_string();
    let release = scene.release().expect_err("the guest has it").to_string();
    for printed in [bind, release] {
        assert!(
            printed.contains("VD-DEV-003") && printed.contains("'d0'"),
            "{printed}"
        );
    }
    let uuid = UUID.parse().expect("uuid");
    scene.assigner.release(&uuid).expect("the guest's end");
    assert_eq!(scene.state(), bound());
    scene.release().expect("release");
    assert_eq!(scene.state(), unbound());
}

#[test]
fn locked_device_is_not_changed() {
    let scene = scene();
    let other = scene.restarted();
    let lock = other.lock(address(GPU)).expect("lock");
    for error in [
        scene.bind().expect_err("busy"),
        scene.release().expect_err("busy"),
        scene.assigner.prepare(&scene.complete()).expect_err("busy"),
    ] {
        assert!(error.to_string().contains("VD-BND-020"), "{error}");
    }
    assert!(scene.kernel.writes().is_empty() && scene.assigner.held().is_empty());
    drop(lock);
    scene.assigner.prepare(&scene.complete()).expect("start");
}

#[test]
fn failed_bind_restores_the_device_after_any_write() {
    for number in 1..=3 {
        let scene = scene();
        scene.kernel.fail_write(number, Errno::EIO);
        let error = scene.bind().expect_err("fails").to_string();
        assert!(error.contains("VD-BND-001"), "{error}");
        assert_eq!(scene.state(), unbound());
        assert!(scene.assigner.records.devices().expect("listed").is_empty());
    }
}

#[test]
fn recover_completes_a_failed_undo() {
    let scene = scene();
    scene.kernel.fail_write(3, Errno::EIO);
    scene.kernel.fail_write(4, Errno::EIO);
    let error = scene.bind().expect_err("degraded").to_string();
    assert!(error.contains("VD-BND-004"), "{error}");
    assert!(error.contains("variantctl recover"), "{error}");
    assert!(
        scene
            .assigner
            .recover_manually(Some(address(NIC)), OnRefusal::Kept)
            .is_empty()
    );
    let start = scene.assigner.prepare(&scene.complete());
    let start = start.expect_err("interrupted").to_string();
    assert!(start.contains("VD-BND-004"), "{start}");
    let recovered = scene.restarted().recover_manually(None, OnRefusal::Kept);
    assert_eq!((recovered.len(), &recovered[0].sentence), (1, &None));
    assert_eq!(scene.state(), unbound());
    assert!(
        scene
            .assigner
            .recover_manually(None, OnRefusal::Kept)
            .is_empty()
    );
}

/// The driver link exists while the probe runs, so a bind to that driver must not treat it as done.
#[test]
fn second_bind_waits_for_a_write_in_progress() {
    let scene = scene();
    scene.bind().expect("bind");
    let record = scene.assigner.records.manual(address(GPU)).expect("read");
    let mut cut_off = record.expect("a record");
    cut_off.record.phase = Phase::Binding;
    scene.write(&cut_off);
    let written = scene.kernel.writes().len();
    scene.kernel.fail_write(1, Errno::ETIMEDOUT);
    let error = scene.bind().expect_err("in progress").to_string();
    assert!(error.contains("in progress"), "{error}");
    assert!(scene.kernel.writes().len() <= written + 1);
    let record = scene.assigner.records.manual(address(GPU)).expect("read");
    cut_off.record.phase = Phase::Degraded;
    assert_eq!(record, Some(cut_off));
    scene.bind().expect("bound from where it was before");
    assert_eq!(scene.state(), bound());
    scene.release().expect("release");
    assert_eq!(scene.state(), unbound());
}

#[test]
fn restart_undoes_an_interrupted_bind_and_keeps_a_finished_one() {
    let scene = scene();
    scene.bind().expect("bind");
    assert!(
        scene
            .restarted()
            .recover_manually(None, OnRefusal::Kept)
            .is_empty()
    );
    assert_eq!(scene.state(), bound());
    let record = scene.assigner.records.manual(address(GPU)).expect("read");
    let mut record = record.expect("a record");
    record.record.phase = Phase::Binding;
    scene.write(&record);
    assert_eq!(
        scene
            .restarted()
            .recover_manually(None, OnRefusal::Kept)
            .len(),
        1
    );
    assert_eq!(scene.state(), unbound());
}

/// A kernel that ends the agent before the write after so many.
struct Dying {
    model: Arc<Model>,
    writes: AtomicUsize,
}

impl Kernel for Dying {
    as_the_model! { load_module driver driver_override registered vfio_users regions occupancy unbind_lock }

    fn write(&self, attribute: &Attribute, value: &str) -> Result<(), Errno> {
        if self.writes.fetch_sub(1, Ordering::SeqCst) == 0 {
            std::panic::resume_unwind(Box::new(()));
        }
        self.model.write(attribute, value)
    }
}

impl Scene {
    /// An agent that ends before the write number `writes` + 1.
    fn dying(&self, writes: usize) -> Assigner {
        let records = Records::new(self.directory.path().to_owned());
        let kernel = Dying {
            model: self.kernel.clone(),
            writes: AtomicUsize::new(writes),
        };
        Assigner::new(Arc::new(kernel), self.context.clone(), records)
    }
}

#[test]
fn restart_undoes_or_finishes_a_change_interrupted_at_any_write() {
    let acts: [fn(&Assigner); 2] = [
        |agent| drop(agent.bind_manually(address(GPU), None)),
        |agent| drop(agent.release_manually(address(GPU))),
    ];
    for (released, act) in acts.into_iter().enumerate() {
        for writes in 0..3 + released {
            let scene = scene();
            if released == 1 {
                scene.bind().expect("bind");
            }
            let agent = scene.dying(writes);
            catch_unwind(AssertUnwindSafe(|| act(&agent))).expect_err("dies");
            let recovered = scene.restarted().recover_manually(None, OnRefusal::Kept);
            assert_eq!((recovered.len(), &recovered[0].sentence), (1, &None));
            assert_eq!(scene.state(), unbound(), "behind {writes} writes");
            assert!(scene.assigner.records.devices().expect("listed").is_empty());
            scene.bind().expect("the next bind");
        }
    }
}

#[test]
fn recover_releases_a_failed_start_without_libvirt() {
    let scene = scene();
    for number in 3..=5 {
        scene.kernel.fail_write(number, Errno::EIO);
    }
    scene
        .assigner
        .prepare(&scene.complete())
        .expect_err("degraded");
    let recovered = scene.assigner.recover_unsettled(Some(address(GPU)));
    assert_eq!(recovered[0].domain.as_deref(), Some("d0"));
    assert_eq!(recovered[0].sentence, None);
    assert_eq!(scene.state(), unbound());
}

#[test]
fn recover_reports_why_a_device_is_not_released() {
    let scene = scene();
    for number in 3..=8 {
        scene.kernel.fail_write(number, Errno::EIO);
    }
    let failed = scene.assigner.prepare(&scene.complete());
    failed.expect_err("degraded");
    let reason = scene.assigner.recover_unsettled(None).remove(0).sentence;
    assert!(reason.expect("still degraded").contains(GPU));
    assert_eq!(scene.assigner.held().len(), 1);
}

#[test]
fn recover_releases_devices_of_ended_guests_only() {
    let scene = scene();
    scene.assigner.prepare(&scene.complete()).expect("prepare");
    assert!(scene.assigner.recover_guests(&[], None).is_empty());
    let restarted = scene.restarted();
    let running = [UUID.parse().expect("uuid")];
    assert!(restarted.recover_guests(&running, None).is_empty());
    assert!(restarted.recover_unsettled(None).is_empty());
    let recovered = restarted.recover_guests(&[], Some(address(GPU)));
    assert_eq!(recovered[0].domain.as_deref(), Some("d0"));
    assert_eq!(scene.state(), unbound());
}

#[test]
fn bind_refuses_a_missing_device_and_one_without_a_recipe() {
    let scene = scene();
    let nowhere = address("0000:00:1f.0");
    let missing = scene.assigner.bind_manually(nowhere, None);
    assert!(
        missing
            .expect_err("missing")
            .to_string()
            .contains("VD-DEV-001")
    );
    let missing = scene.assigner.release_manually(nowhere);
    assert!(
        missing
            .expect_err("missing")
            .to_string()
            .contains("VD-DEV-001")
    );
    let none = scene.assigner.bind_manually(address(NIC), None);
    let printed = none.expect_err("no recipe").to_string();
    assert!(
        printed.contains("VD-BND-022") && printed.contains("--driver"),
        "{printed}"
    );
}

#[test]
fn a_device_in_use_is_not_unbound() {
    let scene = scene();
    scene.bind().expect("bind");
    scene.kernel.set_users(address(GPU), &[4711]);
    let printed = scene.release().expect_err("in use").to_string();
    assert!(
        printed.contains("VD-BND-003") && printed.contains("4711"),
        "{printed}"
    );
    assert_eq!(scene.state(), bound());
    scene.kernel.set_users(address(GPU), &[]);
    assert_eq!(
        scene.release().expect("later").outcome,
        BindOutcome::Released
    );
}
