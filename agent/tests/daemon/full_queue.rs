//! `variantctl` with a bus that has no queue space for a call of the agent, and with an agent that exits during a call.

use std::fs;
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use api::client::Fault;
use nix::sys::signal::Signal;
use nix::unistd::Uid;
use tokio::time::timeout;
use zbus::message::{Flags, Message};
use zbus::{Connection, connection};

use crate::scene::{Agent, Scene, as_nobody};

/// dbus-daemon(1), `limit`: maximum size of a connection's queue.
const LIMITS: &str = "<busconfig><limit name='max_outgoing_bytes'>65536</limit></busconfig>";
const NAME: &str = "org.variantd1";
/// More than a socket's buffer and the queue hold together.
const CALLS: usize = 40;
/// Longer than one attempt, shorter than all.
const SHORT: Duration = Duration::from_millis(500);

fn scene() -> (Scene, Agent) {
    let limits = tempfile::NamedTempFile::new().expect("a file");
    fs::write(limits.path(), LIMITS).expect("limits");
    let scene = Scene::for_all_with(&[limits.path()]);
    let mut agent = scene.start();
    agent.says("serves");
    (scene, agent)
}

/// Fills the queue of an agent that does not read.
async fn fill(scene: &Scene) {
    let bus = connection::Builder::address(scene.bus.address()).build();
    fill_on(&bus.await.expect("bus")).await;
}

async fn fill_on(bus: &Connection) {
    let body = "x".repeat(40 << 10);
    for _ in 0..CALLS {
        let call = Message::method_call("/org/variantd1", "Flood").destination(NAME);
        let call = call.with_flags(Flags::NO_REPLY_EXPECTED).build(&body);
        bus.send(&call.expect("a call")).await.expect("sent");
    }
    let ping = bus.call_method(Some(NAME), "/", None::<&str>, "Flood", &body);
    let refused = timeout(SHORT * 10, ping)
        .await
        .expect("an answer of the bus");
    let fault = Fault::from(refused.expect_err("no room"));
    assert!(matches!(fault, Fault::Full(_)), "{fault:?}");
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_call_for_which_the_bus_has_no_room_is_made_again_until_there_is() {
    let (scene, agent) = scene();
    agent.send(Signal::SIGSTOP);
    fill(&scene).await;
    let output = thread::scope(|scope| {
        let asking = scope.spawn(|| scene.variantctl(&["recover"]));
        thread::sleep(SHORT);
        assert!(!asking.is_finished(), "it gave up at once");
        agent.send(Signal::SIGCONT);
        asking.join().expect("variantctl")
    });
    assert!(output.status.success(), "{}", told(&output));
}

#[tokio::test]
async fn a_bus_that_has_no_room_for_long_is_named() {
    let (scene, agent) = scene();
    agent.send(Signal::SIGSTOP);
    fill(&scene).await;
    let began = Instant::now();
    let (status, printed) = scene.fails(&["recover"]);
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(status, 4);
    let words = "error: the system bus has no quota left for a call of variantd: ";
    assert!(printed.starts_with(words), "{printed}");
    assert!(
        printed.trim_end().ends_with("(VD-AGT-001); try again"),
        "{printed}"
    );
}

/// Passes the bus address to the process that fills the queue.
const ADDRESS: &str = "VARIANTD_TEST_FILL";

/// Fills the queue of an agent that does not read, as another user, until the bus refuses its call; does nothing
/// without ADDRESS.
#[tokio::test]
#[ignore = "the other process of a test"]
async fn filler() {
    let Ok(address) = std::env::var(ADDRESS) else {
        return;
    };
    let bus = connection::Builder::address(address.as_str()).build();
    fill_on(&bus.await.expect("bus")).await;
}

/// dbus-broker has a quota for each user, with shares for other users: the user that fills the agent's queue is
/// refused, others wait.
#[test]
fn full_queue_on_dbus_broker_blocks_only_its_user() {
    if !Uid::effective().is_root() {
        return println!("not run: needs root, to be another user than the agent");
    }
    let scene = Scene::on_broker_with(1 << 20);
    let mut agent = scene.start();
    agent.says("serves");
    agent.send(Signal::SIGSTOP);
    let mut filler = as_nobody("full_queue::filler");
    let filler = filler.env(ADDRESS, scene.bus.address());
    assert!(filler.status().expect("a process").success());
    let output = thread::scope(|scope| {
        let asking = scope.spawn(|| scene.variantctl(&["recover"]));
        thread::sleep(SHORT);
        assert!(!asking.is_finished(), "it was refused");
        agent.send(Signal::SIGCONT);
        asking.join().expect("variantctl")
    });
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn an_agent_that_ends_in_a_call_that_changes_something_is_not_asked_again() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    agent.send(Signal::SIGSTOP);
    let output = thread::scope(|scope| {
        let asking = scope.spawn(|| scene.variantctl(&["recover"]));
        thread::sleep(SHORT);
        agent.send(Signal::SIGKILL);
        asking.join().expect("variantctl")
    });
    let printed = told(&output);
    assert_eq!(output.status.code(), Some(4), "{printed}");
    let words = "error: variantd ended before it answered, or its answer was lost: ";
    assert!(printed.starts_with(words), "{printed}");
    assert!(printed.contains("finished steps are kept"), "{printed}");
}
