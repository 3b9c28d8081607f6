//! Interfaces of libvirt's networks: which of them may bring a device that is not judged.

use super::definition::Definition;
use crate::from_libvirt::sentence;

pub(super) fn tell(definition: &Definition) {
    let networks = definition.networks.iter();
    for line in networks.filter_map(|(name, pool)| sentence(name, pool.as_ref())) {
        eprintln!("note: {line}");
    }
}
