//! Devices that appear and disappear while the agent runs: the hook's lists follow each event of the kernel.

use std::fs;
use std::path::PathBuf;

use tokio::time::{sleep, timeout};

use super::*;
use crate::context::Rules;
use crate::fixture::device;
use planner::recipe::Recipes;

const VF: &str = "0009:01:00.1";

impl Parts {
    /// The effect of the kernel's event about a device (`uevent::follow`).
    fn uevent(&self) -> impl Fn() + use<> {
        let assigner = self.manager.assigner.clone();
        move || assigner.notifier().notify()
    }

    fn list(&self) -> PathBuf {
        self.directory.path().join("run/devices")
    }
}

async fn until(list: &PathBuf, text: &str) {
    let read = async {
        while fs::read_to_string(list).ok().as_deref() != Some(text) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let read = timeout(Duration::from_secs(10), read).await;
    read.unwrap_or_else(|_| unreachable!("the list is {:?}", fs::read_to_string(list)));
}

#[tokio::test]
async fn the_hooks_list_follows_devices_that_come_and_go() {
    let parts = parts();
    let (uevent, list) = (parts.uevent(), parts.list());
    let scene = scene_of(parts).await;
    until(&list, &format!("{GPU}\n")).await;
    scene.kernel.remove_device(address(GPU));
    uevent();
    until(&list, "").await;
    let id = host().devices[&address(GPU)].id;
    scene.kernel.add_device(address(GPU), id, None);
    uevent();
    until(&list, &format!("{GPU}\n")).await;
}

#[tokio::test]
async fn a_list_that_could_not_be_written_is_written_later() {
    let parts = parts();
    let (uevent, list) = (parts.uevent(), parts.list());
    let run = list.parent().expect("run directory").to_owned();
    fs::write(&run, "no directory").expect("an obstacle");
    let _scene = scene_of(parts).await;
    fs::remove_file(&run).expect("obstacle");
    uevent();
    until(&list, &format!("{GPU}\n")).await;
}

/// The parts of a host whose GPU has a virtual function with the GPU's id, as `sriov_numvfs` makes it.
fn with_a_virtual_function() -> Parts {
    let mut host = host();
    let mut virtual_function = device(VF, "10de:2342", "nvidia");
    virtual_function.physical_function = Some(address(GPU));
    host.devices.insert(address(VF), virtual_function);
    parts_of(&host)
}

/// The virtual function is created, and then the GPU is removed: the list is first `both`, then `left`.
async fn made_later(parts: Parts, both: &str, left: &str) {
    let (uevent, list) = (parts.uevent(), parts.list());
    parts.kernel.remove_device(address(VF));
    let scene = scene_of(parts).await;
    until(&list, &format!("{GPU}\n")).await;
    let id = host().devices[&address(GPU)].id;
    scene.kernel.add_device(address(VF), id, None);
    uevent();
    until(&list, both).await;
    scene.kernel.remove_device(address(GPU));
    uevent();
    until(&list, left).await;
}

#[tokio::test]
async fn a_virtual_function_made_later_is_listed_where_a_recipe_is_for_it() {
    let parts = with_a_virtual_function();
    let grace = include_str!("../../../recipes/nvidia-grace.toml");
    let any = grace.replace("[[device]]\n", "[[device]]\nfunctions = \"any\"\n");
    let config = parts.context.rules().config.clone();
    let recipes = Recipes::of(&[&any]);
    parts.context.reload(Rules { recipes, config });
    made_later(parts, &format!("{GPU}\n{VF}\n"), &format!("{VF}\n")).await;
}

#[tokio::test]
async fn a_virtual_function_made_later_is_not_listed_for_a_recipe_for_physical_ones() {
    let parts = with_a_virtual_function();
    made_later(parts, &format!("{GPU}\n"), "").await;
}

#[tokio::test]
async fn a_list_that_cannot_be_written_is_tried_again_by_time() {
    let parts = parts();
    let (list, looks) = (parts.list(), parts.looks.clone());
    let run = list.parent().expect("run directory").to_owned();
    fs::write(&run, "no directory").expect("an obstacle");
    let _scene = scene_of(parts).await;
    // The start reads twice; nothing notifies of more.
    let retried = async {
        while looks.load(Ordering::Relaxed) < 4 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let retried = timeout(Duration::from_secs(10), retried).await;
    retried.expect("the retries in time");
    fs::remove_file(&run).expect("obstacle");
    until(&list, &format!("{GPU}\n")).await;
    let written = looks.load(Ordering::Relaxed);
    sleep(Duration::from_secs(1)).await;
    let after = looks.load(Ordering::Relaxed);
    assert!(after <= written + 1, "it still looks: {written}, {after}");
}
