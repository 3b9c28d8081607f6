//! Modelled and recorded hosts for the tests of several crates. It depends on none of them, so that each can use it.

pub mod hosts;
