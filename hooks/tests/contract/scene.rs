//! The run directory of a scripted agent, guests, and runs of libvirt's hook.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hooks::protocol::{
    Frames, LONGEST_CALL, MethodCall, MethodReply, REFUSED, Results, SOCKET, encoded,
};
use tempfile::TempDir;

pub(crate) const MARKED: &str = "<domain type='kvm'><name>d0</name><metadata>\
    <v:prepared xmlns:v='urn:variantd:1'/></metadata></domain>";
pub(crate) const UNMARKED: &str = "<domain type='kvm'><name>d0</name><devices>\
    <hostdev mode='subsystem' type='pci'><source>\
    <address domain='0x0009' bus='0x01' slot='0x00' function='0x0'/></source></hostdev>\
    </devices></domain>";
/// An unrelated guest.
pub(crate) const FOREIGN: &str = "<domain type='kvm'><name>d0</name></domain>";
/// The hook's timeout in these tests, for each reply and in total.
pub(crate) const SECONDS: u64 = 5;

pub(crate) struct Scene {
    directory: TempDir,
}

/// A run of libvirt's hook.
pub(crate) struct Call {
    pub(crate) arguments: Vec<String>,
    pub(crate) run: PathBuf,
    /// A shell script that calls the hook; the hook and its arguments are `"$0" "$@"`.
    pub(crate) shell: Option<&'static str>,
}

/// The hook's output and duration.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: i32,
    pub(crate) printed: String,
    pub(crate) xml: String,
    pub(crate) took: Duration,
}

/// A hook that has connected.
pub(crate) struct Peer {
    pub(crate) stream: UnixStream,
    frames: Frames,
}

impl Peer {
    /// Its call; `None` when it has disconnected.
    pub(crate) fn call(&mut self) -> Option<MethodCall<'static>> {
        loop {
            if let Some(message) = self.frames.take().expect("not too long") {
                return Some(serde_json::from_slice(&message).expect("a call"));
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes).unwrap_or(0) {
                0 => return None,
                read => self.frames.push(&bytes[..read]),
            }
        }
    }

    pub(crate) fn reply(&mut self, reply: &MethodReply) {
        let bytes = encoded(reply).expect("JSON");
        let _ = self.stream.write_all(&bytes);
    }

    pub(crate) fn progress(&mut self) {
        let stage = Some("binding the device".to_owned());
        self.reply(&MethodReply {
            continues: true,
            parameters: Results {
                stage,
                ..Results::default()
            },
            ..MethodReply::default()
        });
    }
}

/// A reply that refuses, as the agent writes it.
pub(crate) fn refusal(message: &str) -> MethodReply {
    MethodReply {
        error: Some(REFUSED.to_owned()),
        parameters: Results {
            code: Some("VD-BND-001".to_owned()),
            message: Some(message.to_owned()),
            hint: Some("see 'variantctl list'".to_owned()),
            ..Results::default()
        },
        ..MethodReply::default()
    }
}

impl Scene {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        std::fs::write(directory.path().join("devices"), "0009:01:00.0\n").expect("devices");
        Self { directory }
    }

    /// An agent that serves each hook in a thread; it runs until the returned lock is dropped.
    pub(crate) fn serve(&self, agent: impl Fn(&mut Peer) + Send + Sync + 'static) -> File {
        let lock = self.lock();
        let listener = self.listen();
        let agent = Arc::new(agent);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let agent = agent.clone();
                let frames = Frames::new(LONGEST_CALL);
                thread::spawn(move || agent(&mut Peer { stream, frames }));
            }
        });
        lock
    }

    /// The lock that every agent holds while it runs.
    pub(crate) fn lock(&self) -> File {
        let file = File::open(self.directory.path()).expect("run directory");
        file.try_lock().expect("no other agent");
        file
    }

    /// The socket, on which systemd listens before the agent starts.
    pub(crate) fn listen(&self) -> UnixListener {
        UnixListener::bind(self.socket()).expect("socket")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path(SOCKET)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A device that the kernel shows, whether or not the agent has listed it.
    pub(crate) fn plug(&self, address: &str, vendor: &str, device: &str) {
        let function = self.path("sys/bus/pci/devices").join(address);
        std::fs::create_dir_all(&function).expect("sysfs");
        for (name, id) in [("vendor", vendor), ("device", device)] {
            std::fs::write(function.join(name), format!("{id}\n")).expect(name);
        }
    }

    /// `operation` with libvirt's remaining arguments.
    pub(crate) fn call(&self, operation: &str) -> Call {
        let arguments = format!("d0 {operation}");
        Call {
            arguments: arguments.split(' ').map(str::to_owned).collect(),
            run: self.directory.path().to_owned(),
            shell: None,
        }
    }

    pub(crate) fn run(&self, operation: &str, xml: &str) -> Told {
        self.call(operation).run(xml)
    }
}

impl Call {
    fn command(&self) -> Command {
        let hook = env!("CARGO_BIN_EXE_variantd-hook");
        let Some(script) = self.shell else {
            return Command::new(hook);
        };
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script, hook]);
        shell
    }

    pub(crate) fn run(&self, xml: &str) -> Told {
        let began = Instant::now();
        let mut hook = self
            .command()
            .args(&self.arguments)
            .env_clear()
            .env("VARIANTD_RUN_DIR", &self.run)
            .env("VARIANTD_ROOT", &self.run)
            .env("VARIANTD_HOOK_SECONDS", SECONDS.to_string())
            .env("VARIANTD_HOOK_LOG", self.run.join("log"))
            .current_dir(Path::new("/"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("hook");
        let mut stdin = hook.stdin.take().expect("stdin");
        let written = stdin.write_all(xml.as_bytes());
        assert!(
            written.is_ok() || self.shell.is_some(),
            "the hook reads all of it"
        );
        drop(stdin);
        let output = hook.wait_with_output().expect("output");
        Told {
            status: output.status.code().unwrap_or(-1),
            printed: text(&output.stderr),
            xml: text(&output.stdout),
            took: began.elapsed(),
        }
    }
}

/// A program's output, without the last line end.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
