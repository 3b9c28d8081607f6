//! Replaces the parts that need hardware: in the definition for libvirt, and in the arguments for QEMU.
//!
//! | part | replacement |
//! |---|---|
//! | KVM, of the guest's architecture | TCG |
//! | the choice of VFIO, which libvirt 9.0 makes at a start only | `<driver name='vfio'/>` |
//! | the host's processor | `maximum`: every feature that TCG emulates |
//! | `vfio-pci` | `virtio-rng-pci`, an endpoint with the same id, bus and address that needs no backend |
//! | host nodes of the memory, preallocated memory | memory that is allocated at its first access |
//! | `/dev/iommu` | another descriptor, which QEMU accepts as long as no device uses it |
//! | `accel` of an SMMU and its attributes | removed: QEMU needs KVM's interrupt controller for it |
//! | the processor's address width on x86-64 | 46 bits; TCG's default is 40 |
//! | an interface, for which libvirt creates a tap device even if it only translates | removed |
//! | a disk in an image format, with its backing files | the empty file itself |

use std::collections::BTreeSet;
use std::ops::Range;

use anyhow::{Context, Result};
use roxmltree::{Document, Node};
use serde_json::Value;

use super::argument::Argument;

const ENDPOINT: &str = "virtio-rng-pci";

/// Properties that a replacement keeps from the hostdev.
const KEPT: [&str; 4] = ["id", "bus", "addr", "multifunction"];
/// Properties that bind memory to host nodes or preallocate it.
const BINDING: [&str; 4] = ["host-nodes", "policy", "prealloc", "prealloc-threads"];
/// Properties of an SMMU that need KVM and the host's SMMU.
const ACCELERATED: [&str; 6] = ["accel", "ats", "cmdqv", "oas", "ril", "ssidsize"];

/// The least address width of processors in hosts with GPUs.
const ADDRESS_BITS: &str = "46";

/// Arguments for a QEMU without hardware.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// The arguments.
    pub arguments: Vec<Argument>,
    /// Removed properties by driver: QEMU is asked later whether it has them.
    pub withheld: BTreeSet<(String, String)>,
}

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
    let is_interface = |node: &Node<'_, '_>| node.has_tag_name("interface");
    let interfaces = root.descendants().filter(is_interface);
    edits.extend(interfaces.map(|node| (node.range(), String::new())));
    // from the end, so that earlier positions stay valid
    edits.sort_by_key(|(range, _)| range.start);
    let mut edited = text.to_owned();
    for (range, replacement) in edits.into_iter().rev() {
        edited.replace_range(range, &replacement);
    }
    Ok(edited)
}

/// On Arm TCG's default processor has 32 bits, so `maximum` also replaces a missing `<cpu>`.
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

/// Replaces the parts that need hardware.
pub fn arguments(emulator: &str, arguments: &[Argument]) -> Result<Replaced> {
    let is_x86 = emulator.ends_with("x86_64");
    let mut replaced = Replaced::default();
    for argument in arguments {
        let value = match argument.option.as_str() {
            "-device" => device(argument, &mut replaced.withheld)?,
            "-object" => object(argument)?,
            "-blockdev" => image(argument)?,
            "-cpu" if is_x86 => address_width(argument)?,
            _ => argument.value.clone(),
        };
        replaced
            .arguments
            .push(Argument::new(&argument.option, value));
    }
    Ok(replaced)
}

fn device(argument: &Argument, withheld: &mut BTreeSet<(String, String)>) -> Result<String> {
    let read = argument.properties()?;
    let is_kept: fn(&str) -> bool = match read.kind.as_str() {
        "vfio-pci" | "vfio-pci-nohotplug" => |name| KEPT.contains(&name),
        "arm-smmuv3" if read.named("accel") == Some("on") => |name| !ACCELERATED.contains(&name),
        _ => return Ok(argument.value.clone()),
    };
    let names = read.named.keys().filter(|name| !is_kept(name));
    withheld.extend(names.map(|name| (read.kind.clone(), name.clone())));
    let kept = retain(&argument.value, is_kept)?;
    if read.kind == "arm-smmuv3" {
        return Ok(kept);
    }
    Ok(kept.replacen(&read.kind, ENDPOINT, 1))
}

/// Whether it has a format that an empty file does not have.
fn image(argument: &Argument) -> Result<String> {
    if argument.properties()?.kind != "qcow2" {
        return Ok(argument.value.clone());
    }
    let kept = retain(&argument.value, |name| name != "backing")?;
    Ok(kept.replacen("qcow2", "raw", 1))
}

/// Only for `max`, which has the host's width under KVM.
fn address_width(argument: &Argument) -> Result<String> {
    let read = argument.properties()?;
    if read.kind != "max" || read.named("phys-bits").is_some() {
        return Ok(argument.value.clone());
    }
    let kept = retain(&argument.value, |name| !name.starts_with("host-phys-bits"))?;
    Ok(format!("{kept},phys-bits={ADDRESS_BITS}"))
}

fn object(argument: &Argument) -> Result<String> {
    let value = &argument.value;
    Ok(match argument.properties()?.kind.as_str() {
        "memory-backend-ram" => {
            let kept = retain(value, |name| !BINDING.contains(&name))?;
            with(&kept, "reserve", "false", "off")
        }
        // standard input
        "iommufd" => with(&retain(value, |name| name == "id")?, "fd", r#""0""#, "0"),
        _ => value.clone(),
    })
}

/// The value with one more property, in the same form.
fn with(value: &str, name: &str, json: &str, plain: &str) -> String {
    match value.strip_suffix('}') {
        Some(open) => format!(r#"{open},"{name}":{json}}}"#),
        None => format!("{value},{name}={plain}"),
    }
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
    use crate::translate::argument::Properties;

    fn one(option: &str, value: &str) -> (String, Vec<String>) {
        let emulator = "/usr/bin/qemu-system-x86_64";
        let replaced = arguments(emulator, &[Argument::new(option, value)]).expect("readable");
        let withheld = replaced.withheld.iter();
        let withheld = withheld.map(|(driver, name)| format!("{driver} {name}"));
        (replaced.arguments[0].value.clone(), withheld.collect())
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
    fn the_vfio_driver_is_added_where_none_is_given() {
        let with = |inside: &str| {
            format!("<domain type='kvm'><hostdev type='pci'>{inside}<source/></hostdev></domain>")
        };
        let named = definition(&with("<driver name='vfio'/>")).expect("readable");
        assert_eq!(definition(&with("")).expect("readable"), named);
    }

    #[test]
    fn an_interface_is_left_out() {
        let with = |interface: &str| format!("<domain type='qemu'>{interface}<rng/></domain>");
        let ethernet = "<interface type='ethernet'><target dev='tap0' managed='no'/></interface>";
        assert_eq!(definition(&with(ethernet)).expect("readable"), with(""));
    }

    #[test]
    fn an_image_is_its_empty_file() {
        let text = r#"{"node-name":"libvirt-1-format","driver":"qcow2","file":"libvirt-1-storage","backing":"libvirt-2-format"}"#;
        let read = Properties::parse(&one("-blockdev", text).0).expect("readable");
        let expected = Properties::parse("raw,node-name=libvirt-1-format,file=libvirt-1-storage");
        assert_eq!(read, expected.expect("readable"));
        let raw = r#"{"node-name":"x","driver":"raw","file":"y"}"#;
        assert_eq!(one("-blockdev", raw).0, raw);
    }

    #[test]
    fn an_endpoint_replaces_the_hostdev_at_its_address() {
        let json = r#"{"driver":"vfio-pci","host":"0009:01:00.0","id":"hostdev0","iommufd":"i","bus":"pci.3","addr":"0x0"}"#;
        let (value, withheld) = one("-device", json);
        let read = Properties::parse(&value).expect("readable");
        let expected = Properties::parse("virtio-rng-pci,id=hostdev0,bus=pci.3,addr=0x0");
        assert_eq!(read, expected.expect("readable"));
        assert_eq!(withheld, ["vfio-pci host", "vfio-pci iommufd"]);
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
    fn iommufd_gets_a_descriptor_in_either_form() {
        let (json, _) = one("-object", r#"{"qom-type":"iommufd","id":"iommufd0"}"#);
        let (plain, _) = one("-object", "iommufd,id=iommufd0");
        assert_eq!(plain, "iommufd,id=iommufd0,fd=0");
        let read = |value: &str| Properties::parse(value).expect("readable");
        assert_eq!(read(&json), read(&plain));
    }

    #[test]
    fn removed_properties_are_recorded() {
        let (value, withheld) = one("-device", "arm-smmuv3,primary-bus=pci.1,accel=on,oas=48");
        assert_eq!(value, "arm-smmuv3,primary-bus=pci.1");
        assert_eq!(withheld, ["arm-smmuv3 accel", "arm-smmuv3 oas"]);
        let plain = "arm-smmuv3,primary-bus=pci.1";
        assert_eq!(one("-device", plain), (plain.to_owned(), Vec::new()));
    }

    #[test]
    fn the_address_width_is_set_where_the_hosts_would_be_used() {
        assert_eq!(one("-cpu", "max").0, "max,phys-bits=46");
        assert_eq!(
            one("-cpu", "max,host-phys-bits=on,migratable=on").0,
            "max,migratable=on,phys-bits=46"
        );
        for own in ["max,phys-bits=52", "qemu64", "cortex-a57"] {
            assert_eq!(one("-cpu", own).0, own);
        }
        let arm = [Argument::new("-cpu", "max")];
        let replaced = arguments("/usr/bin/qemu-system-aarch64", &arm).expect("readable");
        assert_eq!(replaced.arguments, arm);
    }
}
