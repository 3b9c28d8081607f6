//! The parts of a plan as JSON: devices, additions and notes.

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::numa::NumaNode;
use serde::{Deserialize, Serialize};

use crate::plan::{self, Change, Planned};
use domain::code::Code;
use domain::edit::Edit;

/// A device of the domain that has a recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedDevice {
    /// The host device.
    pub address: PciAddress,
    /// The recipe's name.
    pub recipe: String,
    /// The vendor's name of the device.
    pub label: String,
    /// The driver to bind, as the recipe spells it.
    pub driver: DriverName,
    /// Guest cells that are its generic initiators, such as `1-8`.
    pub cells: String,
    /// The host nodes of these cells, in cell order.
    pub host_nodes: Vec<NumaNode>,
}

/// One thing that is added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addition {
    /// The stable code.
    #[serde(with = "text")]
    pub code: Code,
    /// The device it is for; `None` when for the domain.
    pub device: Option<PciAddress>,
    /// The element, as an XPath.
    pub path: String,
    /// Why it is needed.
    pub reason: String,
    /// The edits of the definition.
    pub edits: Vec<Replacement>,
}

/// Replaces bytes `start` to `end` of the definition with `text`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replacement {
    /// First byte.
    pub start: usize,
    /// Byte after the last one.
    pub end: usize,
    /// The new text.
    pub text: String,
}

/// A note: information without a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// The stable code.
    #[serde(with = "text")]
    pub code: Code,
    /// The device it is about, if any.
    pub device: Option<PciAddress>,
    /// The sentence.
    pub text: String,
}

impl PlannedDevice {
    pub(crate) fn of(planned: &Planned) -> Self {
        Self {
            address: planned.address,
            recipe: planned.recipe.clone(),
            label: planned.label.clone(),
            driver: planned.driver.clone(),
            cells: planned.cells.to_string(),
            host_nodes: planned.host_nodes.clone(),
        }
    }
}

impl Addition {
    pub(crate) fn of(change: &Change) -> Self {
        let replacement = |edit: &Edit| Replacement {
            start: edit.span.start,
            end: edit.span.end,
            text: edit.text.clone(),
        };
        Self {
            code: change.code,
            device: change.device,
            path: change.path.clone(),
            reason: change.reason.clone(),
            edits: change.edits.iter().map(replacement).collect(),
        }
    }

    /// Equal except for the positions of the edits.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let texts = |one: &Self| one.edits.iter().map(|e| e.text.clone()).collect::<Vec<_>>();
        let head = |one: &Self| (one.code, one.device, one.path.clone(), one.reason.clone());
        head(self) == head(other) && texts(self) == texts(other)
    }
}

impl Note {
    /// A note of a plan.
    #[must_use]
    pub fn of(note: &plan::Note) -> Self {
        Self {
            code: note.code,
            device: note.device,
            text: note.text.clone(),
        }
    }
}

/// A value in its printed form.
pub(crate) mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(crate) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(from)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A UUID that may be missing.
pub(super) mod optional {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use domain::DomainUuid;

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<DomainUuid>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let text = value.as_ref().map(ToString::to_string);
        text.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<DomainUuid>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let parse = |text: String| text.parse().map_err(|()| de::Error::custom("not a UUID"));
        text.map(parse).transpose()
    }
}

/// A value in its printed form that may be missing.
pub(super) mod optional_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().map(ToString::to_string).serialize(to)
    }

    pub(crate) fn deserialize<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(de::Error::custom))
            .transpose()
    }
}
