//! Reads domains, holds recipes, plans, applies, journals, serves.

pub mod code;
pub mod domain;
pub mod edit;
pub mod libvirt;
pub mod plan;
pub mod recipe;
pub mod refusal;
pub mod rewrite;
pub mod target;
