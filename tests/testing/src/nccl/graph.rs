//! The graph that NCCL makes of a file (src/graph/topo.cc), and the distances in it (src/graph/paths.cc).
//!
//! A GPU is two nodes, the device and the GPU that uses it; all processors are linked with each other. NVLink and C2C, which NCCL
//! detects when it runs, are not in the file.

use std::collections::BTreeSet;
use std::fmt;

use super::Element;

/// How far apart two nodes are: the longest step between them, by the numbers of topo.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Distance {
    Loc,
    Pix,
    Pxb,
    Phb,
    Sys,
    Dis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Cpu,
    Pci,
    Device,
    Gpu,
    Adapter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Local,
    Pci,
    System,
}

#[derive(Debug)]
struct Node {
    kind: Kind,
    /// `numaid` or `busid`.
    id: String,
    links: Vec<(usize, Link)>,
}

/// The graph of a file.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
}

impl Graph {
    /// Builds the graph as if NCCL had found every GPU and adapter of the file in the guest.
    #[must_use]
    pub fn of(system: &Element) -> Self {
        let mut graph = Self::default();
        for cpu in system.below.iter().filter(|cpu| is_used(cpu)) {
            let node = graph.node(Kind::Cpu, cpu.get("numaid"));
            cpu.below.iter().for_each(|pci| graph.add(pci, node));
        }
        graph.connect_processors();
        graph
    }

    /// The `busid` of each GPU.
    pub fn gpus(&self) -> impl Iterator<Item = &str> {
        self.ids(Kind::Gpu)
    }

    /// The `busid` of each network adapter.
    pub fn adapters(&self) -> impl Iterator<Item = &str> {
        self.ids(Kind::Adapter)
    }

    /// The `numaid` of the processor above a device (`findLocalCpu`); `None` if the graph does not have the device.
    #[must_use]
    pub fn numa_id(&self, device: &str) -> Option<u32> {
        let mut seen = BTreeSet::new();
        let mut open = vec![self.find(device)?];
        while let Some(at) = open.pop() {
            let node = &self.nodes[at];
            if node.kind == Kind::Cpu {
                return node.id.parse().ok();
            }
            if seen.insert(at) {
                open.extend(node.links.iter().map(|(to, _)| *to));
            }
        }
        None
    }

    /// How far apart two devices are; `None` if the graph does not have one of them.
    #[must_use]
    pub fn distance(&self, one: &str, other: &str) -> Option<Distance> {
        let (from, to) = (self.find(one)?, self.find(other)?);
        Some(self.distances(from)[to].0)
    }

    fn ids(&self, kind: Kind) -> impl Iterator<Item = &str> {
        let nodes = self.nodes.iter();
        nodes
            .filter(move |node| node.kind == kind)
            .map(|node| node.id.as_str())
    }

    fn find(&self, device: &str) -> Option<usize> {
        let is_it =
            |node: &Node| matches!(node.kind, Kind::Gpu | Kind::Adapter) && node.id == device;
        self.nodes.iter().position(is_it)
    }

    fn node(&mut self, kind: Kind, id: &str) -> usize {
        self.nodes.push(Node {
            kind,
            id: id.to_owned(),
            links: Vec::new(),
        });
        self.nodes.len() - 1
    }

    fn connect(&mut self, one: usize, other: usize, link: Link) {
        self.nodes[one].links.push((other, link));
        self.nodes[other].links.push((one, link));
    }

    /// `ncclTopoAddPci`.
    fn add(&mut self, pci: &Element, parent: usize) {
        let id = pci.get("busid");
        match kind(pci) {
            Kind::Gpu => {
                let device = self.node(Kind::Device, id);
                self.connect(parent, device, Link::Pci);
                let gpu = self.node(Kind::Gpu, id);
                self.connect(device, gpu, Link::Local);
            }
            Kind::Adapter => {
                let adapter = self.node(Kind::Adapter, id);
                self.connect(parent, adapter, Link::Pci);
            }
            _ if is_used(pci) => {
                let switch = self.node(Kind::Pci, id);
                self.connect(parent, switch, Link::Pci);
                pci.below.iter().for_each(|below| self.add(below, switch));
            }
            _ => {}
        }
    }

    /// `ncclTopoConnectCpus`.
    fn connect_processors(&mut self) {
        let cpus = (0..self.nodes.len()).filter(|at| self.nodes[*at].kind == Kind::Cpu);
        let cpus: Vec<usize> = cpus.collect();
        for (index, one) in cpus.iter().enumerate() {
            for other in &cpus[index + 1..] {
                self.connect(*one, *other, Link::System);
            }
        }
    }

    /// From one node to all others, with the number of links (`ncclTopoSetPaths`, without bandwidths).
    fn distances(&self, base: usize) -> Vec<(Distance, usize)> {
        let mut found = vec![(Distance::Dis, usize::MAX); self.nodes.len()];
        found[base] = (Distance::Loc, 0);
        let mut open = vec![base];
        while !open.is_empty() {
            let mut next = Vec::new();
            for at in open {
                let (distance, hops) = found[at];
                for (to, link) in &self.nodes[at].links {
                    if self.is_closed(base, at, *to, *link) {
                        continue;
                    }
                    let new = (distance.max(self.step(at, *to, *link)), hops + 1);
                    if new < found[*to] {
                        found[*to] = new;
                        next.push(*to);
                    }
                }
            }
            open = next;
        }
        found
    }

    /// A path leads through the device of a GPU only from or to that GPU.
    fn is_closed(&self, base: usize, at: usize, to: usize, link: Link) -> bool {
        let own = self.nodes[base].id == self.nodes[at].id;
        let to_gpu = link == Link::Local && self.nodes[to].kind == Kind::Gpu;
        self.nodes[at].kind == Kind::Device && !own && !to_gpu
    }

    fn step(&self, from: usize, to: usize, link: Link) -> Distance {
        match (link, self.nodes[from].kind, self.nodes[to].kind) {
            (Link::Local, ..) => Distance::Loc,
            (Link::System, ..) => Distance::Sys,
            (Link::Pci, Kind::Cpu, _) | (Link::Pci, _, Kind::Cpu) => Distance::Phb,
            (Link::Pci, Kind::Pci, Kind::Pci) => Distance::Pxb,
            (Link::Pci, ..) => Distance::Pix,
        }
    }
}

/// `kvDictPciClass`; a class that is not in it counts as a switch.
fn kind(pci: &Element) -> Kind {
    let class = pci.get("class");
    match class {
        _ if class.starts_with("0x03") => Kind::Gpu,
        _ if class.starts_with("0x02") => Kind::Adapter,
        _ => Kind::Pci,
    }
}

/// A processor or switch without a GPU or adapter below it is removed (`ncclTopoTrimXml`).
fn is_used(element: &Element) -> bool {
    let is_device = element.name == "pci" && kind(element) != Kind::Pci;
    is_device || element.below.iter().any(is_used)
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loc => "LOC",
            Self::Pix => "PIX",
            Self::Pxb => "PXB",
            Self::Phb => "PHB",
            Self::Sys => "SYS",
            Self::Dis => "DIS",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pci(busid: &str, class: &str, below: &str) -> String {
        format!(
            "<pci busid=\"{busid}\" class=\"{class}\" vendor=\"0x10de\" device=\"0x2330\">{below}</pci>"
        )
    }

    fn gpu(busid: &str) -> String {
        pci(busid, "0x030200", "")
    }

    fn adapter(busid: &str) -> String {
        pci(busid, "0x020000", "")
    }

    fn switch(busid: &str, below: &[String]) -> String {
        pci(busid, "0x060400", &below.concat())
    }

    /// Two processors; below the first a switch with another one in it.
    fn graph() -> Graph {
        let inner = switch(
            "ffff:00:01.0",
            &[gpu("0000:02:00.0"), adapter("0000:03:00.0")],
        );
        let outer = switch("ffff:00:00.0", &[gpu("0000:01:00.0"), inner]);
        let first = format!("{outer}{}", adapter("0000:04:00.0"));
        let second = format!("{}{}", gpu("0000:05:00.0"), switch("ffff:00:02.0", &[]));
        let text = format!(
            "<system version=\"1\"><cpu numaid=\"0\" arch=\"arm64\">{first}</cpu><cpu numaid=\"1\" arch=\"arm64\">{second}</cpu></system>"
        );
        Graph::of(&super::super::load(&text).expect("a file"))
    }

    #[test]
    fn the_distance_of_two_devices_is_their_longest_step() {
        let graph = graph();
        for (one, other, wanted) in [
            ("0000:02:00.0", "0000:03:00.0", Distance::Pix),
            ("0000:01:00.0", "0000:03:00.0", Distance::Pxb),
            ("0000:01:00.0", "0000:02:00.0", Distance::Pxb),
            ("0000:02:00.0", "0000:04:00.0", Distance::Phb),
            ("0000:04:00.0", "0000:05:00.0", Distance::Sys),
            ("0000:05:00.0", "0000:05:00.0", Distance::Loc),
        ] {
            assert_eq!(graph.distance(one, other), Some(wanted), "{one} {other}");
            assert_eq!(graph.distance(other, one), Some(wanted), "{other} {one}");
        }
        assert_eq!(graph.distance("0000:01:00.0", "0000:09:00.0"), None);
    }

    #[test]
    fn a_device_is_at_the_processor_above_it() {
        let graph = graph();
        assert_eq!(graph.numa_id("0000:03:00.0"), Some(0));
        assert_eq!(graph.numa_id("0000:05:00.0"), Some(1));
        assert_eq!(graph.numa_id("ffff:00:00.0"), None, "a switch");
        assert_eq!((graph.gpus().count(), graph.adapters().count()), (3, 2));
    }
}
