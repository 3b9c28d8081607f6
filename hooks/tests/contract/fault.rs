//! What can be wrong with the agent, its bus or a definition.

use std::fs;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;
use zbus::Connection;

use super::libvirt::HOOK;
use super::scene::{Call, Options, Scene};

/// A bus that there is not.
pub(crate) const NOWHERE: &str = "unix:path=/nonexistent/bus";

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Missing,
    Hung,
    Crashed,
    Foreign,
    NoBus,
    HungBus,
    FullBus,
    Unreadable,
    TooLarge,
    Empty,
    Closed,
    Directory,
    NeverRun,
    NoList,
    NoDescriptor,
    NoMemory,
}

/// How the hook comes to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Bus,
    Socket,
}

/// A scene with a fault.
pub(crate) struct Faulty {
    scene: Scene,
    fault: Fault,
    _agent: Option<Connection>,
    _listening: Option<JoinSet<()>>,
}

impl Fault {
    pub(crate) const ALL: [Self; 16] = [
        Self::Missing,
        Self::Hung,
        Self::Crashed,
        Self::Foreign,
        Self::NoBus,
        Self::HungBus,
        Self::FullBus,
        Self::Unreadable,
        Self::TooLarge,
        Self::Empty,
        Self::Closed,
        Self::Directory,
        Self::NeverRun,
        Self::NoList,
        Self::NoDescriptor,
        Self::NoMemory,
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
            Self::FullBus => "the bus has no room for the call",
            Self::Unreadable => "the XML cannot be read",
            Self::TooLarge => "the XML is over 1 MiB",
            Self::Empty => "the XML does not arrive",
            Self::Closed => "standard input is closed",
            Self::Directory => "standard input cannot be read",
            Self::NeverRun => "the agent has never run",
            Self::NoList => "the list of devices cannot be read",
            Self::NoDescriptor => "no descriptor is free",
            Self::NoMemory => "memory runs out",
        }
    }

    /// A definition with the fault.
    pub(crate) fn bend(self, xml: &str) -> String {
        match self {
            Self::Unreadable => xml.replace("</domain>", "</domian>"),
            // Nothing of ours stands in the first megabyte.
            Self::TooLarge => xml.replace("<name>", &format!("{}<name>", " ".repeat(1 << 20))),
            Self::Empty => String::new(),
            // More nodes than 8 MiB can hold, and fewer than a definition may have.
            Self::NoMemory => {
                xml.replace("</domain>", &format!("{}</domain>", "<a/>".repeat(120_000)))
            }
            _ => xml.to_owned(),
        }
    }

    /// How the hook is called.
    fn shell(self) -> Option<&'static str> {
        match self {
            Self::Closed => Some(r#"exec "$0" "$@" <&-"#),
            Self::Directory => Some(r#"exec "$0" "$@" </"#),
            Self::NoDescriptor => Some(r#"ulimit -n 3; exec "$0" "$@""#),
            Self::NoMemory => Some(r#"ulimit -v 8192; exec "$0" "$@""#),
            _ => None,
        }
    }
}

impl Faulty {
    pub(crate) async fn with(fault: Fault, way: Way) -> Self {
        let scene = Scene::start();
        let ends = fault == Fault::Crashed;
        let (mut agent, mut listening) = (None, None);
        match (fault, way) {
            (Fault::Hung | Fault::Crashed, Way::Bus) => {
                agent = Some(scene.serve(HOOK, Silent { ends }).await);
            }
            (Fault::Hung | Fault::Crashed, Way::Socket) => {
                listening = Some(scene.listen(HOOK, move || Silent { ends }));
            }
            (Fault::Foreign, Way::Bus) => agent = Some(scene.serve(HOOK, Foreign).await),
            (Fault::Foreign, Way::Socket) => listening = Some(scene.listen(HOOK, || Foreign)),
            (Fault::FullBus, _) => {
                let full = Full {
                    refusals: Arc::new(AtomicUsize::new(usize::MAX)),
                };
                agent = Some(scene.serve(HOOK, full).await);
            }
            // What an agent leaves that was killed.
            (_, Way::Socket) => drop(UnixListener::bind(scene.socket()).expect("socket")),
            (_, Way::Bus) => {}
        }
        if fault == Fault::HungBus {
            scene.bus.stop();
        }
        if fault == Fault::NoList {
            let list = scene.bus.path("devices");
            fs::remove_file(&list).expect("the list");
            fs::create_dir(&list).expect("no list");
        }
        Self {
            scene,
            fault,
            _agent: agent,
            _listening: listening,
        }
    }

    /// `operation` with its sub-operation.
    pub(crate) fn call(&self, operation: &str) -> Call {
        let call = Call {
            shell: self.fault.shell(),
            ..self.scene.call(&format!("{operation} -"))
        };
        match self.fault {
            Fault::NeverRun => Call {
                run: "/nonexistent".into(),
                ..call
            },
            Fault::NoBus => Call {
                address: NOWHERE.to_owned(),
                ..call
            },
            _ => call,
        }
    }
}

/// An agent that takes a call and never answers, or leaves with it.
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

/// What a bus says for an agent whose queue is full: so many times, then the agent answers.
pub(crate) struct Full {
    pub(crate) refusals: Arc<AtomicUsize>,
}

impl Full {
    fn answer(&self) -> zbus::fdo::Result<()> {
        let one_less = |left: usize| left.checked_sub(1);
        let taken = self
            .refusals
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        match taken {
            Ok(_) => Err(zbus::fdo::Error::LimitsExceeded("a full queue".into())),
            Err(_) => Ok(()),
        }
    }
}

macro_rules! full {
    ($($method:ident)*) => {
        #[zbus::interface(name = "org.variantd1.Hook")]
        impl Full {
            $(fn $method(&self, _xml: &str, _options: Options) -> zbus::fdo::Result<()> {
                self.answer()
            })*
        }
    };
}
full! { prepare start started stopped release reconnect rewrite }

/// An agent of another version: the same object, another interface.
struct Foreign;

#[zbus::interface(name = "org.variantd2.Hook")]
impl Foreign {
    fn prepare(&self) {}
}
