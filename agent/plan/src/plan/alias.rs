//! The alias of a hostdev, by which initiators on QEMU's command line and EGM memory name it.

use kernel_glue::address::PciAddress;

use super::fragment::Fragment;
use super::{Assigned, Change, Part};
use domain::code::Code;
use domain::edit::Edit;
use domain::{Hostdev, Marked, Piece};

/// Why a hostdev needs an alias.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purpose {
    pub(super) code: Code,
    pub(super) reason: &'static str,
}

/// The user's alias if libvirt keeps it, else ours.
pub(super) fn of(one: &Assigned<'_>) -> String {
    let own = one.hostdev.alias.as_ref().filter(|alias| is_kept(alias));
    own.cloned().unwrap_or_else(|| given(one.hostdev.source))
}

/// libvirt replaces every other alias by its own (src/conf/device_conf.c, virDomainDeviceAliasIsUserAlias, USER_ALIAS_CHARS).
fn is_kept(alias: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    alias.starts_with("ua-") && alias.bytes().all(allowed)
}

/// The alias that variantd gives a device.
pub(crate) fn given(device: PciAddress) -> String {
    let device = device.to_string().replace([':', '.'], "-");
    format!("ua-variantd-{device}")
}

/// Gives a hostdev an alias that others can name, unless it has one.
pub(super) fn plan(one: &Assigned<'_>, purpose: Purpose) -> Part {
    let mut part = Part::default();
    let alias = of(one);
    if one.hostdev.alias.as_ref() == Some(&alias) {
        return part;
    }
    let fragment = Fragment::new("alias").with("name", alias).print();
    let place = one.hostdev.alias_element.as_ref();
    let edit = place.map_or_else(
        || one.hostdev.element.append(&fragment),
        |old| old.replace(&fragment),
    );
    part.add_for(one.hostdev.source, Piece::Alias);
    let old = one.hostdev.alias_text.clone();
    part.aliases
        .extend(old.map(|old| (one.hostdev.source, old)));
    part.changes.push(Change {
        code: purpose.code,
        device: Some(one.hostdev.source),
        path: format!("{}/alias", one.hostdev.path()),
        reason: purpose.reason.to_owned(),
        edits: vec![edit],
    });
    part
}

/// True when a hostdev has the alias that a mark's entry records.
pub(crate) fn is_carried(marked: &Marked, hostdev: &Hostdev) -> bool {
    marked.added.has(&Piece::Alias) && hostdev.alias.as_ref() == Some(&given(marked.address))
}

/// True when a hostdev has the alias that was added to it.
pub(crate) fn is_intact(marked: &Marked, hostdev: &Hostdev) -> bool {
    !marked.added.has(&Piece::Alias) || is_carried(marked, hostdev)
}

/// Removes the alias, or restores the previous one.
pub(crate) fn undo(marked: &Marked, hostdev: &Hostdev) -> Option<Edit> {
    let alias = hostdev.alias_element.as_ref()?;
    Some(alias.restore(marked.alias.as_deref()))
}
