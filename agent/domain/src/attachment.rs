//! A device as libvirt's attach calls take it, and a definition with that device.
//!
//! virDomainAttachDeviceFlags takes one element of `<devices>`. Only the joined definition is parsed for its content.

use std::ops::Range;

use crate::code::Code;
use crate::edit::{self, Edit};
use crate::refusal::Refusal;
use crate::{Definition, read};

/// The text of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    text: String,
    /// The element in the text, without a declaration and comments around it.
    element: Range<usize>,
}

/// A definition with a device as its last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The definition.
    pub definition: Definition,
    /// The device's element in the definition's text.
    pub element: Range<usize>,
}

impl Attachment {
    /// Reads the text of a device.
    ///
    /// # Errors
    /// A refusal with a `VD-XML` code if the text is too large, has a document type declaration, or is not well-formed.
    pub fn parse(text: impl Into<String>) -> Result<Self, Refusal> {
        let text = text.into();
        let element = read::document(&text)?.root_element().range();
        Ok(Self { text, element })
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The definition with the device, byte for byte, before `</devices>`.
    ///
    /// # Errors
    /// The refusals of [`Definition::parse`]: libvirt would store the result of the attach.
    pub fn join(&self, definition: &Definition) -> Result<Joined, Refusal> {
        let domain = definition.domain();
        let device = &self.text[self.element.clone()];
        let (before, after) = match domain.devices {
            Some(_) => ("", ""),
            None => ("<devices>", "</devices>"),
        };
        let parent = domain.devices.as_ref().unwrap_or(&domain.element);
        let edit = parent.append_unchanged(&format!("{before}{device}{after}"));
        let opened = usize::from(parent.is_self_closed());
        let start = edit.span.start + opened + before.len();
        let text = applied(definition.text(), &[edit])?;
        Ok(Joined {
            definition: Definition::parse(text)?,
            element: start..start + device.len(),
        })
    }

    /// The device with edits of a joined definition; all of them are in its element.
    ///
    /// # Errors
    /// The edits overlap, or one is outside the element.
    pub fn edited<'e>(
        &self,
        joined: &Joined,
        edits: impl IntoIterator<Item = &'e Edit>,
    ) -> Result<Self, Refusal> {
        let moved = |at: usize| (at + self.element.start).checked_sub(joined.element.start);
        let edits = edits.into_iter().map(|edit| Edit {
            span: moved(edit.span.start).unwrap_or(usize::MAX)
                ..moved(edit.span.end).unwrap_or(usize::MAX),
            text: edit.text.clone(),
        });
        Self::parse(applied(&self.text, &edits.collect::<Vec<_>>())?)
    }
}

impl Joined {
    /// True when an edit changes only the device's element.
    #[must_use]
    pub fn contains(&self, edit: &Edit) -> bool {
        self.element.start <= edit.span.start && edit.span.end <= self.element.end
    }
}

fn applied(text: &str, edits: &[Edit]) -> Result<String, Refusal> {
    edit::apply(text, edits).map_err(|error| {
        let hint = "please report this with the definition and the device";
        let reason = format!("internal error: wrong edits of a device: {error}");
        Refusal::new(Code::XmlValue, reason, hint)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: &str = "<?xml version='1.0'?>\n<!-- a -->\n<hostdev mode='subsystem' type='pci'>\n  \
        <source><address domain='0' bus='1' slot='0' function='0'/></source>\n</hostdev>\n";

    fn device() -> Attachment {
        Attachment::parse(DEVICE).expect("a device")
    }

    fn definition(devices: &str) -> Definition {
        let text = format!("<domain type='kvm'>\n  <name>d</name>\n  {devices}\n</domain>\n");
        text.parse().expect("a definition")
    }

    #[test]
    fn device_is_the_last_of_the_definition_unchanged() {
        for devices in [
            "<devices>\n    <emulator>/q</emulator>\n  </devices>",
            "<devices><emulator>/q</emulator></devices>",
            "<devices/>",
            "<devices></devices>",
            "",
        ] {
            let joined = device().join(&definition(devices)).expect("joined");
            let text = joined.definition.text();
            assert!(DEVICE.contains(&text[joined.element.clone()]), "{text}");
            let [hostdev] = &joined.definition.domain().hostdevs[..] else {
                unreachable!("{text}");
            };
            assert_eq!(hostdev.element.span, joined.element, "{text}");
        }
    }

    #[test]
    fn edit_of_the_joined_definition_is_made_in_the_device() {
        let device = device();
        let joined = device.join(&definition("<devices/>")).expect("joined");
        let element = &joined.definition.domain().hostdevs[0].element;
        let edit = element.prepend("<driver name='vfio'/>");
        assert!(joined.contains(&edit));
        let edited = device.edited(&joined, [&edit]).expect("edited");
        let expected = DEVICE.replace("'pci'>", "'pci'><driver name='vfio'/>");
        assert_eq!(edited.text(), expected);
        let outside = joined.definition.domain().element.with_attribute("a='b'");
        assert!(!joined.contains(&outside));
        let refusal = device.edited(&joined, [&outside]).expect_err("outside");
        assert_eq!(refusal.code, Code::XmlValue);
    }

    #[test]
    fn text_that_is_not_one_element_is_refused() {
        for (text, code) in [
            ("", Code::XmlMalformed),
            ("<hostdev>", Code::XmlMalformed),
            ("<a/><b/>", Code::XmlMalformed),
            ("</devices><a/><devices>", Code::XmlMalformed),
            ("<!DOCTYPE a><a/>", Code::XmlDtd),
            (&"<a>".repeat(300), Code::XmlTooLarge),
            (
                &format!("<a>{}</a>", " ".repeat(1 << 20)),
                Code::XmlTooLarge,
            ),
        ] {
            let refusal = Attachment::parse(text).expect_err("refused");
            assert_eq!(refusal.code, code, "{}", &text[..text.len().min(40)]);
        }
    }
}
