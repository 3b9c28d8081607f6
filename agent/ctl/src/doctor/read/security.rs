//! SELinux and AppArmor on this host: their state, and variantd's part of their policies.

use std::collections::BTreeMap;

use rustix::fs::lgetxattr;
use rustix::io::Errno;

use super::super::scene::{AppArmor, Security, Seen, Selinux, Unavailable};
use super::super::security::BOOLEANS;
use super::{Look, process};

const ENFORCE: &str = "sys/fs/selinux/enforce";
const CONFIG: &str = "etc/selinux/config";
/// The policy where the configuration names none (selinux_config(5)).
const POLICY: &str = "targeted";
/// Contexts of all files of a policy; that of Debian has 500 KiB.
const MAX_CONTEXTS: usize = 8 << 20;
/// The programs whose label decides their domain, and its type.
const PROGRAMS: [(&str, &str); 3] = [
    ("usr/sbin/variantd", "variantd_exec_t"),
    ("usr/sbin/variantd-hook", "variantd_hook_exec_t"),
    (
        "usr/libexec/variantd/variantd-child",
        "variantd_child_exec_t",
    ),
];
/// Longest label that is read.
const MAX_LABEL: usize = 4096;
const APPARMOR: &str = "sys/module/apparmor/parameters/enabled";
const PROFILE: &str = "etc/apparmor.d/variantd";
/// libvirt's rules for every guest, the folder that newer versions include, and the administrator's file.
const RULES: &str = "etc/apparmor.d/abstractions/libvirt-qemu";
const ADDED: &str = "libvirt-qemu.d";
const LOCAL: &str = "etc/apparmor.d/local/abstractions/libvirt-qemu";

pub(super) fn read(look: &Look) -> Seen<Security> {
    Ok(Security {
        selinux: selinux(look)?,
        apparmor: apparmor(look)?,
        agent: process::label_of(&look.root, "variantd"),
    })
}

/// `None` when the kernel has no SELinux, or no policy was loaded.
fn selinux(look: &Look) -> Seen<Option<Selinux>> {
    let Some(enforce) = look.text(ENFORCE, "sys/fs")? else {
        return Ok(None);
    };
    let config = look.text(CONFIG, "etc/selinux")?.unwrap_or_default();
    let policy = policy(&config).to_owned();
    Ok(Some(Selinux {
        enforcing: enforce == "1",
        module: module(look, &policy),
        mislabelled: PROGRAMS.iter().find_map(|one| mislabelled(look, *one)),
        booleans: booleans(look),
        policy,
    }))
}

/// The value of `SELINUXTYPE`, if it can be the name of a folder.
fn policy(config: &str) -> &str {
    let mut values = config
        .lines()
        .filter_map(|line| line.trim().strip_prefix("SELINUXTYPE="));
    let is_name = |name: &&str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    };
    values
        .next()
        .map(str::trim)
        .filter(is_name)
        .unwrap_or(POLICY)
}

/// The store of modules is only for root, and the contexts that a module adds are not.
fn module(look: &Look, policy: &str) -> Seen<bool> {
    let path = format!("etc/selinux/{policy}/contexts/files/file_contexts");
    let text = look.root.bytes(&path, MAX_CONTEXTS);
    let text = text.map_err(|failure| Unavailable::of(&failure).after(&format!("/{path}: ")))?;
    let mark = format!(":{}:", PROGRAMS[0].1);
    Ok(String::from_utf8_lossy(&text).contains(&mark))
}

/// The program and its type, if that is another one.
fn mislabelled(look: &Look, (program, wanted): (&str, &str)) -> Option<(String, String)> {
    let mut label = vec![0; MAX_LABEL];
    let path = look.root.path().join(program);
    let label = match lgetxattr(&path, "security.selinux", &mut label[..]) {
        Ok(length) => String::from_utf8_lossy(&label[..length]).into_owned(),
        Err(Errno::NODATA) => "unlabeled_t".to_owned(),
        // Not installed, or a file system without labels.
        Err(_) => return None,
    };
    let own = label
        .split(':')
        .nth(2)
        .unwrap_or(&label)
        .trim_end_matches('\0');
    (own != wanted).then(|| (format!("/{program}"), own.to_owned()))
}

/// The present values: each file has the present and the pending one.
fn booleans(look: &Look) -> BTreeMap<String, bool> {
    let value = |name: &str| {
        let text = look
            .root
            .text(&format!("sys/fs/selinux/booleans/{name}"))
            .ok()?;
        match text.split(' ').next() {
            Some("1") => Some(true),
            Some("0") => Some(false),
            _ => None,
        }
    };
    let known = BOOLEANS
        .iter()
        .filter_map(|(name, ..)| Some(((*name).to_owned(), value(name)?)));
    known.collect()
}

/// `None` when the kernel has no AppArmor, or it is off.
fn apparmor(look: &Look) -> Seen<Option<AppArmor>> {
    match look.text(APPARMOR, "sys/module")?.as_deref() {
        Some("Y") => Ok(Some(AppArmor {
            installed: look.exists(PROFILE)?,
            rules: rules(look),
        })),
        _ => Ok(None),
    }
}

/// The rules for every guest without comments, from each file that counts; `None` without libvirt's.
fn rules(look: &Look) -> Seen<Option<String>> {
    let Some(mut rules) = look.text(RULES, "etc/apparmor.d")? else {
        return Ok(None);
    };
    let mut files = Vec::new();
    // libvirt 9.0 of Debian 12 does not include the folder.
    if rules.contains(ADDED) {
        let names = look.root.list(&format!("{RULES}.d")).unwrap_or_default();
        files.extend(names.iter().map(|name| format!("{RULES}.d/{name}")));
    }
    files.push(LOCAL.to_owned());
    for file in files {
        rules.push('\n');
        rules.push_str(&look.text(&file, "etc/apparmor.d")?.unwrap_or_default());
    }
    let kept = rules
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    Ok(Some(kept.collect::<Vec<_>>().join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use kernel_glue::sysfs::Root;

    fn read_from(files: &[(&str, &str)]) -> Security {
        let (_directory, root) = super::super::tests::root_with(files);
        read(&Look {
            root,
            live: true,
            unread: None,
        })
        .expect("read")
    }

    #[test]
    fn a_host_without_both_has_neither() {
        let off = [(APPARMOR, "N\n")];
        for files in [&[][..], &off] {
            let read = read_from(files);
            assert_eq!((read.selinux, read.apparmor), (None, None));
        }
    }

    #[test]
    fn module_and_booleans_of_selinux_are_read() {
        let contexts = "/usr/s?bin/variantd\t--\tsystem_u:object_r:variantd_exec_t:s0\n";
        let read = |contexts: &str, config: &str| {
            let files = [
                (ENFORCE, "1"),
                (CONFIG, config),
                ("etc/selinux/default/contexts/files/file_contexts", contexts),
                ("sys/fs/selinux/booleans/virt_use_vfio", "0 1"),
                ("sys/fs/selinux/booleans/other", "1 1"),
            ];
            read_from(&files).selinux.expect("SELinux")
        };
        let config = "# SELINUXTYPE=mls\nSELINUX=enforcing\nSELINUXTYPE=default\n";
        let found = read(contexts, config);
        assert!(found.enforcing);
        assert_eq!(
            (found.policy.as_str(), &found.module),
            ("default", &Ok(true))
        );
        assert_eq!(found.booleans, [("virt_use_vfio".to_owned(), false)].into());
        assert_eq!(
            read("/x -- a:b:variantd_exec_time_t:s0\n", config).module,
            Ok(false)
        );
        // A hostile name leads to no other folder; this host has no contexts of that policy.
        let other = read(contexts, "SELINUXTYPE=../default\n");
        assert_eq!(other.policy, POLICY);
        assert!(
            other
                .module
                .expect_err("absent")
                .why
                .starts_with("/etc/selinux/targeted/")
        );
    }

    #[test]
    fn rules_for_guests_are_those_of_included_files_without_comments() {
        let rules = |abstraction: &str| {
            let files = [
                (APPARMOR, "Y\n"),
                (RULES, abstraction),
                (
                    "etc/apparmor.d/abstractions/libvirt-qemu.d/variantd",
                    "# /dev/x\n/dev/iommu rw,\n",
                ),
                (LOCAL, "/dev/egm4 rw,\n"),
            ];
            let apparmor = read_from(&files).apparmor.expect("AppArmor");
            assert!(!apparmor.installed);
            apparmor.rules.expect("read").expect("rules")
        };
        let newer = rules("  include if exists <abstractions/libvirt-qemu.d>\n");
        assert!(
            newer.contains("/dev/iommu")
                && newer.contains("/dev/egm4")
                && !newer.contains("/dev/x")
        );
        let older = rules("  /dev/vfio/vfio rw,\n");
        assert!(!older.contains("/dev/iommu") && older.contains("/dev/egm4"));
    }

    #[test]
    fn a_program_without_a_label_of_the_module_is_named() {
        let directory = tempfile::tempdir().expect("directory");
        let sbin = directory.path().join("usr/sbin");
        fs::create_dir_all(&sbin).expect("directory");
        fs::write(sbin.join("variantd"), "").expect("file");
        let root = Root::new(directory.path().to_owned()).expect("root");
        let look = Look {
            root,
            live: true,
            unread: None,
        };
        let found = mislabelled(&look, PROGRAMS[0]).expect("no label");
        assert_eq!(found.0, "/usr/sbin/variantd");
        assert_eq!(mislabelled(&look, PROGRAMS[1]), None);
    }
}
