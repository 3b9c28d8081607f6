//! Errors for callers: a name under `org.variantd1.Error`, which ends with the code if there is one, and one sentence.
//!
//! The body is one string: GLib and busctl print nothing of another type. Callers that request it (option `refusal`)
//! get the parts of a refusal as a reply with fields.

use std::fmt;

use zbus::message::{Header, Message};
use zbus::names::ErrorName;
use zbus::{DBusError, fdo};

use super::device;
use crate::assign::AssignError;
use crate::failure::PrepareError;
use crate::inventory::PublishError;
use crate::reserve::ReserveError;
use api::refused::{self, Kind};
use domain::code::Code;
use domain::refusal::Refusal;

/// An error reply.
#[derive(Debug)]
pub struct BusError(Reason);

#[derive(Debug)]
enum Reason {
    /// The bus itself failed.
    Bus(zbus::Error),
    /// The error of a call.
    Text {
        kind: Kind,
        /// The D-Bus error name.
        name: String,
        text: String,
        /// The parts of the text, if it has a code.
        refusal: Option<Box<Refusal>>,
    },
}

impl BusError {
    /// The agent, the host or libvirt failed.
    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self::plain(Kind::Failed, text)
    }

    /// There is no such domain.
    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self::plain(Kind::NotFound, text)
    }

    /// It was not done within the caller's time limit; it continues.
    pub(super) fn timed_out(text: impl Into<String>) -> Self {
        Self::plain(Kind::TimedOut, text)
    }

    /// The caller is not authorized.
    pub(super) fn not_authorized(refusal: Refusal) -> Self {
        Self::coded(Kind::NotAuthorized, refusal)
    }

    fn plain(kind: Kind, text: impl Into<String>) -> Self {
        Self(Reason::Text {
            kind,
            name: kind.name(None),
            text: text.into(),
            refusal: None,
        })
    }

    pub(super) fn coded(kind: Kind, refusal: Refusal) -> Self {
        Self(Reason::Text {
            kind,
            name: kind.name(Some(refusal.code)),
            text: refusal.to_string(),
            refusal: Some(Box::new(refusal)),
        })
    }

    /// Its kind; `None` if the bus failed.
    pub(super) fn kind(&self) -> Option<Kind> {
        match &self.0 {
            Reason::Text { kind, .. } => Some(*kind),
            Reason::Bus(_) => None,
        }
    }

    /// Its code.
    pub(super) fn code(&self) -> Option<Code> {
        match &self.0 {
            Reason::Text { refusal, .. } => refusal.as_ref().map(|refusal| refusal.code),
            Reason::Bus(_) => None,
        }
    }

    /// The parts as JSON, if it has a code.
    pub(super) fn fields(&self) -> Option<String> {
        match &self.0 {
            Reason::Text {
                kind,
                refusal: Some(refusal),
                ..
            } => Some(refused::write(*kind, refusal)),
            _ => None,
        }
    }
}

impl DBusError for BusError {
    fn create_reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        let text = self.description().unwrap_or_default();
        Message::error(call, self.name()).build(&text)
    }

    fn name(&self) -> ErrorName<'_> {
        match &self.0 {
            Reason::Bus(_) => ErrorName::from_static_str_unchecked("org.freedesktop.zbus.Error"),
            Reason::Text { name, .. } => ErrorName::from_str_unchecked(name),
        }
    }

    fn description(&self) -> Option<&str> {
        match &self.0 {
            Reason::Bus(zbus::Error::MethodError(_, text, _)) => text.as_deref(),
            Reason::Bus(_) => None,
            Reason::Text { text, .. } => Some(text),
        }
    }
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reason::Bus(error) => error.fmt(f),
            Reason::Text { name, text, .. } => write!(f, "{name}: {text}"),
        }
    }
}

impl std::error::Error for BusError {}

impl From<zbus::Error> for BusError {
    fn from(error: zbus::Error) -> Self {
        Self(Reason::Bus(error))
    }
}

impl From<fdo::Error> for BusError {
    fn from(error: fdo::Error) -> Self {
        zbus::Error::from(error).into()
    }
}

impl From<AssignError> for BusError {
    fn from(error: AssignError) -> Self {
        match error {
            AssignError::Refused(refusal) | AssignError::Incomplete(refusal) => {
                Self::coded(Kind::Refused, refusal)
            }
            AssignError::Failed(refusal) => Self::coded(Kind::Failed, refusal),
        }
    }
}

impl From<PrepareError> for BusError {
    fn from(error: PrepareError) -> Self {
        match error {
            PrepareError::Refused(refusal) => Self::coded(Kind::Refused, refusal),
            PrepareError::NotFound(_) => Self::not_found(error.to_string()),
            PrepareError::Libvirt { .. } => Self::failed(error.to_string()),
        }
    }
}

impl From<ReserveError> for BusError {
    fn from(error: ReserveError) -> Self {
        match error {
            ReserveError::Assign(error) => device::error(error),
            other => Self::failed(other.to_string()),
        }
    }
}

impl From<Refusal> for BusError {
    fn from(refusal: Refusal) -> Self {
        Self::coded(Kind::Refused, refusal)
    }
}

impl From<PublishError> for BusError {
    fn from(error: PublishError) -> Self {
        Self::failed(error.to_string())
    }
}
