//! A NUMA layout that is asked for: reported as missing, also by doctor's own plan, and unknown without the host's CPUs.

use kernel_glue::capacity::{Capacity, Pages};

use super::check::Verdict;
use super::scene::{Guest, Scene, Unavailable};
use super::testing::{answers, check, definition, ready};
use crate::fixture::{GPU, guest};
use domain::code::Code;
use planner::plan::PlanInput;
use planner::recipe::{Recipes, Sourced};
use planner::rewrite::rewrite;

const OPTION: &str =
    "<metadata><v:options xmlns:v='urn:variantd:options:1' numa='mirror'/></metadata><vcpu>";

/// The CPUs of the host's only socket, each a core of its own.
fn capacity() -> Capacity {
    let core = |cpu: u32| [cpu].into_iter().collect();
    Capacity {
        online: Some((0..72).collect()),
        cores: (0..72).map(core).collect(),
        ..Capacity::default()
    }
}

/// A host whose only guest is `xml`, completed without a layout. The agent does not answer.
fn scene(recipes: Recipes, xml: &str) -> Scene {
    let mut scene = Scene {
        capacity: Ok(capacity()),
        recipes,
        ..ready()
    };
    let input = PlanInput::newest(&scene.host, &scene.recipes);
    let completed = rewrite(&xml.parse().expect("a definition"), &input).expect("completed");
    let one = Guest {
        definition: completed.text.parse(),
        ..definition()
    };
    scene.libvirt = Ok(answers(vec![one]));
    scene
}

fn by_option() -> Scene {
    let shipped = Recipes::shipped().expect("recipes");
    scene(shipped, &guest(GPU).replace("<vcpu>", OPTION))
}

fn by_recipe() -> Scene {
    let shipped = Recipes::shipped().expect("recipes");
    let mut all = shipped.sourced();
    let grace = all.find(|one| one.recipe.name == "nvidia-grace");
    let text = format!(
        "{}\n[numa]\ndefault = \"mirror\"\n",
        grace.expect("a recipe").text
    );
    let grace = Sourced::parse("nvidia-grace.toml".as_ref(), text).expect("a recipe");
    scene(Recipes::with(vec![grace]).expect("recipes"), &guest(GPU))
}

#[test]
fn a_layout_that_the_option_or_a_recipe_asks_for_is_reported_as_missing() {
    for scene in [by_option(), by_recipe()] {
        let missing = check(&scene, Code::DefinitionLacks);
        assert_eq!(missing.verdict, Verdict::Fail, "{missing:?}");
        let code = Code::LayoutMissing.to_string();
        assert!(missing.text.contains(&code), "{missing:?}");
        assert_eq!(
            missing.hint.expect("a hint").as_str(),
            "run 'variantctl prepare d0'"
        );
    }
}

#[test]
fn a_layout_is_unknown_while_the_hosts_cpus_cannot_be_read() {
    let scene = Scene {
        capacity: Err(Unavailable::to_others("permission denied")),
        ..by_option()
    };
    let unknown = check(&scene, Code::DefinitionLacks);
    assert_eq!(unknown.verdict, Verdict::Unavailable, "{unknown:?}");
    assert!(unknown.hint.is_some(), "{unknown:?}");
}

#[test]
fn huge_pages_that_a_node_lacks_are_a_wrong_locality() {
    let pages = "<memoryBacking><hugepages><page size='1' unit='G'/></hugepages></memoryBacking>\
                 <numatune><memnode cellid='0' mode='strict' nodeset='0'/></numatune><vcpu>";
    let cells = "<cpu mode='host-passthrough'><numa><cell id='0' cpus='0-3' memory='4' unit='GiB'/></numa></cpu>";
    let mut one = definition();
    let xml = guest(GPU).replace("<vcpu>", pages);
    one.definition = xml.replace("<cpu mode='host-passthrough'/>", cells).parse();
    let mut scene = Scene {
        libvirt: Ok(answers(vec![one])),
        ..ready()
    };
    let own = Pages {
        node: 0.try_into().expect("a node"),
        size_kib: 1 << 20,
        total: 3,
        free: 3,
    };
    scene.capacity = Ok(Capacity {
        pages: vec![own],
        ..capacity()
    });
    let short = check(&scene, Code::LocalityWrong);
    assert_eq!(short.verdict, Verdict::Warn, "{short:?}");
    assert!(
        short.text.contains("has 3 huge pages of 1 GiB"),
        "{short:?}"
    );
}
