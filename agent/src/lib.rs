//! Reads domains, holds recipes, plans, applies, journals, serves.

pub extern crate domain;

pub use domain::{code, dropped, edit, hint, refusal};
pub(crate) use planner::json;
pub use planner::{
    atomics, from_libvirt, plan, proposal, recipe, revert, rewrite, target, toml_text,
};
pub use settings::{config, file};

pub mod assign;
mod assignment;
pub mod attempt;
pub mod bell;
pub mod bind_limit;
pub mod bus;
pub mod child;
pub mod daemon;
pub mod declined;
pub mod failure;
#[cfg(test)]
mod fixture;
pub mod helper;
pub mod hook;
pub mod idle;
pub mod instance;
pub mod inventory;
pub mod journald;
pub mod learned;
pub mod libvirt;
pub mod lock;
pub mod log;
pub mod patience;
pub mod prepare;
pub mod probe;
pub mod program;
pub mod progress;
pub mod record;
pub mod region;
pub(crate) mod replace;
mod report;
pub mod request;
pub mod reserve;
pub mod service;
pub(crate) mod sharing;
pub mod site;
pub mod snapshot;
pub mod status;
pub mod supervisor;
pub mod uevent;
pub(crate) mod unplug;
pub mod view;
pub mod worker;
