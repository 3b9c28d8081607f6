//! Harness, fixtures, the modelled kernel and the lab.

mod broker;
pub mod bus;
pub mod gpu;
pub mod lab;
pub mod power_cut;
pub mod program;
pub mod trace;
pub mod translate;
pub mod windows;
