//! Layouts on modelled hosts.

use std::collections::BTreeSet;

use kernel_glue::capacity::Pages;
use kernel_glue::numa::{Node, Numa};
use proptest::prelude::*;

use super::*;
use crate::fixture::{address, device};
use domain::edit::apply;

const GIB: u64 = 1 << 20;

/// A host of equal nodes, CPUs numbered thread by thread as on x86, with a device `000N:01:00.0` on each node N.
#[derive(Clone, Copy, Debug)]
struct Machine {
    nodes: u32,
    cores: u32,
    threads: u32,
    /// Cores that share a cache.
    cache: u32,
    memory_kib: u64,
    /// 2 MiB and 1 GiB pages that are free on each node.
    pages: [u64; 2],
    /// Every CPU whose number is a multiple of this is offline; 0 for none.
    offline: u32,
}

const PLAIN: Machine = Machine {
    nodes: 2,
    cores: 8,
    threads: 1,
    cache: 8,
    memory_kib: 64 * GIB,
    pages: [0, 0],
    offline: 0,
};

fn node(id: u32) -> NumaNode {
    id.try_into().expect("a node")
}

impl Machine {
    fn cpus(&self, at: u32) -> Vec<u32> {
        let of = |thread: u32| {
            let first = (thread * self.nodes + at) * self.cores;
            first..first + self.cores
        };
        (0..self.threads).flat_map(of).collect()
    }

    fn is_online(&self, cpu: u32) -> bool {
        self.offline == 0 || !cpu.is_multiple_of(self.offline)
    }

    fn online(&self, at: u32) -> Vec<u32> {
        let cpus = self.cpus(at).into_iter();
        cpus.filter(|cpu| self.is_online(*cpu)).collect()
    }

    fn host(&self) -> Host {
        let distance = |from: u32, to: u32| if from == to { 10 } else { 20 };
        let nodes = (0..self.nodes).map(|id| Node {
            id: node(id),
            cpus: self.online(id).into_iter().collect(),
            memory_kib: self.memory_kib,
            distances: (0..self.nodes).map(|to| distance(id, to)).collect(),
        });
        let devices = (0..self.nodes).map(|id| {
            let mut one = device(&format!("000{id}:01:00.0"), "10de:2330", "vfio-pci");
            one.numa_node = Some(node(id));
            (one.address, one)
        });
        Host {
            devices: devices.collect(),
            numa: Numa {
                nodes: nodes.collect(),
                generic_initiators: None,
            },
            ..Host::default()
        }
    }

    fn capacity(&self) -> Capacity {
        let all: Vec<u32> = (0..self.nodes).flat_map(|at| self.cpus(at)).collect();
        let (online, offline): (Vec<u32>, Vec<u32>) =
            all.iter().partition(|cpu| self.is_online(**cpu));
        let group = |at: u32, wanted: &dyn Fn(u32) -> bool| -> RangeList {
            let cpus = self
                .cpus(at)
                .into_iter()
                .filter(|cpu| wanted(cpu % self.cores));
            cpus.filter(|cpu| self.is_online(*cpu)).collect()
        };
        let groups = |size: u32| -> Vec<RangeList> {
            let of = |at: u32| (0..self.cores.div_ceil(size)).map(move |place| (at, place));
            let all = (0..self.nodes).flat_map(of);
            let lists = all.map(|(at, place)| group(at, &|core| core / size == place));
            lists.filter(|list| !list.is_empty()).collect()
        };
        let pages = (0..self.nodes).flat_map(|id| {
            [(2048, self.pages[0]), (GIB, self.pages[1])].map(|(size_kib, free)| Pages {
                node: node(id),
                size_kib,
                total: free,
                free,
            })
        });
        Capacity {
            online: Some(online.into_iter().collect()),
            offline: offline.into_iter().collect(),
            cores: groups(1),
            clusters: Vec::new(),
            caches: groups(self.cache),
            pages: pages.collect(),
            gaps: Vec::new(),
        }
    }

    fn layout(&self, others: &[Other], text: &str) -> Result<Layout, Refusal> {
        let (host, capacity) = (self.host(), self.capacity());
        let input = LayoutInput {
            host: &host,
            capacity: &capacity,
            others,
        };
        layout(&input, &Domain::parse(text).expect("a domain"))
    }
}

fn guest(vcpus: u32, kib: u64, devices: &[u32], inner: &str) -> String {
    let devices = devices.iter().map(|id| {
        format!("<hostdev mode='subsystem' type='pci'><source><address domain='{id}' bus='1' slot='0' function='0'/></source></hostdev>")
    });
    let devices: String = devices.collect();
    format!(
        "<domain type='kvm'>\n  <name>g</name>\n  <memory unit='KiB'>{kib}</memory>\n  <vcpu>{vcpus}</vcpu>\n  {inner}\n  <os><type arch='x86_64' machine='q35'>hvm</type></os>\n  <devices>{devices}</devices>\n</domain>\n"
    )
}

fn other(name: &str, pins: &str) -> Other {
    let text = format!(
        "<domain><name>{name}</name><vcpu>1</vcpu><cputune><vcpupin vcpu='0' cpuset='{pins}'/></cputune><devices/></domain>"
    );
    Other::of(&PLAIN.host().numa, &Domain::parse(&text).expect("a domain"))
}

fn nodes(layout: &Layout) -> Vec<u32> {
    layout.cells.iter().map(|cell| cell.node.into()).collect()
}

fn pins(layout: &Layout) -> Vec<String> {
    layout
        .cells
        .iter()
        .map(|cell| format!("{:?}", cell.pins))
        .collect()
}

fn codes(layout: &Layout) -> Vec<Code> {
    layout.notes.iter().map(|note| note.code).collect()
}

#[test]
fn cells_are_on_the_nodes_of_the_devices() {
    for (devices, wanted) in [(&[][..], &[0][..]), (&[1], &[1]), (&[1, 0], &[0, 1])] {
        let layout = PLAIN
            .layout(&[], &guest(4, 4 * GIB, devices, ""))
            .expect("a layout");
        assert_eq!(nodes(&layout), wanted);
        assert_eq!(layout.locked, !devices.is_empty());
    }
    let both = PLAIN
        .layout(&[], &guest(4, 4 * GIB, &[0, 1], ""))
        .expect("a layout");
    let memory: Vec<u64> = both.cells.iter().map(|cell| cell.memory_kib).collect();
    assert_eq!(memory, [2 * GIB, 2 * GIB]);
    assert_eq!(both.cells[1].distances, [20, 10]);
    assert_eq!(both.cells[1].devices, [address("0001:01:00.0")]);
    assert_eq!(both.emulator.to_string(), "2");
}

#[test]
fn a_guest_that_is_too_large_for_its_node_also_gets_the_next() {
    let layout = PLAIN
        .layout(&[], &guest(12, 4 * GIB, &[1], ""))
        .expect("a layout");
    assert_eq!(nodes(&layout), [0, 1]);
    let large = PLAIN
        .layout(&[], &guest(2, 100 * GIB, &[1], ""))
        .expect("a layout");
    assert_eq!(nodes(&large), [0, 1]);
}

#[test]
fn siblings_are_threads_of_one_guest_core() {
    let smt = Machine {
        threads: 2,
        cache: 4,
        ..PLAIN
    };
    let layout = smt.layout(&[], &guest(4, GIB, &[1], "")).expect("a layout");
    assert_eq!(pins(&layout), ["[8, 24, 9, 25]"]);
    let Topology {
        sockets,
        dies,
        cores,
        threads,
        ..
    } = layout.topology;
    assert_eq!((sockets, dies, cores, threads), (1, 1, 2, 2));
    let odd = smt.layout(&[], &guest(3, GIB, &[1], "")).expect("a layout");
    assert_eq!(pins(&odd), ["[8, 24, 9]"]);
    assert_eq!((odd.topology.cores, odd.topology.threads), (3, 1));
    assert!(codes(&odd).contains(&Code::LayoutShared), "{odd:?}");
    let caches = smt
        .layout(&[], &guest(16, GIB, &[1], ""))
        .expect("a layout");
    assert_eq!((caches.topology.dies, caches.topology.cores), (2, 4));
}

#[test]
fn cpus_of_another_guest_are_left_out_and_it_is_named() {
    let others = [other("a", "0-2"), other("b", "12")];
    let layout = PLAIN
        .layout(&others, &guest(4, GIB, &[0], ""))
        .expect("a layout");
    assert_eq!(pins(&layout), ["[3, 4, 5, 6]"]);
    let held = layout
        .notes
        .iter()
        .find(|note| note.code == Code::LayoutHeld);
    assert_eq!(
        held.expect("a note").text,
        "guest 'a' holds CPUs 0-2 of node 0"
    );
    let refusal = PLAIN
        .layout(&others, &guest(13, GIB, &[0], ""))
        .expect_err("no room");
    assert_eq!(refusal.code, Code::LayoutNoRoom);
    let why = "the guest has 13 vCPUs, and 12 CPUs of the host are free ('a', 'b' hold the rest)";
    assert_eq!(refusal.reason, why);
}

#[test]
fn a_pin_to_a_whole_node_holds_no_cpu() {
    let layout = PLAIN.layout(&[other("floats", "0-7")], &guest(8, GIB, &[0], ""));
    assert_eq!(nodes(&layout.expect("a layout")), [0]);
}

#[test]
fn memory_of_another_guest_is_left_out() {
    let bound = "<domain><name>m</name><memory unit='GiB'>63</memory><numatune><memory mode='strict' nodeset='0'/></numatune><devices/></domain>";
    let numa = PLAIN.host().numa;
    let others = [Other::of(&numa, &Domain::parse(bound).expect("a domain"))];
    let layout = PLAIN
        .layout(&others, &guest(2, 2 * GIB, &[0], ""))
        .expect("a layout");
    assert_eq!(nodes(&layout), [0, 1]);
    let refusal = PLAIN
        .layout(&others, &guest(2, 66 * GIB, &[0], ""))
        .expect_err("no room");
    let why = "the guest has 67584 MiB of memory, and 66560 MiB of the host's nodes are free ('m' hold the rest)";
    assert_eq!(refusal.reason, why);
}

#[test]
fn the_largest_huge_pages_that_all_nodes_have_are_used() {
    let with = |pages: [u64; 2], kib: u64| {
        let machine = Machine { pages, ..PLAIN };
        machine
            .layout(&[], &guest(4, kib, &[0, 1], ""))
            .expect("a layout")
    };
    assert_eq!(with([4096, 2], 4 * GIB).page_kib, Some(GIB));
    assert_eq!(with([1024, 1], 4 * GIB).page_kib, Some(2048));
    assert_eq!(with([1024, 2], 3 * GIB).page_kib, Some(GIB));
    let short = with([1023, 1], 4 * GIB);
    assert_eq!(
        (short.page_kib, codes(&short)),
        (None, vec![Code::LayoutPages])
    );
    let text = "node 0 has 1 free huge pages of 1 GiB, and its cell needs 2";
    assert_eq!(short.notes[0].text, text);
    assert_eq!(codes(&with([0, 0], GIB)), [Code::LayoutPages]);
}

#[test]
fn what_libvirt_or_qemu_refuses_is_refused() {
    let machine = Machine {
        offline: 5,
        pages: [1, 0],
        ..PLAIN
    };
    for (inner, reason) in [
        (
            "<cputune><vcpupin vcpu='1' cpuset='5,99'/></cputune>",
            "vCPU 1 is pinned to CPUs 5,99, and none of them is online",
        ),
        (
            "<numatune><memnode cellid='3' nodeset='0'/></numatune>",
            "<memnode> binds cell 3, which does not exist",
        ),
        (
            "<numatune><memnode cellid='0' nodeset='7'/></numatune><cpu><numa><cell id='0' cpus='0-3' memory='4'/></numa></cpu>",
            "<memnode> of cell 0 names node 7, which the host does not have",
        ),
        (
            "<cpu><numa><cell id='0' cpus='0-3' memory='4'/><cell id='1' cpus='3' memory='4'/></numa></cpu>",
            "vCPU 3 is in two cells",
        ),
        (
            "<memoryBacking><hugepages><page size='512' unit='MiB'/></hugepages></memoryBacking>",
            "<hugepages> wants pages of 512 MiB, and the host has 2 MiB, 1 GiB",
        ),
    ] {
        let refusal = machine
            .layout(&[], &guest(4, GIB, &[0], inner))
            .expect_err(inner);
        assert_eq!(
            (refusal.code, &*refusal.reason),
            (Code::BindingInvalid, reason)
        );
    }
}

#[test]
fn a_layout_that_only_performs_badly_is_a_note() {
    for (inner, text) in [
        (
            "<cputune><vcpupin vcpu='0' cpuset='5-6'/></cputune>",
            "vCPU 0 is pinned to CPUs 5 too, which are not online",
        ),
        (
            "<numatune><memnode cellid='0' nodeset='0-1'/></numatune><cpu><numa><cell id='0' cpus='0' memory='4'/></numa></cpu>",
            "<memnode> of cell 0 spans nodes 0-1, so its memory is near no single one",
        ),
        (
            "<cputune><vcpupin vcpu='0' cpuset='9'/></cputune>",
            "it is on node 0, and all vCPUs are pinned to other nodes",
        ),
    ] {
        let machine = Machine {
            offline: 5,
            ..PLAIN
        };
        let layout = machine
            .layout(&[], &guest(1, GIB, &[0], inner))
            .expect("a layout");
        let wrong = layout
            .notes
            .iter()
            .find(|note| note.code == Code::LocalityWrong);
        assert_eq!(wrong.map(|note| &*note.text), Some(text));
    }
}

/// A cell without memory is refused by libvirt. Three cells of unequal size, and two huge pages of 1 GiB.
#[test]
fn each_cell_has_memory_even_where_a_huge_page_is_larger_than_its_share() {
    let machine = Machine {
        nodes: 3,
        cores: 2,
        pages: [2048, 9],
        ..PLAIN
    };
    let layout = machine
        .layout(&[], &guest(5, 2 * GIB, &[0, 1, 2], ""))
        .expect("a layout");
    assert_eq!(layout.page_kib, Some(2048));
    let all: Vec<u64> = layout.cells.iter().map(|cell| cell.memory_kib).collect();
    assert!(all.iter().all(|kib| *kib > 0), "{all:?}");
    // One GiB page for the smallest of two cells, whose exact share is below one half.
    let two = machine
        .layout(&[], &guest(3, 2 * GIB, &[0, 1], ""))
        .expect("a layout");
    let all: Vec<u64> = two.cells.iter().map(|cell| cell.memory_kib).collect();
    assert_eq!((two.page_kib, all), (Some(GIB), vec![GIB, GIB]));
}

/// 20,000 vCPUs, each pinned to 16,384 CPUs: work for each number would take minutes.
#[test]
fn many_wide_pins_are_judged_by_their_ranges() {
    let pins = (0..20_000).map(|vcpu| format!("<vcpupin vcpu='{vcpu}' cpuset='0-16383'/>"));
    let pins: String = pins.collect();
    let text = guest(20_000, GIB, &[0], &format!("<cputune>{pins}</cputune>"));
    let domain = Domain::parse(&text).expect("a domain");
    let host = PLAIN.host();
    let facts = locality::Facts {
        host: &host,
        capacity: None,
    };
    let notes: Vec<String> = locality::notes(&facts, &domain)
        .into_iter()
        .map(|note| note.text)
        .collect();
    assert_eq!(
        notes,
        ["vCPUs 0-19999 are pinned to CPUs 16-16383 too, which are not online"]
    );
    let other = Other::of(&host.numa, &domain);
    assert!(
        !other.cpus().contains(0),
        "the scheduler has all CPUs of a node"
    );
    let refusal = PLAIN.layout(&[], &text).expect_err("no room");
    assert_eq!(refusal.code, Code::LayoutNoRoom);
}

#[test]
fn the_written_layout_is_that_of_the_definition() {
    let text = guest(
        4,
        4 * GIB,
        &[0, 1],
        "<iothreads>2</iothreads><cputune><shares>9</shares></cputune>",
    );
    let machine = Machine {
        pages: [0, 4],
        ..PLAIN
    };
    let layout = machine.layout(&[], &text).expect("a layout");
    let domain = Domain::parse(&text).expect("a domain");
    let written = apply(&text, &edits(&layout, &domain).expect("edits")).expect("no overlap");
    insta::assert_snapshot!(written);
    let domain = Domain::parse(&written).expect("a domain");
    assert_eq!(
        edits(&layout, &domain).expect_err("its own").code,
        Code::LayoutTaken
    );
    assert_eq!(machine.layout(&[], &written).expect("a layout"), layout);
}

fn machines() -> impl Strategy<Value = Machine> {
    let sizes = (1u32..5, 1u32..9, 1u32..3, 1u32..9);
    let rest = (
        1u64..9,
        [0u64..4096, 0u64..9],
        prop_oneof![Just(0u32), 2u32..9],
    );
    (sizes, rest).prop_map(
        |((nodes, cores, threads, cache), (gib, pages, offline))| Machine {
            nodes,
            cores,
            threads,
            cache,
            memory_kib: gib * GIB,
            pages,
            offline,
        },
    )
}

proptest! {
    #[test]
    fn a_layout_pins_each_vcpu_once_and_shares_no_cpu(
        machine in machines(),
        vcpus in 1u32..40,
        mib in 1u64..20_000,
        wanted in prop::collection::vec(0u32..4, 0..4),
        held in prop::collection::vec(0u32..64, 0..8),
    ) {
        let devices: Vec<u32> = wanted.into_iter().filter(|id| *id < machine.nodes).collect();
        let devices: Vec<u32> = devices.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        let held: RangeList = held.into_iter().collect();
        let numa = machine.host().numa;
        let others: Vec<Other> = if held.is_empty() { Vec::new() } else {
            let text = format!("<domain><name>o</name><vcpu>1</vcpu><cputune><vcpupin vcpu='0' cpuset='{held}'/></cputune><devices/></domain>");
            vec![Other::of(&numa, &Domain::parse(&text).expect("a domain"))]
        };
        let text = guest(vcpus, mib << 10, &devices, "");
        let free: Vec<u32> = (0..machine.nodes).flat_map(|at| machine.online(at))
            .filter(|cpu| !others.iter().any(|one| one.cpus().contains(*cpu))).collect();
        match machine.layout(&others, &text) {
            Err(refusal) => {
                prop_assert_eq!(refusal.code, Code::LayoutNoRoom);
                let cells = u64::from(machine.nodes);
                let fits = free.len() >= vcpus as usize && machine.memory_kib * cells >= mib << 10;
                // A guest with fewer vCPUs than nodes, or a node without free CPUs, cannot use the memory of all nodes.
                let all = vcpus >= machine.nodes
                    && (0..machine.nodes).all(|at| machine.online(at).iter().any(|cpu| free.contains(cpu)));
                prop_assert!(!(fits && all && mib >= cells), "{}", refusal);
            }
            Ok(layout) => {
                let pins: Vec<u32> = layout.cells.iter().flat_map(|cell| cell.pins.clone()).collect();
                prop_assert_eq!(pins.len(), vcpus as usize);
                prop_assert_eq!(pins.iter().collect::<BTreeSet<_>>().len(), pins.len());
                prop_assert!(pins.iter().all(|cpu| free.contains(cpu)));
                let mut next = 0;
                for cell in &layout.cells {
                    prop_assert!(!cell.pins.is_empty() && cell.first == next);
                    next += count(&cell.pins);
                    let own = machine.online(cell.node.into());
                    prop_assert!(cell.pins.iter().all(|cpu| own.contains(cpu)));
                    prop_assert!(cell.memory_kib > 0);
                    match layout.page_kib {
                        None => prop_assert!(cell.memory_kib <= machine.memory_kib),
                        Some(size) => {
                            let pages = machine.pages[usize::from(size == GIB)];
                            prop_assert!(cell.memory_kib % size == 0 && cell.memory_kib / size <= pages);
                        }
                    }
                }
                let memory: u64 = layout.cells.iter().map(|cell| cell.memory_kib).sum();
                prop_assert_eq!(memory, mib << 10);
                let Topology { sockets, dies, clusters, cores, threads } = layout.topology;
                prop_assert_eq!(sockets * dies * clusters * cores * threads, vcpus);
                prop_assert!(layout.emulator.iter().all(|cpu| free.contains(&cpu)));
                let again = machine.layout(&others, &text);
                prop_assert_eq!(again.as_ref(), Ok(&layout));
                let domain = Domain::parse(&text).expect("a domain");
                let edits = edits(&layout, &domain).expect("edits");
                let written = Domain::parse(&apply(&text, &edits).expect("no overlap")).expect("a domain");
                prop_assert_eq!(written.memory_kib, mib << 10);
                for cell in &layout.cells {
                    let has = &written.cells[cell.id as usize];
                    prop_assert_eq!(&has.cpus, &cell.vcpus());
                    let bound = crate::plan::binding::node(&numa, &written, cell.id);
                    prop_assert_eq!(bound, Some(cell.node));
                }
            }
        }
    }

    #[test]
    fn a_split_to_all_gives_each_part_something_where_that_fits(
        total in 0u64..100,
        parts in prop::collection::vec((1u64..50, 0u64..40), 1..6),
    ) {
        let (weights, limits): (Vec<u64>, Vec<u64>) = parts.into_iter().unzip();
        let fits = limits.iter().sum::<u64>() >= total && total >= weights.len() as u64 && !limits.contains(&0);
        let shares = split_to_all(total, &weights, &limits);
        prop_assert_eq!(shares.is_some(), fits);
        let shares = shares.unwrap_or_default();
        prop_assert!(shares.iter().zip(&limits).all(|(share, limit)| (1..=*limit).contains(share)));
        prop_assert!(shares.is_empty() || shares.iter().sum::<u64>() == total);
    }

    #[test]
    fn a_split_adds_up_and_keeps_its_limits(
        total in 0u64..1000,
        parts in prop::collection::vec((1u64..50, 0u64..400), 1..6),
    ) {
        let (weights, limits): (Vec<u64>, Vec<u64>) = parts.into_iter().unzip();
        match split(total, &weights, &limits) {
            None => prop_assert!(limits.iter().sum::<u64>() < total),
            Some(shares) => {
                prop_assert_eq!(shares.iter().sum::<u64>(), total);
                prop_assert!(shares.iter().zip(&limits).all(|(share, limit)| share <= limit));
            }
        }
    }
}
