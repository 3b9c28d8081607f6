//! The real hook on a private bus, with an agent that has a fault.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::bus::Bus;
use zbus::{Connection, OwnedVariant, connection};

pub(crate) const MARKED: &str = "<domain type='kvm'><name>d0</name><metadata>\
    <v:prepared xmlns:v='urn:variantd:1'/></metadata></domain>";
pub(crate) const UNMARKED: &str = "<domain type='kvm'><name>d0</name><devices>\
    <hostdev mode='subsystem' type='pci'><source>\
    <address domain='0x0009' bus='0x01' slot='0x00' function='0x0'/></source></hostdev>\
    </devices></domain>";
/// Longer than the hook waits for a bus to answer.
const SECONDS: &str = "7";

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Missing,
    Hung,
    Crashed,
    Foreign,
    NoBus,
    HungBus,
    Unreadable,
    TooLarge,
}

/// What the hook says, and how long it takes for it.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: i32,
    pub(crate) said: String,
    pub(crate) xml: String,
    pub(crate) took: Duration,
}

/// A run of the hook.
pub(crate) struct Call {
    arguments: Vec<String>,
    address: String,
    run: PathBuf,
}

pub(crate) struct Scene {
    bus: Bus,
    fault: Fault,
    _agent: Option<Connection>,
}

impl Fault {
    pub(crate) const ALL: [Self; 8] = [
        Self::Missing,
        Self::Hung,
        Self::Crashed,
        Self::Foreign,
        Self::NoBus,
        Self::HungBus,
        Self::Unreadable,
        Self::TooLarge,
    ];

    /// As variantd-hook(8) has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Missing => "the agent does not run",
            Self::Hung => "the agent hangs",
            Self::Crashed => "the agent ends in the call",
            Self::Foreign => "the agent is of another version",
            Self::NoBus => "there is no bus",
            Self::HungBus => "the bus hangs",
            Self::Unreadable => "the XML cannot be read",
            Self::TooLarge => "the XML is over 1 MiB",
        }
    }

    /// A definition with the fault.
    pub(crate) fn bend(self, xml: &str) -> String {
        match self {
            Self::Unreadable => xml.replace("</domain>", "</domian>"),
            // Nothing of ours stands in the first megabyte.
            Self::TooLarge => xml.replace("<name>", &format!("{}<name>", " ".repeat(1 << 20))),
            _ => xml.to_owned(),
        }
    }
}

impl Scene {
    pub(crate) async fn with(fault: Fault) -> Self {
        let bus = Bus::start().expect("bus");
        std::fs::write(bus.path("devices"), "0009:01:00.0\n").expect("devices");
        let agent = match fault {
            Fault::Hung | Fault::Crashed => Some(
                serve(
                    &bus,
                    Silent {
                        ends: fault == Fault::Crashed,
                    },
                )
                .await,
            ),
            Fault::Foreign => Some(serve(&bus, Foreign).await),
            _ => None,
        };
        if fault == Fault::HungBus {
            bus.stop();
        }
        Self {
            bus,
            fault,
            _agent: agent,
        }
    }

    /// `operation` with its sub-operation.
    pub(crate) fn call(&self, operation: &str) -> Call {
        let arguments = format!("d0 {operation} -");
        let address = match self.fault {
            Fault::NoBus => "unix:path=/nonexistent/bus",
            _ => self.bus.address(),
        };
        Call {
            arguments: arguments.split(' ').map(str::to_owned).collect(),
            address: address.to_owned(),
            run: self.bus.path(""),
        }
    }
}

impl Call {
    pub(crate) fn run(&self, xml: &str) -> Told {
        let began = Instant::now();
        let mut hook = Command::new(env!("CARGO_BIN_EXE_variantd-hook"))
            .args(&self.arguments)
            .env_clear()
            .env("DBUS_SYSTEM_BUS_ADDRESS", &self.address)
            .env("VARIANTD_RUN_DIR", &self.run)
            .env("VARIANTD_HOOK_SECONDS", SECONDS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("hook");
        let mut stdin = hook.stdin.take().expect("stdin");
        stdin
            .write_all(xml.as_bytes())
            .expect("the hook reads all of it");
        drop(stdin);
        let output = hook.wait_with_output().expect("output");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Told {
            status: output.status.code().unwrap_or(-1),
            said: text(&output.stderr),
            xml: text(&output.stdout),
            took: began.elapsed(),
        }
    }
}

async fn serve(bus: &Bus, agent: impl zbus::object_server::Interface) -> Connection {
    let builder = connection::Builder::address(bus.address());
    let builder = builder.serve_at("/org/variantd1/Hook", agent);
    let built = builder.name("org.variantd1").build().await;
    built.expect("serve on the private bus")
}

type Options = HashMap<String, OwnedVariant>;

/// An agent that takes a call and never answers, or leaves the bus with it.
struct Silent {
    ends: bool,
}

impl Silent {
    async fn never(&self, bus: &Connection) {
        if self.ends {
            let _ = bus.clone().close().await;
        }
        std::future::pending::<()>().await;
    }
}

macro_rules! silent {
    ($($method:ident)*) => {
        #[zbus::interface(name = "org.variantd1.Hook")]
        impl Silent {
            $(async fn $method(&self, #[zbus(connection)] bus: &Connection, _xml: &str, _options: Options) {
                self.never(bus).await;
            })*
        }
    };
}
silent! { prepare start started stopped release reconnect rewrite }

/// An agent of another version: the same object, another interface.
struct Foreign;

#[zbus::interface(name = "org.variantd2.Hook")]
impl Foreign {
    fn prepare(&self) {}
}
