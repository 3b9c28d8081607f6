//! The transport between a client and a daemon: recorded packets, any bytes, modelled peers, and the real libvirt.

mod admission;
mod client;
mod forward;
mod libvirt;
mod many;
mod packet;
mod recorded;
mod shared;
mod splitter;
mod suite;
