//! Fingerprints: SHA-256 of what something was made of. Nothing else in the planner and the agent hashes.
//!
//! | use | what is hashed | where its inputs are chosen | form |
//! |---|---|---|---|
//! | mark: is what was added still right? | what the recipes say of definitions, the host's facts about the assigned devices, their initiators and distances, what the versions can express | `plan/digest.rs` | 16 digits |
//! | saved plan: does it still apply? | separately: the definition, each recipe's text and devices, the host's facts by part; the completed text | `saved_plan/basis.rs`, `saved_plan/facts.rs` | `sha256:` and 64 digits |
//! | attempt: was this definition tried before? | the definition, the completed text, the versions | `attempt.rs` of the agent | not printed |
//! | published snapshot: did it change? | the text of the snapshot | `snapshot.rs` of the agent | not printed |
//!
//! The mark's is not derived from the parts of a saved plan. A saved plan must name every change of its inputs, so its parts
//! have a recipe's whole text, the kernel's release and devices beside the domain's own. A mark must change only when the plan
//! can change, or each kernel update would replace the pieces of every definition. Both forms are stored (in definitions, in
//! files that users keep), and releases compare them, so neither can take the other's inputs.

use std::fmt::{self, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

const PREFIX: &str = "sha256:";

/// Bytes of the short form.
const SHORT: usize = 8;

/// A SHA-256 hash. Its text is `sha256:` and 64 lower-case digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 32]);

/// A text is not a fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is not 'sha256:' and 64 hexadecimal digits")]
pub struct FingerprintError(String);

impl Fingerprint {
    /// The fingerprint of one text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// The fingerprint of several texts: it changes as well when only the border between two of them moves.
    #[must_use]
    pub fn of_parts(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// The first 16 digits, as marks have them.
    #[must_use]
    pub fn short(&self) -> String {
        hexadecimal(&self.0[..SHORT])
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let digits = text.strip_prefix(PREFIX).map(str::as_bytes);
        let bytes = digits.and_then(bytes);
        bytes
            .map(Self)
            .ok_or_else(|| FingerprintError(text.chars().take(80).collect()))
    }
}

fn bytes(digits: &[u8]) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

/// The value of a lower-case hexadecimal digit.
fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = FingerprintError;

    fn try_from(text: String) -> Result<Self, FingerprintError> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", hexadecimal(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_equals_the_published_one() {
        // FIPS 180-4 example of one block.
        let known = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Fingerprint::of("abc").to_string(), known);
        assert_eq!(known.parse(), Ok(Fingerprint::of("abc")));
        assert_eq!(Fingerprint::of("abc").short(), "ba7816bf8f01cfea");
    }

    #[test]
    fn parts_are_distinguished() {
        let of = Fingerprint::of_parts;
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["ab"]), of(&["ab", ""]));
    }

    #[test]
    fn an_invalid_text_is_refused() {
        let upper = Fingerprint::of("abc").to_string().to_uppercase();
        for bad in ["", "sha256:", "sha256:12", "md5:12", &upper] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad:?} was accepted");
        }
    }
}
