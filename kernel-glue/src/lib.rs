//! The host as the kernel shows it, and the only interface that changes it.
//!
//! Reads below a root directory passed to a constructor (`/` or a recorded host); writes only through
//! [`kernel::Kernel`]. Does not depend on XML, libvirt, D-Bus or recipes.

pub mod address;
pub mod alias;
pub mod atomics;
pub mod cache;
pub mod capacity;
pub mod config;
pub mod device;
mod directory_cache;
pub mod driver;
pub mod egm;
pub mod failure;
pub mod firmware;
mod group;
pub mod holder;
pub mod host;
pub mod id;
pub mod iort;
pub mod kconfig;
pub mod kernel;
pub mod live;
pub mod model;
pub mod numa;
pub mod occupancy;
pub mod peer;
mod reader;
pub mod rebind;
pub mod record;
pub mod region;
pub mod srat;
pub mod sysfs;
pub mod topology;
mod vfio;
