//! Plans for the modelled host, and what they leave alone.

use std::collections::BTreeMap;

use kernel_glue::srat::Srat;
use proptest::prelude::*;

use super::testing::*;
use super::*;
use crate::fixture::{rewrite, verify};

#[test]
fn a_plain_hostdev_gets_cells_distances_nodeset_port_window_and_mark() {
    let fixture = Fixture::new();
    let got = fixture.rewrite(&guest(&hostdev("0009:01:00.0", "")));
    insta::assert_snapshot!(got.text);
}

#[test]
fn rewriting_twice_is_rewriting_once() {
    let fixture = Fixture::new();
    let once = fixture
        .rewrite(&guest(
            &(hostdev("0018:01:00.0", "") + &hostdev("0009:01:00.0", "")),
        ))
        .text;
    let twice = fixture.rewrite(&once);
    assert_eq!(twice.plan.changes, []);
    assert_eq!(twice.text, once);
    verify(&once, &fixture.input()).expect("a completed definition passes");
}

#[test]
fn the_third_and_fourth_gpu_get_their_own_nodes() {
    let plan = Fixture::new()
        .rewrite(&guest(
            &(hostdev("0018:01:00.0", "") + &hostdev("0019:01:00.0", "")),
        ))
        .plan;
    let nodes: Vec<Vec<u32>> = plan
        .devices
        .iter()
        .map(|one| one.host_nodes.iter().map(|n| (*n).into()).collect())
        .collect();
    assert_eq!(nodes, [(18..26).collect::<Vec<_>>(), (26..34).collect()]);
}

#[test]
fn cells_do_not_depend_on_the_order_of_hostdevs() {
    let fixture = Fixture::new();
    let (a, b) = (hostdev("0008:01:00.0", ""), hostdev("0019:01:00.0", ""));
    let devices = |text: &str| fixture.rewrite(text).plan.devices;
    assert_eq!(
        devices(&guest(&format!("{a}{b}"))),
        devices(&guest(&format!("{b}{a}")))
    );
}

#[test]
fn srat_decides_when_it_can_be_read() {
    let mut fixture = Fixture::new();
    let nodes: Vec<NumaNode> = (26..34).map(node).collect();
    fixture.host.srat = Some(Srat {
        initiators: BTreeMap::from([(address("0008:01:00.0"), nodes.clone())]),
    });
    let plan = fixture.rewrite(&guest(&hostdev("0008:01:00.0", ""))).plan;
    assert_eq!(plan.devices[0].host_nodes, nodes);
}

#[test]
fn a_numa_node_that_heads_a_group_decides() {
    let mut fixture = Fixture::new();
    for (position, (at, _)) in GPUS.iter().enumerate() {
        let head = node(2 + 8 * u32::try_from(position).expect("small"));
        fixture
            .host
            .devices
            .get_mut(&address(at))
            .expect("gpu")
            .numa_node = Some(head);
    }
    let plan = fixture.rewrite(&guest(&hostdev("0019:01:00.0", ""))).plan;
    assert_eq!(plan.devices[0].host_nodes[0], node(26));
}

#[test]
fn groups_that_differ_are_not_given_out_by_position() {
    let mut fixture = Fixture::new();
    fixture.host.numa.nodes[10].distances[0] = 81;
    fixture.host.numa.nodes[10].distances[1] = 119;
    assert_eq!(
        fixture.refusal(&guest(&hostdev("0008:01:00.0", ""))).code,
        Code::InitiatorsUnknown
    );
}

#[test]
fn initiators_of_other_devices_make_it_a_refusal_not_a_shift() {
    let mut fixture = Fixture::new();
    fixture.host.numa.generic_initiators = Some((2..33).collect());
    assert_eq!(
        fixture.refusal(&guest(&hostdev("0008:01:00.0", ""))).code,
        Code::InitiatorsUnknown
    );
}

#[test]
fn a_domain_without_a_recipes_device_is_returned_byte_for_byte() {
    let text = guest(&hostdev("0002:01:00.0", "")).replace('\n', "\r\n");
    let got = Fixture::new().rewrite(&text);
    assert_eq!((got.text, got.plan.devices.len()), (text, 0));
}

#[test]
fn only_insertions_are_made() {
    let text = guest(&hostdev("0009:01:00.0", ""));
    let got = Fixture::new().rewrite(&text);
    for edit in got.plan.edits() {
        let replaced = &text[edit.span.clone()];
        assert!(
            replaced.is_empty() || replaced == "/>",
            "{replaced:?} was replaced"
        );
    }
    assert!(got.text.contains("<!-- the user's -->") && got.text.contains("type=\"pci\""));
}

#[test]
fn a_guest_address_that_breaks_a_rule_is_refused_with_both_values() {
    let fixture = Fixture::new();
    let at = |attributes: &str| {
        guest(&format!(
            "    <controller type='pci' index='1' model='pcie-root-port'/>\n    <controller type='pci' index='2' model='pcie-switch-downstream-port'/>\n{}",
            hostdev(
                "0009:01:00.0",
                &format!("      <address type='pci' {attributes}/>\n")
            )
        ))
    };
    let cases = [
        ("bus='0x01' slot='0x01' function='0'", Code::GuestSlot),
        ("bus='0x01' slot='0x00' function='1'", Code::GuestFunction),
        (
            "bus='0x01' slot='0x00' function='0' multifunction='on'",
            Code::GuestMultifunction,
        ),
        (
            "bus='0x00' slot='0x01' function='0'",
            Code::GuestNotOnRootPort,
        ),
        (
            "bus='0x02' slot='0x00' function='0'",
            Code::GuestNotOnRootPort,
        ),
        // libvirt adds a root port for this bus.
        ("bus='0x09' slot='0x01' function='0'", Code::GuestSlot),
    ];
    for (attributes, code) in cases {
        let refusal = fixture.refusal(&at(attributes));
        assert_eq!(refusal.code, code, "{attributes}: {refusal}");
        assert!(
            refusal
                .to_string()
                .contains("variantctl prepare --replace d0"),
            "{refusal}"
        );
    }
    fixture.rewrite(&at("bus='0x01' slot='0x00' function='0'"));
    fixture.rewrite(&at("bus='0x09' slot='0x00' function='0'"));
    // libvirt reads this as a request for an address.
    let chosen = fixture.rewrite(&at("bus='0x00' slot='0x00' function='0'"));
    assert_eq!(
        chosen.text.matches("<address type='pci'").count(),
        2,
        "{}",
        chosen.text
    );
}

#[test]
fn a_guest_that_qemu_does_not_run_is_left_alone() {
    let fixture = Fixture::new();
    let text = guest(&hostdev("0009:01:00.0", ""));
    for kind in ["xen", "lxc", "vz", "bhyve"] {
        let other = text.replace("<domain type='kvm'>", &format!("<domain type='{kind}'>"));
        assert_eq!(fixture.rewrite(&other).text, other, "{kind}");
    }
    for kind in ["qemu", "hvf"] {
        let own = text.replace("<domain type='kvm'>", &format!("<domain type='{kind}'>"));
        assert_ne!(fixture.rewrite(&own).text, own, "{kind}");
    }
}

#[test]
fn without_a_machine_the_guest_has_libvirts_default() {
    let fixture = Fixture::new();
    let text = guest(&hostdev("0009:01:00.0", "")).replace(" machine='virt'", "");
    let completed = fixture.rewrite(&text).text;
    assert!(completed.contains("<pcihole64"), "{completed}");
    let refusal = fixture.refusal(&text.replace("aarch64", "x86_64"));
    assert_eq!(refusal.code, Code::TargetMachine, "{refusal}");
    assert!(
        refusal.reason.contains("x86_64/pc, libvirt's default"),
        "{refusal}"
    );
}

#[test]
fn elements_of_another_namespace_are_not_libvirts() {
    let fixture = Fixture::new();
    let text = guest(&hostdev("0009:01:00.0", ""))
        .replace("<domain ", "<domain xmlns:e='http://example.org/e' ")
        .replace("<hostdev", "<e:hostdev")
        .replace("</hostdev>", "</e:hostdev>");
    assert_eq!(fixture.rewrite(&text).text, text);
    let source = guest(&hostdev("0009:01:00.0", ""))
        .replace("<domain ", "<domain xmlns:e='http://example.org/e' ")
        .replace("<features>", "<e:cpu><numa/></e:cpu><features>")
        .replace("<devices>", "<e:devices/><devices>");
    let completed = fixture.rewrite(&source).text;
    assert!(completed.contains("<e:cpu><numa/></e:cpu>"), "{completed}");
    assert!(completed.contains("<e:devices/>"), "{completed}");
}

#[test]
fn replace_gives_a_contradicting_address_a_port_of_its_own() {
    let fixture = Fixture::new();
    let text = guest(&hostdev(
        "0009:01:00.0",
        "      <address type='pci' bus='0x00' slot='0x05' function='0x0'/>\n",
    ));
    let input = PlanInput {
        replace: true,
        ..fixture.input()
    };
    let got = rewrite(&text, &input).expect("replaced");
    verify(&got.text, &fixture.input()).expect("passes without replace now");
    assert!(!got.text.contains("slot='0x05'"));
}

#[test]
fn a_removed_nodeset_gets_its_own_cells_back() {
    let fixture = Fixture::new();
    let once = fixture.rewrite(&guest(&hostdev("0009:01:00.0", ""))).text;
    let damaged = once.replace("      <acpi nodeset='1-8'/>\n", "");
    assert_ne!(damaged, once);
    let refusal = verify(&damaged, &fixture.input()).expect_err("initiators are gone");
    assert_eq!(refusal.code, Code::NodesetMissing);
    assert!(
        refusal.to_string().contains("0009:01:00.0")
            && refusal.to_string().contains("variantctl prepare d0")
    );
    assert_eq!(
        fixture.rewrite(&damaged).plan.devices[0].cells.to_string(),
        "1-8"
    );
}

#[test]
fn a_nodeset_that_names_the_wrong_cells_is_refused() {
    let fixture = Fixture::new();
    for nodeset in ["1-8", "0-7", "1-4"] {
        let refusal = fixture.refusal(&guest(&hostdev(
            "0009:01:00.0",
            &format!("      <acpi nodeset='{nodeset}'/>\n"),
        )));
        assert_eq!(refusal.code, Code::NodesetWrong, "{nodeset}");
    }
}

#[test]
fn a_bound_cell_takes_the_distances_of_its_node() {
    let text = guest(&hostdev("0009:01:00.0", "")).replace(
        "  <cpu mode='host-passthrough'/>\n",
        "  <numatune>\n    <memnode cellid='0' mode='strict' nodeset='1'/>\n  </numatune>\n  <cpu>\n    <numa>\n      <cell id='0' cpus='0-3' memory='4194304'/>\n    </numa>\n  </cpu>\n",
    );
    let got = Fixture::new().rewrite(&text);
    assert!(
        got.text.contains("<sibling id='1' value='120'/>"),
        "{}",
        got.text
    );
    assert!(
        got.plan
            .notes
            .iter()
            .all(|note| note.code != Code::CellUnbound)
    );
}

#[test]
fn a_window_is_never_shrunk_and_a_small_one_is_refused() {
    let fixture = Fixture::new();
    let with = |kib: u64| {
        guest(&hostdev("0009:01:00.0", "")).replace(
            "model='pcie-root'/>",
            &format!("model='pcie-root'><pcihole64 unit='KiB'>{kib}</pcihole64></controller>"),
        )
    };
    let large = with(1 << 33);
    assert!(
        fixture
            .rewrite(&large)
            .text
            .contains("<pcihole64 unit='KiB'>8589934592</pcihole64>")
    );
    assert_eq!(fixture.refusal(&with(1 << 29)).code, Code::WindowWrong);
    assert_eq!(
        fixture.refusal(&with((1 << 30) + 1)).code,
        Code::WindowWrong
    );
}

#[test]
fn a_missing_device_is_named() {
    let refusal = Fixture::new().refusal(&guest(&hostdev("0042:01:00.0", "")));
    assert_eq!(refusal.code, Code::DeviceMissing);
    assert!(
        refusal.to_string().starts_with("'0042:01:00.0': "),
        "{refusal}"
    );
}

#[test]
fn a_device_without_initiators_gets_a_port_and_no_nodeset() {
    let mut fixture = Fixture::new();
    let nic = device("0002:01:00.1", "15b3:101e", 0);
    fixture.host.devices.insert(nic.address, nic);
    let nic = hostdev("0002:01:00.1", "").replace("function='0x0'", "function='0x1'");
    let got = fixture.rewrite(&guest(&(hostdev("0009:01:00.0", "") + &nic)));
    assert_eq!(got.text.matches("<acpi nodeset='1-8'/>").count(), 1);
    assert_eq!(got.text.matches("<acpi nodeset").count(), 1);
    assert_eq!(got.text.matches("model='pcie-root-port'").count(), 2);
    assert_eq!(fixture.rewrite(&got.text).text, got.text);
}

#[test]
fn a_device_that_waits_for_a_request_is_left_alone_until_it_is_marked() {
    let mut fixture = Fixture::new();
    let gpu = device("0002:02:00.0", "1002:74a1", 0);
    fixture.host.devices.insert(gpu.address, gpu);
    let text = guest(&hostdev("0002:02:00.0", ""))
        .replace("aarch64", "x86_64")
        .replace("'virt'", "'q35'");
    let unasked = verify(&text, &fixture.input()).expect("not requested");
    assert_eq!(unasked.devices, []);
    let got = fixture.rewrite(&text).text;
    let damaged = got.replace(
        "slot='0x00' function='0x0'/>\n    </hostdev>",
        "slot='0x00' function='0x1'/>\n    </hostdev>",
    );
    assert_ne!(damaged, got);
    assert_eq!(
        verify(&got, &fixture.input())
            .expect("prepared")
            .devices
            .len(),
        1
    );
    assert_eq!(
        verify(&damaged, &fixture.input())
            .expect_err("damaged")
            .code,
        Code::GuestFunction
    );
}

#[test]
fn one_device_in_two_hostdevs_is_refused() {
    let twice = hostdev("0009:01:00.0", "").repeat(2);
    assert_eq!(
        Fixture::new().refusal(&guest(&twice)).code,
        Code::DeviceTwice
    );
}

proptest! {
    #[test]
    fn completing_any_set_of_gpus_twice_changes_nothing(mask in 1u8..16, reversed: bool, bound in 0u32..3) {
        let fixture = Fixture::new();
        let mut chosen: Vec<String> = GPUS.iter().enumerate()
            .filter(|(bit, _)| mask & (1 << bit) != 0).map(|(_, (at, _))| hostdev(at, "")).collect();
        if reversed { chosen.reverse() }
        let memnode = format!("  <numatune>\n    <memnode cellid='0' mode='strict' nodeset='{bound}'/>\n  </numatune>\n  <cpu ");
        let text = guest(&chosen.concat()).replace("  <cpu ", &memnode);
        let once = fixture.rewrite(&text);
        prop_assert_eq!(&fixture.rewrite(&once.text).text, &once.text);
        let domain = Domain::parse(&once.text).expect("well-formed");
        prop_assert_eq!(domain.cells.len(), 1 + 8 * chosen.len());
        for cell in &domain.cells {
            prop_assert_eq!(cell.distances.len(), domain.cells.len());
            prop_assert_eq!(cell.distances[&cell.id], 10);
            prop_assert!(cell.distances.iter().all(|(id, value)| *id == cell.id || *value > 10));
        }
    }
}

/// The fixture whose host has distance 255 for the pairs that `chosen` names.
fn unreachable(chosen: impl Fn(usize, usize) -> bool) -> Fixture {
    let mut fixture = Fixture::new();
    for (from, node) in fixture.host.numa.nodes.iter_mut().enumerate() {
        for (to, distance) in node.distances.iter_mut().enumerate() {
            if from != to && chosen(from, to) {
                *distance = 255;
            }
        }
    }
    fixture
}

#[test]
fn an_unreachable_distance_within_one_gpu_becomes_that_of_the_recipe() {
    let within = |from: usize, to: usize| from.min(to) >= 2 && (from - 2) / 8 == (to - 2) / 8;
    let fixture = unreachable(within);
    let text = guest(&hostdev("0009:01:00.0", ""));
    let got = fixture.rewrite(&text);
    let cells = |text: &str| text[text.find("<cpu").expect("cells")..].to_owned();
    assert_eq!(cells(&got.text), cells(&Fixture::new().rewrite(&text).text));
    let notes = got.plan.notes.iter();
    let lowered = notes.filter(|note| note.code == Code::DistanceLowered);
    assert_eq!(lowered.count(), 1);
}

#[test]
fn an_unreachable_distance_outside_of_one_gpu_is_refused() {
    let fixture = unreachable(|from, to| from.min(to) >= 2 && (from - 2) / 8 != (to - 2) / 8);
    let gpus = hostdev("0009:01:00.0", "") + &hostdev("0019:01:00.0", "");
    let refusal = fixture.refusal(&guest(&gpus));
    assert_eq!(refusal.code, Code::DistanceMissing);
    assert!(refusal.reason.contains("is 255 (unreachable)"), "{refusal}");
}
