//! Devices that are attached to the definition or to the running guest.

use super::*;
use crate::fixture::definition;
use crate::plan::testing::{Fixture, guest, hostdev};
use crate::recipe::Recipes;

const GPU: &str = "0009:01:00.0";
const OTHER: &str = "0008:01:00.0";
const NIC: &str = "0002:01:00.0";
/// A recipe that needs nothing but its driver.
const PLAIN: &str = "prepare = 'on-define'\nname = 'plain'\ntitle = 'plain'\ndriver = 'mlx5_vfio_pci'\n\
    [[device]]\nid = '15b3:1023'\nlabel = 'an adapter'\n[[guest]]\narch = 'aarch64'\nmachine = 'virt'\n";

fn with(recipe: &str) -> Fixture {
    let recipes = Recipes::of(&[recipe, include_str!("../../recipes/nvidia-grace.toml")]);
    Fixture {
        recipes,
        ..Fixture::new()
    }
}

fn attach_to(
    fixture: &Fixture,
    to: &str,
    device: &str,
    affects: Affects,
) -> Result<Attached, Refusal> {
    let device = Attachment::parse(device)?;
    attach(&definition(to), device, affects, &fixture.input())
}

const BOTH: [Affects; 2] = [Affects::Config, Affects::Live];

#[test]
fn device_without_a_recipe_or_of_one_on_request_is_unchanged() {
    let on_request = with(&PLAIN.replace("on-define", "on-request"));
    for fixture in [Fixture::new(), on_request] {
        for affects in BOTH {
            let device = hostdev(NIC, "");
            let attached = attach_to(&fixture, &guest(""), &device, affects).expect("unchanged");
            assert_eq!(attached.device.text(), device);
            assert!(attached.changes.is_empty() && attached.devices.is_empty());
        }
    }
    let disk = "<disk type='file'><source file='/a'/></disk>";
    let to = guest(&hostdev(GPU, ""));
    let attached = attach_to(&Fixture::new(), &to, disk, Affects::Live).expect("a disk");
    assert_eq!(attached.device.text(), disk);
}

#[test]
fn device_that_needs_only_its_driver_is_completed() {
    let fixture = with(PLAIN);
    for affects in BOTH {
        let attached =
            attach_to(&fixture, &guest(""), &hostdev(NIC, ""), affects).expect("completed");
        let text = attached.device.text();
        let driver = "<driver name='vfio' model='mlx5_vfio_pci'/>";
        assert!(text.contains(driver), "{text}");
        assert_eq!(
            text.replace(driver, "").split_whitespace().count(),
            hostdev(NIC, "").split_whitespace().count()
        );
        let codes: Vec<Code> = attached.changes.iter().map(|change| change.code).collect();
        assert_eq!(codes, [Code::DriverMissing]);
        assert_eq!(attached.devices[0].recipe, "plain");
        let again = attach_to(&fixture, &guest(""), text, affects).expect("complete");
        assert_eq!(again.device.text(), text);
        assert!(again.changes.is_empty());
    }
}

#[test]
fn device_that_needs_more_than_itself_is_left_to_the_completion_before_the_start() {
    let fixture = Fixture::new();
    let device = hostdev(GPU, "");
    let attached = attach_to(&fixture, &guest(""), &device, Affects::Config);
    let attached = attached.expect("the definition can be completed");
    assert!(attached.device.join(&definition(&guest(""))).is_ok());
    let addresses: Vec<_> = attached
        .devices
        .iter()
        .map(|planned| planned.address.to_string())
        .collect();
    assert_eq!(addresses, [GPU]);
    let refusal = attach_to(&fixture, &guest(""), &device, Affects::Live);
    let refusal = refusal.expect_err("a running guest gets no initiators");
    assert_eq!(refusal.code, Code::InitiatorsAtRunTime);
    let text = refusal.to_string();
    assert!(text.contains("'virsh edit d0'"), "{text}");
    assert!(!text.contains("variantctl prepare"), "{text}");
}

#[test]
fn device_of_a_definition_that_cannot_be_completed_is_refused_with_the_reason() {
    let fixture = Fixture::new();
    let to = guest("").replace("machine='virt'", "machine='pc'");
    let refusal = attach_to(&fixture, &to, &hostdev(GPU, ""), Affects::Config);
    let whole =
        fixture.refusal(&to.replace("</devices>", &format!("{}</devices>", hostdev(GPU, ""))));
    assert_eq!(refusal.expect_err("no machine of the recipe"), whole);
}

#[test]
fn complete_device_of_a_complete_definition_is_attached_again() {
    let fixture = Fixture::new();
    let complete = fixture.rewrite(&guest(&hostdev(GPU, ""))).text;
    let parsed = definition(&complete);
    let element = &parsed.domain().hostdevs[0].element.span;
    let device = &complete[element.clone()];
    let detached = complete.replace(device, "");
    let attached = attach_to(&fixture, &detached, device, Affects::Config).expect("complete");
    assert_eq!(attached.device.text(), device);
    let notes: Vec<_> = attached.notes.iter().map(|note| note.device).collect();
    assert!(
        notes
            .iter()
            .all(|device| device.is_some_and(|device| device.to_string() == GPU))
    );
    // The same, while the guest runs.
    let refusal = attach_to(&fixture, &detached, device, Affects::Live).expect_err("initiators");
    assert_eq!(refusal.code, Code::InitiatorsAtRunTime);
    let text = refusal.to_string();
    assert!(text.contains("stop and start the guest"), "{text}");
}

#[test]
fn device_that_the_host_does_not_have_or_the_guest_has_already_is_refused() {
    let fixture = with(PLAIN);
    for affects in BOTH {
        let missing = attach_to(&fixture, &guest(""), &hostdev("0009:77:00.0", ""), affects);
        assert_eq!(missing.expect_err("missing").code, Code::DeviceMissing);
        let to = guest(&hostdev(NIC, ""));
        let twice = attach_to(&fixture, &to, &hostdev(NIC, ""), affects);
        assert_eq!(twice.expect_err("twice").code, Code::DeviceTwice);
        let wrong = hostdev(NIC, "<driver name='vfio' model='vfio-pci'/>");
        let wrong = attach_to(&fixture, &guest(""), &wrong, affects);
        assert_eq!(wrong.expect_err("another driver").code, Code::DriverWrong);
    }
}

#[test]
fn second_device_is_judged_beside_a_complete_first_one() {
    let fixture = with(PLAIN);
    let to = fixture.rewrite(&guest(&hostdev(OTHER, ""))).text;
    let attached = attach_to(&fixture, &to, &hostdev(NIC, ""), Affects::Config);
    let attached = attached.expect("it needs only its driver");
    assert!(attached.device.text().contains("mlx5_vfio_pci"));
    assert_eq!(attached.devices.len(), 1);
    let more = attach_to(&fixture, &to, &hostdev(GPU, ""), Affects::Config);
    assert_eq!(more.expect("eight cells more").devices.len(), 1);
}

/// The definition of a running guest with these root ports, the first `taken` of which have a device.
fn running(ports: u32, taken: u32) -> String {
    let port = |index| format!("<controller type='pci' index='{index}' model='pcie-root-port'/>");
    let disk = |bus| {
        format!(
            "<disk type='file'><source file='/{bus}'/><target dev='vd{bus}' bus='virtio'/>\
             <address type='pci' domain='0' bus='{bus}' slot='0' function='0'/></disk>"
        )
    };
    let ports = (1..=ports).map(port);
    let devices: String = ports.chain((1..=taken).map(disk)).collect();
    guest(&devices)
}

/// A recipe whose device needs a root port of its own, and this of AtomicOps.
fn ported(need: &str) -> Fixture {
    let placement = "[placement]\nown_root_port = true\n[atomics]\nneed = 'NEED'\nwidths = [32]\n";
    with(&format!("{PLAIN}{}", placement.replace("NEED", need)))
}

#[test]
fn device_for_a_running_guest_is_judged_at_the_free_port() {
    for need in ["ignore", "prefer"] {
        let fixture = ported(need);
        let to = running(2, 1);
        let attached = attach_to(&fixture, &to, &hostdev(NIC, ""), Affects::Live).expect("a port");
        let text = attached.device.text();
        let driver = "<driver name='vfio' model='mlx5_vfio_pci'/>";
        assert!(text.contains(driver), "{text}");
        assert!(!text.contains("type='pci' domain='0'"), "{text}");
        assert!(attached.live);
        let plugged = |note: &&Note| note.code == Code::AtomicsHotplug;
        let notes = attached.notes.iter().filter(plugged).count();
        assert_eq!(notes, usize::from(need == "prefer"), "{need}");
        let complete = attach_to(&fixture, &to, text, Affects::Live).expect("complete");
        assert_eq!(complete.device.text(), text);
    }
}

#[test]
fn device_for_a_running_guest_without_a_free_port_is_refused() {
    let ignore = with(PLAIN);
    for fixture in [ported("prefer"), ignore] {
        let refusal = attach_to(&fixture, &running(1, 1), &hostdev(NIC, ""), Affects::Live);
        let refusal = refusal.expect_err("no port");
        assert_eq!(refusal.code, Code::AtomicsGuestNoPort);
        let text = refusal.to_string();
        for part in ["pcie-root-port", "'virsh edit d0'", NIC] {
            assert!(text.contains(part), "{text}");
        }
        let config = attach_to(&fixture, &running(1, 1), &hostdev(NIC, ""), Affects::Config);
        assert!(!config.expect("a start can add a port").live);
    }
}

#[test]
fn device_with_an_address_is_judged_there_in_a_running_guest() {
    let fixture = ported("prefer");
    let at = |bus, slot| {
        let place =
            format!("<address type='pci' domain='0' bus='{bus}' slot='{slot}' function='0'/>");
        attach_to(
            &fixture,
            &running(2, 1),
            &hostdev(NIC, &place),
            Affects::Live,
        )
    };
    let attached = at(2, 0).expect("the free port");
    assert!(attached.device.text().contains("bus='2'"));
    // The root bus is no root port; libvirt itself refuses a port that has a device.
    let refusal = at(0, 5).expect_err("the root bus");
    assert_eq!(refusal.code, Code::GuestNotOnRootPort);
}

#[test]
fn required_atomics_refuse_a_device_for_a_running_guest() {
    let mut fixture = ported("require");
    let nic = fixture
        .host
        .devices
        .get_mut(&NIC.parse().expect("an address"));
    // A function without PCI Express has no AtomicOps.
    nic.expect("a NIC").config = kernel_glue::config::Config::Conventional;
    let place = "<address type='pci' domain='0' bus='2' slot='0' function='0'/>";
    let device = hostdev(NIC, place);
    let refusal = attach_to(&fixture, &running(2, 1), &device, Affects::Live);
    assert_eq!(
        refusal.expect_err("no AtomicOps").code,
        Code::AtomicsLacking
    );
}
