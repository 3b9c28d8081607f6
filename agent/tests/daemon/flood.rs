//! A client that floods the agent with calls, slowly or with disconnects, does not delay libvirt's hook.

use std::collections::HashMap;
use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use api::client::{ManagerProxy, Options};
use hooks::agent::Reply;
use nix::unistd::Uid;
use tests::bus::Kind;
use zbus::message::{Flags, Message};
use zbus::{Connection, connection};

use crate::scene::{Scene, as_nobody};

/// Memory that allocators keep after a flood.
const SPARE_KIB: u64 = 32 << 10;

async fn client(scene: &Scene) -> Connection {
    let bus = connection::Builder::address(scene.bus.address()).build();
    bus.await.expect("bus")
}

/// The time of both hook calls of a guest's start.
fn hook(scene: &Scene) -> Duration {
    let began = Instant::now();
    for operation in ["prepare", "start"] {
        assert_eq!(scene.asks(operation), Reply::Done(String::new()));
    }
    began.elapsed()
}

async fn when_idle(measure: impl AsyncFn() -> Duration) -> Duration {
    let mut times = Vec::new();
    for _ in 0..101 {
        times.push(measure().await);
    }
    middle(times)
}

/// Also returns the duration of the flood, and the number of measurements in it.
async fn in_a_flood(
    scene: &Scene,
    measure: impl AsyncFn() -> Duration,
) -> (Duration, Duration, usize) {
    let began = Instant::now();
    let mut flooding = flooding(scene);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut times = Vec::new();
    let ended = loop {
        times.push(measure().await);
        if let Some(status) = flooding.try_wait().expect("its status") {
            break status;
        }
    };
    assert!(ended.success(), "the flood failed");
    let (took, count) = (began.elapsed(), times.len());
    (middle(times), took, count)
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn resident_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.split_whitespace().next()?.parse().ok())
        .expect("kibibytes")
}

/// A call of `Plan` without a reader of its reply: the bus limits only calls with a reply.
fn plan(domain: &str) -> Message {
    let call = Message::method_call("/org/variantd1", "Plan").destination("org.variantd1");
    let call = call
        .interface("org.variantd1.Manager")
        .with_flags(Flags::NO_REPLY_EXPECTED);
    let options: Options<'_> = HashMap::new();
    call.build(&(domain, options)).expect("a body")
}

/// Passes the bus address to the flooding process.
const ADDRESS: &str = "VARIANTD_TEST_FLOOD";

/// Floods in its own process, to the bus of `ADDRESS`; does nothing without it.
#[tokio::test]
#[ignore = "the other process of a flood"]
async fn flooder() {
    let Ok(address) = std::env::var(ADDRESS) else {
        return;
    };
    let bus = connection::Builder::address(address.as_str()).build();
    let bus = bus.await.expect("bus");
    for _ in 0..10_000 {
        bus.send(&plan("test")).await.expect("sent");
    }
    // The reply comes after all of it.
    let manager = ManagerProxy::new(&bus).await.expect("proxy");
    let _ = manager.list_domains(Options::new()).await;
}

fn flooding(scene: &Scene) -> Child {
    if !Uid::effective().is_root() {
        println!("not root, so the flood is the same user's");
    }
    let mut process = as_nobody("flood::flooder");
    process
        .env(ADDRESS, scene.bus.address())
        .stdout(Stdio::null());
    process.spawn().expect("a process")
}

async fn callers_vanish(kind: Kind) {
    let scene = Scene::on_bus(kind);
    let mut agent = scene.start();
    agent.says("serves");
    hook(&scene);
    for _ in 0..40 {
        let bus = client(&scene).await;
        for _ in 0..40 {
            bus.send(&plan("test")).await.expect("sent");
        }
        drop(bus);
    }
    // A missing domain is reported; the turns of disconnected callers are free again.
    let bus = client(&scene).await;
    let manager = ManagerProxy::new(&bus).await.expect("proxy");
    let fault = manager
        .plan("missing", Options::new())
        .await
        .expect_err("no such domain");
    assert!(fault.to_string().contains("missing"), "{fault}");
    manager.plan("test", Options::new()).await.expect("a turn");
    hook(&scene);
}

#[tokio::test]
async fn disconnected_caller_leaves_no_state() {
    callers_vanish(Kind::Daemon).await;
    callers_vanish(Kind::Broker).await;
}

/// The caller of the test below, in its own process.
#[tokio::test]
#[ignore = "the other process of a test"]
async fn caller() {
    let Ok(address) = std::env::var(ADDRESS) else {
        return;
    };
    let bus = connection::Builder::address(address.as_str()).build();
    let bus = bus.await.expect("bus");
    let manager = ManagerProxy::new(&bus).await.expect("proxy");
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let manager = manager.clone();
        calls.spawn(async move { manager.plan("test", Options::new()).await });
    }
    let (mut answered, mut refused) = (0, 0);
    while let Some(call) = calls.join_next().await {
        match call.expect("a call") {
            Ok(_) => answered += 1,
            Err(fault) => {
                assert!(fault.to_string().contains("VD-AGT-010"), "{fault}");
                refused += 1;
            }
        }
    }
    assert!(answered >= 32, "{answered} answered, {refused} refused");
    assert_eq!(answered + refused, 100);
}

#[tokio::test]
async fn no_more_than_its_turns_of_one_caller_are_under_way() {
    for kind in [Kind::Daemon, Kind::Broker] {
        let scene = Scene::for_all_on(kind);
        let mut agent = scene.start();
        agent.says("serves");
        let mut process = as_nobody("flood::caller");
        process
            .env(ADDRESS, scene.bus.address())
            .stdout(Stdio::null());
        assert!(process.status().expect("a process").success(), "{kind:?}");
    }
}

/// Ignored by default, because its times mean nothing on a busy machine: `cargo test -p agent --test daemon --release
/// -- --ignored
/// --nocapture ten_thousand`.
#[tokio::test]
#[ignore = "takes times: by name"]
async fn a_flood_of_ten_thousand_calls_leaves_the_hook_its_time() {
    let scene = Scene::for_all();
    let mut agent = scene.start();
    agent.says("serves");
    let idle = when_idle(async || hook(&scene)).await;
    let before = resident_kib(agent.id());
    let (during, took, calls) = in_a_flood(&scene, async || hook(&scene)).await;
    assert!(
        calls >= 10,
        "the flood was over after {calls} calls of the hook"
    );
    let after = resident_kib(agent.id());
    println!(
        "hook {idle:?} idle, {during:?} in a flood of 10,000 calls in {took:?} ({calls} times); {before} KiB, then {after} KiB"
    );
    assert!(
        after <= before + SPARE_KIB,
        "memory grew from {before} to {after} KiB"
    );
    assert!(
        during < idle * 2,
        "the hook took {during:?} instead of {idle:?}"
    );
}
