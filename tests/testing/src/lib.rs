//! Modelled and recorded hosts, and NCCL's reader of topology files, for the tests of several crates. It depends on none of them, so
//! that each can use it.

pub mod hosts;
pub mod nccl;
