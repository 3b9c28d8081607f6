//! `org.variantd1.Device`: one device, as `/org/variantd1/device/0000_01_00_0`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::name::DEVICES;
use kernel_glue::address::PciAddress;
use zbus::{Variant, interface};

use crate::status::Status;

/// A device's object; all clones have the same state.
#[derive(Clone)]
pub(super) struct DeviceObject(Arc<Mutex<Status>>);

/// Properties by name.
pub(super) type Properties = HashMap<&'static str, Variant<'static>>;

/// The path of a device's object.
pub(super) fn path(device: PciAddress) -> String {
    // An element of an object path has only letters, digits and underscores (D-Bus specification).
    format!("{DEVICES}{}", device.to_string().replace([':', '.'], "_"))
}

impl DeviceObject {
    pub(super) fn new(status: Status) -> Self {
        Self(Arc::new(Mutex::new(status)))
    }

    /// Sets the status; returns the properties that changed.
    pub(super) fn set(&self, status: Status) -> Properties {
        let mut now = self.status();
        let (old, new) = (properties(&now), properties(&status));
        *now = status;
        let changed = new
            .into_iter()
            .filter(|(key, value)| old.get(key) != Some(value));
        changed.collect()
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The properties that may change.
fn properties(status: &Status) -> Properties {
    HashMap::from([
        ("Id", status.id.clone().into()),
        ("Recipe", status.recipe.clone().into()),
        ("Driver", status.driver.clone().into()),
        ("PreviousDriver", status.previous_driver.clone().into()),
        ("Group", number(status.group).into()),
        ("NumaNode", number(status.numa_node).into()),
        ("Domain", name(status).into()),
        ("DomainUuid", uuid(status).into()),
        ("State", status.state.as_str().into()),
        ("Reserved", status.reserved.into()),
        ("Note", status.note.clone().into()),
    ])
}

/// -1 for none, as in sysfs.
fn number(value: Option<u32>) -> i32 {
    value.and_then(|value| value.try_into().ok()).unwrap_or(-1)
}

fn name(status: &Status) -> String {
    let domain = status.domain.as_ref();
    domain.map_or(String::new(), |domain| domain.name.clone())
}

fn uuid(status: &Status) -> String {
    let domain = status.domain.as_ref();
    domain.map_or(String::new(), |domain| domain.uuid.to_string())
}

#[interface(name = "org.variantd1.Device")]
impl DeviceObject {
    /// PCI address.
    #[zbus(property(emits_changed_signal = "const"))]
    fn address(&self) -> String {
        self.status().address.to_string()
    }

    /// Vendor and device id, such as `10de:2342`.
    #[zbus(property)]
    fn id(&self) -> String {
        self.status().id.clone()
    }

    /// The recipe that covers it; empty for a device that is only bound or reserved.
    #[zbus(property)]
    fn recipe(&self) -> String {
        self.status().recipe.clone()
    }

    /// Its driver; empty for none.
    #[zbus(property)]
    fn driver(&self) -> String {
        self.status().driver.clone()
    }

    /// The driver that a release restores; empty if it had none, or is not bound by variantd.
    #[zbus(property)]
    fn previous_driver(&self) -> String {
        self.status().previous_driver.clone()
    }

    /// Number of its IOMMU group; -1 for none.
    #[zbus(property)]
    fn group(&self) -> i32 {
        number(self.status().group)
    }

    /// Its NUMA node; -1 for none.
    #[zbus(property)]
    fn numa_node(&self) -> i32 {
        number(self.status().numa_node)
    }

    /// Name of the domain that has it; empty for none.
    #[zbus(property)]
    fn domain(&self) -> String {
        name(&self.status())
    }

    /// UUID of the domain that has it; empty for none.
    #[zbus(property)]
    fn domain_uuid(&self) -> String {
        uuid(&self.status())
    }

    /// `free`; `reserved`: for guests, and not bound; `binding`; `bound`: for a domain, manually or by its reservation;
    /// `releasing`; `degraded`: a change of it was interrupted, see `Recover`.
    #[zbus(property)]
    fn state(&self) -> String {
        self.status().state.as_str().to_owned()
    }

    /// Whether it is reserved for guests.
    #[zbus(property)]
    fn reserved(&self) -> bool {
        self.status().reserved
    }

    /// Why it was released without its previous driver, with a code; empty if there is nothing to report.
    #[zbus(property)]
    fn note(&self) -> String {
        self.status().note.clone()
    }
}
