//! The link of a root port: the slowest of the host's path, and what keeps it from being shown.

use kernel_glue::config::{Config, Express, Port};

use super::testing::{Fixture, address, guest, hostdev};
use crate::fixture::revert;
use crate::recipe::Recipes;
use domain::code::Code;

fn config(lnkcap: u32) -> Config {
    Config::Express(Express {
        version: 2,
        port: Port::Endpoint,
        devcap: 0,
        devctl: 0,
        access_control: None,
        ats: None,
        lnkcap,
        devcap2: 0,
        devctl2: 0,
    })
}

/// A GPU with 32 GT/s and 16 lanes below a port with 16 GT/s and 8 lanes.
fn fixture() -> Fixture {
    let mut fixture = Fixture::new();
    let recipe = include_str!("../../../recipes/nvidia-grace.toml");
    let recipe = recipe.replace("own_root_port = true", "own_root_port = true\nlink = true");
    fixture.recipes = Recipes::of(&[&recipe]);
    let mut port = super::testing::device("0008:00:00.0", "10de:22b1", 0);
    port.config = config(8 << 4 | 4);
    let gpu = fixture
        .host
        .devices
        .get_mut(&address("0008:01:00.0"))
        .expect("gpu");
    gpu.ancestors = vec![port.address];
    gpu.config = config(16 << 4 | 5);
    fixture.host.devices.insert(port.address, port);
    fixture
}

#[test]
fn the_slowest_link_of_the_path_is_set_and_reverted() {
    let text = guest(&hostdev("0008:01:00.0", ""));
    let got = fixture().rewrite(&text).text;
    let domain = domain::Domain::parse(&got).expect("well-formed");
    let set: Vec<String> = domain
        .overrides
        .expect("overrides")
        .properties
        .iter()
        .map(|one| format!("{}.{}={}", one.alias, one.name, one.value))
        .collect();
    assert_eq!(set, ["pci.2.x-speed=16", "pci.2.x-width=8"]);
    assert_eq!(fixture().rewrite(&got).text, got);
    assert_eq!(revert(&got).expect("reverted"), text);
}

#[test]
fn a_port_of_a_switch_has_no_link_to_set() {
    let mut fixture = fixture();
    let recipe = include_str!("../../../recipes/nvidia-x86.toml").replace("10de:2330", "10de:2941");
    let recipe = recipe.replace("own_root_port = true", "own_root_port = true\nlink = true");
    fixture.recipes = Recipes::of(&[&recipe]);
    let ports = "<controller type='pci' index='1' model='pcie-root-port'/>\
        <controller type='pci' index='2' model='pcie-switch-upstream-port'><address type='pci' bus='1' slot='0'/></controller>\
        <controller type='pci' index='3' model='pcie-switch-downstream-port'><address type='pci' bus='2' slot='0'/></controller>";
    let switched = hostdev("0008:01:00.0", "<address type='pci' bus='3' slot='0'/>");
    let text = guest(&(ports.to_owned() + &switched))
        .replace("aarch64", "x86_64")
        .replace("'virt'", "'q35'");
    let plan = fixture.rewrite(&text).plan;
    let unknown = plan
        .notes
        .iter()
        .filter(|note| note.code == Code::LinkUnknown);
    assert_eq!(unknown.count(), 1);
    assert!(
        plan.changes
            .iter()
            .all(|change| change.code != Code::LinkMissing)
    );
}

#[test]
fn an_unreadable_link_or_a_user_override_gives_a_note() {
    let noted = |fixture: &Fixture, text: &str| {
        let got = fixture.rewrite(text);
        assert!(!got.text.contains("x-speed"), "{}", got.text);
        got.plan
            .notes
            .iter()
            .any(|note| note.code == Code::LinkUnknown)
    };
    let text = guest(&hostdev("0009:01:00.0", ""));
    assert!(
        noted(&fixture(), &text),
        "config space of this one was not read"
    );
    let own = format!(
        "<override xmlns='{}'><device alias='x'/></override></domain>",
        domain::QEMU_NAMESPACE
    );
    assert!(noted(
        &fixture(),
        &guest(&hostdev("0008:01:00.0", "")).replace("</domain>", &own)
    ));
    assert!(!noted(&Fixture::new(), &text), "not requested");
}
