//! The mark in a domain's metadata: which elements were added for which device, by which recipe.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use kernel_glue::address::PciAddress;
use kernel_glue::numa::RangeList;

use crate::edit::Element;
use crate::piece::{Opened, Piece};

/// XML namespace of the mark; the hook searches for it.
pub const NAMESPACE: &str = "urn:variantd:1";

/// `<variantd:prepared>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// One entry per device, in address order.
    pub devices: Vec<Marked>,
    /// Elements added for the domain.
    pub added: Added,
    /// Digest of the plan's inputs; empty in marks of versions without digests.
    pub digest: String,
    /// The element.
    pub element: Element,
}

/// `<variantd:device>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// The host device.
    pub address: PciAddress,
    /// Name of the recipe that required it; empty for a device that only a NUMA layout places.
    pub recipe: String,
    /// Generic-initiator cells of the device.
    pub cells: RangeList,
    /// Elements added for the device.
    pub added: Added,
    /// The guest address that was replaced, as written.
    pub replaced: Option<String>,
    /// The alias that was replaced, as written.
    pub alias: Option<String>,
    /// The driver of a `<driver>` that variantd added, if no other added element identifies the hostdev.
    pub driver: Option<String>,
}

/// The added elements, so that they can be reverted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added(BTreeSet<Piece>);

impl Added {
    /// Adds a piece.
    pub fn insert(&mut self, piece: Piece) {
        self.0.insert(piece);
    }

    /// True if the piece is in the list.
    #[must_use]
    pub fn has(&self, piece: &Piece) -> bool {
        self.0.contains(piece)
    }

    /// True if variantd added the first content of an element.
    #[must_use]
    pub fn opened(&self, element: Opened) -> bool {
        self.has(&Piece::Open(element))
    }

    /// The indexes of ports.
    pub fn ports(&self) -> impl Iterator<Item = u32> {
        self.iter().filter_map(|piece| match piece {
            Piece::Port(index) => Some(*index),
            _ => None,
        })
    }

    /// All pieces.
    pub fn iter(&self) -> impl Iterator<Item = &Piece> {
        self.0.iter()
    }

    /// True without pieces.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Extend<Piece> for Added {
    fn extend<I: IntoIterator<Item = Piece>>(&mut self, pieces: I) {
        self.0.extend(pieces);
    }
}

impl IntoIterator for Added {
    type Item = Piece;
    type IntoIter = <BTreeSet<Piece> as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromStr for Added {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let pieces = text.split_whitespace().map(str::parse);
        pieces.collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Added {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = self.iter().map(Piece::to_string).collect();
        words.sort_unstable();
        f.write_str(&words.join(" "))
    }
}
