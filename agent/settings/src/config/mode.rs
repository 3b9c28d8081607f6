//! The permissions of a file that the agent writes for other programs.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Permissions: root writes, others at most read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(u32);

/// All users may read.
impl Default for Mode {
    fn default() -> Self {
        Self(0o644)
    }
}

/// The text is not a valid permission.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "'{0}' is not a valid mode: use \"0644\" (all users read), \"0640\" (root's group) or \
    \"0600\" (root)"
)]
pub struct ModeError(String);

impl Mode {
    /// As chmod(2) takes them.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl TryFrom<String> for Mode {
    type Error = ModeError;

    fn try_from(text: String) -> Result<Self, ModeError> {
        match text.as_str() {
            "0644" => Ok(Self(0o644)),
            "0640" => Ok(Self(0o640)),
            "0600" => Ok(Self(0o600)),
            // The text may have any length, and the message is one line.
            _ => Err(ModeError(text.chars().take(16).collect())),
        }
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        format!("{:04o}", mode.0)
    }
}
