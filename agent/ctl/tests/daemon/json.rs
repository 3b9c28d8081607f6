//! What each verb prints with `--json`, by the real program against the real agent, against its schema. A verb without a line here
//! is asked with a sample of each argument, and has the schema of its name; `cargo xtask regen schemas` writes that where it is not there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::CommandFactory;
use serde_json::{Value, json};

use crate::monitor::Monitor;
use crate::scene::Scene;

const GPU: &str = "0009:01:00.0";
const READ: [&str; 4] = ["--host", "host", "--recipes", "recipes.d"];

/// Verbs, the schema of each answer, and how it is asked.
const VERBS: [(&str, &str, &[&str]); 28] = [
    ("list", "list", &[]),
    ("show", "show", &[GPU]),
    ("doctor", "doctor", &[]),
    ("topology", "topology", &[]),
    ("atomics", "atomics", &[GPU]),
    ("layout", "layout", &["guest.xml"]),
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
    ("connect", "connect", &["--how"]),
    ("stack", "stack", &["--target", "nvidia-10.1"]),
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

/// A verb without a line above: its name, its arguments, and what it is for.
struct Plain {
    verb: String,
    arguments: Vec<&'static str>,
    about: String,
}

/// Those of the command line, verbs below verbs as `recipe list`.
fn unlisted(command: &clap::Command, path: &str) -> Vec<Plain> {
    let below = command.get_subcommands();
    let all = below.flat_map(|verb| {
        let name = format!("{path}{}", verb.get_name());
        let mut lines = VERBS.iter().map(|(verb, ..)| *verb);
        let has_line = lines.any(|one| one == name) || OTHERS.iter().any(|(one, _)| *one == name);
        match verb.has_subcommands() {
            true => unlisted(verb, &format!("{name} ")),
            false if has_line => Vec::new(),
            false => vec![Plain::new(verb, name)],
        }
    });
    all.collect()
}

impl Plain {
    fn new(command: &clap::Command, verb: String) -> Self {
        let required = command
            .get_positionals()
            .filter(|one| one.is_required_set());
        let sample = |argument: &clap::Arg| match argument.get_id().as_str() {
            "device" => GPU,
            "domain" => "test",
            other => unreachable!("'{verb}' wants '{other}': give it a line in VERBS"),
        };
        let about = command.get_about().map(ToString::to_string);
        Self {
            arguments: required.map(sample).collect(),
            about: about.unwrap_or_default(),
            verb,
        }
    }

    fn schema(&self) -> String {
        self.verb.replace(' ', "-")
    }

    /// Writes a schema for what it says, where it has none.
    fn write_schema(&self, printed: &Value) {
        let path = folder().join(format!("{}.json", self.schema()));
        if std::env::var_os("VARIANTD_WRITE_SCHEMAS").is_none() || path.exists() {
            return;
        }
        let mut form = form(printed);
        form["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
        form["title"] = format!("variantctl: {}", self.verb).into();
        form["description"] = self.about.clone().into();
        form["properties"]["version"] = json!({"const": 1, "description": "version of this form"});
        fs::write(path, format!("{form:#}\n")).expect("written");
    }
}

/// The schema of a value.
fn form(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let forms = fields.iter().map(|(key, value)| (key.clone(), form(value)));
            let keys: Vec<&String> = fields.keys().collect();
            json!({
                "type": "object",
                "properties": forms.collect::<serde_json::Map<_, _>>(),
                "required": keys,
                "additionalProperties": false,
            })
        }
        Value::Array(items) => {
            json!({"type": "array", "items": items.first().map_or(json!({}), form)})
        }
        Value::String(_) => json!({"type": "string"}),
        Value::Bool(_) => json!({"type": "boolean"}),
        Value::Number(number) if number.is_f64() => json!({"type": "number"}),
        Value::Number(_) => json!({"type": "integer"}),
        Value::Null => json!({}),
    }
}

#[test]
fn schemas_match_the_output_of_verbs() {
    let printed =
        json!({"version": 1, "seconds": 5, "rows": [{"name": "a", "on": true}], "none": null});
    let form = form(&printed);
    let schema = jsonschema::validator_for(&form).expect("a schema");
    assert!(schema.is_valid(&printed));
    for other in [
        json!({}),
        json!([]),
        json!({"version": 1, "seconds": "5", "rows": [], "none": 0}),
    ] {
        assert!(!schema.is_valid(&other), "{other}");
    }
}

#[test]
fn every_schema_belongs_to_a_verb() {
    let plain = unlisted(&ctl::cli::Cli::command(), "");
    let mut used: BTreeSet<String> = plain.iter().map(Plain::schema).collect();
    used.extend(VERBS.iter().map(|(_, schema, _)| (*schema).to_owned()));
    used.extend(["error", "monitor"].map(str::to_owned));
    for entry in fs::read_dir(folder()).expect("schemas") {
        let name = entry.expect("a schema").file_name();
        let name = name.to_string_lossy();
        let name = name.trim_end_matches(".json");
        assert!(used.contains(name), "{name}");
    }
}

#[test]
fn every_verb_answers_by_its_schema() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/golden/gh200.xml");
    fs::copy(golden, scene.path("guest.xml")).expect("copied");
    let plain = "<domain type='test'><name>plain</name><memory>1</memory><os><type>hvm</type></os><devices/></domain>";
    scene.write("plain.xml", plain);
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/nvidia-grace.toml");
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
        let printed = serde_json::from_slice(&output.stdout);
        check(
            schema,
            &printed.unwrap_or_else(|why| unreachable!("{verb}: {why}")),
        );
    }
    for verb in unlisted(&ctl::cli::Cli::command(), "") {
        let words: Vec<&str> = verb.verb.split(' ').collect();
        let printed = scene.says(&[&["--json"], &*words, &verb.arguments].concat());
        let printed = serde_json::from_str(&printed).expect("JSON");
        verb.write_schema(&printed);
        check(&verb.schema(), &printed);
    }
}

#[test]
fn events_and_errors_follow_their_schemas() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    let mut monitor = Monitor::start(&scene);
    check("monitor", &monitor.until(|event| event["kind"] == "device"));
    scene.says(&["reserve", "--driver", "nvidia", GPU]);
    let reserved = monitor.until(|event| event["now"]["state"] == "reserved");
    check("monitor", &reserved);
    assert!(monitor.interrupt());
    let (_, printed) = scene.fails(&["--json", "wait", "missing"]);
    check("error", &serde_json::from_str(&printed).expect("JSON"));
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/schema")
}

fn check(name: &str, printed: &Value) {
    let text = fs::read_to_string(folder().join(format!("{name}.json")));
    let text = text
        .unwrap_or_else(|why| unreachable!("{name}.json: {why}; run 'cargo xtask regen schemas'"));
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    let schema = jsonschema::validator_for(&schema).expect("a schema");
    let wrong: Vec<String> = schema
        .iter_errors(printed)
        .map(|error| error.to_string())
        .collect();
    assert!(wrong.is_empty(), "{name}: {wrong:#?} in {printed:#}");
}
