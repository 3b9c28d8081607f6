//! The mark in the metadata: what was added, for which device, and by which recipe.

use super::fragment::Fragment;
use super::{Change, Part, Planned, beside};
use domain::code::Code;
use domain::edit::Edit;
use domain::{Added, Domain, Mark, Marked, NAMESPACE, Opened, Piece};

/// Adds the mark, which records what all other parts add, or replaces a mark with another content.
pub(super) fn plan(domain: &Domain, all: &Part, digest: &str) -> Part {
    let mut added = all.added.clone();
    match (&domain.mark, &domain.metadata) {
        (Some(mark), _) => added.extend(mark.added.iter().cloned()),
        (None, Some(metadata)) if metadata.is_self_closed() => {
            added.insert(Piece::Open(Opened::Metadata))
        }
        (None, Some(_)) => {}
        (None, None) => added.insert(Piece::Metadata),
    }
    let devices = all.devices.iter();
    let mut wanted: Vec<Marked> = devices.map(|one| marked(domain, all, one)).collect();
    wanted.extend(beside::marked(domain, all));
    let same = |mark: &Mark| mark.devices == wanted && mark.added == added && mark.digest == digest;
    if domain.mark.as_ref().is_some_and(same) {
        return Part::default();
    }
    let mark = print(&wanted, &added, digest);
    let edit = match (&domain.mark, &domain.metadata) {
        (Some(old), _) => old.element.replace(&mark.print()),
        (None, Some(metadata)) => metadata.append(&mark.print()),
        (None, None) => domain
            .heading
            .insert_after(&Fragment::new("metadata").child(mark).print()),
    };
    let change = Change {
        code: Code::MarkMissing,
        device: None,
        path: "/domain/metadata/variantd:prepared".to_owned(),
        reason: "a record of what was added, so that it can be checked and reverted".to_owned(),
        edits: vec![edit],
    };
    Part {
        changes: vec![change],
        ..Part::default()
    }
}

/// Removes the mark; with `<metadata>` if we added it and nothing else is in it.
pub(crate) fn undo(domain: &Domain, mark: &Mark) -> Edit {
    let is_ours = domain.metadata_is_ours;
    match &domain.metadata {
        Some(metadata) if is_ours && mark.added.has(&Piece::Metadata) => metadata.remove(),
        Some(metadata) if is_ours && mark.added.opened(Opened::Metadata) => metadata.collapse(),
        _ => mark.element.remove(),
    }
}

fn marked(domain: &Domain, all: &Part, one: &Planned) -> Marked {
    let mut added = all.added_for.get(&one.address).cloned().unwrap_or_default();
    let mut replaced = all.replaced.get(&one.address).cloned();
    let mut alias = all.aliases.get(&one.address).cloned();
    let before = domain.mark.iter().flat_map(|mark| &mark.devices);
    for old in before.filter(|old| old.address == one.address) {
        added.extend(old.added.iter().cloned());
        replaced = old.replaced.clone().or(replaced);
        alias = old.alias.clone().or(alias);
    }
    let driver = is_lone_driver(&added).then(|| one.driver.to_string());
    Marked {
        address: one.address,
        recipe: one.recipe.clone(),
        cells: one.cells.clone(),
        added,
        replaced,
        alias,
        driver,
    }
}

/// True when only `<driver>` tells a hostdev that we completed from others.
fn is_lone_driver(added: &Added) -> bool {
    let told = |piece| matches!(piece, &Piece::Nodeset | &Piece::Alias | &Piece::Port(_));
    let driver = |piece| matches!(piece, &Piece::Driver | &Piece::Model | &Piece::Iommufd);
    added.iter().any(driver) && !added.iter().any(told)
}

fn print(devices: &[Marked], added: &Added, digest: &str) -> Fragment {
    let device = |marked: &Marked| {
        Fragment::new("variantd:device")
            .with("address", marked.address)
            .with("recipe", &marked.recipe)
            .with_some("cells", &marked.cells)
            .with_some("added", &marked.added)
            .with_some("driver", marked.driver.as_deref().unwrap_or_default())
            .with_some("alias", marked.alias.as_deref().unwrap_or_default())
            .with_some("replaced", marked.replaced.as_deref().unwrap_or_default())
    };
    Fragment::new("variantd:prepared")
        .with("xmlns:variantd", NAMESPACE)
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("digest", digest)
        .with_some("added", added)
        .children(devices.iter().map(device))
}
