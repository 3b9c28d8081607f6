//! What the installed libvirt and QEMU can express, read from the installed software.
//!
//! Each file parses one source. All of them are hostile input: a text that is truncated, too large or of an unknown
//! form gives no answer, and never a wrong "yes".

pub mod collect;
pub mod emulator;
pub mod flags;
pub mod grammar;
pub mod known;
pub mod merge;
mod package;
pub mod properties;
pub mod recorded;
pub mod translation;

#[cfg(test)]
mod debian_test;

/// A text recorded from a package.
#[cfg(test)]
fn recorded(stack: &str, file: &str) -> String {
    let path = format!("../tests/data/stack/{stack}/{file}");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(path).expect("a recorded text")
}
