//! Occupancy of a GPU below a temporary directory.

use std::fs;

use super::*;
use crate::reader::tests::{GPU_DIR, host};

const NVIDIA_GPU: &str = "proc/driver/nvidia/gpus/0009:01:00.0";

fn with(files: &[(&str, &str)]) -> Occupancy {
    let dir = host();
    fs::create_dir_all(dir.path().join("proc")).expect("directory");
    for (path, content) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        fs::write(path, content).expect("file");
    }
    let gpu = "0009:01:00.0".parse().expect("address");
    Occupancy::read(dir.path(), gpu).expect("occupancy")
}

fn numa_status(text: &str) -> Option<Onlined> {
    with_status(text).onlined
}

fn with_status(text: &str) -> Occupancy {
    let other = "sys/bus/pci/drivers/nvidia/0019:01:00.0";
    let own = "sys/bus/pci/drivers/nvidia/0009:01:00.0";
    let path = format!("{NVIDIA_GPU}/numa_status");
    let iomem = "420000000000-4237ffffffff : System RAM (NVIDIA)\n";
    with(&[(other, ""), (own, ""), (&path, text), ("proc/iomem", iomem)])
}

#[test]
fn free_device_has_no_reason_against_unbinding() {
    assert_eq!(with(&[]), Occupancy::default());
}

#[test]
fn memory_of_the_only_gpu_is_counted_and_other_memory_is_not() {
    let iomem = "00000000-00000000 : System RAM\n  00000000-00000000 : Kernel code\n\
                 00000000-00000000 : System RAM (NVIDIA)\n00000000-00000000 : System RAM (NVIDIA)\n";
    let onlined = with(&[("proc/iomem", iomem)]).onlined;
    assert_eq!(
        onlined,
        Some(Onlined {
            node: None,
            ranges: 2,
            is_changing: false,
        })
    );
    assert_eq!(with(&[("proc/iomem", "0-1 : System RAM\n")]).onlined, None);
}

#[test]
fn driver_reports_which_gpu_has_online_memory() {
    let online = numa_status("Node:      4\nStatus:    online\nSize:      1000\n");
    assert_eq!(online.expect("online").node.map(u32::from), Some(4));
    for status in ["offline", "disabled", "online_failed"] {
        let text = format!("Node:      4\nStatus:    {status}\n");
        assert_eq!(numa_status(&text), None, "{status}");
    }
    assert!(numa_status("Node:      -1\nStatus:    offline_failed\n").is_some());
}

#[test]
fn only_memory_in_progress_changes_and_only_offline_memory_can_be_added() {
    let states = [
        ("online_in_progress", Some(true), false),
        ("offline_in_progress", Some(true), false),
        ("online", Some(false), false),
        ("offline_failed", Some(false), false),
        ("offline", None, true),
        ("online_failed", None, false),
        ("disabled", None, false),
    ];
    for (state, is_changing, is_offline) in states {
        let found = with_status(&format!("Node:      4\nStatus:    {state}\n"));
        let changing = found.onlined.map(|memory| memory.is_changing);
        assert_eq!(
            (changing, found.is_offline),
            (is_changing, is_offline),
            "{state}"
        );
    }
}

#[test]
fn virtual_functions_and_the_unbind_lock_are_read() {
    let lock = format!("{NVIDIA_GPU}/unbindLock");
    let functions = format!("{GPU_DIR}/sriov_numvfs");
    let found = with(&[(&functions, "3\n"), (&lock, "0\n")]);
    assert_eq!(
        (found.virtual_functions, found.unbind_lock),
        (3, Some(false))
    );
    assert_eq!(with(&[(&lock, "1\n")]).unbind_lock, Some(true));
}
