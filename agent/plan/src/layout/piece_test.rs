//! A mirrored layout in definitions: with initiators, again, reverted, edited.

use kernel_glue::capacity::{Capacity, Pages};
use kernel_glue::config::{Config, Express};
use kernel_glue::host::Host;
use proptest::prelude::*;

use super::{may_need_facts, needs_facts};
use crate::fixture::{revert, rewrite, verify};
use crate::other_guest::Other;
use crate::plan::testing::{Fixture, GPUS, device, guest, hostdev, node};
use crate::plan::{NumaFacts, NumaInput, PlanInput};
use crate::recipe::Recipes;
use crate::rewrite::Rewrite;
use crate::saved_plan::SavedPlan;
use domain::code::Code;
use domain::refusal::Refusal;
use domain::{Domain, NumaMode};

const GIB: u64 = 1 << 20;

/// The modelled host with two sockets and four GPUs, and what its guests can have.
struct Scene {
    fixture: Fixture,
    capacity: Capacity,
    others: Vec<Other>,
}

fn capacity(pages: u64) -> Capacity {
    let one = |cpu: u32| [cpu].into_iter().collect();
    let pages = [0, 1].map(|id| Pages {
        node: node(id),
        size_kib: GIB,
        total: pages,
        free: pages,
    });
    Capacity {
        online: Some((0..144).collect()),
        cores: (0..144).map(one).collect(),
        pages: pages.to_vec(),
        ..Capacity::default()
    }
}

impl Scene {
    fn new(pages: u64) -> Self {
        Self {
            fixture: Fixture::new(),
            capacity: capacity(pages),
            others: Vec::new(),
        }
    }

    fn input(&self, wanted: Option<NumaMode>) -> PlanInput<'_> {
        let facts = NumaFacts {
            capacity: &self.capacity,
            others: &self.others,
        };
        PlanInput {
            numa: NumaInput {
                wanted,
                facts: Some(facts),
            },
            ..self.fixture.input()
        }
    }

    fn try_mirrored(&self, text: &str) -> Result<Rewrite, Refusal> {
        rewrite(text, &self.input(Some(NumaMode::Mirror)))
    }

    fn mirrored(&self, text: &str) -> Rewrite {
        self.try_mirrored(text).expect("a layout")
    }

    /// Completed without an option of the caller.
    fn completed(&self, text: &str) -> String {
        rewrite(text, &self.input(None)).expect("completed").text
    }

    fn kept(&self, text: &str) -> String {
        let input = self.input(Some(NumaMode::Keep));
        rewrite(text, &input).expect("completed").text
    }
}

fn with_gpus(places: &[usize]) -> String {
    let all: String = places.iter().map(|at| hostdev(GPUS[*at].0, "")).collect();
    guest(&all)
}

fn parsed(text: &str) -> Domain {
    Domain::parse(text).expect("a domain")
}

#[test]
fn gpus_of_two_sockets_get_two_cells_and_initiators_with_the_distances_of_both() {
    let scene = Scene::new(0);
    let rewrite = scene.mirrored(&with_gpus(&[0, 2]));
    let domain = parsed(&rewrite.text);
    assert_eq!(domain.cells.len(), 2 + 16);
    let cpus: Vec<String> = domain
        .cells
        .iter()
        .map(|one| one.cpus.to_string())
        .collect();
    assert_eq!(cpus[..3], ["0-1", "2-3", ""]);
    for (cell, node) in [(0, 0), (1, 1)] {
        let bound = domain.memory_nodes.iter().find(|one| one.cell == cell);
        assert_eq!(
            bound.expect("a <memnode>").nodes.to_string(),
            node.to_string()
        );
    }
    let pinned: Vec<String> = domain
        .binding
        .pins
        .values()
        .map(ToString::to_string)
        .collect();
    let socket = |pin: &String| pin.parse::<u32>().expect("one CPU") / 72;
    assert_eq!(pinned.iter().map(socket).collect::<Vec<_>>(), [0, 0, 1, 1]);
    // Cell 2 is the first initiator of the GPU on socket 0, cell 10 that of the GPU on socket 1.
    let distance = |from: usize, to: u32| domain.cells[from].distances[&to];
    assert_eq!((distance(0, 1), distance(1, 0)), (40, 40));
    assert_eq!((distance(0, 2), distance(1, 2)), (80, 120));
    assert_eq!((distance(0, 10), distance(1, 10)), (120, 80));
    let codes: Vec<Code> = rewrite.plan.changes.iter().map(|one| one.code).collect();
    assert_eq!(codes[0], Code::LayoutMissing);
    let notes: Vec<Code> = rewrite.plan.notes.iter().map(|one| one.code).collect();
    assert!(
        notes.contains(&Code::NumaOption) && !notes.contains(&Code::CellUnbound),
        "{notes:?}"
    );
}

#[test]
fn without_the_option_a_definition_is_completed_as_before() {
    let scene = Scene::new(8);
    let text = with_gpus(&[0, 2]);
    let before = rewrite(&text, &scene.fixture.input())
        .expect("completed")
        .text;
    assert_eq!(scene.completed(&text), before);
    let kept = scene.kept(&text);
    assert!(kept.contains("numa='keep'"), "{kept}");
    assert!(!kept.contains("vcpupin"), "{kept}");
}

#[test]
fn a_layout_stays_while_other_guests_and_free_pages_change() {
    let mut scene = Scene::new(8);
    let text = scene.mirrored(&with_gpus(&[0, 2])).text;
    scene.capacity = capacity(0);
    let all: String = (0..140)
        .map(|cpu| format!("<vcpupin vcpu='{cpu}' cpuset='{cpu}'/>"))
        .collect();
    let other = format!(
        "<domain><name>o</name><vcpu>140</vcpu><cputune>{all}</cputune><devices/></domain>"
    );
    scene.others = vec![Other::of(&scene.fixture.host.numa, &parsed(&other))];
    assert_eq!(scene.completed(&text), text);
    assert_eq!(scene.mirrored(&text).text, text);
}

#[test]
fn a_layout_is_computed_again_for_more_vcpus_another_gpu_or_other_host_nodes() {
    let mut scene = Scene::new(8);
    let text = with_gpus(&[0]);
    let laid = scene.mirrored(&text).text;
    let more = |text: &str| text.replace("<vcpu>4<", "<vcpu>6<");
    assert_eq!(
        scene.completed(&more(&laid)),
        scene.mirrored(&more(&text)).text
    );
    let end = "  </devices>";
    let gpu = |text: &str| text.replace(end, &format!("{}{end}", hostdev(GPUS[3].0, "")));
    let two = parsed(&scene.completed(&gpu(&laid)));
    assert_eq!(two.cells.iter().filter(|cell| !cell.is_empty()).count(), 2);
    scene.fixture.host.numa.nodes[0].cpus = (0..60).collect();
    let again = scene.mirrored(&text).text;
    assert_ne!(again, laid);
    assert_eq!(scene.completed(&laid), again);
}

#[test]
fn a_user_s_change_of_a_layout_is_kept_by_revert_and_refused_with_both_values_by_mirror() {
    let scene = Scene::new(0);
    let text = with_gpus(&[0]);
    let laid = scene.mirrored(&text).text;
    let edited = laid.replace("vcpu='1' cpuset='1'", "vcpu='1' cpuset='70'");
    assert_ne!(edited, laid, "{laid}");
    let reverted = parsed(&revert(&edited).expect("reverted"));
    let pins: Vec<u32> = reverted.binding.pins.keys().copied().collect();
    assert_eq!(pins, [1]);
    assert!(reverted.cells.is_empty() && reverted.layout.is_none());
    let refusal = rewrite(&edited, &scene.input(None)).expect_err("refused");
    assert_eq!(refusal.code, Code::LayoutTaken);
    assert!(refusal.reason.contains("vCPU 1 on CPUs 70"), "{refusal}");
    assert!(
        refusal.reason.contains("the layout has vCPU 0 on CPU"),
        "{refusal}"
    );
}

#[test]
fn a_user_s_own_layout_is_refused_with_both_values_and_kept_without_mirror() {
    let scene = Scene::new(0);
    for (own, have) in [
        (
            "<cputune><vcpupin vcpu='2' cpuset='7'/></cputune>",
            "vCPU 2 on CPUs 7",
        ),
        ("<cputune><emulatorpin cpuset='7'/></cputune>", "CPUs 7"),
        (
            "<numatune><memory mode='strict' nodeset='1'/></numatune>",
            "nodes 1",
        ),
        (
            "<memoryBacking><hugepages/></memoryBacking>",
            "the default size",
        ),
    ] {
        let text = with_gpus(&[0]).replace("  <os>", &format!("  {own}\n  <os>"));
        let refusal = scene.try_mirrored(&text).expect_err(own);
        assert_eq!(refusal.code, Code::LayoutTaken, "{own}: {refusal}");
        assert!(refusal.reason.contains(&format!("({have})")), "{refusal}");
        let kept = scene.kept(&text);
        assert!(kept.contains(own), "{kept}");
    }
}

#[test]
fn without_facts_a_layout_stays_and_a_new_one_is_refused() {
    let scene = Scene::new(0);
    let text = with_gpus(&[0, 2]);
    let laid = scene.mirrored(&text).text;
    let blind = scene.fixture.input();
    assert_eq!(rewrite(&laid, &blind).expect("kept").text, laid);
    assert!(verify(&laid, &blind).is_ok());
    let asked = PlanInput {
        numa: NumaInput {
            wanted: Some(NumaMode::Mirror),
            facts: None,
        },
        ..blind
    };
    let refusal = rewrite(&text, &asked).expect_err("refused");
    assert_eq!(refusal.code, Code::LayoutUnknown, "{refusal}");
}

/// A host with a recipe for Grace that mirrors by default.
fn by_default() -> Scene {
    let mut scene = Scene::new(0);
    let shipped = include_str!("../../../recipes/nvidia-grace.toml");
    let mirror = format!("{shipped}\n[numa]\ndefault = \"mirror\"\n");
    scene.fixture.recipes = Recipes::of(&[&mirror]);
    scene
}

#[test]
fn a_recipe_s_default_applies_where_the_user_has_no_layout() {
    let scene = by_default();
    let text = with_gpus(&[0, 2]);
    let laid = scene.completed(&text);
    assert!(laid.contains("<vcpupin"), "{laid}");
    assert_eq!(scene.completed(&laid), laid);
    assert_eq!(revert(&laid).expect("reverted"), text);
    // Cells that were added for devices before the recipe had a default are not a layout of the user's own.
    let before = rewrite(&text, &Scene::new(0).input(None)).expect("completed");
    assert!(before.text.contains("<numa>"), "{}", before.text);
    assert_eq!(scene.completed(&before.text), laid);
    let own = text.replace(
        "  <os>",
        "  <cputune><emulatorpin cpuset='7'/></cputune>\n  <os>",
    );
    assert!(!scene.completed(&own).contains("<vcpupin"));
    assert!(!scene.kept(&laid).contains("<vcpupin"));
}

#[test]
fn a_saved_plan_with_a_layout_shows_its_lines_and_its_reason() {
    let scene = Scene::new(0);
    let definition = with_gpus(&[0, 2]).parse().expect("a definition");
    let input = scene.input(Some(NumaMode::Mirror));
    let saved = SavedPlan::make(&definition, &input).expect("a plan");
    let lines = saved.hunks.iter().flat_map(|hunk| &hunk.lines);
    assert!(
        lines
            .clone()
            .any(|line| line.contains("+") && line.contains("<vcpupin"))
    );
    let reasons = saved.hunks.iter().flat_map(|hunk| &hunk.reasons);
    let count = reasons
        .filter(|reason| reason.text.contains("the NUMA layout of"))
        .count();
    assert_eq!(count, 1);
    saved.check(&definition, &input).expect("the same plan");
    let stale = saved.check(&definition, &busy(scene).input(Some(NumaMode::Mirror)));
    assert_facts_changed(stale);
}

/// The host with another guest, which is pinned to CPU 1.
fn busy(mut scene: Scene) -> Scene {
    let other = "<domain><name>o</name><vcpu>1</vcpu><cputune><vcpupin vcpu='0' cpuset='1'/></cputune><devices/></domain>";
    scene.others = vec![Other::of(&scene.fixture.host.numa, &parsed(other))];
    scene
}

fn assert_facts_changed(checked: Result<(), Refusal>) {
    let stale = checked.expect_err("stale");
    assert_eq!(stale.code, Code::PlanStale, "{stale}");
    assert!(
        stale.reason.contains("CPUs, huge pages or other guests"),
        "{stale}"
    );
}

#[test]
fn a_saved_plan_with_a_recipe_s_default_layout_is_stale_once_another_guest_holds_cpus() {
    let scene = by_default();
    let definition = with_gpus(&[0, 2]).parse().expect("a definition");
    let saved = SavedPlan::make(&definition, &scene.input(None)).expect("a plan");
    assert!(saved.text.contains("<vcpupin"), "{}", saved.text);
    saved
        .check(&definition, &scene.input(None))
        .expect("the same plan");
    assert_facts_changed(saved.check(&definition, &busy(scene).input(None)));
}

#[test]
fn a_saved_plan_without_a_layout_stays_while_other_guests_change() {
    let scene = by_default();
    let own = with_gpus(&[0, 2]).replace(
        "  <os>",
        "  <cputune><emulatorpin cpuset='7'/></cputune>\n  <os>",
    );
    let definition = own.parse().expect("a definition");
    let saved = SavedPlan::make(&definition, &scene.input(None)).expect("a plan");
    assert!(!saved.text.contains("<vcpupin"), "{}", saved.text);
    saved
        .check(&definition, &busy(scene).input(None))
        .expect("the same plan");
}

#[test]
fn a_plan_reads_facts_only_for_a_domain_whose_devices_get_or_have_a_layout() {
    let (scene, plain) = (by_default(), Scene::new(0));
    let gpus = with_gpus(&[0, 2]);
    let laid = plain.mirrored(&gpus).text;
    let option = gpus.replace(
        "  <os>",
        "  <metadata><v:options xmlns:v='urn:variantd:options:1' numa='mirror'/></metadata>\n  <os>",
    );
    let own = gpus.replace(
        "  <os>",
        "  <cputune><emulatorpin cpuset='7'/></cputune>\n  <os>",
    );
    let (mirror, keep) = (Some(NumaMode::Mirror), Some(NumaMode::Keep));
    let cases = [
        (&plain, &gpus, None, false),
        (&plain, &gpus, mirror, true),
        (&plain, &option, None, true),
        (&plain, &option, keep, false),
        (&plain, &laid, None, true),
        (&plain, &guest(""), mirror, false),
        (&scene, &gpus, None, true),
        (&scene, &gpus, keep, false),
        (&scene, &own, None, false),
        (&scene, &guest(""), None, false),
    ];
    for (scene, text, wanted, reads) in cases {
        let (host, recipes) = (&scene.fixture.host, &scene.fixture.recipes);
        let domain = parsed(text);
        assert_eq!(
            needs_facts(host, recipes, wanted, &domain),
            reads,
            "{wanted:?} {text}"
        );
        assert!(!reads || may_need_facts(recipes, wanted, &domain), "{text}");
    }
}

/// The same host with GPUs for x86_64 behind two switches of each socket; addresses and switches are in opposite orders.
fn x86() -> Scene {
    let mut scene = Scene::new(0);
    for (at, (name, _)) in GPUS.iter().enumerate() {
        let address = name.parse().expect("an address");
        let device = scene.fixture.host.devices.get_mut(&address).expect("a GPU");
        device.id = "10de:2330".parse().expect("an id");
        let switch = format!("00{at}0:00:0{}.0", 9 - at);
        device.ancestors = vec![switch.parse().expect("an address")];
    }
    scene
}

fn q35(places: &[usize], inner: &str) -> String {
    with_gpus(places)
        .replace(
            "arch='aarch64' machine='virt'",
            "arch='x86_64' machine='q35'",
        )
        .replace(
            "    <controller type=\"pci\" index='0' model='pcie-root'/>\n",
            inner,
        )
}

/// The expander bus of each GPU: its guest cell.
fn expanders(domain: &Domain) -> Vec<Option<u32>> {
    let above = |bus: u32| {
        let port = domain.controller(bus).expect("a port");
        let bus = port.address.expect("an address").at.bus();
        domain.controller(bus.into()).expect("a bus")
    };
    let buses = domain
        .hostdevs
        .iter()
        .map(|one| above(one.address.expect("an address").at.bus().into()));
    let expanders = buses.inspect(|one| assert_eq!(one.model, "pcie-expander-bus"));
    expanders.map(|one| one.cell).collect()
}

#[test]
fn on_q35_each_gpu_is_on_an_expander_bus_at_its_cell() {
    let scene = x86();
    let text = q35(&[0, 1, 2, 3], "");
    let laid = scene.mirrored(&text).text;
    let domain = parsed(&laid);
    assert_eq!(expanders(&domain), [Some(0), Some(0), Some(1), Some(1)]);
    assert!(crate::plan::bus_number::check(&domain).is_none(), "{laid}");
    assert_eq!(scene.completed(&laid), laid);
    let reverted = revert(&laid).expect("reverted");
    assert!(
        !reverted.contains("expander") && !reverted.contains("vcpupin"),
        "{reverted}"
    );
    assert!(!scene.kept(&text).contains("expander"));
}

#[test]
fn on_q35_gpus_below_one_switch_have_adjacent_ports_and_a_users_expander_is_used() {
    let mut scene = x86();
    let switch: kernel_glue::address::PciAddress = "0000:00:01.0".parse().expect("an address");
    // The GPUs at places 0 and 3 are below one switch of socket 0, that at place 1 below a later one.
    for (at, below) in [
        (0, switch),
        (1, "0000:00:09.0".parse().expect("an address")),
        (3, switch),
    ] {
        let address = GPUS[at].0.parse().expect("an address");
        let device = scene.fixture.host.devices.get_mut(&address).expect("a GPU");
        device.ancestors = vec![below];
        device.numa_node = Some(node(0));
    }
    let own = "    <controller type='pci' index='1' model='pcie-expander-bus'>\n      <target busNr='200'>\n        <node>0</node>\n      </target>\n    </controller>\n";
    let text = q35(&[0, 1, 3], own);
    let laid = scene.mirrored(&text).text;
    let domain = parsed(&laid);
    let buses: Vec<u32> = domain
        .hostdevs
        .iter()
        .map(|one| one.address.expect("an address").at.bus().into())
        .collect();
    let slots = buses.iter().map(|bus| {
        let at = domain
            .controller(*bus)
            .expect("a port")
            .address
            .expect("an address")
            .at;
        (at.bus(), at.device())
    });
    assert_eq!(slots.collect::<Vec<_>>(), [(1, 0), (1, 2), (1, 1)]);
    assert_eq!(
        revert(&laid).expect("reverted").matches("expander").count(),
        1
    );
}

/// The same with the GPUs of each socket below one switch, a network adapter below the first, and recipes that mirror switches.
fn switched() -> Scene {
    let mut scene = x86();
    let placement = "own_root_port = true\nswitch = true";
    let gpus = include_str!("../../../recipes/nvidia-x86.toml");
    let gpus = gpus.replace("own_root_port = true", placement);
    let adapters = include_str!("../../../recipes/mlx5.toml");
    let adapters = format!("{adapters}\n[placement]\n{placement}\n");
    scene.fixture.recipes = Recipes::of(&[&gpus, &adapters]);
    let devices = &mut scene.fixture.host.devices;
    let address = |text: &str| text.parse().expect("an address");
    let mut adapter = device(ADAPTER, "15b3:101e", 0);
    adapter.ancestors = vec![address("0000:00:01.0")];
    devices.insert(adapter.address, adapter);
    for (gpu, up) in GPUS.iter().zip([1, 1, 2, 2]) {
        let up = address(&format!("0000:00:0{up}.0"));
        let mut port = device(&up.to_string(), "1000:c030", 0);
        port.config = upstream();
        devices.insert(up, port);
        let gpu = devices.get_mut(&address(gpu.0)).expect("a GPU");
        gpu.ancestors = vec![up];
    }
    scene
}

const ADAPTER: &str = "0000:05:00.0";

fn upstream() -> Config {
    Config::Express(Express {
        ats: None,
        version: 2,
        port: kernel_glue::config::Port::UpstreamPort,
        devcap: 0,
        devctl: 0,
        access_control: None,
        lnkcap: 0,
        devcap2: 0,
        devctl2: 0,
    })
}

#[test]
fn on_q35_a_mirrored_switch_with_gpus_and_an_adapter_is_below_the_expander_of_its_cell() {
    let scene = switched();
    let adapter = format!("{}  </devices>", hostdev(ADAPTER, ""));
    let text = q35(&[0, 1, 2, 3], "").replace("  </devices>", &adapter);
    let rewrite = scene.mirrored(&text);
    let laid = &rewrite.text;
    let domain = parsed(laid);
    let switches: Vec<Vec<u32>> = (domain.hostdevs.iter())
        .map(|one| above(&domain, one.address.expect("an address").at.bus().into()))
        .collect();
    let expander = |at: usize| domain.controller(switches[at][3]).expect("a bus");
    let up: Vec<u32> = switches.iter().map(|above| above[1]).collect();
    // Places 0 and 1 are the GPUs of socket 0, 2 and 3 those of socket 1, and 4 is the adapter.
    assert!(up[0] == up[1] && up[0] == up[4] && up[2] == up[3] && up[0] != up[2]);
    let cells = [0, 2, 4].map(|at| (expander(at).model.as_str(), expander(at).cell));
    let bus = "pcie-expander-bus";
    assert_eq!(cells, [(bus, Some(0)), (bus, Some(1)), (bus, Some(0))]);
    assert!(crate::plan::bus_number::check(&domain).is_none(), "{laid}");
    let noted = rewrite.plan.notes.iter();
    let noted = noted.filter(|note| note.code == Code::SwitchMirrored);
    assert_eq!(noted.count(), 5);
    assert_eq!(scene.completed(laid), *laid);
    let reverted = revert(laid).expect("reverted");
    assert!(!reverted.contains("pcie-switch"), "{reverted}");
    assert!(!scene.kept(&text).contains("pcie-expander-bus"));
}

/// The controllers from a bus to the root: their indexes.
fn above(domain: &Domain, bus: u32) -> Vec<u32> {
    let next = |at: &u32| Some(u32::from(domain.controller(*at)?.address?.at.bus()));
    std::iter::successors(Some(bus), next).collect()
}

#[test]
fn a_wrong_locality_is_a_note_of_the_plan() {
    let scene = Scene::new(2);
    let inner = "<cputune><vcpupin vcpu='0' cpuset='72'/><vcpupin vcpu='1' cpuset='73'/><vcpupin vcpu='2' cpuset='74'/>\
        <vcpupin vcpu='3' cpuset='75'/></cputune>";
    let pinned = with_gpus(&[0]).replace("  <os>", &format!("  {inner}\n  <os>"));
    let notes = |text: &str| {
        let plan = rewrite(text, &scene.input(None)).expect("completed").plan;
        let notes = plan
            .notes
            .into_iter()
            .filter(|note| note.code == Code::LocalityWrong);
        notes.map(|note| note.text).collect::<Vec<_>>()
    };
    assert_eq!(
        notes(&pinned),
        ["it is on node 0, and all vCPUs are pinned to other nodes"]
    );
    assert_eq!(notes(&with_gpus(&[0])), [""; 0]);
    let pages = "<memoryBacking><hugepages><page size='1' unit='GiB'/></hugepages></memoryBacking>\
        <numatune><memory mode='strict' nodeset='0'/></numatune>";
    let cell = "<cpu mode='host-passthrough'><numa><cell id='0' cpus='0-3' memory='4' unit='GiB'/></numa></cpu>";
    let short = with_gpus(&[0])
        .replace("  <os>", &format!("  {pages}\n  <os>"))
        .replace("<cpu mode='host-passthrough'/>", cell);
    assert_eq!(
        notes(&short),
        ["node 0 has 2 huge pages of 1 GiB, and the guest's cells there need 4"]
    );
}

/// What a guest has around its layout.
#[derive(Clone, Debug)]
struct Shape {
    gpus: Vec<usize>,
    vcpus: u32,
    gib: u64,
    cpu: &'static str,
    around: &'static str,
    metadata: &'static str,
    pages: u64,
}

impl Shape {
    fn text(&self) -> String {
        let (vcpus, memory) = (self.vcpus, self.gib * GIB);
        with_gpus(&self.gpus)
            .replace("<vcpu>4<", &format!("<vcpu>{vcpus}<"))
            .replace(">4194304<", &format!(">{memory}<"))
            .replace("  <cpu mode='host-passthrough'/>\n", self.cpu)
            .replace(
                "  <os>\n",
                &format!("{}{}  <os>\n", self.metadata, self.around),
            )
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    let cpus = [
        "",
        "  <cpu/>\n",
        "  <cpu mode='host-passthrough'/>\n",
        "  <cpu>\n    <model>x</model>\n  </cpu>\n",
    ];
    let around = [
        "",
        "  <cputune/>\n  <numatune/>\n  <memoryBacking/>\n",
        "  <cputune>\n    <shares>9</shares>\n  </cputune>\n  <memoryBacking>\n    <locked/>\n  </memoryBacking>\n",
        "  <iothreads>2</iothreads>\n",
    ];
    let metadata = [
        "",
        "  <metadata/>\n",
        "  <metadata>\n    <a:b xmlns:a='urn:a'/>\n  </metadata>\n",
    ];
    (
        prop::sample::subsequence(vec![0, 1, 2, 3], 1..=4),
        4u32..140,
        4u64..64,
        prop::sample::select(cpus.to_vec()),
        prop::sample::select(around.to_vec()),
        prop::sample::select(metadata.to_vec()),
        prop::sample::select(vec![0, 4, 64]),
    )
        .prop_map(|(gpus, vcpus, gib, cpu, around, metadata, pages)| Shape {
            gpus,
            vcpus,
            gib,
            cpu,
            around,
            metadata,
            pages,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn mirror_is_idempotent_reverts_exactly_and_keep_undoes_it(shape in shapes()) {
        let scene = Scene::new(shape.pages);
        let text = shape.text();
        let done = scene.mirrored(&text);
        prop_assert_eq!(&scene.mirrored(&done.text).text, &done.text);
        prop_assert_eq!(&scene.completed(&done.text), &done.text);
        prop_assert!(verify(&done.text, &scene.fixture.input()).is_ok());
        let reverted = revert(&done.text).expect("reverted");
        prop_assert_eq!(revert(&reverted).expect("again"), reverted.clone());
        // The option stays; without it the text is the user's.
        let option = scene.input(Some(NumaMode::Mirror));
        let edits = crate::plan::option::edits(&option, &parsed(&text));
        let with_option = domain::edit::apply(&text, &edits).expect("edits");
        prop_assert_eq!(&reverted, &with_option);
        prop_assert_eq!(scene.kept(&done.text), scene.kept(&text));
        // As libvirt formats it.
        let formatted = done.text.replace(" cores=", " dies='1' clusters='1' cores=").replace("nodeset='0,1'", "nodeset='0-1'");
        prop_assert_eq!(&scene.completed(&formatted), &formatted);
        let domain = parsed(&done.text);
        let pins: Vec<u32> = domain.binding.pins.values().flat_map(|list| list.iter()).collect();
        let once: std::collections::BTreeSet<u32> = pins.iter().copied().collect();
        prop_assert_eq!((pins.len(), once.len()), (shape.vcpus as usize, shape.vcpus as usize));
    }
}

/// The modelled host has all that a layout reads of it.
#[test]
fn the_modelled_host_has_two_sockets() {
    let host: Host = Fixture::new().host;
    assert_eq!(host.numa.sockets().count(), 2);
}

/// A guest with GPUs and an adapter without a recipe, which is below the switch of the GPU at place 1; and its definition.
fn with_adapter(places: &[usize], inner: &str) -> (Scene, String) {
    let mut scene = x86();
    let devices = &mut scene.fixture.host.devices;
    let beside: kernel_glue::address::PciAddress = GPUS[1].0.parse().expect("an address");
    let mut adapter = device(ADAPTER, "15b3:1021", 0);
    adapter.ancestors = devices[&beside].ancestors.clone();
    devices.insert(adapter.address, adapter);
    let adapter = format!("{}  </devices>", hostdev(ADAPTER, inner));
    let text = q35(places, "").replace("  </devices>", &adapter).replace(
        "  <os>",
        "  <metadata><v:options xmlns:v='urn:variantd:options:1' numa='mirror'/></metadata>\n  <os>",
    );
    (scene, text)
}

#[test]
fn on_q35_an_adapter_without_a_recipe_is_beside_the_gpu_below_its_switch() {
    let (scene, text) = with_adapter(&[0, 1, 2], "");
    let laid = scene.completed(&text);
    let domain = parsed(&laid);
    assert_eq!(expanders(&domain), [Some(0), Some(0), Some(1), Some(0)]);
    let slots = domain.hostdevs.iter().map(|one| {
        let bus = one.address.expect("an address").at.bus().into();
        let port = domain.controller(bus).expect("a port");
        port.address.expect("an address").at.device()
    });
    let slots: Vec<u8> = slots.collect();
    assert_eq!(slots[1].abs_diff(slots[3]), 1, "{slots:?}");
    // A recipe that an administrator adds for it later does not count as asked for.
    let is_marked = domain
        .hostdevs
        .iter()
        .map(|one| domain.is_marked(one.source));
    assert_eq!(is_marked.collect::<Vec<_>>(), [true, true, true, false]);
    assert!(crate::plan::bus_number::check(&domain).is_none(), "{laid}");
    assert_eq!(scene.completed(&laid), laid);
    let started = verify(&laid, &scene.input(None)).expect("complete");
    let planned = started.devices.iter().map(|one| one.address.to_string());
    assert_eq!(
        planned.collect::<Vec<_>>(),
        [GPUS[0].0, GPUS[1].0, GPUS[2].0]
    );
    assert_eq!(revert(&laid).expect("reverted"), text);
    // A guest starts without that port, and without the adapter it is planned as if it had never had it.
    let address = domain.hostdevs[3].address_element.as_ref();
    let without = removed(&laid, address.expect("an address"));
    verify(&without, &scene.input(None)).expect("it starts");
    let gone = removed(&laid, &domain.hostdevs[3].element);
    let never = removed(&text, &parsed(&text).hostdevs[3].element);
    assert_eq!(scene.completed(&gone), scene.completed(&never));
}

fn removed(text: &str, element: &domain::edit::Element) -> String {
    domain::edit::apply(text, [&element.remove()]).expect("one edit")
}

#[test]
fn an_adapter_keeps_its_own_address_and_a_guest_without_a_layout_is_not_changed_for_it() {
    let own = "      <address type='pci' domain='0x0000' bus='0x00' slot='0x1d' function='0x0'/>\n";
    let (scene, text) = with_adapter(&[0, 1], own);
    let laid = scene.completed(&text);
    let address = parsed(&laid).hostdevs[2].address.expect("an address");
    assert_eq!(address.at.bus(), 0);
    assert_eq!(revert(&laid).expect("reverted"), text);
    let (scene, text) = with_adapter(&[0, 1], "");
    let kept = scene.completed(&text.replace("numa='mirror'", "numa='keep'"));
    assert!(parsed(&kept).hostdevs[2].address.is_none(), "{kept}");
}
