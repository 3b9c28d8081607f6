//! A bus with the list of devices that an agent publishes, guests, and runs of libvirt's hook.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use tests::bus::Bus;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use zbus::object_server::Interface;
use zbus::{Connection, Guid, OwnedVariant, connection};

pub(crate) const MARKED: &str = "<domain type='kvm'><name>d0</name><metadata>\
    <v:prepared xmlns:v='urn:variantd:1'/></metadata></domain>";
pub(crate) const UNMARKED: &str = "<domain type='kvm'><name>d0</name><devices>\
    <hostdev mode='subsystem' type='pci'><source>\
    <address domain='0x0009' bus='0x01' slot='0x00' function='0x0'/></source></hostdev>\
    </devices></domain>";
/// None of our business.
pub(crate) const FOREIGN: &str = "<domain type='kvm'><name>d0</name></domain>";
/// Longer than the hook waits for a bus to answer.
const SECONDS: &str = "7";

/// The last argument of each call.
pub(crate) type Options = HashMap<String, OwnedVariant>;

/// How an agent says no.
#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.variantd1.Error")]
pub(crate) enum Refusal {
    #[zbus(error)]
    ZBus(zbus::Error),
    Refused(String),
}

pub(crate) struct Scene {
    pub(crate) bus: Bus,
}

/// A run of libvirt's hook.
pub(crate) struct Call {
    pub(crate) arguments: Vec<String>,
    pub(crate) address: String,
    pub(crate) run: PathBuf,
    /// Where it is called by a shell: what that does, with the hook and its arguments as `"$0" "$@"`.
    pub(crate) shell: Option<&'static str>,
}

/// What the hook says, and how long it takes for it.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: i32,
    pub(crate) said: String,
    pub(crate) xml: String,
    pub(crate) took: Duration,
}

impl Scene {
    pub(crate) fn start() -> Self {
        let bus = Bus::start().expect("bus");
        std::fs::write(bus.path("devices"), "0009:01:00.0\n").expect("devices");
        Self { bus }
    }

    /// Has an agent serve one object.
    pub(crate) async fn serve(&self, path: &str, agent: impl Interface) -> Connection {
        let builder = connection::Builder::address(self.bus.address());
        let builder = builder.serve_at(path, agent);
        let named = builder
            .name("org.variantd1")
            .name("org.variantd1.Hook")
            .build()
            .await;
        named.expect("serve on the private bus")
    }

    /// Has an agent serve one object past the bus, to everybody who comes to its socket.
    pub(crate) fn listen<I: Interface>(
        &self,
        path: &'static str,
        agent: impl Fn() -> I + Send + 'static,
    ) -> JoinSet<()> {
        let listener = UnixListener::bind(self.socket()).expect("socket");
        let mut listening = JoinSet::new();
        listening.spawn(async move {
            let mut peers = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                peers.spawn(answer(stream, path, agent()));
            }
        });
        listening
    }

    /// Where the hook looks for the agent before it goes to the bus.
    pub(crate) fn socket(&self) -> PathBuf {
        self.bus.path(hooks::agent::SOCKET)
    }

    /// A device that the kernel shows, whether or not the agent has listed it.
    pub(crate) fn plug(&self, address: &str, vendor: &str, device: &str) {
        let function = self.bus.path("sys/bus/pci/devices").join(address);
        std::fs::create_dir_all(&function).expect("sysfs");
        for (name, id) in [("vendor", vendor), ("device", device)] {
            std::fs::write(function.join(name), format!("{id}\n")).expect(name);
        }
    }

    /// `operation` with what libvirt says behind it.
    pub(crate) fn call(&self, operation: &str) -> Call {
        let arguments = format!("d0 {operation}");
        Call {
            arguments: arguments.split(' ').map(str::to_owned).collect(),
            address: self.bus.address().to_owned(),
            run: self.bus.path(""),
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
            .env("DBUS_SYSTEM_BUS_ADDRESS", &self.address)
            .env("VARIANTD_RUN_DIR", &self.run)
            .env("VARIANTD_ROOT", &self.run)
            .env("VARIANTD_HOOK_SECONDS", SECONDS)
            .env("VARIANTD_HOOK_LOG", self.run.join("log"))
            .current_dir("/")
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
            said: text(&output.stderr),
            xml: text(&output.stdout),
            took: began.elapsed(),
        }
    }
}

/// Serves a peer that knows from the kernel who we are, as the agent does: zbus' authentication is between us and zbus.
async fn answer(mut stream: UnixStream, path: &str, agent: impl Interface) {
    let (mut ours, zbus) = UnixStream::pair().expect("sockets");
    let zbus = connection::Builder::unix_stream(zbus.into_std().expect("a socket"));
    let served = zbus
        .server(Guid::generate())
        .p2p()
        .serve_at(path, agent)
        .build();
    let relay = async {
        let user = geteuid().to_string();
        let user: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
        let authentication = format!("\0AUTH EXTERNAL {user}\r\nBEGIN\r\n");
        ours.write_all(authentication.as_bytes()).await?;
        while ours.read_u8().await? != b'\n' {}
        copy_bidirectional(&mut stream, &mut ours).await
    };
    let _ = tokio::join!(served, relay);
}

/// What a program printed, without the end of its last line.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
