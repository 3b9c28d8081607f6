//! The mark in the metadata: what was added, for which device, by which recipe.

use super::fragment::Fragment;
use super::{Change, Plan};
use crate::code::Code;
use crate::domain::{Domain, Marked, NAMESPACE};

/// Adds the mark, or replaces one that says something else.
pub(super) fn plan(domain: &Domain, plan: &mut Plan) {
    let wanted: Vec<Marked> = plan
        .devices
        .iter()
        .map(|one| Marked {
            address: one.address,
            recipe: one.recipe.clone(),
            cells: one.cells.clone(),
        })
        .collect();
    if domain
        .mark
        .as_ref()
        .is_some_and(|mark| mark.devices == wanted)
    {
        return;
    }
    let mark = print(&wanted);
    let edit = match (&domain.mark, &domain.metadata) {
        (Some(old), _) => old.element.replace(&mark.print()),
        (None, Some(metadata)) => metadata.append(&mark.print()),
        (None, None) => domain
            .heading
            .insert_after(&Fragment::new("metadata").child(mark).print()),
    };
    plan.changes.push(Change {
        code: Code::MarkMissing,
        device: None,
        path: "/domain/metadata/variantd:prepared".to_owned(),
        reason: "a record of what was added, so that it can be checked and taken back".to_owned(),
        edits: vec![edit],
    });
}

fn print(devices: &[Marked]) -> Fragment {
    let device = |marked: &Marked| {
        Fragment::new("variantd:device")
            .with("address", marked.address)
            .with("recipe", &marked.recipe)
            .with("cells", &marked.cells)
    };
    Fragment::new("variantd:prepared")
        .with("xmlns:variantd", NAMESPACE)
        .with("version", env!("CARGO_PKG_VERSION"))
        .children(devices.iter().map(device))
}
