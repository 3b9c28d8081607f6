//! QEMU arguments in libvirt's format: options with their values, and the properties in a value.
//!
//! A value is JSON or `word,name=value,...` with doubled commas; both parse to the same properties.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// One option, with its value if it takes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// With its hyphen, such as `-device`.
    pub option: String,
    /// The value; empty for an option such as `-S`.
    pub value: String,
}

/// A parsed value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// The driver, object type or machine: the first word, or JSON's `driver` or `qom-type`.
    pub kind: String,
    /// The other properties; switches are `on` and `off`, and a repeated name has its values joined by a comma.
    pub named: BTreeMap<String, String>,
}

impl Argument {
    /// From its parts.
    pub fn new(option: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            option: option.into(),
            value: value.into(),
        }
    }

    /// Its parsed value.
    pub fn properties(&self) -> Result<Properties> {
        Properties::parse(&self.value)
            .with_context(|| format!("cannot read '{} {}'", self.option, self.value))
    }
}

impl Properties {
    /// Reads a value in either form.
    pub fn parse(value: &str) -> Result<Self> {
        if value.starts_with('{') {
            return Self::from_json(value);
        }
        let mut properties = Self::default();
        for (position, part) in parts(value).into_iter().enumerate() {
            match part.split_once('=') {
                Some((name, value)) => properties.add(name, value),
                None if position == 0 => properties.kind = part,
                None => properties.add(&part, "on"),
            }
        }
        Ok(properties)
    }

    fn from_json(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).context("it is not JSON")?;
        let object = value.as_object().context("it is not a JSON object")?;
        let mut properties = Self::default();
        for (name, value) in object {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Bool(true) => "on".to_owned(),
                Value::Bool(false) => "off".to_owned(),
                other => other.to_string(),
            };
            match name.as_str() {
                "driver" | "qom-type" => properties.kind = value,
                _ => properties.add(name, &value),
            }
        }
        Ok(properties)
    }

    fn add(&mut self, name: &str, value: &str) {
        let known = self.named.entry(name.to_owned()).or_default();
        if !known.is_empty() {
            known.push(',');
        }
        known.push_str(value);
    }

    /// The value of this name.
    pub fn named(&self, name: &str) -> Option<&str> {
        self.named.get(name).map(String::as_str)
    }

    /// The number of this name, decimal or with `0x`.
    pub fn number(&self, name: &str) -> Option<u64> {
        let text = self.named(name)?;
        text.strip_prefix("0x").map_or_else(
            || text.parse().ok(),
            |digits| u64::from_str_radix(digits, 16).ok(),
        )
    }
}

/// Splits at single commas.
fn parts(value: &str) -> Vec<String> {
    let joined = value.replace(",,", "\0");
    joined
        .split(',')
        .map(|part| part.replace('\0', ","))
        .collect()
}

/// The arguments after the emulator in the output of `domxml-to-native`.
pub fn parse(text: &str) -> Result<Vec<Argument>> {
    let words = words(text)?;
    let emulator = words.iter().position(|word| word.starts_with('/'));
    let start = emulator.context("it names no emulator")? + 1;
    pair(&words[start..])
}

/// Words to options with values.
pub fn pair(words: &[String]) -> Result<Vec<Argument>> {
    let mut arguments: Vec<Argument> = Vec::new();
    let mut has_value = true;
    for word in words {
        match arguments.last_mut() {
            _ if word.starts_with('-') => {
                arguments.push(Argument::new(word, ""));
                has_value = false;
            }
            Some(last) if !has_value => {
                last.value.clone_from(word);
                has_value = true;
            }
            _ => bail!("'{word}' belongs to no option"),
        }
    }
    Ok(arguments)
}

/// Splits as a shell does: blanks, single quotes, and a backslash before a character outside them.
fn words(text: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if !quoted => word.get_or_insert_default().extend(characters.next()),
            blank if !quoted && blank.is_whitespace() => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    if quoted {
        bail!("a quote does not end");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_value_parse_to_the_same() {
        let json = r#"{"driver":"pxb-pcie","bus_nr":128,"id":"pci.1","numa_node":0,"x":true}"#;
        let plain = "pxb-pcie,bus_nr=128,id=pci.1,numa_node=0,x";
        let read = Properties::parse(json).expect("readable");
        assert_eq!(read, Properties::parse(plain).expect("readable"));
        assert_eq!(
            (read.kind.as_str(), read.number("bus_nr")),
            ("pxb-pcie", Some(128))
        );
    }

    #[test]
    fn doubled_commas_are_part_of_a_value_and_repeated_names_are_joined() {
        let read = Properties::parse("node,cpus=0-3,cpus=8,path=a,,b").expect("readable");
        assert_eq!(read.named("cpus"), Some("0-3,8"));
        assert_eq!(read.named("path"), Some("a,b"));
    }

    #[test]
    fn a_command_line_is_split_as_a_shell_does() {
        let text = r#"LC_ALL=C PATH=/usr/bin /usr/bin/qemu-system-x86_64 -name 'it'\''s' -S -object '{"a": 1}'"#;
        let read = parse(text).expect("readable");
        let expected = [
            Argument::new("-name", "it's"),
            Argument::new("-S", ""),
            Argument::new("-object", r#"{"a": 1}"#),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn a_text_that_is_not_a_command_line_is_refused() {
        for text in [
            "",
            "LC_ALL=C",
            "/bin/qemu stray",
            "/bin/qemu -a b c",
            "/bin/qemu 'open",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
