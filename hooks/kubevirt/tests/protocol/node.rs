//! The node hook of a plugin with the real agent, and a client that acts as virt-handler: it dials for 1 s and calls for a time that the
//! Plugin object sets. The host's files do not act on writes, so a device that has its driver already is bound, and another one is not.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kubevirt::proto::plugins::node_hook_service_client::NodeHookServiceClient;
use kubevirt::proto::plugins::{ExecuteNodeHookRequest, NodeContext};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::bus::Bus;
use tests::program;
use tonic::{Code, Status};

use super::launcher::{dial, found};
use super::scene::GB200;

const VARIANT: &str = "nvgrace_gpu_vfio_pci";
const POD: &str = "0b7c1f5e-1111-4222-8333-444455556666";
const CALL: Duration = Duration::from_secs(120);
/// How long a program may take to start on a busy machine.
const START: Duration = Duration::from_secs(60);

struct Node {
    bus: Bus,
    hook: Child,
    agent: Option<Child>,
}

impl Node {
    /// A node without an agent, whose GPUs the hook finds in the pod's environment, each as a resource of its own.
    async fn start() -> Self {
        let bus = Bus::start().expect("a bus");
        let copied = Command::new("cp")
            .arg("-a")
            .arg(testing::hosts::directory("gb200-4gpu"))
            .arg(bus.path("host"))
            .status();
        assert!(copied.expect("cp runs").success());
        let process = bus.path("pods/proc/4711");
        fs::create_dir_all(&process).expect("a process");
        let stat = format!("4711 (virt-launcher-mo) S {} 5 0", vec!["0"; 18].join(" "));
        let variables = (1..)
            .zip(GB200)
            .map(|(number, gpu)| format!("PCI_RESOURCE_NVIDIA_COM_GPU{number}={gpu}\0"));
        let variables: String = variables.collect();
        for (name, text) in [
            (
                "cgroup",
                format!(
                    "0::/kubepods.slice/kubepods-pod{}.slice\n",
                    POD.replace('-', "_")
                ),
            ),
            ("stat", stat),
            ("environ", variables),
        ] {
            fs::write(process.join(name), text).expect(name);
        }
        let hook = serving(&bus);
        let node = Self {
            bus,
            hook,
            agent: None,
        };
        found(&node.socket()).await;
        node
    }

    fn socket(&self) -> PathBuf {
        self.bus.path("node.sock")
    }

    /// Starts an agent, and waits until it serves.
    async fn with_agent(&mut self) {
        let variantd = program::built("agent", "variantd");
        let mut agent = self.bus.agent(&variantd, "test:///default");
        self.agent = Some(agent.stderr(Stdio::null()).spawn().expect("variantd"));
        let end = Instant::now() + START;
        while let Err(status) = self.call("PostVMStop", 1, CALL).await {
            assert!(Instant::now() < end, "{status}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The GPUs are on their variant driver already, as a reservation leaves them.
    fn has_driver(&self) {
        let path = |name: &str| self.bus.path(&format!("host/sys/bus/pci/{name}"));
        fs::create_dir_all(path(&format!("drivers/{VARIANT}"))).expect("a driver");
        for gpu in GB200 {
            let link = path(&format!("devices/{gpu}/driver"));
            fs::remove_file(&link).expect("the old driver");
            symlink(format!("../../../bus/pci/drivers/{VARIANT}"), link).expect("a link");
        }
    }

    async fn call(&self, point: &str, guest: u8, limit: Duration) -> Result<(), Status> {
        self.call_with(point, &vmi(guest), limit).await
    }

    async fn call_with(&self, point: &str, vmi: &str, limit: Duration) -> Result<(), Status> {
        let channel = dial(&self.socket()).await.expect("a connection");
        let mut request = tonic::Request::new(ExecuteNodeHookRequest {
            hook_point: point.to_owned(),
            vmi: vmi.as_bytes().to_vec(),
            node_context: Some(NodeContext {
                node_name: "node1".to_owned(),
            }),
        });
        request.set_timeout(limit);
        let mut client = NodeHookServiceClient::new(channel);
        client.execute_node_hook(request).await.map(drop)
    }

    fn signal(&self, signal: Signal) {
        let agent = self.agent.as_ref().expect("an agent");
        let pid = i32::try_from(agent.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("sent");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for child in self.agent.iter_mut().chain([&mut self.hook]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn serving(bus: &Bus) -> Child {
    let mut hook = Command::new(env!("CARGO_BIN_EXE_variantd-kubevirt"));
    hook.arg("node-hook");
    hook.arg("--socket").arg(bus.path("node.sock"));
    hook.arg("--root").arg(bus.path("pods"));
    let hook = hook.env("DBUS_SYSTEM_BUS_ADDRESS", bus.address());
    hook.stderr(Stdio::null()).spawn().expect("the hook runs")
}

/// A guest with the GPU of this number.
fn vmi(number: u8) -> String {
    format!(
        r#"{{"metadata":{{"name":"vmi-{number}","namespace":"default","uid":"6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a{number:02x}"}},
        "spec":{{"domain":{{"devices":{{"gpus":[{{"name":"gpu1","deviceName":"nvidia.com/GPU{number}"}}]}}}}}},
        "status":{{"activePods":{{"{POD}":"node1"}}}}}}"#
    )
}

/// One call of a hook that runs elsewhere, for the lab's scenario `kubevirt`: prints `done`, or the status and its message.
#[tokio::test]
#[ignore = "needs VARIANTD_NODE_HOOK, the socket of a node hook; VARIANTD_POINT, VARIANTD_VMI (a file) and VARIANTD_NODE are the call"]
async fn one_call_of_another_hook() {
    let variable = |name: &str| std::env::var(name).expect(name);
    let vmi = fs::read(variable("VARIANTD_VMI")).expect("the VMI");
    let channel = dial(&PathBuf::from(variable("VARIANTD_NODE_HOOK"))).await;
    let mut request = tonic::Request::new(ExecuteNodeHookRequest {
        hook_point: variable("VARIANTD_POINT"),
        vmi,
        node_context: Some(NodeContext {
            node_name: variable("VARIANTD_NODE"),
        }),
    });
    request.set_timeout(CALL);
    let mut client = NodeHookServiceClient::new(channel.expect("a connection"));
    match client.execute_node_hook(request).await {
        Ok(_) => println!("answer: done"),
        Err(status) => println!("answer: {:?}: {}", status.code(), status.message()),
    }
}

#[tokio::test]
async fn a_start_waits_for_the_agent_and_a_repetition_changes_nothing() {
    let mut node = Node::start().await;
    let mode = fs::metadata(node.socket()).expect("a socket").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600, "only virt-handler, as root");
    let missing = node
        .call("PreVMStart", 1, CALL)
        .await
        .expect_err("no agent");
    assert_eq!(missing.code(), Code::Unavailable, "{missing}");
    assert!(missing.message().contains("VD-AGT-001"), "{missing}");
    node.has_driver();
    node.with_agent().await;
    for point in [
        "PreVMStart",
        "PreVMStart",
        "PostVMStart",
        "PreVMStop",
        "OnVMStop",
        "PostVMStop",
        "PostVMStop",
    ] {
        node.call(point, 1, CALL).await.expect(point);
    }
}

#[tokio::test]
async fn a_bind_that_fails_has_the_agents_message() {
    let mut node = Node::start().await;
    node.with_agent().await;
    let failed = node
        .call("PreVMStart", 1, CALL)
        .await
        .expect_err("files are no kernel");
    assert_eq!(failed.code(), Code::FailedPrecondition, "{failed}");
    let message = failed.message();
    assert!(
        message.contains(GB200[0]) && message.contains("VD-BND-"),
        "{message}"
    );
}

#[tokio::test]
async fn what_virt_handler_should_not_ask_is_refused_by_name() {
    let node = Node::start().await;
    let unknown = node
        .call("PostVMHibernate", 1, CALL)
        .await
        .expect_err("unknown");
    assert_eq!(unknown.code(), Code::InvalidArgument);
    let message = unknown.message();
    assert!(
        message.contains("'PostVMHibernate'") && message.contains("VD-KVT-007"),
        "{message}"
    );
    let broken = node
        .call_with("PreVMStart", "[]", CALL)
        .await
        .expect_err("no VMI");
    assert_eq!(broken.code(), Code::InvalidArgument);
    assert!(broken.message().contains("VD-KVT-002"), "{broken}");
    let huge = " ".repeat(3 << 20);
    let huge = node
        .call_with("PreVMStart", &huge, CALL)
        .await
        .expect_err("too large");
    assert_eq!(huge.code(), Code::InvalidArgument);
    let elsewhere = vmi(1).replace(POD, "00000000-1111-4222-8333-444455556666");
    let elsewhere = node.call_with("PreVMStart", &elsewhere, CALL).await;
    let elsewhere = elsewhere.expect_err("its pod is not here");
    assert_eq!(elsewhere.code(), Code::Unavailable);
    assert!(elsewhere.message().contains("VD-KVT-008"), "{elsewhere}");
    let plain = vmi(1).replace("gpus", "interfaces");
    node.call_with("PreVMStart", &plain, CALL)
        .await
        .expect("a guest without devices needs no agent");
}

#[tokio::test]
async fn a_deadline_and_a_killed_agent_end_a_call_and_the_next_one_is_answered() {
    let mut node = Node::start().await;
    node.has_driver();
    node.with_agent().await;
    node.signal(Signal::SIGSTOP);
    let late = node.call("PreVMStart", 1, Duration::from_secs(1)).await;
    let late = late.expect_err("the agent hangs");
    let ended = [Code::DeadlineExceeded, Code::Cancelled];
    assert!(ended.contains(&late.code()), "{late}");
    let killed = async {
        let call = node.call("PreVMStart", 1, CALL);
        let kill = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            node.signal(Signal::SIGKILL);
        };
        tokio::join!(call, kill).0
    };
    let killed = killed.await.expect_err("no agent");
    assert_eq!(killed.code(), Code::Unavailable, "{killed}");
    let agent = node.agent.as_mut().expect("an agent");
    agent.wait().expect("its status");
    node.with_agent().await;
    node.call("PreVMStart", 1, CALL)
        .await
        .expect("the next agent");
}

#[tokio::test]
async fn guests_are_served_beside_each_other_and_a_new_hook_takes_the_socket() {
    let mut node = Node::start().await;
    node.has_driver();
    node.with_agent().await;
    let node_ref = &node;
    let guest = async |number| {
        for point in ["PreVMStart", "PostVMStart", "PostVMStop"] {
            node_ref.call(point, number, CALL).await.expect(point);
        }
    };
    tokio::join!(guest(1), guest(2), guest(3), guest(4));
    node.hook.kill().expect("killed");
    node.hook.wait().expect("its status");
    node.hook = serving(&node.bus);
    found(&node.socket()).await;
    node.call("PreVMStart", 1, CALL)
        .await
        .expect("the next hook");
}
