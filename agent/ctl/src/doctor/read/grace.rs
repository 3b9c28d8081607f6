//! Facts of a Grace host: huge pages by node, IORT, the kernel's configuration, the emulator, qemu.conf.

use kernel_glue::iort::{self, Iort};
use kernel_glue::kconfig::{FOR_PEERS, Kconfig};

use super::super::scene::{Emulator, HugePages, Peers, Platform, Seen, Unavailable};
use kernel_glue::record::Content;
use kernel_glue::sysfs::MAX_TEXT;
use settings::libvirt::{Setting, Value, find, parse};

use super::Look;
use super::fact::Facts;

/// Huge pages of 512 MiB exist only in a kernel with pages of 64 KiB.
const POOL: &str = "hugepages/hugepages-524288kB";
/// The pools of the host; a folder for each size of huge page that the kernel has.
const POOLS: &str = "sys/kernel/mm/hugepages";
/// Files of a node's pool: all pages, and the free ones.
const COUNTS: [&str; 2] = ["nr_hugepages", "free_hugepages"];
const NODES: &str = "sys/devices/system/node";
const QEMU_CONF: &str = "etc/libvirt/qemu.conf";
/// Its list of the devices that guests may open.
const DEVICE_LIST: &str = "cgroup_device_acl";
/// Devices whose names say nothing about one host; other paths may have serial numbers.
const COMMON: [&str; 7] = [
    "/dev/egm",
    "/dev/full",
    "/dev/iommu",
    "/dev/kvm",
    "/dev/null",
    "/dev/vfio/",
    "/dev/zero",
];
/// Where distributions have the emulator.
const EMULATORS: [&str; 2] = ["usr/bin/qemu-system-aarch64", "usr/libexec/qemu-kvm"];
/// The extended attribute of file capabilities.
const CAPABILITIES: &str = "security.capability";

pub(super) fn read(look: &Look, release: Option<&str>) -> Platform {
    Platform {
        huge_pages: huge_pages(look),
        iort: iort(look),
        peers: peers(look, release),
        emulator: emulator(look),
        devices_allowed: look
            .text(QEMU_CONF, "etc/libvirt")
            .and_then(|text| devices_allowed(text.as_deref().unwrap_or_default())),
    }
}

fn devices_allowed(text: &str) -> Seen<Option<Vec<String>>> {
    device_list(text).map_err(|why| Unavailable::because(format!("/{QEMU_CONF}: {why}")))
}

/// What a recording keeps of these files.
pub(super) fn record(facts: &mut Facts<'_>) {
    let look = facts.look;
    for node in nodes(look).unwrap_or_default() {
        for file in COUNTS {
            let path = count(node, file);
            if look.root.has(&path) {
                facts.whole(&path, POOLS, MAX_TEXT);
            }
        }
    }
    let pool = pool();
    if huge_pages(look) == Ok(None) {
        facts.push(&pool, Content::Unread(super::absence()));
    }
    facts.whole(iort::PATH, iort::PATH, iort::MAX_BYTES);
    facts.directory("sys/class/egm");
    facts.file(QEMU_CONF, "etc/libvirt", MAX_TEXT, |content| {
        kept_list(&String::from_utf8_lossy(content))
    });
    record_emulator(facts);
}

/// The node's number of pages or free pages.
fn count(node: u32, file: &str) -> String {
    format!("{NODES}/node{node}/{POOL}/{file}")
}

/// The pool of the whole host.
fn pool() -> String {
    let size = POOL.rsplit('/').next().unwrap_or_default();
    format!("{POOLS}/{size}")
}

/// The numbers of the nodes, in order.
fn nodes(look: &Look) -> Seen<Vec<u32>> {
    let nodes = look
        .root
        .list(NODES)
        .map_err(|failure| Unavailable::of(&failure))?;
    let numbers = nodes
        .iter()
        .filter_map(|name| name.strip_prefix("node")?.parse().ok());
    let mut numbers: Vec<u32> = numbers.collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn huge_pages(look: &Look) -> Seen<Option<Vec<HugePages>>> {
    let numbers = nodes(look)?;
    let read = |node: u32, file: &str| {
        let text = look.root.text(&count(node, file)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let one = |node: &u32| {
        Some(HugePages {
            node: *node,
            all: read(*node, COUNTS[0])?,
            free: read(*node, COUNTS[1])?,
        })
    };
    let pools: Vec<HugePages> = numbers.iter().filter_map(one).collect();
    match pools.is_empty() {
        true => look.missing(&pool(), POOLS).map(|()| None),
        false => Ok(Some(pools)),
    }
}

fn iort(look: &Look) -> Seen<Iort> {
    match look.root.bytes(iort::PATH, iort::MAX_BYTES) {
        Ok(bytes) => {
            Iort::parse(&bytes).map_err(|why| Unavailable::because(format!("IORT: {why}")))
        }
        Err(failure) if failure.is_absent() => match look.absent(iort::PATH) {
            Ok(()) => Ok(Iort::default()),
            Err(unavailable) => Err(unavailable.after("IORT: ")),
        },
        Err(failure) => Err(Unavailable::of_reason("IORT: ", &failure.reason())),
    }
}

/// The options for BARs as dma-buf that the kernel lacks.
fn peers(look: &Look, release: Option<&str>) -> Seen<Peers> {
    let configuration = Kconfig::read(&look.root, release).map_err(|failure| {
        let path = failure.path().strip_prefix(look.root.path());
        let path = path.unwrap_or(failure.path()).display();
        Unavailable::of_reason(&format!("/{path}: "), &failure.reason())
    })?;
    let path = format!("/{}", configuration.path);
    // A kernel that is older than an option has no line with it. A recording of an earlier release has none of these lines.
    let is_recorded = FOR_PEERS
        .into_iter()
        .any(|option| configuration.has(option).is_some());
    if !look.live && !is_recorded {
        return Err(Unavailable::because(format!(
            "{path}: the options are not recorded"
        )));
    }
    let is_lacking = |option: &&str| configuration.has(option) != Some(true);
    let lacking = FOR_PEERS.into_iter().filter(is_lacking);
    Ok(Peers {
        lacking: lacking.map(str::to_owned).collect(),
        path,
    })
}

fn emulator(look: &Look) -> Seen<Option<Emulator>> {
    let there = EMULATORS.into_iter().find(|path| look.root.has(path));
    let Some(path) = there else {
        return look.missing(EMULATORS[0], "usr/bin").map(|()| None);
    };
    // A recording has no extended attributes: the content of the file is the name of the one that counts.
    if look.unread.is_some() {
        let text = look.root.text(path).unwrap_or_default();
        return Ok(Some(Emulator {
            path: format!("/{path}"),
            has_capabilities: text == CAPABILITIES,
        }));
    }
    look.if_live(|| {
        let path = format!("/{path}");
        let read = rustix::fs::getxattr(&path, CAPABILITIES, &mut [0_u8; 64]);
        let has_capabilities = match read {
            Ok(length) => length > 0,
            // The attribute is longer than the buffer, so it exists.
            Err(rustix::io::Errno::RANGE) => true,
            Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => false,
            Err(why) => return Err(Unavailable::because(format!("'{path}': {why}"))),
        };
        Ok(Some(Emulator {
            path,
            has_capabilities,
        }))
    })
}

fn record_emulator(facts: &mut Facts<'_>) {
    match emulator(facts.look) {
        Ok(Some(found)) => {
            let attribute = match found.has_capabilities {
                true => format!("{CAPABILITIES}\n"),
                false => String::new(),
            };
            let path = found.path.trim_start_matches('/');
            facts.push(path, Content::File(attribute.into()));
        }
        Ok(None) => facts.push(EMULATORS[0], Content::Unread(super::absence())),
        Err(unavailable) if facts.look.live => {
            facts.push(EMULATORS[0], Content::Unread(unavailable.why));
        }
        Err(_) => facts.missing(EMULATORS[0], "usr/bin"),
    }
}

/// qemu.conf with only its list of devices, and of that only the ones that are the same on all hosts.
fn kept_list(text: &str) -> String {
    let list = match device_list(text) {
        Ok(Some(list)) => list,
        Ok(None) => return String::new(),
        // The reader of the recording must not take it for a file without the setting.
        Err(_) => return format!("{DEVICE_LIST} = [\n"),
    };
    let is_common = |path: &&String| COMMON.iter().any(|start| path.starts_with(start));
    let kept = list.iter().filter(is_common).filter(|path| {
        let rest = path.strip_prefix("/dev/").unwrap_or_default();
        rest.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'/')
    });
    let quoted: Vec<String> = kept.map(|path| format!("\"{path}\"")).collect();
    format!("{DEVICE_LIST} = [ {} ]\n", quoted.join(", "))
}

/// The devices of `cgroup_device_acl = [...]`; `None` if libvirt's own list counts.
///
/// # Errors
/// libvirt does not read the file either (src/qemu/qemu_conf.c wants a list of texts).
fn device_list(text: &str) -> Result<Option<Vec<String>>, String> {
    let settings = parse(text).map_err(|malformed| malformed.to_string())?;
    let Some(Setting { line, value, .. }) = find(&settings, DEVICE_LIST) else {
        return Ok(None);
    };
    let path = |item: &Value| match item {
        Value::Text(path) => Some(path.clone()),
        Value::Number(_) | Value::List(_) => None,
    };
    let paths = match value {
        Value::List(items) => items.iter().map(path).collect::<Option<Vec<_>>>(),
        Value::Text(_) | Value::Number(_) => None,
    };
    let expected = || format!("line {line}: {DEVICE_LIST} is not a list of texts");
    paths.map(Some).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_from(files: &[(&str, &str)]) -> Platform {
        let (_directory, root) = super::super::tests::root_with(files);
        read(&Look::new(root, false), Some("7.0.0"))
    }

    #[test]
    fn recorded_facts_are_read() {
        let pool = format!("{NODES}/node1/{POOL}");
        let platform = read_from(&[
            (&format!("{pool}/nr_hugepages"), "8\n"),
            (&format!("{pool}/free_hugepages"), "3\n"),
            (
                "boot/config-7.0.0",
                "CONFIG_PCI_P2PDMA=y\n# CONFIG_VFIO_PCI_DMABUF is not set\n",
            ),
            (iort::PATH, "IORT"),
            (
                QEMU_CONF,
                "# cgroup_device_acl = [ \"/dev/kvm\" ]\ncgroup_device_acl = [\n \"/dev/null\",\n '/dev/full'\n] # \"/dev/iommu\"\nx = [\"y\"]\n",
            ),
        ]);
        let pools = platform.huge_pages.expect("read");
        assert_eq!(
            pools,
            Some(vec![HugePages {
                node: 1,
                all: 8,
                free: 3
            }])
        );
        let peers = platform.peers.expect("read");
        assert_eq!(peers.lacking, ["CONFIG_VFIO_PCI_DMABUF"]);
        assert_eq!(peers.path, "/boot/config-7.0.0");
        assert_eq!(platform.iort.expect_err("damaged").why, "IORT: not an IORT");
        let allowed = ["/dev/null", "/dev/full"].map(str::to_owned);
        assert_eq!(platform.devices_allowed, Ok(Some(allowed.to_vec())));
        assert!(platform.emulator.is_err(), "not recorded");
    }

    #[test]
    fn recorded_qemu_conf_has_only_devices_that_all_hosts_have() {
        let text = "user = \"secret\"\ncgroup_device_acl = [ \"/dev/null\", \"/dev/disk/by-id/nvme-S5GX\", \"/dev/iommu\", \"/dev/kvm\\n\" ]\n";
        let kept = kept_list(text);
        assert_eq!(
            kept,
            "cgroup_device_acl = [ \"/dev/null\", \"/dev/iommu\" ]\n"
        );
        let allowed = ["/dev/null", "/dev/iommu"].map(str::to_owned);
        assert_eq!(device_list(&kept), Ok(Some(allowed.to_vec())));
        assert_eq!(kept_list("user = \"secret\"\n"), "");
    }

    /// libvirt has no comments in lists (src/util/virconf.c), and its daemon does not start.
    #[test]
    fn qemu_conf_that_libvirt_does_not_read_is_unknown_also_in_a_recording() {
        for text in [
            "cgroup_device_acl = [\n  \"/dev/null\", # \"/dev/iommu\"\n]\n",
            "cgroup_device_acl = [ \"/dev/null\"\n",
            "cgroup_device_acl = \"/dev/null\"\n",
            "cgroup_device_acl = [ 1 ]\n",
        ] {
            for text in [text, &kept_list(text)] {
                let platform = read_from(&[(QEMU_CONF, text)]);
                let why = platform.devices_allowed.expect_err(text).why;
                assert!(why.starts_with("/etc/libvirt/qemu.conf: line "), "{why}");
            }
        }
    }

    #[test]
    fn missing_files_of_a_recording_are_unknown_and_a_default_list_is_none() {
        let platform = read_from(&[(QEMU_CONF, "#cgroup_device_acl = [\n#  \"/dev/null\"\n#]\n")]);
        assert_eq!(platform.devices_allowed, Ok(None));
        assert!(platform.huge_pages.is_err() && platform.iort.is_err());
        assert!(platform.peers.is_err());
    }
}
