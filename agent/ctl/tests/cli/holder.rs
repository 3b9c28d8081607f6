//! `variantctl show` on a host where processes hold a GPU.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;

use super::{damaged, stdout, variantctl};

const GPU: &str = "0018:01:00.0";

fn process(root: &Path, id: u32, command: &str, node: &str) {
    let dir = root.join(format!("proc/{id}"));
    fs::create_dir_all(dir.join("fd")).expect("directory");
    fs::write(dir.join("cmdline"), format!("{command}\0")).expect("file");
    fs::write(dir.join("maps"), "").expect("file");
    fs::write(dir.join("cgroup"), "0::/system.slice/train.service\n").expect("file");
    symlink(command, dir.join("exe")).expect("link");
    symlink(node, dir.join("fd/17")).expect("link");
}

/// The recorded host with minor 1 for the GPU, a second GPU on its driver, and two processes.
fn held() -> tempfile::TempDir {
    damaged(|root| {
        let information = root.join(format!("proc/driver/nvidia/gpus/{GPU}/information"));
        fs::create_dir_all(information.parent().expect("parent")).expect("directory");
        fs::write(information, "Device Minor: \t 1\n").expect("file");
        let driver = root.join("sys/bus/pci/drivers/nvidia");
        fs::create_dir_all(driver.join(GPU)).expect("directory");
        fs::create_dir_all(driver.join("0019:01:00.0")).expect("directory");
        process(root, 41, "/usr/bin/python3", "/dev/nvidia1");
        process(root, 42, "/usr/bin/nvtop", "/dev/nvidia-uvm");
    })
}

#[test]
fn occupancy_shows_holders_with_unit_node_and_descriptor() {
    let root = held();
    let text = stdout(&variantctl(root.path(), &["show", GPU]));
    for line in [
        "held by          python3 (pid 41, train.service, '/dev/nvidia1' as fd 17)\n",
        "                 perhaps nvtop (pid 42, train.service, '/dev/nvidia-uvm' as fd 17)\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn occupancy_as_json_has_the_holders() {
    let root = held();
    let text = stdout(&variantctl(root.path(), &["show", GPU, "--json"]));
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let occupancy = &json["device"]["occupancy"];
    assert_eq!(occupancy["holders"][0]["pid"], 41);
    assert_eq!(occupancy["holders"][0]["nodes"][0]["fd"], 17);
    assert_eq!(occupancy["hidden_processes"], 0);
    assert_eq!(json["device"]["group_members"], Value::Array(Vec::new()));
}

#[test]
fn show_prints_group_members_with_their_drivers() {
    let root = super::host("lab");
    let text = stdout(&variantctl(&root, &["show", "0000:00:1f.3"]));
    let row = "IOMMU group      11, with 0000:00:1f.0 (-), 0000:00:1f.2 (ahci)\n";
    assert!(text.contains(row), "{text}");
    let json = stdout(&variantctl(&root, &["show", "0000:00:1f.3", "--json"]));
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let member = &json["device"]["group_members"][1];
    assert_eq!(
        (&member["driver"], &member["class"]),
        (&"ahci".into(), &"010601".into())
    );
    assert_eq!(json["device"]["occupancy"], Value::Null, "a recorded host");
}
