//! An agent that loses the bus, or its bus name, exits with an error, and systemd restarts it.
//!
//! It reaches the bus through [`Relay`], which can close one connection and inject messages of the bus.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use nix::sys::signal::Signal;
use tests::bus::Kind;
use zbus::{Message, connection};

use crate::scene::{Agent, Scene, as_nobody};

const BUS: &str = "org.freedesktop.DBus";
const BUSES: [Kind; 2] = [Kind::Daemon, Kind::Broker];
/// Passes the bus address to the other process.
const ADDRESS: &str = "VARIANTD_TEST_VISIT";
/// Each causes two messages to the agent of about 200 bytes.
const VISITS: usize = 3000;

/// A proxy between the agent and its bus.
struct Relay {
    path: PathBuf,
    /// The agent's ends of the open connections, in the order of connecting.
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
                // A bus that has ended accepts no connection.
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

/// The agent's last log line, after it has exited with a failure.
fn ended(mut agent: Agent) -> String {
    let log = agent.rest();
    assert_eq!(agent.wait().code(), Some(1), "{log}");
    let error = log.lines().find(|line| line.contains("ERROR"));
    error.expect("an error").to_owned()
}

fn any_connection_is_lost(kind: Kind) {
    let scene = Scene::on_bus(kind);
    let relay = Relay::before(&scene);
    let count = {
        let _agent = relay.agent(&scene);
        relay.open().len()
    };
    // The connection with the name, and the one for queries about callers.
    assert_eq!(count, 2);
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

fn the_bus_ends(kind: Kind) {
    let mut scene = Scene::on_bus(kind);
    let mut agent = scene.start();
    agent.says("serves");
    scene.bus.end();
    let error = ended(agent);
    assert!(error.contains("to the system bus is closed"), "{error}");
}

fn a_name_is_lost(kind: Kind) {
    let name = "org.variantd1";
    let scene = Scene::on_bus(kind);
    let relay = Relay::before(&scene);
    let agent = relay.agent(&scene);
    let lost = Message::signal("/org/freedesktop/DBus", BUS, "NameLost").sender(BUS);
    let lost = lost.build(&name).expect("a signal");
    for connection in relay.open().values_mut() {
        connection.write_all(lost.data()).expect("said");
    }
    let error = ended(agent);
    let words = format!("another process has taken the name '{name}' on the system bus");
    assert!(error.contains(&words), "{error}");
}

#[test]
fn an_agent_that_loses_any_of_its_connections_to_the_bus_ends_with_an_error() {
    BUSES.into_iter().for_each(any_connection_is_lost);
}

#[test]
fn an_agent_whose_bus_ends_ends_with_an_error() {
    BUSES.into_iter().for_each(the_bus_ends);
}

#[test]
fn an_agent_that_loses_its_name_ends_with_an_error() {
    BUSES.into_iter().for_each(a_name_is_lost);
}

/// dbus-broker disconnects a receiver for which it can queue no further message of its own, such as NameOwnerChanged.
#[test]
fn an_agent_that_dbus_broker_disconnects_ends_with_an_error() {
    // Small, so that few messages fill it; the agent does not read.
    let scene = Scene::on_broker_with(256 << 10);
    let mut agent = scene.start();
    agent.says("serves");
    agent.send(Signal::SIGSTOP);
    let mut visitors = as_nobody("bus_loss::visitor");
    let visitors = visitors.env(ADDRESS, scene.bus.address());
    assert!(visitors.status().expect("a process").success());
    agent.send(Signal::SIGCONT);
    let error = ended(agent);
    assert!(error.contains("to the system bus is closed"), "{error}");
}

/// Connects to the bus and disconnects, many times; does nothing without ADDRESS.
#[tokio::test]
#[ignore = "the other process of a test"]
async fn visitor() {
    let Ok(address) = std::env::var(ADDRESS) else {
        return;
    };
    for _ in 0..VISITS {
        let bus = connection::Builder::address(address.as_str()).build();
        drop(bus.await.expect("bus"));
    }
}
