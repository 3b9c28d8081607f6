//! Devices that other definitions or a network's pool assign as well: legal, but only one of the guests can run.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::libvirt::DomainRef;
use domain::code::Code;
use domain::{Domain, DomainUuid};
use kernel_glue::address::PciAddress;
use planner::from_libvirt::FromLibvirt;
use planner::plan::{Note, Plan};

/// Domains that a note names.
const NAMED: usize = 3;

/// The host devices of each definition, as the agent last read it.
///
/// The agent reads a definition when libvirt announces it, and all of them when it connects. To read them again for each note would
/// take three calls of libvirt for each domain of the host, whenever one is completed.
#[derive(Debug, Default)]
pub struct AssignedDevices(Mutex<BTreeMap<DomainUuid, Assigns>>);

#[derive(Debug)]
struct Assigns {
    name: String,
    devices: Vec<PciAddress>,
}

impl AssignedDevices {
    /// The definition has been read.
    pub(crate) fn learn(&self, uuid: &DomainUuid, definition: &Domain) {
        let devices: Vec<PciAddress> = definition.sources().collect();
        let mut known = self.known();
        if devices.is_empty() {
            known.remove(uuid);
        } else {
            let name = definition.name.clone();
            known.insert(uuid.clone(), Assigns { name, devices });
        }
    }

    /// The definition is gone.
    pub(crate) fn forget(&self, uuid: &DomainUuid) {
        self.known().remove(uuid);
    }

    /// All definitions are read again.
    pub(crate) fn forget_all(&self) {
        self.known().clear();
    }

    /// A note for each device of the domain's plan that other domains have, and for each network that has it.
    pub(crate) fn notes(
        &self,
        domain: &DomainRef,
        plan: &Plan,
        printed: &FromLibvirt,
    ) -> Vec<Note> {
        let devices = plan.devices.iter().map(|device| device.address);
        let shared = devices.filter_map(|device| {
            let others = self.others(domain, device);
            (!others.is_empty()).then(|| shared(device, &others))
        });
        shared.chain(pooled(plan, printed)).collect()
    }

    /// The names of the other domains with this device, in lexical order.
    fn others(&self, domain: &DomainRef, device: PciAddress) -> Vec<String> {
        let known = self.known();
        let others = known
            .iter()
            .filter(|(uuid, other)| **uuid != domain.uuid && other.devices.contains(&device));
        let mut names: Vec<String> = others.map(|(_, other)| other.name.clone()).collect();
        names.sort();
        names
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<DomainUuid, Assigns>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// libvirt assigns an interface of the network any device of its pool that no other interface has
/// (networkAllocatePort).
fn pooled(plan: &Plan, printed: &FromLibvirt) -> Vec<Note> {
    let networks = printed.networks.iter();
    let note = |address, network: &str| Note {
        code: Code::DeviceShared,
        device: Some(address),
        text: format!(
            "the host device pool of network '{network}' contains it, so a guest with an interface \
                of that network may get it first"
        ),
    };
    let of = |device: &planner::plan::Planned| {
        let pools = networks.clone().flat_map(|all| all.with(device.address));
        let notes = pools.map(|network| note(device.address, network));
        notes.collect::<Vec<_>>()
    };
    plan.devices.iter().flat_map(of).collect()
}

fn shared(device: PciAddress, others: &[String]) -> Note {
    let named: Vec<String> = others
        .iter()
        .take(NAMED)
        .map(|name| format!("'{name}'"))
        .collect();
    let text = match (others.len(), others.len().saturating_sub(NAMED)) {
        (1, _) => format!(
            "domain {} also assigns it: only one of the two can run",
            named[0]
        ),
        (_, 0) => format!(
            "domains {} also assign it: only one can run at a time",
            named.join(", ")
        ),
        (_, more) => format!(
            "domains {} and {more} more also assign it: only one can run at a time",
            named.join(", ")
        ),
    };
    Note {
        code: Code::DeviceShared,
        device: Some(device),
        text,
    }
}
