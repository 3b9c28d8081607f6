//! Hot-unplugs on a libvirt in memory.

use std::sync::Arc;

use kernel_glue::host::Host;
use kernel_glue::kernel::Kernel;
use kernel_glue::model::Model;

use super::*;
use crate::fixture::{GPU, NIC, VARIANT, address, context_of, definition, guest, host, kernel_of};
use crate::libvirt::fake::Fake;
use crate::record::Records;
use settings::config::Config;

struct Scene {
    libvirt: Fake,
    kernel: Arc<Model>,
    assigner: Assigner,
    complete: String,
    _directory: tempfile::TempDir,
}

/// A guest runs with the GPU.
fn scene() -> Scene {
    scene_of(host(), &guest(GPU))
}

/// A guest runs on this host.
fn scene_of(host: Host, xml: &str) -> Scene {
    let kernel = kernel_of(&host);
    let (directory, context) = context_of(host, Config::default());
    let records = Records::new(directory.path().to_owned());
    let complete = context
        .look()
        .rewrite(&definition(xml), false)
        .expect("complete")
        .text;
    let assigner = Assigner::new(kernel.clone(), context, records);
    assigner.prepare(&definition(&complete)).expect("bound");
    let libvirt = Fake::default();
    libvirt.run(&complete);
    Scene {
        libvirt,
        kernel,
        assigner,
        complete,
        _directory: directory,
    }
}

impl Scene {
    fn driver(&self) -> Option<String> {
        let driver = self.kernel.driver(address(GPU)).expect("device");
        driver.map(|driver| driver.to_string())
    }
}

#[test]
fn stale_initiators_are_deleted() {
    let scene = scene();
    let domain = scene.libvirt.unplug(&guest(NIC), &["gi0", "gi1"]);
    rescue(&scene.libvirt, &domain);
    assert_eq!(scene.libvirt.stale_initiators(&domain.uuid), Ok(vec![]));
}

#[test]
fn remaining_initiator_is_reported_with_the_delete_command() {
    let scene = scene();
    scene.libvirt.keep_initiators();
    let domain = scene.libvirt.unplug(&guest(NIC), &["gi0"]);
    rescue(&scene.libvirt, &domain);
    let left = scene.libvirt.stale_initiators(&domain.uuid);
    assert_eq!(left, Ok(vec!["gi0".to_owned()]));
    let text = stays(
        &domain,
        "gi0",
        &LibvirtError::Reported("monitor is busy".into()),
    )
    .to_string();
    assert!(
        text.contains("guest 'd0' ends at its next reset")
            && text.contains("monitor is busy")
            && text.contains("VD-ATM-041")
            && text.contains(r#"'virsh qemu-monitor-command d0 --hmp "object_del gi0"'"#),
        "{text}"
    );
}

#[test]
fn unplugged_device_is_released_while_its_guest_runs() {
    let scene = scene();
    let domain = scene.libvirt.unplug(&guest(NIC), &[]);
    release_devices(&scene.assigner, &domain, definition(&guest(NIC)).domain());
    assert_eq!(scene.driver().as_deref(), Some("nvidia"));
    assert!(scene.assigner.held().is_empty());
    scene
        .assigner
        .release(&domain.uuid)
        .expect("nothing is left");
}

#[test]
fn unplug_keeps_a_device_that_the_guest_still_has() {
    let scene = scene();
    let domain = scene.libvirt.run(&scene.complete);
    let before = scene.kernel.writes().len();
    release_devices(
        &scene.assigner,
        &domain,
        definition(&scene.complete).domain(),
    );
    assert_eq!(scene.driver().as_deref(), Some(VARIANT));
    assert_eq!(scene.kernel.writes().len(), before);
    assert_eq!(scene.assigner.held().len(), 1);
}

/// The guest with both devices, which are in these groups.
fn two(groups: [u32; 2]) -> Scene {
    let mut host = host();
    for (at, group) in [GPU, NIC].into_iter().zip(groups) {
        let device = host.devices.get_mut(&address(at)).expect("device");
        device.iommu_group = Some(group);
    }
    let other = guest(NIC);
    let start = other.find("    <hostdev").expect("hostdev");
    let end = other.find("  </devices>").expect("end");
    let both = guest(GPU).replace(
        "  </devices>",
        &format!("{}  </devices>", &other[start..end]),
    );
    scene_of(host, &both)
}

#[test]
fn a_device_stays_while_its_guest_has_another_one_of_its_group() {
    for (groups, driver) in [([5, 5], VARIANT), ([5, 6], "nvidia")] {
        let scene = two(groups);
        let domain = scene.libvirt.unplug(&guest(NIC), &[]);
        release_devices(&scene.assigner, &domain, definition(&guest(NIC)).domain());
        assert_eq!(scene.driver().as_deref(), Some(driver), "{groups:?}");
    }
}
