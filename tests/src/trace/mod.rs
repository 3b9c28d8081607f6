//! Runs real programs and sees their system calls: one of them fails, or each change of a file is recorded.
//!
//! `trace.c` does it, by seccomp's user notification. It is compiled when a test needs it.

mod call;
mod task;

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::OnceLock;
use std::thread::{self, JoinHandle};

pub use call::Call;

/// The size of the kernel's `struct seccomp_notif` (linux/seccomp.h).
const NOTIFICATION: usize = 80;

/// The program that follows system calls; compiled once for each process.
///
/// # Panics
/// There is no C compiler.
#[must_use]
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(compiled)
}

fn compiled() -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/trace/trace.c");
    let own = env::current_exe().expect("the path of this test");
    let program = own.with_file_name("trace");
    // Another test process may run the program.
    let made = own.with_file_name(format!("trace.{}", process::id()));
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-Wall", "-o"]).arg(&made).arg(source);
    assert!(compiler.status().expect("cc runs").success());
    fs::rename(made, &program).expect("the program's name");
    program
}

/// Records what a program and its children do to files.
#[derive(Debug)]
pub struct Recorder {
    socket: PathBuf,
    listener: UnixListener,
}

impl Recorder {
    /// For one command; its socket is in `directory`.
    ///
    /// # Panics
    /// The directory cannot be written.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        let socket = directory.join("trace.sock");
        // An earlier recorder in this directory may have left it.
        let _ = fs::remove_file(&socket);
        Self {
            listener: UnixListener::bind(&socket).expect("a socket"),
            socket,
        }
    }

    /// The command that runs `command` under the recorder, with its arguments and environment.
    #[must_use]
    pub fn command(&self, command: &Command) -> Command {
        let mut traced = Command::new(program());
        traced.arg("report").arg(&self.socket).arg(call::list());
        traced.arg(command.get_program()).args(command.get_args());
        let set = |(name, value): (&OsStr, Option<&OsStr>)| match value {
            Some(value) => drop(traced.env(name, value)),
            None => drop(traced.env_remove(name)),
        };
        command.get_envs().for_each(set);
        traced
    }

    /// Records the calls that change files below `roots`, and all messages that are sent. `act` sees each of them before the
    /// kernel performs it. The thread ends with the command.
    pub fn record(
        self,
        roots: Vec<PathBuf>,
        act: impl FnMut(&Call) + Send + 'static,
    ) -> JoinHandle<Vec<Call>> {
        thread::spawn(move || {
            let (stream, _) = self.listener.accept().expect("the program");
            follow(stream, &roots, act)
        })
    }
}

fn follow(mut stream: UnixStream, roots: &[PathBuf], mut act: impl FnMut(&Call)) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut notification = [0; NOTIFICATION];
    while stream.read_exact(&mut notification).is_ok() {
        if let Some(call) = Call::read(&notification, roots) {
            act(&call);
            calls.push(call);
        }
        if stream.write_all(b".").is_err() {
            break;
        }
    }
    calls.push(Call::Exit);
    calls
}
