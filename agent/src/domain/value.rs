//! Attribute and text values of domain XML, each read into its type or refused by name and line.

use std::str::FromStr;

use kernel_glue::address::PciAddress;
use roxmltree::{Document, Node, ParsingOptions};

use super::DomainUuid;
use crate::code::Code;
use crate::refusal::Refusal;

/// Bytes of an element that a mark keeps; an address has 200.
const MAX_ELEMENT: usize = 4096;

pub(super) fn content<'a>(node: Node<'a, '_>) -> Option<&'a str> {
    node.text().map(str::trim).filter(|text| !text.is_empty())
}

pub(super) fn pci_address(node: Node<'_, '_>) -> Result<PciAddress, Refusal> {
    let domain = attribute_number(node, "domain")?;
    let byte = |name| {
        let number = attribute_number(node, name)?;
        u8::try_from(number).map_err(|_| value(node, name, &format!("{number:#x} is above 0xff")))
    };
    PciAddress::new(domain, byte("bus")?, byte("slot")?, byte("function")?)
        .map_err(|error| value(node, "slot", &error.to_string()))
}

/// A number as libvirt reads it: decimal, or hex with `0x`; 0 when the attribute is missing.
fn attribute_number(node: Node<'_, '_>, name: &str) -> Result<u32, Refusal> {
    let text = node.attribute(name).unwrap_or("0").trim();
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if !hex.starts_with('+') => u32::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None => text.parse().ok(),
    };
    number.ok_or_else(|| value(node, name, &format!("'{}' is no number", shortened(text))))
}

pub(super) fn optional<T: FromStr>(node: Node<'_, '_>, name: &str) -> Result<Option<T>, Refusal> {
    let Some(text) = node.attribute(name) else {
        return Ok(None);
    };
    let parsed = text.trim().parse();
    parsed
        .map(Some)
        .map_err(|_| value(node, name, &format!("'{}' cannot be read", shortened(text))))
}

/// An attribute with the text of an element of this name that can be read, and of nothing else: it is put into a definition as
/// it is.
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
        root.has_tag_name(tag) && root.range() == (0..text.len()) && can_be_read(root)
    });
    match is_one {
        true => Ok(Some(text.to_owned())),
        false => {
            let why = format!("'{}' is no <{tag}>", shortened(text));
            Err(value(node, name, &why))
        }
    }
}

pub(super) fn required<T: FromStr>(node: Node<'_, '_>, name: &str) -> Result<T, Refusal> {
    optional(node, name)?.ok_or_else(|| value(node, name, "it is missing"))
}

pub(super) fn text_number(node: Node<'_, '_>) -> Result<u32, Refusal> {
    let text = content(node).unwrap_or_default();
    text.parse()
        .map_err(|_| value(node, "", &format!("'{}' is no number", shortened(text))))
}

pub(super) fn uuid(node: Node<'_, '_>) -> Result<DomainUuid, Refusal> {
    let text = content(node).unwrap_or_default();
    text.parse()
        .map_err(|()| value(node, "", &format!("'{}' is no UUID", shortened(text))))
}

pub(super) fn memory(node: Node<'_, '_>) -> Result<u64, Refusal> {
    kib(node, content(node).unwrap_or_default(), "")
}

pub(super) fn cell_memory(node: Node<'_, '_>) -> Result<u64, Refusal> {
    node.attribute("memory")
        .map_or(Ok(0), |text| kib(node, text.trim(), "memory"))
}

/// Sizes by libvirt's units (virScaleInteger), to KiB, rounded up.
fn kib(node: Node<'_, '_>, text: &str, name: &str) -> Result<u64, Refusal> {
    let bad = || {
        value(
            node,
            name,
            &format!("'{}' is no memory size", shortened(text)),
        )
    };
    let number: u64 = text.parse().map_err(|_| bad())?;
    let bytes = match node.attribute("unit").unwrap_or("KiB") {
        "b" | "bytes" => 1,
        "KB" => 1000,
        "k" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "M" | "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "G" | "GiB" => 1 << 30,
        "TB" => 1_000_000_000_000,
        "T" | "TiB" => 1 << 40,
        other => {
            return Err(value(
                node,
                "unit",
                &format!("'{}' is no unit", shortened(other)),
            ));
        }
    };
    number
        .checked_mul(bytes)
        .map(|size| size.div_ceil(1024))
        .ok_or_else(bad)
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
        "correct it with 'virsh edit', or in the file",
    )
    .at(xpath(node))
}

fn xpath(node: Node<'_, '_>) -> String {
    let mut names: Vec<&str> = node.ancestors().map(|n| n.tag_name().name()).collect();
    names.reverse();
    names.join("/")
}
