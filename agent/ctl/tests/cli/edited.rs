//! Definitions that a user edits or writes, through `variantctl`.

use std::fs;
use std::process::Output;

use super::{data, failure, host, stdout, variantctl};

const GPUS: [&str; 4] = ["0x0008", "0x0009", "0x0018", "0x0019"];

/// The case with all GPUs of the host, without those that are not named.
fn board(gpus: &[&str]) -> String {
    let text = fs::read_to_string(data("case/gb200-all/domain.xml")).expect("the case");
    let (head, rest) = text.split_once("    <hostdev").expect("hostdevs");
    let hostdevs = rest.split_inclusive("</hostdev>\n");
    let (hostdevs, tail): (Vec<&str>, Vec<&str>) =
        hostdevs.partition(|piece| piece.contains("<source>"));
    let kept = hostdevs.into_iter().filter_map(|hostdev| {
        let named = |gpu: &&&str| hostdev.contains(&format!("domain='{gpu}'"));
        gpus.iter().find(named)?;
        let hostdev = hostdev.trim_start().trim_start_matches("<hostdev");
        Some(format!("    <hostdev {}", hostdev.trim_start()))
    });
    format!("{head}{}{}", kept.collect::<String>(), tail.concat())
}

fn run(verb: &str, text: &str) -> Output {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), text).expect("written");
    let path = file.path().to_str().expect("a path");
    variantctl(&host("gb200-4gpu"), &[verb, path])
}

fn completed(text: &str) -> String {
    stdout(&run("rewrite", text))
}

#[test]
fn three_gpus_get_the_window_that_firmware_takes() {
    for (count, gib) in [(1, 1024_u64), (2, 2048), (3, 4096), (4, 4096)] {
        let text = completed(&board(&GPUS[..count]));
        let hole = format!("<pcihole64 unit='KiB'>{}</pcihole64>", gib << 20);
        assert!(text.contains(&hole), "{count}: {text}");
    }
}

#[test]
fn an_exchanged_gpu_is_completed_as_in_a_new_definition() {
    let (near, far) = (board(&["0x0008"]), board(&["0x0019"]));
    let exchanged = completed(&near).replacen("domain='0x0008'", "domain='0x0019'", 1);
    assert_ne!(completed(&near), completed(&far));
    assert_eq!(completed(&exchanged), completed(&far));
}

#[test]
fn a_window_that_the_user_enlarged_is_kept_when_a_gpu_is_exchanged() {
    let window = |gib: u64| format!("<pcihole64 unit='KiB'>{}</pcihole64>", gib << 20);
    let larger = completed(&board(&["0x0008"])).replacen(&window(1024), &window(4096), 1);
    let exchanged = completed(&larger.replacen("domain='0x0008'", "domain='0x0019'", 1));
    assert!(exchanged.contains(&window(4096)), "{exchanged}");
}

/// A definition with complete initiators among QEMU's arguments.
fn manual(initiators: u32) -> String {
    let mut arguments = String::new();
    let mut add = |option: &str, value: String| {
        arguments += &format!("<qemu:arg value='{option}'/><qemu:arg value='{value}'/>");
    };
    add("-machine", "highmem-mmio-size=2T".to_owned());
    for node in 2..10 {
        add("-numa", format!("node,nodeid={node}"));
    }
    for node in 2..2 + initiators {
        let object = format!("acpi-generic-initiator,id=gi{node},pci-dev=hostdev0,node={node}");
        add("-object", object);
    }
    let line = format!(
        "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>{arguments}</qemu:commandline></domain>"
    );
    board(&["0x0009"]).replace("</domain>", &line)
}

#[test]
fn complete_manual_initiators_are_kept_and_incomplete_ones_named() {
    let whole = manual(8);
    assert_eq!(completed(&whole), whole);
    let (status, printed) = failure(&run("rewrite", &manual(7)));
    assert_eq!(status, 1, "{printed}");
    assert!(printed.contains("7 of the 8 initiators"), "{printed}");
    assert!(printed.contains("VD-NUM-010"), "{printed}");
}

#[test]
fn a_limit_of_locked_memory_counts_each_device_behind_a_viommu() {
    let two = board(&GPUS[..2]);
    let limit = "<memtune><hard_limit unit='MiB'>1536</hard_limit></memtune>\n  <vcpu";
    let limited = two.replacen("<vcpu", limit, 1);
    completed(&limited);
    let viommu = limited.replace("  </devices>", "    <iommu model='virtio'/>\n  </devices>");
    let (status, printed) = failure(&run("rewrite", &viommu));
    assert_eq!(status, 1, "{printed}");
    assert!(
        printed.contains("together 2097152 KiB (VD-MEM-005)"),
        "{printed}"
    );
}
