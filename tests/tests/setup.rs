//! tests/setup.sh: `apt-get` waits while another process holds a lock of apt or dpkg.
//!
//! All files are in a private directory; the test does not read or lock this machine's package database.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, fcntl_lock};

/// The time for which a lock is held. apt tries again once a second, setup.sh every two seconds.
const HELD: Duration = Duration::from_secs(3);

/// Directories and a configuration for a private apt-get.
fn private(root: &Path) {
    for folder in ["lists/partial", "cache/archives/partial", "dpkg/updates"] {
        fs::create_dir_all(root.join(folder)).expect("folder");
    }
    fs::write(root.join("dpkg/status"), "").expect("status");
    let at = root.display();
    let configuration = format!(
        "Dir::State::status \"{at}/dpkg/status\"; Dir::State::lists \"{at}/lists\"; Dir::Cache \"{at}/cache\";
         Dir::Etc::sourcelist \"/dev/null\"; Dir::Etc::sourceparts \"/dev/null\"; APT::Sandbox::User \"root\";\n"
    );
    fs::write(root.join("apt.conf"), configuration).expect("configuration");
}

/// Runs `apt_quietly ARGUMENTS` of setup.sh on the private directories.
fn apt(root: &Path, arguments: &str, limit: u32) -> Output {
    let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("setup.sh");
    Command::new("bash")
        .args(["-c", &format!(". \"$1\"; apt_quietly {arguments}"), "bash"])
        .arg(setup)
        .env("APT_CONFIG", root.join("apt.conf"))
        .env("APT_WAIT", limit.to_string())
        .output()
        .expect("bash runs")
}

/// Takes a lock as apt does (fcntl, exclusive); it is released when the file is closed.
fn locked(path: &Path) -> File {
    let file = File::create(path).expect("lock file");
    fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).expect("lock");
    file
}

fn has_apt() -> bool {
    let found = Command::new("apt-get").arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: no apt-get here");
    }
    found
}

#[test]
fn apt_get_waits_for_each_lock_of_apt_and_dpkg() {
    if !has_apt() {
        return;
    }
    for (lock, arguments) in [
        ("lists/lock", "update"),
        ("cache/archives/lock", "clean"),
        ("dpkg/lock-frontend", "-y install --fix-broken"),
        ("dpkg/lock", "-y install --fix-broken"),
    ] {
        let root = tempfile::tempdir().expect("scratch directory");
        private(root.path());
        let file = locked(&root.path().join(lock));
        let started = Instant::now();
        let release = thread::spawn(move || {
            thread::sleep(HELD);
            drop(file);
        });
        let output = apt(root.path(), arguments, 60);
        assert!(output.status.success(), "{lock}: {output:?}");
        assert!(started.elapsed() >= HELD, "{lock} was not waited for");
        release.join().expect("released");
    }
}

#[test]
fn apt_get_fails_when_a_lock_is_held_for_longer_than_the_limit() {
    if !has_apt() {
        return;
    }
    let root = tempfile::tempdir().expect("scratch directory");
    private(root.path());
    let _file = locked(&root.path().join("lists/lock"));
    let output = apt(root.path(), "update", 1);
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("Could not get lock"), "{text}");
}

#[test]
fn another_failure_of_apt_get_is_reported_at_once() {
    if !has_apt() {
        return;
    }
    let root = tempfile::tempdir().expect("scratch directory");
    private(root.path());
    let started = Instant::now();
    let output = apt(root.path(), "install -y no-such-package", 60);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && text.contains("no-such-package"),
        "{text}"
    );
    assert!(started.elapsed() < Duration::from_secs(30));
}
