//! ACPI tables that a recipe names, given to the guest's firmware as they are. x86 alone: QEMU has no
//! `-acpitable` on Arm.

use super::command_line::Arguments;
use super::fragment::{Fragment, print_all};
use super::{Assigned, Change, Plan, Setting};
use crate::target::Version;
use domain::code::Code;
use domain::{Domain, Piece};

/// Plans the tables that the definition does not name yet.
pub(super) fn plan(
    setting: &Setting<'_>,
    domain: &Domain,
    assigned: &[Assigned<'_>],
    arguments: &mut Arguments,
    plan: &mut Plan,
) {
    let named = assigned.iter().flat_map(|one| &one.recipe.acpi_tables);
    let mut paths: Vec<&str> = named.map(|table| table.path.as_str()).collect();
    paths.sort_unstable();
    paths.dedup();
    if setting.target.versions.libvirt < Version::ACPI_TABLE_RAW {
        paths
            .into_iter()
            .for_each(|path| arguments.table(path, plan));
        return;
    }
    paths.retain(|path| {
        !domain
            .platform
            .acpi_tables
            .iter()
            .any(|known| known.path == *path)
    });
    if let Some(change) = add(domain, &paths) {
        plan.changes.push(change);
        let added = paths.into_iter().map(|path| Piece::Table(path.to_owned()));
        added.for_each(|piece| plan.added.insert(piece));
        if domain.platform.os_acpi.is_none() {
            plan.added.insert(Piece::Acpi);
        }
    }
}

fn add(domain: &Domain, paths: &[&str]) -> Option<Change> {
    let os = domain.platform.os.as_ref()?;
    let table = |path: &&str| Fragment::new("table").with("type", "raw").text(path);
    if paths.is_empty() {
        return None;
    }
    let edit = match &domain.platform.os_acpi {
        Some(acpi) => acpi.append(&print_all(paths.iter().map(table))),
        None => os.append(
            &Fragment::new("acpi")
                .children(paths.iter().map(table))
                .print(),
        ),
    };
    Some(Change {
        code: Code::AcpiTableMissing,
        device: None,
        path: "/domain/os/acpi/table".to_owned(),
        reason: format!("ACPI tables that the recipe names: {}", paths.join(", ")),
        edits: vec![edit],
    })
}
