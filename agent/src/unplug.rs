//! After a hot-unplug: deletes initiators whose device was removed, and releases the device.
//!
//! QEMU rebuilds its tables at each reset of the guest, and exits if an initiator's device does not exist.

use tracing::{info, warn};

use crate::assign::Assigner;
use crate::libvirt::{DomainRef, Libvirt, LibvirtError};
use domain::Domain;
use domain::code::Code;
use domain::hint::Hint;
use domain::refusal::Refusal;

/// Deletes the initiators of devices that have left the guest, and reports the manual command if that fails.
pub(crate) fn rescue(libvirt: &dyn Libvirt, domain: &DomainRef) {
    let stale = match libvirt.stale_initiators(&domain.uuid) {
        Ok(stale) => stale,
        Err(why) => return warn!("cannot list the initiators of guest '{domain}': {why}"),
    };
    let mut deleted = 0;
    for id in &stale {
        match libvirt.delete_initiator(&domain.uuid, id) {
            Ok(()) => deleted += 1,
            Err(why) => warn!("{}", stays(domain, id, &why)),
        }
    }
    if deleted > 0 {
        info!(
            "deleted {deleted} initiators of an unplugged device, so that guest '{domain}' can be \
                reset"
        );
    }
}

/// Releases the devices that the guest's live definition no longer has.
pub(crate) fn release_devices(assigner: &Assigner, domain: &DomainRef, live: &Domain) {
    if let Err(error) = assigner.release_departed(live) {
        warn!("cannot release a device that left guest '{domain}': {error}");
    }
}

fn stays(domain: &DomainRef, id: &str, why: &LibvirtError) -> Refusal {
    let reason = format!(
        "guest '{domain}' ends at its next reset: cannot delete initiator '{id}' of an unplugged \
            device: {why}"
    );
    let delete = format!("virsh qemu-monitor-command {domain} --hmp \"object_del {id}\"");
    let hint = Hint::with("{}, or shut the guest down instead of rebooting it", delete);
    Refusal::new(Code::InitiatorsStale, reason, hint)
}

#[cfg(test)]
#[path = "unplug_test.rs"]
mod test;
