//! The real hook, called as libvirt calls it, against an agent that does as it is told.

mod fail_closed;
mod fault;
mod libvirt;
mod limit;
mod scene;
mod socket;
