//! `variantctl doctor`: checks of a host, its devices, libvirt, domains and the installation.
//!
//! [`read`] reads the facts and changes nothing; the other modules are pure and judge these facts. A check whose facts
//! are not available is UNKNOWN, with the reason: never passed, never failed.

mod check;
mod definition;
mod device;
mod driver;
mod egm;
mod grace;
mod host;
mod installation;
#[cfg(test)]
mod lab_test;
#[cfg(test)]
mod layout_test;
mod next;
mod occupancy;
mod peer;
pub(crate) mod read;
mod record;
mod scene;
mod screen;
mod security;
mod stack;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod virtualization;

pub(crate) use check::{Check, Group, Verdict};
pub(crate) use next::next;
pub(crate) use scene::Scene;
pub(crate) use screen::{Length, Tally, text};

/// Every check of what was read, in the order of the screen.
#[must_use]
pub(crate) fn examine(scene: &Scene) -> Vec<Check> {
    let groups = [
        (Group::Host, host::checks(scene)),
        (Group::Devices, device::checks(scene)),
        (Group::Libvirt, virtualization::checks(scene)),
        (Group::Domains, definition::checks(scene)),
        (Group::Installation, installation::checks(scene)),
    ];
    let placed = |(group, checks): (Group, Vec<Check>)| {
        checks
            .into_iter()
            .map(move |check| Check { group, ..check })
    };
    groups.into_iter().flat_map(placed).collect()
}
