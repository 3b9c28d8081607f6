//! What the tests of several crates need. Depends on none of them, so that each can use it.

pub mod hosts;
