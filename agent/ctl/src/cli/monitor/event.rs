//! One event of `variantctl monitor`: a signal of the agent as a line.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use api::name::{DEVICE_INTERFACE, JOB_INTERFACE};
use serde_json::{Value, json};
use zbus::message::Message;
use zbus::names::OwnedInterfaceName;
use zbus::{OwnedObjectPath, OwnedVariant, Variant};

/// Version of the JSON.
const SCHEMA: u32 = 1;

/// An event: object, change and time of arrival.
pub(super) struct Event {
    time: SystemTime,
    /// `device`, `domain`, `job` or `agent`.
    kind: &'static str,
    subject: String,
    /// The new properties.
    now: BTreeMap<String, Value>,
}

type Properties = HashMap<String, OwnedVariant>;
type Interfaces = HashMap<OwnedInterfaceName, Properties>;

impl Event {
    fn new(kind: &'static str, subject: impl Into<String>) -> Self {
        Self {
            time: SystemTime::now(),
            kind,
            subject: subject.into(),
            now: BTreeMap::new(),
        }
    }

    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.now.insert(key.to_owned(), value.into());
        self
    }

    /// The agent has ended, or is back.
    pub(super) fn of_agent(is_back: bool) -> Self {
        let state = if is_back {
            "serves again"
        } else {
            "ended; waiting until it runs again"
        };
        Self::new("agent", "variantd").with("state", state)
    }

    /// The state of an object; `None` for the manager.
    pub(super) fn of_object(path: &OwnedObjectPath, interfaces: &Interfaces) -> Option<Self> {
        let named = |name: &str| interfaces.iter().find(|(key, _)| key.as_str() == name);
        let (name, properties) = named(DEVICE_INTERFACE)?;
        Some(Self::of_path(path, name)?.told(properties))
    }

    /// `None` for a signal that is not an event.
    pub(super) fn of_signal(message: &Message) -> Option<Self> {
        let header = message.header();
        let (path, body) = (header.path()?.as_str(), message.body());
        match header.member()?.as_str() {
            "PropertiesChanged" => {
                let (name, changed, _): (String, Properties, Vec<String>) =
                    body.deserialize().ok()?;
                Some(Self::of_path(path, &name)?.told(&changed))
            }
            "InterfacesAdded" => {
                let (path, interfaces): (OwnedObjectPath, Interfaces) = body.deserialize().ok()?;
                Self::of_object(&path, &interfaces)
            }
            "InterfacesRemoved" => {
                let (path, names): (OwnedObjectPath, Vec<String>) = body.deserialize().ok()?;
                let name = names.iter().find(|name| *name == DEVICE_INTERFACE)?;
                Some(Self::of_path(&path, name)?.with("gone", true))
            }
            "DomainChanged" => {
                let row: (String, String, String, Properties) = body.deserialize().ok()?;
                let (name, uuid, outcome, details) = row;
                let event = Self::new("domain", name).with("uuid", uuid);
                Some(event.with("outcome", outcome).told(&details))
            }
            _ => None,
        }
    }

    /// The job that a signal is about.
    pub(super) fn job_of(message: &Message) -> Option<OwnedObjectPath> {
        let header = message.header();
        let (path, body) = (header.path()?, message.body());
        let is_change = header.member()?.as_str() == "PropertiesChanged";
        let (name, _, _): (String, Properties, Vec<String>) =
            is_change.then(|| body.deserialize().ok())??;
        (name == JOB_INTERFACE).then(|| path.to_owned().into())
    }

    /// The state of a job.
    pub(super) fn of_job(path: &OwnedObjectPath, properties: &Properties) -> Option<Self> {
        let event = Self::of_path(path, JOB_INTERFACE)?.told(properties);
        let word = |key: &str| <&str>::try_from(&**properties.get(key)?).ok();
        Some(match word("ErrorName").filter(|error| !error.is_empty()) {
            Some(_) => event.with("sentence", word("Result").unwrap_or_default()),
            None => event,
        })
    }

    fn of_path(path: &str, interface: &str) -> Option<Self> {
        let name = path.rsplit('/').next()?;
        match interface {
            DEVICE_INTERFACE => Some(Self::new("device", address(name))),
            JOB_INTERFACE => Some(Self::new("job", name)),
            _ => None,
        }
    }

    /// An event with these properties, without a job's result, which may be long.
    fn told(mut self, properties: &Properties) -> Self {
        let told = properties.iter().filter(|(key, _)| *key != "Result");
        let words = told.map(|(key, value)| (kebab(key), to_json(value)));
        self.now.extend(words);
        self
    }

    pub(super) fn subject(&self) -> (&str, &str) {
        (self.kind, &self.subject)
    }

    pub(super) fn to_json(&self) -> Value {
        let (kind, time) = (self.kind, utc(self.time));
        json!({"version": SCHEMA, "time": time, "kind": kind, "subject": self.subject, "now": self.now})
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", utc(self.time), self.kind, self.subject)?;
        let printed = |value: &Value| !matches!(value, Value::String(text) if text.is_empty());
        for (key, value) in self.now.iter().filter(|(_, value)| printed(value)) {
            match value {
                // Quoted as JSON if it has a blank, so that blanks separate the fields.
                Value::String(text) if !text.contains(' ') => write!(f, " {key}={text}")?,
                value => write!(f, " {key}={value}")?,
            }
        }
        Ok(())
    }
}

/// `0009_01_00_0` is `0009:01:00.0`.
fn address(name: &str) -> String {
    match name.split('_').collect::<Vec<_>>()[..] {
        [domain, bus, slot, function] => format!("{domain}:{bus}:{slot}.{function}"),
        _ => name.to_owned(),
    }
}

/// `PreviousDriver` is `previous-driver`.
fn kebab(name: &str) -> String {
    let mut words = String::new();
    for (index, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            words.push('-');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

fn to_json(value: &Variant<'_>) -> Value {
    match value {
        Variant::Bool(value) => (*value).into(),
        Variant::I32(value) => (*value).into(),
        Variant::I64(value) => (*value).into(),
        Variant::U32(value) => (*value).into(),
        Variant::F64(value) => (*value).into(),
        Variant::Str(value) => value.as_str().into(),
        other => other.to_string().into(),
    }
}

/// ISO 8601, to the millisecond.
fn utc(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, millis) = (since.as_secs(), since.subsec_millis());
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of a day since 1970; in years that begin in March, so that a leap day is the last.
fn date(days: u64) -> (u64, u64, u64) {
    // 719,468 days from March 1st of year 0 to January 1st of 1970; 146,097 days are 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_printed_in_utc() {
        let at = |seconds: u64| utc(UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7));
        assert_eq!(at(0), "1970-01-01T00:00:00.007Z");
        assert_eq!(at(951_827_696), "2000-02-29T12:34:56.007Z");
        assert_eq!(at(1_709_251_199), "2024-02-29T23:59:59.007Z");
        assert_eq!(at(1_709_251_200), "2024-03-01T00:00:00.007Z");
        assert_eq!(at(4_102_444_800), "2100-01-01T00:00:00.007Z");
    }

    #[test]
    fn an_object_is_printed_on_one_line_without_empty_fields() {
        let path = OwnedObjectPath::try_from("/org/variantd1/device/0009_01_00_0");
        let value = |value: Variant<'_>| value.try_to_owned().expect("value");
        let properties = HashMap::from([
            ("State".to_owned(), value("bound".into())),
            ("PreviousDriver".to_owned(), value("nvidia".into())),
            ("Domain".to_owned(), value("".into())),
            ("Reserved".to_owned(), value(false.into())),
        ]);
        let name = OwnedInterfaceName::try_from(DEVICE_INTERFACE).expect("name");
        let interfaces = HashMap::from([(name, properties)]);
        let event = Event::of_object(&path.expect("path"), &interfaces).expect("an event");
        let line = event.to_string();
        let end = " device 0009:01:00.0 previous-driver=nvidia reserved=false state=bound";
        assert!(line.ends_with(end), "{line}");
        assert_eq!(event.to_json()["now"]["domain"], "");
    }
}
