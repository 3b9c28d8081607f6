//! The command form: `onDefineDomain --vmi JSON --domain XML`, the domain on standard output.
//!
//! Linux limits one argument to 128 KiB (MAX_ARG_STRLEN). For a larger domain the caller's execve(2) fails with E2BIG.

use domain::code::Code;
use planner::plan::Note;

/// Bytes of one argument with its terminating zero (include/uapi/linux/binfmts.h, for pages of 4 KiB).
pub const MAX_ARGUMENT: usize = 128 << 10;

/// A warning for a domain near the limit: the next hook may not get the completed text.
#[must_use]
pub fn warning(before: usize, after: usize) -> Option<Note> {
    let largest = before.max(after);
    if largest < MAX_ARGUMENT / 4 * 3 {
        return None;
    }
    let text = match after < MAX_ARGUMENT {
        true => format!(
            "the domain has {largest} bytes, and Linux passes at most {} as one argument of a program",
            MAX_ARGUMENT - 1
        ),
        false => format!(
            "the completed domain has {after} bytes, and Linux passes at most {} as one argument: libvirt gets it, but no later program \
             hook (E2BIG)",
            MAX_ARGUMENT - 1
        ),
    };
    Some(Note {
        code: Code::KubevirtArgument,
        device: None,
        text: format!("{text}; run the sidecar in the form of a server"),
    })
}
