//! The PCI devices of a guest's pod: a device plugin passes them to virt-launcher in its environment, as `PCI_RESOURCE_*`
//! (KubeVirt, pkg/virt-launcher/virtwrap/device/hostdevice/addresspool.go).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use domain::code::Code;
use domain::refusal::Refusal;
use kernel_glue::address::PciAddress;

use super::vmi::{Device, Vmi};

/// The prefix of a variable (KubeVirt, api/core/v1, PCIResourcePrefix).
const PREFIX: &str = "PCI_RESOURCE_";
/// Maximum size of a file of `/proc/PID` in bytes. The kernel limits an environment to a quarter of the stack's limit, 2 MiB by default.
const MOST: u64 = 2 << 20;

/// The devices that Kubernetes has chosen for the guest on this node. Two resources may share one.
///
/// # Errors
/// No process of the guest's pod is visible, or its environment does not have a device that the VMI names.
pub fn devices(root: &Path, vmi: &Vmi, node: &str) -> Result<Vec<PciAddress>, Refusal> {
    let pods: Vec<&str> = pods(vmi, node);
    let environment = environment(root, &pods).ok_or_else(|| {
        let reason = format!("no process of the guest's pod on node '{node}' has {PREFIX}* in its environment");
        let hint = "let the DaemonSet have 'hostPID: true', and KubeVirt allocate the devices through a device plugin";
        Refusal::new(Code::KubevirtDevices, reason, hint)
    })?;
    let mut found = Vec::new();
    for resource in resources(&vmi.devices)? {
        for device in of_resource(&environment, resource)? {
            if !found.contains(&device) {
                found.push(device);
            }
        }
    }
    Ok(found)
}

/// The pods of the guest on this node; without a node in the call, all of them.
fn pods<'a>(vmi: &'a Vmi, node: &str) -> Vec<&'a str> {
    let here = vmi
        .pods
        .iter()
        .filter(|(_, at)| node.is_empty() || *at == node);
    here.map(|(uid, _)| uid.as_str()).collect()
}

/// The resources of the devices, each once.
fn resources(devices: &[Device]) -> Result<BTreeSet<&str>, Refusal> {
    let resources = devices.iter().map(|device| {
        device.resource.as_deref().ok_or_else(|| {
            let reason = format!("device '{}' of the VMI has a resource claim", device.name);
            let hint = "give it a deviceName of a device plugin, or reserve its GPU on the node with 'variantctl reserve'";
            Refusal::new(Code::KubevirtDevices, reason, hint)
        })
    });
    resources.collect()
}

fn of_resource(environment: &[u8], resource: &str) -> Result<Vec<PciAddress>, Refusal> {
    let name = variable(resource);
    let refused = |why: String| {
        let reason = format!("'{name}' in virt-launcher's environment {why}");
        let hint =
            "see the device plugin's log on this node; it chooses the devices of the resource";
        Refusal::new(Code::KubevirtDevices, reason, hint)
    };
    let value = value(environment, &name);
    let value = value.ok_or_else(|| refused("is missing".to_owned()))?;
    let words = value.split(',').filter(|word| !word.is_empty());
    let parsed = words.map(|word| {
        let parsed = word.parse::<PciAddress>();
        parsed.map_err(|error| refused(format!("is no list of PCI addresses: {error}")))
    });
    let found: Vec<PciAddress> = parsed.collect::<Result<_, _>>()?;
    match found.is_empty() {
        true => Err(refused("is empty".to_owned())),
        false => Ok(found),
    }
}

/// The variable of a resource (KubeVirt, pkg/util, ResourceNameToEnvVar).
fn variable(resource: &str) -> String {
    let name = resource.to_uppercase().replace(['/', '.'], "_");
    format!("{PREFIX}{name}")
}

fn value(environment: &[u8], name: &str) -> Option<String> {
    let entries = environment.split(|byte| *byte == 0);
    let mut values = entries.filter_map(|entry| {
        let text = std::str::from_utf8(entry).ok()?;
        text.strip_prefix(name)?.strip_prefix('=')
    });
    values.next().map(str::to_owned)
}

/// The environment of the pods' oldest process that has such a variable. A later process may have been started by the guest's own
/// programs with other values.
fn environment(root: &Path, pods: &[&str]) -> Option<Vec<u8>> {
    let processes = fs::read_dir(root.join("proc")).ok()?;
    let folders = processes.flatten().map(|entry| entry.path());
    let is_process = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let candidates = folders.filter(is_process).filter_map(|folder| {
        in_pod(&folder, pods).then_some(())?;
        let environment = read(&folder.join("environ")).ok()?;
        let has_one = environment
            .split(|byte| *byte == 0)
            .any(|entry| entry.starts_with(PREFIX.as_bytes()));
        has_one.then_some((started(&folder)?, environment))
    });
    let oldest = candidates.min_by_key(|(started, _)| *started);
    oldest.map(|(_, environment)| environment)
}

/// Whether the control groups of a process have the uid of one of the pods; the systemd driver writes it with underscores.
fn in_pod(folder: &Path, pods: &[&str]) -> bool {
    let Ok(groups) = read(&folder.join("cgroup")) else {
        return false;
    };
    let groups = String::from_utf8_lossy(&groups);
    pods.iter().any(|uid| {
        let names = [format!("pod{uid}"), format!("pod{}", uid.replace('-', "_"))];
        names.iter().any(|name| groups.contains(name.as_str()))
    })
}

/// The start time of a process in clock ticks (proc_pid_stat(5), field 22). The second field may have spaces and parentheses.
fn started(folder: &Path) -> Option<u64> {
    let stat = read(&folder.join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::vmi::EXAMPLE;
    use super::*;

    const POD: &str = "0b7c1f5e-1111-4222-8333-444455556666";

    struct Node(tempfile::TempDir);

    impl Node {
        fn new() -> Self {
            let node = Self(tempfile::tempdir().expect("a directory"));
            node.process(1, "0::/init.scope", 1, "PATH=/bin");
            node
        }

        fn process(&self, pid: u32, group: &str, started: u64, environment: &str) {
            let folder = self.0.path().join(format!("proc/{pid}"));
            fs::create_dir_all(&folder).expect("a process");
            let rest = vec!["0"; 18].join(" ");
            for (name, text) in [
                ("cgroup", format!("{group}\n")),
                ("stat", format!("{pid} (a ) b) S {rest} {started} 0 0\n")),
                ("environ", environment.replace(' ', "\0")),
            ] {
                fs::write(folder.join(name), text).expect(name);
            }
        }

        fn devices(&self, node: &str) -> Result<Vec<String>, Refusal> {
            let vmi = Vmi::parse(EXAMPLE.as_bytes()).expect("a VMI");
            let found = devices(self.0.path(), &vmi, node)?;
            Ok(found.iter().map(ToString::to_string).collect())
        }
    }

    #[test]
    fn devices_are_those_of_the_pods_oldest_process() {
        let group = format!(
            "0::/kubepods.slice/kubepods-pod{}.slice/cri-1.scope",
            POD.replace('-', "_")
        );
        let node = Node::new();
        node.process(
            500,
            "0::/kubepods.slice/kubepods-pod1.slice",
            2,
            "PCI_RESOURCE_NVIDIA_COM_GH200=0019:01:00.0",
        );
        node.process(
            700,
            &group,
            900,
            "PCI_RESOURCE_NVIDIA_COM_GH200=0018:01:00.0",
        );
        node.process(
            701,
            &group,
            100,
            "A=1 PCI_RESOURCE_NVIDIA_COM_GH200=0009:01:00.0,0008:01:00.0,",
        );
        node.process(702, &group, 50, "PATH=/bin");
        let found = node.devices("node1").expect("found");
        assert_eq!(found, ["0009:01:00.0", "0008:01:00.0"]);
        let refusal = node.devices("node2").expect_err("another node");
        assert!(refusal.to_string().contains("hostPID"), "{refusal}");
    }

    #[test]
    fn an_environment_without_the_devices_is_refused_with_its_variable() {
        for (environment, why) in [
            ("PCI_RESOURCE_OTHER=0009:01:00.0", "is missing"),
            ("PCI_RESOURCE_NVIDIA_COM_GH200=", "is empty"),
            (
                "PCI_RESOURCE_NVIDIA_COM_GH200=gpu0",
                "is no list of PCI addresses",
            ),
        ] {
            let node = Node::new();
            node.process(9, &format!("0::/kubepods/pod{POD}/1"), 5, environment);
            let refusal = node.devices("").expect_err(why);
            assert_eq!(refusal.code, Code::KubevirtDevices);
            let text = refusal.to_string();
            assert!(
                text.contains(why) && text.contains("PCI_RESOURCE_NVIDIA_COM_GH200"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_device_of_a_claim_is_refused_by_name() {
        let claimed = EXAMPLE.replacen(
            r#""deviceName":"nvidia.com/GH200""#,
            r#""claimName":"c""#,
            1,
        );
        let vmi = Vmi::parse(claimed.as_bytes()).expect("a VMI");
        let node = Node::new();
        node.process(
            9,
            &format!("0::/kubepods/pod{POD}/1"),
            5,
            "PCI_RESOURCE_NVIDIA_COM_GH200=0009:01:00.0",
        );
        let refusal = devices(node.0.path(), &vmi, "node1").expect_err("a claim");
        assert!(
            refusal
                .to_string()
                .contains("'gpu1' of the VMI has a resource claim"),
            "{refusal}"
        );
    }
}
