//! Free devices, and devices with obstacles, on a modelled kernel.

use std::sync::Arc;
use std::time::Duration;

use kernel_glue::holder::{HeldNode, Holder, Holders};
use kernel_glue::host::Host;
use kernel_glue::kernel::Kernel;
use kernel_glue::model::Model;
use kernel_glue::occupancy::Occupancy;

use super::*;
use crate::assign::BindOptions;
use crate::context::Context;
use crate::fixture::{self, GPU, NIC, UUID, VARIANT, address, definition, driver, guest};
use crate::record::Records;
use domain::Definition;
use settings::config::Config;

const AUDIO: &str = "0009:01:00.1";
const SWITCH: &str = "0009:02:00.0";

pub(super) struct Scene {
    pub(super) kernel: Arc<Model>,
    pub(super) assigner: Assigner,
    context: Arc<Context>,
    _directory: tempfile::TempDir,
}

fn scene(host: Host, allow_group: bool) -> Scene {
    let kernel = fixture::kernel_of(&host);
    let config = Config {
        allow_group,
        ..Config::default()
    };
    let (directory, context) = fixture::context_of(host, config);
    let records = Records::new(directory.path().to_owned());
    Scene {
        assigner: Assigner::new(kernel.clone(), context.clone(), records),
        kernel,
        context,
        _directory: directory,
    }
}

pub(super) fn usual() -> Scene {
    scene(fixture::host(), false)
}

/// The GPU with these other functions in its IOMMU group: address, class, driver.
fn grouped(others: &[(&str, u32, Option<&str>)]) -> Host {
    let mut host = fixture::host();
    for (at, class, on) in others {
        let mut other = fixture::device(at, "10de:22a3", "pcieport");
        other.class = *class;
        other.driver = on.map(driver);
        other.iommu_group = Some(7);
        host.devices.insert(other.address, other);
    }
    let gpu = host.devices.get_mut(&address(GPU)).expect("the GPU");
    gpu.iommu_group = Some(7);
    host
}

impl Scene {
    fn complete(&self) -> Definition {
        let rewrite = self.context.look().rewrite(&definition(&guest(GPU)), false);
        definition(&rewrite.expect("a complete guest").text)
    }

    pub(super) fn prepare(&self) -> Result<(), AssignError> {
        self.assigner.prepare(&self.complete())
    }

    /// The message of a refusal that changed nothing.
    pub(super) fn refused(&self) -> String {
        let error = self.prepare().expect_err("a refusal");
        assert!(matches!(error, AssignError::Refused(_)), "{error}");
        assert!(self.kernel.writes().is_empty(), "it was touched");
        assert!(self.assigner.held().is_empty(), "it was journalled");
        error.to_string()
    }

    fn occupied(&self, change: impl FnOnce(&mut Occupancy)) {
        let mut occupancy = Occupancy::default();
        change(&mut occupancy);
        self.kernel.set_occupancy(address(GPU), occupancy);
    }

    pub(super) fn driver(&self, at: &str) -> Option<String> {
        let driver = self.kernel.driver(address(at)).expect("device");
        driver.map(|driver| driver.to_string())
    }
}

pub(super) fn held(command: &str, unit: &str, path: &str, shared: bool) -> Holders {
    let node = HeldNode {
        path: path.into(),
        descriptor: Some(4),
        shared,
    };
    Holders {
        found: vec![Holder {
            process: 2211,
            command: command.into(),
            unit: Some(unit.into()),
            nodes: vec![node],
        }],
        hidden: 0,
        seen: 1,
    }
}

#[test]
fn refusal_names_the_holder_and_the_command() {
    let scene = usual();
    let service = "nvidia-persistenced.service";
    scene.occupied(|o| o.holders = held("nvidia-persistenced", service, "/dev/nvidia0", false));
    assert_eq!(
        scene.refused(),
        "'0009:01:00.0': in use by nvidia-persistenced (pid 2211, nvidia-persistenced.service, \
         '/dev/nvidia0' as fd 4) (VD-BND-005); run 'systemctl stop nvidia-persistenced.service' or \
         'nvidia-smi -i 0009:01:00.0 -pm 0', or let variantd stop and start it: 'variantctl bind 0009:01:00.0 \
         --stop-services', for guests 'stop_services = [\"nvidia-persistenced.service\"]' in variantd.conf"
    );
    scene.occupied(|_| ());
    scene.prepare().expect("free now");
}

#[test]
fn holder_of_a_shared_node_does_not_block() {
    let scene = usual();
    scene.occupied(|o| o.holders = held("python3", "train.service", "/dev/nvidia-uvm", true));
    scene.prepare().expect("free");
}

#[test]
fn prepare_refuses_a_bound_device_that_a_process_has_open() {
    let scene = usual();
    scene.prepare().expect("first start");
    let writes = scene.kernel.writes().len();
    let scope = "machine-qemu\\x2d1\\x2dother.scope";
    scene.occupied(|o| o.holders = held("qemu-system-aarch64", scope, "/dev/vfio/7", false));
    let error = scene.prepare().expect_err("held").to_string();
    assert!(error.contains("virsh shutdown other"), "{error}");
    assert_eq!(scene.kernel.writes().len(), writes);
    scene
        .assigner
        .release(&UUID.parse().expect("uuid"))
        .expect("release");
    assert_eq!(
        scene.driver(GPU).as_deref(),
        Some("nvidia"),
        "the first start is still journalled"
    );
}

#[test]
fn hidden_processes_block_an_unbind_only() {
    let hide = |scene: &Scene| scene.occupied(|o| (o.holders.hidden, o.holders.seen) = (3, 9));
    let scene = usual();
    hide(&scene);
    let text = scene.refused();
    assert!(
        text.contains("3 of 9 processes") && text.contains("VD-BND-006"),
        "{text}"
    );
    scene.occupied(|_| ());
    scene.prepare().expect("bound");
    hide(&scene);
    scene.prepare().expect("it stays where it is");
}

#[test]
fn prepare_refuses_onlined_memory_with_its_node() {
    let mut scene = usual();
    scene.assigner.memory_timeout = Duration::from_millis(300);
    let memory = |node: Option<u32>| Onlined {
        node: node.map(|node| node.try_into().expect("node")),
        ranges: 2,
        is_changing: false,
    };
    scene.occupied(|o| o.onlined = Some(memory(Some(4))));
    let text = scene.refused();
    assert!(text.contains("NUMA node 4"), "{text}");
    scene.occupied(|o| o.onlined = Some(memory(None)));
    let text = scene.refused();
    assert!(text.contains("/proc/iomem"), "{text}");
}

#[test]
fn virtual_functions_are_refused_with_the_command_that_removes_them() {
    let scene = usual();
    scene.occupied(|o| o.virtual_functions = 4);
    let text = scene.refused();
    let command = "echo 0 > /sys/bus/pci/devices/0009:01:00.0/sriov_numvfs";
    assert!(
        text.contains("4 virtual functions") && text.contains(command),
        "{text}"
    );
}

fn without_reset() -> Host {
    let mut host = fixture::host();
    let gpu = host.devices.get_mut(&address(GPU)).expect("the GPU");
    gpu.reset_methods.clear();
    host
}

#[test]
fn prepare_refuses_a_device_without_an_iommu() {
    let scene = scene(fixture::host(), false);
    scene.kernel.unconfine(address(GPU));
    let text = scene.refused();
    assert!(
        text.contains("VD-BND-050") && text.contains("no-IOMMU mode"),
        "{text}"
    );
}

#[test]
fn a_device_without_a_reset_is_refused_unless_its_recipe_accepts_it() {
    let scene = scene(without_reset(), false);
    let text = scene.refused();
    assert!(
        text.contains("VD-BND-008") && text.contains("needs_reset = false"),
        "{text}"
    );
    let mut rules = (*scene.context.rules()).clone();
    let shipped = rules
        .recipes
        .sourced()
        .find(|one| one.recipe.name == "nvidia-grace");
    let text = shipped.expect("recipe").text.clone();
    let text = text.replacen("title", "needs_reset = false\ntitle", 1);
    rules.recipes = planner::recipe::Recipes::of(&[&text]);
    scene.context.reload(rules);
    scene.prepare().expect("accepted");
}

#[test]
fn prepare_refuses_only_group_members_that_the_host_uses() {
    let host = grouped(&[
        (AUDIO, 0x04_0300, Some("snd_hda_intel")),
        (SWITCH, 0x06_8000, Some("nvidia-nvswitch")),
    ]);
    let text = scene(host, false).refused();
    for part in [
        "IOMMU group 7",
        "'0009:01:00.1' (class 0403, driver 'snd_hda_intel')",
        "'0009:02:00.0' (class 0680, driver 'nvidia-nvswitch')",
        "echo 0009:01:00.1 > /sys/bus/pci/drivers/snd_hda_intel/unbind",
        "allow_group = true",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let harmless = grouped(&[
        ("0009:00:00.0", 0x06_0400, Some("pcieport")),
        ("0009:00:01.0", 0x06_0000, Some("a_host_bridge")),
        (AUDIO, 0x04_0300, None),
        (SWITCH, 0x06_8000, Some("vfio-pci")),
        ("0009:03:00.0", 0x06_8000, Some("nvgrace_gpu_vfio_pci")),
    ]);
    scene(harmless, false).prepare().expect("harmless");
}

#[test]
fn a_group_of_a_gpu_and_switch_ports_is_accepted() {
    let host = Host::read(&testing::hosts::directory("gb300-p2p")).expect("host");
    for (group, gpu) in [(30, "0008:06:00.0"), (33, "0019:06:00.0")] {
        let device = &host.devices[&address(gpu)];
        assert_eq!(device.iommu_group, Some(group));
        refuse_group(&host, device, group).expect("no member that the host uses");
    }
}

#[test]
fn consent_assigns_and_releases_the_whole_group() {
    let scene = scene(grouped(&[(AUDIO, 0x04_0300, Some("snd_hda_intel"))]), true);
    scene.kernel.add_driver(driver("vfio-pci"), []);
    scene.prepare().expect("both");
    assert_eq!(scene.driver(GPU).as_deref(), Some(VARIANT));
    assert_eq!(scene.driver(AUDIO).as_deref(), Some("vfio-pci"));
    scene
        .assigner
        .start(scene.complete().domain())
        .expect("start");
    scene.prepare().expect("a second start");
    scene
        .assigner
        .release(&UUID.parse().expect("uuid"))
        .expect("release");
    assert_eq!(scene.driver(GPU).as_deref(), Some("nvidia"));
    assert_eq!(scene.driver(AUDIO).as_deref(), Some("snd_hda_intel"));
}

#[test]
fn prepare_refuses_a_group_with_a_held_member() {
    let scene = scene(grouped(&[(AUDIO, 0x04_0300, Some("snd_hda_intel"))]), true);
    let holders = held("pipewire", "user@1000.service", "/dev/dri/card1", false);
    let occupancy = Occupancy {
        holders,
        ..Occupancy::default()
    };
    scene.kernel.set_occupancy(address(AUDIO), occupancy);
    let text = scene.refused();
    assert!(
        text.starts_with("'0009:01:00.1': in use by pipewire"),
        "{text}"
    );
}

#[test]
fn group_consent_excludes_storage_and_network() {
    for (class, what) in [(0x01_0802, "storage"), (0x02_0000, "network")] {
        let text = scene(grouped(&[(AUDIO, class, Some("nvme"))]), true).refused();
        assert!(text.contains(&format!("has {what} of the host")), "{text}");
    }
}

#[test]
fn group_member_of_the_same_guest_does_not_block() {
    let mut host = grouped(&[]);
    let nic = host.devices.get_mut(&address(NIC)).expect("the NIC");
    nic.iommu_group = Some(7);
    let scene = scene(host, false);
    let text = scene.refused();
    assert!(text.contains(NIC), "{text}");
    let other = "<hostdev mode='subsystem' type='pci' managed='yes'>\n      <source>\n        \
                 <address domain='0x0002' bus='0x01' slot='0x00' function='0x0'/>\n      \
                 </source>\n    </hostdev>\n  </devices>";
    let xml = guest(GPU).replace("</devices>", other);
    let complete = scene
        .context
        .look()
        .rewrite(&definition(&xml), false)
        .expect("complete")
        .text;
    scene
        .assigner
        .prepare(&definition(&complete))
        .expect("both go to the guest");
}

#[test]
fn prepare_refuses_without_the_unbind_lock_and_names_the_fix() {
    let scene = usual();
    let shared = held("python3", "train.service", "/dev/nvidia-uvm", true);
    scene.occupied(|o| (o.holders, o.unbind_lock) = (shared, Some(false)));
    let error = scene.prepare().expect_err("in use");
    assert!(matches!(error, AssignError::Refused(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("unbindLock (VD-BND-003)"), "{text}");
    assert!(text.contains("nvidia-smi -i 0009:01:00.0 -pm 0"), "{text}");
    assert_eq!(scene.driver(GPU).as_deref(), Some("nvidia"));
    assert!(scene.assigner.held().is_empty());
}

#[test]
fn dry_run_reports_all_obstacles_and_changes_nothing() {
    let mut host = grouped(&[(AUDIO, 0x04_0300, Some("snd_hda_intel"))]);
    let gpu = host.devices.get_mut(&address(GPU)).expect("the GPU");
    gpu.reset_methods.clear();
    let scene = scene(host, false);
    let service = "nvidia-persistenced.service";
    scene.occupied(|o| o.holders = held("nvidia-persistenced", service, "/dev/nvidia0", false));
    let bind_options = BindOptions::default();
    let answer = scene.assigner.plan_manual_group(address(GPU), bind_options);
    let answer = answer.expect("a plan").device;
    assert_eq!(answer.writes.len(), 3);
    let codes = ["VD-BND-005", "VD-BND-008", "VD-BND-007"];
    assert_eq!(
        answer.obstacles.len(),
        codes.len(),
        "{:?}",
        answer.obstacles
    );
    for (sentence, code) in answer.obstacles.iter().zip(codes) {
        assert!(sentence.contains(code), "{sentence}");
    }
    assert!(scene.kernel.writes().is_empty() && scene.kernel.loaded().is_empty());
    scene.occupied(|_| ());
    let free = usual().assigner.plan_manual_bind(address(GPU), None);
    assert!(free.expect("a plan").obstacles.is_empty());
}
