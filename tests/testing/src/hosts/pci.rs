//! The sysfs directories of endpoints and of the root ports above them.

use std::collections::BTreeSet;

use super::machine::{Ats, Endpoint, Group, Machine, Platform, Reader, SwitchPort};
use super::tree::{Entry, Tree, line};

/// Bytes of config space that a process without privilege reads.
const HEADER: usize = 64;

/// A PCI function in sysfs.
struct Function {
    address: String,
    /// The directory below `sys/devices`.
    dir: String,
    vendor: u16,
    device: u16,
    class: u32,
    numa_node: u32,
    driver: &'static str,
    group: usize,
    /// The directory of its IOMMU below `sys/devices`.
    iommu: String,
    bars: [u64; 6],
    physical: Option<&'static str>,
    config: Vec<u8>,
}

/// The contents of config space for a function's place and AtomicOps.
struct Registers {
    /// Port type, bits 7:4 of the capability's flags.
    port: u8,
    devcap2: u32,
    devctl2: u16,
    access_control: u16,
    ats: Ats,
}

const ENDPOINT: u8 = 0;
const ROOT_PORT: u8 = 4;
const UPSTREAM: u8 = 5;
const DOWNSTREAM: u8 = 6;
const INTEGRATED: u8 = 9;

/// Every port and endpoint of a machine; each in an IOMMU group of its own, if the endpoint names no other.
pub fn add(tree: &mut Tree, machine: &Machine) {
    let (mut group, mut ports) = (0, BTreeSet::new());
    for (index, endpoint) in machine.endpoints.iter().enumerate() {
        let mut dir = format!("pci{}", &endpoint.address[..7]);
        for (depth, port) in above(machine, endpoint).into_iter().enumerate() {
            let own = match endpoint.group {
                Group::WithPorts(number) if depth > 1 => number,
                _ => group,
            };
            let port = Function { group: own, ..port };
            dir.clone_from(&port.dir);
            if ports.insert(port.address.clone()) {
                add_function(tree, &port);
                group += 1;
            }
        }
        let own = match endpoint.group {
            Group::Next => group,
            Group::Number(number) | Group::WithPorts(number) => number,
        };
        add_endpoint(tree, machine, index, (&dir, own));
        group += 1;
    }
}

/// The ports above an endpoint, from the root port down.
fn above(machine: &Machine, endpoint: &Endpoint) -> Vec<Function> {
    if endpoint.port.is_empty() {
        return Vec::new();
    }
    let mut ports = vec![port(machine, endpoint)];
    for one in endpoint.between {
        let parent = &ports[ports.len() - 1].dir;
        ports.push(switch_port(machine, endpoint, one, parent));
    }
    ports
}

fn switch_port(machine: &Machine, endpoint: &Endpoint, port: &SwitchPort, above: &str) -> Function {
    let registers = Registers {
        port: if port.upstream { UPSTREAM } else { DOWNSTREAM },
        devcap2: port.devcap2,
        devctl2: port.devctl2,
        access_control: port.access_control,
        ats: Ats::Absent,
    };
    Function {
        address: port.address.to_owned(),
        dir: format!("{above}/{}", port.address),
        vendor: 0x1000,
        device: 0xc030,
        config: config((0x1000, 0xc030), 0x06_0400, &registers),
        ..self::port(machine, endpoint)
    }
}

fn add_endpoint(tree: &mut Tree, machine: &Machine, index: usize, (port, group): (&str, usize)) {
    let mut function = endpoint(&machine.endpoints[index], port, group);
    function.numa_node = machine.numa_node(index);
    function.iommu = iommu(machine, &machine.endpoints[index]);
    if machine.reader == Reader::User {
        function.config.truncate(HEADER);
    }
    add_function(tree, &function);
    let reset = format!("sys/devices/{}/reset_method", function.dir);
    tree.insert(reset, line(machine.endpoints[index].kind.reset));
}

fn port(machine: &Machine, endpoint: &Endpoint) -> Function {
    let (vendor, device) = match machine.platform {
        Platform::Grace => (0x10de, 0x22b1),
        Platform::Intel => (0x8086, 0x352a),
        Platform::Amd => (0x1022, 0x14ab),
    };
    let address = endpoint.port.to_owned();
    let registers = Registers {
        port: ROOT_PORT,
        devcap2: endpoint.port_devcap2,
        devctl2: 0,
        access_control: 0,
        ats: Ats::Absent,
    };
    let mut config = config((vendor, device), 0x06_0400, &registers);
    if machine.reader == Reader::User {
        config.truncate(HEADER);
    }
    Function {
        dir: format!("pci{}/{address}", &address[..7]),
        address,
        vendor,
        device,
        class: 0x06_0400,
        numa_node: endpoint.socket,
        driver: "pcieport",
        group: 0,
        iommu: iommu(machine, endpoint),
        bars: [0; 6],
        physical: None,
        config,
    }
}

fn endpoint(endpoint: &Endpoint, port: &str, group: usize) -> Function {
    let kind = endpoint.kind;
    let registers = Registers {
        port: if endpoint.port.is_empty() {
            INTEGRATED
        } else {
            ENDPOINT
        },
        devcap2: endpoint.devcap2,
        devctl2: endpoint.devctl2,
        access_control: 0,
        ats: endpoint.ats,
    };
    // A virtual function's own id registers read as ones (SR-IOV 1.1, 3.4.1.1).
    let shown = match endpoint.physical {
        Some(_) => (0xffff, 0xffff),
        None => (kind.vendor, kind.device),
    };
    Function {
        address: endpoint.address.to_owned(),
        dir: format!("{port}/{}", endpoint.address),
        vendor: kind.vendor,
        device: kind.device,
        class: kind.class,
        numa_node: endpoint.socket,
        driver: kind.driver,
        group,
        iommu: String::new(),
        bars: endpoint.bars,
        physical: endpoint.physical,
        config: config(shown, kind.class, &registers),
    }
}

/// SMMUs are platform devices, numbered in order of first use; IOMMUs of x86-64 are virtual devices.
fn iommu(machine: &Machine, endpoint: &Endpoint) -> String {
    let name = endpoint.iommu;
    if machine.platform != Platform::Grace {
        return format!("virtual/iommu/{name}");
    }
    let mut met = Vec::new();
    for other in &machine.endpoints {
        if !met.contains(&other.iommu) {
            met.push(other.iommu);
        }
    }
    let instance = met.iter().position(|other| *other == name);
    let instance = instance.unwrap_or_default();
    format!("platform/arm-smmu-v3.{instance}.auto/iommu/{name}")
}

fn add_function(tree: &mut Tree, function: &Function) {
    let dir = format!("sys/devices/{}", function.dir);
    for (name, entry) in files(function).into_iter().chain(links(function)) {
        tree.insert(format!("{dir}/{name}"), entry);
    }
    let link = format!("sys/bus/pci/devices/{}", function.address);
    tree.insert(
        link,
        Entry::Link(format!("../../../devices/{}", function.dir)),
    );
}

fn files(function: &Function) -> Vec<(&'static str, Entry)> {
    let (vendor, device, class) = (function.vendor, function.device, function.class);
    let [_, base, sub, interface] = class.to_be_bytes();
    let modalias = format!(
        "pci:v0000{vendor:04X}d0000{device:04X}sv0000{vendor:04X}sd00000000bc{base:02X}sc{sub:02X}i{interface:02X}"
    );
    vec![
        ("vendor", line(format!("{vendor:#06x}"))),
        ("device", line(format!("{device:#06x}"))),
        ("class", line(format!("{class:#08x}"))),
        ("driver_override", line("(null)")),
        ("numa_node", line(function.numa_node)),
        ("modalias", line(modalias)),
        ("resource", Entry::File(resource(function).into_bytes())),
        ("config", Entry::File(function.config.clone())),
    ]
}

fn links(function: &Function) -> Vec<(&'static str, Entry)> {
    let devices = "../".repeat(function.dir.split('/').count());
    let (driver, group, iommu) = (function.driver, function.group, &function.iommu);
    let mut links = vec![
        ("driver", format!("{devices}../bus/pci/drivers/{driver}")),
        (
            "iommu_group",
            format!("{devices}../kernel/iommu_groups/{group}"),
        ),
        ("iommu", format!("{devices}{iommu}")),
    ];
    let physical = function.physical.map(|at| ("physfn", format!("../{at}")));
    links.extend(physical);
    let entry = |(name, target)| (name, Entry::Link(target));
    links.into_iter().map(entry).collect()
}

/// 13 lines; each BAR at a multiple of its size, in a window of its own.
fn resource(function: &Function) -> String {
    let mut text = String::new();
    for (number, size) in (0u64..).zip(function.bars.iter().chain(&[0; 7])) {
        let base = (0x40_u64 + number) << 40;
        let (start, end, flags) = match size {
            0 => (0, 0, 0),
            size => (base, base + size - 1, 0x0014_220c),
        };
        text += &format!("0x{start:016x} 0x{end:016x} 0x{flags:016x}\n");
    }
    text
}

/// 4096 bytes: a header, power management at 0x40, PCI Express version 2 at 0x60; of extended capabilities access
/// control or ATS alone, so no serial number.
fn config((vendor, device): (u16, u16), class: u32, registers: &Registers) -> Vec<u8> {
    let port = registers.port;
    let is_port = matches!(port, ROOT_PORT | UPSTREAM | DOWNSTREAM);
    let mut config = vec![0; 4096];
    let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x00, &vendor.to_le_bytes());
    put(0x02, &device.to_le_bytes());
    put(0x04, &[0x06, 0x04, 0x10, 0x00]);
    put(0x08, &(class << 8 | 0xa1).to_le_bytes());
    put(0x0e, &[u8::from(is_port)]);
    put(0x34, &[0x40]);
    put(0x40, &[0x01, 0x60, 0x03, 0x00]);
    put(0x60, &[0x10, 0x00, 0x02 | port << 4, 0x00]);
    let flr = if is_port { 0 } else { 1 << 28 };
    put(0x64, &(flr | 1_u32 << 15 | 1 << 5 | 1).to_le_bytes());
    put(0x84, &registers.devcap2.to_le_bytes());
    put(0x88, &registers.devctl2.to_le_bytes());
    if registers.access_control != 0 {
        put(0x100, &0x0001_000d_u32.to_le_bytes());
        put(0x106, &registers.access_control.to_le_bytes());
    }
    // An endpoint of these machines has no ACS.
    if registers.ats != Ats::Absent {
        let enabled = u16::from(registers.ats == Ats::On) << 15;
        put(0x100, &0x0001_000f_u32.to_le_bytes());
        put(0x106, &enabled.to_le_bytes());
    }
    config
}
