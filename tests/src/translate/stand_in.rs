//! What stands in for hardware: in the definition, before libvirt sees it, and in the arguments, before QEMU does.
//!
//! | for | stands |
//! |---|---|
//! | KVM, of the guest's architecture | TCG |
//! | the choice of VFIO, which libvirt 9.0 makes at a start only | `<driver name='vfio'/>` |
//! | the host's processor | `maximum`, all that TCG can emulate |
//! | `vfio-pci` | `virtio-rng-pci`, an endpoint with the same id, bus and address that needs nothing behind it |
//! | host nodes of the memory, memory set aside | memory that is not there until it is touched |
//! | `accel` of an SMMU and what goes with it | nothing: QEMU wants KVM's interrupt controller for it |
//! | a window beyond the 40 address bits that TCG has on x86-64 | the largest that fits |

use std::ops::Range;

use anyhow::{Context, Result};
use roxmltree::{Document, Node};
use serde_json::Value;

use super::argument::{Argument, Properties};
use super::size;

const ENDPOINT: &str = "virtio-rng-pci";

/// What a device keeps of a hostdev.
const KEPT: [&str; 4] = ["id", "bus", "addr", "multifunction"];
/// What binds memory to host nodes or sets it aside.
const BINDING: [&str; 4] = ["host-nodes", "policy", "prealloc", "prealloc-threads"];
/// What an SMMU has through KVM and the host's SMMU only.
const ACCELERATED: [&str; 6] = ["accel", "ats", "cmdqv", "oas", "ril", "ssidsize"];

/// Largest window for 64-bit BARs below 2^40 that leaves room for memory.
const LARGEST_WINDOW: u64 = 512 << 20;

/// The definition for a libvirt without KVM.
pub fn definition(text: &str) -> Result<String> {
    let document = Document::parse(text).context("the definition is not XML")?;
    let root = document.root_element();
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    if let Some(kind) = root.attribute_node("type") {
        edits.push((kind.range_value(), "qemu".to_owned()));
    }
    let arch = root.descendants().find_map(|node| node.attribute("arch"));
    edits.extend(processor(root, arch == Some("aarch64")));
    edits.extend(root.descendants().filter_map(backend));
    // from the end, so that earlier positions stay true
    edits.sort_by_key(|(range, _)| range.start);
    let mut edited = text.to_owned();
    for (range, replacement) in edits.into_iter().rev() {
        edited.replace_range(range, &replacement);
    }
    Ok(edited)
}

/// On Arm TCG's default is a processor of 32 bits, so `maximum` stands for no word as well.
fn processor(root: Node<'_, '_>, is_arm: bool) -> Option<(Range<usize>, String)> {
    let Some(cpu) = root.children().find(|node| node.has_tag_name("cpu")) else {
        let start = root.first_child()?.range().start;
        return is_arm.then(|| (start..start, "<cpu mode='maximum'/>".to_owned()));
    };
    match cpu.attribute_node("mode") {
        Some(mode) if mode.value().starts_with("host-") => {
            Some((mode.range_value(), "maximum".to_owned()))
        }
        None if is_arm && !cpu.children().any(|child| child.has_tag_name("model")) => {
            let after = cpu.range().start + "<cpu".len();
            Some((after..after, " mode='maximum'".to_owned()))
        }
        _ => None,
    }
}

fn backend(hostdev: Node<'_, '_>) -> Option<(Range<usize>, String)> {
    let is_pci = hostdev.has_tag_name("hostdev") && hostdev.attribute("type") == Some("pci");
    let has_driver = hostdev.children().any(|child| child.has_tag_name("driver"));
    let start = hostdev.first_child()?.range().start;
    (is_pci && !has_driver).then(|| (start..start, "<driver name='vfio'/>".to_owned()))
}

/// The arguments for a QEMU without hardware, and what QEMU cannot be asked for this way.
pub fn arguments(arguments: &[Argument]) -> Result<(Vec<Argument>, Vec<String>)> {
    let mut notes = Vec::new();
    let replaced = arguments
        .iter()
        .map(|argument| {
            let value = match argument.option.as_str() {
                "-device" => device(argument, &mut notes)?,
                "-object" => memory(argument)?,
                "-global" => window(argument, &mut notes),
                _ => argument.value.clone(),
            };
            Ok(Argument::new(&argument.option, value))
        })
        .collect::<Result<_>>()?;
    Ok((replaced, notes))
}

fn device(argument: &Argument, notes: &mut Vec<String>) -> Result<String> {
    let read = argument.properties()?;
    match read.kind.as_str() {
        "vfio-pci" | "vfio-pci-nohotplug" => {
            let kept = retain(&argument.value, |name| KEPT.contains(&name))?;
            Ok(kept.replacen(&read.kind, ENDPOINT, 1))
        }
        "arm-smmuv3" if read.named("accel") == Some("on") => {
            note(notes, dropped(&read));
            retain(&argument.value, |name| !ACCELERATED.contains(&name))
        }
        _ => Ok(argument.value.clone()),
    }
}

fn note(notes: &mut Vec<String>, text: String) {
    if !notes.contains(&text) {
        notes.push(text);
    }
}

fn dropped(smmu: &Properties) -> String {
    let names = ACCELERATED.iter().filter(|name| smmu.named(name).is_some());
    let names: Vec<&str> = names.copied().collect();
    format!(
        "started without {} of the SMMUs, which need KVM",
        names.join(", ")
    )
}

fn memory(argument: &Argument) -> Result<String> {
    let read = argument.properties()?;
    if read.kind != "memory-backend-ram" {
        return Ok(argument.value.clone());
    }
    let kept = retain(&argument.value, |name| !BINDING.contains(&name))?;
    Ok(match kept.strip_suffix('}') {
        Some(open) => format!(r#"{open},"reserve":false}}"#),
        None => format!("{kept},reserve=off"),
    })
}

fn window(argument: &Argument, notes: &mut Vec<String>) -> String {
    let Some((name, value)) = argument.value.split_once('=') else {
        return argument.value.clone();
    };
    let is_large = size::kib(value).is_some_and(|kib| kib > LARGEST_WINDOW);
    if name != "q35-pcihost.pci-hole64-size" || !is_large {
        return argument.value.clone();
    }
    note(
        notes,
        format!("started with a window of {LARGEST_WINDOW} KiB: TCG has 40 address bits"),
    );
    format!("{name}={LARGEST_WINDOW}K")
}

/// The value with only those properties.
fn retain(value: &str, is_kept: impl Fn(&str) -> bool) -> Result<String> {
    if value.starts_with('{') {
        let mut read: Value = serde_json::from_str(value).context("it is not JSON")?;
        let object = read.as_object_mut().context("it is not a JSON object")?;
        object.retain(|name, _| matches!(name.as_str(), "driver" | "qom-type") || is_kept(name));
        return Ok(read.to_string());
    }
    let parts = value.split(',').enumerate();
    let kept = parts.filter(|(position, part)| {
        *position == 0 || is_kept(part.split_once('=').map_or(*part, |(name, _)| name))
    });
    Ok(kept.map(|(_, part)| part).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(option: &str, value: &str) -> (String, Vec<String>) {
        let (arguments, notes) = arguments(&[Argument::new(option, value)]).expect("readable");
        (arguments[0].value.clone(), notes)
    }

    #[test]
    fn kvm_and_the_hosts_processor_are_replaced_and_nothing_else() {
        let text = "<domain type='kvm'>\n<os><type arch='aarch64'/></os><cpu mode='host-passthrough'><numa/></cpu></domain>";
        let expected = "<domain type='qemu'>\n<os><type arch='aarch64'/></os><cpu mode='maximum'><numa/></cpu></domain>";
        assert_eq!(definition(text).expect("readable"), expected);
    }

    #[test]
    fn a_processor_of_32_bits_is_never_taken() {
        let with = |cpu: &str| {
            format!("<domain type=\"kvm\"><os><type arch='aarch64'/></os>{cpu}</domain>")
        };
        let bare = definition(&with("<cpu><numa/></cpu>")).expect("readable");
        assert!(bare.contains("<cpu mode='maximum'><numa/></cpu>"), "{bare}");
        let none = definition(&with("")).expect("readable");
        assert!(
            none.contains("<domain type=\"qemu\"><cpu mode='maximum'/><os>"),
            "{none}"
        );
        let named = with("<cpu mode='custom'><model>cortex-a57</model></cpu>");
        assert!(
            definition(&named)
                .expect("readable")
                .contains("<cpu mode='custom'>")
        );
    }

    #[test]
    fn vfio_is_named_where_nothing_is() {
        let with = |inside: &str| {
            format!("<domain type='kvm'><hostdev type='pci'>{inside}<source/></hostdev></domain>")
        };
        let named = definition(&with("<driver name='vfio'/>")).expect("readable");
        assert_eq!(definition(&with("")).expect("readable"), named);
    }

    #[test]
    fn an_endpoint_stands_at_the_hostdevs_place() {
        let json = r#"{"driver":"vfio-pci","host":"0009:01:00.0","id":"hostdev0","iommufd":"i","bus":"pci.3","addr":"0x0"}"#;
        let (value, notes) = one("-device", json);
        let read = Properties::parse(&value).expect("readable");
        let expected = Properties::parse("virtio-rng-pci,id=hostdev0,bus=pci.3,addr=0x0");
        assert_eq!(read, expected.expect("readable"));
        assert!(notes.is_empty());
    }

    #[test]
    fn memory_is_not_set_aside_and_not_bound() {
        let (value, _) = one(
            "-object",
            r#"{"qom-type":"memory-backend-ram","id":"m","size":9,"host-nodes":[1],"policy":"bind"}"#,
        );
        let expected = Properties::parse("memory-backend-ram,id=m,size=9,reserve=off");
        assert_eq!(
            Properties::parse(&value).expect("readable"),
            expected.expect("readable")
        );
    }

    #[test]
    fn what_is_left_out_of_an_smmu_is_said() {
        let (value, notes) = one("-device", "arm-smmuv3,primary-bus=pci.1,accel=on,oas=48");
        assert_eq!(value, "arm-smmuv3,primary-bus=pci.1");
        assert_eq!(
            notes,
            ["started without accel, oas of the SMMUs, which need KVM"]
        );
        let plain = "arm-smmuv3,primary-bus=pci.1";
        assert_eq!(one("-device", plain), (plain.to_owned(), Vec::new()));
    }

    #[test]
    fn a_window_that_tcg_cannot_address_is_made_smaller_and_that_is_said() {
        let (value, notes) = one("-global", "q35-pcihost.pci-hole64-size=1073741824K");
        assert_eq!(value, "q35-pcihost.pci-hole64-size=536870912K");
        assert_eq!(notes.len(), 1);
        let small = "q35-pcihost.pci-hole64-size=1048576K";
        assert_eq!(one("-global", small), (small.to_owned(), Vec::new()));
    }
}
