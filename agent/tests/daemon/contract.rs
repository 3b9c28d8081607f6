//! Calls every method, property and signal of the contract of the real agent on a private bus, with a client that knows
//! only the contract. A method is called with a sample for each argument, by the argument's name.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use api::client::{JobProxy, next};
use roxmltree::{Document, Node, ParsingOptions};
use zbus::message::Message;
use zbus::{Connection, OwnedObjectPath, OwnedVariant, Variant, connection};

use crate::scene::Scene;

const GPU: &str = "0009:01:00.0";
/// An unrelated guest.
const GUEST: &str = "<domain type='kvm'><name>d0</name><uuid>6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11</uuid>\
    <memory>1024</memory><os><type arch='aarch64' machine='virt'>hvm</type></os><devices/></domain>";
/// A device that no recipe covers.
const DISK: &str = "<disk type='file'><target dev='vdz'/></disk>";

struct Client {
    bus: Connection,
    job: OwnedObjectPath,
}

impl Client {
    async fn new(scene: &Scene) -> Self {
        let bus = connection::Builder::address(scene.bus.address()).build();
        let mut client = Self {
            bus: bus.await.expect("bus"),
            job: OwnedObjectPath::try_from("/").expect("path"),
        };
        let arguments = ["operation", "subject", "options"];
        let started = client.call("org.variantd1.Manager", "StartJob", &arguments);
        let started = started.await;
        let started = started.expect("a job");
        client.job = started.body().deserialize().expect("a path");
        client
    }

    /// Makes a call that must have a reply of any kind; `arguments` are the names of the input arguments.
    async fn call(
        &self,
        interface: &str,
        method: &str,
        arguments: &[&str],
    ) -> zbus::Result<Message> {
        let options = options(method);
        let path = self.path(interface);
        let call = self.caller(&path, interface, method);
        match arguments {
            ["options"] => call.with(&(options,)).await,
            [one, "options"] => call.with(&(sample(one), options)).await,
            [one, "xml", "options"] => call.with(&(sample(one), DISK, options)).await,
            [one, "timeout_ms", "options"] => call.with(&(sample(one), 10_000_u32, options)).await,
            [one, "name", "devices", "options"] => {
                let devices: Vec<&str> = Vec::new();
                call.with(&(sample(one), "guest", devices, options)).await
            }
            ["operation", "subject", "options"] => call.with(&("recover", GPU, options)).await,
            _ => unreachable!("'{method}': say here what {arguments:?} are in a test"),
        }
    }

    fn caller<'a>(&'a self, path: &'a str, interface: &'a str, method: &'a str) -> Caller<'a> {
        Caller {
            bus: &self.bus,
            path,
            interface,
            method,
        }
    }

    fn path(&self, interface: &str) -> String {
        match interface {
            "org.variantd1.Device" => "/org/variantd1/device/0009_01_00_0".into(),
            "org.variantd1.Job" => self.job.to_string(),
            _ => "/org/variantd1".into(),
        }
    }
}

fn sample(argument: &str) -> &'static str {
    match argument {
        "domain" => "test",
        "device" => GPU,
        "xml" => GUEST,
        "uuid" => "6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11",
        _ => unreachable!("say here what '{argument}' is in a test"),
    }
}

/// The options with which a method succeeds here.
fn options(method: &str) -> HashMap<&'static str, Variant<'static>> {
    match method {
        "Bind" => HashMap::from([("dry-run", true.into()), ("driver", "vfio-pci".into())]),
        "Reserve" => HashMap::from([("driver", "nvidia".into())]),
        _ => HashMap::new(),
    }
}

struct Caller<'a> {
    bus: &'a Connection,
    path: &'a str,
    interface: &'a str,
    method: &'a str,
}

impl Caller<'_> {
    async fn with<B: serde::Serialize + zbus::Type>(self, body: &B) -> zbus::Result<Message> {
        let call = self.bus.call_method(
            Some("org.variantd1"),
            self.path,
            Some(self.interface),
            self.method,
            body,
        );
        call.await
    }
}

fn contract() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/dbus/org.variantd1.xml");
    fs::read_to_string(path).expect("contract")
}

fn parsed(text: &str) -> Document<'_> {
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(text, options).expect("XML")
}

fn interfaces<'a>(document: &'a Document<'a>) -> impl Iterator<Item = (Node<'a, 'a>, &'a str)> {
    let nodes = document
        .descendants()
        .filter(|node| node.has_tag_name("interface"));
    nodes.map(|node| (node, node.attribute("name").expect("a name")))
}

fn parts<'a>(interface: Node<'a, 'a>, kind: &'static str) -> impl Iterator<Item = Node<'a, 'a>> {
    interface
        .children()
        .filter(move |node| node.has_tag_name(kind))
}

/// The signature of the output.
fn output(method: Node<'_, '_>) -> String {
    let out = parts(method, "arg").filter(|arg| arg.attribute("direction") == Some("out"));
    out.filter_map(|arg| arg.attribute("type")).collect()
}

#[tokio::test]
async fn every_method_replies_with_the_types_of_the_contract() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    scene.says(&["wait", "test"]);
    let (text, client) = (contract(), Client::new(&scene).await);
    let mut called = 0;
    for (interface, name) in interfaces(&parsed(&text)) {
        for method in parts(interface, "method") {
            let member = method.attribute("name").expect("a name");
            let arguments: Vec<&str> = parts(method, "arg")
                .filter(|arg| arg.attribute("direction") == Some("in"))
                .filter_map(|arg| arg.attribute("name"))
                .collect();
            let answer = client.call(name, member, &arguments).await;
            called += 1;
            match (member, answer) {
                // The job has ended before this, or has begun to change something.
                ("Cancel", answer) => {
                    let error = answer.expect_err("too late").to_string();
                    assert!(error.contains("VD-AGT-003"), "{error}");
                }
                (_, answer) => {
                    let answer = answer.unwrap_or_else(|error| unreachable!("{member}: {error}"));
                    let printed = answer.body().signature().to_string();
                    // Several values are a structure without its parentheses.
                    let out = output(method);
                    let alike = printed == out || printed == format!("({out})");
                    assert!(alike, "{name}.{member}: {printed}, not {out}");
                }
            }
        }
    }
    assert!(called > 10, "{called}");
}

#[tokio::test]
async fn every_property_is_there_with_its_type() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    let (text, client) = (contract(), Client::new(&scene).await);
    let mut read = 0;
    for (interface, name) in interfaces(&parsed(&text)) {
        for property in parts(interface, "property") {
            let member = property.attribute("name").expect("a name");
            let path = client.path(name);
            let call = client.caller(&path, "org.freedesktop.DBus.Properties", "Get");
            let answer = call.with(&(name, member)).await.expect(member);
            let value: OwnedVariant = answer.body().deserialize().expect(member);
            let signature = value.value_signature().to_string();
            assert_eq!(
                Some(&*signature),
                property.attribute("type"),
                "{name}.{member}"
            );
            read += 1;
        }
    }
    assert!(read > 20, "{read}");
}

#[tokio::test]
async fn a_job_ends_with_its_signal_on_the_bus() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    let client = Client::new(&scene).await;
    let job = JobProxy::builder(&client.bus).path(client.job.clone());
    let job = job.cache_properties(zbus::proxy::CacheProperties::No);
    let job = job.build().await.expect("proxy");
    let mut completed = job.receive_completed().await.expect("signals");
    // The job may have ended before the subscription: accept a signal or the final state.
    if ["waiting", "working"].contains(&&*job.state().await.expect("state")) {
        let completed = tokio::time::timeout(Duration::from_secs(20), next(&mut completed)).await;
        assert!(
            *completed
                .expect("in time")
                .expect("a signal")
                .args()
                .expect("args")
                .success()
        );
    }
    assert_eq!(job.state().await.expect("state"), "done");
    assert_eq!(job.result().await.expect("result"), "[]");
}
