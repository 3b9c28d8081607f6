//! Pieces for an older libvirt as QEMU arguments, and their revert.

use super::*;
use crate::fixture::rewrite;
use crate::plan::PlanInput;
use crate::plan::testing::{Fixture, guest, hostdev};
use crate::target::Target;

/// A plain guest on q35, for a libvirt that has no elements for initiators.
fn debian_13() -> (Fixture, Target, String) {
    let text = guest(&hostdev("0009:01:00.0", ""));
    let text = text.replace("aarch64", "x86_64").replace("'virt'", "'q35'");
    (
        Fixture::new(),
        "libvirt=11.3,qemu=10.0".parse().expect("target"),
        text,
    )
}

#[test]
fn an_older_libvirt_gets_nodes_distances_and_initiators_on_the_command_line() {
    let (fixture, target, text) = debian_13();
    let input = PlanInput {
        target,
        ..fixture.input()
    };
    let got = rewrite(&text, &input).expect("planned");
    let domain = Domain::parse(&got.text).expect("well-formed");
    assert_eq!(
        domain.cells.len(),
        1,
        "cells without memory would become backends of size 0"
    );
    let line = domain.command_line.as_ref().expect("arguments");
    let values: Vec<&str> = line
        .arguments
        .iter()
        .map(|argument| argument.value.as_str())
        .collect();
    for id in 1..=8 {
        assert!(values.contains(&format!("node,nodeid={id}").as_str()));
        let object = format!(
            "acpi-generic-initiator,id=variantd-gi-{id},pci-dev=ua-variantd-0009-01-00-0,node={id}"
        );
        assert!(values.contains(&object.as_str()));
    }
    assert_eq!(
        values
            .iter()
            .filter(|value| value.starts_with("dist,"))
            .count(),
        9 * 8
    );
    assert!(
        values.contains(&"dist,src=0,dst=1,val=80") && values.contains(&"dist,src=1,dst=2,val=11")
    );
    assert_eq!(
        domain.hostdevs[0].alias.as_deref(),
        Some("ua-variantd-0009-01-00-0")
    );
    assert!(!got.text.contains("nodeset"));
    assert_eq!(rewrite(&got.text, &input).expect("again").text, got.text);
    assert_eq!(crate::fixture::revert(&got.text).expect("reverted"), text);
}

#[test]
fn the_users_qemu_arguments_are_kept_but_numa_is_refused() {
    let (fixture, target, text) = debian_13();
    let input = PlanInput {
        target,
        ..fixture.input()
    };
    let own = |arguments: &str| {
        let line = format!(
            "  <q:commandline xmlns:q='{}'>\n{arguments}  </q:commandline>\n</domain>",
            domain::QEMU_NAMESPACE
        );
        text.replace("</domain>", &line)
    };
    let text = own("    <q:arg value='-no-hpet'/>\n");
    let got = rewrite(&text, &input).expect("planned").text;
    assert!(
        got.contains("<q:arg value='-no-hpet'/>\n    <q:arg value='-numa'/>"),
        "{got}"
    );
    assert_eq!(crate::fixture::revert(&got).expect("reverted"), text);
    let numa = own("    <q:arg value='-numa'/>\n    <q:arg value='node,nodeid=1'/>\n");
    assert_eq!(
        rewrite(&numa, &input).expect_err("refused").code,
        Code::CommandLineTaken
    );
}

#[test]
fn an_old_target_is_refused_with_the_needed_version() {
    let (fixture, _, q35) = debian_13();
    let virt = guest(&hostdev("0009:01:00.0", ""));
    for (text, target, version) in [
        (&q35, "libvirt=9.0,qemu=7.2", "9.0.0"),
        (&virt, "libvirt=11.3,qemu=9.2", "10.0.0"),
    ] {
        let target = target.parse().expect("target");
        let refusal = rewrite(
            text,
            &PlanInput {
                target,
                ..fixture.input()
            },
        )
        .expect_err("too old");
        assert_eq!(refusal.code, Code::TargetOld);
        assert!(refusal.hint.as_str().contains(version), "{refusal}");
    }
}

#[test]
fn a_numa_option_without_a_value_is_refused() {
    let (fixture, target, text) = debian_13();
    let input = PlanInput {
        target,
        ..fixture.input()
    };
    let lone = "</devices><qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\
        <qemu:arg value='-numa'/></qemu:commandline>";
    let refusal = rewrite(&text.replace("</devices>", lone), &input).expect_err("no value");
    assert_eq!(refusal.code, Code::CommandLineTaken, "{refusal}");
    // Also if ours are present and one has lost its value.
    let done = rewrite(&text, &input).expect("planned").text;
    let at = done
        .rfind("    <qemu:arg value='acpi-gen")
        .expect("the last");
    let end = at + done[at..].find("/>").expect("its end") + 2;
    let cut = done[..at]
        .trim_end()
        .rfind("<qemu:arg")
        .expect("its option");
    let damaged = format!("{}<qemu:arg value='-numa'/>{}", &done[..cut], &done[end..]);
    let refusal = rewrite(&damaged, &input).expect_err("no value");
    assert_eq!(refusal.code, Code::CommandLineTaken, "{refusal}");
}

#[test]
fn the_users_window_argument_is_not_recorded_as_ours() {
    let (fixture, target, _) = debian_13();
    let older = PlanInput {
        target,
        ..fixture.input()
    };
    let text = guest(&hostdev("0009:01:00.0", ""));
    for window in ["highmem-mmio-size=4T", "virt,highmem-mmio-size=4T"] {
        let own = format!(
            "</devices><qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\
            <qemu:arg value='-machine'/><qemu:arg value='{window}'/></qemu:commandline>"
        );
        let text = text.replace("</devices>", &own);
        for input in [older, fixture.input()] {
            let done = rewrite(&text, &input).expect("planned").text;
            assert_eq!(crate::fixture::revert(&done).expect("reverted"), text);
        }
    }
}

#[test]
fn incomplete_user_nodes_are_refused_for_every_libvirt() {
    let (fixture, target, text) = debian_13();
    let initiator = "<qemu:arg value='-object'/>\
        <qemu:arg value='acpi-generic-initiator,id=gi0,pci-dev=hostdev0,node=1'/>";
    let leftover = initiator.replace("gi0", "variantd-gi-9");
    let node = "<qemu:arg value='-numa'/><qemu:arg value='node,nodeid=1'/>";
    for arguments in [initiator, &leftover, node] {
        let own = format!(
            "</devices><qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>{arguments}</qemu:commandline>"
        );
        let text = text.replace("</devices>", &own);
        let older = PlanInput {
            target,
            ..fixture.input()
        };
        for input in [older, fixture.input()] {
            let refusal = rewrite(&text, &input).expect_err("initiators of the user's own");
            assert_eq!(refusal.code, Code::CommandLineTaken, "{refusal}");
        }
    }
}

#[test]
fn an_option_paired_after_removing_ours_is_ours() {
    let (fixture, target, text) = debian_13();
    let input = PlanInput {
        target,
        ..fixture.input()
    };
    let done = rewrite(&text, &input).expect("planned").text;
    let option = "    <qemu:arg value='-object'/>\n";
    let last = done.rfind(option).expect("the last");
    let first = done
        .find("    <qemu:arg value='-numa'/>")
        .expect("the first");
    let (before, between) = (&done[..first], &done[first..last]);
    let parted = format!("{before}{option}{between}{}", &done[last + option.len()..]);
    assert_eq!(crate::fixture::revert(&parted).expect("reverted"), text);
    let fixed = rewrite(&parted, &input).expect("planned").text;
    let twice = rewrite(&fixed, &input).expect("planned").text;
    assert_eq!(twice, fixed);
    assert_eq!(crate::fixture::revert(&fixed).expect("reverted"), text);
}
