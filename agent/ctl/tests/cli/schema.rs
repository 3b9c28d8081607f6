//! What each read verb prints with `--json` against the schemas in `packaging/schema`.

use std::fs;

use jsonschema::Validator;
use serde_json::Value;

use super::{data, host, stdout, variantctl};

fn folder() -> std::path::PathBuf {
    data("../../packaging/schema")
}

fn schema(name: &str) -> Validator {
    let text = fs::read_to_string(folder().join(format!("{name}.json"))).expect(name);
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    jsonschema::validator_for(&schema).expect("a schema")
}

pub(super) fn check(name: &str, printed: &str) -> Value {
    let printed: Value = serde_json::from_str(printed).expect("JSON");
    let wrong: Vec<String> = schema(name)
        .iter_errors(&printed)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(wrong.is_empty(), "{name}: {wrong:#?}");
    printed
}

/// The verb's output on a host.
fn printed(name: &str, on: &str, arguments: &[&str]) -> Value {
    let arguments = [&["--json"], arguments].concat();
    check(name, &stdout(&variantctl(&host(on), &arguments)))
}

#[test]
fn every_recorded_host_is_listed_shown_and_drawn_by_schema() {
    let hosts = testing::hosts::names();
    assert!(hosts.len() > 10);
    for name in &hosts {
        printed("topology", name, &["topology"]);
        printed("topology", name, &["topology", "--matrix"]);
        printed("atomics", name, &["atomics"]);
        let doctor = variantctl(&host(name), &["--json", "doctor"]);
        check("doctor", &String::from_utf8_lossy(&doctor.stdout));
        printed("list", name, &["list", "--all"]);
        printed("snapshot", name, &["snapshot"]);
        let listed = printed("list", name, &["list"]);
        for device in listed["devices"].as_array().expect("devices") {
            let address = device["address"].as_str().expect("address");
            printed("show", name, &["show", address]);
        }
    }
}

#[test]
fn plans_recipes_and_codes_follow_their_schemas() {
    for xml in ["gh200.xml", "plain.xml"] {
        printed("plan", "gh200-1gpu", &["plan", xml]);
    }
    printed(
        "plan",
        "gb200-4gpu",
        &["plan", "gb200-third-and-fourth.xml"],
    );
    let recipes = printed("recipe-list", "lab", &["recipe", "list"]);
    for recipe in recipes["recipes"].as_array().expect("recipes") {
        let name = recipe["name"].as_str().expect("name");
        printed("recipe-show", "lab", &["recipe", "show", name]);
        let file = format!("../../../agent/recipes/{name}.toml");
        printed("recipe-check", "lab", &["recipe", "check", &file]);
    }
    let several = host("gh200-4gpu");
    let several = several.to_str().expect("text");
    printed(
        "plan-fleet",
        "gh200-1gpu",
        &["--host", several, "plan", "gh200.xml"],
    );
    printed("explain", "lab", &["explain"]);
    printed("explain", "lab", &["explain", "VD-TOP-002"]);
}

#[test]
fn settings_match_their_schema_and_name_their_line() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("variantd.conf");
    let text =
        "# mine\nrepair = false\n[[device]]\nid = \"10de:3041\"\nrecipe = \"nvidia-grace\"\n";
    fs::write(&file, text).expect("written");
    let drop_ins = directory.path().join("variantd.conf.d");
    fs::create_dir(&drop_ins).expect("directory");
    fs::write(drop_ins.join("10-a.conf"), "allow_group = true\n").expect("written");
    let recipes = directory.path().join("recipes.d");
    let recipes = ["--recipes", recipes.to_str().expect("text")];
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_variantctl"));
        command
            .args(recipes)
            .args(arguments)
            .output()
            .expect("variantctl runs")
    };
    let shown = check("config-show", &stdout(&run(&["--json", "config", "show"])));
    assert_eq!(shown["files"].as_array().expect("files").len(), 2);
    check(
        "config-check",
        &stdout(&run(&["--json", "config", "check"])),
    );
    let text = stdout(&run(&["config", "show"]));
    let has = |input: &str, origin: &str| {
        let mut lines = text.lines();
        lines.any(|line| line.starts_with(input) && line.ends_with(origin))
    };
    assert!(has("repair = false ", "variantd.conf:2"), "{text}");
    assert!(has("allow_group = true ", "10-a.conf:1"), "{text}");
    assert!(has("prepare = \"on-define\" ", "# default"), "{text}");
    assert!(has("id = \"10de:3041\" ", "variantd.conf:4"), "{text}");
    fs::write(drop_ins.join("20-b.conf"), "\nprepair = 1\n").expect("written");
    fs::write(&file, "repair = 1\n").expect("written");
    let output = run(&["--json", "config", "check"]);
    assert_eq!(output.status.code(), Some(1));
    let error = check("error", &String::from_utf8_lossy(&output.stderr));
    let text = error["error"]["text"].as_str().expect("text");
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(
        text.contains("20-b.conf', line 2: unknown key 'prepair'"),
        "{text}"
    );
}

#[test]
fn errors_match_their_schema() {
    let output = variantctl(&host("lab"), &["--json", "show", "0000:ff:00.0"]);
    check("error", &String::from_utf8_lossy(&output.stderr));
}

#[test]
fn schema_check_finds_unknown_fields() {
    let wrong = serde_json::json!({"version": 1, "files": [], "more": 1});
    assert!(!schema("config-check").is_valid(&wrong));
}
