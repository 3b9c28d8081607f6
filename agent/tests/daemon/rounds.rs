//! The real agent after many changes that the recorded host does not perform: each writes, in children, and undoes it.

use std::fs;
use std::time::Duration;

use api::client::{Fault, ManagerProxy, Options};
use tokio::time::sleep;
use zbus::{Variant, connection};

use crate::scene::Scene;

const GPU: &str = "0009:01:00.0";
/// Memory that allocators may still add.
const SPARE_KIB: usize = 1024;

/// How often the test waits 100 ms for the resources of running work to be freed.
const LOOKS: usize = 100;

/// The resources of a process.
#[derive(Debug)]
struct Holdings {
    descriptors: usize,
    children: String,
    resident_kib: usize,
}

fn holdings(process: u32) -> Holdings {
    let count = |name: &str| fs::read_dir(format!("/proc/{process}/{name}")).map(Iterator::count);
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("threads");
    let children = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = resident.and_then(|text| text.split_whitespace().next()?.parse().ok());
    Holdings {
        descriptors: count("fd").expect("descriptors"),
        children: children.collect(),
        resident_kib: number.expect("kibibytes"),
    }
}

#[tokio::test]
async fn a_hundred_binds_leave_no_descriptor_child_or_memory_behind() {
    let scene = Scene::new();
    for file in [
        "nvidia/unbind",
        "nvidia/bind",
        "vfio-pci/unbind",
        "vfio-pci/bind",
    ] {
        scene.write(&format!("host/sys/bus/pci/drivers/{file}"), "");
    }
    let mut agent = scene.start();
    agent.says("serves");
    let bus = connection::Builder::address(scene.bus.address()).build();
    let bus = bus.await.expect("bus");
    let manager = ManagerProxy::new(&bus).await.expect("proxy");
    let mut first = None;
    for round in 1..=100 {
        let options = Options::from([("driver", Variant::from("vfio-pci"))]);
        let fault = manager
            .bind(GPU, options)
            .await
            .expect_err("files are no kernel");
        let fault = Fault::from(fault);
        assert!(
            matches!(&fault, Fault::Failed(text) if text.contains("it is bound to 'nvidia'")),
            "round {round}: {fault:?}"
        );
        // the first rounds fill the caches
        if round == 10 {
            first = Some(holdings(agent.id()));
        }
    }
    let first = first.expect("round 10");
    let mut last = holdings(agent.id());
    // a read of the device may be in progress; leaked resources stay
    for _ in 0..LOOKS {
        if last.descriptors <= first.descriptors && last.children.is_empty() {
            break;
        }
        sleep(Duration::from_millis(100)).await;
        last = holdings(agent.id());
    }
    assert!(last.descriptors <= first.descriptors, "{first:?} {last:?}");
    assert_eq!(last.children, "", "{last:?}");
    assert!(
        last.resident_kib <= first.resident_kib + SPARE_KIB,
        "{first:?} {last:?}"
    );
}
