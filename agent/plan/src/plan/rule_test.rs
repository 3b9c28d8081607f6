//! Each rule that libvirt does not enforce: the definition that breaks it, and that the corrected one passes.

use super::testing::{Fixture, guest, hostdev};
use domain::code::Code;

/// A complete guest, which each case changes.
fn sound() -> String {
    let cpu = "<cpu mode='host-passthrough'>\n    <numa>\n      <cell id='0' cpus='0-3' memory='4194304'><distances><sibling id='0' value='10'/></distances></cell>\n    </numa>\n  </cpu>";
    guest(&(hostdev("0009:01:00.0", "") + &hostdev("0002:01:00.0", "")))
        .replace("<cpu mode='host-passthrough'/>", cpu)
}

#[test]
fn a_sound_guest_passes() {
    Fixture::new().rewrite(&sound());
}

#[test]
fn each_broken_rule_is_named_with_both_values() {
    let nic = "<address domain='0x0002' bus='0x01' slot='0x00' function='0x0'/>\n      </source>";
    let named = |nodeset: &str| format!("{nic}<acpi nodeset='{nodeset}'/>");
    let iommu = |inner: &str| format!("<iommu model='smmuv3'>{inner}</iommu></devices>");
    let cases = [
        (
            Code::DeviceTwice,
            "domain='0x0002'",
            "domain='0x0009'".to_owned(),
            "assigns this device twice",
        ),
        (Code::AcpiMissing, "<acpi/>", String::new(), "no ACPI"),
        (
            Code::AcpiMissing,
            "<loader type='pflash'>/usr/share/AAVMF/AAVMF_CODE.fd</loader>",
            String::new(),
            "UEFI",
        ),
        (
            Code::AcpiTableRefused,
            "</os>",
            "<acpi><table type='raw'>/srat.aml</table></acpi></os>".to_owned(),
            "/srat.aml",
        ),
        (Code::NodesetWrong, nic, named("7"), "cell 7"),
        (
            Code::DistanceInvalid,
            "value='10'",
            "value='20'".to_owned(),
            "distance 20 from cell 0 to cell 0",
        ),
        (
            Code::DistanceInvalid,
            "<sibling id='0' value='10'/>",
            "<sibling id='4' value='20'/>".to_owned(),
            "no such cell",
        ),
        (
            Code::SmmuWrongBus,
            "</devices>",
            iommu("<driver pciBus='9' accel='on'/>"),
            "controller 9",
        ),
        (Code::SmmuIdle, "</devices>", iommu(""), "without accel"),
        (
            Code::SmmuTwice,
            "</devices>",
            iommu("<driver pciBus='0' accel='on'/>").replace("</devices>", "")
                + &iommu("<driver pciBus='0' accel='on'/>"),
            "controller 0",
        ),
        (
            Code::HardLimit,
            "<vcpu>",
            "<memtune><hard_limit unit='GiB'>1</hard_limit></memtune><vcpu>".to_owned(),
            "1048576 KiB",
        ),
    ];
    for (code, from, to, words) in cases {
        let text = sound();
        assert!(text.contains(from), "{from}");
        let refusal = Fixture::new().refusal(&text.replacen(from, &to, 1));
        assert_eq!(refusal.code, code, "{refusal}");
        assert!(refusal.reason.contains(words), "{refusal}");
        assert!(refusal.path.is_some() && !refusal.hint.as_str().is_empty());
    }
}

#[test]
fn the_limit_of_memory_is_compared_with_the_cells() {
    let with = |memory: &str, cell: u64, limit: u64| {
        let text = guest(&hostdev("0009:01:00.0", ""));
        text.replace(
            "<memory unit='KiB'>4194304</memory>",
            &format!("<memory unit='GiB'>{memory}</memory><memtune><hard_limit unit='GiB'>{limit}</hard_limit></memtune>"),
        )
        .replace(
            "<cpu mode='host-passthrough'/>",
            &format!("<cpu><numa><cell id='0' cpus='0-3' memory='{cell}' unit='GiB'/></numa></cpu>"),
        )
    };
    let refusal = Fixture::new().refusal(&with("1", 1024, 64));
    assert_eq!(refusal.code, Code::HardLimit, "{refusal}");
    Fixture::new().rewrite(&with("1024", 16, 64));
}

#[test]
fn two_devices_cannot_share_an_initiator_cell_but_a_cell_with_cpus() {
    let inner = |nodeset: &str| format!("      <acpi nodeset='{nodeset}'/>\n");
    let cells: String = (1..=8)
        .map(|id| format!("<cell id='{id}' memory='0'/>"))
        .collect();
    let with = |nodeset: &str| {
        let devices =
            hostdev("0009:01:00.0", &inner("1-8")) + &hostdev("0002:01:00.0", &inner(nodeset));
        guest(&devices).replace(
            "<cpu mode='host-passthrough'/>",
            &format!("<cpu><numa><cell id='0' cpus='0-3' memory='4194304'/>{cells}</numa></cpu>"),
        )
    };
    let refusal = Fixture::new().refusal(&with("8"));
    assert_eq!(refusal.code, Code::NodesetOverlap, "{refusal}");
    Fixture::new().rewrite(&with("0"));
}

#[test]
fn one_sided_distances_are_valid_only_while_no_pair_differs() {
    let table = |second: &str| {
        let cells = format!(
            "<cpu><numa><cell id='0' cpus='0-1' memory='2097152'><distances><sibling id='1' value='20'/></distances></cell><cell id='1' cpus='2-3' memory='2097152'><distances>{second}</distances></cell><cell id='2' memory='0'><distances><sibling id='0' value='30'/></distances></cell></numa></cpu>"
        );
        guest(&hostdev("0009:01:00.0", "")).replace("<cpu mode='host-passthrough'/>", &cells)
    };
    Fixture::new().rewrite(&table("<sibling id='0' value='20'/>"));
    let refusal = Fixture::new().refusal(&table("<sibling id='0' value='21'/>"));
    assert_eq!(refusal.code, Code::DistanceInvalid, "{refusal}");
}

#[test]
fn cells_are_numbered_from_0_on_without_holes_and_each_once() {
    let with = |ids: [&str; 2]| {
        let cells = ids.map(|id| format!("<cell {id} cpus='0-1' memory='2097152'/>"));
        let numa = format!("<cpu><numa>{}</numa></cpu>", cells.concat());
        guest(&hostdev("0009:01:00.0", "")).replace("<cpu mode='host-passthrough'/>", &numa)
    };
    // libvirt numbers a cell without an id by its position.
    for sound in [["id='1'", "id='0'"], ["", ""], ["id='0'", ""]] {
        Fixture::new().rewrite(&with(sound));
    }
    for (wrong, words) in [
        (["id='1'", "id='1'"], "two cells have this id"),
        (["id='1'", ""], "two cells have this id"),
        (["id='0'", "id='2'"], "the last of 2 cells has id 1"),
        (["id='1'", "id='2'"], "the last of 2 cells has id 1"),
    ] {
        let refusal = Fixture::new().refusal(&with(wrong));
        assert_eq!(refusal.code, Code::XmlValue, "{refusal}");
        assert!(refusal.reason.contains(words), "{refusal}");
    }
}
