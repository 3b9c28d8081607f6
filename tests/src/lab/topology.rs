//! The topology of the emulated host: NUMA nodes, expander buses, root ports, GPUs and plain devices.
//!
//! It only computes QEMU arguments and ACPI source text.

use std::fmt::Write;

use super::architecture::Architecture;
use super::size::Size;

/// Device-specific data properties: the UUID that the ACPI specification gives them.
const DSD: &str = "daffd814-6eba-4d8c-8a91-bc9bbf4aa301";
/// Generic-initiator nodes of each GPU: one for its memory and seven for MIG instances.
const NODES_PER_GPU: u32 = 8;
/// Nodes with processors and memory.
const HOST_NODES: u32 = 2;

/// AtomicOp completer bits of a Grace host's root ports.
pub const PORT_ATOMICS: u32 = 0x380;

/// One synthetic GPU and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuSlot {
    /// 0, 1, ...
    pub index: u32,
    /// Number of the expander bus.
    pub bus: u8,
    /// Physical slot number of its root port.
    pub slot: u16,
    /// Address of its memory.
    pub memory_base: u64,
    /// Size of its memory.
    pub memory: Size,
    /// First of its generic-initiator nodes.
    pub first_node: u32,
    /// Node of its socket.
    pub host_node: u32,
}

/// The emulated host.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Its processor.
    pub architecture: Architecture,
    /// The GPUs; none if the outer QEMU has no vfio-user client.
    pub gpus: Vec<GpuSlot>,
    /// Memory of each node with memory.
    pub node_memory: Size,
    /// Processors, spread over the two nodes.
    pub cpus: u32,
}

impl Topology {
    /// A host with this number of GPUs, each on its own expander bus, on the two sockets in turn.
    pub fn new(architecture: Architecture, gpus: u32, gpu_memory: Size) -> Self {
        let gpus = (0..gpus)
            .map(|index| GpuSlot {
                index,
                bus: 0x20 * (index as u8 + 1),
                slot: index as u16 + 1,
                memory_base: architecture.gpu_memory_base() + 0x20_0000_0000 * u64::from(index),
                memory: gpu_memory,
                first_node: HOST_NODES + NODES_PER_GPU * index,
                host_node: index % HOST_NODES,
            })
            .collect();
        Self {
            architecture,
            gpus,
            node_memory: Size::mebibytes(2048),
            cpus: 2,
        }
    }

    /// QEMU arguments for processors, memory, nodes and devices. `socket` returns the socket of a GPU's server.
    pub fn arguments(&self, socket: impl Fn(&GpuSlot) -> String) -> Vec<String> {
        let mut arguments = self.nodes();
        for gpu in &self.gpus {
            arguments.extend(gpu.arguments(self.architecture, &socket(gpu)));
        }
        arguments.extend(words(PLAIN_DEVICES));
        arguments
    }

    /// Source of the table with the addresses of GPU memory.
    pub fn asl(&self) -> String {
        let mut text =
            String::from("DefinitionBlock (\"\", \"SSDT\", 2, \"LAB\", \"GPUMEM\", 1)\n{\n");
        for gpu in &self.gpus {
            gpu.asl(&mut text);
        }
        text.push_str("}\n");
        text
    }

    fn nodes(&self) -> Vec<String> {
        let mut text = format!(
            "-smp {},sockets={HOST_NODES} -m {}",
            self.cpus,
            self.node_memory.times(HOST_NODES)
        );
        let share = self.cpus / HOST_NODES;
        for node in 0..HOST_NODES {
            let first = node * share;
            let memory = self.node_memory;
            // writing to a string cannot fail
            let _ = write!(
                text,
                " -object memory-backend-ram,id=m{node},size={memory} -numa node,nodeid={node},memdev=m{node},cpus={first}-{}",
                first + share - 1
            );
        }
        for node in self.gpus.iter().flat_map(GpuSlot::nodes) {
            let _ = write!(text, " -numa node,nodeid={node}");
        }
        let mut arguments = words(&text);
        arguments.extend(self.distances());
        arguments
    }

    /// Distances of all pairs of nodes; QEMU uses one direction for both.
    fn distances(&self) -> Vec<String> {
        let gpus = self.gpus.iter().flat_map(GpuSlot::nodes);
        let nodes: Vec<u32> = (0..HOST_NODES).chain(gpus).collect();
        let pairs = nodes.iter().flat_map(|from| {
            let later = nodes.iter().filter(move |to| *to > from);
            later.map(move |to| (*from, *to))
        });
        pairs
            .flat_map(|(from, to)| {
                let value = distance(from, to);
                [
                    "-numa".into(),
                    format!("dist,src={from},dst={to},val={value}"),
                ]
            })
            .collect()
    }
}

/// Distances from drafts of KubeVirt's Grace support: 11 within a GPU, 40 between GPUs and between
/// processors, 80 between a GPU and its socket, 120 to the other socket.
fn distance(from: u32, to: u32) -> u8 {
    let gpu = |node: u32| {
        node.checked_sub(HOST_NODES)
            .map(|offset| offset / NODES_PER_GPU)
    };
    match (gpu(from), gpu(to)) {
        (Some(one), Some(other)) if one == other => 11,
        (Some(_), Some(_)) | (None, None) => 40,
        (None, Some(gpu)) if gpu % HOST_NODES == from => 80,
        (Some(gpu), None) if gpu % HOST_NODES == to => 80,
        _ => 120,
    }
}

impl GpuSlot {
    /// Its generic-initiator nodes.
    pub fn nodes(&self) -> impl Iterator<Item = u32> + use<> {
        let first = self.first_node;
        (0..NODES_PER_GPU).map(move |offset| first + offset)
    }

    fn arguments(&self, architecture: Architecture, socket: &str) -> Vec<String> {
        let (index, bus, slot, node) = (self.index, self.bus, self.slot, self.host_node);
        let place = 0x10 + index;
        // QEMU's SMMUv3 cannot translate for a device in another process; the IORT that `acpi` changes hides that from Linux
        let bypass = match architecture {
            Architecture::X86_64 => "",
            Architecture::Aarch64 => ",bypass_iommu=on",
        };
        let mut arguments = words(&format!(
            "-device pxb-pcie,id=pxb{index},bus_nr={bus},bus=pcie.0,addr={place:#x},numa_node={node}{bypass} \
             -device pcie-root-port,id=gpuport{index},slot={slot},chassis={slot},bus=pxb{index},addr=0x0"
        ));
        // a socket address only fits the JSON form
        arguments.push("-device".into());
        arguments.push(format!(
            r#"{{"driver":"vfio-user-pci","socket":{{"path":"{socket}","type":"unix"}},"bus":"gpuport{index}","id":"gpu{index}"}}"#
        ));
        for node in self.nodes() {
            arguments.push("-object".into());
            arguments.push(format!(
                "acpi-generic-initiator,id=gi{node},pci-dev=gpu{index},node={node}"
            ));
        }
        arguments
    }

    fn asl(&self, text: &mut String) {
        let bridge = format!("PC{:02X}", self.bus);
        let property =
            |name: &str, value: u64| format!("Package () {{ \"nvidia,{name}\", {value:#x} }}");
        let properties = [
            property("gpu-mem-base-pa", self.memory_base),
            property("gpu-mem-size", self.memory.bytes()),
            property("gpu-mem-pxm-start", u64::from(self.first_node)),
            property("gpu-mem-pxm-count", u64::from(NODES_PER_GPU)),
        ]
        .join(",\n                ");
        // writing to a string cannot fail
        let _ = write!(
            text,
            "    External (\\_SB.{bridge}, DeviceObj)
    Scope (\\_SB.{bridge}) {{
        Device (RP00) {{ Name (_ADR, 0)
            Device (GPU{index}) {{ Name (_ADR, 0)
                Name (_DSD, Package () {{ ToUUID (\"{DSD}\"), Package () {{
                {properties} }} }})
            }} }}
    }}
",
            index = self.index,
        );
    }
}

/// Plain devices, one for every placement that the AtomicOp rules distinguish. They have slot numbers from 11.
const PLAIN_DEVICES: &str = "
 -blockdev null-co,node-name=n0,size=1048576,read-zeroes=on
 -blockdev null-co,node-name=n1,size=1048576,read-zeroes=on
 -blockdev null-co,node-name=n2,size=1048576,read-zeroes=on
 -blockdev null-co,node-name=n3,size=1048576,read-zeroes=on
 -blockdev null-co,node-name=n4,size=1048576,read-zeroes=on
 -device pcie-root-port,id=rp11,bus=pcie.0,addr=0x2,chassis=11,slot=11
 -device nvme,id=own,drive=n0,serial=OWN,bus=rp11,addr=0x0
 -device pcie-root-port,id=rp12,bus=pcie.0,addr=0x3,chassis=12,slot=12
 -device nvme,id=pair0,drive=n1,serial=PAIR0,bus=rp12,addr=0x0.0,multifunction=on
 -device nvme,id=pair1,drive=n2,serial=PAIR1,bus=rp12,addr=0x0.1
 -device pcie-root-port,id=rp13,bus=pcie.0,addr=0x4,chassis=13,slot=13
 -device x3130-upstream,id=up13,bus=rp13
 -device xio3130-downstream,id=down14,bus=up13,addr=0x0,chassis=14,slot=14
 -device xio3130-downstream,id=down15,bus=up13,addr=0x1,chassis=15,slot=15
 -device nvme,id=switched,drive=n3,serial=SWITCHED,bus=down14
 -device nvme,id=integrated,drive=n4,serial=INTEGRATED,bus=pcie.0,addr=0x6
 -device pcie-root-port,id=rp16,bus=pcie.0,addr=0x7,chassis=16,slot=16
 -device e1000e,id=old,bus=rp16,romfile=
";

/// Splits at white space.
pub fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(gpus: u32) -> Topology {
        Topology::new(Architecture::X86_64, gpus, Size::mebibytes(1536))
    }

    fn two() -> Topology {
        with(2)
    }

    #[test]
    fn each_gpu_has_its_own_bus_slot_memory_and_eight_nodes() {
        let gpus = two().gpus;
        assert_eq!((gpus[0].bus, gpus[1].bus), (0x20, 0x40));
        assert_eq!(
            gpus[0].nodes().collect::<Vec<_>>(),
            (2..10).collect::<Vec<_>>()
        );
        assert_eq!(
            gpus[1].nodes().collect::<Vec<_>>(),
            (10..18).collect::<Vec<_>>()
        );
        assert!(gpus[0].memory_base + gpus[0].memory.bytes() <= gpus[1].memory_base);
    }

    #[test]
    fn arguments_hold_a_node_and_an_initiator_for_each_gpu_node() {
        let text = two().arguments(|gpu| format!("/s{}", gpu.index)).join(" ");
        for node in 2..18 {
            assert!(
                text.contains(&format!("-numa node,nodeid={node} ")),
                "{text}"
            );
            assert!(text.contains(&format!("id=gi{node},")), "{text}");
        }
        assert!(text.contains(r#""path":"/s1""#));
    }

    #[test]
    fn each_pair_of_nodes_has_one_distance() {
        let arguments = two().distances();
        assert_eq!(arguments.len(), 2 * (18 * 17 / 2));
        for expected in [
            "src=0,dst=1,val=40",
            "src=0,dst=2,val=80",
            "src=0,dst=10,val=120",
            "src=1,dst=10,val=80",
            "src=2,dst=9,val=11",
            "src=9,dst=10,val=40",
        ] {
            assert!(
                arguments.contains(&format!("dist,{expected}")),
                "{expected}"
            );
        }
    }

    #[test]
    fn four_gpus_are_on_the_two_sockets_in_turn_and_apart_from_each_other() {
        let four = with(4);
        let places: Vec<_> = four
            .gpus
            .iter()
            .map(|gpu| (gpu.bus, gpu.host_node))
            .collect();
        assert_eq!(places, [(0x20, 0), (0x40, 1), (0x60, 0), (0x80, 1)]);
        let arguments = four.arguments(|_| String::new()).join(" ");
        for expected in [
            "src=0,dst=18,val=80",
            "src=1,dst=18,val=120",
            "src=1,dst=33,val=80",
        ] {
            assert!(
                arguments.contains(&format!("dist,{expected}")),
                "{expected}"
            );
        }
        // the emulated processor has 40 address bits
        let last = &four.gpus[3];
        assert!(last.memory_base + Size::mebibytes(128 << 10).bytes() <= 1 << 40);
    }

    #[test]
    fn a_host_without_gpus_has_two_nodes_and_the_plain_devices() {
        let text = with(0).arguments(|_| String::new()).join(" ");
        assert!(
            !text.contains("vfio-user") && text.contains("nodeid=1") && !text.contains("nodeid=2")
        );
        assert!(text.contains("x3130-upstream"));
    }

    #[test]
    fn the_table_source_names_bridge_base_and_size() {
        let asl = two().asl();
        assert!(asl.contains("Scope (\\_SB.PC20)") && asl.contains("Scope (\\_SB.PC40)"));
        assert!(asl.contains("\"nvidia,gpu-mem-base-pa\", 0x6000000000"));
        assert!(asl.contains("\"nvidia,gpu-mem-size\", 0x60000000"));
    }
}
