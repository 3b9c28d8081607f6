//! `variantctl monitor` against the real agent, over its end and return.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use api::client::{ManagerProxy, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::program;
use zbus::connection;

use crate::scene::Scene;

const GPU: &str = "0009:01:00.0";

pub(crate) struct Monitor {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Monitor {
    pub(crate) fn start(scene: &Scene) -> Self {
        let mut child = Command::new(program::built("ctl", "variantctl"))
            .args(["--json", "monitor"])
            .env("DBUS_SYSTEM_BUS_ADDRESS", scene.bus.address())
            .stdout(Stdio::piped())
            .spawn()
            .expect("variantctl runs");
        let lines = BufReader::new(child.stdout.take().expect("output")).lines();
        Self { child, lines }
    }

    /// The next event that is `wanted`.
    pub(crate) fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let lines = self.lines.by_ref().map_while(Result::ok);
        let mut events = lines.map(|line| serde_json::from_str(&line).expect("JSON"));
        events.find(wanted).expect("the event before its end")
    }

    pub(crate) fn interrupt(mut self) -> bool {
        let pid = i32::try_from(self.child.id()).expect("pid");
        kill(Pid::from_raw(pid), Signal::SIGINT).expect("signal");
        self.child.wait().expect("status").success()
    }
}

#[test]
fn monitor_follows_devices_jobs_and_restarts_of_the_agent() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    let mut monitor = Monitor::start(&scene);
    let first = monitor.until(|event| event["kind"] == "device");
    assert_eq!(
        (&first["subject"], &first["version"]),
        (&GPU.into(), &1.into())
    );
    assert_eq!(first["now"]["state"], "free");
    scene.says(&["reserve", "--driver", "nvidia", GPU]);
    let reserved = monitor.until(|event| event["now"]["state"] == "reserved");
    assert_eq!(reserved["now"]["reserved"], true);
    agent.send(Signal::SIGTERM);
    assert!(agent.wait().success());
    let ended = monitor.until(|event| event["kind"] == "agent");
    assert_eq!(ended["now"]["state"], "ended; waiting until it runs again");
    let mut again = scene.start();
    again.says("serves");
    let back = monitor.until(|event| event["kind"] == "agent");
    assert_eq!(back["now"]["state"], "serves again");
    scene.says(&["unreserve", GPU]);
    monitor.until(|event| event["kind"] == "device" && event["now"]["state"] == "free");
    assert!(monitor.interrupt());
}

#[test]
fn monitor_prints_a_device_that_a_reload_covers() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    let mut monitor = Monitor::start(&scene);
    monitor.until(|event| event["subject"] == GPU);
    // Whatever it is: an id that the host has.
    let device = "[[device]]\nid = \"10de:22b1\"\nrecipe = \"nvidia-grace\"\n";
    scene.write("variantd.conf.d/10-new.conf", device);
    agent.send(Signal::SIGHUP);
    let told = monitor.until(|event| event["subject"] == "0009:00:00.0");
    assert_eq!(told["now"]["recipe"], "nvidia-grace");
    assert!(monitor.interrupt());
}

#[tokio::test]
async fn monitor_follows_a_job_of_another_connection() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    let mut monitor = Monitor::start(&scene);
    monitor.until(|event| event["subject"] == GPU);
    let bus = connection::Builder::address(scene.bus.address()).build();
    let bus = bus.await.expect("bus");
    let manager = ManagerProxy::new(&bus).await.expect("proxy");
    let job = manager.start_job("recover", GPU, Options::new()).await;
    let job = job.expect("a job");
    let told = tokio::task::spawn_blocking(move || {
        let done = |event: &Value| event["kind"] == "job" && event["now"]["state"] == "done";
        (monitor.until(done), monitor.interrupt())
    });
    let (told, ended) = told.await.expect("no panic");
    assert_eq!(told["now"]["operation"], "recover");
    assert_eq!(told["now"]["device"], GPU);
    assert!(job.ends_with(told["subject"].as_str().expect("its number")));
    assert!(ended);
}

#[test]
fn a_verb_without_an_agent_names_how_to_start_it() {
    let scene = Scene::new();
    let (status, printed) = scene.fails(&["monitor"]);
    assert_eq!(status, 4);
    assert!(printed.contains("systemctl start variantd"), "{printed}");
}
