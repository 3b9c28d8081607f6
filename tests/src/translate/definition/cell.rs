//! Guest NUMA cells as nodes and distances.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use roxmltree::Node;

use super::element::child;
use crate::translate::piece::Piece;
use crate::translate::size;

/// The node of a `<cell>` and its distances; a cell without an id is numbered by its position.
pub(super) fn pieces(cell: Node<'_, '_>, position: usize) -> Result<Vec<Piece>> {
    let position = u32::try_from(position).context("too many cells")?;
    let number =
        |element: Node<'_, '_>, name| -> Option<u32> { element.attribute(name)?.parse().ok() };
    let node = number(cell, "id").unwrap_or(position);
    let memory = cell.attribute("memory").unwrap_or("0");
    let mut pieces = vec![Piece::Node {
        node,
        cpus: cell.attribute("cpus").unwrap_or_default().to_owned(),
        kib: size::scaled(memory, cell.attribute("unit")).context("a cell's memory is no size")?,
    }];
    let siblings = child(cell, "distances")
        .into_iter()
        .flat_map(|distances| distances.children());
    for sibling in siblings.filter(Node::is_element) {
        pieces.push(Piece::Distance {
            from: node,
            to: number(sibling, "id").context("a sibling has no id")?,
            value: number(sibling, "value").context("a sibling has no value")?,
        });
    }
    Ok(pieces)
}

/// libvirt uses a distance in one direction also for the other direction.
pub(super) fn mirror(pieces: &mut BTreeSet<Piece>) {
    let distances = pieces.iter().filter_map(|piece| match piece {
        Piece::Distance { from, to, value } => Some(((*from, *to), *value)),
        _ => None,
    });
    let written: BTreeMap<(u32, u32), u32> = distances.collect();
    let one_way = written
        .iter()
        .filter(|((from, to), _)| !written.contains_key(&(*to, *from)));
    pieces.extend(one_way.map(|((from, to), value)| Piece::Distance {
        from: *to,
        to: *from,
        value: *value,
    }));
}
