//! libvirt as the agent needs it: a narrow trait, its live implementation, and the events.
//!
//! Only this folder names the libvirt bindings. The hook's half of the agent never has a [`Libvirt`]: libvirt waits for
//! its hook (docs/hooks.rst).

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
pub use look::{Found, Look, LookError, definition, definitions, look, names};

/// A domain by its UUID and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainRef {
    /// Its UUID, which stays when it is renamed.
    pub uuid: DomainUuid,
    /// Its name.
    pub name: String,
}

/// An event, in libvirt's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The connection is open; earlier events may be lost.
    Connected(Versions),
    /// The connection is closed; it is being opened again.
    Disconnected,
    /// A definition was created or changed.
    Defined(DomainRef),
    /// A definition was removed.
    Undefined(DomainRef),
    /// A guest started.
    Started(DomainRef),
    /// A guest ended.
    Stopped(DomainRef),
    /// A device has left a running guest.
    Unplugged(DomainRef),
    /// A network was created, changed or removed.
    Networks,
}

/// libvirt returned an error, or was not reachable.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LibvirtError {
    /// No connection to the daemon.
    #[error("libvirt is not reachable")]
    Disconnected,
    /// libvirt's error.
    #[error("libvirt: {0}")]
    Reported(String),
}

/// The calls of libvirt that the agent needs. Each call may block for as long as a guest's start takes.
pub trait Libvirt: Send + Sync {
    /// All domains with a definition; called at start and on reconnection.
    ///
    /// # Errors
    /// libvirt's.
    fn defined(&self) -> Result<Vec<DomainRef>, LibvirtError>;

    /// Running guests with their live XML; called at start and on reconnection.
    ///
    /// # Errors
    /// libvirt's.
    fn running(&self) -> Result<Vec<(DomainRef, String)>, LibvirtError>;

    /// The domain of this name or UUID; called for a request.
    ///
    /// # Errors
    /// libvirt's; a domain that does not exist is `None`.
    fn find(&self, name: &str) -> Result<Option<DomainRef>, LibvirtError>;

    /// The definition with its secrets, before it is completed and to read it back; `None` if the domain was removed or
    /// has no definition (defining a transient one would keep it).
    ///
    /// # Errors
    /// libvirt's.
    fn inactive_xml(&self, domain: &DomainUuid) -> Result<Option<String>, LibvirtError>;

    /// The same without its secrets, as 'virsh dumpxml --inactive' prints it; called to plan for callers that may only
    /// read.
    ///
    /// # Errors
    /// libvirt's.
    fn public_xml(&self, domain: &DomainUuid) -> Result<Option<String>, LibvirtError>;

    /// True if the guest runs; called after a running guest was adopted.
    ///
    /// # Errors
    /// libvirt's.
    fn is_active(&self, domain: &DomainUuid) -> Result<bool, LibvirtError>;

    /// The guest's live XML, or `None` if it does not run; called after a device has left a guest.
    ///
    /// # Errors
    /// libvirt's.
    fn live_xml(&self, domain: &DomainUuid) -> Result<Option<String>, LibvirtError>;

    /// Ids of the initiator objects in the guest's QEMU whose device does not exist; called when a device may have left
    /// a guest.
    ///
    /// # Errors
    /// libvirt's, or QEMU's.
    fn stale_initiators(&self, domain: &DomainUuid) -> Result<Vec<String>, LibvirtError>;

    /// Deletes an object with an id from [`stale_initiators`](Self::stale_initiators).
    ///
    /// # Errors
    /// libvirt's, or QEMU's.
    fn delete_initiator(&self, domain: &DomainUuid, id: &str) -> Result<(), LibvirtError>;

    /// The capabilities of guests with a domain's machine, architecture and accelerator; called before a plan is made.
    ///
    /// # Errors
    /// libvirt's.
    fn capabilities(&self, domain: &Domain) -> Result<Capabilities, LibvirtError>;

    /// The QEMU arguments that libvirt makes of a definition, which it does not store or start; called when libvirt or QEMU
    /// changed.
    ///
    /// # Errors
    /// libvirt's.
    fn translate(&self, xml: &str) -> Result<String, LibvirtError>;

    /// All networks; called on connection, after a network change and before a domain with interfaces of networks is
    /// planned.
    ///
    /// # Errors
    /// libvirt's.
    fn networks(&self) -> Result<Networks, LibvirtError>;

    /// The stored events of definitions; called before a definition is written.
    fn changes(&self) -> &Changes;

    /// Removes a definition that our define has created again after another client had removed it: a running guest
    /// continues without a definition. Its NVRAM and TPM are kept.
    ///
    /// # Errors
    /// libvirt's; a domain that does not exist is not an error.
    fn undefine(&self, domain: &DomainUuid) -> Result<(), LibvirtError>;

    /// Defines a completed definition; libvirt validates it against its own schema.
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
