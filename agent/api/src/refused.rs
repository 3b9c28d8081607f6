//! An error of the agent as a D-Bus error name, which ends with the code, and as JSON with a field for each part. The agent writes
//! both, its clients read them.

use std::fmt;

use serde::{Deserialize, Serialize};

use domain::code::Code;
use domain::hint::Hint;
use domain::refusal::Refusal;

use crate::name::ERROR as PREFIX;

/// Longest JSON that is read: a refusal is a few sentences.
const MAX_BYTES: usize = 64 << 10;

/// The meaning of an error for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The agent refused.
    Refused,
    /// The operation failed in the agent, on the host or in libvirt.
    Failed,
    /// There is no such domain or device.
    NotFound,
    /// The caller is not authorised.
    NotAuthorized,
    /// It was not done within the caller's timeout; it continues.
    TimedOut,
    /// The job was cancelled before it began.
    Cancelled,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Refused,
        Self::Failed,
        Self::NotFound,
        Self::NotAuthorized,
        Self::TimedOut,
        Self::Cancelled,
    ];

    /// The error's name: `org.variantd1.Error.Refused`, with a code `org.variantd1.Error.Refused.VD_TOP_002` (names of D-Bus have no
    /// hyphens).
    #[must_use]
    pub fn name(self, code: Option<Code>) -> String {
        match code {
            Some(code) => format!("{PREFIX}{self}.{}", code.as_str().replace('-', "_")),
            None => format!("{PREFIX}{self}"),
        }
    }

    /// Reads an error name; `None` for one that is not the agent's. An unknown kind counts as a failure.
    #[must_use]
    pub fn of_name(name: &str) -> Option<(Self, Option<Code>)> {
        let rest = name.strip_prefix(PREFIX)?;
        let (kind, code) = rest.split_once('.').unwrap_or((rest, ""));
        let known = Self::ALL.into_iter().find(|one| one.to_string() == kind);
        let code = code.replace('_', "-").parse().ok();
        Some((known.unwrap_or(Self::Failed), code))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A method's answer with the option `refusal`.
#[derive(Serialize, Deserialize)]
struct Answer {
    refusal: Fields,
}

#[derive(Serialize, Deserialize)]
struct Fields {
    error: Kind,
    code: String,
    device: Option<String>,
    path: Option<String>,
    reason: String,
    hint: String,
    command: Option<String>,
}

/// `{"refusal": {...}}`.
#[must_use]
pub fn write(kind: Kind, refusal: &Refusal) -> String {
    let fields = Fields {
        error: kind,
        code: refusal.code.to_string(),
        device: refusal.device.map(|device| device.to_string()),
        path: refusal.path.clone(),
        reason: refusal.reason.clone(),
        hint: refusal.hint.to_string(),
        command: refusal.hint.command().map(str::to_owned),
    };
    serde_json::to_string(&Answer { refusal: fields }).expect("texts, with texts as keys")
}

/// Reads a refusal; `None` for other text, and for an unknown code or address.
#[must_use]
pub fn read(text: &str) -> Option<(Kind, Refusal)> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let Answer { refusal } = serde_json::from_str(text).ok()?;
    let device = refusal.device.map(|device| device.parse()).transpose();
    Some((
        refusal.error,
        Refusal {
            code: refusal.code.parse().ok()?,
            device: device.ok()?,
            path: refusal.path,
            reason: refusal.reason,
            hint: Hint::known(refusal.hint, refusal.command),
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_returns_the_written_refusal() {
        let hint = Hint::run("variantctl prepare --replace d0").then(", or move it");
        let whole = Refusal::new(Code::GuestFunction, "its guest address is function 1", hint)
            .of("0009:01:00.0".parse().expect("an address"))
            .at("/domain/devices/hostdev/address");
        let least = Refusal::new(Code::XmlValue, "it is wrong", "correct it");
        for refusal in [whole, least] {
            let written = write(Kind::NotFound, &refusal);
            // The JSON does not mark the commands in the hint.
            let hint = &refusal.hint;
            let hint = Hint::known(hint.to_string(), hint.command().map(str::to_owned));
            let expected = Refusal { hint, ..refusal };
            assert_eq!(read(&written), Some((Kind::NotFound, expected)));
        }
    }

    #[test]
    fn read_returns_none_for_other_text() {
        let refusal = Refusal::new(Code::XmlValue, "it is wrong", "correct it");
        let text = write(Kind::Refused, &refusal);
        let unknown = text.replace(Code::XmlValue.as_str(), "VD-XXX-999");
        let long = Refusal::new(Code::XmlValue, "x".repeat(MAX_BYTES), "y");
        let long = write(Kind::Refused, &long);
        for text in ["", "{}", "{\"changes\": []}", &unknown, &long] {
            assert_eq!(read(text), None, "{:.40}", text);
        }
    }

    #[test]
    fn error_names_are_valid_for_dbus_and_keep_kind_and_code() {
        for kind in Kind::ALL {
            for code in Code::ALL.iter().copied().map(Some).chain([None]) {
                let name = kind.name(code);
                zbus::names::ErrorName::try_from(&*name).expect("a name");
                assert_eq!(Kind::of_name(&name), Some((kind, code)), "{name}");
            }
        }
        assert_eq!(Kind::of_name("org.freedesktop.DBus.Error.NoReply"), None);
        let newer = Kind::of_name("org.variantd1.Error.Newer.VD_XXX_999");
        assert_eq!(newer, Some((Kind::Failed, None)));
    }
}
