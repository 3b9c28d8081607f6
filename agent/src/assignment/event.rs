//! The events of a device: requests, results of actions, and starts of the agent.

use kernel_glue::driver::DriverName;
use kernel_glue::rebind::Before;

use super::record::{Owner, Phase};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The device is requested.
    Claim(Claim),
    /// A reserved device appeared, and its override is about to be written; nothing is bound yet.
    Appeared(Claim),
    /// The driver link names the target.
    Bound,
    /// The target is not bound; the bind tried to undo itself. `lasting`: the undo failed, or a write may still have
    /// its effect.
    NotBound {
        /// The device does not have, or may not keep, the state that the bind found.
        lasting: bool,
    },
    /// The bind must be undone: another device of the same request was not bound, or the request is refused.
    Cancelled,
    /// The owner no longer needs the device.
    Released,
    /// The agent started, or retries.
    Resumed,
    /// The last action reached its state, or the device was removed.
    Restored,
    /// The last action failed. `lasting`: the device is in neither state, or a write may still have its effect.
    NotRestored {
        /// The device's visible state is unreliable.
        lasting: bool,
    },
}

/// A request for a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The requesting owner.
    pub(crate) owner: Owner,
    /// The wanted driver.
    pub(crate) target: DriverName,
    /// The current driver and override.
    pub(crate) now: Before,
    /// Another domain than the requesting one has it.
    pub(crate) is_taken: bool,
    /// The phase of an administrator's bind that a domain finds.
    pub(crate) lender: Option<Phase>,
}
