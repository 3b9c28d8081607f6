//! A stack as a JSON file, for `--target FILE.json`.

use super::{Stack, StackError};

impl Stack {
    /// The largest file in bytes.
    pub const MAX_BYTES: usize = 64 << 10;

    /// Reads a JSON text.
    ///
    /// # Errors
    /// The text is too large or not a stack.
    pub fn parse(text: &[u8]) -> Result<Self, StackError> {
        if text.len() > Self::MAX_BYTES {
            return Err(StackError::TooLarge(Self::MAX_BYTES >> 10));
        }
        serde_json::from_slice(text).map_err(|error| StackError::Json(error.to_string()))
    }
}
