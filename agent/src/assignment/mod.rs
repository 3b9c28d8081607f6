//! The state machine of an assigned device: one record, and one pure function that decides.
//!
//! ```text
//!                claim                driver link names the target
//! (no record) ----------> binding ------------------------------> bound
//!      ^                     | not bound, cancelled, agent started   | released
//!      |                     v                                       v
//!      +<---- restored --- (restore) <------ retried ------------ releasing
//!      |                     | not restored, lasting                 | the same
//!      |                     v                                       |
//!      +<---- restored --- degraded <--------------------------------+
//! ```
//!
//! No I/O, no clock, no libvirt. The caller writes `Step::record` (`crate::record`) before it performs `Step::actions`,
//! and returns each result as an event. `model` searches all reachable states of a bounded host.

mod action;
mod event;
mod next;
mod record;

pub(crate) use action::{Action, Refused, Restore, Step};
pub(crate) use event::{Claim, Event};
pub(crate) use next::next;
pub use record::{Owner, OwnerKind, Phase, Record};

#[cfg(test)]
mod model;
