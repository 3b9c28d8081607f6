//! Hostile users that are not root: large texts, unread replies, calls without a reply, on either bus. The agent stays
//! within its memory limit, and meanwhile answers root, libvirt's hook and another user.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use agent::bus::MEMORY_BOUND;
use api::client::{Fault, ManagerProxy, Options, next};
use hooks::agent::Reply;
use nix::unistd::{Uid, geteuid};
use tests::bus::Kind;
use tokio::time::timeout;
use zbus::connection::{self, Connection};
use zbus::fdo::{ObjectManagerProxy, PropertiesProxy};
use zbus::message::{Flags, Message};
use zbus::names::InterfaceName;

use crate::scene::{GUEST, Scene, as_nobody, as_user};

/// Environment of the other processes.
const ADDRESS: &str = "VARIANTD_TEST_ADDRESS";
const ATTACK: &str = "VARIANTD_TEST_ATTACK";
const JOB: &str = "VARIANTD_TEST_JOB";
/// Duration of one attack.
const LASTS: Duration = Duration::from_secs(6);
/// Connections of one attack.
const CONNECTIONS: usize = 4;
/// Timeout of a caller: that of VDSM's hook.
const ANSWER: Duration = Duration::from_secs(20);
/// Memory that allocators keep after an attack.
const SPARE: u64 = 64 << 20;
/// Another user than the attacker's, whom dbus-daemon finds in passwd(5): `daemon`.
const NEIGHBOUR: u32 = 1;

const ATTACKS: [&str; 4] = ["deaf", "silent", "reads", "elements"];

/// A guest of almost 1 MiB.
fn text(attack: &str) -> String {
    let filling = match attack {
        "elements" => format!(
            "<metadata><x:a xmlns:x='u'>{}</x:a></metadata>",
            "<b/>".repeat(100_000)
        ),
        _ => format!("<description>{}</description>", "x".repeat(900_000)),
    };
    GUEST.replace("<memory>", &format!("{filling}<memory>"))
}

/// A connection that sends without waiting, and need not read.
fn connected(address: &str) -> UnixStream {
    let path = address.trim_start_matches("unix:path=");
    let path = path.split(',').next().expect("a path");
    let mut stream = UnixStream::connect(path).expect("bus");
    let user = geteuid().to_string();
    let digits: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
    let words = format!("\0AUTH EXTERNAL {digits}\r\nBEGIN\r\n");
    stream.write_all(words.as_bytes()).expect("sent");
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a greeting");
        line.push(byte[0]);
    }
    assert!(line.starts_with(b"OK "));
    let bus = "org.freedesktop.DBus";
    let hello = Message::method_call("/org/freedesktop/DBus", "Hello");
    let hello = hello
        .destination(bus)
        .interface(bus)
        .build(&())
        .expect("hello");
    stream.write_all(hello.data().bytes()).expect("sent");
    stream
}

fn prepare_xml(text: &str, flags: Flags) -> Message {
    let call = Message::method_call("/org/variantd1", "PrepareXml").destination("org.variantd1");
    let call = call.interface("org.variantd1.Manager").with_flags(flags);
    call.build(&(text, Options::new())).expect("a call")
}

/// Attacks in its own process; does nothing without ADDRESS.
#[test]
#[ignore = "the other process of an attack"]
fn attacker() {
    let (Ok(address), Ok(attack)) = (std::env::var(ADDRESS), std::env::var(ATTACK)) else {
        return;
    };
    let until = Instant::now() + LASTS;
    let text = text(&attack);
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            let stream = connected(&address);
            if ["reads", "elements"].contains(&attack.as_str()) {
                let mut incoming = stream.try_clone().expect("stream");
                scope.spawn(
                    move || while incoming.read(&mut [0; 65_536]).is_ok_and(|read| read > 0) {},
                );
            }
            let (text, attack) = (&text, &attack);
            scope.spawn(move || {
                send(&stream, text, attack, until);
                let _ = stream.shutdown(std::net::Shutdown::Both);
            });
        }
    });
}

fn send(mut stream: &UnixStream, text: &str, attack: &str, until: Instant) {
    let flags = match attack {
        "silent" => Flags::NO_REPLY_EXPECTED,
        _ => Flags::empty(),
    };
    let second = Some(Duration::from_secs(1));
    stream.set_write_timeout(second).expect("a limit");
    while Instant::now() < until {
        // A new serial each time. A message that the bus does not accept within a second is truncated: the bus then
        // closes the connection.
        let message = prepare_xml(text, flags);
        if stream.write_all(message.data().bytes()).is_err() {
            break;
        }
    }
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
}

/// Completes three small guests, as VDSM's hook does.
#[tokio::test]
#[ignore = "the other process of an attack"]
async fn neighbour() {
    let Ok(address) = std::env::var(ADDRESS) else {
        return;
    };
    for _ in 0..3 {
        let bus = client(&address).await;
        let manager = ManagerProxy::new(&bus).await.expect("proxy");
        let complete = async {
            while let Err(error) = manager.prepare_xml(GUEST, Options::new()).await {
                is_full(error);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(ANSWER, complete).await.expect("in time");
    }
}

async fn client(address: &str) -> Connection {
    let bus = connection::Builder::address(address).build();
    bus.await.expect("bus")
}

fn attack(scene: &Scene, attack: &str) -> Child {
    let mut process = as_nobody("hostile::attacker");
    process
        .env(ADDRESS, scene.bus.address())
        .env(ATTACK, attack)
        .stdout(Stdio::null());
    process.spawn().expect("a process")
}

fn memory(process: u32, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let number = line.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    number.expect("kibibytes") << 10
}

/// The bus has no queue space.
fn is_full(error: zbus::Error) {
    let fault = Fault::from(error);
    assert!(matches!(fault, Fault::Full(_)), "{fault:?}");
}

/// Lists the domains. If the agent's queue is full, the bus itself rejects a call, which is then repeated.
async fn list(manager: &ManagerProxy<'_>, rejected: &mut u32) {
    while let Err(error) = manager.list_domains(Options::new()).await {
        is_full(error);
        *rejected += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Attacks on one bus.
async fn is_withstood(kind: Kind, scene: Scene, attacks: &[&str]) {
    if !Uid::effective().is_root() {
        return println!("not run: needs root, to be another user than the agent");
    }
    let mut agent = scene.start();
    agent.says("serves");
    let address = scene.bus.address().to_owned();
    for name in attacks {
        let before = memory(agent.id(), "VmRSS:");
        let mut attacker = attack(&scene, name);
        let mut neighbour = as_user("hostile::neighbour", NEIGHBOUR);
        neighbour.env(ADDRESS, &address).stdout(Stdio::null());
        let mut neighbour = neighbour.spawn().expect("a process");
        let (mut root, mut hook, mut rejected) = (Duration::ZERO, Duration::ZERO, 0);
        while attacker.try_wait().expect("status").is_none() {
            let began = Instant::now();
            let bus = client(&address).await;
            let manager = ManagerProxy::new(&bus).await.expect("proxy");
            let listed = timeout(ANSWER, list(&manager, &mut rejected)).await;
            assert!(listed.is_ok(), "{kind:?}, {name}: root has no answer");
            root = root.max(began.elapsed());
            let began = Instant::now();
            assert_eq!(scene.asks("prepare"), Reply::Done(String::new()));
            hook = hook.max(began.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(
            neighbour.wait().expect("status").success(),
            "{kind:?}, {name}: another user has no answer"
        );
        let peak = memory(agent.id(), "VmHWM:");
        let until = Instant::now() + ANSWER;
        while memory(agent.id(), "VmRSS:") > before + SPARE && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let after = memory(agent.id(), "VmRSS:");
        println!(
            "{kind:?}, {name}: memory {} MiB before, {} at its peak, {} after; root waits {root:?} at most, {rejected} times \
             behind a full queue, the hook {hook:?}",
            before >> 20,
            peak >> 20,
            after >> 20
        );
        assert!(peak < MEMORY_BOUND, "{kind:?}, {name}: {} MiB", peak >> 20);
        assert!(
            after < before + SPARE,
            "{kind:?}, {name}: {} MiB stay",
            after >> 20
        );
    }
}

#[tokio::test]
async fn attacks_by_large_texts_and_unread_answers_are_withstood_on_dbus_daemon() {
    let scene = Scene::for_all_on(Kind::Daemon);
    is_withstood(Kind::Daemon, scene, &ATTACKS).await;
}

#[tokio::test]
async fn attacks_by_large_texts_and_unread_answers_are_withstood_on_dbus_broker() {
    let scene = Scene::for_all_on(Kind::Broker);
    is_withstood(Kind::Broker, scene, &ATTACKS).await;
}

/// A broker's quota for each user: an attack exceeds it in moments, and the broker disconnects a client that does not
/// read.
const SMALL: u32 = 6 << 20;

#[tokio::test]
async fn dbus_broker_disconnects_a_client_with_too_many_unread_replies() {
    let scene = Scene::on_broker_with(SMALL);
    is_withstood(Kind::Broker, scene, &["deaf", "silent"]).await;
}

/// Reads a job of root, as another user.
#[tokio::test]
#[ignore = "the other process of a test"]
async fn stranger() {
    let (Ok(address), Ok(job)) = (std::env::var(ADDRESS), std::env::var(JOB)) else {
        return;
    };
    let bus = client(&address).await;
    let properties = PropertiesProxy::builder(&bus)
        .destination("org.variantd1")
        .path(&*job);
    let properties = properties.build().await.expect("proxy");
    let interface = || InterfaceName::try_from("org.variantd1.Job").expect("name");
    let all = properties.get_all(interface()).await;
    assert!(all.is_ok_and(|all| all.is_empty()), "not its own");
    let one = properties
        .get(interface(), "Result")
        .await
        .expect_err("not its own");
    assert!(one.to_string().contains("VD-AGT-006"), "{one}");
    let objects = ObjectManagerProxy::builder(&bus)
        .destination("org.variantd1")
        .path("/org/variantd1");
    let objects = objects
        .build()
        .await
        .expect("proxy")
        .get_managed_objects()
        .await
        .expect("objects");
    assert!(
        objects.keys().all(|path| !path.contains("job")),
        "{:?}",
        objects.keys()
    );
    assert!(objects.keys().any(|path| path.contains("device")));
}

/// Reads everything that is public, as another user; `JOB` says whether that must succeed.
#[tokio::test]
#[ignore = "the other process of a test"]
async fn onlooker() {
    let (Ok(address), Ok(may)) = (std::env::var(ADDRESS), std::env::var(JOB)) else {
        return;
    };
    let (bus, may) = (client(&address).await, may == "true");
    let manager = ManagerProxy::new(&bus).await.expect("proxy");
    let objects = ObjectManagerProxy::builder(&bus)
        .destination("org.variantd1")
        .path("/org/variantd1");
    let objects = objects.build().await.expect("proxy");
    let device = PropertiesProxy::builder(&bus).destination("org.variantd1");
    let device = device
        .path("/org/variantd1/device/0009_01_00_0")
        .build()
        .await
        .expect("proxy");
    let interface = InterfaceName::try_from("org.variantd1.Device").expect("name");
    let mut changes = device.receive_properties_changed().await.expect("a match");
    assert_eq!(manager.list_domains(Options::new()).await.is_ok(), may);
    assert_eq!(manager.list_devices(Options::new()).await.is_ok(), may);
    assert_eq!(manager.version().await.is_ok(), may);
    assert_eq!(objects.get_managed_objects().await.is_ok(), may);
    assert_eq!(device.get_all(interface.clone()).await.is_ok(), may);
    assert_eq!(device.get(interface, "Domain").await.is_ok(), may);
    // Another process reserves the device after this one listens.
    println!("listens");
    std::io::stdout().flush().expect("said");
    let told = timeout(
        Duration::from_secs(if may { 20 } else { 3 }),
        next(&mut changes),
    )
    .await;
    assert_eq!(told.is_ok(), may);
}

/// With the shipped policy and these additional policy files.
fn public_facts(files: &[&Path], may: bool) {
    let shipped =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/dbus/org.variantd1.conf");
    let files = [&[&*shipped], files].concat();
    let scene = Scene::for_all_with(&files);
    let mut agent = scene.start();
    agent.says("serves");
    let mut onlooker = as_nobody("hostile::onlooker");
    let onlooker = onlooker
        .env(ADDRESS, scene.bus.address())
        .env(JOB, may.to_string());
    let mut onlooker = onlooker.stdout(Stdio::piped()).spawn().expect("a process");
    let mut lines = BufReader::new(onlooker.stdout.take().expect("output")).lines();
    lines
        .find(|line| line.as_ref().is_ok_and(|line| line.contains("listens")))
        .expect("it listens")
        .expect("text");
    scene.says(&["reserve", "--driver", "nvidia", "0009:01:00.0"]);
    assert!(onlooker.wait().expect("status").success(), "may: {may}");
    // Root is not restricted.
    scene.says(&["unreserve", "0009:01:00.0"]);
}

#[test]
fn devices_and_domains_are_public_unless_the_documented_policy_hides_them_all() {
    if !Uid::effective().is_root() {
        return println!("not run: needs root, to be another user than the agent");
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/man/org.variantd1.5.md");
    let page = fs::read_to_string(page).expect("the page");
    let (start, end) = (
        page.find("    <busconfig>").expect("a policy"),
        "</busconfig>",
    );
    let policy = &page[start..page.find(end).expect("its end") + end.len()];
    let file = tempfile::NamedTempFile::new().expect("file");
    fs::write(file.path(), policy).expect("policy");
    public_facts(&[], true);
    public_facts(&[file.path()], false);
}

async fn a_job_is_hidden(kind: Kind) {
    if !Uid::effective().is_root() {
        return println!("not run: needs root, to be another user than the agent");
    }
    let scene = Scene::for_all_on(kind);
    let mut agent = scene.start();
    agent.says("serves");
    let bus = client(scene.bus.address()).await;
    let manager = ManagerProxy::new(&bus).await.expect("proxy");
    let job = manager
        .start_job("recover", "", Options::new())
        .await
        .expect("a job");
    let mut stranger = as_nobody("hostile::stranger");
    let stranger = stranger
        .env(ADDRESS, scene.bus.address())
        .env(JOB, job.as_str());
    assert!(stranger.status().expect("a process").success());
    // Root sees it, also on another connection.
    let other = client(scene.bus.address()).await;
    let properties = PropertiesProxy::builder(&other)
        .destination("org.variantd1")
        .path(&job);
    let properties = properties.build().await.expect("proxy");
    let interface = InterfaceName::try_from("org.variantd1.Job").expect("name");
    assert!(
        properties
            .get_all(interface)
            .await
            .expect("its own")
            .contains_key("State")
    );
}

#[tokio::test]
async fn a_job_is_for_its_owner_and_root_on_either_bus() {
    a_job_is_hidden(Kind::Daemon).await;
    a_job_is_hidden(Kind::Broker).await;
}
