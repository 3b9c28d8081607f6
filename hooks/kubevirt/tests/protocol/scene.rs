//! A sidecar's pod: its socket directory, the node's snapshot, and domains as virt-launcher emits them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use agent::snapshot::{Runs, Snapshot};
use kernel_glue::address::PciAddress;
use kernel_glue::host::Host;
use kernel_glue::numa::NumaNode;

pub(crate) const VMI: &str = r#"{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance",
    "metadata":{"name":"vmi-grace","namespace":"default"},"spec":{"domain":{"devices":{"gpus":[{"name":"gpu1"}]}}}}"#;

pub(crate) const GB200: [&str; 4] = [
    "0008:01:00.0",
    "0009:01:00.0",
    "0018:01:00.0",
    "0019:01:00.0",
];

/// How far the second half of a host of eight GPUs is from the first.
const SEGMENTS: u32 = 0x100;

pub(crate) struct Scene {
    directory: tempfile::TempDir,
    sidecar: Child,
}

impl Scene {
    pub(crate) fn of_host(name: &str) -> Self {
        Self::start(Some(recorded(name)))
    }

    pub(crate) fn without_snapshot() -> Self {
        Self::start(None)
    }

    /// A host of eight GPUs and 66 cells: two of four side by side.
    pub(crate) fn of_eight() -> (Self, Vec<String>) {
        let devices = GB200.map(|text| text.parse().expect("address"));
        let shifted = devices.map(|one: PciAddress| moved(one).to_string());
        let all = GB200.map(str::to_owned).into_iter().chain(shifted);
        (Self::start(Some(eight())), all.collect())
    }

    fn start(host: Option<Host>) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        fs::create_dir(directory.path().join("sockets")).expect("sockets");
        if let Some(host) = host {
            let text = Snapshot::new(host, Runs::default(), Vec::new()).text();
            fs::write(directory.path().join("host.json"), text).expect("snapshot");
        }
        let said = fs::File::create(directory.path().join("said")).expect("log");
        let sidecar = program(directory.path())
            .arg("--socket-dir")
            .arg(directory.path().join("sockets"))
            .stderr(Stdio::from(said))
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

    pub(crate) fn said(&self) -> String {
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

fn recorded(name: &str) -> Host {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/hosts");
    Host::read(&folder.join(name)).expect("a recorded host")
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

/// A domain in the form that virt-launcher marshals: no self-closing elements, cells with bytes, host devices by alias
/// and without guest addresses.
pub(crate) fn domain(devices: &[&str]) -> String {
    let hostdev = |(number, device): (usize, &&str)| {
        let address: PciAddress = device.parse().expect("address");
        format!(
            "<hostdev type='pci' managed='no' mode='subsystem'><source><address type='pci' domain='0x{:04x}' \
             bus='0x{:02x}' slot='0x{:02x}' function='0x{:x}'></address></source>\
             <alias name='ua-gpu-gpu{number}'></alias></hostdev>",
            address.domain(),
            address.bus(),
            address.device(),
            address.function()
        )
    };
    let cell = |id: u32, cpus: &str, gib: u64| {
        let bytes = gib << 30;
        format!("<cell id='{id}' cpus='{cpus}' memory='{bytes}' unit='b'></cell>")
    };
    // With GPUs of both sockets, a cell for each.
    let cells = match devices.len() {
        0 | 1 => cell(0, "0-7", 64),
        _ => cell(0, "0-3", 32) + &cell(1, "4-7", 32),
    };
    let hostdevs: String = devices.iter().enumerate().map(hostdev).collect();
    format!(
        "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>default_vmi-grace</name>\
         <memory unit='b'>68719476736</memory><os><type arch='aarch64' machine='virt'>hvm</type>\
         <loader readonly='yes' type='pflash'>/usr/share/AAVMF/AAVMF_CODE.fd</loader></os>\
         <sysinfo type='smbios'><system></system><bios></bios></sysinfo>\
         <devices><emulator>/usr/libexec/qemu-kvm</emulator>\
         <controller type='usb' index='0' model='none'></controller>\
         <controller type='pci' index='0' model='pcie-root'></controller>\
         <controller type='scsi' index='0' model='virtio-non-transitional'></controller>{hostdevs}\
         <serial type='unix'><target port='0'></target></serial></devices>\
         <metadata><kubevirt xmlns='http://kubevirt.io'><uid>a1</uid></kubevirt></metadata>\
         <features><acpi></acpi></features>\
         <cpu mode='host-passthrough'><topology sockets='1' cores='8' threads='1'></topology>\
         <numa>{cells}</numa></cpu>\
         <vcpu placement='static'>8</vcpu><iothreads>1</iothreads></domain>"
    )
}
