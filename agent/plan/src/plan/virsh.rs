//! Hints that name a virsh command.

use domain::Domain;
use domain::hint::{Hint, line};

/// A hint to do `what` with 'virsh edit'.
pub(super) fn edit(domain: &Domain, what: &str) -> Hint {
    let command = line(["virsh", "edit", &domain.name]);
    Hint::with("{}", command).after(&format!("{what} with "))
}
