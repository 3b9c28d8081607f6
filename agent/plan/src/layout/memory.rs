//! The memory of each cell, and the size of its pages.

use kernel_glue::numa::NumaNode;

use super::node::{Room, memory_kib};
use super::{LayoutInput, split_to_all};
use crate::plan::Note;
use crate::size::kib_in_units;
use domain::Domain;
use domain::code::Code;
use domain::hint::{Hint, line};
use domain::refusal::Refusal;

/// Memory of a cell is a multiple of this where the guest's is: libvirt rounds cells up to 2 MiB on x86 and arm64.
const STEP_KIB: u64 = 2048;

/// Memory of all cells.
pub(super) struct Memory {
    /// In KiB, by cell.
    pub(super) cells: Vec<u64>,
    pub(super) page_kib: Option<u64>,
    pub(super) note: Option<Note>,
}

/// Splits the guest's memory by the vCPUs of its cells.
pub(super) fn placed(
    input: &LayoutInput<'_>,
    domain: &Domain,
    room: &Room,
    nodes: &[NumaNode],
    vcpus: &[u64],
) -> Result<Memory, Refusal> {
    let total = memory_kib(domain);
    let mut note = None;
    for size in sizes(input) {
        match in_pages(input, nodes, vcpus, total, size) {
            Ok(cells) => {
                return Ok(Memory {
                    cells,
                    page_kib: Some(size),
                    note: None,
                });
            }
            Err(why) => note = note.or(why),
        }
    }
    let limits = nodes
        .iter()
        .map(|node| room.at(*node).map_or(0, |free| free.memory_kib));
    let limits: Vec<u64> = limits.collect();
    // A guest smaller than a step for each cell is split all the same.
    let fills = total / STEP_KIB >= vcpus.len() as u64;
    let step = match total.is_multiple_of(STEP_KIB) && fills {
        true => STEP_KIB,
        false => 1,
    };
    let steps: Vec<u64> = limits.iter().map(|kib| kib / step).collect();
    let cells = split_to_all(total / step, vcpus, &steps);
    let cells = cells.ok_or_else(|| no_room(domain, total, &limits))?;
    Ok(Memory {
        cells: cells.into_iter().map(|steps| steps * step).collect(),
        page_kib: None,
        note: note.or_else(|| Some(none(input, total))),
    })
}

/// The sizes of the host's huge pages that are reserved on a node, the largest first.
fn sizes(input: &LayoutInput<'_>) -> Vec<u64> {
    let reserved = input.capacity.pages.iter().filter(|pages| pages.total > 0);
    let mut sizes: Vec<u64> = reserved.map(|pages| pages.size_kib).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes.reverse();
    sizes
}

/// The cells in pages of one size; the note on the node that has too few of them.
fn in_pages(
    input: &LayoutInput<'_>,
    nodes: &[NumaNode],
    vcpus: &[u64],
    total: u64,
    size: u64,
) -> Result<Vec<u64>, Option<Note>> {
    if !total.is_multiple_of(size) {
        return Err(None);
    }
    let shares = split_to_all(total / size, vcpus, &vec![u64::MAX; vcpus.len()]);
    let shares = shares.ok_or_else(|| {
        let (pages, cells) = (total / size, nodes.len());
        let size = kib_in_units(size);
        let text =
            format!("the guest has {cells} cells, and its memory is {pages} huge pages of {size}");
        Some(Note::new(Code::LayoutPages, text))
    })?;
    let free = |node: NumaNode| {
        let mut pages = input.capacity.pages(node);
        pages
            .find(|pages| pages.size_kib == size)
            .map_or(0, |pages| pages.free)
    };
    let short = (nodes.iter().zip(&shares)).find(|(node, share)| free(**node) < **share);
    match short {
        Some((node, share)) => Err(Some(Note::new(
            Code::LayoutPages,
            format!(
                "node {node} has {} free huge pages of {}, and its cell needs {share}",
                free(*node),
                kib_in_units(size)
            ),
        ))),
        None => Ok(shares.into_iter().map(|share| share * size).collect()),
    }
}

/// Why there are no huge pages at all.
fn none(input: &LayoutInput<'_>, total: u64) -> Note {
    let text = match sizes(input).first() {
        None => "the host has no huge pages reserved, so the guest's memory is in normal pages"
            .to_owned(),
        Some(_) => format!(
            "{total} KiB of memory are not a multiple of a huge page, so the guest's memory is in normal pages"
        ),
    };
    Note::new(Code::LayoutPages, text)
}

fn no_room(domain: &Domain, total: u64, limits: &[u64]) -> Refusal {
    let free = limits
        .iter()
        .fold(0u64, |sum, kib| sum.saturating_add(*kib));
    let reason = format!(
        "the guest has {} MiB of memory, and {} MiB of its nodes are free",
        total >> 10,
        free >> 10
    );
    let hint = Hint::with("{}", line(["virsh", "edit", &domain.name]));
    Refusal::new(
        Code::LayoutNoRoom,
        reason,
        hint.after("reduce <memory> with "),
    )
}
