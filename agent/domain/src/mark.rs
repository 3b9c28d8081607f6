//! The mark in a domain's metadata: what was added for which device, by which recipe.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use kernel_glue::address::PciAddress;
use kernel_glue::numa::RangeList;

use crate::edit::Element;

/// XML namespace of the mark; the hook looks for it.
pub const NAMESPACE: &str = "urn:variantd:1";

/// `<variantd:prepared>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// One entry per device, in address order.
    pub devices: Vec<Marked>,
    /// What was added for the domain.
    pub added: Added,
    /// What the plan was made of; empty in marks of before there were digests.
    pub digest: String,
    /// The element.
    pub element: Element,
}

/// `<variantd:device>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// The host device.
    pub address: PciAddress,
    /// Name of the recipe that asked for it.
    pub recipe: String,
    /// Generic-initiator cells of the device.
    pub cells: RangeList,
    /// What was added for the device.
    pub added: Added,
    /// The guest address that was replaced, as it stood there.
    pub replaced: Option<String>,
    /// The alias that was replaced, as it stood there.
    pub alias: Option<String>,
    /// The driver in a `<driver>` of ours, where nothing else of ours tells the hostdev from others.
    pub driver: Option<String>,
}

/// What was added, as words, so that it can be taken back.
///
/// For a domain: `metadata`, `cpu`, `numa`, `cells` (all of them, in a `<numa>` that was there before), `window:N` (of N GiB, an element or an argument),
/// `width` (`<maxphysaddr mode='passthrough'>`) or `width:N` (of N bits), `commandline`,
/// `override`, `iommufd`, `acpi` (in `<os>`), `table:PATH`, `expander:N`, `smmu:N` (of expander N), `switch:N` (a switch's upstream port, and the root port
/// above it), `root` (the pcie-root controller), `distances:N` (all of cell N), `sibling:N:M` (of cell N to cell M, which was there before), and `open:X`
/// where X had no content before (`metadata`, `cpu`, `numa`, `root`, `cell:N`, `distances:N`).
/// `arguments` where a `<qemu:commandline>` was there before and has got some; `foreign:window` where the window in it is the user's own.
/// `iommufd` for a domain is `<iommufd>`, which was written before hostdevs got theirs.
/// For a device: `driver` (the element), `model` (of a `<driver>` that was there before), `iommufd` (of `<driver>`), `nodeset` (and `open:nodeset` where `<acpi>` was there before), `alias`, `port:N`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added(BTreeSet<String>);

impl Added {
    /// Adds a word.
    pub fn insert(&mut self, word: impl Into<String>) {
        self.0.insert(word.into());
    }

    /// True when the word is there.
    #[must_use]
    pub fn has(&self, word: &str) -> bool {
        self.0.contains(word)
    }

    /// The numbers behind `name:`.
    pub fn numbers(&self, name: &str) -> impl Iterator<Item = u32> {
        let numbered = self
            .0
            .iter()
            .filter_map(move |word| word.strip_prefix(name)?.strip_prefix(':')?.parse().ok());
        numbered.collect::<Vec<u32>>().into_iter()
    }

    /// Adds the words of another.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend(other.0.iter().cloned());
    }

    /// True without words.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Added {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.split_whitespace().map(str::to_owned).collect()))
    }
}

impl fmt::Display for Added {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.0.iter().map(String::as_str).collect();
        f.write_str(&words.join(" "))
    }
}
