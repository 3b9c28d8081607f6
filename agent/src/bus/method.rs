//! The methods of `org.variantd1.Manager`, each declared once: who may call it, its options, and its limits.
//!
//! A call finds its row by the member of its message, so a method cannot use the row of another. The message filter's
//! limits derive from the rows, and tests compare them with the options in the contract, the clients' proxy and
//! polkit's policy, and name what is missing.

use super::authority::Action;
use super::job::Operation;
use planner::saved_plan;

/// Maximum body size of a call, without its texts.
pub(super) const BODY: usize = 64 << 10;
/// Maximum size of a domain XML, as for the hook.
const XML: usize = domain::MAX_BYTES;

/// The option that turns an error into a reply with fields; every method that replies with JSON has it.
pub(super) const REFUSAL: Choice = Choice::flag("refusal");

/// All methods, in the order of the contract.
pub(super) static ALL: [Method; 19] = [
    Method::public("ListDomains"),
    Method::public("ListDevices"),
    Method::asks("Plan", Action::Plan).in_turn().with(&[
        Choice::flag("replace"),
        Choice::flag("egm"),
        Choice::text("numa"),
    ]),
    Method::asks("PrepareXml", Action::Plan)
        .in_turn()
        .with(&[
            Choice::flag("replace"),
            Choice::flag("egm"),
            Choice::text("numa"),
        ])
        .taking(XML),
    Method::asks("PrepareDevice", Action::Plan)
        .in_turn()
        .with(&[Choice::flag("live"), Choice::flag("config")])
        .taking(XML),
    Method::asks("Prepare", Action::Prepare)
        .with(&[
            Choice::flag("replace"),
            Choice::flag("egm"),
            Choice::text("numa"),
            Choice::text("plan"),
            Choice::flag("summary"),
        ])
        .taking(saved_plan::MAX_BYTES)
        .job(Operation::Prepare),
    Method::asks("Revert", Action::Prepare)
        .with(&[Choice::flag("summary")])
        .job(Operation::Revert),
    Method::asks("Wait", Action::Prepare),
    Method::asks("WaitPending", Action::Plan).in_turn(),
    Method::asks("Bind", Action::Bind)
        .with(&[
            Choice::text("driver"),
            Choice::flag("dry-run"),
            Choice::flag("allow-group").asking(Action::BindInUse),
            Choice::flag("stop-services").asking(Action::BindInUse),
        ])
        .job(Operation::Bind),
    Method::asks("Release", Action::Bind).job(Operation::Release),
    Method::asks("BindGuest", Action::Bind),
    Method::asks("ReleaseGuest", Action::Bind),
    Method::asks("Recover", Action::Recover)
        .with(&[Choice::text("device")])
        .job(Operation::Recover),
    Method::asks("Reserve", Action::Bind).with(&[Choice::text("driver")]),
    Method::asks("Unreserve", Action::Bind),
    Method::public("Metrics"),
    Method::of("Reload", Access::Root),
    Method::of("StartJob", Access::AsOperation).taking(saved_plan::MAX_BYTES),
];

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// All users: its reply is public.
    Public,
    /// The users whom polkit authorizes.
    Polkit(Action),
    /// Root alone.
    Root,
    /// The callers of the operation's method; its options are that method's, too.
    AsOperation,
}

/// A row of the table.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) name: &'static str,
    pub(super) access: Access,
    /// Its options, without [`REFUSAL`].
    pub(super) options: &'static [Choice],
    /// Size of its largest text.
    text: usize,
    /// Its work waits for the caller's turn to plan.
    pub(super) in_turn: bool,
    /// Its operation as a job.
    pub(super) operation: Option<Operation>,
}

/// An option of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) key: &'static str,
    pub(super) kind: Kind,
    /// The polkit action that replaces the method's action if the option is given.
    asks: Option<Action>,
}

/// The type of an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Flag,
    Text,
}

impl Method {
    const fn of(name: &'static str, access: Access) -> Self {
        Self {
            name,
            access,
            options: &[],
            text: 0,
            in_turn: false,
            operation: None,
        }
    }

    pub(super) const fn public(name: &'static str) -> Self {
        Self::of(name, Access::Public)
    }

    const fn asks(name: &'static str, action: Action) -> Self {
        Self::of(name, Access::Polkit(action))
    }

    const fn with(self, options: &'static [Choice]) -> Self {
        Self { options, ..self }
    }

    const fn taking(self, text: usize) -> Self {
        Self { text, ..self }
    }

    const fn in_turn(self) -> Self {
        Self {
            in_turn: true,
            ..self
        }
    }

    const fn job(self, operation: Operation) -> Self {
        Self {
            operation: Some(operation),
            ..self
        }
    }

    /// The method of this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|method| method.name == name)
    }

    /// The maximum body size of a call.
    pub(super) fn longest(&self) -> usize {
        BODY + self.text
    }

    /// Its errors can be replies with fields.
    pub(super) fn answers_refusal(&self) -> bool {
        matches!(self.access, Access::Polkit(_))
    }

    /// The polkit action for these options.
    pub(super) fn action(&self, is_given: impl Fn(&str) -> bool) -> Option<Action> {
        let Access::Polkit(action) = self.access else {
            return None;
        };
        let given = self.options.iter().filter(|option| is_given(option.key));
        Some(
            given
                .filter_map(|option| option.asks)
                .next()
                .unwrap_or(action),
        )
    }
}

impl Choice {
    pub(super) const fn flag(key: &'static str) -> Self {
        Self {
            key,
            kind: Kind::Flag,
            asks: None,
        }
    }

    pub(super) const fn text(key: &'static str) -> Self {
        Self {
            kind: Kind::Text,
            ..Self::flag(key)
        }
    }

    const fn asking(self, action: Action) -> Self {
        Self {
            asks: Some(action),
            ..self
        }
    }
}

impl Kind {
    /// The type as D-Bus writes it.
    #[cfg(test)]
    pub(super) fn signature(self) -> &'static str {
        match self {
            Self::Flag => "b",
            Self::Text => "s",
        }
    }

    /// The error text for a value of another type.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Flag => "true or false",
            Self::Text => "a text",
        }
    }
}
