//! Programs for tests of other packages: paths of this workspace's programs, and programs that a test makes.
//!
//! A child process writes each file that a test executes. If the test wrote it, a child that another thread starts meanwhile
//! would inherit the open file, and `execve` would fail with ETXTBSY.

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::geteuid;

/// The path of the program beside the folder of the running test; builds it if it is missing.
///
/// # Panics
/// When the build fails.
#[must_use]
pub fn built(package: &str, name: &str) -> PathBuf {
    let own = env::current_exe().expect("the path of this test");
    let folder = own.parent().and_then(Path::parent).expect("a folder");
    let path = folder.join(name);
    if !path.exists() {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--locked", "--package", package]);
        cargo.args(["--bin", name]);
        cargo.args((!cfg!(debug_assertions)).then_some("--release"));
        assert!(cargo.status().expect("cargo runs").success());
    }
    path
}

/// Makes an executable script.
///
/// # Panics
/// When the file cannot be written.
pub fn script(path: &Path, text: &str) {
    let mut install = installer(Path::new("/dev/stdin"), path);
    let mut child = install.stdin(Stdio::piped()).spawn().expect("install runs");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(text.as_bytes()).expect("a reader");
    drop(input);
    assert!(child.wait().expect("status").success(), "{path:?}");
}

/// Makes an executable copy of a program.
///
/// # Panics
/// When the file cannot be written.
pub fn copy(program: &Path, path: &Path) {
    let status = installer(program, path).status().expect("install runs");
    assert!(status.success(), "{path:?}");
}

/// A program of libvirt that does not take itself for root: libvirt has other folders and daemons for root. As root it runs in a user
/// namespace.
#[must_use]
pub fn unprivileged(program: &str) -> Command {
    if !geteuid().is_root() {
        return Command::new(program);
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-user=1000", "--map-group=1000", program]);
    unshare
}

fn installer(from: &Path, to: &Path) -> Command {
    let mut install = Command::new("install");
    install.args(["-m", "755"]).arg(from).arg(to);
    install
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn made_programs_run_while_other_threads_start_processes() {
        let folder = tempfile::tempdir().expect("a folder");
        thread::scope(|scope| {
            for name in 0..8 {
                let path = folder.path().join(name.to_string());
                scope.spawn(move || {
                    for _ in 0..20 {
                        script(&path, "#!/bin/sh\nexit 0\n");
                        assert!(Command::new(&path).status().expect("runs").success());
                    }
                });
            }
        });
    }
}
