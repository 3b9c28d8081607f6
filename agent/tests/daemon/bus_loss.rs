//! An agent that loses the bus, or its name there, ends with an error: systemd starts it again.
//!
//! It reaches the bus through [`Relay`], which can close one connection and say what the bus would say.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use zbus::Message;

use crate::scene::{Agent, Scene};

const BUS: &str = "org.freedesktop.DBus";

/// What lies between the agent and its bus.
struct Relay {
    path: PathBuf,
    /// The agent's ends of the connections that are open, in the order in which they came.
    open: Open,
}

type Open = Arc<Mutex<BTreeMap<usize, UnixStream>>>;

impl Relay {
    fn before(scene: &Scene) -> Self {
        let (path, bus) = (scene.path("relay"), scene.path("bus"));
        let listener = UnixListener::bind(&path).expect("a socket");
        let open = Open::default();
        let relayed = open.clone();
        thread::spawn(move || {
            for (number, client) in listener.incoming().flatten().enumerate() {
                // A bus that has ended takes nobody.
                if let Ok(server) = UnixStream::connect(&bus) {
                    relay(number, &client, &server, &relayed);
                }
            }
        });
        Self { path, open }
    }

    fn agent(&self, scene: &Scene) -> Agent {
        let address = format!("unix:path={}", self.path.display());
        let mut agent = scene.start_with(&[("DBUS_SYSTEM_BUS_ADDRESS", &address)]);
        agent.says("serves");
        agent
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<usize, UnixStream>> {
        self.open.lock().expect("lock")
    }
}

/// Copies both ways until one side ends.
fn relay(number: usize, client: &UnixStream, server: &UnixStream, open: &Open) {
    let clone = |stream: &UnixStream| stream.try_clone().expect("another descriptor");
    open.lock().expect("lock").insert(number, clone(client));
    for (mut from, mut to) in [
        (clone(client), clone(server)),
        (clone(server), clone(client)),
    ] {
        let open = open.clone();
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
            open.lock().expect("lock").remove(&number);
        });
    }
}

/// The agent's last words, when it has ended with a failure.
fn ended(mut agent: Agent) -> String {
    let log = agent.rest();
    assert_eq!(agent.wait().code(), Some(1), "{log}");
    let error = log.lines().find(|line| line.contains("ERROR"));
    error.expect("an error").to_owned()
}

#[test]
fn an_agent_that_loses_any_of_its_connections_to_the_bus_ends_with_an_error() {
    let scene = Scene::new();
    let relay = Relay::before(&scene);
    let count = {
        let _agent = relay.agent(&scene);
        relay.open().len()
    };
    // The names, and who asks about callers, of the manager and of libvirt's hook.
    assert_eq!(count, 4);
    for one in 0..count {
        let agent = relay.agent(&scene);
        let open = relay.open();
        let connection = open.values().nth(one).expect("a connection");
        connection.shutdown(Shutdown::Both).expect("closed");
        drop(open);
        let error = ended(agent);
        assert!(error.contains("to the system bus is closed"), "{error}");
    }
}

#[test]
fn an_agent_whose_bus_ends_ends_with_an_error() {
    let mut scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    scene.bus.end();
    let error = ended(agent);
    assert!(error.contains("to the system bus is closed"), "{error}");
}

#[test]
fn an_agent_that_loses_its_name_ends_with_an_error() {
    for name in ["org.variantd1", "org.variantd1.Hook"] {
        let scene = Scene::new();
        let relay = Relay::before(&scene);
        let agent = relay.agent(&scene);
        let lost = Message::signal("/org/freedesktop/DBus", BUS, "NameLost").sender(BUS);
        let lost = lost.build(&name).expect("a signal");
        for connection in relay.open().values_mut() {
            connection.write_all(lost.data()).expect("said");
        }
        let error = ended(agent);
        let words = format!("the name '{name}' on the system bus is another process's now");
        assert!(error.contains(&words), "{error}");
    }
}
