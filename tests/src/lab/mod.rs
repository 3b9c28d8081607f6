//! The lab: an emulated Grace host with the real kernel, driver, libvirt and QEMU, and synthetic GPUs.
//!
//! It consists of this project's files and Debian's packages. It needs root and Debian's archive, but no GPU and no KVM.
//! `Lab` is the interface: find or start a lab, run scripts in it, copy files, stop it.

pub mod acpi;
pub mod architecture;
pub mod cache;
pub mod channel;
pub mod check;
pub mod command;
pub mod config_edit;
pub mod cpio;
pub mod debian;
pub mod driver;
pub mod emulator;
pub mod foreign;
pub mod host;
pub mod image;
pub mod initrd;
pub mod interrupt;
pub mod machine;
pub mod package;
pub mod packages;
pub mod process;
pub mod programs;
pub mod progress;
pub mod qmp;
pub mod request;
pub mod settings;
pub mod shell;
pub mod size;
pub mod state;
pub mod tables;
pub mod topology;
pub mod trace;
pub mod walk;

pub use channel::{Job, TIMED_OUT};
pub use host::Lab;
pub use settings::Settings;
