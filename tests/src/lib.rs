//! Harness, fixtures, the modelled kernel and the lab.

pub mod gpu;
pub mod lab;
