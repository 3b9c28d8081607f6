//! Stacks with a name, for planning away from the host that will run the guest. Their answers are data (`agent/plan/stacks`).

use super::{Stack, StackError};

/// Names, and the stacks as TOML.
const NAMED: [(&str, &str); 8] = [
    ("debian-12", include_str!("../../stacks/debian-12.toml")),
    ("debian-13", include_str!("../../stacks/debian-13.toml")),
    (
        "debian-testing",
        include_str!("../../stacks/debian-testing.toml"),
    ),
    ("nvidia-10.1", include_str!("../../stacks/nvidia-10.1.toml")),
    ("nvidia-11.0", include_str!("../../stacks/nvidia-11.0.toml")),
    ("stream-10", include_str!("../../stacks/stream-10.toml")),
    (
        "ubuntu-24.04",
        include_str!("../../stacks/ubuntu-24.04.toml"),
    ),
    (
        "ubuntu-26.04",
        include_str!("../../stacks/ubuntu-26.04.toml"),
    ),
];

impl Stack {
    /// The names of the known stacks, in order.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.into_iter().map(|(name, _)| name)
    }

    /// The stack with this name.
    ///
    /// # Errors
    /// The name is not known. The text lists the known names.
    pub fn named(name: &str) -> Result<Self, StackError> {
        let mut known = NAMED.into_iter();
        let found = known.find(|(known, _)| *known == name);
        let text = found.map(|(_, text)| toml::from_str(text));
        let stack = text.and_then(Result::ok);
        stack.ok_or_else(|| {
            let names: Vec<&str> = Self::names().collect();
            StackError::Name(name.chars().take(64).collect(), names.join(", "))
        })
    }
}
