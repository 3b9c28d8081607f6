//! The hook's messages when it cannot do its work, written without an allocation.

use std::io::{Cursor, Write};

use domain::printable::Printable;
use hooks::answer::KILLED;
use nix::Error;
use nix::sys::signal::Signal;
use rustix::io::write;
use rustix::stdio::stderr;

use super::entry::Arguments;

/// Longer than both sentences with a domain's name of 255 bytes.
const LIMIT: usize = 600;
/// What to do.
const HINT: &str = "check the resource limits and memory of libvirt's daemon; then 'systemctl restart variantd', which reads the \
                    running guests again";

/// A signal ends, or ended, the process that does the work.
pub(super) fn killed(arguments: &Arguments, signal: Signal) {
    let why = format_args!("was ended by {}", signal.as_str());
    say(arguments, why);
}

/// fork(2) failed.
pub(super) fn not_asked(arguments: &Arguments, why: Error) {
    say(
        arguments,
        format_args!("cannot start its work: {}", why.desc()),
    );
}

fn say(arguments: &Arguments, what: std::fmt::Arguments<'_>) {
    let [domain, operation] = [0, 1].map(|index| arguments[index].to_str().unwrap_or("?"));
    let mut text = Cursor::new([0; LIMIT]);
    // A longer text is cut off.
    let _ = writeln!(
        text,
        "variantd-hook {what} at '{}' of '{}' ({KILLED}); {HINT}",
        Printable(operation),
        Printable(domain)
    );
    let length = usize::try_from(text.position()).unwrap_or(LIMIT);
    let _ = write(stderr(), &text.get_ref()[..length]);
}
