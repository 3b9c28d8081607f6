//! libvirt as the agent needs it: a narrow trait, its live side, and what happens to domains.
//!
//! Only this folder names the libvirt bindings. The hook's side of the agent never holds a
//! [`Libvirt`]: libvirt waits for its hook (docs/hooks.rst).

mod capability;
mod change;
mod connection;
mod create;
mod defined;
mod event;
#[cfg(test)]
pub(crate) mod fake;
mod initiator;
mod look;
mod network;

use std::fmt;

use thiserror::Error;

use domain::{Domain, DomainUuid};
use planner::from_libvirt::Networks;
use planner::target::Versions;

pub use capability::Capabilities;
pub use change::{Change, Changes, Watch};
pub use connection::{Live, connect};
pub use create::create;
pub use defined::Defined;
pub use look::{Found, Look, LookError, definition, look, names};

/// A domain by both of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainRef {
    /// Its UUID, which stays when it is renamed.
    pub uuid: DomainUuid,
    /// Its name.
    pub name: String,
}

/// What happened, in libvirt's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The connection stands; everything before it may have been missed.
    Connected(Versions),
    /// The connection is gone; it is being opened again.
    Disconnected,
    /// A definition is new or changed.
    Defined(DomainRef),
    /// A definition is gone.
    Undefined(DomainRef),
    /// A guest runs.
    Started(DomainRef),
    /// A guest ended.
    Stopped(DomainRef),
    /// A device has left a guest that goes on.
    Unplugged(DomainRef),
    /// A network is new, changed or gone.
    Networks,
}

/// libvirt said no, or could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LibvirtError {
    /// No daemon.
    #[error("libvirt is not reachable")]
    Disconnected,
    /// Its own words.
    #[error("libvirt: {0}")]
    Said(String),
}

/// What the agent asks of libvirt. Each call may block for as long as a guest's start takes.
pub trait Libvirt: Send + Sync {
    /// Called at start and on reconnection: domains with a definition.
    ///
    /// # Errors
    /// libvirt's.
    fn defined(&self) -> Result<Vec<DomainRef>, LibvirtError>;

    /// Called at start and on reconnection: running guests with their live XML.
    ///
    /// # Errors
    /// libvirt's.
    fn running(&self) -> Result<Vec<(DomainRef, String)>, LibvirtError>;

    /// Called for a request: the domain of this name or UUID.
    ///
    /// # Errors
    /// libvirt's; a domain that does not exist is `None`.
    fn find(&self, name: &str) -> Result<Option<DomainRef>, LibvirtError>;

    /// Called before a definition is completed and to read it back: with its secrets, or `None`
    /// when the domain is gone or has no definition (defining a transient one would keep it).
    ///
    /// # Errors
    /// libvirt's.
    fn inactive_xml(&self, domain: &DomainUuid) -> Result<Option<String>, LibvirtError>;

    /// Called to plan for who may only look: the same without its secrets, as 'virsh dumpxml --inactive'
    /// prints it.
    ///
    /// # Errors
    /// libvirt's.
    fn public_xml(&self, domain: &DomainUuid) -> Result<Option<String>, LibvirtError>;

    /// Called after a running guest was adopted; false when it is gone.
    ///
    /// # Errors
    /// libvirt's.
    fn is_active(&self, domain: &DomainUuid) -> Result<bool, LibvirtError>;

    /// Called when a device has left a guest: the guest's live XML; `None` when it does not run.
    ///
    /// # Errors
    /// libvirt's.
    fn live_xml(&self, domain: &DomainUuid) -> Result<Option<String>, LibvirtError>;

    /// Called when a device may have left a guest: ids of the initiator objects in its QEMU whose device is gone.
    ///
    /// # Errors
    /// libvirt's, or QEMU's.
    fn stale_initiators(&self, domain: &DomainUuid) -> Result<Vec<String>, LibvirtError>;

    /// Called with an id from [`stale_initiators`](Self::stale_initiators): deletes the object.
    ///
    /// # Errors
    /// libvirt's, or QEMU's.
    fn delete_initiator(&self, domain: &DomainUuid, id: &str) -> Result<(), LibvirtError>;

    /// Called before a plan is made: what guests of a domain's machine, architecture and accelerator can have.
    ///
    /// # Errors
    /// libvirt's.
    fn capabilities(&self, domain: &Domain) -> Result<Capabilities, LibvirtError>;

    /// Called on connection, when a network changed and before a domain with interfaces of networks is judged: all networks.
    ///
    /// # Errors
    /// libvirt's.
    fn networks(&self) -> Result<Networks, LibvirtError>;

    /// Called before a definition is written: what events report of definitions from then on.
    fn changes(&self) -> &Changes;

    /// Called when our define has brought back a definition that another client had removed: a guest that runs goes on
    /// without a definition. Its NVRAM and TPM are kept.
    ///
    /// # Errors
    /// libvirt's; a domain that is gone is no error.
    fn undefine(&self, domain: &DomainUuid) -> Result<(), LibvirtError>;

    /// Called to complete a definition; validates against libvirt's own schema.
    ///
    /// # Errors
    /// libvirt's.
    fn define(&self, xml: &str) -> Result<(), LibvirtError>;
}

impl fmt::Display for DomainRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
