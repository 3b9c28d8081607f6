//! `<qemu:commandline>`: arguments that libvirt passes to QEMU unchanged.

use crate::edit::Element;

/// XML namespace of the arguments (libvirt, docs/drvqemu.rst).
pub const QEMU_NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

/// `<qemu:commandline>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// The arguments in document order.
    pub arguments: Vec<Argument>,
    /// The element.
    pub element: Element,
    /// The namespace prefix with the colon; empty for a default namespace.
    pub prefix: String,
}

/// `<qemu:arg>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// `value`.
    pub value: String,
    /// The element.
    pub element: Element,
}

/// `<qemu:override>`: properties of devices that libvirt does not set itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overrides {
    /// The properties in document order.
    pub properties: Vec<Override>,
    /// The element.
    pub element: Element,
}

/// `<qemu:property>` of a `<qemu:device>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The device's alias.
    pub alias: String,
    /// The property.
    pub name: String,
    /// Its value.
    pub value: String,
}
