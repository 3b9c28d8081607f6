//! Expander buses, SMMUs and iommufd: what is planned, left out with a note, or refused.

use std::collections::BTreeMap;

use super::testing::{Fixture, GPUS, address, guest, hostdev};
use super::{Plan, PlanInput};
use crate::fixture::revert;
use crate::fixture::{rewrite, verify};
use domain::Domain;
use domain::code::Code;
use domain::refusal::Refusal;

/// A host with iommufd. Each GPU has its own SMMU, or the first two share one.
pub(super) fn fixture(shared: bool) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.host.iommufd = true;
    for (position, (at, _)) in GPUS.iter().enumerate() {
        let own = if shared && position < 2 { 0 } else { position };
        let device = fixture.host.devices.get_mut(&address(at)).expect("gpu");
        device.iommu = Some(format!("smmu3.0x{own:016x}"));
    }
    fixture
}

pub(super) fn all() -> String {
    guest(
        &GPUS
            .iter()
            .map(|(at, _)| hostdev(at, ""))
            .collect::<String>(),
    )
}

/// Device to expander bus, and expander bus to busNr.
fn behind(text: &str) -> (BTreeMap<String, u32>, BTreeMap<u32, u8>) {
    let domain = Domain::parse(text).expect("well-formed");
    let bus = |index: u32| {
        domain
            .controller(index)
            .and_then(|c| c.address)
            .map(|a| a.at.bus())
    };
    let devices = domain.hostdevs.iter().map(|hostdev| {
        let port = hostdev.address.expect("an address").at.bus();
        (
            hostdev.source.to_string(),
            bus(port.into()).expect("a port on a bus").into(),
        )
    });
    let numbers = domain
        .controllers
        .iter()
        .filter_map(|c| Some((c.index, c.bus_number?)));
    (devices.collect(), numbers.collect())
}

/// `<driver>` of a hostdev of ours that uses iommufd.
pub(super) const THROUGH: &str = "<driver name='vfio' model='nvgrace_gpu_vfio_pci' iommufd='yes'/>";

pub(super) fn codes(plan: &Plan) -> Vec<Code> {
    plan.notes.iter().map(|note| note.code).collect()
}

#[test]
fn each_gpu_gets_an_expander_and_an_accelerated_smmu_with_the_hosts_attributes() {
    let text = all();
    let got = fixture(false).rewrite(&text);
    let (devices, numbers) = behind(&got.text);
    assert_eq!(
        numbers.values().copied().collect::<Vec<u8>>(),
        [254, 252, 250, 248]
    );
    for bus in devices.values() {
        let smmu = format!("<driver pciBus='{bus}' accel='on'/>");
        assert!(got.text.contains(&smmu), "{smmu}");
    }
    assert_eq!(got.text.matches(THROUGH).count(), GPUS.len());
    assert!(!got.text.contains("<iommufd"));
    assert!(!codes(&got.plan).contains(&Code::SmmuAssumed));
    assert_eq!(fixture(false).rewrite(&got.text).text, got.text);
    assert_eq!(revert(&got.text).expect("reverted"), text);
}

#[test]
fn gpus_behind_one_smmu_of_the_host_share_an_expander_with_a_port_each() {
    let got = fixture(true).rewrite(&all()).text;
    let (devices, numbers) = behind(&got);
    assert_eq!(devices["0008:01:00.0"], devices["0009:01:00.0"]);
    assert_eq!(
        numbers.values().copied().collect::<Vec<u8>>(),
        [253, 251, 249]
    );
    let one = devices["0008:01:00.0"];
    assert!(got.contains(&format!("bus='{one:#04x}' slot='0x00'")));
    assert!(got.contains(&format!("bus='{one:#04x}' slot='0x01'")));
    assert_eq!(got.matches("<iommu model='smmuv3'>").count(), 3);
}

#[test]
fn a_recipe_can_ask_for_one_per_device() {
    let mut fixture = fixture(true);
    let text = include_str!("../../../recipes/nvidia-grace.toml")
        .replace("per = \"iommu\"", "per = \"device\"");
    fixture.recipes = crate::recipe::Recipes::of(&[&text]);
    let (devices, _) = behind(&fixture.rewrite(&all()).text);
    assert_ne!(devices["0008:01:00.0"], devices["0009:01:00.0"]);
}

#[test]
fn an_expander_names_the_cell_whose_memory_is_of_the_devices_socket() {
    let cells = "<cpu mode='host-passthrough'>\n    <numa>\n      <cell id='0' cpus='0-1' memory='2097152' unit='KiB'/>\n      <cell id='1' cpus='2-3' memory='2097152' unit='KiB'/>\n    </numa>\n  </cpu>";
    let bound = "<numatune><memnode cellid='0' mode='strict' nodeset='1'/><memnode cellid='1' mode='strict' nodeset='0'/></numatune>\n  ";
    let guest = |numatune: &str| {
        let text = guest(&hostdev("0018:01:00.0", ""));
        text.replace(
            "<cpu mode='host-passthrough'/>",
            &format!("{numatune}{cells}"),
        )
    };
    let got = fixture(false).rewrite(&guest(bound));
    assert!(got.text.contains("<node>0</node>"), "{}", got.text);
    let unbound = fixture(false).rewrite(&guest(""));
    assert!(!unbound.text.contains("<node>"));
    assert!(codes(&unbound.plan).contains(&Code::ExpanderCellUnknown));
}

#[test]
fn a_missing_smmu_is_noted_or_refused_by_the_recipes_need() {
    type Change = fn(&mut Fixture);
    let cases: [(&str, &str, Change, &str); 6] = [
        (
            "libvirt=12.8,qemu=11.1",
            "kvm",
            |f| f.host.nests_smmu = Some(false),
            "CONFIG_ARM_SMMU_V3_IOMMUFD",
        ),
        ("libvirt=12.6,qemu=11.1", "kvm", |_| {}, "libvirt 12.6.0"),
        ("libvirt=12.8,qemu=10.2", "kvm", |_| {}, "QEMU 10.2.0"),
        ("libvirt=12.8,qemu=11.1", "qemu", |_| {}, "KVM"),
        (
            "libvirt=12.8,qemu=11.1",
            "kvm",
            |f| f.host.iommufd = false,
            "/dev/iommu",
        ),
        (
            "libvirt=12.8,qemu=11.1",
            "kvm",
            |f| {
                let gpu = f
                    .host
                    .devices
                    .get_mut(&address("0008:01:00.0"))
                    .expect("gpu");
                gpu.iommu = Some("dmar0".to_owned());
            },
            "dmar0",
        ),
    ];
    for (target, kind, change, word) in cases {
        let mut fixture = fixture(false);
        change(&mut fixture);
        let text = guest(&hostdev("0008:01:00.0", "")).replace("'kvm'", &format!("'{kind}'"));
        let plan = |fixture: &Fixture| {
            let target = target.parse().expect("target");
            rewrite(
                &text,
                &PlanInput {
                    target,
                    ..fixture.input()
                },
            )
        };
        let got = plan(&fixture).expect("planned");
        let note = got
            .plan
            .notes
            .iter()
            .find(|note| note.code == Code::SmmuLeftOut);
        assert!(
            note.is_some_and(|note| note.text.contains(word)),
            "{word}: {:?}",
            got.plan.notes
        );
        assert!(!got.text.contains("<iommu"));
        fixture.recipes = crate::recipe::Recipes::of(&[&require()]);
        let refusal = plan(&fixture).expect_err("required");
        assert!(
            refusal.code == Code::SmmuLeftOut && refusal.reason.contains(word),
            "{refusal}"
        );
    }
}

fn require() -> String {
    let text = include_str!("../../../recipes/nvidia-grace.toml");
    text.replace("need = \"prefer\"", "need = \"require\"")
}

#[test]
fn an_older_qemu_gets_the_recipes_attributes_and_a_note() {
    let fixture = fixture(false);
    let target = "libvirt=12.8,qemu=11.0".parse().expect("target");
    let input = PlanInput {
        target,
        ..fixture.input()
    };
    let got = rewrite(&guest(&hostdev("0008:01:00.0", "")), &input).expect("planned");
    let driver = "<driver pciBus='1' accel='on' ats='on' ril='off' ssidsize='20' oas='48'/>";
    assert!(got.text.contains(driver), "{}", got.text);
    assert!(codes(&got.plan).contains(&Code::SmmuAssumed));
}

#[test]
fn a_users_address_without_an_expander_is_kept_until_replace() {
    let fixture = fixture(false);
    let port = "    <controller type='pci' index='1' model='pcie-root-port'/>\n";
    let address =
        "      <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>\n";
    let text = guest(&format!("{port}{}", hostdev("0008:01:00.0", address)));
    let got = fixture.rewrite(&text);
    assert!(codes(&got.plan).contains(&Code::GuestNoExpander));
    assert!(!got.text.contains("pcie-expander-bus") && !got.text.contains("<iommu"));
    let input = PlanInput {
        replace: true,
        ..fixture.input()
    };
    let moved = rewrite(&text, &input).expect("replaced").text;
    assert!(moved.contains("pcie-expander-bus") && moved.contains("<iommu model='smmuv3'>"));
    assert_eq!(
        revert(&moved).expect("reverted"),
        text,
        "the address comes back as it stood there"
    );
}

#[test]
fn devices_of_two_smmus_on_one_expander_are_refused() {
    let buses = "    <controller type='pci' index='1' model='pcie-expander-bus'>\n      <target busNr='200'/>\n    </controller>\n    <controller type='pci' index='2' model='pcie-root-port'>\n      <address type='pci' bus='1' slot='0'/>\n    </controller>\n    <controller type='pci' index='3' model='pcie-root-port'>\n      <address type='pci' bus='1' slot='1'/>\n    </controller>\n";
    let on = |at, bus: u32| {
        hostdev(
            at,
            &format!("      <address type='pci' bus='{bus}' slot='0'/>\n"),
        )
    };
    let text = guest(&format!(
        "{buses}{}{}",
        on("0008:01:00.0", 2),
        on("0018:01:00.0", 3)
    ));
    let refusal: Refusal = fixture(false).refusal(&text);
    assert_eq!(refusal.code, Code::GuestExpanderShared, "{refusal}");
    let near = text.replace("0x0018", "0x0009");
    fixture(true).rewrite(&near);
}

#[test]
fn a_recipe_can_require_iommufd_without_an_smmu() {
    let mut fixture = fixture(false);
    let recipe = include_str!("../../../recipes/nvidia-grace.toml")
        .replace("need = \"prefer\"", "need = \"ignore\"")
        .replace(
            "prepare = \"on-define\"",
            "prepare = \"on-define\"\niommufd = \"require\"",
        );
    fixture.recipes = crate::recipe::Recipes::of(&[&recipe]);
    let text = guest(&hostdev("0008:01:00.0", ""));
    let got = fixture.rewrite(&text).text;
    assert!(got.contains(THROUGH) && !got.contains("<iommu"));
    assert_eq!(revert(&got).expect("reverted"), text);
    let off = text.replace("  <vcpu>", "  <iommufd enabled='no'/>\n  <vcpu>");
    assert_eq!(fixture.refusal(&off).code, Code::IommufdLeftOut);
}

#[test]
fn a_start_needs_an_smmu_only_if_the_recipe_requires_it() {
    let mut fixture = fixture(false);
    fixture.host.iommufd = false;
    let text = guest(&hostdev("0008:01:00.0", ""));
    let without = fixture.rewrite(&text).text;
    fixture.host.iommufd = true;
    verify(&without, &fixture.input()).expect("it was preferred, and could not be had then");
    fixture.recipes = crate::recipe::Recipes::of(&[&require()]);
    let refusal = verify(&without, &fixture.input()).expect_err("required");
    assert_eq!(refusal.code, Code::IommufdMissing, "{refusal}");
}

#[test]
fn libvirts_capability_for_iommufd_is_respected() {
    let fixture = fixture(false);
    let mut input = fixture.input();
    input.target.iommufd = Some(false);
    let got = rewrite(&guest(&hostdev("0008:01:00.0", "")), &input).expect("planned");
    assert!(!got.text.contains("<iommu"));
    let note = got
        .plan
        .notes
        .iter()
        .find(|note| note.code == Code::SmmuLeftOut);
    assert!(note.is_some_and(|note| note.text.contains("domcapabilities")));
}

#[test]
fn an_address_that_libvirt_may_have_given_is_moved_once_and_comes_back() {
    let fixture = fixture(false);
    let port = "    <controller type='pci' index='1' model='pcie-root-port'/>\n";
    let address =
        "      <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>\n";
    let text = guest(&format!("{port}{}", hostdev("0008:01:00.0", address)));
    let input = PlanInput {
        formatted: true,
        ..fixture.input()
    };
    let moved = rewrite(&text, &input).expect("planned").text;
    let (devices, _) = behind(&moved);
    assert_eq!(devices["0008:01:00.0"], 2);
    assert_eq!(rewrite(&moved, &input).expect("again").text, moved);
    assert_eq!(revert(&moved).expect("reverted"), text);
    let chosen = moved.replace(
        "bus='0x03' slot='0x00' function='0x0'/>\n      <acpi",
        "bus='0x01' slot='0x00' function='0x0'/>\n      <acpi",
    );
    assert_ne!(chosen, moved);
    let kept = rewrite(&chosen, &input).expect("kept");
    assert!(
        codes(&kept.plan).contains(&Code::GuestNoExpander),
        "moved by its owner since"
    );
    verify(&text.replace("<features>", "<!-- x --><features>"), &input)
        .expect_err("cells are missing");
}

#[test]
fn an_added_smmu_is_removed_and_the_users_expander_is_kept() {
    let buses = "    <controller type='pci' index='1' model='pcie-expander-bus'>\n      <target busNr='254'/>\n    </controller>\n    <controller type='pci' index='2' model='pcie-root-port'>\n      <address type='pci' bus='1' slot='0'/>\n    </controller>\n";
    let address = "      <address type='pci' bus='2' slot='0'/>\n";
    let text = guest(&format!("{buses}{}", hostdev("0008:01:00.0", address)));
    let got = fixture(false).rewrite(&text).text;
    assert!(got.contains("<driver pciBus='1' accel='on'/>"), "{got}");
    assert_eq!(revert(&got).expect("reverted"), text);
}

/// A guest whose GPU is on the user's expander bus, behind the user's accelerated SMMUv3.
fn accelerated(driver: &str) -> String {
    let buses = "    <controller type='pci' index='1' model='pcie-expander-bus'>\n      <target busNr='254'/>\n    </controller>\n    <controller type='pci' index='2' model='pcie-root-port'>\n      <address type='pci' bus='1' slot='0'/>\n    </controller>\n    <iommu model='smmuv3'><driver pciBus='1' accel='on'/></iommu>\n";
    let inner = format!("      {driver}\n      <address type='pci' bus='2' slot='0'/>\n");
    guest(&format!("{buses}{}", hostdev("0008:01:00.0", &inner)))
}

#[test]
fn a_users_iommufd_attribute_is_enough_and_revert_keeps_it() {
    let text = accelerated("<driver iommufd='yes'/>");
    let got = fixture(false).rewrite(&text);
    let missing = got.plan.changes.iter().map(|change| change.code);
    assert!(!missing.clone().any(|code| code == Code::IommufdMissing));
    assert!(!got.text.contains("<iommufd"));
    let named = "<driver model='nvgrace_gpu_vfio_pci' iommufd='yes'/>";
    assert!(got.text.contains(named), "{}", got.text);
    assert_eq!(fixture(false).rewrite(&got.text).text, got.text);
    assert_eq!(revert(&got.text).expect("reverted"), text);
}

#[test]
fn an_existing_driver_element_is_completed_and_reverted() {
    let spellings = [
        "<driver name='vfio'/>",
        "<driver/>",
        "<driver></driver>",
        "<driver\n/>",
        "<driver name='vfio' model='nvgrace-gpu-vfio-pci'/>",
    ];
    for driver in spellings {
        let text = accelerated(driver);
        let got = fixture(false).rewrite(&text).text;
        let domain = Domain::parse(&got).expect("well-formed");
        let written = domain.hostdevs[0].driver.as_ref().expect("a driver");
        assert!(
            written.model.is_some() && written.iommufd == Some(true),
            "{got}"
        );
        assert_eq!(fixture(false).rewrite(&got).text, got, "{driver}");
        assert_eq!(revert(&got).expect("reverted"), text, "{driver}");
    }
    let kvm = fixture(false).refusal(&accelerated("<driver name='kvm'/>"));
    assert_eq!(kvm.code, Code::DriverWrong, "{kvm}");
}

#[test]
fn an_accelerated_smmu_with_iommufd_off_is_refused() {
    let refusal = fixture(false).refusal(&accelerated("<driver iommufd='no'/>"));
    assert_eq!(refusal.code, Code::IommufdLeftOut, "{refusal}");
    assert!(
        refusal.reason.contains("<driver iommufd='no'/>"),
        "{refusal}"
    );
    let domain = accelerated("").replace("  <vcpu>", "  <iommufd enabled='no'/>\n  <vcpu>");
    assert_eq!(fixture(false).refusal(&domain).code, Code::IommufdLeftOut);
    let own = accelerated("<driver iommufd='yes'/>");
    let own = own.replace("  <vcpu>", "  <iommufd enabled='no'/>\n  <vcpu>");
    assert!(
        !fixture(false)
            .rewrite(&own)
            .text
            .contains("<iommufd enabled='yes'")
    );
}

#[test]
fn a_hostdev_without_iommufd_gets_no_smmu_and_a_note() {
    let text = guest(&hostdev("0008:01:00.0", "      <driver iommufd='no'/>\n"));
    let got = fixture(false).rewrite(&text);
    assert!(codes(&got.plan).contains(&Code::SmmuLeftOut));
    assert!(!got.text.contains("<iommu"), "{}", got.text);
    assert_eq!(revert(&got.text).expect("reverted"), text);
}

#[test]
fn an_uncovered_device_behind_the_smmu_uses_iommufd_of_the_domain() {
    let mut fixture = fixture(false);
    let nic = crate::fixture::device("0000:03:00.0", "15b3:1021", "vfio-pci");
    fixture.host.devices.insert(nic.address, nic);
    let port = "    <controller type='pci' index='3' model='pcie-root-port'>\n      <address type='pci' bus='1' slot='1'/>\n    </controller>\n";
    let address = "      <address type='pci' bus='3' slot='0'/>\n";
    let beside = format!("{port}{}  </devices>", hostdev("0000:03:00.0", address));
    let text = accelerated("").replace("  </devices>", &beside);
    let text = text.replace("busNr='254'", "busNr='253'");
    let got = fixture.rewrite(&text).text;
    assert!(
        got.contains("<iommufd enabled='yes'/>") && !got.contains("iommufd='yes'"),
        "{got}"
    );
    assert_eq!(fixture.rewrite(&got).text, got);
    assert_eq!(revert(&got).expect("reverted"), text);
}

#[test]
fn a_definition_with_iommufd_of_the_domain_is_kept_and_reverted() {
    let text = accelerated("");
    let got = fixture(false).rewrite(&text).text;
    let mark = got
        .replace(" iommufd='yes'", "")
        .replace(" iommufd", "")
        .replacen("added='", "added='iommufd ", 1)
        .replace("  <vcpu>", "  <iommufd enabled='yes'/>\n  <vcpu>");
    let again = fixture(false).rewrite(&mark).text;
    assert!(!again.contains("iommufd='yes'"), "{again}");
    assert_eq!(revert(&again).expect("reverted"), text);
}
