//! Reads domains, holds recipes, plans, applies, journals, serves.

pub mod assign;
pub mod bus;
pub mod child;
pub mod cli;
pub mod client;
pub mod code;
pub mod config;
pub mod daemon;
pub mod declined;
pub mod domain;
pub mod dropped;
pub mod edit;
pub mod file;
#[cfg(test)]
mod fixture;
pub mod inventory;
pub mod journal;
pub mod learned;
pub mod libvirt;
pub mod lock;
pub mod plan;
pub mod prepare;
pub mod probe;
pub mod proposal;
pub mod recipe;
pub mod refusal;
pub mod region;
pub mod report;
pub mod revert;
pub mod rewrite;
pub(crate) mod sharing;
pub mod site;
pub mod target;
pub mod toml_text;
pub mod view;
pub mod worker;
