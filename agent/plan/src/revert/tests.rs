//! Reverting a rewritten definition gives the text from before.

use super::*;
use crate::fixture::{revert, rewrite};
use crate::plan::testing::{Fixture, GPUS, guest, hostdev};
use proptest::prelude::*;

fn there_and_back(text: &str) {
    let fixture = Fixture::new();
    let with = fixture.rewrite(text).text;
    assert_ne!(with, text);
    assert_eq!(revert(&with).expect("reverted"), text);
}

#[test]
fn a_definition_without_a_mark_stays_as_it_is() {
    let text = guest(&hostdev("0009:01:00.0", ""));
    assert_eq!(revert(&text).expect("reverted"), text);
}

#[test]
fn every_shape_of_definition_comes_back_byte_for_byte() {
    let plain = guest(&hostdev("0009:01:00.0", ""));
    let cells = "  <cpu mode='host-passthrough'>\n    <numa>\n      <cell id='0' cpus='0-1' memory='2097152'/>\n      <cell id='1' cpus='2-3' memory='2097152'>\n        <distances>\n          <sibling id='0' value='21'/>\n        </distances>\n      </cell>\n    </numa>\n  </cpu>\n";
    let cpu = "  <cpu mode='host-passthrough'/>\n";
    let shapes = [
        plain.clone(),
        plain.replace(cpu, ""),
        plain.replace(cpu, "  <cpu mode='host-passthrough'>\n    <feature policy='require' name='sve'/>\n  </cpu>\n"),
        plain.replace(cpu, cells),
        plain.replace("    <controller type=\"pci\" index='0' model='pcie-root'/>\n", ""),
        plain.replace("model='pcie-root'/>", "model='pcie-root'>\n      <alias name='ua-root'/>\n    </controller>"),
        plain.replace("  <memory ", "  <metadata/>\n  <memory "),
        plain.replace("  <memory ", "  <metadata>\n    <a:b xmlns:a='urn:a'/>\n  </metadata>\n  <memory "),
        plain.replace('\n', ""),
        plain.replace('\n', "\r\n").replace("\r\n", "\n\n"),
    ];
    for shape in shapes {
        there_and_back(&shape);
    }
}

#[test]
fn a_mark_restores_only_elements_of_its_kind() {
    let marked = |attribute: &str, kept: &str| {
        let kept = kept.replace('<', "&lt;").replace('\'', "&apos;");
        let mark = format!(
            "  <metadata>\n    <v:prepared xmlns:v='urn:variantd:1' added='metadata'>\n      <v:device address='0009:01:00.0' \
             recipe='nvidia-grace' added='port:1' {attribute}='{kept}'/>\n    </v:prepared>\n  </metadata>\n"
        );
        let plain = guest(&hostdev("0009:01:00.0", ""));
        revert(&plain.replace("  <memory ", &format!("{mark}  <memory ")))
    };
    for (attribute, kept) in [
        ("replaced", "<address type='pci' slot='0x05'/>"),
        ("alias", "<alias name='ua-gpu'/>"),
    ] {
        assert_eq!(marked(attribute, kept).map(|_| ()), Ok(()), "{kept}");
    }
    let long = format!("<address a='{}'/>", "x".repeat(5000));
    for (attribute, kept) in [
        ("replaced", "<address bus=x/>"),
        ("replaced", "<address type='pci' bus='0z00'/>"),
        ("replaced", "<address/><emulator>/tmp/x</emulator>"),
        ("replaced", "<alias/>"),
        ("replaced", " <address/>"),
        ("replaced", "<!DOCTYPE a><address/>"),
        ("replaced", &long),
        ("replaced", ""),
        ("alias", "<address/>"),
    ] {
        let refusal = marked(attribute, kept).expect_err(kept);
        assert_eq!(refusal.code, Code::XmlValue, "{refusal}");
        assert!(refusal.reason.contains("is not a single <"), "{refusal}");
    }
}

#[test]
fn revert_keeps_later_changes_of_the_user() {
    let text = guest(&hostdev("0009:01:00.0", ""));
    let with = Fixture::new().rewrite(&text).text;
    let edited = with.replace("<vcpu>4</vcpu>", "<vcpu>8</vcpu>");
    assert_eq!(
        revert(&edited).expect("reverted"),
        text.replace("<vcpu>4</vcpu>", "<vcpu>8</vcpu>")
    );

    let grown = with.replace("<cell id='3' memory='0'", "<cell id='3' memory='1024'");
    let kept = revert(&grown).expect("reverted");
    assert!(
        kept.contains("<cell id='3' memory='1024'") && kept.contains("<cell id='0'"),
        "{kept}"
    );
    assert!(
        !kept.contains("<cell id='4'") && !kept.contains("nodeset"),
        "{kept}"
    );

    let moved = with.replace(
        "bus='0x02' slot='0x00' function='0x0'/>\n      <acpi",
        "bus='0x07' slot='0x00' function='0x0'/>\n      <acpi",
    );
    assert!(revert(&moved).expect("reverted").contains("bus='0x07'"));
}

#[test]
fn revert_restores_the_users_distances() {
    let with = |distances: &str| {
        let cells = format!(
            "<cpu>\n    <numa>\n      <cell id='0' cpus='0-1' memory='2097152'>\n        {distances}\n      </cell>\n      <cell id='1' cpus='2-3' memory='2097152'/>\n    </numa>\n  </cpu>"
        );
        guest(&hostdev("0009:01:00.0", "")).replace("<cpu mode='host-passthrough'/>", &cells)
    };
    there_and_back(&with("<distances/>"));
    there_and_back(&with("<distances />"));
    there_and_back(&with("<distances></distances>"));
    there_and_back(&with(
        "<distances>\n          <!-- none -->\n        </distances>",
    ));
    there_and_back(&with(
        "<distances>\n          <other id='1' value='30'/>\n        </distances>",
    ));
    there_and_back(&with("<distances><sibling id='1' value='30'/></distances>"));
}

#[test]
fn a_numa_element_without_cells_comes_back_without_cells() {
    let fixture = Fixture::new();
    let older = crate::plan::PlanInput {
        target: "libvirt=11.3,qemu=10.0".parse().expect("target"),
        ..fixture.input()
    };
    for numa in [
        "<numa/>",
        "<numa></numa>",
        "<numa>\n    </numa>",
        "<numa>\n      <!-- none -->\n    </numa>",
    ] {
        let cpu = format!("<cpu>\n    {numa}\n  </cpu>");
        let text = guest(&hostdev("0009:01:00.0", ""));
        let text = text.replace("<cpu mode='host-passthrough'/>", &cpu);
        there_and_back(&text);
        there_and_back(&text.replace('\n', ""));
        let with = rewrite(&text, &older).expect("planned").text;
        assert_eq!(revert(&with).expect("reverted"), text);
    }
}

#[test]
fn a_bus_without_a_controller_is_ignored() {
    let nic = "<interface type='user'><address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></interface>";
    let text = guest(&(hostdev("0009:01:00.0", "") + nic));
    let with = Fixture::new().rewrite(&text).text;
    assert!(
        with.contains("index='2' model='pcie-expander-bus'"),
        "{with}"
    );
    there_and_back(&text);
    let last = nic.replace("0x01", "0xfe");
    let both = hostdev("0008:01:00.0", "") + &hostdev("0009:01:00.0", "") + &last;
    let x86 = guest(&both)
        .replace("aarch64", "x86_64")
        .replace("'virt'", "'q35'");
    let refusal = Fixture::new().refusal(&x86);
    assert_eq!(refusal.code, Code::GuestBusNumbers, "{refusal}");
}

proptest! {
    #[test]
    fn revert_after_rewrite_is_the_identity(mask in 1u8..16, one_line: bool, with_cpu: bool) {
        let chosen: Vec<String> = GPUS.iter().enumerate()
            .filter(|(bit, _)| mask & (1 << bit) != 0).map(|(_, (at, _))| hostdev(at, "")).collect();
        let mut text = guest(&chosen.concat());
        if !with_cpu { text = text.replace("  <cpu mode='host-passthrough'/>\n", "") }
        if one_line { text = text.replace('\n', "") }
        let with = Fixture::new().rewrite(&text).text;
        prop_assert_eq!(revert(&with).expect("reverted"), text);
    }
}
