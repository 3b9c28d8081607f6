//! Completing again after recipe, host or device list changed: what we added is replaced, and nothing else.

use kernel_glue::device::Bar;

use super::*;
use crate::fixture::{revert, rewrite, verify};
use crate::plan::testing::{Fixture, address, device, guest, hostdev};
use crate::recipe::Recipes;

const RECIPE: &str = include_str!("../../recipes/nvidia-grace.toml");

/// The recipe with Kata's distance from CPUs to initiators.
fn far() -> String {
    RECIPE.replace("raise_ten_to = 11", "raise_ten_to = 11\ncpu_distance = 254")
}

fn with(recipe: &str) -> Fixture {
    let recipes = Recipes::of(&[recipe]);
    Fixture {
        recipes,
        ..Fixture::new()
    }
}

#[test]
fn another_recipe_replaces_what_the_old_one_added() {
    let text = guest(&hostdev("0009:01:00.0", ""));
    let old = Fixture::new().rewrite(&text).text;
    let edited = old.replace("<vcpu>4</vcpu>", "<vcpu>6</vcpu><!-- mine -->");
    let kata = with(&far());
    let got = kata.rewrite(&edited).text;
    assert!(
        got.contains("value='254'")
            && !got.contains("value='80'")
            && got.contains("<vcpu>6</vcpu><!-- mine -->"),
        "{got}"
    );
    assert_eq!(kata.rewrite(&got).text, got);
    let base = text.replace("<vcpu>4</vcpu>", "<vcpu>6</vcpu><!-- mine -->");
    assert_eq!(revert(&got).expect("reverted"), base);
}

#[test]
fn another_host_replaces_the_distances() {
    let text = guest(&hostdev("0009:01:00.0", ""));
    let mut fixture = Fixture::new();
    let old = fixture.rewrite(&text).text;
    for node in &mut fixture.host.numa.nodes {
        for distance in node
            .distances
            .iter_mut()
            .filter(|distance| **distance == 80)
        {
            *distance = 90;
        }
    }
    let got = fixture.rewrite(&old).text;
    assert!(
        old.contains("value='80'") && !got.contains("value='80'") && got.contains("value='90'")
    );
}

#[test]
fn cells_of_a_removed_device_are_removed() {
    let (one, two) = (hostdev("0008:01:00.0", ""), hostdev("0009:01:00.0", ""));
    let fixture = Fixture::new();
    let both = fixture.rewrite(&guest(&format!("{one}{two}"))).text;
    let start = both.find("<hostdev").expect("hostdev");
    let end = both.find("</hostdev>").expect("hostdev") + "</hostdev>".len();
    let without = format!("{}{}", both[..start].trim_end(), &both[end..]);
    let got = fixture.rewrite(&without);
    assert_eq!(got.text, fixture.rewrite(&guest(&two)).text);
    let none = guest("").replace("<devices>", "<devices><!-- x -->");
    assert_eq!(fixture.rewrite(&none).text, none);
}

/// Two cells, each bound to a socket.
fn two_sockets(devices: &str) -> String {
    let cells = "<cpu mode='host-passthrough'><numa><cell id='0' cpus='0-1' memory='2097152'/><cell id='1' cpus='2-3' memory='2097152'/></numa></cpu>";
    let bound = "<numatune><memnode cellid='0' mode='strict' nodeset='0'/><memnode cellid='1' mode='strict' nodeset='1'/></numatune><os>";
    guest(devices)
        .replace("<cpu mode='host-passthrough'/>", cells)
        .replace("<os>", bound)
}

#[test]
fn a_gpu_that_is_exchanged_in_a_completed_definition_is_planned_as_in_a_fresh_one() {
    let fixture = Fixture::new();
    let (near, far) = (
        two_sockets(&hostdev("0008:01:00.0", "")),
        two_sockets(&hostdev("0019:01:00.0", "")),
    );
    let exchanged = fixture
        .rewrite(&near)
        .text
        .replacen("domain='0x0008'", "domain='0x0019'", 1);
    assert_eq!(revert(&exchanged).expect("reverted"), far);
    let got = fixture.rewrite(&exchanged);
    assert_eq!(got.text, fixture.rewrite(&far).text);
    assert!(got.text.contains("<node>1</node>"), "{}", got.text);
    assert!(got.plan.notes.iter().any(|note| note.code == Code::MarkOld));
}

#[test]
fn two_gpus_that_change_places_are_planned_as_in_a_fresh_definition() {
    let fixture = Fixture::new();
    let (one, other) = (hostdev("0008:01:00.0", ""), hostdev("0019:01:00.0", ""));
    let text = fixture.rewrite(&two_sockets(&(one.clone() + &other))).text;
    let swapped = text
        .replacen("domain='0x0008'", "domain='0xffff'", 1)
        .replacen("domain='0x0019'", "domain='0x0008'", 1)
        .replacen("domain='0xffff'", "domain='0x0019'", 1);
    let fresh = two_sockets(&(other + &one));
    assert_eq!(revert(&swapped).expect("reverted"), fresh);
    assert_eq!(fixture.rewrite(&swapped).text, fixture.rewrite(&fresh).text);
}

#[test]
fn a_gpu_that_changes_places_with_another_device_is_planned_as_in_a_fresh_definition() {
    let mut fixture = Fixture::new();
    let mut hopper = device("0003:01:00.0", "10de:2330", 0);
    hopper.bars[2] = Bar {
        size: 128 << 30,
        flags: 0x0014_220c,
    };
    fixture.host.devices.insert(hopper.address, hopper);
    let on_port = "<address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>";
    let two = |first: &str, second: &str| {
        let devices = hostdev(first, on_port) + &hostdev(second, "");
        guest(&devices)
            .replace("aarch64", "x86_64")
            .replace("'virt'", "'q35'")
            .replace(
                "index='0' model='pcie-root'",
                "index='1' model='pcie-root-port'",
            )
    };
    let done = fixture.rewrite(&two("0003:01:00.0", "0002:01:00.0")).text;
    let swapped = done
        .replacen("domain='0x0003'", "domain='0xffff'", 1)
        .replacen("domain='0x0002'", "domain='0x0003'", 1)
        .replacen("domain='0xffff'", "domain='0x0002'", 1);
    let fresh = two("0002:01:00.0", "0003:01:00.0");
    assert_eq!(fixture.rewrite(&swapped).text, fixture.rewrite(&fresh).text);
}

#[test]
fn an_address_that_is_removed_leaves_no_expander_bus_port_or_smmu_behind() {
    let mut fixture = Fixture::new();
    fixture.host.iommufd = true;
    let gpu = fixture.host.devices.get_mut(&address("0008:01:00.0"));
    gpu.expect("gpu").iommu = Some("smmu3.0x1".to_owned());
    let text = guest(&hostdev("0008:01:00.0", ""));
    let done = fixture.rewrite(&text).text;
    assert!(done.contains("smmuv3"), "{done}");
    let domain = Domain::parse(&done).expect("read");
    let address = domain.hostdevs[0]
        .address_element
        .as_ref()
        .expect("address");
    let without = edit::apply(&done, &[address.remove()]).expect("one edit");
    assert_eq!(fixture.rewrite(&without).text, done);
    assert_eq!(revert(&without).expect("reverted"), text);
}

#[test]
fn edited_values_of_added_elements_are_planned_again() {
    let fixture = Fixture::new();
    let done = fixture
        .rewrite(&two_sockets(&hostdev("0019:01:00.0", "")))
        .text;
    for (from, to) in [
        ("<node>1</node>", "<node>0</node>"),
        ("value='80'", "value='81'"),
        ("value='120'", "value='121'"),
    ] {
        assert!(done.contains(from), "{done}");
        let edited = done.replacen(from, to, 1);
        assert_eq!(fixture.rewrite(&edited).text, done, "{to}");
    }
    assert_eq!(fixture.rewrite(&done).plan.changes, []);
}

#[test]
fn revert_keeps_another_device_on_our_port() {
    let fixture = Fixture::new();
    let done = fixture.rewrite(&guest(&hostdev("0008:01:00.0", ""))).text;
    let port =
        "      <address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x0'/>\n";
    let nic = hostdev("0002:01:00.0", port);
    let both = done.replace("  </devices>", &format!("{nic}  </devices>"));
    let back = revert(&both).expect("reverted");
    assert!(
        back.contains(&nic) && back.contains("pcie-root-port"),
        "{back}"
    );
}

#[test]
fn an_address_that_was_replaced_once_is_replaced_again() {
    let wrong =
        "      <address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x0'/>\n";
    let text = guest(&hostdev("0009:01:00.0", wrong));
    let fixture = Fixture::new();
    let input = PlanInput {
        replace: true,
        ..fixture.input()
    };
    let old = rewrite(&text, &input).expect("replaced").text;
    let again = rewrite(&old, &with(&far()).input());
    let got = again.expect("replaced without being asked for again").text;
    assert!(got.contains("value='254'"), "{got}");
    assert_eq!(revert(&got).expect("reverted"), text);
    assert!(
        Domain::parse(&got)
            .expect("read")
            .is_marked(address("0009:01:00.0"))
    );
}

#[test]
fn a_start_after_a_change_of_the_recipe_is_refused_with_the_prepare_command() {
    let fixture = Fixture::new();
    let all: String = crate::plan::testing::GPUS
        .iter()
        .map(|(at, _)| hostdev(at, ""))
        .collect();
    let old = fixture.rewrite(&guest(&all)).text;
    let mut four = with(&RECIPE.replace("cells = 8", "cells = 4"));
    four.host.srat = Some(kernel_glue::srat::Srat {
        initiators: crate::plan::testing::GPUS
            .iter()
            .zip([2, 10, 18, 26])
            .map(|((at, _), head)| {
                (
                    address(at),
                    (head..head + 4).map(crate::plan::testing::node).collect(),
                )
            })
            .collect(),
    });
    let refusal = verify(&old, &four.input()).expect_err("eight cells each");
    assert_eq!(refusal.code, Code::MarkMissing, "{refusal}");
    let again = four.rewrite(&old).text;
    verify(&again, &four.input()).expect("prepared again");
}

#[test]
fn a_changed_address_is_kept() {
    let port = "    <controller type='pci' index='1' model='pcie-root-port'/>\n";
    let given =
        "      <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>\n";
    let text = guest(&format!("{port}{}", hostdev("0009:01:00.0", given)));
    let from_libvirt = |fixture: &Fixture, text: &str| {
        let input = PlanInput {
            formatted: true,
            ..fixture.input()
        };
        rewrite(text, &input).expect("planned").text
    };
    let moved = from_libvirt(&Fixture::new(), &text);
    let place = |bus: &str| format!("bus='{bus}' slot='0x00' function='0x0'/>\n      <acpi");
    assert!(moved.contains(&place("0x03")), "{moved}");
    let again = from_libvirt(&with(&far()), &moved);
    assert!(
        again.contains(&place("0x03")) && again.contains("value='254'"),
        "{again}"
    );
    let chosen = moved.replace(&place("0x03"), &place("0x01"));
    let kept = from_libvirt(&with(&far()), &chosen);
    assert!(
        kept.contains(&place("0x01")) && kept.contains("value='254'"),
        "{kept}"
    );
}

#[test]
fn an_acpi_element_of_the_users_gets_the_nodes_and_keeps_its_index() {
    let text = guest(&hostdev("0009:01:00.0", "<acpi index='3'/>"));
    let done = Fixture::new().rewrite(&text).text;
    assert!(done.contains("<acpi nodeset='1-8' index='3'/>"), "{done}");
    assert_eq!(Fixture::new().rewrite(&done).text, done);
    assert_eq!(revert(&done).expect("reverted"), text);
    // In the order in which another client may write it.
    let printed = done.replace("nodeset='1-8' index='3'", "index='3' nodeset='1-8'");
    assert_eq!(revert(&printed).expect("reverted"), text);
}

#[test]
fn the_users_arguments_are_kept_without_a_mark() {
    let own = "</devices><qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\
        <qemu:arg value='-numa'/><qemu:arg value='dist,src=0,dst=0,val=10'/></qemu:commandline>";
    let text = guest(&hostdev("0009:01:00.0", "")).replace("</devices>", own);
    let done = Fixture::new().rewrite(&text).text;
    assert_eq!(Fixture::new().rewrite(&done).text, done);
    assert_eq!(revert(&done).expect("reverted"), text);
}

/// libvirt has no `<memnode>` without cells; a file that was never defined may.
#[test]
fn a_new_first_cell_is_on_the_node_of_its_memnode() {
    let nodes = "<numatune><memnode cellid='0' mode='strict' nodeset='1'/></numatune><devices>";
    let text = guest(&hostdev("0009:01:00.0", "")).replace("<devices>", nodes);
    let fixture = Fixture::new();
    // Its distances are arguments, which are written again each time.
    let target = "libvirt=11.3,qemu=10.0".parse().expect("target");
    let input = PlanInput {
        target,
        ..fixture.input()
    };
    let done = rewrite(&text, &input).expect("completed").text;
    assert!(done.contains("'dist,src=0,dst=1,val="), "{done}");
    let twice = rewrite(&done, &input).expect("complete");
    assert_eq!(twice.text, done);
}

/// A guest with a device on a root port of the user's own.
fn on_a_port(device: &str) -> String {
    let port = "    <controller type='pci' index='1' model='pcie-root-port'/>\n";
    let given =
        "      <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>\n";
    guest(&format!("{port}{}", hostdev(device, given)))
}

#[test]
fn a_device_identified_by_our_driver_alone_is_exchanged() {
    let mut fixture = Fixture::new();
    let nic = fixture.host.devices.get_mut(&address("0002:01:00.0"));
    nic.expect("nic").id = "15b3:101e".parse().expect("id");
    let done = fixture.rewrite(&on_a_port("0002:01:00.0")).text;
    assert!(
        done.contains("added='driver' driver='mlx5_vfio_pci'"),
        "{done}"
    );
    let exchanged = done.replacen("domain='0x0002'", "domain='0x0009'", 1);
    let fresh = on_a_port("0009:01:00.0");
    assert_eq!(revert(&exchanged).expect("reverted"), fresh);
    assert_eq!(
        fixture.rewrite(&exchanged).text,
        fixture.rewrite(&fresh).text
    );
    // A driver that the user names instead is kept.
    let named = exchanged.replace("model='mlx5_vfio_pci'", "model='vfio-pci'");
    assert!(
        revert(&named)
            .expect("reverted")
            .contains("model='vfio-pci'")
    );
    let refusal = fixture.refusal(&named);
    assert_eq!(refusal.code, Code::DriverWrong, "{refusal}");
}

#[test]
fn a_window_whose_size_the_user_changed_is_kept_or_refused_with_both_sizes() {
    let fixture = Fixture::new();
    let text = guest(&hostdev("0008:01:00.0", ""));
    let done = fixture.rewrite(&text).text;
    let window = |gib: u64| format!("<pcihole64 unit='KiB'>{}</pcihole64>", gib << 20);
    assert!(done.contains(&window(1024)), "{done}");
    let larger = done.replace(&window(1024), &window(4096));
    for edited in [
        larger.clone(),
        larger.replacen("domain='0x0008'", "domain='0x0019'", 1),
    ] {
        let again = fixture.rewrite(&edited).text;
        assert!(again.contains(&window(4096)), "{again}");
        assert_eq!(fixture.rewrite(&again).text, again);
        let back = revert(&again).expect("reverted");
        assert!(back.contains(&window(4096)), "{back}");
    }
    let smaller = done.replace(&window(1024), &window(512));
    let refusal = fixture.refusal(&smaller);
    assert_eq!(refusal.code, Code::WindowWrong);
    for size in ["536870912 KiB", "1073741824 KiB"] {
        assert!(refusal.reason.contains(size), "{refusal}");
    }
}

#[test]
fn an_address_width_that_the_user_changed_stays() {
    let text = guest(&hostdev("0002:01:00.0", ""));
    let ours = "<maxphysaddr mode='passthrough'/>";
    let cpu = |width: &str| format!("<cpu mode='host-model'>{width}</cpu>");
    let mark = "<metadata><variantd:prepared xmlns:variantd='urn:variantd:1' version='0' digest='d' added='width'/></metadata><memory";
    let of = |width: &str| {
        text.replace("<cpu mode='host-passthrough'/>", &cpu(width))
            .replacen("<memory", mark, 1)
    };
    let reverted = |width: &str| revert(&of(width)).expect("reverted");
    assert!(!reverted(ours).contains("maxphysaddr"));
    let theirs = "<maxphysaddr mode='passthrough' limit='48'/>";
    assert!(reverted(theirs).contains(theirs));
}

#[test]
fn a_plan_for_a_comparison_is_that_of_the_rewrite_without_its_mark() {
    let all = crate::plan::testing::GPUS.iter();
    let all: String = all.map(|(gpu, _)| hostdev(gpu, "")).collect();
    let fixture = Fixture::new();
    let one = guest(&hostdev("0009:01:00.0", ""));
    let completed = fixture.rewrite(&one).text;
    let older = "libvirt=11.3,qemu=10.0".parse::<crate::target::Versions>();
    let older = older.expect("versions");
    for (text, is_plain) in [
        (guest(""), true),
        (guest(&all), true),
        (one, true),
        (completed, false),
    ] {
        for target in [fixture.input().target, older.into()] {
            let input = PlanInput {
                target,
                ..fixture.input()
            };
            let definition: Definition = text.parse().expect("a definition");
            let mut wanted = super::rewrite(&definition, &input).map(|done| done.plan);
            if let (Ok(plan), true) = (&mut wanted, is_plain) {
                plan.changes.retain(|one| one.code != Code::MarkMissing);
                plan.digest.clear();
            }
            assert_eq!(planned(&definition, &input), wanted, "{text}");
        }
    }
}
