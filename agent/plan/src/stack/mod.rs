//! What a pair of libvirt and QEMU can express: each feature with how it is known, and where the two do not fit each other.
//!
//! Upstream's version numbers say little about a vendor's build, which has backports. So planning asks the stack, and versions
//! are only the last source of its answers (`assumed.rs`).

mod answer;
mod assumed;
mod feature;
mod file;
mod fit;
mod named;
mod package;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use answer::{Answer, How, Spelling, Value, ValueType};
pub use feature::{Feature, Half};
pub use fit::Misfit;
pub use package::{Package, PackageName};

use crate::version::Versions;

/// A pair of libvirt and QEMU, and what each can express.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Stack {
    /// libvirt.
    pub libvirt: Package,
    /// QEMU.
    pub qemu: Package,
    /// By the position of the feature; `None` if not known.
    answers: [Option<Answer>; feature::COUNT],
}

/// A text is not a part of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StackError {
    /// Not 1 to 64 printable ASCII characters.
    #[error(
        "'{0}' is not the version of a package: 1 to 64 printable ASCII characters are expected"
    )]
    PackageName(String),
    /// Not the name of a stack; with the known names.
    #[error("'{0}' is not a known stack: the names are {1}")]
    Name(String, String),
    /// A file is larger than this number of KiB.
    #[error("a file of a stack has at most {0} KiB")]
    TooLarge(usize),
    /// Not JSON, or not a stack.
    #[error("this is not a stack: {0}")]
    Json(String),
    /// The value cannot answer the question.
    #[error("the stack's answer '{0}' to '{1}' has the wrong kind")]
    Kind(String, String),
}

/// A stack as a file has it. Missing answers are assumed by version.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    libvirt: Package,
    qemu: Package,
    #[serde(default)]
    answers: BTreeMap<Feature, Answer>,
}

impl Stack {
    /// The stack by versions alone.
    #[must_use]
    pub fn assumed(versions: Versions) -> Self {
        Self {
            libvirt: versions.libvirt.into(),
            qemu: versions.qemu.into(),
            answers: Feature::ALL.map(|feature| feature.assumed(versions)),
        }
    }

    /// The versions of both.
    #[must_use]
    pub const fn versions(&self) -> Versions {
        Versions {
            libvirt: self.libvirt.version,
            qemu: self.qemu.version,
        }
    }

    /// The answer to a question; `None` if it is not known.
    #[must_use]
    pub fn answer(&self, feature: Feature) -> Option<Answer> {
        self.answers[feature as usize]
    }

    /// The answer's value; `None` if it is not known.
    #[must_use]
    pub fn value(&self, feature: Feature) -> Option<Value> {
        self.answer(feature).map(|answer| answer.value)
    }

    /// Records an answer in place of the present one.
    ///
    /// # Errors
    /// The value cannot answer this question.
    pub fn set(&mut self, feature: Feature, value: Value, how: How) -> Result<(), StackError> {
        if !feature.takes(value) {
            let text = serde_json::to_string(&value).unwrap_or_default();
            return Err(StackError::Kind(text, feature.name()));
        }
        self.answers[feature as usize] = Some(Answer { value, how });
        Ok(())
    }

    /// True if the stack has the feature. An unknown answer is no.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        let value = self.value(feature);
        value.is_some_and(|value| value != Value::Has(false))
    }

    /// The answer's type; `None` if it is not known or not a type.
    #[must_use]
    pub fn value_type(&self, feature: Feature) -> Option<ValueType> {
        match self.value(feature)? {
            Value::Type(of) => Some(of),
            Value::Has(_) | Value::Named(_) => None,
        }
    }

    /// The answer's name; `None` if it is not known or not a name.
    #[must_use]
    pub fn spelling(&self, feature: Feature) -> Option<Spelling> {
        match self.value(feature)? {
            Value::Named(name) => Some(name),
            Value::Has(_) | Value::Type(_) => None,
        }
    }

    /// True if this QEMU takes the SMMUv3's attributes from the host's when they are left out.
    #[must_use]
    pub fn smmu_is_auto(&self) -> bool {
        self.value_type(Feature::QemuSmmuAtsType) == Some(ValueType::Auto)
    }

    /// The package that answers a question.
    #[must_use]
    pub fn package(&self, half: Half) -> &Package {
        match half {
            Half::Libvirt => &self.libvirt,
            Half::Qemu => &self.qemu,
        }
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "libvirt {}, QEMU {}", self.libvirt, self.qemu)
    }
}

impl TryFrom<Form> for Stack {
    type Error = StackError;

    fn try_from(form: Form) -> Result<Self, StackError> {
        let mut stack = Self::assumed(Versions {
            libvirt: form.libvirt.version,
            qemu: form.qemu.version,
        });
        (stack.libvirt, stack.qemu) = (form.libvirt, form.qemu);
        for (feature, answer) in form.answers {
            stack.set(feature, answer.value, answer.how)?;
        }
        Ok(stack)
    }
}

impl From<Stack> for Form {
    fn from(stack: Stack) -> Self {
        let all = Feature::ALL.into_iter();
        let answers = all.filter_map(|feature| Some((feature, stack.answer(feature)?)));
        Self {
            libvirt: stack.libvirt,
            qemu: stack.qemu,
            answers: answers.collect(),
        }
    }
}

#[cfg(test)]
mod tests;
