//! A refusal as JSON, with each part as a field: the agent writes it, its clients read it.

use serde::{Deserialize, Serialize};

use domain::hint::Hint;
use domain::refusal::Refusal;

/// Longest JSON that is read: a refusal is a few sentences.
const MAX_BYTES: usize = 64 << 10;

/// What `Plan` answers with option `refusal`.
#[derive(Serialize, Deserialize)]
struct Answer {
    refusal: Fields,
}

#[derive(Serialize, Deserialize)]
struct Fields {
    code: String,
    device: Option<String>,
    path: Option<String>,
    reason: String,
    hint: String,
    command: Option<String>,
}

/// `{"refusal": {...}}`.
#[must_use]
pub fn write(refusal: &Refusal) -> String {
    let fields = Fields {
        code: refusal.code.to_string(),
        device: refusal.device.map(|device| device.to_string()),
        path: refusal.path.clone(),
        reason: refusal.reason.clone(),
        hint: refusal.mend.to_string(),
        command: refusal.mend.command().map(str::to_owned),
    };
    serde_json::to_string(&Answer { refusal: fields }).expect("texts, with texts as keys")
}

/// The refusal, where the text is one; a code or an address that is not known here makes it none.
#[must_use]
pub fn read(text: &str) -> Option<Refusal> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let Answer { refusal } = serde_json::from_str(text).ok()?;
    Some(Refusal {
        code: refusal.code.parse().ok()?,
        device: refusal
            .device
            .map(|device| device.parse())
            .transpose()
            .ok()?,
        path: refusal.path,
        reason: refusal.reason,
        mend: Hint::known(refusal.hint, refusal.command),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::code::Code;

    #[test]
    fn a_refusal_is_read_as_it_was_written() {
        let hint = Hint::run("variantctl prepare --replace d0").then(", or move it");
        let whole = Refusal::new(Code::GuestFunction, "its guest address is function 1", hint)
            .of("0009:01:00.0".parse().expect("an address"))
            .at("/domain/devices/hostdev/address");
        let least = Refusal::new(Code::XmlValue, "it is wrong", "correct it");
        for refusal in [whole, least] {
            assert_eq!(read(&write(&refusal)), Some(refusal));
        }
    }

    #[test]
    fn other_text_is_no_refusal() {
        let refusal = Refusal::new(Code::XmlValue, "it is wrong", "correct it");
        let unknown = write(&refusal).replace(Code::XmlValue.as_str(), "VD-XXX-999");
        let long = write(&Refusal::new(Code::XmlValue, "x".repeat(MAX_BYTES), "y"));
        for text in ["", "{}", "{\"changes\": []}", &unknown, &long] {
            assert_eq!(read(text), None, "{:.40}", text);
        }
    }
}
