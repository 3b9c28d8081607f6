//! Saved plans: what makes one stale, what is no plan, and what is refused as edited.

use kernel_glue::egm::EgmRegion;
use kernel_glue::host::Host;
use serde_json::{Value, json};

use super::*;
use crate::fixture::{GPU, NIC, address, definition, driver, guest, host, host_on};
use crate::json;
use crate::recipe::{Recipes, Sourced};
use crate::stack::{self, Feature, How, Stack};
use crate::target::{Target, Versions};

struct Inputs {
    text: String,
    host: Host,
    recipes: Recipes,
    versions: Versions,
    stack: Option<Stack>,
}

fn inputs() -> Inputs {
    Inputs {
        text: guest(GPU),
        host: host(),
        recipes: Recipes::shipped().expect("recipes"),
        versions: Versions::NEWEST_TESTED,
        stack: None,
    }
}

impl Inputs {
    fn input(&self) -> PlanInput<'_> {
        PlanInput {
            host: &self.host,
            recipes: &self.recipes,
            target: self.stack.map_or(self.versions.into(), Target::from),
            replace: false,
            egm: None,
            numa: crate::plan::NumaInput::default(),
            asked: true,
            formatted: false,
            libvirt: &crate::from_libvirt::NOTHING,
        }
    }

    fn saved_plan(&self) -> SavedPlan {
        SavedPlan::make(&definition(&self.text), &self.input()).expect("a plan")
    }

    /// The refusal of a plan that was made before `change`; empty if it is accepted.
    fn refusal(mut self, change: impl FnOnce(&mut Self)) -> String {
        let saved = self.saved_plan();
        change(&mut self);
        let checked = saved.check(&definition(&self.text), &self.input());
        checked.map_or_else(|refusal| refusal.to_string(), |()| String::new())
    }
}

fn printed(saved_plan: &SavedPlan) -> Value {
    serde_json::to_value(saved_plan).expect("JSON")
}

#[test]
fn a_plan_is_read_as_it_was_saved_and_still_holds() {
    let inputs = inputs();
    let saved = inputs.saved_plan();
    let read = SavedPlan::parse(&printed(&saved).to_string()).expect("a plan");
    assert_eq!(read, saved);
    assert!(
        saved.changed
            && saved
                .check(&definition(&inputs.text), &inputs.input())
                .is_ok()
    );
    assert_eq!(saved.result, Fingerprint::of(&saved.text));
}

#[test]
fn each_change_gives_its_reason_once() {
    let saved = inputs().saved_plan();
    let reasons = saved.hunks.iter().flat_map(|hunk| &hunk.reasons);
    let mut first: Vec<_> = reasons
        .filter(|reason| !reason.again)
        .map(|reason| (reason.code, reason.device, &reason.path, &reason.text))
        .collect();
    let mut changes: Vec<_> = saved
        .changes
        .iter()
        .map(|change| (change.code, change.device, &change.path, &change.reason))
        .collect();
    first.sort();
    changes.sort();
    assert!(changes.len() > 3);
    assert_eq!(first, changes);
}

#[test]
fn the_hosts_digests_are_those_of_earlier_releases() {
    let parts = inputs().saved_plan().basis.host;
    let text: Vec<String> = parts.iter().map(|(k, v)| format!("{k} {v}")).collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn a_stale_plan_names_what_changed() {
    type Case = (&'static str, fn(&mut Inputs));
    let cases: [Case; 13] = [
        ("the definition", |i| {
            i.text = i.text.replace("<vcpu>4", "<vcpu>5")
        }),
        ("the host's NUMA nodes", |i| {
            i.host.numa.nodes[0].distances[3] = 90
        }),
        ("the host's PCI devices", |i| {
            i.host.devices.get_mut(&address(GPU)).expect("GPU").bars[0].size = 1 << 20;
        }),
        ("the host's generic initiators", |i| {
            i.host.srat = Some(kernel_glue::srat::Srat::default());
        }),
        ("the host's address width or iommufd", |i| {
            i.host.iommufd = !i.host.iommufd;
        }),
        ("the host's PCI devices", |i| {
            let gpu = i.host.devices.get_mut(&address(GPU)).expect("GPU");
            gpu.config = kernel_glue::config::Config::Express(LINK);
        }),
        ("the host's PCI devices", |i| {
            let gpu = i.host.devices.get_mut(&address(GPU)).expect("GPU");
            gpu.regions = Some(kernel_glue::region::Regions::default());
        }),
        ("recipe mlx5", |i| {
            let extra = "id = \"15b3:ffff\"\nrecipe = \"mlx5\"";
            let extra = crate::toml_text::read("variantd.conf", extra).expect("device");
            i.recipes = i.recipes.clone().extended(&[extra]).expect("recipes");
        }),
        ("the host's kernel", |i| {
            i.host.kernel_release = Some("6.99".into())
        }),
        ("libvirt (12.8.0 to 12.9.0)", |i| {
            i.versions.libvirt.minor = 9
        }),
        ("QEMU (11.1.0 to 11.2.0)", |i| i.versions.qemu.minor = 2),
        ("the features of libvirt and QEMU", |i| {
            let mut stack = Stack::assumed(i.versions);
            let set = stack.set(Feature::Egm, stack::Value::Has(true), How::Asked);
            set.expect("a value");
            i.stack = Some(stack);
        }),
        ("recipe nvidia-grace", |i| {
            i.recipes = touched("nvidia-grace")
        }),
    ];
    for (what, change) in cases {
        let message = inputs().refusal(change);
        let wanted = format!("changed since: {what} (VD-PLN-001); plan again");
        assert!(message.contains(&wanted), "{what}: {message}");
    }
}

#[test]
fn a_plan_is_stale_once_a_port_blocks_atomics() {
    let set = |inputs: &mut Inputs, devctl2: u16| {
        let link = kernel_glue::config::Express { devctl2, ..LINK };
        let gpu = inputs.host.devices.get_mut(&address(GPU)).expect("GPU");
        gpu.config = kernel_glue::config::Config::Express(link);
    };
    let mut inputs = inputs();
    set(&mut inputs, 0);
    let message = inputs.refusal(|inputs| set(inputs, 1 << 7));
    assert!(
        message.contains("changed since: the host's PCI devices (VD-PLN-001)"),
        "{message}"
    );
}

const LINK: kernel_glue::config::Express = kernel_glue::config::Express {
    version: 2,
    port: kernel_glue::config::Port::Endpoint,
    devcap: 0,
    devctl: 0,
    access_control: None,
    ats: None,
    lnkcap: 0x104,
    devcap2: 0,
    devctl2: 0,
};

#[test]
fn a_replacing_plan_shows_the_difference_to_the_definition() {
    let mut inputs = inputs();
    inputs.text = inputs.saved_plan().text;
    assert!(inputs.saved_plan().hunks.is_empty());
    for node in &mut inputs.host.numa.nodes {
        let far = node.distances.iter_mut().filter(|one| **one == 80);
        far.for_each(|one| *one = 90);
    }
    let saved = inputs.saved_plan();
    assert!(saved.changed && saved.text.contains("value='90'"));
    assert_eq!(diff::tests::patched(&inputs.text, &saved.hunks), saved.text);
    let reasons: Vec<_> = saved.hunks.iter().flat_map(|hunk| &hunk.reasons).collect();
    assert!(
        reasons.iter().any(|one| one.code == Code::CellsMissing),
        "{reasons:?}"
    );
    assert!(
        saved
            .check(&definition(&inputs.text), &inputs.input())
            .is_ok()
    );
}

/// The shipped recipes, one of them with an additional comment.
fn touched(name: &str) -> Recipes {
    let recipes = Recipes::shipped().expect("recipes");
    let mut sourced = recipes.sourced();
    let one = sourced.find(|one| one.recipe.name == name).expect("recipe");
    let text = format!("# ours\n{}", one.text);
    let sourced = Sourced::parse(format!("{name}.toml").as_ref(), text).expect("a recipe");
    Recipes::with(vec![sourced]).expect("recipes")
}

#[test]
fn starting_another_guest_does_not_make_a_plan_stale() {
    let message = inputs().refusal(|i| {
        let gpu = i.host.devices.get_mut(&address(GPU)).expect("GPU");
        gpu.driver = Some(driver("vfio-pci"));
        gpu.driver_override = Some("vfio-pci".into());
        // No recipe covers it, and the guest does not have it.
        i.host.devices.remove(&address(NIC));
        i.host.numa.nodes[0].memory_kib += 4;
    });
    assert_eq!(message, "");
}

/// A JSON document with one value changed, for each value.
fn changed(document: &Value) -> Vec<(String, Value)> {
    fn paths(value: &Value, at: &str, out: &mut Vec<String>) {
        match value {
            Value::Object(map) => map
                .iter()
                .for_each(|(k, v)| paths(v, &format!("{at}/{k}"), out)),
            Value::Array(list) => {
                let numbered = list.iter().enumerate();
                numbered.for_each(|(n, v)| paths(v, &format!("{at}/{n}"), out));
            }
            _ => out.push(at.to_owned()),
        }
    }
    let mut found = Vec::new();
    paths(document, "", &mut found);
    let other = |path: String| {
        let mut copy = document.clone();
        let value = copy.pointer_mut(&path).expect("the path");
        *value = match value {
            Value::String(text) => json!(format!("{text}x")),
            Value::Number(number) => json!(number.as_u64().expect("positive") + 1),
            Value::Bool(flag) => json!(!*flag),
            _ => json!("0009:01:00.0"),
        };
        (path, copy)
    };
    found.into_iter().map(other).collect()
}

#[test]
fn a_plan_with_any_one_value_edited_is_refused() {
    let inputs = inputs();
    let cases = changed(&printed(&inputs.saved_plan()));
    assert!(cases.len() > 100, "{}", cases.len());
    for (path, document) in cases {
        let read = SavedPlan::parse(&document.to_string());
        let input = inputs.input();
        let checked = read.and_then(|saved| {
            let replace = saved.basis.replace;
            saved.check(&definition(&inputs.text), &PlanInput { replace, ..input })
        });
        let refusal = match checked {
            Err(refusal) => refusal,
            // Nothing in this definition needs a new address, so the plans with and without 'replace' are equal.
            Ok(()) if path == "/basis/replace" => continue,
            Ok(()) => unreachable!("{path} was taken"),
        };
        let codes = [Code::PlanStale, Code::PlanUnreadable];
        assert!(codes.contains(&refusal.code), "{path}: {refusal}");
    }
}

#[test]
fn an_invalid_plan_is_refused_with_a_hint() {
    let good = printed(&inputs().saved_plan());
    let with = |key: &str, value: Value| {
        let mut copy = good.clone();
        copy[key] = value;
        copy.to_string()
    };
    let cases = [
        (String::new(), "EOF"),
        ("[]".into(), "invalid"),
        ("{}".into(), "missing field `version`"),
        (with("version", json!(2)), "it has version 2"),
        (with("version", json!("1")), "invalid type"),
        (with("extra", json!(1)), "unknown field `extra`"),
        (with("uuid", json!("12")), "not a UUID"),
        (with("result", json!("md5:1")), "'md5:1' is not 'sha256:'"),
        (
            "{\"version\":1,\"x\":".to_owned() + &"[".repeat(100_000),
            "EOF while parsing a list",
        ),
        (" ".repeat(MAX_BYTES + 1), "it is larger than 8 MiB"),
    ];
    for (text, why) in cases {
        let refusal = SavedPlan::parse(&text).expect_err("no plan");
        let message = refusal.to_string();
        assert!(message.contains(why), "{why}: {message}");
        assert!(message.contains("(VD-PLN-002); make one with"), "{message}");
    }
}

#[test]
fn the_largest_plan_fits() {
    let mut inputs = inputs();
    let comment = format!("<!--{}-->", "\"x\n".repeat(domain::MAX_BYTES / 3 - 2000));
    inputs.text = inputs.text.replace("<vcpu>", &format!("{comment}<vcpu>"));
    let text = format!("{:#}", printed(&inputs.saved_plan()));
    assert!(SavedPlan::parse(&text).is_ok(), "{} bytes", text.len());
}

#[test]
fn a_plan_that_sets_an_option_is_checked_with_it() {
    let inputs = inputs();
    let input = PlanInput {
        egm: Some(false),
        ..inputs.input()
    };
    let text = definition(&inputs.text);
    let saved = SavedPlan::make(&text, &input).expect("planned");
    assert!(saved.text.contains("egm='off'"), "{}", saved.text);
    let lines = saved.hunks.iter().flat_map(|hunk| &hunk.lines);
    assert!(lines.into_iter().any(|line| line.contains("egm='off'")));
    let read = SavedPlan::parse(&json::text(&saved)).expect("read");
    assert_eq!(read, saved);
    read.check(&text, &input).expect("the same");
    let refusal = read.check(&text, &inputs.input()).expect_err("another");
    assert_eq!(refusal.code, Code::PlanUnreadable, "{refusal}");
    let plain = serde_json::to_value(inputs.saved_plan()).expect("JSON");
    assert_eq!(plain["basis"].get("egm"), None);
}

/// A guest with an option for EGM, on a host that shows the region of its GPU, for packages that have EGM.
fn with_egm(option: &str) -> Inputs {
    let options =
        format!("<metadata><options xmlns='urn:variantd:options:1' {option}/></metadata>");
    let mut inputs = Inputs {
        text: guest(GPU).replace("  <vcpu>", &format!("{options}<vcpu>")),
        host: host_on("nvgrace_gpu_vfio_pci"),
        stack: Some(Stack::named("nvidia-10.1").expect("a stack")),
        ..inputs()
    };
    inputs.host.egm = vec![EgmRegion {
        number: 4,
        bytes: Some(8 << 30),
        gpus: [address(GPU)].into(),
    }];
    inputs
}

#[test]
fn a_changed_egm_region_makes_only_the_plan_of_a_guest_with_egm_stale() {
    let changes: [fn(&mut EgmRegion); 3] = [
        |region| region.bytes = Some(16 << 30),
        |region| region.number = 5,
        |region| region.gpus.extend([address(NIC)]),
    ];
    for change in changes {
        let refusal = with_egm("egm='on'").refusal(|i| change(&mut i.host.egm[0]));
        let words = "changed since: the host's EGM regions (VD-PLN-001)";
        assert!(refusal.contains(words), "{refusal}");
        for option in ["", "egm='off'"] {
            let refusal = with_egm(option).refusal(|i| change(&mut i.host.egm[0]));
            assert_eq!(refusal, "");
        }
    }
    // The region of another guest's GPU.
    let refusal = with_egm("egm='on'").refusal(|i| {
        i.host.egm.push(EgmRegion {
            number: 5,
            bytes: None,
            gpus: [address(NIC)].into(),
        });
    });
    assert_eq!(refusal, "");
}
