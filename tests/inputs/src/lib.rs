//! The fuzz targets: one function for each parser of outside input, with the invariants that must hold for any input.
//!
//! A fuzz target takes any bytes and panics if an invariant does not hold. The fuzzer (tests/fuzz) and the replay of
//! its corpus (tests/inputs/tests) call the same functions.

mod configuration;
mod connect;
mod definition;
mod hook;
mod host;
mod journal;
mod name;
mod network;
mod protocol;
mod stack;

/// A fuzz target: checks the invariants for these bytes.
pub type Target = fn(&[u8]);

/// Every fuzz target by its name, which is also that of its folder in the corpus.
pub const TARGETS: [(&str, Target); 27] = [
    ("definition", definition::rewrite),
    ("prepared", definition::revert),
    ("network", network::host_devices_of),
    ("hook_input", hook::input),
    ("hook_arguments", hook::arguments),
    ("hook_call", protocol::call),
    ("hook_reply", protocol::reply),
    ("connect_packet", connect::packet),
    ("connect_call", connect::call),
    ("journal", journal::entry),
    ("configuration", configuration::configuration),
    ("libvirt_configuration", configuration::libvirt),
    ("recipe", configuration::recipe),
    ("proposal", configuration::saved_plan),
    ("snapshot", definition::snapshot),
    ("config_space", host::config_space),
    ("srat", host::srat),
    ("alias", host::alias),
    ("address", name::address),
    ("nodeset", name::nodeset),
    ("distances", name::distances),
    ("schemas", stack::schemas),
    ("capabilities", stack::capabilities),
    ("translation", stack::translated),
    ("emulator_help", stack::help),
    ("emulator_answers", stack::answers),
    ("stack", stack::stack),
];

/// The fuzz target of this name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    let named = TARGETS.iter().find(|(other, _)| *other == name);
    named.map(|(_, target)| *target)
}
