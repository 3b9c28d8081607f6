//! Virtual functions: whose id a recipe has for physical ones, and physical ones while theirs are enabled.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{stdout, variantctl};

const PHYSICAL: &str = "0000:d5:00.0";
const VIRTUAL: &str = "0000:d5:00.4";

/// A host with an H200 on NVIDIA's driver that has one vGPU.
fn host() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("scratch directory");
    for address in [PHYSICAL, VIRTUAL] {
        function(dir.path(), address);
    }
    let physfn = dir
        .path()
        .join("sys/devices/pci0000:d5")
        .join(VIRTUAL)
        .join("physfn");
    symlink(format!("../{PHYSICAL}"), physfn).expect("physfn");
    dir
}

fn function(root: &Path, address: &str) {
    let device = root.join("sys/devices/pci0000:d5").join(address);
    fs::create_dir_all(&device).expect("device");
    let files = [
        ("vendor", "0x10de\n"),
        ("device", "0x2335\n"),
        ("class", "0x030200\n"),
        ("driver_override", "(null)\n"),
        ("modalias", "pci:v000010DEd00002335\n"),
        ("reset_method", "flr\n"),
    ];
    for (name, content) in files {
        fs::write(device.join(name), content).expect("file");
    }
    fs::write(device.join("resource"), "0x0 0x0 0x0\n".repeat(7)).expect("resource");
    fs::write(device.join("config"), [0; 256]).expect("config");
    symlink("../../../bus/pci/drivers/nvidia", device.join("driver")).expect("driver");
    let links = root.join("sys/bus/pci/devices");
    fs::create_dir_all(&links).expect("links");
    let target = format!("../../../devices/pci0000:d5/{address}");
    symlink(target, links.join(address)).expect("link");
}

fn guest(dir: &Path, slot: &str, managed: &str) -> String {
    let file = dir.join("guest.xml");
    let text = format!(
        "<domain type='kvm'><name>g</name><memory unit='GiB'>32</memory><vcpu>4</vcpu>\
         <os><type arch='x86_64' machine='q35'>hvm</type></os><cpu mode='host-passthrough'/><devices>\
         <hostdev mode='subsystem' type='pci' managed='{managed}'><source>\
         <address domain='0' bus='0xd5' slot='0' function='{slot}'/></source></hostdev></devices></domain>"
    );
    fs::write(&file, text).expect("guest");
    file.to_str().expect("a path").to_owned()
}

#[test]
fn a_virtual_function_keeps_its_vendors_driver() {
    let dir = host();
    let listed = stdout(&variantctl(dir.path(), &["list"]));
    assert!(
        listed.contains(PHYSICAL) && !listed.contains(VIRTUAL),
        "{listed}"
    );
    for (managed, words) in [
        ("no", "it stays on its driver 'nvidia'"),
        ("yes", "libvirt takes it from its driver 'nvidia'"),
    ] {
        let output = variantctl(dir.path(), &["plan", &guest(dir.path(), "4", managed)]);
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stdout(&output).contains("has no device that a recipe covers"));
        assert!(
            printed.contains(words) && printed.contains("(VD-DEV-007)"),
            "{printed}"
        );
    }
}

#[test]
fn a_physical_function_with_virtual_functions_is_named_on_a_recorded_host() {
    let dir = host();
    let file = guest(dir.path(), "0", "yes");
    let planned = variantctl(dir.path(), &["plan", &file]);
    let printed = String::from_utf8_lossy(&planned.stderr).into_owned();
    assert!(
        printed.contains("are enabled (1)") && printed.contains("(VD-DEV-006)"),
        "{printed}"
    );
    let judged = variantctl(dir.path(), &["atomics", "--file", &file]);
    let printed = String::from_utf8_lossy(&judged.stdout).into_owned();
    assert!(
        printed.contains("are enabled (1)") && printed.contains("(VD-DEV-006)"),
        "{printed}"
    );
    let checked = variantctl(dir.path(), &["doctor"]);
    let printed = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(printed.contains("VD-DEV-005"), "{printed}");
}
