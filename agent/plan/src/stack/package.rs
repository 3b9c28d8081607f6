//! An installed libvirt or QEMU: its version, and the version of its package as the distribution writes it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::StackError;
use crate::version::Version;

/// The longest version of a package that is read.
const LONGEST: usize = 64;

/// A version of a package such as `11.9.0+nvidia4-1`: 1 to 64 printable ASCII characters.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageName {
    text: [u8; LONGEST],
    length: u8,
}

/// One half of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// The version that the program reports.
    pub version: Version,
    /// The version of its package, where it is known. Only this shows a vendor's build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<PackageName>,
}

impl PackageName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let text = &self.text[..usize::from(self.length)];
        std::str::from_utf8(text).unwrap_or_default()
    }
}

impl FromStr for PackageName {
    type Err = StackError;

    fn from_str(text: &str) -> Result<Self, StackError> {
        let is_name = text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() || byte == b' ');
        let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
        let fits = (1..=LONGEST).contains(&text.len());
        if !(is_name && fits) {
            let shown = text.chars().take(LONGEST).collect();
            return Err(StackError::PackageName(shown));
        }
        let mut name = Self {
            text: [0; LONGEST],
            length,
        };
        name.text[..text.len()].copy_from_slice(text.as_bytes());
        Ok(name)
    }
}

impl TryFrom<String> for PackageName {
    type Error = StackError;

    fn try_from(text: String) -> Result<Self, StackError> {
        text.parse()
    }
}

impl From<PackageName> for String {
    fn from(name: PackageName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Debug for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name.as_str()),
            None => self.version.fmt(f),
        }
    }
}

impl From<Version> for Package {
    fn from(version: Version) -> Self {
        Self {
            version,
            name: None,
        }
    }
}
