//! A part of a machine, and what hangs from it.

use kernel_glue::address::PciAddress;

/// What a part is; decides how it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The host or the guest.
    Machine,
    /// A NUMA node or cell with processors.
    Socket,
    /// A root bus or an expander.
    Bus,
    /// A root port.
    RootPort,
    /// A port of a switch, or another bridge.
    Switch,
    /// A device that no recipe covers.
    Device,
    /// A device that a recipe covers.
    Covered,
}

/// A part of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// What it is.
    pub kind: Kind,
    /// Its name: an address, or `socket 0`.
    pub name: String,
    /// A short description.
    pub label: String,
    /// Facts about it.
    pub facts: Vec<String>,
    /// The host device, of which a guest's part is the same one.
    pub device: Option<PciAddress>,
    /// What hangs from it.
    pub below: Vec<Part>,
}

impl Part {
    /// A part with nothing below.
    #[must_use]
    pub(crate) fn new(kind: Kind, name: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
            label: label.into(),
            facts: Vec::new(),
            device: None,
            below: Vec::new(),
        }
    }

    /// The same with a fact; an empty text adds nothing.
    #[must_use]
    pub(crate) fn fact(mut self, fact: impl Into<String>) -> Self {
        let fact = fact.into();
        self.facts.extend((!fact.is_empty()).then_some(fact));
        self
    }

    /// The same with sockets below it, and each bus below the socket of its node or cell; a bus without one is below the machine.
    #[must_use]
    pub(crate) fn with_sockets<N: PartialEq>(
        mut self,
        sockets: impl IntoIterator<Item = (N, Self)>,
        buses: impl IntoIterator<Item = (Option<N>, Self)>,
    ) -> Self {
        let mut sockets: Vec<(N, Self)> = sockets.into_iter().collect();
        for (node, bus) in buses {
            let mut homes = sockets.iter_mut();
            let home = homes.find(|(id, _)| Some(id) == node.as_ref());
            let home = home.map_or(&mut self, |(_, socket)| socket);
            home.below.push(bus);
        }
        let sockets = sockets.into_iter().map(|(_, socket)| socket);
        self.below.splice(0..0, sockets);
        self
    }

    /// The same without branches that lead to no device that `wanted` names.
    #[must_use]
    pub(crate) fn leading_to(mut self, wanted: &impl Fn(&Part) -> bool) -> Option<Self> {
        self.below = self
            .below
            .into_iter()
            .filter_map(|part| part.leading_to(wanted))
            .collect();
        let keep = wanted(&self) || !self.below.is_empty() || self.kind == Kind::Machine;
        keep.then_some(self)
    }
}
