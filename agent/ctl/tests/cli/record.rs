//! `variantctl record-host` as a process: checks answer on the recording as they do on the host, and nothing private is stored.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{damaged_one, stdout, variantctl};

const RELEASE: &str = "6.17.0-1008-nvidia-64k";

fn put(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
    fs::write(path, content).expect("file");
}

/// An IORT with an SMMUv3 and a root complex with CANWBS for each segment (Arm DEN0049, E.f).
fn iort(segments: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0; 48];
    bytes[..4].copy_from_slice(b"IORT");
    bytes[8] = 6;
    bytes[36] = u8::try_from(segments.len() + 1).expect("few");
    bytes[40] = 48;
    let mut smmu = vec![0; 68];
    (smmu[0], smmu[1]) = (4, 68);
    bytes.extend(smmu);
    for segment in segments {
        let mut node = vec![0; 60];
        (node[0], node[1], node[8], node[12]) = (2, 60, 1, 40);
        node[23] = 4;
        node[28..32].copy_from_slice(&segment.to_le_bytes());
        node[52] = 48;
        bytes.extend(node);
    }
    let length = u32::try_from(bytes.len()).expect("small");
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// A GB200 with EGM and everything that checks of a Grace host read.
fn grace(change: impl Fn(&Path)) -> tempfile::TempDir {
    damaged_one("gb200-egm", |root| {
        let release = fs::read_to_string(root.join("proc/sys/kernel/osrelease")).expect("release");
        assert_eq!(
            release.trim(),
            RELEASE,
            "the modelled host has another kernel"
        );
        put(
            root,
            "proc/cpuinfo",
            "processor\t: 0\nCPU implementer\t: 0x41\nSerial\t: PRIVATE\n",
        );
        put(
            root,
            "proc/cmdline",
            "root=UUID=PRIVATE rd.luks.key=PRIVATE iommu.passthrough=1 module_blacklist=nouveau\n",
        );
        put(
            root,
            "proc/meminfo",
            "MemTotal: 1000000 kB\nPRIVATE: 1 kB\nHugePages_Total: 8\nHugePages_Free: 3\nHugepagesize: 524288 kB\n",
        );
        for (module, name) in [
            ("vfio", "enable_unsafe_noiommu_mode"),
            ("vfio_iommu_type1", "allow_unsafe_interrupts"),
        ] {
            put(
                root,
                &format!("sys/module/{module}/parameters/{name}"),
                "N\n",
            );
        }
        for node in [0, 1] {
            let pool = format!("sys/devices/system/node/node{node}/hugepages/hugepages-524288kB");
            put(root, &format!("{pool}/nr_hugepages"), "4\n");
            put(root, &format!("{pool}/free_hugepages"), "2\n");
        }
        put(root, "sys/firmware/acpi/tables/IORT", iort(&[8, 9, 24, 25]));
        put(
            root,
            "sys/firmware/acpi/tables/SSDT3",
            "PRIVATE nvidia,gpu-mem-size\0 PRIVATE",
        );
        let options =
            "CONFIG_LOCALVERSION=\"-PRIVATE\"\nCONFIG_ARM_SMMU_V3_IOMMUFD=y\nCONFIG_PCI_P2PDMA=y\n";
        put(root, &format!("boot/config-{RELEASE}"), options);
        let modules = format!("lib/modules/{RELEASE}");
        put(
            root,
            &format!("{modules}/modules.dep"),
            "kernel/nvgrace-gpu-vfio-pci.ko: kernel/PRIVATE.ko\nkernel/nvgrace-egm.ko:\nkernel/PRIVATE.ko:\n",
        );
        put(
            root,
            &format!("{modules}/kernel/nvgrace-gpu-vfio-pci.ko"),
            "PRIVATE",
        );
        put(root, &format!("{modules}/kernel/nvgrace-egm.ko"), "PRIVATE");
        put(
            root,
            "etc/modprobe.d/own.conf",
            "# PRIVATE\nblacklist nvgrace-gpu-vfio-pci\noptions PRIVATE key=PRIVATE\n",
        );
        put(
            root,
            "etc/libvirt/qemu.conf",
            "vnc_password = \"PRIVATE\"\ncgroup_device_acl = [ \"/dev/null\", \"/dev/disk/by-id/PRIVATE\" ]\n",
        );
        put(
            root,
            "usr/share/dbus-1/system.d/org.variantd1.conf",
            "PRIVATE",
        );
        put(
            root,
            "etc/systemd/system/multi-user.target.wants/variantd.service",
            "PRIVATE",
        );
        put(
            root,
            "etc/systemd/system/multi-user.target.wants/PRIVATE.service",
            "PRIVATE",
        );
        change(root);
    })
}

/// Records a host, and returns the folder of the recording.
fn recorded(root: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    let into = folder.path().join("new").display().to_string();
    stdout(&variantctl(root, &["record-host", &into]));
    folder
}

/// The checks without those about libvirt's hook, whose times and modes are not recorded.
fn checks(root: &Path) -> Vec<Value> {
    let output = variantctl(root, &["doctor", "--json"]);
    let text = String::from_utf8(output.stdout).expect("text");
    let own = root.display().to_string();
    let mut json: Value = serde_json::from_str(&text.replace(&own, "ROOT")).expect("JSON");
    let mut checks = std::mem::take(json["checks"].as_array_mut().expect("checks"));
    checks.retain(|check| check["code"] != "VD-DOC-040");
    checks
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.is_symlink() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn verdict<'a>(checks: &'a [Value], code: &str) -> &'a str {
    let of_code = checks.iter().find(|check| check["code"] == code);
    let verdict = of_code.and_then(|check| check["verdict"].as_str());
    verdict.expect(code)
}

#[test]
fn checks_of_a_grace_host_answer_on_its_recording_and_on_a_recording_of_that() {
    let host = grace(|_| {});
    let expected = checks(host.path());
    for (code, wanted) in [
        ("VD-DOC-002", "pass"),
        ("VD-DOC-003", "pass"),
        ("VD-DOC-004", "pass"),
        ("VD-DOC-011", "pass"),
        ("VD-DOC-012", "fail"),
        ("VD-DOC-047", "pass"),
        ("VD-DOC-049", "pass"),
        ("VD-DOC-050", "pass"),
        ("VD-DOC-051", "pass"),
        ("VD-DOC-052", "warn"),
        ("VD-DOC-053", "warn"),
        ("VD-BND-015", "pass"),
    ] {
        assert_eq!(verdict(&expected, code), wanted, "{code}");
    }
    for (code, path) in [
        (
            "VD-DOC-050",
            "/sys/devices/system/node/node*/hugepages/hugepages-524288kB/free_hugepages",
        ),
        ("VD-DOC-051", "/sys/firmware/acpi/tables/IORT"),
        ("VD-DOC-052", "/boot/config-6.17.0-1008-nvidia-64k"),
        ("VD-DOC-053", "/etc/libvirt/qemu.conf"),
    ] {
        let check = expected.iter().find(|check| check["code"] == code);
        assert_eq!(check.expect(code)["read_from"][0], path, "{code}");
    }
    let once = recorded(host.path());
    let once = once.path().join("new");
    assert_eq!(checks(&once), expected);
    let twice = recorded(&once);
    assert_eq!(checks(&twice.path().join("new")), expected);
}

#[test]
fn recording_has_nothing_private() {
    let host = grace(|_| {});
    let copy = recorded(host.path());
    let mut found = Vec::new();
    files(copy.path(), &mut found);
    assert!(found.len() > 100, "{}", found.len());
    for path in found {
        assert!(
            !path.to_string_lossy().contains("PRIVATE"),
            "{}",
            path.display()
        );
        if let Ok(content) = fs::read(&path) {
            let text = String::from_utf8_lossy(&content);
            assert!(!text.contains("PRIVATE"), "{}: {text}", path.display());
        }
    }
}

#[test]
fn a_recording_distinguishes_absent_files_from_unreadable_ones() {
    let table = "sys/firmware/acpi/tables/IORT";
    let host = grace(|root| {
        fs::remove_file(root.join(table)).expect("removed");
        // A folder cannot be read as a file, also not by root.
        fs::create_dir(root.join(table)).expect("unreadable");
        fs::remove_file(root.join("etc/libvirt/qemu.conf")).expect("removed");
        fs::remove_dir_all(root.join("sys/module/vfio_iommu_type1")).expect("removed");
    });
    let copy = recorded(host.path());
    let copy = copy.path().join("new");
    let found = checks(&copy);
    assert_eq!(found, checks(host.path()));
    assert_eq!(verdict(&found, "VD-DOC-051"), "unknown");
    assert_eq!(verdict(&found, "VD-DOC-053"), "pass");
    assert_eq!(verdict(&found, "VD-DOC-003"), "pass");
    let unread = fs::read_to_string(copy.join("recorded-unread")).expect("a list");
    assert!(
        unread.contains("/etc/libvirt/qemu.conf: no such file or directory"),
        "{unread}"
    );
}
