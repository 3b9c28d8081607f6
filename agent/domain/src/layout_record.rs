//! The record of a NUMA layout that variantd wrote into a definition, in its `<metadata>`, and which of its elements are unchanged.
//!
//! ```xml
//! <variantd:layout xmlns:variantd='urn:variantd:layout:1' digest='0123456789abcdef' cells='0-3:4194304:0 4-7:4194304:1'
//!   pins='2-5,18-21' emulator='1' topology='2 1 1 4 1' distances='10,20 20,10' added='cputune numatune' opened='cpu'/>
//! ```
//!
//! | attribute | value |
//! |---|---|
//! | `digest` | fingerprint of what the layout was computed from |
//! | `cells` | of each cell, by id from 0: vCPUs, memory in KiB, host node |
//! | `pins` | the host CPU of each vCPU, in the order of the vCPUs; ascending runs are shortened |
//! | `emulator`, `iothreads` | host CPUs of the emulator's threads and of the iothreads; the number of iothreads |
//! | `page` | size of the huge pages in KiB; left out for normal pages |
//! | `topology` | sockets, dies, clusters, cores, threads |
//! | `distances` | a row for each cell; left out if the host shows none |
//! | `added`, `opened` | parents that did not exist, and parents that were empty elements |
//!
//! It has a namespace of its own because libvirt keeps one element of each namespace. Each released form must be read by later versions.

use kernel_glue::numa::RangeList;
use roxmltree::Node;

use crate::cell::Cell;
use crate::edit::Element;
use crate::read::{MAX_VCPUS, Reader};
use crate::refusal::Refusal;
use crate::tuning::processors;
use crate::value::{child, children, list, nodeset, page_size, property, value};

/// XML namespace of the record.
pub const LAYOUT_NAMESPACE: &str = "urn:variantd:layout:1";

/// QEMU's limit of NUMA nodes (MAX_NODES, include/sysemu/numa.h).
const MAX_CELLS: usize = 128;

/// The values of a layout as they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The cells, by id from 0.
    pub cells: Vec<RecordedCell>,
    /// The host CPU of each vCPU.
    pub pins: Vec<u32>,
    /// Host CPUs of the emulator's threads and of iothreads.
    pub emulator: RangeList,
    /// How many iothreads are pinned.
    pub iothreads: u32,
    /// Size of the huge pages in KiB.
    pub page_kib: Option<u64>,
    /// Sockets, dies, clusters, cores, threads.
    pub topology: [u32; 5],
    /// Distances between the cells, a row for each; empty if none were written.
    pub distances: Vec<Vec<u8>>,
}

/// A cell as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedCell {
    /// Its vCPUs.
    pub vcpus: RangeList,
    /// Its memory in KiB.
    pub memory_kib: u64,
    /// The host node of its memory.
    pub node: u32,
}

/// `<variantd:layout>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutRecord {
    /// Fingerprint of what the layout was computed from.
    pub digest: String,
    /// What was written.
    pub written: Written,
    /// Names of parents that were added with it.
    pub added: Vec<String>,
    /// Names of parents that were empty elements, such as `<cpu/>`.
    pub opened: Vec<String>,
    /// The record.
    pub element: Element,
    /// `<cpu>`, `<cputune>`, `<numatune>` and `<memoryBacking>`, those that exist.
    pub parents: Vec<LayoutParent>,
    /// Every element of the layout is in the definition as it was written.
    pub is_intact: bool,
}

/// A parent of elements of the layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutParent {
    /// Its name.
    pub name: &'static str,
    /// It.
    pub element: Element,
    /// It has no attributes.
    pub is_bare: bool,
    /// How many elements it has.
    pub children: usize,
    /// Those of the layout that are as they were written. `<numa>` is among them only while it has no other cells.
    pub ours: Vec<Element>,
}

/// The element in `<metadata>`.
fn node<'a, 'i>(metadata: Node<'a, 'i>) -> Option<Node<'a, 'i>> {
    let named = |node: &Node<'_, '_>| node.has_tag_name((LAYOUT_NAMESPACE, "layout"));
    metadata.children().find(named)
}

impl Written {
    /// The attributes of the record, in order.
    #[must_use]
    pub fn attributes(&self) -> Vec<(&'static str, String)> {
        let cell = |cell: &RecordedCell| {
            let (vcpus, memory, node) = (&cell.vcpus, cell.memory_kib, cell.node);
            format!("{vcpus}:{memory}:{node}")
        };
        let words = |words: Vec<String>| words.join(" ");
        let row = |row: &Vec<u8>| {
            let row: Vec<String> = row.iter().map(u8::to_string).collect();
            row.join(",")
        };
        let mut all = vec![
            ("cells", words(self.cells.iter().map(cell).collect())),
            ("pins", runs(&self.pins)),
            ("emulator", self.emulator.to_string()),
        ];
        if self.iothreads > 0 {
            all.push(("iothreads", self.iothreads.to_string()));
        }
        all.extend(self.page_kib.map(|size| ("page", size.to_string())));
        let topology = self.topology.iter().map(u32::to_string).collect();
        all.push(("topology", words(topology)));
        if !self.distances.is_empty() {
            all.push(("distances", words(self.distances.iter().map(row).collect())));
        }
        all
    }

    fn read(node: Node<'_, '_>) -> Result<Self, Refusal> {
        let text = |name| property(node, name).unwrap_or_default();
        let wrong = |name: &str| value(node, name, "it is not as variantd writes it");
        let cells = text("cells").split_whitespace().map(cell);
        let cells: Option<Vec<RecordedCell>> = cells.take(MAX_CELLS + 1).collect();
        let cells = cells.filter(|cells| cells.len() <= MAX_CELLS);
        let topology = text("topology").split_whitespace();
        let topology: Option<Vec<u32>> = topology.take(6).map(|word| word.parse().ok()).collect();
        let distances = text("distances").split_whitespace().take(MAX_CELLS + 1);
        let distances: Option<Vec<Vec<u8>>> = distances.map(row).collect();
        let iothreads = Some(text("iothreads")).filter(|text| !text.is_empty());
        let page = Some(text("page")).filter(|text| !text.is_empty());
        let read = Self {
            cells: cells.ok_or_else(|| wrong("cells"))?,
            pins: pins(text("pins")).ok_or_else(|| wrong("pins"))?,
            emulator: text("emulator").parse().map_err(|_| wrong("emulator"))?,
            iothreads: iothreads
                .map_or(Ok(0), |text| text.parse().map_err(|_| wrong("iothreads")))?,
            page_kib: page
                .map(|text| text.parse().map_err(|_| wrong("page")))
                .transpose()?,
            topology: topology
                .and_then(|all| all.try_into().ok())
                .ok_or_else(|| wrong("topology"))?,
            distances: distances.ok_or_else(|| wrong("distances"))?,
        };
        let square = read
            .distances
            .iter()
            .all(|row| row.len() == read.cells.len());
        let count = read.distances.len();
        match square && (count == 0 || count == read.cells.len()) {
            true => Ok(read),
            false => Err(wrong("distances")),
        }
    }
}

fn cell(word: &str) -> Option<RecordedCell> {
    let (rest, node) = word.rsplit_once(':')?;
    let (vcpus, memory) = rest.split_once(':')?;
    Some(RecordedCell {
        vcpus: vcpus.parse().ok()?,
        memory_kib: memory.parse().ok()?,
        node: node.parse().ok()?,
    })
}

fn row(word: &str) -> Option<Vec<u8>> {
    let values = word.split(',').take(MAX_CELLS + 1);
    values.map(|value| value.parse().ok()).collect()
}

/// Numbers in their order, with ascending runs as `first-last`.
fn runs(numbers: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*number) => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let word = |(first, last): &(u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    runs.iter().map(word).collect::<Vec<_>>().join(",")
}

fn pins(text: &str) -> Option<Vec<u32>> {
    let mut pins = Vec::new();
    for word in text.split(',').filter(|word| !word.is_empty()) {
        let run: RangeList = word.parse().ok()?;
        pins.extend(run.iter());
        if pins.len() > MAX_VCPUS as usize {
            return None;
        }
    }
    Some(pins)
}

impl Reader<'_> {
    /// Reads the record in `<metadata>`, and compares it with the elements of the domain.
    pub(crate) fn layout_record(
        &self,
        root: Node<'_, '_>,
        metadata: Node<'_, '_>,
        cells: &[Cell],
    ) -> Result<Option<LayoutRecord>, Refusal> {
        let Some(node) = node(metadata) else {
            return Ok(None);
        };
        let written = Written::read(node)?;
        let words = |name| {
            let words = property(node, name).unwrap_or_default().split_whitespace();
            words.map(str::to_owned).collect()
        };
        let numa = child(root, "cpu").and_then(|cpu| child(cpu, "numa"));
        let nodes = numa.into_iter().flat_map(|numa| children(numa, "cell"));
        // As written: `cells` has the vCPUs that no cell names in cell 0.
        let cpus = nodes.map(|node| Ok(list(node, "cpus")?.unwrap_or_default()));
        let cpus: Vec<RangeList> = cpus.collect::<Result<_, Refusal>>()?;
        let cells: Vec<(&Cell, RangeList)> = cells.iter().zip(cpus).collect();
        let in_cpu = |node: Node<'_, '_>| match node.tag_name().name() {
            "topology" => Ok(processors(node)? == written.topology),
            "numa" => Ok(has_cells(&written, &cells) && cells.len() == written.cells.len()),
            _ => Ok(false),
        };
        let found = [
            self.parent(root, "cpu", &in_cpu)?,
            self.parent(root, "cputune", &|node| is_pin(&written, node))?,
            self.parent(root, "numatune", &|node| is_binding(&written, node))?,
            self.parent(root, "memoryBacking", &|node| is_backing(&written, node))?,
        ];
        let count = |name| {
            let mut parents = found.iter().flatten();
            let parent = parents.find(|parent| parent.name == name);
            parent.map_or(0, |parent| parent.ours.len())
        };
        let cpu = child(root, "cpu").and_then(|cpu| child(cpu, "topology"));
        let topology = cpu.map(processors).transpose()?;
        let pinned = written.pins.len() + 1 + written.iothreads as usize;
        let is_intact = topology == Some(written.topology)
            && has_cells(&written, &cells)
            && count("cputune") == pinned
            && count("numatune") == written.cells.len()
            && count("memoryBacking") == usize::from(written.page_kib.is_some());
        Ok(Some(LayoutRecord {
            digest: property(node, "digest").unwrap_or_default().to_owned(),
            written,
            added: words("added"),
            opened: words("opened"),
            element: self.element(node),
            parents: found.into_iter().flatten().collect(),
            is_intact,
        }))
    }

    fn parent(
        &self,
        root: Node<'_, '_>,
        name: &'static str,
        is_ours: &dyn Fn(Node<'_, '_>) -> Result<bool, Refusal>,
    ) -> Result<Option<LayoutParent>, Refusal> {
        let Some(node) = child(root, name) else {
            return Ok(None);
        };
        let (mut ours, mut children) = (Vec::new(), 0);
        for one in node.children().filter(Node::is_element) {
            children += 1;
            if one.tag_name().namespace().is_none() && is_ours(one)? {
                ours.push(self.element(one));
            }
        }
        Ok(Some(LayoutParent {
            name,
            element: self.element(node),
            is_bare: node.attributes().len() == 0,
            children,
            ours,
        }))
    }
}

fn number_of(node: Node<'_, '_>, name: &str) -> Option<u32> {
    property(node, name)?.parse().ok()
}

/// Every cell is as it was written; cells without CPUs and memory may follow, and have distances of their own.
fn has_cells(written: &Written, cells: &[(&Cell, RangeList)]) -> bool {
    let own = |(id, cell): (usize, &RecordedCell)| {
        let found = cells.iter().find(|(one, _)| one.id as usize == id);
        found.is_some_and(|(found, cpus)| {
            let distances = written.distances.get(id);
            let mut distances = (0..).zip(distances.into_iter().flatten());
            *cpus == cell.vcpus
                && found.memory_kib == cell.memory_kib
                && distances.all(|(to, value): (u32, _)| found.distances.get(&to) == Some(value))
        })
    };
    let count = written.cells.len();
    written.cells.iter().enumerate().all(own)
        && (cells.iter().filter(|(cell, _)| cell.id as usize >= count))
            .all(|(cell, _)| cell.is_empty())
}

/// `<vcpupin>`, `<emulatorpin>` or `<iothreadpin>`.
fn is_pin(written: &Written, node: Node<'_, '_>) -> Result<bool, Refusal> {
    let cpus = list(node, "cpuset")?.unwrap_or_default();
    Ok(match node.tag_name().name() {
        "vcpupin" => {
            let vcpu = number_of(node, "vcpu");
            let pin = vcpu.and_then(|vcpu| written.pins.get(vcpu as usize));
            pin.is_some_and(|cpu| cpus.len() == 1 && cpus.contains(*cpu))
        }
        "emulatorpin" => cpus == written.emulator,
        "iothreadpin" => {
            let thread = number_of(node, "iothread");
            thread.is_some_and(|thread| (1..=written.iothreads).contains(&thread))
                && cpus == written.emulator
        }
        _ => false,
    })
}

/// `<memnode>`.
fn is_binding(written: &Written, node: Node<'_, '_>) -> Result<bool, Refusal> {
    if node.tag_name().name() != "memnode" || property(node, "mode") != Some("strict") {
        return Ok(false);
    }
    let cell = number_of(node, "cellid").and_then(|cell| written.cells.get(cell as usize));
    let nodes = nodeset(node)?.unwrap_or_default();
    Ok(cell.is_some_and(|cell| nodes.len() == 1 && nodes.contains(cell.node)))
}

/// `<hugepages>` with one size for all cells.
fn is_backing(written: &Written, node: Node<'_, '_>) -> Result<bool, Refusal> {
    let (Some(size), "hugepages") = (written.page_kib, node.tag_name().name()) else {
        return Ok(false);
    };
    let pages: Vec<Node<'_, '_>> = children(node, "page").collect();
    let [page] = pages[..] else {
        return Ok(false);
    };
    let cells = RangeList::from(0..u32::try_from(written.cells.len()).unwrap_or(u32::MAX));
    Ok(page_size(page)? == size && nodeset(page)? == Some(cells))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Domain;

    const PARTS: &str = "<metadata><v:layout xmlns:v='urn:variantd:layout:1' digest='aa' cells='0-1:2048:0 2-3:2048:1' \
        pins='2,4,6-7' emulator='0-1' page='2048' topology='2 1 1 2 1' distances='10,20 20,10' added='cputune' opened=''/></metadata>";

    fn domain(inner: &str) -> Result<Domain, Refusal> {
        Domain::parse(&format!(
            "<domain><name>g</name>{inner}<vcpu>4</vcpu><devices/></domain>"
        ))
    }

    fn definition(pin: u32, dies: &str) -> String {
        let pins = [(0, 2), (1, 4), (2, 6), (3, pin)];
        let pins = pins.map(|(vcpu, cpu)| format!("<vcpupin vcpu='{vcpu}' cpuset='{cpu}'/>"));
        let sibling = |own: u32| {
            let one = |id: u32| {
                format!(
                    "<sibling id='{id}' value='{}'/>",
                    if id == own { 10 } else { 20 }
                )
            };
            format!("<distances>{}{}</distances>", one(0), one(1))
        };
        format!(
            "{PARTS}<memoryBacking><hugepages><page size='2048' unit='KiB' nodeset='0-1'/></hugepages></memoryBacking>\
             <cputune>{}<emulatorpin cpuset='0-1'/></cputune>\
             <numatune><memnode cellid='0' mode='strict' nodeset='0'/><memnode cellid='1' mode='strict' nodeset='1'/></numatune>\
             <cpu><topology sockets='2' {dies} cores='2' threads='1'/><numa><cell id='0' cpus='0-1' memory='2048' unit='KiB'>{}</cell>\
             <cell id='1' cpus='2-3' memory='2048' unit='KiB'>{}</cell></numa></cpu>",
            pins.concat(),
            sibling(0),
            sibling(1)
        )
    }

    #[test]
    fn a_record_is_written_as_it_was_read() {
        let record = domain(PARTS).expect("a domain").layout.expect("a record");
        assert_eq!(record.written.pins, [2, 4, 6, 7]);
        let attributes = record.written.attributes();
        let printed: Vec<String> = attributes
            .iter()
            .map(|(n, v)| format!("{n}='{v}'"))
            .collect();
        assert!(PARTS.contains(&printed.join(" ")), "{printed:?}");
        assert!(!record.is_intact, "the domain has none of the elements");
    }

    #[test]
    fn a_layout_is_intact_while_each_element_has_its_value() {
        let intact = |text: String| domain(&text).expect("a domain").layout.expect("a record");
        assert!(intact(definition(7, "")).is_intact);
        assert!(intact(definition(7, "dies='1' clusters='1'")).is_intact);
        let edited = intact(definition(8, ""));
        assert!(!edited.is_intact);
        let cputune = edited
            .parents
            .iter()
            .find(|parent| parent.name == "cputune");
        let cputune = cputune.expect("<cputune>");
        assert_eq!((cputune.children, cputune.ours.len()), (5, 4));
        assert!(!intact(definition(7, "dies='2'")).is_intact);
        let initiator = definition(7, "").replace("</numa>", "<cell id='2' memory='0'/></numa>");
        assert!(
            intact(initiator.clone()).is_intact,
            "an initiator's cell may follow"
        );
        let cell = initiator.replace("id='2' memory='0'", "id='2' memory='1024'");
        assert!(!intact(cell).is_intact);
    }

    #[test]
    fn a_record_that_variantd_did_not_write_is_refused() {
        for (old, new) in [
            ("2,4,6-7", "x"),
            ("2,4,6-7", &"0-65535,".repeat(3)),
            ("2 1 1 2 1", "2 1"),
            ("10,20 20,10", "10,20 20"),
            ("0-1:2048:0", "0-1"),
            ("page='2048'", "page='-1'"),
        ] {
            let refusal = domain(&PARTS.replace(old, new)).expect_err(new);
            assert_eq!(
                refusal.code,
                crate::code::Code::XmlValue,
                "{new}: {refusal}"
            );
        }
    }
}
