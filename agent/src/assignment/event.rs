//! What may happen to a device: requests, results of actions, and starts of the agent.

use kernel_glue::driver::DriverName;
use kernel_glue::rebind::Before;

use super::record::{Owner, Phase};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The device is asked for.
    Claim(Claim),
    /// A reserved device appeared, and its override is about to be written; nothing is bound yet.
    Appeared(Claim),
    /// The driver link names the target.
    Bound,
    /// The target is not bound; the bind has tried to take itself back. `lasting`: without success, or a write of it
    /// may still have its effect.
    NotBound {
        /// The device is not, or may not stay, as the bind found it.
        lasting: bool,
    },
    /// The bind is to be taken back: another device of the same request is not bound, or the request is refused after
    /// all.
    Cancelled,
    /// The owner has no use for the device any more.
    Released,
    /// The agent started, or tries again.
    Resumed,
    /// The device is where the last action was to bring it, or it is gone.
    Restored,
    /// It is not. `lasting`: it is in neither state, or a write may still have its effect.
    NotRestored {
        /// Nothing may be concluded from what the device shows.
        lasting: bool,
    },
}

/// A request for a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// For whom.
    pub(crate) owner: Owner,
    /// The driver it is to be bound to.
    pub(crate) target: DriverName,
    /// How it is bound now.
    pub(crate) now: Before,
    /// A domain, other than the one that asks, has it.
    pub(crate) is_taken: bool,
    /// How far an administrator's bind is that a domain finds.
    pub(crate) lender: Option<Phase>,
}
