//! AtomicOps in plans: the place that a recipe's wish gives, the notes, and the change for the place alone.

use kernel_glue::config::Config;

use super::testing::{Fixture, address, guest, hostdev};
use crate::plan;
use crate::recipe::Recipes;
use domain::Domain;
use domain::code::Code;
use domain::edit;

const GPU: &str = "0009:01:00.0";

/// A recipe without [placement], and with this for AtomicOps.
fn fixture(atomics: &str) -> Fixture {
    let mut fixture = Fixture::new();
    let recipe = format!(
        "name = \"test\"\ntitle = \"Test\"\ndriver = \"vfio-pci\"\nprepare = \"on-define\"\n\
         [[device]]\nid = \"10de:2941\"\nlabel = \"GB200\"\n\
         [[guest]]\narch = \"aarch64\"\nmachine = \"virt\"\n[atomics]\n{atomics}\n"
    );
    fixture.recipes = Recipes::of(&[&recipe]);
    fixture
}

fn plan(fixture: &Fixture, inner: &str) -> plan::Plan {
    let domain = Domain::parse(&guest(&hostdev(GPU, inner))).expect("a domain");
    plan::plan(&fixture.input(), &domain).expect("a plan")
}

#[test]
fn a_recipe_that_prefers_atomics_gets_its_own_root_port() {
    let moved = |atomics: &str| {
        let changes = plan(&fixture(atomics), "").changes;
        changes
            .iter()
            .any(|change| change.code == Code::GuestNoAddress)
    };
    assert!(moved("need = \"require\"\nwidths = [32]"));
    assert!(moved("need = \"prefer\"\nwidths = [32]"));
    assert!(!moved("need = \"ignore\""));
}

#[test]
fn only_required_and_certain_findings_refuse_a_start() {
    for (need, visible, code, unmet) in [
        ("require", true, Code::AtomicsLacking, true),
        ("prefer", true, Code::AtomicsMissed, false),
        ("require", false, Code::AtomicsUndecided, false),
        ("prefer", false, Code::AtomicsUndecided, false),
    ] {
        let mut fixture = fixture(&format!("need = \"{need}\"\nwidths = [32, 64]"));
        let gpu = fixture.host.devices.get_mut(&address(GPU)).expect("gpu");
        if visible {
            gpu.config = Config::Conventional;
        }
        let plan = plan(&fixture, "");
        let noted = plan.notes.iter().filter(|note| note.code == code).count();
        assert_eq!(
            (noted, plan.unmet.is_some()),
            (1, unmet),
            "{need} {visible}"
        );
    }
}

#[test]
fn the_place_alone_changes_the_address_and_nothing_else() {
    let fixture = Fixture::new();
    let nic = "0002:01:00.0";
    let on_root_bus = "      <address type='pci' bus='0' slot='5' function='0'/>\n";
    let text = guest(&hostdev(nic, on_root_bus));
    let domain = Domain::parse(&text).expect("a domain");
    let changes = plan::placed(&fixture.input(), &domain, &[address(nic)]).expect("changes");
    let edits: Vec<_> = changes
        .iter()
        .flat_map(|change| change.edits.clone())
        .collect();
    let fixed = edit::apply(&text, &edits).expect("edits");
    let added = "<controller type='pci' index='1' model='pcie-root-port'/>";
    assert!(
        fixed.contains(added) && fixed.contains("bus='0x01' slot='0x00'"),
        "{fixed}"
    );
    assert_eq!(fixed.lines().count(), text.lines().count() + 1);
    let again = Domain::parse(&fixed).expect("a domain");
    let none = plan::placed(&fixture.input(), &again, &[address(nic)]).expect("changes");
    assert_eq!(none, []);
}
