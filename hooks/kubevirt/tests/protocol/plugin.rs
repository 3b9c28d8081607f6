//! The domain hook of a plugin, with a client that acts as virt-launcher: it waits for the socket, dials for 5 s and calls for 30 s.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use kubevirt::proto::plugins::domain_hook_service_client::DomainHookServiceClient;
use kubevirt::proto::plugins::{MutateDomainRequest, SidecarContext};
use tonic::{Code, Status};

use super::launcher::{dial, found};
use super::scene::{self, GB200, VMI, domain};

const CALL: Duration = Duration::from_secs(30);
const GRACE: [&str; 1] = ["0009:01:00.0"];

/// A container of virt-launcher's pod.
struct Pod {
    directory: tempfile::TempDir,
    hook: Child,
}

impl Pod {
    async fn of(host: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        scene::publish(directory.path(), scene::recorded(host));
        let hook = serving(&directory);
        let pod = Self { directory, hook };
        found(&pod.socket()).await;
        pod
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("domain.sock")
    }

    async fn mutate(&self, domain_type: &str, context: &str, xml: &str) -> Result<String, Status> {
        let channel = dial(&self.socket()).await.expect("a connection");
        let mut client = DomainHookServiceClient::new(channel);
        let mut request = tonic::Request::new(MutateDomainRequest {
            domain_type: domain_type.to_owned(),
            domain: xml.as_bytes().to_vec(),
            vmi: VMI.as_bytes().to_vec(),
            sidecar_context: Some(SidecarContext {
                invocation_context: context.to_owned(),
            }),
        });
        request.set_timeout(CALL);
        let answer = client.mutate_domain(request).await?.into_inner();
        Ok(String::from_utf8(answer.domain).expect("text"))
    }
}

fn serving(directory: &tempfile::TempDir) -> Child {
    let mut program = scene::program(directory.path());
    let program = program.arg("domain-hook").arg("--socket");
    let program = program.arg(directory.path().join("domain.sock"));
    program
        .stderr(Stdio::null())
        .spawn()
        .expect("the hook runs")
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.hook.kill();
        let _ = self.hook.wait();
    }
}

#[tokio::test]
async fn a_domain_is_completed_in_both_spellings_of_the_protocol_and_stays_the_same() {
    for (host, devices, cells) in [("gh200-1gpu", &GRACE[..], 8), ("gb200-4gpu", &GB200, 32)] {
        let pod = Pod::of(host).await;
        let before = domain(devices);
        let first = pod
            .mutate("libvirt", "Boot", &before)
            .await
            .expect("completed");
        assert_eq!(first.matches("memory='0'").count(), cells, "{first}");
        for context in ["MigrationSource", "MigrationTarget", "GuestDefinition"] {
            let other = pod.mutate("libvirt", context, &before).await;
            assert_eq!(other.expect("completed"), first, "{context}");
        }
        let again = pod.mutate("libvirt", "Boot", &first).await;
        assert_eq!(again.expect("complete"), first);
        for context in ["PreBoot", "PreMigrationSource"] {
            let other = pod.mutate("libvirt", context, &before).await;
            assert_eq!(other.expect("unchanged"), before, "{context}");
        }
    }
}

#[tokio::test]
async fn what_kubevirt_should_not_ask_is_refused_by_name() {
    let pod = Pod::of("gh200-1gpu").await;
    let before = domain(&GRACE);
    for (domain_type, context, named) in [
        ("cloud-hypervisor", "Boot", "'cloud-hypervisor'"),
        ("libvirt", "Hibernation", "'Hibernation'"),
        ("libvirt", "", "''"),
    ] {
        let status = pod
            .mutate(domain_type, context, &before)
            .await
            .expect_err(named);
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        let message = status.message();
        assert!(
            message.contains(named) && message.contains("VD-KVT-007"),
            "{message}"
        );
    }
    let other = pod
        .mutate("libvirt", "Boot", &domain(&["0019:01:00.0"]))
        .await;
    let other = other.expect_err("no such device");
    assert_eq!(other.code(), Code::FailedPrecondition);
    assert!(
        other.message().contains("VD-DEV-001"),
        "{}",
        other.message()
    );
}

#[tokio::test]
async fn a_killed_hook_is_replaced_and_a_living_one_is_not() {
    let mut pod = Pod::of("gh200-1gpu").await;
    let second = serving(&pod.directory).wait().expect("its status");
    assert!(!second.success(), "another one serves");
    pod.hook.kill().expect("killed");
    pod.hook.wait().expect("its status");
    assert!(pod.socket().exists(), "a killed one leaves its socket");
    pod.hook = serving(&pod.directory);
    found(&pod.socket()).await;
    let passed = pod.mutate("libvirt", "Boot", &domain(&[])).await;
    assert_eq!(passed.expect("passed"), domain(&[]));
}
