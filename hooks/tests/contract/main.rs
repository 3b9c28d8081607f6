//! The real hook, called as libvirt calls it, with a scripted agent.

mod fail_closed;
mod fault;
mod libvirt;
mod limit;
mod scene;
mod socket;
