//! Commands of virsh that are a way out.

use domain::Domain;
use domain::hint::{Hint, line};

/// What to do with 'virsh edit', which is the command.
pub(super) fn edit(domain: &Domain, what: &str) -> Hint {
    let command = line(["virsh", "edit", &domain.name]);
    Hint::with("{}", command).after(&format!("{what} with "))
}
