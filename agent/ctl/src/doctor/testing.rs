//! A host on which every check passes, for tests that change one fact each.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kernel_glue::alias::Variant;
use kernel_glue::capacity::Capacity;
use kernel_glue::device::Device;
use kernel_glue::holder::{HeldNode, Holder};
use kernel_glue::occupancy::Occupancy;

use super::check::{Check, Verdict};
use super::scene::{
    Agent, Boot, Daemon, Guest, Hook, Journal, Libvirt, Memory, Module, Scene, Security, Trouble,
    Vendor,
};
use crate::fixture::{GPU, NIC, VARIANT, address, guest, host};
use domain::code::Code;
use planner::from_libvirt::FromLibvirt;
use planner::recipe::Recipes;
use planner::target::Versions;

/// Seconds since the epoch as a time.
pub(super) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

pub(super) fn ready() -> Scene {
    let mut host = host();
    host.kernel_release = Some("7.2.12".into());
    host.variants = vec![variant("v000010DEd00002342sv*sd*bc*sc*i*", VARIANT)];
    let scene = Scene {
        recorded: None,
        capacity: Ok(Capacity::default()),
        recipes: Recipes::shipped().expect("recipes"),
        settings: Ok(()),
        allow_group: false,
        boot: boot(),
        modules: [(VARIANT.to_owned(), module())].into(),
        occupancy: [(address(GPU), Ok(Occupancy::default()))].into(),
        memory_named: Ok(true),
        stack: None,
        egm_class: Ok(false),
        platform: None,
        libvirt: Ok(answers(Vec::new())),
        daemon: Ok(Some(daemon())),
        hook: Ok(hook()),
        agent: Ok(Agent::Answers(env!("CARGO_PKG_VERSION").into())),
        policy: Ok(true),
        security: Ok(Security::default()),
        enabled: Ok(vec!["variantd".into(), "variantd-reserve".into()]),
        journal: Ok(Journal::default()),
        reservations: Ok(Vec::new()),
        host,
    };
    with_gpu(scene, |gpu| {
        gpu.iommu_group = Some(3);
        gpu.modalias = "pci:v000010DEd00002342sv000010DEsd000016EBbc03sc02i00".into();
    })
}

pub(super) fn variant(pattern: &str, module: &str) -> Variant {
    Variant {
        pattern: pattern.into(),
        module: module.into(),
    }
}

pub(super) fn module() -> Module {
    let path = "updates/nvgrace-gpu-vfio-pci.ko".to_owned();
    Module {
        indexed: Some(path.clone()),
        file: Some(path),
        ..Module::default()
    }
}

fn boot() -> Boot {
    Boot {
        vendor: Vendor::Intel,
        command_line: Ok("root=/dev/vda intel_iommu=on".into()),
        no_iommu: Ok(false),
        unsafe_interrupts: Ok(false),
        memory: Ok(Memory {
            total: 64 << 20,
            huge_pages: 16,
            free_pages: 8,
            page: 2048,
        }),
    }
}

pub(super) fn daemon() -> Daemon {
    Daemon {
        unit: "libvirtd".into(),
        files: "/proc/77".into(),
        started: at(1000),
        label: Some("libvirtd (enforce)".into()),
        can_lock: Ok(true),
        may_lock: Ok(true),
    }
}

pub(super) fn hook() -> Hook {
    Hook {
        path: "/etc/libvirt/hooks/qemu.d/variantd".into(),
        state: Trouble::None,
        program: Some("/usr/sbin/variantd-hook".into()),
        since: Some(at(500)),
        called: None,
    }
}

pub(super) fn answers(domains: Vec<Guest>) -> Libvirt {
    Libvirt::Answers {
        versions: Versions::NEWEST_TESTED,
        domains,
    }
}

/// A definition with the GPU, without an answer of the agent.
pub(super) fn definition() -> Guest {
    Guest {
        name: "d0".into(),
        definition: guest(GPU).parse(),
        active: false,
        has: Vec::new(),
        iommufd: None,
        libvirt: FromLibvirt::default(),
        planned: None,
    }
}

/// A definition with the GPU, whose options ask for EGM.
pub(super) fn asking_for_egm() -> Guest {
    let options = "<metadata><v:options xmlns:v='urn:variantd:options:1' egm='on'/></metadata>";
    let xml = guest(GPU).replace("<vcpu>", &format!("{options}<vcpu>"));
    Guest {
        definition: xml.parse(),
        ..definition()
    }
}

pub(super) fn with_gpu(mut scene: Scene, change: impl FnOnce(&mut Device)) -> Scene {
    change(scene.host.devices.get_mut(&address(GPU)).expect("gpu"));
    scene
}

/// Another device in the GPU's group.
pub(super) fn with_companion(mut scene: Scene) -> Scene {
    let nic = scene.host.devices.get_mut(&address(NIC)).expect("nic");
    nic.iommu_group = Some(3);
    scene
}

pub(super) fn holder(command: &str, unit: Option<&str>) -> Holder {
    Holder {
        process: 41,
        command: command.into(),
        unit: unit.map(str::to_owned),
        nodes: vec![HeldNode {
            path: "/dev/nvidia0".into(),
            descriptor: Some(4),
            shared: false,
        }],
    }
}

/// The check with this code that is not passed, or the first with it.
pub(super) fn check(scene: &Scene, code: Code) -> Check {
    let mut checks = super::examine(scene);
    checks.retain(|check| check.code == code);
    checks.sort_by_key(|check| std::cmp::Reverse(check.verdict));
    checks.into_iter().next().unwrap_or_else(|| Check {
        code,
        ..Check::pass(code, "there is no such check")
    })
}

/// The codes of the checks that are not passed.
pub(super) fn bad(scene: &Scene) -> Vec<(Code, Verdict)> {
    let checks = super::examine(scene).into_iter();
    let checks = checks.filter(|check| check.verdict != Verdict::Pass);
    checks.map(|check| (check.code, check.verdict)).collect()
}
