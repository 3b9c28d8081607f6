//! Memory that the driver adds and removes while a device is about to be bound, on a modelled kernel.

use kernel_glue::kernel::Kernel;

use super::*;
use crate::assign::check::tests::{Scene, held, usual};
use crate::fixture::{GPU, VARIANT, address, driver};

const DAEMON: &str = "nvidia-persistenced.service";

fn memory(ranges: usize, is_changing: bool) -> Occupancy {
    let node = Some(4.try_into().expect("node"));
    let onlined = Onlined {
        node,
        ranges,
        is_changing,
    };
    Occupancy {
        onlined: Some(onlined),
        ..Occupancy::default()
    }
}

/// A service holds the GPU, and its memory is not there yet.
fn before_memory() -> Occupancy {
    Occupancy {
        is_offline: true,
        holders: held("nvidia-persistenced", DAEMON, "/dev/nvidia0", false),
        ..Occupancy::default()
    }
}

/// An occupancy that is read only after all others.
fn last() -> Occupancy {
    Occupancy {
        virtual_functions: 7,
        ..Occupancy::default()
    }
}

/// Waits for stable memory, and returns what the next read finds.
fn after_wait(scene: &Scene, found: &[Occupancy], allowed: &[&str]) -> Occupancy {
    let found = found.iter().cloned();
    scene.kernel.set_occupancies(address(GPU), found);
    let service = |name: &&str| ServiceName::try_from((*name).to_owned()).expect("service");
    let allowed: Vec<ServiceName> = allowed.iter().map(service).collect();
    let (device, driver) = (address(GPU), driver(VARIANT));
    let waited = scene
        .assigner
        .wait_until_stable([(device, &driver)], &allowed);
    waited.expect("stable");
    scene.kernel.occupancy(device).expect("occupancy")
}

#[test]
fn wait_for_stable_memory_ends_with_two_equal_reads() {
    let found = [
        memory(1, true),
        memory(1, false),
        memory(2, false),
        memory(2, false),
        last(),
    ];
    assert_eq!(after_wait(&usual(), &found, &[]), last());
}

#[test]
fn wait_for_memory_to_come_needs_a_service_that_will_be_stopped() {
    let found = [before_memory(), memory(2, false), memory(2, false), last()];
    assert_eq!(after_wait(&usual(), &found, &[DAEMON]), last());
    for allowed in [&[][..], &["nvidia-dcgm.service"]] {
        assert_eq!(after_wait(&usual(), &found, allowed), memory(2, false));
    }
}

#[test]
fn memory_that_never_comes_does_not_prevent_the_bind() {
    let mut scene = usual();
    scene.assigner.memory_timeout = Duration::ZERO;
    let found = [before_memory()];
    assert_eq!(after_wait(&scene, &found, &[DAEMON]), before_memory());
}

#[test]
fn device_without_memory_on_the_host_is_read_once() {
    assert_eq!(
        after_wait(&usual(), &[Occupancy::default(), last()], &[]),
        last()
    );
}

#[test]
fn bind_is_refused_before_its_record_while_memory_changes() {
    let mut scene = usual();
    scene.assigner.memory_timeout = Duration::from_millis(300);
    scene.kernel.set_occupancy(address(GPU), memory(1, true));
    let text = scene.refused();
    let reason = "NVIDIA's driver still adds or removes its memory (NUMA node 4)";
    assert!(
        text.contains(reason) && text.contains("VD-BND-009"),
        "{text}"
    );
    let manual = scene.assigner.bind_manually(address(GPU), None);
    assert!(manual.expect_err("refused").to_string().contains(reason));
    assert!(scene.kernel.writes().is_empty());
}

#[test]
fn bind_waits_until_the_memory_is_removed() {
    let scene = usual();
    let found = [
        memory(2, false),
        memory(2, false),
        memory(2, false),
        memory(1, true),
    ];
    let found = found.into_iter().chain([Occupancy::default()]);
    scene.kernel.set_occupancies(address(GPU), found);
    scene.prepare().expect("bound");
    assert_eq!(scene.driver(GPU).as_deref(), Some(VARIANT));
}

#[test]
fn refusal_names_the_processes_that_have_the_memory() {
    let mut scene = usual();
    scene.assigner.memory_timeout = Duration::from_millis(300);
    scene.kernel.set_occupancy(address(GPU), memory(2, false));
    let text = scene.refused();
    assert!(text.contains("no process has memory there"), "{text}");
    let mut users = held("python3", "train.service", "", false);
    users.found[0].nodes.clear();
    let node = 4.try_into().expect("node");
    scene.kernel.set_memory_users(node, users);
    let text = scene.refused();
    for part in [
        "NUMA node 4",
        "used by python3 (pid 2211, train.service)",
        "migratepages",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn device_that_a_process_holds_is_refused_without_waiting_for_its_memory() {
    let scene = usual();
    let holders = held("python3", "train.service", "/dev/nvidia0", false);
    let found = Occupancy {
        holders,
        ..memory(2, false)
    };
    scene.kernel.set_occupancy(address(GPU), found);
    let begun = Instant::now();
    assert!(scene.refused().contains("VD-BND-005"));
    assert!(begun.elapsed() < WAIT / 2);
}
