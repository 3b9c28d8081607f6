//! Tests of the comparison, with definitions that libvirt 12.8.0 translated (`data/translate/sample`) and with short texts.

use super::*;
use crate::translate::argument;

/// A definition, libvirt's text of it, and the arguments.
struct Sample {
    written: String,
    completed: String,
    arguments: Vec<Argument>,
}

impl Sample {
    fn read(name: &str) -> Self {
        let file = |ending: &str| {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/data/translate/sample");
            std::fs::read_to_string(format!("{folder}/{name}.{ending}")).expect("a sample")
        };
        Self {
            written: file("xml"),
            completed: file("dump.xml"),
            arguments: argument::parse(&file("argv")).expect("readable arguments"),
        }
    }

    /// A definition with this text in it, to which libvirt added nothing.
    fn short(inside: &str, words: &[&str]) -> Self {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let text = format!(
            "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>{inside}</domain>"
        );
        Self {
            completed: text.clone(),
            written: text,
            arguments: argument::pair(&words).expect("readable arguments"),
        }
    }

    fn verdict(&self) -> Verdict {
        check(&self.written, &self.completed, &self.arguments).expect("readable")
    }

    fn faults_without(&self, part: &str) -> String {
        let kept = self.arguments.iter().filter(|a| !a.value.contains(part));
        let arguments: Vec<Argument> = kept.cloned().collect();
        assert!(
            arguments.len() < self.arguments.len(),
            "no argument has '{part}'"
        );
        let verdict = check(&self.written, &self.completed, &arguments);
        verdict.expect("readable").faults.join("\n")
    }
}

const WHOLE: [&str; 9] = [
    "aarch64-acpinodeset",
    "aarch64-full",
    "aarch64-iommufd",
    "aarch64-pcihole64",
    "aarch64-smmu-accel-allattrs",
    "aarch64-smmu-global",
    "x86_64-acpinodeset",
    "x86_64-inteliommu",
    "x86_64-pcihole64",
];

const MATRIX: &str = "<cpu><numa>
    <cell id='0' cpus='0-1' memory='1' unit='GiB'><distances><sibling id='1' value='80'/></distances></cell>
    <cell id='1' memory='0'><distances><sibling id='0' value='80'/></distances></cell>
    </numa></cpu>";
const MATRIX_ARGUMENTS: [&str; 12] = [
    "-object",
    r#"{"qom-type":"memory-backend-ram","id":"m","size":1073741824}"#,
    "-numa",
    "node,nodeid=0,cpus=0-1,memdev=m",
    "-numa",
    "node,nodeid=1",
    "-numa",
    "dist,src=0,dst=0,val=10",
    "-numa",
    "dist,src=0,dst=1,val=80",
    "-numa",
    "dist,src=1,dst=0,val=80",
];

const BY_ARGUMENTS: &str = "<metadata><v:prepared xmlns:v='urn:variantd:1'>
    <v:device address='0009:01:00.0' cells='1'/></v:prepared></metadata>
    <devices><hostdev mode='subsystem' type='pci'><alias name='ua-gpu'/>
    <source><address domain='0x0009' bus='0x01' slot='0x00' function='0x0'/></source>
    <address type='pci' bus='0x02' slot='0x00' function='0x0'/></hostdev></devices>
    <qemu:commandline>
    <qemu:arg value='-numa'/><qemu:arg value='node,nodeid=1'/>
    <qemu:arg value='-object'/><qemu:arg value='acpi-generic-initiator,id=g,pci-dev=ua-gpu,node=1'/>
    <qemu:arg value='-device'/><qemu:arg value='arm-smmuv3,primary-bus=pci.1,accel=on'/>
    <qemu:arg value='-device'/><qemu:arg value='pxb-pcie,id=x,bus_nr=0x80,numa_node=0'/>
    <qemu:arg value='-machine'/><qemu:arg value='highmem-mmio-size=1T'/>
    <qemu:arg value='-object'/><qemu:arg value='iommufd,id=iommufd0'/>
    </qemu:commandline>
    <qemu:override><qemu:device alias='ua-gpu'><qemu:frontend>
    <qemu:property name='iommufd' type='string' value='iommufd0'/>
    </qemu:frontend></qemu:device></qemu:override>";
const BY_ARGUMENTS_MADE: [&str; 18] = [
    "-numa",
    "node,nodeid=1",
    "-object",
    "acpi-generic-initiator,id=g,pci-dev=ua-gpu,node=1",
    "-device",
    "arm-smmuv3,primary-bus=pci.1,accel=on",
    "-device",
    "pxb-pcie,id=x,bus_nr=128,numa_node=0",
    "-machine",
    "virt-10.0,highmem-mmio-size=1T",
    "-object",
    "iommufd,id=iommufd0",
    "-device",
    r#"{"driver":"pcie-root-port","id":"pci.2","bus":"pcie.0","addr":"0x1"}"#,
    "-device",
    r#"{"driver":"vfio-pci","host":"0009:01:00.0","id":"ua-gpu","iommufd":"iommufd0","bus":"pci.2","addr":"0x0"}"#,
    "-global",
    "ICH9-LPC.noreboot=off",
];

#[test]
fn the_arguments_of_complete_definitions_have_every_piece() {
    for name in WHOLE {
        let verdict = Sample::read(name).verdict();
        assert!(verdict.faults.is_empty(), "{name}: {:#?}", verdict.faults);
        assert!(!verdict.planned.is_empty(), "{name}");
    }
}

#[test]
fn an_attribute_that_libvirt_dropped_is_a_difference() {
    let faults = Sample::read("aarch64-smmu-accel-ssid").verdict().faults;
    let missing = faults
        .iter()
        .find(|fault| fault.starts_with("not in the arguments: SMMU of 'pci.1'"));
    assert!(
        missing.is_some_and(|fault| fault.contains("ssidSize=16")),
        "{faults:#?}"
    );
}

#[test]
fn each_kind_of_piece_is_missed_and_named() {
    let full = Sample::read("aarch64-full");
    for (part, words) in [
        (
            "node,nodeid=8",
            "not in the arguments: node 8 (cpus '', 0 KiB)",
        ),
        (
            r#""node":3"#,
            "not in the arguments: initiator of node 3, device on pci.3 at 0x0",
        ),
        (
            r#""id":"pci.2""#,
            "not in the arguments: expander 'pci.2', bus number 192, node 0",
        ),
        (r#""id":"pci.3""#, "not in the arguments: root port 'pci.3'"),
        (
            r#""primary-bus":"pci.1""#,
            "not in the arguments: SMMU of 'pci.1' accel=on",
        ),
        (
            r#""qom-type":"iommufd""#,
            "not in the arguments: iommufd object",
        ),
        (
            r#""driver":"vfio-pci""#,
            "not in the arguments: hostdev through iommufd on pci.3 at 0x0",
        ),
    ] {
        let faults = full.faults_without(part);
        assert!(faults.contains(words), "without {part}: {faults}");
    }
    for (name, part) in [
        ("aarch64-pcihole64", "highmem-mmio-size"),
        ("x86_64-pcihole64", "pci-hole64-size"),
    ] {
        let faults = Sample::read(name).faults_without(part);
        assert_eq!(faults, "not in the arguments: window of 1073741824 KiB");
    }
}

#[test]
fn distances_are_compared_one_by_one() {
    let sample = Sample::short(MATRIX, &MATRIX_ARGUMENTS);
    assert_eq!(sample.verdict().faults, Vec::<String>::new());
    let faults = sample.faults_without("src=1,dst=0");
    assert_eq!(faults, "not in the arguments: distance from 1 to 0 of 80");
    let other = MATRIX_ARGUMENTS.map(|word| word.replace("dst=1,val=80", "dst=1,val=20"));
    let other = Sample::short(MATRIX, &other.each_ref().map(String::as_str));
    assert_eq!(
        other.verdict().faults,
        [
            "not in the arguments: distance from 0 to 1 of 80",
            "in the arguments, but not planned: distance from 0 to 1 of 20",
        ]
    );
}

#[test]
fn a_distance_in_one_direction_is_meant_for_both() {
    let one_way = MATRIX.replace("<distances><sibling id='0' value='80'/></distances>", "");
    assert_ne!(one_way, MATRIX);
    let sample = Sample::short(&one_way, &MATRIX_ARGUMENTS);
    assert_eq!(sample.verdict().faults, Vec::<String>::new());
    let faults = sample.faults_without("src=1,dst=0");
    assert_eq!(faults, "not in the arguments: distance from 1 to 0 of 80");
}

#[test]
fn memory_and_processors_of_a_node_count() {
    let other = MATRIX_ARGUMENTS.map(|word| word.replace("1073741824", "1073742848"));
    let other = Sample::short(MATRIX, &other.each_ref().map(String::as_str));
    let faults = other.verdict().faults.join("\n");
    assert!(
        faults.contains("node 0 (cpus '0-1', 1048576 KiB)"),
        "{faults}"
    );
}

#[test]
fn pieces_on_the_command_line_count_like_elements() {
    let sample = Sample::short(BY_ARGUMENTS, &BY_ARGUMENTS_MADE);
    let verdict = sample.verdict();
    assert_eq!(verdict.faults, Vec::<String>::new());
    for part in [
        "nodeid=1",
        "node=1",
        "arm-smmuv3",
        "pxb-pcie",
        "highmem",
        "iommufd,id",
        "pcie-root-port",
        "vfio-pci",
    ] {
        assert!(!sample.faults_without(part).is_empty(), "without {part}");
    }
}

#[test]
fn switch_ports_and_overridden_properties_count() {
    let inside = "<metadata><v:prepared xmlns:v='urn:variantd:1'><v:device address='0000:0a:00.0'/></v:prepared></metadata>
        <devices><controller type='pci' index='4' model='pcie-switch-downstream-port'>
        <address type='pci' bus='0x03' slot='0x01' function='0x0'/></controller>
        <hostdev mode='subsystem' type='pci'><source><address bus='0x0a' slot='0' function='0'/></source>
        <address type='pci' bus='0x04' slot='0x00' function='0x0'/></hostdev></devices>
        <qemu:override><qemu:device alias='pci.4'><qemu:frontend>
        <qemu:property name='x-speed' type='string' value='16'/></qemu:frontend></qemu:device></qemu:override>";
    let made = [
        "-device",
        r#"{"driver":"xio3130-downstream","id":"pci.4","bus":"pci.3","addr":"0x1","x-speed":"16"}"#,
        "-device",
        r#"{"driver":"vfio-pci","host":"0000:0a:00.0","id":"hostdev0","bus":"pci.4","addr":"0x0"}"#,
    ];
    let sample = Sample::short(inside, &made);
    assert_eq!(sample.verdict().faults, Vec::<String>::new());
    let faults = sample.faults_without("xio3130");
    assert!(
        faults.contains("not in the arguments: switch port 'pci.4' on 'pci.3'"),
        "{faults}"
    );
    let slow = made.map(|word| word.replace(r#""x-speed":"16""#, r#""x-speed":"8""#));
    let slow = Sample::short(inside, &slow.each_ref().map(String::as_str));
    assert_eq!(
        slow.verdict().faults,
        ["not in the arguments: property x-speed=16 of 'pci.4'"]
    );
}

#[test]
fn a_planned_device_that_is_not_at_slot_0_is_a_fault() {
    let moved = BY_ARGUMENTS_MADE.map(|word| word.replace(r#""addr":"0x0""#, r#""addr":"0x1""#));
    let moved = Sample::short(BY_ARGUMENTS, &moved.each_ref().map(String::as_str));
    let faults = moved.verdict().faults.join("\n");
    assert!(
        faults.contains("not in the arguments: hostdev on pci.2 at 0x0"),
        "{faults}"
    );
}

#[test]
fn an_initiator_of_no_device_is_a_fault() {
    let wrong = BY_ARGUMENTS_MADE.map(|word| word.replace("pci-dev=ua-gpu", "pci-dev=hostdev7"));
    let wrong = Sample::short(BY_ARGUMENTS, &wrong.each_ref().map(String::as_str));
    let faults = wrong.verdict().faults.join("\n");
    assert!(faults.contains("the unknown device 'hostdev7'"), "{faults}");
}
