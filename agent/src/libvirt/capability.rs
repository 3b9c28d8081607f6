//! libvirt's domain capabilities: the few that planning needs.

use std::sync::Arc;

use roxmltree::{Document, Node};
use serde::{Deserialize, Serialize};

use planner::from_libvirt::{FromLibvirt, Networks};

/// Maximum size: CPU models make these texts about 100 KiB long.
const MAX_BYTES: usize = 4 << 20;

/// Domain capabilities (libvirt, formatdomaincaps).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// `<path>`: the QEMU that they describe.
    pub emulator: Option<String>,
    /// `<arch>`: also if the query did not name one.
    pub arch: Option<String>,
    /// `<machine>`: the same.
    pub machine: Option<String>,
    /// `yes` is among the values of the host devices' enum `iommufd`; `None` if there is no such enum.
    pub iommufd: Option<bool>,
}

impl Capabilities {
    /// Together with libvirt's networks, all its answers besides versions for planning a guest of this kind.
    #[must_use]
    pub fn with(&self, networks: Option<Arc<Networks>>) -> FromLibvirt {
        FromLibvirt {
            networks,
            arch: self.arch.clone(),
            machine: self.machine.clone(),
        }
    }

    /// Parses them; missing or invalid parts are unknown.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let document = Document::parse(text)
            .ok()
            .filter(|_| text.len() <= MAX_BYTES);
        let Some(root) = document.as_ref().map(Document::root_element) else {
            return Self::default();
        };
        let named = |name| move |node: &Node<'_, '_>| node.has_tag_name(name);
        let text = |name| {
            let node = root.children().find(named(name));
            node.and_then(|node| node.text()).map(str::to_owned)
        };
        let hostdev = root.descendants().find(named("hostdev"));
        let iommufd = hostdev.and_then(|hostdev| {
            hostdev
                .children()
                .find(|node| node.attribute("name") == Some("iommufd"))
        });
        Self {
            emulator: text("path"),
            arch: text("arch"),
            machine: text("machine"),
            iommufd: iommufd.map(|values| {
                values
                    .descendants()
                    .any(|value| value.text() == Some("yes"))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_emulator_and_iommufd_are_found() {
        let with = |values: &str| {
            Capabilities::parse(&format!(
                "<domainCapabilities><path>/usr/bin/q</path><machine>pc-q35-10.0</machine><arch>x86_64</arch><devices><hostdev supported='yes'><enum name='mode'><value>yes</value></enum>{values}</hostdev></devices></domainCapabilities>"
            ))
        };
        let yes = with("<enum name='iommufd'><value>no</value><value>yes</value></enum>");
        assert_eq!(
            (yes.emulator.as_deref(), yes.iommufd),
            (Some("/usr/bin/q"), Some(true))
        );
        assert_eq!(
            (yes.arch.as_deref(), yes.machine.as_deref()),
            (Some("x86_64"), Some("pc-q35-10.0"))
        );
        assert_eq!(
            with("<enum name='iommufd'><value>no</value></enum>").iommufd,
            Some(false)
        );
        assert_eq!(with("").iommufd, None);
        assert_eq!(Capabilities::parse("<a"), Capabilities::default());
    }
}
