//! The real hooks, called as their callers call them, against an agent on a private bus that does as it is told.

mod fail_closed;
mod fault;
mod libvirt;
mod limit;
mod scene;
mod socket;
mod vdsm;
