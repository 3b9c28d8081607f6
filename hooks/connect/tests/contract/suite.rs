//! Upstream's test suites of libvirt's Python and Perl bindings, over the transport, over the shared socket and directly: each test has
//! the same result. Slow: a folder with each source tree (libvirt-python, libvirt-perl) is named in the environment.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::client::{text, three_outputs};
use super::libvirt::Scene;

/// The URI that all of these tests open, in their own process.
const OPENED: &str = "test:///default";

/// libvirt takes each `ext` transport for insecure, because it does not know the program (doRemoteOpen in its remote driver).
const KNOWN_DIFFERENCE: &str = "connection is secure";

/// Seconds for one file. An event loop of a test that waits for the in-process driver can wait for ever with a daemon.
const LIMIT_S: &str = "20";

/// Source files of tests in a folder of the tree that the variable names.
fn sources(variable: &str, folder: &str, name: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let root = env::var_os(variable).expect("LIBVIRT_PYTHON and LIBVIRT_PERL name source trees");
    let entries = fs::read_dir(Path::new(&root).join(folder)).expect("a source tree");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let is_test = |path: &PathBuf| name(&path.file_name().unwrap_or_default().to_string_lossy());
    let mut found: Vec<PathBuf> = paths
        .filter(is_test)
        .filter(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(OPENED)))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no tests in {}", root.display());
    found
}

/// The results of one file's tests: the lines that `is_result` keeps.
fn results(
    scene: &Scene,
    source: &Path,
    program: &[&str],
    is_result: impl Fn(&str) -> bool,
) -> Vec<String> {
    let content = fs::read_to_string(source).expect("a source");
    let folder = source.parent().expect("a folder");
    let [transport, shared, direct] = three_outputs(scene, OPENED, |uri| {
        let name = source.file_name().expect("a name").to_string_lossy();
        scene.file(&name, &content.replace(OPENED, uri));
        let mut tests = Command::new("timeout");
        tests.arg(LIMIT_S).args(program).arg(&*name);
        tests.stdin(Stdio::null());
        tests
            .current_dir(scene.bus.path(""))
            .env("PYTHONPATH", folder)
            .env("PYTHONWARNINGS", "ignore");
        let output = tests.output().expect("the tests run");
        let printed = text(&output.stdout) + &text(&output.stderr);
        let is_kept = |line: &&str| is_result(line) && !line.contains(KNOWN_DIFFERENCE);
        let kept = printed.lines().filter(is_kept);
        kept.map(str::to_owned).collect::<Vec<_>>()
    });
    assert_eq!(transport, direct, "{}", source.display());
    assert_eq!(shared, direct, "{}", source.display());
    assert!(!direct.is_empty(), "{}: no result", source.display());
    direct
}

fn run(variable: &str, sources: &[PathBuf], program: &[&str], is_result: impl Fn(&str) -> bool) {
    let (mut all, mut failed) = (0, 0);
    for source in sources {
        let mut scene = Scene::start();
        scene.forget();
        let lines = results(&scene, source, program, &is_result);
        let failures = ["not ok ", " ... FAIL", " ... ERROR"];
        let wrong = |line: &&String| failures.iter().any(|failure| line.contains(failure));
        let wrong: Vec<&String> = lines.iter().filter(wrong).collect();
        println!(
            "{}: {} tests, fail in each way: {wrong:?}",
            source.display(),
            lines.len()
        );
        all += lines.len();
        failed += wrong.len();
    }
    println!(
        "{variable}: {all} tests with the same results three times, {failed} of them failures"
    );
}

#[test]
#[ignore = "needs libvirt-python's sources in LIBVIRT_PYTHON"]
fn suite_of_the_python_binding_has_the_same_results() {
    let sources = sources("LIBVIRT_PYTHON", "tests", |name| {
        name.starts_with("test_") && name.ends_with(".py")
    });
    let program = ["/usr/bin/python3", "-m", "unittest", "-v"];
    run("LIBVIRT_PYTHON", &sources, &program, |line| {
        line.contains(" ... ")
    });
}

#[test]
#[ignore = "needs libvirt-perl's sources in LIBVIRT_PERL"]
fn suite_of_the_perl_binding_has_the_same_results() {
    let sources = sources("LIBVIRT_PERL", "t", |name| name.ends_with(".t"));
    run("LIBVIRT_PERL", &sources, &["perl"], |line| {
        line.starts_with("ok ") || line.starts_with("not ok ")
    });
}
