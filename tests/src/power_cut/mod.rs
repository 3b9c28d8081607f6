//! The states of a file system that a power cut may leave, derived from the recorded calls of a real program.
//!
//! The weakest rule that POSIX allows, which is weaker than that of ext4, XFS and Btrfs:
//!
//! - fsync(2) of a file makes its content durable, not its name.
//! - fsync(2) of a directory makes the names in it durable, not the directory's own name.
//! - Anything else may be lost: of a write nothing, a part or all, or the file has its new size and zeros; of the changes of names
//!   in a directory any of them, in any combination. One rename(2) within a directory happens as a whole or not at all.
//!
//! ALICE (Pillai et al., OSDI 2014) and CrashMonkey (Mohan et al., OSDI 2018) have such models. Only files and directories count,
//! without their owners and modes.

mod check;
mod disk;

pub use check::{Component, Finding, Report, check};
pub use disk::{Disk, Node, Tree, read, write};
