//! A synthetic Grace GPU, served over vfio-user: the parts that the kernel's driver and QEMU read.
//!
//! It has configuration space, a register file with the two readiness registers, and resets.
//! It executes nothing. Register numbers follow `drivers/vfio/pci/nvgrace-gpu/main.c`.

pub mod backend;
pub mod config;
pub mod readiness;

pub use backend::Gpu;
pub use config::{ConfigSpace, Identity};
pub use readiness::Readiness;
