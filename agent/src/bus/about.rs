//! The subject of a call, parsed and bounded before polkit is asked: polkit's rules and dialogs show it.

use kernel_glue::address::PciAddress;

use super::BusError;
use crate::libvirt::DomainRef;

/// Maximum length of a device or domain name. libvirt uses a domain's name as a file name (255 bytes).
const NAME: usize = 255;
/// Maximum number of characters of a foreign text in a message.
const SHOWN: usize = 64;

/// A device or a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum About {
    Nothing,
    Device(PciAddress),
    AllDevices,
    Domain(DomainRef),
}

impl About {
    /// The details for polkit. A name that is too long or has control characters is left out: the UUID identifies the
    /// domain.
    pub(super) fn details(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Device(device) => vec![("device", device.to_string())],
            Self::AllDevices => vec![("device", "all".to_owned())],
            Self::Domain(domain) => vec![
                ("domain", printable(&domain.name, NAME)),
                ("uuid", domain.uuid.to_string()),
            ],
        }
    }
}

/// Checks the name of a device or domain from a caller.
///
/// # Errors
/// No device or domain can have this name.
pub(super) fn name(text: &str) -> Result<&str, BusError> {
    let is_name = !text.is_empty() && text.len() <= NAME && !text.chars().any(is_hidden);
    match is_name {
        true => Ok(text),
        false => Err(BusError::failed(format!(
            "'{}' is not the name of a device or domain",
            shown(text)
        ))),
    }
}

/// Quotes a foreign text for a message.
pub(super) fn shown(text: &str) -> String {
    let short = printable(text, SHOWN);
    match short.len() < text.len() {
        true => format!("{short}..."),
        false => short,
    }
}

fn printable(text: &str, length: usize) -> String {
    let plain = text
        .chars()
        .map(|letter| if is_hidden(letter) { '?' } else { letter });
    plain.take(length).collect()
}

/// Control characters, and characters that change the direction or position of text around them.
fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_name_is_refused_and_quoted_in_short() {
        for text in ["", "a\nb", "a\u{9b}31m", "\u{202e}x", &"x".repeat(256)] {
            let error = name(text).expect_err("no name").to_string();
            assert!(
                error.len() < 200 && !error.chars().any(is_hidden),
                "{error:?}"
            );
        }
        for text in ["d0", "guest of Łódź", &"x".repeat(255)] {
            assert_eq!(name(text).expect("a name"), text);
        }
    }

    #[test]
    fn details_are_canonical() {
        let uuid = "6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11";
        let domain = DomainRef {
            name: "d\u{9b}0".into(),
            uuid: uuid.parse().expect("UUID"),
        };
        let details = About::Domain(domain).details();
        assert_eq!(
            details,
            [("domain", "d?0".to_owned()), ("uuid", uuid.to_owned())]
        );
        let device = "pci_0009_01_00_0".parse().expect("address");
        let details = About::Device(device).details();
        assert_eq!(details, [("device", "0009:01:00.0".to_owned())]);
    }
}
