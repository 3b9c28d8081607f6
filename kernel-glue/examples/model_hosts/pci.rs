//! The sysfs directories of a GPU and of the root port above it.

use super::machine::Gpu;
use super::tree::{Entry, Tree, line};

/// A PCI function as sysfs shows it.
struct Function {
    address: String,
    /// The directory below `sys/devices`.
    dir: String,
    device: u16,
    class: u32,
    socket: u32,
    driver: &'static str,
    group: usize,
    smmu: &'static str,
    bars: [u64; 6],
    config: Vec<u8>,
}

/// Both functions of the `index`th GPU.
pub(crate) fn add(tree: &mut Tree, gpu: &Gpu, index: usize) {
    let port = port(gpu, index);
    let gpu = endpoint(gpu, index, &port);
    add_function(tree, &port);
    add_function(tree, &gpu);
    let reset = format!("sys/devices/{}/reset_method", gpu.dir);
    tree.insert(reset, line("flr bus"));
}

fn port(gpu: &Gpu, index: usize) -> Function {
    let address = format!("{:04x}:00:00.0", gpu.domain);
    Function {
        dir: format!("pci{:04x}:00/{address}", gpu.domain),
        address,
        device: 0x22b1,
        class: 0x06_0400,
        socket: gpu.socket,
        driver: "pcieport",
        group: 2 * index,
        smmu: gpu.smmu,
        bars: [0; 6],
        config: config(0x22b1, 0x06_0400, 4, gpu.port_devcap2),
    }
}

fn endpoint(gpu: &Gpu, index: usize, port: &Function) -> Function {
    let address = format!("{:04x}:01:00.0", gpu.domain);
    Function {
        dir: format!("{}/{address}", port.dir),
        address,
        device: gpu.device,
        class: 0x03_0200,
        socket: gpu.socket,
        driver: "nvidia",
        group: 2 * index + 1,
        smmu: gpu.smmu,
        bars: gpu.bars,
        config: config(gpu.device, 0x03_0200, 0, gpu.devcap2),
    }
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
    let (device, class) = (function.device, function.class);
    let [_, base, sub, interface] = class.to_be_bytes();
    let modalias = format!(
        "pci:v000010DEd{device:08X}sv000010DEsd00000000bc{base:02X}sc{sub:02X}i{interface:02X}"
    );
    vec![
        ("vendor", line("0x10de")),
        ("device", line(format!("{device:#06x}"))),
        ("class", line(format!("{class:#08x}"))),
        ("driver_override", line("(null)")),
        ("numa_node", line(function.socket)),
        ("modalias", line(modalias)),
        ("resource", Entry::File(resource(function).into_bytes())),
        ("config", Entry::File(function.config.clone())),
    ]
}

fn links(function: &Function) -> Vec<(&'static str, Entry)> {
    let devices = "../".repeat(function.dir.split('/').count());
    let (driver, group, smmu) = (function.driver, function.group, function.smmu);
    let instance = group / 2;
    let iommu = format!("{devices}platform/arm-smmu-v3.{instance}.auto/iommu/{smmu}");
    vec![
        (
            "driver",
            Entry::Link(format!("{devices}../bus/pci/drivers/{driver}")),
        ),
        (
            "iommu_group",
            Entry::Link(format!("{devices}../kernel/iommu_groups/{group}")),
        ),
        ("iommu", Entry::Link(iommu)),
    ]
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

/// 4096 bytes: a header, power management at 0x40, PCI Express version 2 at 0x60; no extended
/// capability, so no serial number.
fn config(device: u16, class: u32, port: u8, devcap2: u32) -> Vec<u8> {
    let mut config = vec![0; 4096];
    let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x00, &[0xde, 0x10]);
    put(0x02, &device.to_le_bytes());
    put(0x04, &[0x06, 0x04, 0x10, 0x00]);
    put(0x08, &(class << 8 | 0xa1).to_le_bytes());
    put(0x0e, &[u8::from(port == 4)]);
    put(0x34, &[0x40]);
    put(0x40, &[0x01, 0x60, 0x03, 0x00]);
    put(0x60, &[0x10, 0x00, 0x02 | port << 4, 0x00]);
    let flr = if port == 4 { 0 } else { 1 << 28 };
    put(0x64, &(flr | 1_u32 << 15 | 1 << 5 | 1).to_le_bytes());
    put(0x84, &devcap2.to_le_bytes());
    config
}
