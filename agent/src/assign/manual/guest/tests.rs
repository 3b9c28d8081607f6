//! Devices of a guest of another management system, on a modelled kernel.

use std::sync::Arc;

use kernel_glue::kernel::{Attribute, Kernel};
use kernel_glue::model::Model;

use super::*;
use crate::context::Context;
use crate::fixture::{self, GPU, NIC, VARIANT, address, assigner, driver};
use settings::config::Config;

const SECOND: &str = "0019:01:00.0";

struct Scene {
    kernel: Arc<Model>,
    assigner: Assigner,
    context: Arc<Context>,
    directory: tempfile::TempDir,
}

/// Two GPUs, and a network adapter, for which there is no recipe.
fn scene() -> Scene {
    let mut host = fixture::host();
    let mut second = host.devices[&address(GPU)].clone();
    second.address = address(SECOND);
    second.iommu_group = Some(77);
    host.devices.insert(second.address, second);
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

fn guest(number: u8) -> DomainRef {
    DomainRef {
        uuid: format!("6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a0{number}")
            .parse()
            .expect("UUID"),
        name: format!("default/vmi-{number}"),
    }
}

impl Scene {
    fn bind(&self, number: u8, devices: &[&str]) -> Result<Vec<BindOutcome>, AssignError> {
        let devices: Vec<PciAddress> = devices.iter().map(|one| address(one)).collect();
        let bound = self.assigner.bind_guest(&guest(number), &devices)?;
        Ok(bound.into_iter().map(|one| one.device.outcome).collect())
    }

    fn release(&self, number: u8) -> Vec<PciAddress> {
        let released = self.assigner.release_guest(&guest(number).uuid);
        released
            .expect("released")
            .into_iter()
            .map(|one| one.device.device)
            .collect()
    }

    fn driver(&self, at: &str) -> String {
        let driver = self.kernel.driver(address(at)).expect("a device");
        driver.map_or("-".into(), |driver| driver.to_string())
    }

    /// The guest in the device's record.
    fn recorded(&self, at: &str) -> Option<String> {
        let manual = self.assigner.records.manual(address(at)).expect("readable");
        manual
            .and_then(|manual| manual.purpose.guest)
            .map(|guest| guest.name)
    }
}

#[test]
fn each_covered_device_is_bound_for_the_guest_until_it_is_released() {
    let scene = scene();
    let adapter = scene.driver(NIC);
    let bound = scene.bind(1, &[GPU, NIC, SECOND]).expect("bound");
    assert_eq!(bound, [BindOutcome::Bound, BindOutcome::Bound]);
    assert_eq!(
        [scene.driver(GPU), scene.driver(SECOND)],
        [VARIANT, VARIANT]
    );
    assert_eq!(scene.driver(NIC), adapter);
    assert_eq!(scene.recorded(GPU).as_deref(), Some("default/vmi-1"));
    let writes = scene.kernel.writes().len();
    let again = scene.bind(1, &[GPU, NIC, SECOND]).expect("again");
    assert_eq!(again, [BindOutcome::AlreadySo, BindOutcome::AlreadySo]);
    assert_eq!(scene.kernel.writes().len(), writes);
    assert_eq!(scene.release(1), [address(GPU), address(SECOND)]);
    assert_eq!(
        [scene.driver(GPU), scene.driver(SECOND)],
        ["nvidia", "nvidia"]
    );
    assert_eq!((scene.release(1), scene.recorded(GPU)), (Vec::new(), None));
}

#[test]
fn the_next_agent_knows_the_guest() {
    let scene = scene();
    scene.bind(1, &[GPU]).expect("bound");
    let next = assigner(scene.kernel.clone(), &scene.context, &scene.directory);
    next.resume();
    next.recover(&[]);
    assert_eq!(
        scene.driver(GPU),
        VARIANT,
        "libvirt here does not know the guest"
    );
    next.release_guest(&guest(1).uuid).expect("released");
    assert_eq!(scene.driver(GPU), "nvidia");
}

#[test]
fn a_device_that_cannot_be_bound_leaves_the_others_as_they_were() {
    let scene = scene();
    scene
        .assigner
        .bind_manually(address(SECOND), Some(driver("vfio-pci")))
        .expect("bound");
    let refused = scene
        .bind(1, &[GPU, SECOND])
        .expect_err("refused")
        .to_string();
    assert!(
        refused.contains("an administrator has bound it to 'vfio-pci'"),
        "{refused}"
    );
    assert_eq!(
        [scene.driver(GPU), scene.driver(SECOND)],
        ["nvidia", "vfio-pci"]
    );
    assert_eq!(scene.recorded(GPU), None);
    let missing = scene.bind(1, &[GPU, "0077:01:00.0"]).expect_err("refused");
    assert_eq!(missing.refusal().code, Code::DeviceMissing);
    assert_eq!(scene.driver(GPU), "nvidia");
}

#[test]
fn a_device_that_an_ended_guest_left_bound_goes_to_the_next_guest_unless_it_is_open() {
    let scene = scene();
    scene.bind(1, &[GPU]).expect("bound");
    scene.kernel.set_users(address(GPU), &[4711]);
    let taken = scene.bind(2, &[GPU]).expect_err("open");
    assert_eq!(taken.refusal().code, Code::DeviceTaken);
    assert!(taken.to_string().contains("default/vmi-1"), "{taken}");
    scene.kernel.set_users(address(GPU), &[]);
    assert_eq!(
        scene.bind(2, &[GPU]).expect("bound"),
        [BindOutcome::AlreadySo]
    );
    assert_eq!(scene.recorded(GPU).as_deref(), Some("default/vmi-2"));
    assert_eq!(scene.release(1), []);
    assert_eq!(scene.release(2), [address(GPU)]);
    assert_eq!(scene.driver(GPU), "nvidia");
}

#[test]
fn a_device_that_an_administrator_binds_while_a_guest_has_it_stays_bound_after_the_guest() {
    let scene = scene();
    scene.bind(1, &[GPU]).expect("bound");
    scene.kernel.set_users(address(GPU), &[4711]);
    let answer = scene.assigner.bind_manually(address(GPU), None);
    assert_eq!(answer.expect("bound").outcome, BindOutcome::AlreadySo);
    assert_eq!(scene.recorded(GPU), None);
    scene.kernel.set_users(address(GPU), &[]);
    assert_eq!(scene.release(1), []);
    assert_eq!(scene.driver(GPU), VARIANT);
    let released = scene.assigner.release_manually(address(GPU));
    assert_eq!(released.expect("released").outcome, BindOutcome::Released);
    assert_eq!(scene.driver(GPU), "nvidia");
}

#[test]
fn a_reserved_device_stays_bound_after_the_guest() {
    let scene = scene();
    scene
        .assigner
        .bind_reserved(address(GPU), None)
        .expect("bound");
    assert_eq!(
        scene.bind(1, &[GPU]).expect("bound"),
        [BindOutcome::AlreadySo]
    );
    assert_eq!(scene.recorded(GPU), None);
    // A write from outside.
    let unbind = Attribute::Unbind(driver(VARIANT));
    scene.kernel.write(&unbind, GPU).expect("unbound");
    assert_eq!(scene.bind(1, &[GPU]).expect("bound"), [BindOutcome::Bound]);
    assert_eq!(scene.release(1), []);
    assert_eq!(scene.driver(GPU), VARIANT);
}
