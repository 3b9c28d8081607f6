//! The answer to a question about a stack: its value, and how it is known.

use serde::{Deserialize, Serialize};

/// How an answer is known, the surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The program itself said so.
    Asked,
    /// By libvirt's RNG grammar.
    Grammar,
    /// By what libvirt writes for QEMU (`virsh domxml-to-native`).
    Translated,
    /// By the version, or by what is published of it.
    Assumed,
}

/// The type of a value between libvirt and QEMU: what libvirt writes as JSON, or what a QEMU property takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueType {
    /// A JSON boolean; QEMU's `bool`.
    Bool,
    /// A JSON number; QEMU's `uint8`.
    Integer,
    /// libvirt writes a JSON string.
    Text,
    /// QEMU takes a string, one of which is `auto`: `OnOffAuto`, `OasMode`.
    Auto,
}

/// A name that differs between builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Spelling {
    /// `pasid='on'` (NVIDIA's 11.9).
    #[serde(rename = "pasid")]
    Pasid,
    /// `ssidSize='20'` (drafts of 2026).
    #[serde(rename = "ssidSize")]
    SsidSizeVendor,
    /// `ssidsize='20'` (libvirt 12.7, QEMU).
    #[serde(rename = "ssidsize")]
    SsidSize,
    /// `cmdqv` (as merged).
    #[serde(rename = "cmdqv")]
    Cmdqv,
    /// `tegra241-cmdqv` (the posted series).
    #[serde(rename = "tegra241-cmdqv")]
    Tegra241Cmdqv,
}

/// What a question is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// Yes or no.
    Has(bool),
    /// A type.
    Type(ValueType),
    /// A name.
    Named(Spelling),
}

/// A value, and how it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The value.
    pub value: Value,
    /// How it is known.
    pub how: How,
}

impl Spelling {
    /// The name as libvirt or QEMU has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pasid => "pasid",
            Self::SsidSizeVendor => "ssidSize",
            Self::SsidSize => "ssidsize",
            Self::Cmdqv => "cmdqv",
            Self::Tegra241Cmdqv => "tegra241-cmdqv",
        }
    }
}
