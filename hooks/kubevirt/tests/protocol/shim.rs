//! The form of a program, as KubeVirt's shim runs `onDefineDomain`.

use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use super::FOUR;
use super::launcher::Launcher;
use super::scene::{Scene, VMI, domain, program};

fn run(scene: &Scene, domain: &str) -> std::io::Result<Output> {
    program(scene.path())
        .args(["onDefineDomain", "--vmi", VMI, "--domain", domain])
        .output()
}

#[tokio::test]
async fn it_prints_what_the_server_answers_for_34_cells() {
    let scene = Scene::of_host("gb200-4gpu");
    let launcher = Launcher::find(&scene.sockets()).await;
    let before = domain(&FOUR);
    let output = run(&scene, &before).expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text.matches("<cell id=").count(), 34);
    assert_eq!(text, launcher.define(&before).await.expect("completed"));
    let again = run(&scene, &text).expect("it runs");
    assert_eq!(String::from_utf8(again.stdout).expect("text"), text);
}

#[test]
fn shim_warns_before_the_argument_limit_is_reached() {
    let (scene, devices) = Scene::of_eight();
    let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
    let output = run(&scene, &domain(&devices)).expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let printed = String::from_utf8(output.stderr).expect("text");
    for part in ["VD-KVT-003", "131071", "E2BIG", "server"] {
        assert!(printed.contains(part), "{printed}");
    }
    let again = run(&scene, &text).expect_err("Linux takes no such argument");
    assert_eq!(again.raw_os_error(), Some(7), "E2BIG");
}

#[test]
fn link_with_the_shims_name_fails_with_one_line() {
    let scene = Scene::of_host("gh200-1gpu");
    let link = scene.path().join("onDefineDomain");
    symlink(env!("CARGO_BIN_EXE_variantd-kubevirt"), &link).expect("link");
    let define = |text: &str| {
        Command::new(&link)
            .args(["--vmi", VMI, "--domain", text, "--host"])
            .arg(scene.path().join("host.json"))
            .args(["--recipes", "/nonexistent/recipes.d"])
            .output()
            .expect("it runs")
    };
    let output = define(&domain(&["0009:01:00.0"]));
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("urn:variantd:1"));
    let output = define(&domain(&["0019:01:00.0"]));
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(
        printed.starts_with("error: ") && printed.contains("VD-DEV-001"),
        "{printed}"
    );
    assert_eq!(printed.lines().count(), 1, "{printed}");
}
