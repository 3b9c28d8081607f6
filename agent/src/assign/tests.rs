//! Assignments on a modelled kernel.

use kernel_glue::kernel::Kernel;
use kernel_glue::model::Model;
use kernel_glue::region::{RegionError, Regions};
use nix::errno::Errno;

use super::*;
use crate::assignment::Phase;
use crate::fixture::{
    GPU, NIC, UUID, VARIANT, address, as_the_model, assigner, context, definition, driver, guest,
    kernel,
};
use settings::config::{Config, Verify};

struct Scene {
    kernel: Arc<Model>,
    assigner: Assigner,
    context: Arc<Context>,
    directory: tempfile::TempDir,
}

fn scene() -> Scene {
    let (directory, context) = context(Config::default());
    scene_of(directory, context)
}

fn scene_of(directory: tempfile::TempDir, context: Arc<Context>) -> Scene {
    let kernel = kernel();
    Scene {
        assigner: assigner(kernel.clone(), &context, &directory),
        kernel,
        context,
        directory,
    }
}

impl Scene {
    /// The complete definition of the guest with the GPU.
    fn complete(&self) -> Definition {
        let rewrite = self.context.look().rewrite(&definition(&guest(GPU)), false);
        definition(&rewrite.expect("a complete guest").text)
    }

    fn other(&self) -> Definition {
        let other = UUID.replace("6f1f", "7070");
        let text = self.complete().into_text();
        definition(&text.replace(UUID, &other).replace("d0", "d1"))
    }

    fn driver(&self) -> Option<String> {
        let driver = self.kernel.driver(address(GPU)).expect("device");
        driver.map(|driver| driver.to_string())
    }

    fn driver_override(&self) -> Option<String> {
        self.kernel.driver_override(address(GPU)).expect("device")
    }

    /// The agent after a crash: another assigner on the same records.
    fn restarted(&self) -> Assigner {
        assigner(self.kernel.clone(), &self.context, &self.directory)
    }
}

fn uuid() -> DomainUuid {
    UUID.parse().expect("uuid")
}

#[test]
fn guest_end_restores_the_previous_driver() {
    let scene = scene();
    let xml = scene.complete();
    scene.assigner.prepare(&xml).expect("prepare");
    assert_eq!(scene.driver().as_deref(), Some(VARIANT));
    scene.assigner.start(xml.domain()).expect("start");
    assert_eq!(scene.assigner.held().len(), 1);
    scene.assigner.release(&uuid()).expect("release");
    assert_eq!(scene.driver().as_deref(), Some("nvidia"));
    assert_eq!(scene.driver_override(), None);
    assert!(scene.assigner.held().is_empty());
}

#[test]
fn an_incomplete_definition_touches_nothing() {
    let scene = scene();
    let error = scene
        .assigner
        .prepare(&definition(&guest(GPU)))
        .expect_err("incomplete");
    assert!(matches!(error, AssignError::Incomplete(_)), "{error}");
    assert!(scene.kernel.writes().is_empty());
    assert!(scene.assigner.held().is_empty());
}

#[test]
fn a_guest_without_our_devices_passes() {
    let scene = scene();
    scene
        .assigner
        .prepare(&definition(&guest(NIC)))
        .expect("prepare");
    scene
        .assigner
        .start(definition(&guest(NIC)).domain())
        .expect("start");
    assert!(scene.kernel.writes().is_empty());
}

#[test]
fn failed_bind_restores_the_device() {
    for number in 1..=3 {
        let scene = scene();
        scene.kernel.fail_write(number, Errno::EIO);
        let error = scene
            .assigner
            .prepare(&scene.complete())
            .expect_err("fails");
        assert!(matches!(error, AssignError::Failed(_)), "{error}");
        assert_eq!(scene.driver().as_deref(), Some("nvidia"));
        assert_eq!(scene.driver_override(), None);
        assert!(scene.assigner.held().is_empty());
    }
}

#[test]
fn prepare_restores_a_gpu_that_is_not_ready() {
    let scene = scene();
    scene.kernel.fail_probe(driver(VARIANT), Errno::ETIME);
    let error = scene.assigner.prepare(&scene.complete());
    let error = error.expect_err("not ready").to_string();
    assert!(error.contains("VD-BND-030"), "{error}");
    assert!(error.contains("restart the host"), "{error}");
    assert_eq!(scene.driver().as_deref(), Some("nvidia"));
    assert!(scene.assigner.held().is_empty());
}

#[test]
fn device_stays_journalled_until_it_is_restored() {
    let scene = scene();
    for number in 3..=5 {
        scene.kernel.fail_write(number, Errno::EIO);
    }
    let error = scene
        .assigner
        .prepare(&scene.complete())
        .expect_err("fails");
    assert!(error.to_string().contains("VD-BND-004"), "{error}");
    assert_eq!(scene.assigner.held().len(), 1);
    let again = scene.assigner.prepare(&scene.complete());
    assert!(
        again
            .expect_err("degraded")
            .to_string()
            .contains("VD-BND-004")
    );
    scene.assigner.release(&uuid()).expect("release");
    assert_eq!(scene.driver().as_deref(), Some("nvidia"));
}

#[test]
fn unplugged_device_stays_bound_while_a_process_holds_it() {
    let mut scene = scene();
    scene.assigner.qemu_timeout = Duration::ZERO;
    scene.assigner.prepare(&scene.complete()).expect("bound");
    scene.kernel.set_users(address(GPU), &[42]);
    let departed = scene
        .assigner
        .release_departed(definition(&guest(NIC)).domain());
    departed.expect("nothing to do");
    assert_eq!(scene.driver().as_deref(), Some(VARIANT));
    assert_eq!(scene.assigner.held().len(), 1);
    scene.kernel.set_users(address(GPU), &[]);
    let departed = scene
        .assigner
        .release_departed(definition(&guest(NIC)).domain());
    departed.expect("released");
    assert_eq!(scene.driver().as_deref(), Some("nvidia"));
    assert!(scene.assigner.held().is_empty());
}

#[test]
fn two_domains_cannot_hold_one_device() {
    let scene = scene();
    scene.assigner.prepare(&scene.complete()).expect("first");
    let error = scene.assigner.prepare(&scene.other()).expect_err("second");
    assert!(
        error.to_string().contains("assigned to domain 'd0'"),
        "{error}"
    );
    scene.assigner.release(&uuid()).expect("release");
    scene.assigner.prepare(&scene.other()).expect("now free");
}

#[test]
fn a_device_on_another_driver_is_refused_at_start() {
    let scene = scene();
    let xml = scene.complete();
    let error = scene.assigner.start(xml.domain()).expect_err("on nvidia");
    let text = error.to_string();
    assert!(
        text.contains("bound to 'nvidia' instead of 'nvgrace_gpu_vfio_pci'"),
        "{text}"
    );
}

#[test]
fn a_second_start_without_a_release_keeps_the_first_driver_as_previous() {
    let scene = scene();
    let xml = scene.complete();
    scene.assigner.prepare(&xml).expect("first start");
    scene.assigner.prepare(&xml).expect("second start");
    scene.assigner.release(&uuid()).expect("release");
    assert_eq!(scene.driver().as_deref(), Some("nvidia"));
}

#[test]
fn recover_releases_unused_devices_after_a_crash() {
    let scene = scene();
    scene.assigner.prepare(&scene.complete()).expect("prepare");
    scene.restarted().recover(&[uuid()]);
    assert_eq!(scene.driver().as_deref(), Some(VARIANT));
    scene.restarted().recover(&[]);
    assert_eq!(scene.driver().as_deref(), Some("nvidia"));
    assert!(scene.assigner.held().is_empty());
}

#[test]
fn prepare_refuses_a_device_of_another_guest_in_any_form() {
    let scene = scene();
    scene.assigner.prepare(&scene.complete()).expect("prepare");
    let gpu = address(GPU);
    let (domain, bus) = (gpu.domain(), gpu.bus());
    let source = format!(
        "<source type='pci'><address domain='{domain}' bus='{bus}' slot='0' function='0'/></source>"
    );
    let other = UUID.replace("6f1f", "7070");
    let guest = |devices: &str, line: &str| {
        format!(
            "<domain type='kvm' xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><name>d1</name><uuid>{other}</uuid>\
             <devices>{devices}</devices>{line}</domain>"
        )
    };
    let argument = format!(
        "<q:commandline><q:arg value='-device'/><q:arg value='vfio-pci,host={GPU}'/></q:commandline>"
    );
    for xml in [
        guest("", &argument),
        guest(&format!("<disk type='nvme'>{source}</disk>"), ""),
    ] {
        let refused = scene
            .assigner
            .prepare(&definition(&xml))
            .expect_err("taken");
        assert!(refused.to_string().contains("'d0'"), "{refused}");
        let own = xml.replace(&other, UUID);
        scene.assigner.prepare(&definition(&own)).expect("its own");
    }
}

#[test]
fn new_start_is_not_treated_as_left_over() {
    let scene = scene();
    scene.assigner.prepare(&scene.complete()).expect("prepare");
    let agent = scene.restarted();
    agent.prepare(&scene.complete()).expect("start again");
    agent.recover(&[]);
    assert_eq!(scene.driver().as_deref(), Some(VARIANT));
}

#[test]
fn a_start_after_a_missed_release_keeps_its_devices() {
    let scene = scene();
    scene.assigner.prepare(&scene.complete()).expect("prepare");
    let unknown = || Err("libvirt is away");
    let asked = scene.assigner.release_missed(&uuid(), unknown);
    asked.expect_err("unknown");
    assert_eq!(scene.driver().as_deref(), Some(VARIANT));
    // libvirt reports that the guest has ended, and it is started again at this moment.
    let ended = || {
        scene.assigner.prepare(&scene.complete()).expect("start");
        Ok::<_, ()>(false)
    };
    let asked = scene.assigner.release_missed(&uuid(), ended);
    asked.expect("an answer");
    assert_eq!(scene.driver().as_deref(), Some(VARIANT));
    let asked = scene
        .assigner
        .release_missed(&uuid(), || Ok::<_, ()>(false));
    asked.expect("an answer");
    assert_eq!(scene.driver().as_deref(), Some("nvidia"));
    assert!(scene.assigner.held().is_empty());
}

#[test]
fn start_after_a_crash_waits_for_the_write_in_progress() {
    let scene = scene();
    scene.assigner.prepare(&scene.complete()).expect("prepare");
    let entry = scene.assigner.records.entry(&uuid()).expect("read");
    let Entry { name, mut devices } = entry.expect("an entry");
    for held in &mut devices {
        held.record.phase = Phase::Binding;
    }
    let domain = DomainRef { uuid: uuid(), name };
    let written = scene.assigner.records.set_entry(&domain, &devices);
    written.expect("cut off");
    let agent = scene.restarted();
    scene.kernel.fail_write(1, Errno::ETIMEDOUT);
    let error = agent.prepare(&scene.complete()).expect_err("in progress");
    assert!(error.to_string().contains("in progress"), "{error}");
    assert!(error.to_string().contains("VD-BND-031"), "{error}");
    agent.recover(&[]);
    assert_eq!(scene.driver().as_deref(), Some("nvidia"));
    assert!(scene.assigner.held().is_empty());
    agent.prepare(&scene.complete()).expect("start");
    assert_eq!(scene.driver().as_deref(), Some(VARIANT));
}

#[test]
fn a_guest_found_running_keeps_its_device_where_it_is() {
    let scene = scene();
    scene.kernel.add_driver(driver(VARIANT), []);
    let id = "10de:2342".parse().expect("id");
    scene
        .kernel
        .add_device(address(GPU), id, Some(driver(VARIANT)));
    scene
        .assigner
        .adopt(scene.complete().domain())
        .expect("adopt");
    assert_eq!(scene.assigner.held().len(), 1);
    scene.assigner.prepare(&scene.other()).expect_err("held");
    scene.assigner.release(&uuid()).expect("release");
    assert!(scene.assigner.held().is_empty() && scene.kernel.writes().is_empty());
}

#[test]
fn release_waits_while_qemu_holds_the_device() {
    let mut scene = scene();
    scene.assigner.qemu_timeout = Duration::ZERO;
    scene.assigner.prepare(&scene.complete()).expect("prepare");
    scene.kernel.set_users(address(GPU), &[4711]);
    let error = scene.assigner.release(&uuid()).expect_err("held");
    assert!(error.to_string().contains("pid 4711"), "{error}");
    assert_eq!(scene.driver().as_deref(), Some(VARIANT));
    scene.kernel.set_users(address(GPU), &[]);
    scene.assigner.release_left_over(&uuid()).expect("release");
    assert_eq!(scene.driver().as_deref(), Some("nvidia"));
}

#[test]
fn entry_ends_without_an_unplugged_device() {
    let scene = scene();
    scene.assigner.prepare(&scene.complete()).expect("prepare");
    scene.kernel.remove_device(address(GPU));
    scene.assigner.release(&uuid()).expect("nothing left to do");
    assert!(scene.assigner.held().is_empty());
}

#[test]
fn release_without_driver_if_the_driver_was_removed_meanwhile() {
    for restarted in [false, true] {
        let scene = scene();
        scene.assigner.prepare(&scene.complete()).expect("prepare");
        scene.kernel.remove_driver(&driver("nvidia"));
        match restarted {
            false => scene.assigner.release(&uuid()).expect("released"),
            true => scene.restarted().recover(&[]),
        }
        assert_eq!((scene.driver(), scene.driver_override()), (None, None));
        assert!(scene.assigner.held().is_empty());
        scene
            .assigner
            .prepare(&scene.other())
            .expect("another guest");
        assert_eq!(scene.driver().as_deref(), Some(VARIANT));
    }
}

#[test]
fn recover_releases_a_device_whose_driver_was_removed() {
    let scene = scene();
    scene.assigner.prepare(&scene.complete()).expect("prepare");
    scene.kernel.remove_driver(&driver("nvidia"));
    let recovered = scene.restarted().recover_guests(&[], Some(address(GPU)));
    assert_eq!((recovered.len(), &recovered[0].sentence), (1, &None));
    let note = recovered[0].note.as_deref().expect("a note");
    let parts = ["'nvidia'", "no module of this kernel", "VD-BND-034"];
    assert!(parts.iter().all(|part| note.contains(part)), "{note}");
    assert!(scene.assigner.held().is_empty());
}

#[test]
fn note_about_a_missing_driver_lasts_until_the_next_bind() {
    let scene = scene();
    scene.assigner.prepare(&scene.complete()).expect("prepare");
    scene.kernel.remove_driver(&driver("nvidia"));
    scene.assigner.release(&uuid()).expect("released");
    let note = scene.assigner.note(address(GPU)).expect("a note");
    assert!(note.contains("VD-BND-034"), "{note}");
    scene.assigner.prepare(&scene.complete()).expect("prepare");
    assert_eq!(scene.assigner.note(address(GPU)), None);
}

#[test]
fn refusing_driver_is_retried_until_recover() {
    let scene = scene();
    scene.assigner.prepare(&scene.complete()).expect("prepare");
    scene.kernel.fail_probe(driver("nvidia"), Errno::EIO);
    let error = scene.assigner.release(&uuid()).expect_err("refused");
    assert!(error.to_string().contains("VD-BND-001"), "{error}");
    assert!(!scene.assigner.settle());
    assert_eq!(scene.assigner.held().len(), 1);
    let recovered = scene.assigner.recover_unsettled(None);
    assert_eq!((recovered.len(), &recovered[0].sentence), (1, &None));
    assert!(recovered[0].note.is_some());
    assert_eq!((scene.driver(), scene.driver_override()), (None, None));
    assert!(scene.assigner.held().is_empty() && scene.assigner.settle());
}

/// A kernel on which no module is loaded in time while `hangs`.
struct Hanging {
    model: Arc<Model>,
    hangs: std::sync::atomic::AtomicBool,
}

impl Kernel for Hanging {
    as_the_model! { write driver driver_override registered vfio_users regions occupancy unbind_lock }

    fn load_module(&self, module: &str) -> Result<(), Errno> {
        match self.hangs.load(std::sync::atomic::Ordering::SeqCst) {
            true => Err(Errno::ETIMEDOUT),
            false => self.model.load_module(module),
        }
    }
}

#[test]
fn a_module_that_is_not_loaded_in_time_refuses_a_start_and_not_the_next_one() {
    let scene = scene();
    let kernel = Arc::new(Hanging {
        model: scene.kernel.clone(),
        hangs: true.into(),
    });
    let assigner = assigner(kernel.clone(), &scene.context, &scene.directory);
    let error = assigner.prepare(&scene.complete()).expect_err("not loaded");
    let text = error.to_string();
    assert!(
        text.contains("VD-BND-032") && text.contains("modprobe"),
        "{text}"
    );
    assert!(assigner.held().is_empty() && scene.kernel.writes().is_empty());
    assigner.release(&uuid()).expect("nothing to do");
    kernel
        .hangs
        .store(false, std::sync::atomic::Ordering::SeqCst);
    assigner
        .prepare(&scene.complete())
        .expect("the same domain");
    // The previous driver is not registered, and its module does not load: nothing is forgotten.
    scene.kernel.remove_driver(&driver("nvidia"));
    kernel
        .hangs
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let error = assigner.release(&uuid()).expect_err("not loaded");
    assert!(error.to_string().contains("VD-BND-032"), "{error}");
    assert_eq!(assigner.held().len(), 1);
    kernel
        .hangs
        .store(false, std::sync::atomic::Ordering::SeqCst);
    assert!(assigner.settle() && assigner.held().is_empty());
}

#[test]
fn recover_restores_a_degraded_device() {
    let scene = scene();
    let gpu = address(GPU);
    scene.assigner.prepare(&scene.complete()).expect("prepare");
    assert!(scene.assigner.recover_unsettled(Some(gpu)).is_empty());
    scene.assigner.release(&uuid()).expect("release");
    for number in 3..=5 {
        scene.kernel.fail_write(number, Errno::EIO);
    }
    let failed = scene.assigner.prepare(&scene.complete());
    assert!(
        failed
            .expect_err("degraded")
            .to_string()
            .contains("recover")
    );
    let other = Some(address(NIC));
    assert!(scene.assigner.recover_unsettled(other).is_empty());
    let recovered = scene.assigner.recover_unsettled(Some(gpu));
    assert_eq!((recovered.len(), &recovered[0].sentence), (1, &None));
    assert_eq!(scene.driver().as_deref(), Some("nvidia"));
    assert_eq!(scene.driver_override(), None);
    assert!(scene.assigner.held().is_empty());
    scene
        .assigner
        .prepare(&scene.complete())
        .expect("next start");
}

/// The GPU's driver reports these regions, and regions are verified.
fn verified(shown: Result<Regions, RegionError>) -> Scene {
    let (directory, context) = context(Config {
        verify: Verify::Regions,
        ..Config::default()
    });
    let scene = scene_of(directory, context);
    match shown {
        Ok(regions) => scene
            .kernel
            .set_regions(address(GPU), driver(VARIANT), regions),
        Err(error) => scene
            .kernel
            .fail_regions(address(GPU), driver(VARIANT), error),
    }
    scene
}

#[test]
fn prepare_verifies_gpu_memory_once() {
    let scene = verified(Ok(Regions::default()));
    scene.assigner.prepare(&scene.complete()).expect("prepare");
    assert_eq!(scene.kernel.opens(), 1);
    assert_eq!(scene.driver().as_deref(), Some(VARIANT));
}

#[test]
fn start_opens_no_device_without_the_verify_setting() {
    let scene = scene();
    scene.assigner.prepare(&scene.complete()).expect("prepare");
    assert_eq!(scene.kernel.opens(), 0);
}

#[test]
fn prepare_refuses_a_driver_without_gpu_memory_and_restores_the_device() {
    for (error, code) in [
        (RegionError::MemoryMissing, "VD-BND-015"),
        (RegionError::Busy, "VD-BND-003"),
        (RegionError::Stuck, "VD-REG-001"),
    ] {
        let scene = verified(Err(error));
        let refused = scene.assigner.prepare(&scene.complete());
        let text = refused.expect_err("no memory").to_string();
        assert!(text.contains(code) && text.contains(GPU), "{text}");
        assert_eq!(scene.driver().as_deref(), Some("nvidia"));
        assert_eq!(
            (scene.driver_override(), scene.assigner.held().len()),
            (None, 0)
        );
    }
}

#[test]
fn prepare_refuses_a_firmware_without_gpu_memory() {
    let scene = scene();
    scene.kernel.unname_memory(driver(VARIANT));
    let refused = scene.assigner.prepare(&scene.complete());
    let text = refused.expect_err("no memory").to_string();
    assert!(
        text.contains("VD-BND-015") && text.contains("nvidia,gpu-mem-size"),
        "{text}"
    );
    assert!(scene.kernel.writes().is_empty() && scene.assigner.held().is_empty());
    assert_eq!(scene.kernel.opens(), 0);
}
