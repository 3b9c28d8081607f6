//! Switches that are mirrored: devices behind one of the host's are behind one of the guest's.

use kernel_glue::config::{Config, Express, Port};

use super::testing::{Fixture, address, device, guest, hostdev};
use crate::fixture::revert;
use crate::recipe::{Recipe, Recipes};
use domain::Domain;
use domain::code::Code;

const RECIPE: &str = include_str!("../../../recipes/nvidia-x86.toml");

/// Two GPUs behind one switch, a third behind another.
fn fixture() -> Fixture {
    let mut fixture = Fixture::new();
    let recipe = RECIPE.replace(
        "own_root_port = true",
        "own_root_port = true\nswitch = true",
    );
    fixture.recipes = Recipes::of(&[&recipe]);
    for (up, gpus) in [
        ("0001:01:00.0", &["0001:03:00.0", "0001:04:00.0"][..]),
        ("0002:11:00.0", &["0002:13:00.0"][..]),
    ] {
        let mut port = device(up, "1000:c030", 0);
        port.config = Config::Express(Express {
            version: 2,
            port: Port::UpstreamPort,
            devcap: 0,
            devctl: 0,
            access_control: None,
            ats: None,
            lnkcap: 0,
            devcap2: 0,
            devctl2: 0,
        });
        for gpu in gpus {
            let mut gpu = device(gpu, "10de:2330", 0);
            gpu.ancestors = vec![port.address];
            fixture.host.devices.insert(gpu.address, gpu);
        }
        fixture.host.devices.insert(port.address, port);
    }
    fixture
}

fn text() -> String {
    let gpus = ["0001:03:00.0", "0001:04:00.0", "0002:13:00.0"];
    let devices: String = gpus.iter().map(|at| hostdev(at, "")).collect();
    guest(&devices)
        .replace("aarch64", "x86_64")
        .replace("'virt'", "'q35'")
}

#[test]
fn devices_behind_one_switch_of_the_host_are_behind_one_of_the_guests() {
    let got = fixture().rewrite(&text());
    let domain = Domain::parse(&got.text).expect("well-formed");
    let up = |at: &str| {
        let hostdev = domain
            .hostdevs
            .iter()
            .find(|h| h.source == address(at))
            .expect("hostdev");
        let down = domain
            .controller(hostdev.address.expect("placed").at.bus().into())
            .expect("port");
        assert_eq!(down.model, "pcie-switch-downstream-port");
        down.address.expect("on a switch").at.bus()
    };
    assert_eq!(up("0001:03:00.0"), up("0001:04:00.0"));
    assert_ne!(up("0001:03:00.0"), up("0002:13:00.0"));
    let noted = got
        .plan
        .notes
        .iter()
        .filter(|note| note.code == Code::SwitchMirrored);
    assert_eq!(noted.count(), 3);
    assert_eq!(fixture().rewrite(&got.text).text, got.text);
    assert_eq!(revert(&got.text).expect("reverted"), text());
}

#[test]
fn a_mirrored_switch_ends_atomics_for_a_driver_that_prefers_them() {
    let mut fixture = fixture();
    let placement = "own_root_port = true\nswitch = true";
    let recipe = RECIPE.replace("own_root_port = true", placement);
    let recipe = format!("{recipe}\n[atomics]\nneed = \"prefer\"\nwidths = [32]\n");
    fixture.recipes = Recipes::of(&[&recipe]);
    let missed = |plan: &crate::plan::Plan| {
        let missed = |note: &&crate::plan::Note| note.code == Code::AtomicsMissed;
        plan.notes.iter().filter(missed).count()
    };
    let got = fixture.rewrite(&text());
    assert_eq!(missed(&got.plan), 3);
    assert_eq!(missed(&fixture.rewrite(&got.text).plan), 3);
}

#[test]
fn a_switch_with_another_device_is_kept() {
    let got = fixture().rewrite(&text()).text;
    let own = "<interface type='user'><address type='pci' bus='3' slot='0'/></interface></devices>";
    let moved = got.replace(
        "bus='0x03' slot='0x00' function='0x0'/>\n    </hostdev>",
        "bus='0x09' slot='0x00' function='0x0'/>\n    </hostdev>",
    );
    let kept = revert(&moved.replace("</devices>", own)).expect("reverted");
    assert!(
        kept.contains("index='3'") && kept.contains("pcie-switch-upstream-port"),
        "{kept}"
    );
}

#[test]
fn a_recipe_cannot_have_a_switch_and_what_it_excludes() {
    let with = |line: &str| Recipe::parse("r.toml", &RECIPE.replace("own_root_port = true", line));
    for (line, words) in [
        ("switch = true", "own_root_port"),
        (
            "own_root_port = true\nswitch = true\nlink = true",
            "excludes placement.link",
        ),
    ] {
        let error = with(line).expect_err("refused").to_string();
        assert!(error.contains(words), "{error}");
    }
}
