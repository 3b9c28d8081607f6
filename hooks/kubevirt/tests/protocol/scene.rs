//! A sidecar's pod: its socket directory, the node's snapshot, and domains as virt-launcher emits them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kernel_glue::address::PciAddress;
use kernel_glue::host::Host;
use kernel_glue::numa::NumaNode;
use settings::snapshot::{Runs, Snapshot};

pub(crate) const VMI: &str = r#"{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance",
    "metadata":{"name":"vmi-grace","namespace":"default"},"spec":{"domain":{"devices":{"gpus":[{"name":"gpu1"}]}}}}"#;

pub(crate) const GB200: [&str; 4] = [
    "0008:01:00.0",
    "0009:01:00.0",
    "0018:01:00.0",
    "0019:01:00.0",
];

/// Golden cases of tests/data/case: virt-launcher's domains, which `tests/lab translate` takes through libvirt and QEMU.
pub(crate) const ONE: &str = "kubevirt-one";
pub(crate) const ALL: &str = "kubevirt-four";

/// How far the second half of a host of eight GPUs is from the first.
const SEGMENTS: u32 = 0x100;

pub(crate) struct Scene {
    directory: tempfile::TempDir,
    sidecar: Child,
}

impl Scene {
    pub(crate) fn of_host(name: &str) -> Self {
        Self::start(Some(recorded(name)), None)
    }

    /// With what virt-launcher's image has said.
    pub(crate) fn of_target(host: &str, target: &str) -> Self {
        Self::start(Some(recorded(host)), Some(target))
    }

    pub(crate) fn without_snapshot() -> Self {
        Self::start(None, None)
    }

    /// A host of eight GPUs and 66 cells: two of four side by side.
    pub(crate) fn of_eight() -> (Self, Vec<String>) {
        let devices = GB200.map(|text| text.parse().expect("address"));
        let shifted = devices.map(|one: PciAddress| moved(one).to_string());
        let all = GB200.map(str::to_owned).into_iter().chain(shifted);
        (Self::start(Some(eight()), None), all.collect())
    }

    fn start(host: Option<Host>, target: Option<&str>) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        fs::create_dir(directory.path().join("sockets")).expect("sockets");
        if let Some(host) = host {
            publish(directory.path(), host);
        }
        let printed = fs::File::create(directory.path().join("said")).expect("log");
        let sidecar = program(directory.path())
            .arg("--socket-dir")
            .arg(directory.path().join("sockets"))
            .args(target.into_iter().flat_map(|target| ["--target", target]))
            .stderr(Stdio::from(printed))
            .spawn()
            .expect("the sidecar runs");
        Self { directory, sidecar }
    }

    pub(crate) fn sockets(&self) -> PathBuf {
        self.directory.path().join("sockets")
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn printed(&self) -> String {
        fs::read_to_string(self.directory.path().join("said")).expect("log")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.sidecar.kill();
        let _ = self.sidecar.wait();
    }
}

/// The program with the snapshot of a scene.
pub(crate) fn program(scene: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_variantd-kubevirt"));
    command
        .arg("--host")
        .arg(scene.join("host.json"))
        .args(["--recipes", "/nonexistent/recipes.d"]);
    command
}

/// Writes the node's snapshot.
pub(crate) fn publish(directory: &Path, host: Host) {
    let text = Snapshot::new(host, Runs::default(), Vec::new()).text();
    fs::write(directory.join("host.json"), text).expect("snapshot");
}

pub(crate) fn recorded(name: &str) -> Host {
    Host::read(&testing::hosts::directory(name)).expect("a modelled host")
}

fn moved(address: PciAddress) -> PciAddress {
    let domain = address.domain() + SEGMENTS;
    PciAddress::new(domain, address.bus(), address.device(), address.function()).expect("address")
}

fn eight() -> Host {
    let mut host = recorded("gb200-4gpu");
    let count = u32::try_from(host.numa.nodes.len()).expect("few");
    let later = |node: NumaNode| NumaNode::try_from(u32::from(node) + count).expect("a node");
    let mut devices = host.devices.clone();
    for device in host.devices.values() {
        let mut twin = device.clone();
        twin.address = moved(device.address);
        twin.ancestors = device.ancestors.iter().copied().map(moved).collect();
        twin.numa_node = device.numa_node.map(later);
        twin.iommu_group = device.iommu_group.map(|group| group + 1000);
        twin.iommu = device.iommu.as_ref().map(|name| format!("{name}1"));
        devices.insert(twin.address, twin);
    }
    host.devices = devices;
    let mut nodes = host.numa.nodes.clone();
    for node in &mut host.numa.nodes {
        let mut twin = node.clone();
        twin.id = later(node.id);
        twin.distances = [vec![80; node.distances.len()], node.distances.clone()].concat();
        nodes.push(twin);
    }
    for node in nodes.iter_mut().take(count as usize) {
        node.distances.extend(vec![80; count as usize]);
    }
    host.numa.nodes = nodes;
    let initiators = host.numa.generic_initiators.as_ref();
    host.numa.generic_initiators =
        initiators.map(|list| list.iter().flat_map(|one| [one, one + count]).collect());
    if let Some(srat) = &mut host.srat {
        let twins: BTreeMap<_, _> = srat
            .initiators
            .iter()
            .map(|(device, nodes)| (moved(*device), nodes.iter().copied().map(later).collect()))
            .collect();
        srat.initiators.extend(twins);
    }
    host
}

/// The domain of a golden case as virt-launcher emits it.
pub(crate) fn emitted(case: &str) -> String {
    as_emitted(&read(case, "domain.xml"))
}

/// What a golden case has for a target, as if virt-launcher had emitted it: `None` where it is refused.
pub(crate) fn completed(case: &str, target: &str) -> Option<String> {
    let name = format!("{target}.xml");
    cases()
        .join(case)
        .join(&name)
        .exists()
        .then(|| as_emitted(&read(case, &name)))
}

/// The refusal of a golden case.
pub(crate) fn refusal(case: &str, target: &str) -> String {
    read(case, &format!("{target}.refusal"))
}

fn read(case: &str, name: &str) -> String {
    fs::read_to_string(cases().join(case).join(name)).expect(name)
}

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/case")
}

/// With what virt-launcher writes beyond libvirt's schema, so that golden cases, which go through that, have none of it.
fn as_emitted(text: &str) -> String {
    let empty =
        "\t\t</system>\n\t\t<bios></bios>\n\t\t<baseBoard></baseBoard>\n\t\t<chassis></chassis>\n";
    let source = "<source>\n\t\t\t\t<address type=\"pci\" domain=";
    let text = text.replace("\t\t</system>\n", empty);
    text.replace("<source>\n\t\t\t\t<address domain=", source)
}

/// Virt-launcher's domain with these host devices instead.
pub(crate) fn domain(devices: &[&str]) -> String {
    // With GPUs of both sockets, a cell for each.
    let text = emitted(if devices.len() < 2 { ONE } else { ALL });
    let (before, rest) = text.split_once("\t\t<hostdev ").expect("a hostdev");
    let (_, after) = rest.rsplit_once("</hostdev>\n").expect("its end");
    let hostdevs: String = devices.iter().enumerate().map(hostdev).collect();
    format!("{before}{hostdevs}{after}")
}

fn hostdev((number, device): (usize, &&str)) -> String {
    let address: PciAddress = device.parse().expect("address");
    format!(
        "\t\t<hostdev type=\"pci\" managed=\"no\" mode=\"subsystem\">\n\t\t\t<source>\n\t\t\t\t<address type=\"pci\" \
         domain=\"0x{:04x}\" bus=\"0x{:02x}\" slot=\"0x{:02x}\" function=\"0x{:x}\"></address>\n\t\t\t</source>\n\t\t\t\
         <alias name=\"ua-gpu-gpu{}\"></alias>\n\t\t</hostdev>\n",
        address.domain(),
        address.bus(),
        address.device(),
        address.function(),
        number + 1
    )
}

/// A completed domain without our mark, as if KubeVirt had written it.
pub(crate) fn unmarked(text: &str) -> String {
    let (before, rest) = text.split_once("<variantd:prepared ").expect("a mark");
    let (_, after) = rest.split_once("</variantd:prepared>").expect("its end");
    format!("{before}{after}")
}

/// What libvirtxml 1.12002 leaves of a completed domain: a hostdev's driver without name and model, no `ssidsize`, no metadata
/// of others.
pub(crate) fn round_trip(text: &str) -> String {
    let text = unmarked(text).replace(" ssidsize='20'", "");
    let named = "<driver name='vfio' model='nvgrace_gpu_vfio_pci' iommufd='yes'/>";
    let text = text.replace(named, "<driver></driver>");
    text.replace(
        "<driver name='vfio' model='nvgrace_gpu_vfio_pci'/>",
        "<driver></driver>",
    )
}
