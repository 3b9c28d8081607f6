//! The parsers of outside data, each with the invariants that hold for every input.
//!
//! A target takes any bytes; it panics when an invariant does not hold. The fuzzer (tests/fuzz) and the replay of
//! its corpus (tests/inputs/tests) call the same functions.

mod configuration;
mod definition;
mod hook;
mod host;
mod journal;
mod name;
mod network;
mod protocol;

/// A parser and its invariants, for bytes from outside.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also its folder in the corpus.
pub const TARGETS: [(&str, Target); 18] = [
    ("definition", definition::rewrite),
    ("prepared", definition::revert),
    ("network", network::host_devices_of),
    ("hook_input", hook::input),
    ("hook_arguments", hook::arguments),
    ("hook_call", protocol::call),
    ("hook_reply", protocol::reply),
    ("journal", journal::entry),
    ("configuration", configuration::configuration),
    ("recipe", configuration::recipe),
    ("proposal", configuration::saved_plan),
    ("snapshot", definition::snapshot),
    ("config_space", host::config_space),
    ("srat", host::srat),
    ("alias", host::alias),
    ("address", name::address),
    ("nodeset", name::nodeset),
    ("distances", name::distances),
];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    let named = TARGETS.iter().find(|(other, _)| *other == name);
    named.map(|(_, target)| *target)
}
