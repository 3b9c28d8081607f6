//! An SRAT with which the node ids of Linux equal the proximity domains.

use super::machine::{Endpoint, Machine, Platform};
use super::node;

/// The path of the table in sysfs.
pub const PATH: &str = "sys/firmware/acpi/tables/SRAT";

/// Enabled, as bit 0 of the flags of every kind of entry.
const ENABLED: [u8; 4] = [1, 0, 0, 0];

/// The table of a machine: processors, then initiators, then memory.
pub fn table(machine: &Machine) -> Vec<u8> {
    let mut entries = Vec::new();
    let of_node = |domain| (node::cpus(machine, domain).into_iter()).map(move |cpu| (domain, cpu));
    for (domain, cpu) in (0..machine.sockets).flat_map(of_node) {
        entries.extend(match machine.platform {
            Platform::Grace => processor(domain, cpu),
            Platform::Intel | Platform::Amd => x2apic(domain, cpu),
        });
    }
    for (index, endpoint) in machine.endpoints.iter().enumerate() {
        for node in machine.initiators(index) {
            entries.extend(initiator(node, endpoint));
        }
    }
    for socket in 0..machine.sockets {
        entries.extend(memory(socket, machine.socket_kib(socket)));
    }
    let mut table = header(48 + entries.len());
    table.extend(entries);
    let sum = table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    table[9] = sum.wrapping_neg();
    table
}

fn header(length: usize) -> Vec<u8> {
    let mut header = b"SRAT".to_vec();
    header.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    header.extend([3, 0]);
    header.extend(b"MODEL MODEL   ");
    header.extend([1, 0, 0, 0]);
    header.extend(b"MODL");
    header.extend([1, 0, 0, 0]);
    header.extend([1, 0, 0, 0]);
    header.extend([0; 8]);
    header
}

/// Type 3, GICC affinity, 18 bytes.
fn processor(domain: u32, uid: u32) -> Vec<u8> {
    let mut entry = vec![3, 18];
    entry.extend(domain.to_le_bytes());
    entry.extend(uid.to_le_bytes());
    entry.extend(ENABLED);
    entry.extend([0; 4]);
    entry
}

/// Type 2, processor local x2APIC affinity, 24 bytes.
fn x2apic(domain: u32, id: u32) -> Vec<u8> {
    let mut entry = vec![2, 24, 0, 0];
    entry.extend(domain.to_le_bytes());
    entry.extend(id.to_le_bytes());
    entry.extend(ENABLED);
    entry.extend([0; 8]);
    entry
}

/// Type 5, generic initiator affinity, 32 bytes, with a PCI handle: segment, bus, device 0 and function 0.
fn initiator(domain: u32, endpoint: &Endpoint) -> Vec<u8> {
    let segment = u16::from_str_radix(&endpoint.address[..4], 16);
    let bus = u8::from_str_radix(&endpoint.address[5..7], 16);
    let mut entry = vec![5, 32, 0, 1];
    entry.extend(domain.to_le_bytes());
    entry.extend(segment.unwrap_or_default().to_le_bytes());
    entry.extend([bus.unwrap_or_default(), 0]);
    entry.extend([0; 12]);
    entry.extend(ENABLED);
    entry.extend([0; 4]);
    entry
}

/// Type 1, memory affinity, 40 bytes.
fn memory(socket: u32, kib: u64) -> Vec<u8> {
    let base = 0x8000_0000 + (u64::from(socket) << 44);
    let mut entry = vec![1, 40];
    entry.extend(socket.to_le_bytes());
    entry.extend([0; 2]);
    entry.extend(base.to_le_bytes());
    entry.extend((kib << 10).to_le_bytes());
    entry.extend([0; 4]);
    entry.extend(ENABLED);
    entry.extend([0; 8]);
    entry
}
