//! The host node of a guest cell: by its memory, else by the host processors on which its vCPUs run.
//!
//! Follows libvirt's formatdomain: `<memnode>` places one cell's memory and `<numatune><memory>` that of all others; `<vcpupin>`
//! pins one processor and `<vcpu cpuset>` all others. `<emulatorpin>` has no effect on either.

use kernel_glue::numa::{Numa, NumaNode, RangeList};

use domain::{Domain, MemoryNode};

/// The host node of a cell; `None` if nothing binds it to one node.
pub fn node(numa: &Numa, domain: &Domain, cell: u32) -> Option<NumaNode> {
    let own = domain.memory_nodes.iter().find(|node| node.cell == cell);
    let memory = own.map(|own| &own.nodes).or(domain.binding.memory.as_ref());
    let by_memory = memory.filter(|nodes| nodes.len() == 1);
    let by_memory = by_memory.and_then(|nodes| NumaNode::try_from(nodes.iter().next()?).ok());
    by_memory.or_else(|| pinned(numa, domain, cell))
}

/// The first cell on a node: by `<memnode>`, else by the binding of its memory or its processors.
pub fn cell_on(numa: &Numa, domain: &Domain, node: NumaNode) -> Option<u32> {
    let alone = |bound: &&MemoryNode| bound.nodes.iter().eq([u32::from(node)]);
    let named = domain.memory_nodes.iter().find(alone);
    named.map(|bound| bound.cell).or_else(|| {
        let mut cells = domain.cells.iter().filter(|cell| !cell.is_empty());
        let here = |id: u32| self::node(numa, domain, id) == Some(node);
        cells.find(|cell| here(cell.id)).map(|cell| cell.id)
    })
}

/// The only node of the host that has processors: every guest runs there.
pub(super) fn only_socket(numa: &Numa) -> Option<NumaNode> {
    let mut sockets = numa.sockets();
    let first = sockets.next()?;
    sockets.next().is_none().then_some(first.id)
}

/// The node that has all processors on which the vCPUs of a cell may run.
fn pinned(numa: &Numa, domain: &Domain, cell: u32) -> Option<NumaNode> {
    let all = RangeList::from(0..domain.vcpus);
    let own = match domain.cells.is_empty() {
        true => Some(&all),
        false => domain.cell(cell).map(|cell| &cell.cpus),
    };
    let own = own.filter(|own| !own.is_empty())?;
    let binding = &domain.binding;
    let may_run = |cpu: u32| binding.pins.get(&cpu).or(binding.cpuset.as_ref());
    let first = may_run(own.iter().next()?)?.iter().next()?;
    let node = numa.nodes.iter().find(|node| node.cpus.contains(first))?;
    let within = |pin: &RangeList| pin.without(&node.cpus).is_empty();
    let all_within = own.iter().all(|cpu| may_run(cpu).is_some_and(within));
    all_within.then_some(node.id)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{guest, host};
    use super::*;

    /// Cells 0 and 1 with two processors each, on a host whose nodes 0 and 1 have processors 0 to 71 and 72 to 143.
    fn bound(tuning: &str, cells: bool) -> [Option<u32>; 2] {
        let numa = "<cpu mode='host-passthrough'><numa><cell id='0' cpus='0-1' memory='1024'/><cell id='1' cpus='2-3' memory='1024'/></numa></cpu>";
        let mut text = guest("").replace("<vcpu>4</vcpu>", tuning);
        if cells {
            text = text.replace("<cpu mode='host-passthrough'/>", numa);
        }
        let domain = Domain::parse(&text).expect("a domain");
        [0, 1].map(|cell| node(&host().numa, &domain, cell).map(u32::from))
    }

    #[test]
    fn memory_binds_a_cell_before_processors_do() {
        let pins = |cpus: [&str; 4]| -> String {
            let pin =
                |(vcpu, cpus): (usize, &&str)| format!("<vcpupin vcpu='{vcpu}' cpuset='{cpus}'/>");
            cpus.iter().enumerate().map(pin).collect()
        };
        let far = pins(["80", "81", "72-143", "90"]);
        for (tuning, wanted) in [
            ("<vcpu>4</vcpu>".to_owned(), [None, None]),
            ("<vcpu cpuset='72-80'>4</vcpu>".to_owned(), [Some(1), Some(1)]),
            ("<vcpu cpuset='70-80'>4</vcpu>".to_owned(), [None, None]),
            (
                "<vcpu placement='auto' cpuset='72-80'>4</vcpu>".to_owned(),
                [None, None],
            ),
            (
                format!("<vcpu>4</vcpu><cputune>{far}</cputune>"),
                [Some(1), Some(1)],
            ),
            (
                "<vcpu cpuset='0-7'>4</vcpu><cputune><vcpupin vcpu='3' cpuset='72'/></cputune>".to_owned(),
                [Some(0), None],
            ),
            (
                "<vcpu>4</vcpu><cputune><emulatorpin cpuset='72'/></cputune>".to_owned(),
                [None, None],
            ),
            (
                "<vcpu cpuset='0-7'>4</vcpu><numatune><memory mode='strict' nodeset='1'/></numatune>".to_owned(),
                [Some(1), Some(1)],
            ),
            (
                "<vcpu cpuset='0-7'>4</vcpu><numatune><memory mode='strict' nodeset='1'/><memnode cellid='1' mode='strict' nodeset='0-1'/></numatune>".to_owned(),
                [Some(1), Some(0)],
            ),
        ] {
            assert_eq!(bound(&tuning, true), wanted, "{tuning}");
        }
        let alone = format!("<vcpu>4</vcpu><cputune>{far}</cputune>");
        assert_eq!(bound(&alone, false)[0], Some(1));
    }
}
