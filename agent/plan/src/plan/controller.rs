//! PCI controllers that libvirt refuses: a root controller not at index 0, another controller at index 0, an index used twice.
//!
//! libvirt checks this when it defines the domain (virDomainDefRejectDuplicateControllers, and src/qemu/qemu_postparse.c:
//! "pci-root and pcie-root controllers should have index 0"). A file may not have been defined yet.

use std::collections::BTreeSet;

use super::virsh;
use domain::Domain;
use domain::code::Code;
use domain::refusal::Refusal;

const ROOTS: [&str; 2] = ["pcie-root", "pci-root"];

/// The first rule that the definition's PCI controllers break.
pub(super) fn check(domain: &Domain) -> Option<Refusal> {
    let (index, reason) = root(domain)
        .or_else(|| twice(domain))
        .or_else(|| other_root(domain))?;
    let root = format!(
        "write the root first, as <controller type='pci' index='0' model='{}'/>, or remove it,",
        domain.root_model().unwrap_or("pcie-root")
    );
    let hint = virsh::edit(domain, &root);
    let at = format!("/domain/devices/controller[@type='pci'][@index='{index}']");
    Some(Refusal::new(Code::XmlValue, reason, hint).at(at))
}

fn root(domain: &Domain) -> Option<(u32, String)> {
    let roots = domain
        .controllers
        .iter()
        .filter(|one| ROOTS.contains(&one.model.as_str()));
    let wrong = roots.min_by_key(|root| std::cmp::Reverse(root.index))?;
    (wrong.index != 0).then(|| {
        let (model, index) = (&wrong.model, wrong.index);
        let reason = format!("the PCI controller '{model}' has index {index}, libvirt accepts it only at index 0 (a controller without an index gets the lowest free one)");
        (index, reason)
    })
}

fn twice(domain: &Domain) -> Option<(u32, String)> {
    let mut seen = BTreeSet::new();
    let mut indexes = domain.controllers.iter().map(|one| one.index);
    let index = indexes.find(|index| !seen.insert(*index))?;
    let reason = format!("two PCI controllers have index {index}");
    Some((index, reason))
}

fn other_root(domain: &Domain) -> Option<(u32, String)> {
    let (model, root) = (&domain.controller(0)?.model, domain.root_model()?);
    (model != root).then(|| {
        let family = domain.family();
        let reason = format!("PCI controller 0 is '{model}', but machine '{family}' needs '{root}' there (a controller without an index gets the lowest free one)");
        (0, reason)
    })
}
