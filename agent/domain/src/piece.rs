//! A piece: one element or attribute that was added to a definition, and its text form in the mark.
//!
//! The text form is part of the mark in users' definitions, so later versions must read each released form.
//!
//! | text | added to the domain |
//! |---|---|
//! | `metadata`, `cpu`, `numa`, `root`, `acpi`, `commandline`, `override` | the element (`root`: the pcie-root controller) |
//! | `cells` | all cells, in an existing `<numa>` |
//! | `distances:N`, `sibling:N:M` | `<distances>` of cell N; its distance to cell M in existing `<distances>` |
//! | `window:N`, `window` | the MMIO window of N GiB, element or argument; without a size in old marks |
//! | `width:N`, `width` | `<maxphysaddr>` of N bits; the host's width, or any in old marks |
//! | `arguments`, `foreign:window` | arguments in an existing `<qemu:commandline>`; the window in it is the user's |
//! | `iommufd` | `<iommufd>` of the domain |
//! | `egm:ALIAS` | `<memory model='egm'>` of the hostdev with this alias |
//! | `table:PATH` | an ACPI table |
//! | `expander:N`, `smmu:N`, `switch:N` | a controller; the SMMUv3 of expander N; a switch's upstream port or the root port above |
//! | `open:X` | content of an element X that was empty: `metadata`, `cpu`, `numa`, `root`, `cell:N`, `distances:N` |
//!
//! | text | added to a device |
//! |---|---|
//! | `driver`, `model`, `iommufd` | `<driver>`; attributes of it |
//! | `nodeset`, `open:nodeset` | `<acpi nodeset>`; with the latter in an existing `<acpi>` |
//! | `alias`, `port:N` | the alias; the root port or downstream port with index N |

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// One element or attribute that was added.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Piece {
    /// `<os><acpi>`.
    Acpi,
    /// The alias of a hostdev.
    Alias,
    /// Arguments in an existing `<qemu:commandline>`.
    Arguments,
    /// All cells, in an existing `<numa>`.
    Cells,
    /// `<qemu:commandline>`.
    CommandLine,
    /// `<cpu>`.
    Cpu,
    /// `<distances>` of this cell.
    Distances(u32),
    /// `<driver>` of a hostdev.
    Driver,
    /// EGM memory of the hostdev with this alias.
    Egm(String),
    /// An expander bus, by its index.
    Expander(u32),
    /// `<iommufd>` of the domain, or the attribute of a hostdev's `<driver>`.
    Iommufd,
    /// `<metadata>`.
    Metadata,
    /// `model` of an existing `<driver>`.
    Model,
    /// `<acpi nodeset>` of a hostdev.
    Nodeset,
    /// `<numa>`.
    Numa,
    /// Content of an element that was empty.
    Open(Opened),
    /// `<qemu:override>`.
    Override,
    /// The port of a device, by its index.
    Port(u32),
    /// The pcie-root controller.
    Root,
    /// A distance in existing `<distances>`.
    Sibling {
        /// The cell that has the distance.
        from: u32,
        /// The other cell.
        to: u32,
    },
    /// The SMMUv3 of the expander with this index.
    Smmu(u32),
    /// A port of a switch above the devices' ports, by its index.
    Switch(u32),
    /// An ACPI table, by its path.
    Table(String),
    /// The window in `<qemu:commandline>` is the user's.
    UsersWindow,
    /// `<maxphysaddr>` of so many bits; `None`: the host's width, or any width in marks of versions that recorded no
    /// width.
    Width(Option<u32>),
    /// The 64-bit MMIO window in GiB; `None` in marks of versions that recorded no size.
    Window(Option<u32>),
    /// A keyword that this version does not know. It is kept in the mark and has no effect.
    Unknown(String),
}

/// An existing element that was empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Opened {
    /// A cell of `<numa>`.
    Cell(u32),
    /// `<cpu>`.
    Cpu,
    /// `<distances>` of a cell.
    Distances(u32),
    /// `<metadata>`.
    Metadata,
    /// `<acpi>` of a hostdev, which got an attribute.
    Nodeset,
    /// `<numa>`.
    Numa,
    /// The pcie-root controller.
    Root,
}

impl Piece {
    fn read(word: &str) -> Option<Self> {
        let (name, value) = match word.split_once(':') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        match value {
            None => Self::named(name),
            Some(value) => Self::valued(name, value),
        }
    }

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "acpi" => Self::Acpi,
            "alias" => Self::Alias,
            "arguments" => Self::Arguments,
            "cells" => Self::Cells,
            "commandline" => Self::CommandLine,
            "cpu" => Self::Cpu,
            "driver" => Self::Driver,
            "iommufd" => Self::Iommufd,
            "metadata" => Self::Metadata,
            "model" => Self::Model,
            "nodeset" => Self::Nodeset,
            "numa" => Self::Numa,
            "override" => Self::Override,
            "root" => Self::Root,
            "width" => Self::Width(None),
            "window" => Self::Window(None),
            _ => return None,
        })
    }

    fn valued(name: &str, value: &str) -> Option<Self> {
        Some(match name {
            "distances" => Self::Distances(number(value)?),
            "egm" => Self::Egm(value.to_owned()),
            "expander" => Self::Expander(number(value)?),
            "foreign" if value == "window" => Self::UsersWindow,
            "open" => Self::Open(Opened::read(value)?),
            "port" => Self::Port(number(value)?),
            "sibling" => {
                let (from, to) = value.split_once(':')?;
                let (from, to) = (number(from)?, number(to)?);
                Self::Sibling { from, to }
            }
            "smmu" => Self::Smmu(number(value)?),
            "switch" => Self::Switch(number(value)?),
            "table" => Self::Table(value.to_owned()),
            "width" => Self::Width(Some(number(value)?)),
            "window" => Self::Window(Some(number(value)?)),
            _ => return None,
        })
    }
}

impl Opened {
    fn read(text: &str) -> Option<Self> {
        Some(match text {
            "cpu" => Self::Cpu,
            "metadata" => Self::Metadata,
            "nodeset" => Self::Nodeset,
            "numa" => Self::Numa,
            "root" => Self::Root,
            _ => match text.split_once(':')? {
                ("cell", id) => Self::Cell(number(id)?),
                ("distances", id) => Self::Distances(number(id)?),
                _ => return None,
            },
        })
    }
}

/// Parses a number without sign and leading zeros, so that it is written back byte for byte.
fn number(text: &str) -> Option<u32> {
    let is_written = !text.starts_with('+') && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_written)
}

impl FromStr for Piece {
    type Err = Infallible;

    fn from_str(word: &str) -> Result<Self, Infallible> {
        Ok(Self::read(word).unwrap_or_else(|| Self::Unknown(word.to_owned())))
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Acpi => "acpi",
            Self::Alias => "alias",
            Self::Arguments => "arguments",
            Self::Cells => "cells",
            Self::CommandLine => "commandline",
            Self::Cpu => "cpu",
            Self::Driver => "driver",
            Self::Iommufd => "iommufd",
            Self::Metadata => "metadata",
            Self::Model => "model",
            Self::Nodeset => "nodeset",
            Self::Numa => "numa",
            Self::Override => "override",
            Self::Root => "root",
            Self::UsersWindow => "foreign:window",
            Self::Width(None) => "width",
            Self::Window(None) => "window",
            Self::Distances(cell) => return write!(f, "distances:{cell}"),
            Self::Egm(alias) => return write!(f, "egm:{alias}"),
            Self::Expander(index) => return write!(f, "expander:{index}"),
            Self::Open(opened) => return write!(f, "open:{opened}"),
            Self::Port(index) => return write!(f, "port:{index}"),
            Self::Sibling { from, to } => return write!(f, "sibling:{from}:{to}"),
            Self::Smmu(bus) => return write!(f, "smmu:{bus}"),
            Self::Switch(index) => return write!(f, "switch:{index}"),
            Self::Table(path) => return write!(f, "table:{path}"),
            Self::Width(Some(bits)) => return write!(f, "width:{bits}"),
            Self::Window(Some(gib)) => return write!(f, "window:{gib}"),
            Self::Unknown(word) => word,
        })
    }
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Metadata => "metadata",
            Self::Nodeset => "nodeset",
            Self::Numa => "numa",
            Self::Root => "root",
            Self::Cell(id) => return write!(f, "cell:{id}"),
            Self::Distances(id) => return write!(f, "distances:{id}"),
        })
    }
}

#[cfg(test)]
mod tests;
