//! The live connection to libvirt's own test driver, which runs in this process.

use std::fs;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::super::{Change, Event, Libvirt, LibvirtError};
use super::{CONNECT_TIMEOUT, Live, connect, lock};

const DOMAIN: &str = "<domain type='test'><name>d1</name>\
    <uuid>6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11</uuid><memory>1024</memory>\
    <os><type>hvm</type></os></domain>";

async fn next(events: &mut UnboundedReceiver<Event>) -> Event {
    let event = timeout(Duration::from_secs(20), events.recv()).await;
    event.expect("an event in time").expect("an open channel")
}

/// The next event that `is_wanted`: the tests of this process share libvirt's test driver, so events of other tests arrive, too.
async fn next_of(
    events: &mut UnboundedReceiver<Event>,
    is_wanted: impl Fn(&Event) -> bool,
) -> Event {
    loop {
        let event = next(events).await;
        if is_wanted(&event) {
            return event;
        }
    }
}

fn is_of_domain(event: &Event) -> bool {
    matches!(event, Event::Defined(domain) | Event::Undefined(domain) if domain.name == "d1")
}

#[tokio::test]
async fn a_definition_is_seen_read_and_gone() {
    let (send, mut events) = unbounded_channel();
    let live = connect("test:///default".into(), send).expect("connect");
    assert!(matches!(next(&mut events).await, Event::Connected(_)));
    let uuid = "6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11".parse();
    let watch = live.changes().watch(&uuid.expect("uuid"));
    live.define(DOMAIN).expect("define");
    let domain = live.find("d1").expect("find").expect("d1");
    let event = next_of(&mut events, is_of_domain).await;
    assert_eq!(event, Event::Defined(domain.clone()));
    assert_eq!(
        watch.seen(),
        [Change::Defined],
        "before the receiver of the event"
    );
    assert_eq!(domain.name, "d1");
    assert_eq!(live.find("missing").expect("find"), None);
    assert!(live.defined().expect("list").contains(&domain));
    let xml = live.inactive_xml(&domain.uuid).expect("XML");
    assert!(xml.expect("a definition").contains("<name>d1</name>"));
    assert!(!live.is_active(&domain.uuid).expect("state"));
    let running = live.running().expect("running guests");
    assert_eq!(running[0].0.name, "test");
    live.undefine(&domain.uuid).expect("undefine");
    let event = next_of(&mut events, is_of_domain).await;
    assert_eq!(event, Event::Undefined(domain.clone()));
    assert_eq!(live.inactive_xml(&domain.uuid).expect("XML"), None);
    live.undefine(&domain.uuid).expect("gone already");
}

#[tokio::test]
async fn networks_are_listed_and_a_change_causes_an_event() {
    let (send, mut events) = unbounded_channel();
    let live = connect("test:///default".into(), send).expect("connect");
    assert!(matches!(next(&mut events).await, Event::Connected(_)));
    let pool = |name: &str| {
        let networks = live.networks().expect("networks");
        networks.pool(name).map(|pool| pool.devices().len())
    };
    assert_eq!((pool("default"), pool("p")), (Some(0), None));
    let client = virt::connect::Connect::open(Some("test:///default")).expect("a client");
    let xml = "<network><name>p</name><forward mode='hostdev'><address type='pci' domain='0' bus='1' slot='0' function='2'/></forward></network>";
    client.define_network_xml(xml).expect("defined");
    next_of(&mut events, |event| *event == Event::Networks).await;
    assert_eq!(pool("p"), Some(1));
}

#[tokio::test]
async fn define_refuses_elements_outside_the_schema() {
    let (send, mut events) = unbounded_channel();
    let live = connect("test:///default".into(), send).expect("connect");
    assert!(matches!(next(&mut events).await, Event::Connected(_)));
    let wrong = DOMAIN.replace("<os>", "<colour/><os>");
    let error = live.define(&wrong).expect_err("schema");
    assert!(error.to_string().contains("colour"), "{error}");
}

/// libvirt has been unreachable for as long as a call waits for it.
fn long_away(live: &Live) {
    lock(&live.current.state).without_since -= CONNECT_TIMEOUT;
}

#[test]
fn sequential_calls_share_the_wait_for_libvirt() {
    let (send, _events) = unbounded_channel();
    let live = connect("test:///nonexistent/node.xml".into(), send).expect("connect");
    long_away(&live);
    let began = Instant::now();
    for _ in 0..4 {
        let told = live.defined().expect_err("nothing to connect to");
        assert!(matches!(told, LibvirtError::Disconnected), "{told}");
    }
    assert!(began.elapsed() < CONNECT_TIMEOUT, "{:?}", began.elapsed());
}

#[test]
fn waiting_call_triggers_an_early_reconnect() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = folder.path().join("node.xml");
    let (send, _events) = unbounded_channel();
    let live = connect(format!("test://{}", node.display()), send).expect("connect");
    long_away(&live);
    // After the fifth attempt there is a pause of 4 s.
    while lock(&live.current.state).ended < 5 {
        let _ = live.defined();
    }
    fs::write(&node, "<node><cpu><nodes>1</nodes></cpu></node>").expect("write");
    live.defined().expect("connected by then");
}
