//! What each verb prints with `--json`, by the real program against the real agent, against its schema. A verb without a
//! line here fails.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::CommandFactory;
use serde_json::Value;

use crate::monitor::Monitor;
use crate::scene::Scene;

const GPU: &str = "0009:01:00.0";
const READ: [&str; 4] = ["--host", "host", "--recipes", "recipes.d"];

/// Each verb, the schema of its answer, and how it is asked.
const VERBS: [(&str, &str, &[&str]); 25] = [
    ("list", "list", &[]),
    ("show", "show", &[GPU]),
    ("doctor", "doctor", &[]),
    ("topology", "topology", &[]),
    ("atomics", "atomics", &[GPU]),
    ("plan", "plan", &["guest.xml"]),
    (
        "plan",
        "plan-fleet",
        &["--host", "host", "--host", "host", "guest.xml"],
    ),
    ("rewrite", "plan", &["guest.xml"]),
    ("recipe list", "recipe-list", &[]),
    ("recipe show", "recipe-show", &["nvidia-grace"]),
    ("recipe check", "recipe-check", &["nvidia-grace.toml"]),
    ("config show", "config-show", &[]),
    ("config check", "config-check", &[]),
    ("explain", "explain", &["VD-TOP-002"]),
    ("snapshot", "snapshot", &[]),
    ("record-host", "record-host", &["recorded"]),
    ("wait", "report", &["test"]),
    ("prepare", "report", &["test"]),
    ("revert", "report", &["test"]),
    (
        "create",
        "create",
        &["--connect", "test:///default", "plain.xml"],
    ),
    ("bind", "bind", &["--dry-run", "--driver", "vfio-pci", GPU]),
    ("release", "bind", &[GPU]),
    ("recover", "recover", &[]),
    ("reserve", "reserve", &["--driver", "nvidia", GPU]),
    ("unreserve", "reserve", &[GPU]),
];

/// Verbs that act through the agent, which has its own host and recipes.
const ACTING: [&str; 9] = [
    "wait",
    "prepare",
    "revert",
    "create",
    "bind",
    "release",
    "recover",
    "reserve",
    "unreserve",
];

/// Verbs that print no one object, and why.
const OTHERS: [(&str, &str); 2] = [
    ("completions", "a shell's script"),
    ("monitor", "an object for each line, below"),
];

/// Every verb of the command line, verbs below verbs as `recipe list`.
fn verbs(command: &clap::Command, path: &str) -> Vec<String> {
    let below = command.get_subcommands();
    let names = below.flat_map(|verb| {
        let name = format!("{path}{}", verb.get_name());
        match verb.has_subcommands() {
            true => verbs(verb, &format!("{name} ")),
            false => vec![name],
        }
    });
    names.collect()
}

#[test]
fn every_verb_has_a_line_here() {
    let known: BTreeSet<String> = VERBS
        .iter()
        .map(|(verb, ..)| *verb)
        .chain(OTHERS.iter().map(|(verb, _)| *verb))
        .map(str::to_owned)
        .collect();
    let there: BTreeSet<String> = verbs(&agent::cli::Cli::command(), "").into_iter().collect();
    assert_eq!(there, known);
}

#[test]
fn every_schema_is_of_a_verb() {
    let used: BTreeSet<&str> = VERBS.iter().map(|(_, schema, _)| *schema).collect();
    let more = ["error", "monitor"];
    for entry in fs::read_dir(folder()).expect("schemas") {
        let name = entry.expect("a schema").file_name();
        let name = name.to_string_lossy();
        let name = name.trim_end_matches(".json");
        assert!(used.contains(name) || more.contains(&name), "{name}");
    }
}

#[test]
fn every_verb_answers_by_its_schema() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/golden/gh200.xml");
    fs::copy(golden, scene.path("guest.xml")).expect("copied");
    let plain = "<domain type='test'><name>plain</name><memory>1</memory><os><type>hvm</type></os><devices/></domain>";
    scene.write("plain.xml", plain);
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/nvidia-grace.toml");
    fs::copy(recipe, scene.path("nvidia-grace.toml")).expect("copied");
    for (verb, schema, arguments) in VERBS {
        let words: Vec<&str> = verb.split(' ').collect();
        let read: &[&str] = match ACTING.contains(&verb) {
            true => &[],
            false => &READ,
        };
        let output = scene.variantctl(&[read, &["--json"], &words, arguments].concat());
        let complaint = String::from_utf8_lossy(&output.stderr);
        // A host that is not ready makes 'doctor' exit with 1.
        let done = output.status.success() || verb == "doctor";
        assert!(done, "{verb}: {complaint}");
        let said = serde_json::from_slice(&output.stdout);
        check(
            schema,
            &said.unwrap_or_else(|why| unreachable!("{verb}: {why}")),
        );
    }
}

#[test]
fn events_and_errors_are_as_their_schemas_say() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    let mut monitor = Monitor::start(&scene);
    check("monitor", &monitor.until(|event| event["kind"] == "device"));
    scene.says(&["reserve", "--driver", "nvidia", GPU]);
    let reserved = monitor.until(|event| event["now"]["state"] == "reserved");
    check("monitor", &reserved);
    assert!(monitor.interrupt());
    let (_, said) = scene.fails(&["--json", "wait", "nobody"]);
    check("error", &serde_json::from_str(&said).expect("JSON"));
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/schema")
}

fn check(name: &str, said: &Value) {
    let text = fs::read_to_string(folder().join(format!("{name}.json"))).expect("schema");
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    let schema = jsonschema::validator_for(&schema).expect("a schema");
    let wrong: Vec<String> = schema
        .iter_errors(said)
        .map(|error| error.to_string())
        .collect();
    assert!(wrong.is_empty(), "{name}: {wrong:#?} in {said:#}");
}
