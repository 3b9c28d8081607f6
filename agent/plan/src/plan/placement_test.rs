//! User-written guest addresses: which are refused, which are kept, and the notes on them.

use super::testing::{Fixture, address, device, guest, hostdev};
use super::{Plan, PlanInput};
use crate::fixture::rewrite;
use crate::recipe::Recipes;
use domain::Domain;
use domain::code::Code;
use domain::refusal::Refusal;

const NIC: &str = "0003:01:00.0";
const HOPPER: &str = "0004:01:00.0";
const INSTINCT: &str = "0005:01:00.0";
const GRACE: &str = "0009:01:00.0";

/// Root ports at 1 and 5, a switch with a downstream port at 3, a conventional bridge at 4.
const PORTS: &str = "    <controller type='pci' index='1' model='pcie-root-port'/>\n\
    <controller type='pci' index='2' model='pcie-switch-upstream-port'><address type='pci' bus='1' slot='0'/></controller>\n\
    <controller type='pci' index='3' model='pcie-switch-downstream-port'><address type='pci' bus='2' slot='0'/></controller>\n\
    <controller type='pci' index='4' model='pcie-to-pci-bridge'/>\n\
    <controller type='pci' index='5' model='pcie-root-port'/>\n";

fn fixture() -> Fixture {
    let mut fixture = Fixture::new();
    for (at, id) in [
        (NIC, "15b3:101e"),
        (HOPPER, "10de:2330"),
        (INSTINCT, "1002:74a1"),
    ] {
        fixture.host.devices.insert(address(at), device(at, id, 0));
    }
    fixture
}

fn text(device: &str, place: &str) -> String {
    let at = format!("      <address type='pci' {place}/>\n");
    guest(&(PORTS.to_owned() + &hostdev(device, &at)))
        .replace("aarch64", "x86_64")
        .replace("'virt'", "'q35'")
}

fn planned(device: &str, place: &str, replace: bool) -> Result<(Plan, String), Refusal> {
    let fixture = fixture();
    let input = PlanInput {
        replace,
        ..fixture.input()
    };
    let done = rewrite(&text(device, place), &input)?;
    Ok((done.plan, done.text))
}

fn kept(plan: &Plan) -> Vec<&str> {
    let notes = plan
        .notes
        .iter()
        .filter(|note| note.code == Code::GuestPlaceKept);
    notes.map(|note| note.text.as_str()).collect()
}

#[test]
fn the_bus_is_checked_before_the_slot_and_all_faults_are_listed() {
    let port = Code::GuestNotOnRootPort;
    for (place, code, words) in [
        (
            "bus='0' slot='5'",
            port,
            &["bus 0 is of model 'pcie-root'"][..],
        ),
        (
            "bus='4' slot='5'",
            port,
            &["bus 4 is of model 'pcie-to-pci-bridge'"],
        ),
        (
            "bus='0' slot='5' function='2'",
            port,
            &["'pcie-root'", "is function 2", "VD-TOP-002"],
        ),
        (
            "bus='3' slot='1'",
            port,
            &[
                "'pcie-switch-downstream-port'",
                "slot 1, it must be slot 0 (VD-TOP-001)",
            ],
        ),
        ("bus='5' slot='5'", Code::GuestSlot, &["is slot 5"]),
        (
            "bus='5' function='1'",
            Code::GuestFunction,
            &["is function 1"],
        ),
        (
            "bus='5' slot='3' function='1' multifunction='on'",
            Code::GuestSlot,
            &["slot 3", "VD-TOP-002", "VD-TOP-003"],
        ),
        ("bus='1'", Code::GuestPortShared, &["another device"]),
    ] {
        for device in [GRACE, INSTINCT, HOPPER] {
            let refusal = planned(device, place, false).expect_err(place);
            assert_eq!(refusal.code, code, "{place}: {refusal}");
            for word in words {
                assert!(refusal.reason.contains(word), "{word}: {refusal}");
            }
            let on_bus = code == port && !place.contains("bus='3'");
            assert!(
                !on_bus || !refusal.reason.contains("must be slot"),
                "{refusal}"
            );
        }
    }
}

#[test]
fn an_allowed_address_is_kept_with_a_note() {
    let switch = "bus='3'";
    for device in [NIC, HOPPER] {
        let (plan, done) = planned(device, switch, false).expect("kept");
        let [note] = kept(&plan)[..] else {
            unreachable!("{:?}", plan.notes);
        };
        assert!(note.contains("placement.switch = true in recipe"), "{note}");
        assert!(note.contains("--replace d0"), "{note}");
        assert!(done.contains("bus='3'/>"), "{done}");
        let again = Domain::parse(&done).expect("a domain");
        let plan = super::plan(&fixture().input(), &again).expect("a plan");
        assert_eq!((plan.changes.len(), kept(&plan).len()), (0, 1));
        let (plan, done) = planned(device, switch, true).expect("moved");
        assert!(
            kept(&plan).is_empty() && done.contains("bus='0x06'"),
            "{done}"
        );
    }
    for device in [GRACE, INSTINCT] {
        let refusal = planned(device, switch, false).expect_err("required");
        assert_eq!(refusal.code, Code::GuestNotOnRootPort, "{refusal}");
    }
}

#[test]
fn a_driver_that_prefers_atomics_accepts_any_address() {
    for place in [
        "bus='0' slot='5'",
        "bus='5' function='1'",
        "bus='4' slot='1'",
    ] {
        let (plan, _) = planned(NIC, place, false).expect(place);
        let [note] = kept(&plan)[..] else {
            unreachable!("{:?}", plan.notes);
        };
        assert!(!note.contains("placement.switch"), "{note}");
    }
}

#[test]
fn placement_switch_accepts_the_users_switch_without_a_note() {
    let mut fixture = fixture();
    let recipe = include_str!("../../../recipes/mlx5.toml");
    let recipe = recipe.replace("[atomics]", "[placement]\nswitch = true\n[atomics]");
    fixture.recipes = Recipes::of(&[&recipe]);
    let done = fixture.rewrite(&text(NIC, "bus='3'"));
    assert!(kept(&done.plan).is_empty(), "{:?}", done.plan.notes);
}

#[test]
fn an_expander_that_the_user_wrote_needs_a_bus_number_for_each_port() {
    let with = |number: u32| {
        let expander = format!(
            "    <controller type='pci' index='6' model='pcie-expander-bus'><target busNr='{number}'/></controller>\n\
             <controller type='pci' index='7' model='pcie-root-port'><address type='pci' bus='6' slot='0'/></controller>\n\
             <controller type='pci' index='8' model='pcie-root-port'><address type='pci' bus='6' slot='1'/></controller>\n"
        );
        text(HOPPER, "bus='7'").replace("    <hostdev", &(expander + "    <hostdev"))
    };
    fixture().rewrite(&with(253));
    let refusal = fixture().refusal(&with(254));
    assert_eq!(refusal.code, Code::GuestBusNumbers, "{refusal}");
    assert!(
        refusal.hint.as_str().contains("'busNr' to 253"),
        "{refusal}"
    );
}

#[test]
fn elements_unknown_to_the_targets_libvirt_are_named() {
    let foreign = "<iommu model='intel'><driver pasid='on'/></iommu></devices>";
    let text = text(HOPPER, "bus='5'").replace("</devices>", foreign);
    let done = fixture().rewrite(&text);
    let notes = done
        .plan
        .notes
        .iter()
        .filter(|note| note.code == Code::XmlForeign);
    let notes: Vec<&str> = notes.map(|note| note.text.as_str()).collect();
    assert!(
        matches!(notes[..], [one] if one.contains("driver/@pasid")),
        "{notes:?}"
    );
}

/// libvirt 12.8 defines such a guest, and refuses it once a port is above: 'Invalid PCI address 0000:01:01.0. slot must be <= 0'.
#[test]
fn a_conventional_device_on_a_bus_without_a_controller_is_refused_before_a_port_is_added_above() {
    let fixture = fixture();
    let text = |devices: &str| {
        guest(&(devices.to_owned() + &hostdev(HOPPER, "")))
            .replace("aarch64", "x86_64")
            .replace("'virt'", "'q35'")
    };
    let sound = "<sound model='ich6'><address type='pci' bus='1' slot='1' function='0'/></sound>";
    let refused = rewrite(&text(sound), &fixture.input()).expect_err("a port above");
    assert_eq!(refused.code, Code::XmlValue);
    let printed = refused.to_string();
    assert!(printed.contains("guest address 0000:01:01.0"), "{printed}");
    assert!(
        printed.contains("index='1' model='pcie-to-pci-bridge'"),
        "{printed}"
    );
    // As the hint says.
    let bridge = "<controller type='pci' index='1' model='pcie-to-pci-bridge'/>";
    let done = rewrite(&text(&format!("{bridge}{sound}")), &fixture.input()).expect("a plan");
    assert!(
        done.text.contains("index='2' model='pcie-root-port'"),
        "{}",
        done.text
    );
}

/// The indexes were read from libvirt 12.8, which keeps ours and adds its own controllers after them.
#[test]
fn conventional_devices_without_an_address_do_not_change_the_index_of_an_added_port() {
    let fixture = fixture();
    let others = "<sound model='ich6'/><video><model type='vga'/></video><watchdog model='i6300esb'/>\
        <interface type='user'><model type='e1000'/></interface>";
    let bridge = "<controller type='pci' model='pcie-to-pci-bridge'/>";
    let port = "<controller type='pci' model='pcie-root-port'/>";
    for (controllers, index) in [
        (String::new(), 1),
        (bridge.to_owned(), 2),
        (format!("{port}{port}{bridge}"), 4),
    ] {
        let text = guest(&format!("{controllers}{others}{}", hostdev(HOPPER, "")));
        let text = text.replace("aarch64", "x86_64").replace("'virt'", "'q35'");
        let done = rewrite(&text, &fixture.input()).expect("a plan").text;
        let added = format!("index='{index}' model='pcie-root-port'");
        assert!(done.contains(&added), "{controllers}: {done}");
        let domain = Domain::parse(&done).expect("domain");
        let hostdev = domain.hostdevs[0].address.expect("an address");
        assert_eq!(u32::from(hostdev.at.bus()), index, "{controllers}");
    }
}
