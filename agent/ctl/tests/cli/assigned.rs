//! Every form in which a definition assigns a PCI function.

use std::fs;
use std::path::Path;

use super::{host, stdout, variantctl};

const VIRTUAL: &str = "0000:81:00.2";

fn guest(dir: &Path, devices: &str, line: &str) -> String {
    let file = dir.join("guest.xml");
    let text = format!(
        "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>g</name>\
         <memory unit='GiB'>4</memory><vcpu>2</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>\
         <features><acpi/></features><devices><controller type='pci' index='0' model='pcie-root'/>\
         <controller type='pci' index='1' model='pcie-root-port'/>{devices}</devices>{line}</domain>"
    );
    fs::write(&file, text).expect("guest");
    file.to_str().expect("a path").to_owned()
}

fn interface(bus: u32, slot: u32) -> String {
    format!(
        "<interface type='hostdev' managed='yes'><source><address type='pci' domain='0' bus='0x81' slot='0' function='2'/></source>\
         <address type='pci' domain='0' bus='{bus}' slot='{slot}' function='0'/></interface>"
    )
}

const ARGUMENT: &str = "<qemu:commandline><qemu:arg value='-device'/>\
                        <qemu:arg value='vfio-pci,host=0000:81:00.2,bus=pcie.0'/></qemu:commandline>";

fn judged(devices: &str, line: &str) -> (String, String) {
    let dir = tempfile::tempdir().expect("scratch directory");
    let file = guest(dir.path(), devices, line);
    let output = variantctl(&host("atomics"), &["atomics", "--file", &file]);
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    (stdout(&output), printed)
}

#[test]
fn an_interface_is_judged_at_its_guest_address() {
    let (good, _) = judged(&interface(1, 0), "");
    assert!(
        good.contains(VIRTUAL) && good.contains("guest: root port, bus 1"),
        "{good}"
    );
    assert!(!good.contains("VD-ATM-036"), "it is not plugged in: {good}");
    let (bad, _) = judged(&interface(0, 5), "");
    assert!(bad.contains("VD-ATM-012"), "{bad}");
}

#[test]
fn two_devices_at_one_guest_address_are_not_placed() {
    let beside = "<interface type='bridge'><source bridge='br0'/>\
                  <address type='pci' domain='0' bus='1' slot='0' function='0'/></interface>";
    let (printed, _) = judged(&format!("{beside}{}", interface(1, 0)), "");
    assert!(
        printed.contains("VD-ATM-018") && printed.contains("libvirt refuses"),
        "{printed}"
    );
}

#[test]
fn a_device_in_a_qemu_argument_is_named_but_not_judged() {
    let (printed, _) = judged("", ARGUMENT);
    assert!(
        printed.contains(VIRTUAL) && printed.contains("VD-ATM-018"),
        "{printed}"
    );
    assert!(!printed.contains("VD-ATM-036"), "{printed}");
    let dir = tempfile::tempdir().expect("scratch directory");
    let file = guest(dir.path(), "", ARGUMENT);
    let output = variantctl(&host("atomics"), &["plan", &file]);
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        printed.contains(VIRTUAL) && printed.contains("VD-DEV-008"),
        "{printed}"
    );
}

#[test]
fn a_device_that_is_assigned_twice_in_two_forms_is_refused() {
    let disk = "<disk type='nvme' device='disk'><source type='pci' namespace='1'>\
                <address domain='0' bus='0x81' slot='0' function='2'/></source><target dev='vda' bus='virtio'/></disk>";
    let dir = tempfile::tempdir().expect("scratch directory");
    for (devices, line) in [
        (interface(1, 0) + disk, ""),
        (interface(1, 0), ARGUMENT),
        (interface(1, 0) + &interface(2, 0), ""),
    ] {
        let file = guest(dir.path(), &devices, line);
        let output = variantctl(&host("atomics"), &["plan", &file]);
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{printed}");
        assert!(printed.contains("VD-DEV-002"), "{printed}");
    }
}

#[test]
fn an_interface_gets_the_driver_and_the_root_port_of_its_recipe() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let bare = interface(1, 0).replace(
        "<address type='pci' domain='0' bus='1' slot='0' function='0'/></interface>",
        "</interface>",
    );
    let file = guest(dir.path(), &bare, "");
    let text = stdout(&variantctl(&host("atomics"), &["rewrite", &file]));
    assert!(
        text.contains("<driver name='vfio' model='mlx5_vfio_pci'/>"),
        "{text}"
    );
    assert!(text.contains("recipe='mlx5'"), "{text}");
    let completed = dir.path().join("completed.xml");
    fs::write(&completed, &text).expect("completed");
    let path = completed.to_str().expect("a path");
    let back = stdout(&variantctl(&host("atomics"), &["revert", "--file", path]));
    assert_eq!(back, fs::read_to_string(&file).expect("guest"));
}

#[test]
fn a_network_is_unknown_until_libvirt_answers() {
    let network = "<interface type='network'><source network='pool'/></interface>";
    let (_, printed) = judged(&format!("{network}{}", interface(1, 0)), "");
    assert!(
        printed.contains("network 'pool'") && printed.contains("unknown until libvirt is asked"),
        "{printed}"
    );
    let dir = tempfile::tempdir().expect("scratch directory");
    let gpu = "<hostdev mode='subsystem' type='pci' managed='yes'><source>\
               <address domain='0' bus='0x61' slot='0' function='0'/></source></hostdev>";
    for verb in ["plan", "rewrite"] {
        let noted = |devices: &str| {
            let file = guest(dir.path(), devices, "");
            let output = variantctl(&host("atomics"), &[verb, &file]);
            let printed = String::from_utf8_lossy(&output.stderr).into_owned();
            printed.contains("VD-DEV-008") && printed.contains("unknown until libvirt is asked")
        };
        assert!(noted(&format!("{network}{gpu}")), "{verb}: beside a device");
        assert!(!noted(network), "{verb}: an ordinary guest");
    }
}
