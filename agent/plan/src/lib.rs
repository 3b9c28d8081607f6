//! Recipes, what libvirt and QEMU can express, and the plan for a definition. Pure: no I/O, no clock, no calls to other programs.

pub mod atomics;
pub mod attach;
pub mod fingerprint;
#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
mod foreign;
pub mod from_libvirt;
pub mod json;
pub mod layout;
mod lines;
mod other_guest;
pub mod plan;
pub mod recipe;
pub mod removed;
pub mod revert;
pub mod rewrite;
pub mod saved_plan;
pub mod size;
pub mod stack;
pub mod summary;
pub mod target;
pub mod toml_text;
mod version;
