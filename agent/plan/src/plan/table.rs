//! ACPI tables of a recipe, passed to the guest's firmware unchanged. On x86 only: QEMU has no `-acpitable` on Arm.

use super::fragment::{Fragment, print_all};
use super::{Assigned, Change, Part, PlanInput, command_line};
use crate::stack::Feature;
use domain::code::Code;
use domain::edit::Edit;
use domain::{AcpiTable, Domain, Mark, Piece};

/// Plans the tables that the definition does not have yet.
pub(super) fn plan(input: &PlanInput<'_>, domain: &Domain, assigned: &[Assigned<'_>]) -> Part {
    let mut part = Part::default();
    let named = assigned.iter().flat_map(|one| &one.recipe.acpi_tables);
    let mut paths: Vec<&str> = named.map(|table| table.path.as_str()).collect();
    paths.sort_unstable();
    paths.dedup();
    if !input.target.stack.has(Feature::AcpiTableRaw) {
        for path in paths {
            part.add(command_line::table(path));
        }
        return part;
    }
    paths.retain(|path| {
        !domain
            .platform
            .acpi_tables
            .iter()
            .any(|known| known.path == *path)
    });
    let Some(change) = add(domain, &paths) else {
        return part;
    };
    part.changes.push(change);
    let tables = paths.into_iter().map(|path| Piece::Table(path.to_owned()));
    let around = domain.platform.os_acpi.is_none().then_some(Piece::Acpi);
    part.added.extend(tables.chain(around));
    part
}

/// Removes our tables, or the element around them if we added it and nothing else is in it.
pub(crate) fn undo(domain: &Domain, mark: &Mark) -> Vec<Edit> {
    let ours = |table: &&AcpiTable| mark.added.has(&Piece::Table(table.path.clone()));
    let platform = &domain.platform;
    let going: Vec<&AcpiTable> = platform.acpi_tables.iter().filter(ours).collect();
    let all = going.len() == platform.acpi_tables.len();
    match &platform.os_acpi {
        Some(acpi) if all && mark.added.has(&Piece::Acpi) => vec![acpi.remove()],
        _ => going
            .into_iter()
            .map(|table| table.element.remove())
            .collect(),
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
