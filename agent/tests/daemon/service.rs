//! The real agent's messages to systemd, and its exit when idle.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::scene::Scene;

fn heard(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).expect("a message");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[test]
fn systemd_gets_ready_reloading_watchdog_and_stopping() {
    let scene = Scene::new();
    let path = scene.path("notify");
    let socket = UnixDatagram::bind(&path).expect("socket");
    let limit = Some(Duration::from_secs(60));
    socket.set_read_timeout(limit).expect("limit");
    let watchdog = [
        ("WATCHDOG_USEC", "200000"),
        ("NOTIFY_SOCKET", path.to_str().expect("text")),
    ];
    let mut agent = scene.start_with(&watchdog);
    let until = |words: &str| while heard(&socket) != words {};
    until("READY=1");
    // The name is owned already.
    scene.says(&["recover"]);
    until("WATCHDOG=1");
    agent.send(Signal::SIGHUP);
    until("RELOADING=1");
    until("READY=1");
    agent.send(Signal::SIGTERM);
    until("STOPPING=1");
    assert!(agent.wait().success());
}

#[test]
fn idle_agent_exits_if_configured() {
    let scene = Scene::new();
    fs::write(scene.path("variantd.conf"), "idle_exit = 1\n").expect("configuration");
    let mut agent = scene.start();
    agent.says("serves");
    agent.says("nothing needs variantd");
    assert!(agent.wait().success());
}

#[test]
fn an_agent_with_a_reservation_stays() {
    let scene = Scene::new();
    fs::write(scene.path("variantd.conf"), "idle_exit = 1\n").expect("configuration");
    scene.write("reserved.d/0009:01:00.0.toml", "nonsense");
    let mut agent = scene.start();
    agent.says("serves");
    std::thread::sleep(Duration::from_secs(3));
    scene.says(&["unreserve", "0009:01:00.0"]);
    agent.says("nothing needs variantd");
    assert!(agent.wait().success());
}
