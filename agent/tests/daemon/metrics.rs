//! The metrics of the real agent: the file, the method, and what Prometheus' own tool says of them, of the alert rules and of the
//! dashboard.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::scene::{Agent, Scene};

const FILE: &str = "run/metrics.prom";

/// `promtool` with `input`; must succeed.
fn promtool(arguments: &[&str], input: &str) {
    let child = Command::new("promtool")
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|why| {
        unreachable!("this test needs 'promtool' ({why}); run 'apt-get install prometheus'")
    });
    let mut stdin = child.stdin.take().expect("a pipe");
    // The tool may end before it has read everything; its status tells why.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("output");
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    assert!(
        output.status.success(),
        "promtool {arguments:?}: {printed}\n{input}"
    );
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn serving(scene: &Scene) -> Agent {
    let mut agent = scene.start();
    agent.says("serves");
    agent
}

fn value(text: &str, series: &str) -> u64 {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.expect(series).parse().expect("a number")
}

#[test]
fn promtool_accepts_the_file_and_what_variantctl_prints() {
    let scene = Scene::new();
    let mut agent = serving(&scene);
    let text = fs::read_to_string(scene.path(FILE)).expect("written before the agent serves");
    promtool(&["check", "metrics"], &text);
    let free = "variantd_devices{driver=\"nvidia\",owner=\"host\",state=\"free\"} 1";
    assert!(text.lines().any(|line| line == free), "{text}");
    let mode = fs::metadata(scene.path(FILE)).expect("the file").mode();
    assert_eq!(mode & 0o7777, 0o644);
    let (_, refused) = scene.fails(&["bind", "0000:00:1f.0"]);
    assert!(refused.contains("VD-DEV-001"), "{refused}");
    scene.fails(&["bind", "--driver", "mlx5_vfio_pci", "0009:01:00.0"]);
    let printed = scene.says(&["metrics"]);
    promtool(&["check", "metrics"], &printed);
    let missing = "variantd_refusals_total{code=\"VD-DEV-001\",source=\"bus\"}";
    assert_eq!(value(&printed, missing), 1);
    let failed = "variantd_failures_total{code=\"VD-BND-001\",source=\"bus\"}";
    assert_eq!(value(&printed, failed), 1);
    agent.send(Signal::SIGTERM);
    assert!(agent.wait().success());
    assert!(
        !scene.path(FILE).exists(),
        "no metrics of an agent that is away"
    );
    assert_eq!(scene.fails(&["metrics"]).0, 4);
}

#[test]
fn file_of_a_killed_agent_stays_until_the_next_one_replaces_it() {
    let scene = Scene::new();
    let mut agent = serving(&scene);
    let read = || fs::read_to_string(scene.path(FILE)).expect("the file");
    agent.send(Signal::SIGKILL);
    agent.wait();
    let old = read();
    let started = |text: &str| value(text, "variantd_start_time_seconds");
    let written = |text: &str| value(text, "variantd_metrics_timestamp_seconds");
    assert!(written(&old) >= started(&old));
    // The metrics have whole seconds.
    thread::sleep(Duration::from_millis(1100));
    let _agent = serving(&scene);
    let new = read();
    assert!(started(&new) > written(&old), "{new}");
}

#[test]
fn agent_that_cannot_write_the_file_logs_it_once_and_ends_normally() {
    let scene = Scene::new();
    fs::create_dir_all(scene.path("run/metrics.prom.new")).expect("in the way");
    let mut agent = scene.start();
    agent.says("cannot write the metrics");
    agent.says("serves");
    assert!(!scene.path(FILE).exists());
    assert!(scene.says(&["metrics"]).contains("variantd_build_info"));
    agent.send(Signal::SIGTERM);
    assert!(agent.wait().success());
    assert!(!agent.rest().contains("the metrics"));
}

#[test]
fn promtool_accepts_the_alert_rules_and_their_tests_pass() {
    promtool(
        &["check", "rules", "packaging/monitoring/variantd.rules.yml"],
        "",
    );
    promtool(
        &["test", "rules", "tests/data/monitoring/rules.test.yml"],
        "",
    );
}

/// All values of `key` below a value.
fn all<'a>(value: &'a Value, key: &str) -> Vec<&'a str> {
    match value {
        Value::Object(fields) => {
            let own = fields.get(key).and_then(Value::as_str);
            let below = fields.values().flat_map(|value| all(value, key));
            own.into_iter().chain(below).collect()
        }
        Value::Array(items) => items.iter().flat_map(|item| all(item, key)).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn promtool_accepts_each_expression_of_the_dashboard() {
    let path = root().join("packaging/monitoring/variantd.dashboard.json");
    let text = fs::read_to_string(path).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let expressions = all(&dashboard["panels"], "expr");
    assert!(expressions.len() > 10);
    let rules = expressions.iter().enumerate().map(|(number, expression)| {
        let expression = Value::from(expression.replace("$instance", ".*"));
        format!("  - {{record: 'r{number}', expr: {expression}}}\n")
    });
    let rules: String = rules.collect();
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("rules.yml");
    fs::write(
        &file,
        format!("groups:\n- name: dashboard\n  rules:\n{rules}"),
    )
    .expect("written");
    promtool(&["check", "rules", file.to_str().expect("text")], "");
}
