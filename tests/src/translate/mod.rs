//! Every golden definition through the real libvirt and QEMU of three Debian releases.

pub mod argument;
pub mod check;
pub mod definition;
pub mod found;
pub mod piece;
pub mod size;
