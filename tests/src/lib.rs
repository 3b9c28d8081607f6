//! Harness, fixtures, the modelled kernel and the lab.

mod broker;
pub mod bus;
pub mod gpu;
pub mod lab;
pub mod program;
pub mod translate;
pub mod windows;
