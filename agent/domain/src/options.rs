//! What a user asks of variantd for one domain: `<options>` in its `<metadata>`.
//!
//! ```xml
//! <metadata>
//!   <variantd:options xmlns:variantd='urn:variantd:options:1' egm='on' cmdqv='on' numa='mirror'/>
//! </metadata>
//! ```
//!
//! libvirt keeps one element of each namespace there, so the namespace is not that of the mark.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use roxmltree::Node;

use crate::edit::{Edit, Element};
use crate::refusal::Refusal;
use crate::value::value;

/// XML namespace of the options.
pub const OPTIONS_NAMESPACE: &str = "urn:variantd:options:1";

/// The options of a domain. An option that is `None` is as the recipe has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `egm`: the GPUs' EGM regions are the guest's memory.
    pub egm: Option<bool>,
    /// `cmdqv`: the SMMUv3s have command queues.
    pub cmdqv: Option<bool>,
    /// `numa`: whether the host's NUMA layout is mirrored.
    pub numa: Option<NumaMode>,
}

/// Whether variantd writes a NUMA layout into a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumaMode {
    /// Cells, pins, bindings and processor topology mirror the host nodes of the guest's devices.
    Mirror,
    /// The definition's own layout is kept.
    Keep,
}

impl NumaMode {
    /// The option's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mirror => "mirror",
            Self::Keep => "keep",
        }
    }
}

impl fmt::Display for NumaMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for NumaMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        let modes = [Self::Mirror, Self::Keep];
        let found = modes.into_iter().find(|mode| mode.as_str() == text);
        found.ok_or_else(|| UnknownMode(shortened(text)))
    }
}

/// A text is neither `mirror` nor `keep`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not 'mirror' or 'keep'")]
pub struct UnknownMode(String);

/// The place of the options in a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionsElement {
    pub(crate) element: Element,
    /// The attribute `egm` with the white space before it.
    pub(crate) egm: Option<Range<usize>>,
    /// The attribute `numa` with the white space before it.
    pub(crate) numa: Option<Range<usize>>,
}

impl OptionsElement {
    /// Sets `egm` to `on` or `off`; other attributes stay.
    #[must_use]
    pub fn with_egm(&self, value: &str) -> Edit {
        self.with(self.egm.as_ref(), &format!("egm='{value}'"))
    }

    /// Sets `numa`; other attributes stay.
    #[must_use]
    pub fn with_numa(&self, mode: NumaMode) -> Edit {
        self.with(self.numa.as_ref(), &format!("numa='{mode}'"))
    }

    fn with(&self, old: Option<&Range<usize>>, attribute: &str) -> Edit {
        match old {
            Some(span) => Edit {
                span: span.clone(),
                text: format!(" {attribute}"),
            },
            None => self.element.with_attribute(attribute),
        }
    }
}

/// The element in `<metadata>`.
pub(crate) fn node<'a, 'i>(metadata: Option<Node<'a, 'i>>) -> Option<Node<'a, 'i>> {
    let named = |node: &Node<'_, '_>| node.has_tag_name((OPTIONS_NAMESPACE, "options"));
    metadata?.children().find(named)
}

impl Options {
    /// Reads the element, if there is one.
    pub(crate) fn read(node: Option<Node<'_, '_>>) -> Result<Self, Refusal> {
        let mut options = Self::default();
        let Some(node) = node else {
            return Ok(options);
        };
        for attribute in node.attributes() {
            let (name, text) = (attribute.name(), attribute.value());
            let option = match name {
                "egm" => &mut options.egm,
                "cmdqv" => &mut options.cmdqv,
                "numa" => {
                    let mode = text.parse();
                    let mode =
                        mode.map_err(|_| value(node, name, "it must be 'mirror' or 'keep'"))?;
                    options.numa = Some(mode);
                    continue;
                }
                _ => {
                    let why = "unknown option; expected egm, cmdqv or numa";
                    return Err(value(node, &shortened(name), why));
                }
            };
            *option = match text {
                "on" => Some(true),
                "off" => Some(false),
                _ => return Err(value(node, name, "it must be 'on' or 'off'")),
            };
        }
        Ok(options)
    }
}

fn shortened(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Domain;
    use crate::code::Code;

    fn read(attributes: &str) -> Result<Options, Refusal> {
        let options = format!("<v:options xmlns:v='{OPTIONS_NAMESPACE}' {attributes}/>");
        let text = format!(
            "<domain type='kvm'><name>g</name><metadata>{options}</metadata><devices/></domain>"
        );
        Domain::parse(&text).map(|domain| domain.options)
    }

    #[test]
    fn each_option_is_on_or_off() {
        let (on, off) = (Some(true), Some(false));
        for (attributes, egm, cmdqv) in [
            ("", None, None),
            ("egm='on'", on, None),
            ("egm='off' cmdqv='on'", off, on),
        ] {
            let numa = None;
            assert_eq!(
                read(attributes).expect("options"),
                Options { egm, cmdqv, numa }
            );
        }
    }

    #[test]
    fn numa_is_mirror_or_keep() {
        for (attributes, numa) in [
            ("numa='mirror'", NumaMode::Mirror),
            ("egm='off' numa='keep'", NumaMode::Keep),
        ] {
            assert_eq!(read(attributes).expect("options").numa, Some(numa));
        }
    }

    #[test]
    fn an_unknown_option_or_value_is_refused() {
        for attributes in [
            "emg='on'",
            "egm='yes'",
            "egm=''",
            "cmdqv='ON'",
            "numa='on'",
            "numa=''",
        ] {
            let refusal = read(attributes).expect_err("refused");
            assert_eq!(refusal.code, Code::XmlValue, "{attributes}: {refusal}");
        }
    }
}
