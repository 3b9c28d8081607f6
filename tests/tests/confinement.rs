//! The AppArmor profiles and the SELinux module fit the units, the programs and packaging/doc/security-modules.md.

use std::collections::{BTreeMap, BTreeSet};

const PAGE: &str = include_str!("../../packaging/doc/security-modules.md");
const STAGE: &str = include_str!("../../packaging/stage");
const CIL: &str = include_str!("../../packaging/selinux/variantd.cil");
/// The units of a program, its profile, and its domain.
const PROGRAMS: [(&[&str], &str, &str); 3] = [
    (
        &[
            include_str!("../../packaging/systemd/variantd.service"),
            include_str!("../../packaging/systemd/variantd-reserve.service"),
        ],
        include_str!("../../packaging/apparmor/variantd"),
        "variantd_t",
    ),
    (
        &[include_str!(
            "../../packaging/systemd/variantd-connect@.service"
        )],
        include_str!("../../packaging/apparmor/variantd-connect"),
        "variantd_connect_t",
    ),
    (
        &[include_str!(
            "../../packaging/systemd/variantd-probe.service"
        )],
        include_str!("../../packaging/apparmor/variantd-probe"),
        "variantd_probe_t",
    ),
];
/// Programs of /usr/libexec/variantd that run in the domain of their caller.
const OF_CALLER: [&str; 3] = ["variantd-libvirt", "variantd-vdsm", "variantd-selinux"];
/// modprobe has it, which runs in the agent's profile and in a domain of its own.
const OF_MODPROBE: &str = "sys_module";

type Names = BTreeSet<String>;

/// Capabilities of a unit, as the policies spell them.
fn of_unit(unit: &str) -> Names {
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let names = line.unwrap_or_default().split_whitespace();
    names
        .map(|name| name.trim_start_matches("CAP_").to_lowercase())
        .collect()
}

fn of_profile(profile: &str) -> Names {
    let lines = profile.lines().map(str::trim);
    let names = lines.filter_map(|line| line.strip_prefix("capability "));
    names
        .map(|name| name.trim_end_matches(',').to_owned())
        .collect()
}

fn of_domain(cil: &str, domain: &str) -> Names {
    let beginning = format!("(allow {domain} self (capability (");
    let lists = cil.lines().filter_map(|line| line.strip_prefix(&beginning));
    let names = lists.flat_map(|list| list.trim_end_matches(')').split(' '));
    names.map(str::to_owned).collect()
}

#[test]
fn profiles_and_domains_have_the_capabilities_of_their_units() {
    for (units, profile, domain) in PROGRAMS {
        let mut needed: Names = units.iter().copied().flat_map(of_unit).collect();
        assert_eq!(of_profile(profile), needed, "{domain}");
        needed.remove(OF_MODPROBE);
        assert_eq!(of_domain(CIL, domain), needed, "{domain}");
    }
    assert_eq!(of_domain(CIL, "variantd_hook_t"), Names::new());
}

/// Paths and their types in the module.
fn contexts(cil: &str) -> BTreeMap<String, String> {
    let entries = cil
        .lines()
        .filter_map(|line| line.strip_prefix("(filecon \""));
    let fields = entries.filter_map(|entry| {
        let (path, rest) = entry.split_once('"')?;
        let context = rest.split_once("object_r ")?.1;
        Some((path.to_owned(), context.split(' ').next()?.to_owned()))
    });
    fields.collect()
}

#[test]
fn each_installed_program_has_a_context_or_the_domain_of_its_caller() {
    let contexts = contexts(CIL);
    let targets = STAGE.split_whitespace().filter(|word| {
        word.starts_with("usr/sbin/variantd") || word.starts_with("usr/libexec/variantd/")
    });
    let mut seen = 0;
    for target in targets {
        seen += 1;
        let name = target.rsplit('/').next().unwrap_or_default();
        let path = format!("/{target}");
        // A path without an expression comes before the entry of its folder. Policies look for /usr/sbin in /usr/bin.
        for path in [path.replace("/usr/sbin/", "/usr/bin/"), path] {
            let labelled = contexts.contains_key(&path);
            assert_ne!(labelled, OF_CALLER.contains(&name), "{path}");
        }
    }
    assert!(seen >= 7, "{seen}");
}

#[test]
fn the_page_names_each_type_of_a_file_and_no_other() {
    let used: Names = contexts(CIL).into_values().collect();
    let (_, table) = PAGE.split_once("| label | files |\n").expect("the table");
    let table = table.split("\n\n").next().unwrap_or_default();
    let first = table
        .lines()
        .skip(1)
        .filter_map(|row| row.split(" | ").next());
    let words = first.flat_map(|cell| cell.split('`'));
    let named: Names = words
        .filter(|word| word.ends_with("_t"))
        .map(str::to_owned)
        .collect();
    assert_eq!(named, used);
    assert!(used.len() > 10, "{used:?}");
}
