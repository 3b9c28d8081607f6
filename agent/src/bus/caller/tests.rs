//! User queries to a bus that answers, forgets names and does not answer.

use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicUsize;

use tokio::time::{Instant, sleep};
use zbus::{Guid, Message, interface};

use super::*;

/// A bus that knows the user of every name but one.
struct Driver {
    asked: Arc<AtomicUsize>,
}

const SILENT: &str = ":1.13";
const USER: u32 = 65_534;

#[interface(name = "org.freedesktop.DBus")]
impl Driver {
    fn hello(&self) -> &'static str {
        ":1.0"
    }

    fn add_match(&self, _rule: String) {}

    async fn get_connection_unix_user(&self, name: String) -> u32 {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if name == SILENT {
            std::future::pending::<()>().await;
        }
        USER
    }
}

async fn callers() -> (Callers, Connection, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let driver = Driver {
        asked: asked.clone(),
    };
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    let bus = Builder::unix_stream(ours).server(Guid::generate()).p2p();
    let bus = bus.serve_at("/org/freedesktop/DBus", driver).build();
    let (bus, callers) = tokio::join!(bus, Callers::on(Builder::unix_stream(theirs)));
    (callers.expect("callers"), bus.expect("bus"), asked)
}

fn call(sender: &str) -> Incoming<'_> {
    Incoming {
        sender,
        serial: std::num::NonZeroU32::MIN,
        user: USER,
        is_root: false,
        bytes: 10,
        is_silent: false,
    }
}

#[tokio::test]
async fn a_name_is_asked_about_once_until_it_is_gone() {
    let (callers, bus, asked) = callers().await;
    for _ in 0..3 {
        assert_eq!(callers.of_name(":1.7").await, Ok(USER));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    callers.admit(call(":1.7")).expect("room");
    let left = Message::signal("/org/freedesktop/DBus", BUS, "NameOwnerChanged").sender(BUS);
    let left = left.build(&(":1.7", ":1.7", "")).expect("a signal");
    bus.send(&left).await.expect("told");
    let forgotten = async {
        while callers.state().users.contains_key(":1.7") {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(10), forgotten)
        .await
        .expect("in time");
    assert_eq!(
        callers.admit(call(":1.7")),
        Err(Full::NotReading),
        "it is gone"
    );
    assert_eq!(callers.of_name(":1.7").await, Ok(USER));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_bus_that_does_not_answer_is_waited_for_until_its_deadline_and_nothing_is_kept() {
    let (callers, _bus, _asked) = callers().await;
    let began = Instant::now();
    let late = callers.of_name(SILENT).await.expect_err("no answer");
    assert!(late.to_string().contains("in time"), "{late}");
    assert!(began.elapsed() < Duration::from_secs(15));
    assert!(callers.state().users.is_empty());
    assert_eq!(callers.of_name(":1.7").await, Ok(USER));
}

/// A bus that completes the handshake and sends nothing else.
struct Mute;

#[interface(name = "org.freedesktop.DBus")]
impl Mute {
    fn hello(&self) -> &'static str {
        ":1.0"
    }

    async fn add_match(&self, _rule: String) {
        std::future::pending::<()>().await;
    }
}

#[tokio::test]
async fn a_bus_that_only_greets_is_waited_for_until_the_deadline() {
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    let bus = Builder::unix_stream(ours).server(Guid::generate()).p2p();
    let bus = bus.serve_at("/org/freedesktop/DBus", Mute).build();
    let callers = timeout(DEADLINE * 10, Callers::on(Builder::unix_stream(theirs)));
    let (_bus, callers) = tokio::join!(bus, callers);
    let late = callers.expect("in time").expect_err("no answer");
    assert!(late.to_string().contains("in time"), "{late}");
}
