//! Ids and labels of the shipped recipes against the PCI ID database of this machine (Debian: package `pci.ids`).
//!
//! The database of an old release does not have every id, or only a chip's name; what it has must agree. VARIANTD_PCI_IDS is
//! the path of a newer one.

use std::collections::BTreeSet;
use std::fs;

use kernel_glue::id::PciId;

use super::*;

/// The database's path in Debian and Fedora.
const FILES: [&str; 2] = ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids"];

/// Words of labels, in lower case, that differ from the database, with the reason to keep ours.
const OTHERWISE: [(&str, &str); 4] = [
    // The database has the board's code name "GH100-88K-A1".
    ("10de:2345", "gh200"),
    ("10de:2345", "480gb"),
    // "144G HBM3e".
    ("10de:2348", "144gb"),
    // Only AMD's own lists name it as a virtual function.
    ("1002:74bd", "vf"),
];

fn database() -> String {
    let own = std::env::var("VARIANTD_PCI_IDS").ok();
    let files = own.iter().map(String::as_str).chain(FILES);
    let found = files.map(fs::read).find_map(Result::ok);
    let bytes = found.expect("no pci.ids: install Debian's package 'pci.ids', as tests/run does");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The database's name for an id.
fn name(database: &str, id: PciId) -> Option<&str> {
    let vendor = format!("{:04x}  ", id.vendor);
    let device = format!("\t{:04x}  ", id.device);
    let mut lines = database
        .lines()
        .skip_while(|line| !line.starts_with(&vendor));
    lines.next()?;
    let mut own = lines.take_while(|line| line.starts_with(['\t', '#']));
    own.find_map(|line| line.strip_prefix(&device))
}

fn words(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect()
}

#[test]
fn ids_and_labels_agree_with_the_installed_database() {
    let database = database();
    let recipes = Recipes::shipped().expect("shipped recipes");
    let (mut known, mut wrong, mut unknown) = (0, Vec::new(), Vec::new());
    for member in recipes.iter().flat_map(|recipe| &recipe.devices) {
        let id = member.id.to_string();
        let Some(name) = name(&database, member.id) else {
            unknown.push(id);
            continue;
        };
        let (ours, theirs) = (words(&member.label), words(name));
        if theirs.len() < 2 {
            unknown.push(format!("{id} (a chip's name)"));
            continue;
        }
        known += 1;
        let is_listed = |word: &&String| OTHERWISE.iter().any(|(at, w)| *at == id && w == word);
        let lacking: Vec<&String> = ours.difference(&theirs).filter(|w| !is_listed(w)).collect();
        let is_virtual = theirs.contains("vf") || theirs.contains("virtual");
        if !lacking.is_empty() || (is_virtual && member.functions == Functions::Physical) {
            wrong.push(format!(
                "{id} '{}' ({:?}): the database has '{name}'",
                member.label, member.functions
            ));
        }
    }
    eprintln!(
        "{known} ids are in the database; not: {}",
        unknown.join(", ")
    );
    assert_eq!(wrong, Vec::<String>::new());
    assert!(known >= 4, "the database knows only {known} of our ids");
}
