//! What NCCL's reader accepts (src/graph/xml.cc and xml.h): not all of XML.
//!
//! One blank before each attribute, no tab, no XML declaration, no text between elements. The limits are the smallest of the
//! versions that the header of this folder names.

use std::collections::BTreeSet;
use std::str::Chars;

/// Bytes of a name or value, with its end (MAX_STR_LEN).
const MAX_TEXT: usize = 255;
/// Attributes of an element (MAX_ATTR_COUNT).
const MAX_ATTRIBUTES: usize = 16;
/// Elements below one (MAX_SUBS of 2.8 to 2.18).
const MAX_BELOW: usize = 32;
/// Elements of a file (NCCL_TOPO_XML_MAX_NODES).
const MAX_ELEMENTS: usize = 256;

/// An element of the file.
#[derive(Debug, Default)]
pub struct Element {
    /// Its name.
    pub name: String,
    /// Its attributes, in order.
    pub attributes: Vec<(String, String)>,
    /// The elements in it.
    pub below: Vec<Element>,
}

impl Element {
    /// The value of an attribute; "" if it is missing.
    #[must_use]
    pub fn get(&self, key: &str) -> &str {
        let found = self.attributes.iter().find(|(name, _)| name == key);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// The elements without others in them, each `busid` with that of the element above; "" for a processor.
    #[must_use]
    pub fn leaves(&self) -> Vec<(String, String)> {
        let own = self.get("busid").to_owned();
        let below = |child: &Self| match child.below.is_empty() {
            true => vec![(child.get("busid").to_owned(), own.clone())],
            false => child.leaves(),
        };
        self.below.iter().flat_map(below).collect()
    }
}

/// The `system` of a file.
///
/// # Errors
/// Why NCCL would refuse the file, ignore a part of it, or take one element for another.
pub fn load(text: &str) -> Result<Element, String> {
    let mut reader = Reader(text.chars());
    let system = reader.element("")?.ok_or("no element")?;
    if (system.name.as_str(), system.get("version")) != ("system", "1") {
        return Err(format!("not a system of version 1: {}", system.name));
    }
    if reader.0.any(|c| c != '\n') {
        return Err("text after the system".to_owned());
    }
    let mut ids = BTreeSet::new();
    check(&system, "", &mut ids)?;
    match count(&system) {
        0..=MAX_ELEMENTS => Ok(system),
        many => Err(format!("{many} elements")),
    }
}

fn count(element: &Element) -> usize {
    1 + element.below.iter().map(count).sum::<usize>()
}

struct Reader<'a>(Chars<'a>);

impl Reader<'_> {
    fn next(&mut self) -> Result<char, String> {
        self.0.next().ok_or_else(|| "unexpected end".to_owned())
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        match self.next()? {
            found if found == wanted => Ok(()),
            found => Err(format!("expected {wanted:?}, found {found:?}")),
        }
    }

    /// The text before one of these characters, and that character.
    fn until(&mut self, ends: &[char]) -> Result<(String, char), String> {
        let mut text = String::new();
        loop {
            match self.next()? {
                c if ends.contains(&c) => return Ok((text, c)),
                c => text.push(c),
            }
            if text.len() >= MAX_TEXT {
                return Err(format!("too long: {text}"));
            }
        }
    }

    /// The next element; `None` at the closing tag of `parent`.
    fn element(&mut self, parent: &str) -> Result<Option<Element>, String> {
        let start = self.0.find(|c| !matches!(c, ' ' | '\n' | '\r'));
        if start != Some('<') {
            return Err(format!(
                "expected an element in <{parent}>, found {start:?}"
            ));
        }
        let (name, last) = self.until(&[' ', '>', '/', '\n', '\r'])?;
        if name.is_empty() && last == '/' {
            let (closed, _) = self.until(&['>'])?;
            return match closed == parent {
                true => Ok(None),
                false => Err(format!("</{closed}> closes <{parent}>")),
            };
        }
        let mut element = Element {
            name,
            ..Element::default()
        };
        match self.attributes(&mut element, last)? {
            '/' => self.expect('>')?,
            '>' => {
                while let Some(below) = self.element(&element.name.clone())? {
                    element.below.push(below);
                }
            }
            other => return Err(format!("expected '>', found {other:?}")),
        }
        Ok(Some(element))
    }

    /// Reads attributes while a blank is before each; returns the character after the last.
    fn attributes(&mut self, element: &mut Element, mut last: char) -> Result<char, String> {
        while last == ' ' {
            let (key, end) = self.until(&['=', ' ', '>', '/', '\n', '\r'])?;
            if end != '=' {
                return Err(format!("attribute '{key}' has no value"));
            }
            let quote = self.next()?;
            if !matches!(quote, '"' | '\'') {
                return Err(format!("{key} has no quote"));
            }
            let (value, _) = self.until(&[quote])?;
            element.attributes.push((key, value));
            last = self.next()?;
        }
        Ok(last)
    }
}

/// Checks an element and those in it: NCCL ignores other elements and attributes beyond its limits, and takes two elements
/// with one id for one.
fn check<'a>(
    element: &'a Element,
    parent: &str,
    ids: &mut BTreeSet<&'a str>,
) -> Result<(), String> {
    let known = match element.name.as_str() {
        "system" => parent.is_empty(),
        "cpu" => parent == "system",
        "pci" => matches!(parent, "cpu" | "pci"),
        _ => false,
    };
    if !known {
        return Err(format!("<{}> in <{parent}>", element.name));
    }
    if element.attributes.len() > MAX_ATTRIBUTES || element.below.len() > MAX_BELOW {
        return Err(format!("<{}> is too large", element.name));
    }
    for id in ["busid", "numaid"].map(|key| element.get(key)) {
        if !id.is_empty() && !ids.insert(id) {
            return Err(format!("'{id}' occurs twice"));
        }
    }
    match element.name.as_str() {
        "cpu" => check_cpu(element)?,
        "pci" => check_pci(element)?,
        _ => {}
    }
    let mut below = element.below.iter();
    below.try_for_each(|below| check(below, &element.name, ids))
}

/// As `ncclTopoAddCpu` asks.
fn check_cpu(cpu: &Element) -> Result<(), String> {
    let wrong = |key: &str| Err(format!("<cpu {key}='{}'>", cpu.get(key)));
    let mut groups = cpu.get("affinity").split(',');
    // A value that is left out is read in the guest.
    let affinity = cpu.get("affinity").is_empty();
    if cpu.get("numaid").parse::<u32>().is_err() {
        return wrong("numaid");
    }
    if !["arm64", "x86_64"].contains(&cpu.get("arch")) {
        return wrong("arch");
    }
    match affinity || groups.all(|group| u32::from_str_radix(group, 16).is_ok()) {
        true => Ok(()),
        false => wrong("affinity"),
    }
}

/// As `ncclTopoAddPci` asks; the speeds are those of `kvDictPciGen`, and one that is left out is read in the guest.
fn check_pci(pci: &Element) -> Result<(), String> {
    const SPEEDS: [&str; 7] = [
        "",
        "2.5 GT/s PCIe",
        "5.0 GT/s PCIe",
        "8.0 GT/s PCIe",
        "16.0 GT/s PCIe",
        "32.0 GT/s PCIe",
        "64.0 GT/s PCIe",
    ];
    let hexadecimal = |key: &str, length: usize| {
        let digits = pci.get(key).strip_prefix("0x").unwrap_or_default();
        digits.len() == length && digits.bytes().all(|c| c.is_ascii_hexdigit())
    };
    let is_right = [
        ("busid", is_busid(pci.get("busid"))),
        ("class", hexadecimal("class", 6)),
        ("vendor", hexadecimal("vendor", 4)),
        ("device", hexadecimal("device", 4)),
        ("link_speed", SPEEDS.contains(&pci.get("link_speed"))),
    ];
    match is_right.iter().find(|(_, right)| !right) {
        Some((key, _)) => Err(format!("<pci {key}='{}'>", pci.get(key))),
        None => Ok(()),
    }
}

/// `0000:1b:00.0`, as the kernel and NCCL write it.
fn is_busid(text: &str) -> bool {
    let shape = |(at, c): (usize, u8)| match at {
        4 | 7 => c == b':',
        10 => c == b'.',
        _ => c.is_ascii_digit() || matches!(c, b'a'..=b'f'),
    };
    text.len() == 12 && text.bytes().enumerate().all(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PCI: &str =
        "<pci busid=\"0000:01:00.0\" class=\"0x030200\" vendor=\"0x10de\" device=\"0x2330\"/>";

    fn refused(below_cpu: &str) -> String {
        let text = format!(
            "<system version=\"1\">\n<cpu numaid=\"0\" arch=\"x86_64\">\n{below_cpu}\n</cpu>\n</system>\n"
        );
        load(&text).map_or_else(|why| why, |_| String::new())
    }

    #[test]
    fn a_file_that_nccl_does_not_read_is_refused_with_the_reason() {
        assert_eq!(refused(PCI), "");
        for (text, why) in [
            (
                PCI.replace(" class", "  class"),
                "attribute '' has no value",
            ),
            (PCI.replace(" class", "\tclass"), "found '\\t'"),
            (PCI.replace("00.0", "00.0.0"), "busid"),
            (PCI.replace("0x0302", "0x302"), "class"),
            (format!("{PCI}{PCI}"), "occurs twice"),
            (PCI.replace("pci", "gpu"), "<gpu> in <cpu>"),
            (format!("text{PCI}"), "expected an element"),
            (PCI.replace("/>", ">"), "closes"),
            (PCI.replace("0x10de", &"0".repeat(300)), "too long"),
        ] {
            let found = refused(&text);
            assert!(found.contains(why), "{text}: {found}");
        }
    }

    #[test]
    fn more_elements_than_nccl_has_room_for_are_refused() {
        let pci = |bus: usize, device: usize| {
            let at = format!("{bus:02x}:{device:02x}.0");
            PCI.replace("01:00.0", &at)
        };
        let bus = |bus: usize, count: usize| -> String {
            let below: String = (1..=count).map(|device| pci(bus, device)).collect();
            pci(bus, 0).replace("/>", &format!(">{below}</pci>"))
        };
        assert!(refused(&bus(1, 33)).contains("too large"));
        let many: String = (0..9).map(|number| bus(number, 31)).collect();
        assert_eq!(refused(&many), "290 elements");
    }
}
