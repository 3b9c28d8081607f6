//! Devices that come and go while the agent runs: the lists for libvirt's hook follow each event of the kernel.

use std::fs;
use std::path::PathBuf;

use tokio::time::{sleep, timeout};

use super::*;

impl Parts {
    /// What the kernel's event about a device does (`uevent::follow`).
    fn uevent(&self) -> impl Fn() + use<> {
        let assigner = self.manager.assigner.clone();
        move || assigner.bell().ring()
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
