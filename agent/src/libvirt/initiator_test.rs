//! Initiators from command lines and replies of QEMU as recorded in the lab.

use super::*;
use crate::fixture::UUID;

fn uuid() -> DomainUuid {
    UUID.parse().expect("uuid")
}

/// Processes below a folder, by their arguments.
fn processes(commands: &[&[&str]]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    for (number, words) in commands.iter().enumerate() {
        let process = folder.path().join((number + 1).to_string());
        fs::create_dir(&process).expect("folder");
        fs::write(process.join("cmdline"), words.join("\0") + "\0").expect("written");
    }
    folder
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn initiators_are_parsed_from_both_forms_of_the_argument() {
    let other = [
        "-uuid",
        "7070",
        "-object",
        "acpi-generic-initiator,id=x,pci-dev=y,node=1",
    ];
    let own = [
        "qemu",
        "-uuid",
        UUID,
        "-object",
        r#"{"qom-type":"acpi-generic-initiator","id":"gi3","pci-dev":"hostdev0","node":1}"#,
        "-object",
        "acpi-generic-initiator,id=gi4,pci-dev=ua-gpu,node=2",
        "-object",
        r#"{"qom-type":"memory-backend-ram","id":"pc.ram","size":67108864}"#,
        "-object",
        "rng-random,id=r",
    ];
    let folder = processes(&[&other, &own]);
    let found = started_with(folder.path(), &uuid());
    let pairs = [("gi3", "hostdev0"), ("gi4", "ua-gpu")];
    let expected = pairs.map(|(object, device)| (object.to_owned(), device.to_owned()));
    assert_eq!(found, expected.into());
}

#[test]
fn only_directories_of_processes_are_searched() {
    let folder = processes(&[&[
        "-uuid",
        UUID,
        "-object",
        "acpi-generic-initiator,id=gi3,pci-dev=hostdev0,node=1",
    ]]);
    fs::rename(folder.path().join("1"), folder.path().join("net")).expect("renamed");
    assert!(started_with(folder.path(), &uuid()).is_empty());
}

#[test]
fn a_guest_without_a_process_has_no_initiators() {
    let folder = processes(&[&["qemu", "-uuid", "7070"]]);
    assert!(started_with(folder.path(), &uuid()).is_empty());
}

#[test]
fn unplug_does_nothing_if_the_guest_has_all_devices() {
    let started = [("gi0".to_owned(), "hostdev1".to_owned())].into();
    let live = |alias| format!("<hostdev><alias name='{alias}'/></hostdev>");
    assert!(have_devices(&started, &live("hostdev1")));
    assert!(!have_devices(&started, &live("hostdev10")));
    assert!(have_devices(&BTreeMap::new(), ""));
}

#[test]
fn only_an_existing_initiator_without_device_is_stale() {
    let pairs = [
        ("gi0", "hostdev0"),
        ("gi1", "hostdev1"),
        ("gi2", "hostdev1"),
    ];
    let started = pairs.map(|(object, device)| (object.to_owned(), device.to_owned()));
    let objects = set(&["type", "gi0", "gi1", "pc.ram"]);
    let devices = set(&["type", "hostdev0"]);
    assert_eq!(stale(&started.into(), &objects, &devices), ["gi1"]);
}

#[test]
fn qemu_reply_has_names_or_an_error() {
    let answer = r#"{"return":[{"name":"type","type":"string"},{"name":"gi0","type":"child<acpi-generic-initiator>"}],"id":"libvirt-20"}"#;
    assert_eq!(names(answer), Ok(set(&["type", "gi0"])));
    let refused =
        r#"{"id":"libvirt-21","error":{"class":"GenericError","desc":"object 'gi0' not found"}}"#;
    assert_eq!(names(refused), Err("object 'gi0' not found".into()));
    assert_eq!(returned(r#"{"return":{}}"#), Ok(serde_json::Map::new()));
}
