//! Faults of the agent, its socket or a definition.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Duration;

use hooks::protocol::{METHOD_NOT_FOUND, MethodReply, Results};

use super::scene::{Call, Peer, Scene};

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Missing,
    Hung,
    Crashed,
    Foreign,
    NotStarted,
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

/// Two forms of each fault of the agent: no socket, or the socket of a killed agent; it fails before its first reply, or
/// after progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Early,
    Late,
}

/// A scene with a fault.
pub(crate) struct Faulty {
    scene: Scene,
    fault: Fault,
    _agent: Option<File>,
    _listener: Option<UnixListener>,
}

impl Fault {
    pub(crate) const ALL: [Self; 14] = [
        Self::Missing,
        Self::Hung,
        Self::Crashed,
        Self::Foreign,
        Self::NotStarted,
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

    /// Its name in variantd-hook(8).
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Missing => "the agent does not run",
            Self::Hung => "the agent hangs",
            Self::Crashed => "the agent ends in the call",
            Self::Foreign => "the agent is of another version",
            Self::NotStarted => "the agent cannot be started",
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
            // The first megabyte has none of our elements.
            Self::TooLarge => xml.replace("<name>", &format!("{}<name>", " ".repeat(1 << 20))),
            Self::Empty => String::new(),
            // More nodes than 8 MiB can hold, and fewer than a definition may have.
            Self::NoMemory => {
                xml.replace("</domain>", &format!("{}</domain>", "<a/>".repeat(120_000)))
            }
            _ => xml.to_owned(),
        }
    }

    /// The hook's arguments and input.
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
    pub(crate) fn with(fault: Fault, form: Form) -> Self {
        let scene = Scene::start();
        let (mut agent, mut listener) = (None, None);
        match (fault, form) {
            // Stopped before it accepts.
            (Fault::Hung, Form::Early) => {
                agent = Some(scene.lock());
                listener = Some(scene.listen());
            }
            (Fault::Hung, Form::Late) => agent = Some(scene.serve(hang)),
            (Fault::Crashed, Form::Early) => agent = Some(scene.serve(|peer| drop(peer.call()))),
            (Fault::Crashed, Form::Late) => agent = Some(scene.serve(end_after_progress)),
            (Fault::Foreign, Form::Early) => agent = Some(scene.serve(not_found)),
            (Fault::Foreign, Form::Late) => agent = Some(scene.serve(another_protocol)),
            (Fault::NotStarted, _) => listener = Some(scene.listen()),
            (_, Form::Early) => {}
            (_, Form::Late) => drop(scene.listen()),
        }
        if fault == Fault::NoList {
            let list = scene.path("devices");
            fs::remove_file(&list).expect("the list");
            fs::create_dir(&list).expect("no list");
        }
        Self {
            scene,
            fault,
            _agent: agent,
            _listener: listener,
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
            _ => call,
        }
    }
}

fn hang(peer: &mut Peer) {
    let call = peer.call();
    peer.progress();
    thread::sleep(Duration::from_secs(60));
    drop(call);
}

fn end_after_progress(peer: &mut Peer) {
    let call = peer.call();
    peer.progress();
    drop(call);
}

/// An agent that does not know the method.
fn not_found(peer: &mut Peer) {
    let Some(call) = peer.call() else {
        return;
    };
    peer.reply(&MethodReply {
        error: Some(METHOD_NOT_FOUND.to_owned()),
        parameters: Results {
            method: Some(call.method.into_owned()),
            ..Results::default()
        },
        ..MethodReply::default()
    });
}

/// An agent of before this protocol: it reads the start of a message, and closes the connection.
fn another_protocol(peer: &mut Peer) {
    let _ = peer.stream.read_exact(&mut [0; 16]);
    let _ = peer.stream.flush();
}
