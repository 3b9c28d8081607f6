//! Attribute and text values of domain XML: each is parsed into its type or refused with name and line.

use std::str::FromStr;

use kernel_glue::address::PciAddress;
use kernel_glue::numa::RangeList;
use roxmltree::{Attribute, Document, Node, ParsingOptions};

use super::DomainUuid;
use super::number::{self, Base};
use crate::code::Code;
use crate::refusal::Refusal;

/// Maximum size of an element that a mark keeps; an address has 200 bytes.
const MAX_ELEMENT: usize = 4096;

/// Maximum memory in bytes (virMemoryMaxValue).
const MEMORY_LIMIT: u64 = i64::MAX as u64;

/// The value of "no limit" (VIR_DOMAIN_MEMORY_PARAM_UNLIMITED).
const UNLIMITED_KIB: u64 = (1 << 53) - 1;

/// True for an element of libvirt's: elements in an XML namespace belong to other programs, even with the same names.
pub(super) fn is(node: Node<'_, '_>, name: &str) -> bool {
    node.is_element() && node.tag_name().namespace().is_none() && node.tag_name().name() == name
}

pub(super) fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| is(*child, name))
}

pub(super) fn children<'a, 'i>(
    node: Node<'a, 'i>,
    name: &'static str,
) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |child| is(*child, name))
}

/// The children of all elements of this name: libvirt evaluates `./devices/hostdev`, and there may be several
/// `<devices>`.
pub(super) fn below<'a, 'i>(
    node: Node<'a, 'i>,
    name: &'static str,
    inner: &'static str,
) -> impl Iterator<Item = Node<'a, 'i>> {
    children(node, name).flat_map(move |node| children(node, inner))
}

/// An attribute as xmlGetProp returns it: the first of this name, in any namespace.
pub(super) fn property<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    property_node(node, name).map(|attribute| attribute.value())
}

pub(super) fn property_node<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Attribute<'a, 'i>> {
    node.attributes().find(|attribute| attribute.name() == name)
}

/// The text of an element as XPath's string() returns it, without comments.
pub(super) fn text(node: Node<'_, '_>) -> String {
    let texts = node.descendants().filter(Node::is_text);
    texts.filter_map(|text| text.text()).collect()
}

pub(super) fn content<'a>(node: Node<'a, '_>) -> Option<&'a str> {
    node.text().map(str::trim).filter(|text| !text.is_empty())
}

/// A numeric attribute, parsed by one of `number`'s functions.
pub(super) fn number(
    node: Node<'_, '_>,
    name: &str,
    read: impl Fn(&str) -> Option<u32>,
) -> Result<Option<u32>, Refusal> {
    let read = |text| read(text).ok_or_else(|| no_number(node, name, text));
    property(node, name).map(read).transpose()
}

/// A decimal number without a sign, as most attributes are.
pub(super) fn decimal(node: Node<'_, '_>, name: &str) -> Result<Option<u32>, Refusal> {
    number(node, name, |text| number::unsigned(text, Base::Decimal))
}

/// A required decimal attribute.
pub(super) fn required_decimal(node: Node<'_, '_>, name: &str) -> Result<u32, Refusal> {
    decimal(node, name)?.ok_or_else(|| value(node, name, "the value is missing"))
}

/// A CPU mask or a nodeset.
pub(super) fn list(node: Node<'_, '_>, name: &str) -> Result<Option<RangeList>, Refusal> {
    let why = |text| format!("'{}' is not a list of numbers", shortened(text));
    let read = |text| number::list(text).ok_or_else(|| value(node, name, &why(text)));
    property(node, name).map(read).transpose()
}

/// A `nodeset`, which must name a node.
pub(super) fn nodeset(node: Node<'_, '_>) -> Result<Option<RangeList>, Refusal> {
    match list(node, "nodeset")? {
        Some(nodes) if nodes.is_empty() => Err(value(node, "nodeset", "it must name a node")),
        nodes => Ok(nodes),
    }
}

pub(super) fn pci_address(node: Node<'_, '_>) -> Result<PciAddress, Refusal> {
    let field = |name| number(node, name, |text| number::unsigned(text, Base::Any));
    let byte = |name| {
        let number = field(name)?.unwrap_or(0);
        u8::try_from(number).map_err(|_| value(node, name, &format!("{number:#x} is above 0xff")))
    };
    let domain = field("domain")?.unwrap_or(0);
    PciAddress::new(domain, byte("bus")?, byte("slot")?, byte("function")?)
        .map_err(|error| value(node, "slot", &error.to_string()))
}

pub(super) fn optional<T: FromStr>(node: Node<'_, '_>, name: &str) -> Result<Option<T>, Refusal> {
    let Some(text) = node.attribute(name) else {
        return Ok(None);
    };
    let parsed = text.trim().parse();
    parsed
        .map(Some)
        .map_err(|_| value(node, name, &format!("'{}' is invalid", shortened(text))))
}

/// An attribute whose value is the text of one element of this name, and nothing else: it is inserted into a definition
/// unchanged.
pub(super) fn element(
    node: Node<'_, '_>,
    name: &str,
    tag: &str,
    can_be_read: impl Fn(Node<'_, '_>) -> bool,
) -> Result<Option<String>, Refusal> {
    let Some(text) = node.attribute(name) else {
        return Ok(None);
    };
    let options = ParsingOptions {
        nodes_limit: 64,
        ..Default::default()
    };
    let bounded = text.len() <= MAX_ELEMENT;
    let read = bounded.then(|| Document::parse_with_options(text, options));
    let is_one = read.and_then(Result::ok).is_some_and(|document| {
        let root = document.root_element();
        is(root, tag) && root.range() == (0..text.len()) && can_be_read(root)
    });
    match is_one {
        true => Ok(Some(text.to_owned())),
        false => {
            let why = format!("'{}' is not a single <{tag}> element", shortened(text));
            Err(value(node, name, &why))
        }
    }
}

pub(super) fn required<T: FromStr>(node: Node<'_, '_>, name: &str) -> Result<T, Refusal> {
    optional(node, name)?.ok_or_else(|| value(node, name, "the value is missing"))
}

/// A number as the text of an element.
pub(super) fn text_number(
    node: Node<'_, '_>,
    read: impl Fn(&str) -> Option<u32>,
) -> Result<u32, Refusal> {
    let text = text(node);
    read(&text).ok_or_else(|| no_number(node, "", &text))
}

pub(super) fn uuid(node: Node<'_, '_>) -> Result<DomainUuid, Refusal> {
    let text = text(node);
    text.parse()
        .map_err(|()| value(node, "", &format!("'{}' is not a UUID", shortened(&text))))
}

/// Memory in KiB (virDomainParseMemory); `None` for an empty element.
pub(super) fn memory(node: Node<'_, '_>) -> Result<Option<u64>, Refusal> {
    size(node, &text(node), "", MEMORY_LIMIT)
}

/// `<pcihole64>` in KiB: any number of bytes that fits 64 bits.
pub(super) fn window(node: Node<'_, '_>) -> Result<Option<u64>, Refusal> {
    size(node, &text(node), "", u64::MAX)
}

/// `<hard_limit>` in KiB (virDomainParseMemoryLimit); `None` if it sets no limit.
pub(super) fn limit(node: Node<'_, '_>) -> Result<Option<u64>, Refusal> {
    let limit = size(node, &text(node), "", UNLIMITED_KIB << 10)?;
    Ok(limit.filter(|kib| *kib < UNLIMITED_KIB))
}

pub(super) fn cell_memory(node: Node<'_, '_>) -> Result<u64, Refusal> {
    let text = node.attribute("memory").unwrap_or_default();
    let memory = size(node, text, "memory", MEMORY_LIMIT)?;
    memory.ok_or_else(|| value(node, "memory", "the value is missing"))
}

/// A size in KiB, rounded up.
fn size(node: Node<'_, '_>, text: &str, name: &str, limit: u64) -> Result<Option<u64>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let unit = node.attribute("unit").unwrap_or_default();
    if number::unit_bytes(unit).is_none() {
        let why = format!("'{}' is not a unit", shortened(unit));
        return Err(value(node, "unit", &why));
    }
    let why = || format!("'{}' is not a memory size", shortened(text));
    let bytes = number::size(text, unit, limit).ok_or_else(|| value(node, name, &why()))?;
    Ok(Some(bytes.div_ceil(1024)))
}

/// `<page size unit>` in KiB.
pub(super) fn page_size(node: Node<'_, '_>) -> Result<u64, Refusal> {
    let text = node.attribute("size").unwrap_or_default();
    let size = size(node, text, "size", MEMORY_LIMIT)?;
    size.ok_or_else(|| value(node, "size", "the value is missing"))
}

fn no_number(node: Node<'_, '_>, name: &str, text: &str) -> Refusal {
    value(
        node,
        name,
        &format!("'{}' is not a number", shortened(text)),
    )
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

pub(super) fn value(node: Node<'_, '_>, attribute: &str, why: &str) -> Refusal {
    let line = node.document().text_pos_at(node.range().start).row;
    let attribute = if attribute.is_empty() {
        String::new()
    } else {
        format!(" '{attribute}'")
    };
    let reason = format!(
        "<{}>{attribute} in line {line}: {why}",
        node.tag_name().name()
    );
    Refusal::new(
        Code::XmlValue,
        reason,
        "correct the value with 'virsh edit', or in the file",
    )
    .at(xpath(node))
}

fn xpath(node: Node<'_, '_>) -> String {
    let mut names: Vec<&str> = node.ancestors().map(|n| n.tag_name().name()).collect();
    names.reverse();
    names.join("/")
}
