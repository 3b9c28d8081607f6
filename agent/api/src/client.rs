//! The client's view of the agent: a proxy of `org.variantd1.Manager`, and its errors as text.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;
use std::pin::Pin;

use futures_core::Stream;
use zbus::{DBusError, OwnedObjectPath, OwnedVariant, Variant, fdo, proxy};

use domain::code::Code;

use crate::again::{FULL, NO_REPLY};
use crate::refused::Kind;

/// Options of a call.
pub type Options<'a> = HashMap<&'a str, Variant<'a>>;
/// A row of a list.
pub type Row = HashMap<String, OwnedVariant>;

/// The next signal of a stream; `None` at its end.
pub async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}

/// `org.variantd1.Manager`; see `packaging/dbus/org.variantd1.xml`.
#[proxy(
    interface = "org.variantd1.Manager",
    default_service = "org.variantd1",
    default_path = "/org/variantd1"
)]
pub trait Manager {
    /// The domains that are relevant to the agent.
    async fn list_domains(&self, options: Options<'_>) -> zbus::Result<Vec<Row>>;
    /// The host devices that a recipe covers.
    async fn list_devices(&self, options: Options<'_>) -> zbus::Result<Vec<Row>>;
    /// Plans the missing elements of a definition; JSON.
    async fn plan(&self, domain: &str, options: Options<'_>) -> zbus::Result<String>;
    /// Completes a text that libvirt does not have: the text, and JSON.
    #[zbus(allow_interactive_auth)]
    async fn prepare_xml(&self, xml: &str, options: Options<'_>) -> zbus::Result<(String, String)>;
    /// Completes a device that is to be attached: the text, and JSON.
    #[zbus(allow_interactive_auth)]
    async fn prepare_device(
        &self,
        domain: &str,
        xml: &str,
        options: Options<'_>,
    ) -> zbus::Result<(String, String)>;
    /// Completes a definition; JSON.
    #[zbus(allow_interactive_auth)]
    async fn prepare(&self, domain: &str, options: Options<'_>) -> zbus::Result<String>;
    /// Removes the added elements; JSON.
    #[zbus(allow_interactive_auth)]
    async fn revert(&self, domain: &str, options: Options<'_>) -> zbus::Result<String>;
    /// Waits until no change of a definition is pending; JSON.
    #[zbus(allow_interactive_auth)]
    async fn wait(
        &self,
        domain: &str,
        timeout_ms: u32,
        options: Options<'_>,
    ) -> zbus::Result<String>;
    /// Waits until no change of a definition is pending, and makes none; JSON.
    #[zbus(allow_interactive_auth)]
    async fn wait_pending(
        &self,
        domain: &str,
        timeout_ms: u32,
        options: Options<'_>,
    ) -> zbus::Result<String>;
    /// Binds a device outside of any guest; JSON.
    #[zbus(allow_interactive_auth)]
    async fn bind(&self, device: &str, options: Options<'_>) -> zbus::Result<String>;
    /// Releases such a device; JSON.
    #[zbus(allow_interactive_auth)]
    async fn release(&self, device: &str, options: Options<'_>) -> zbus::Result<String>;
    /// Binds the devices of a guest of another libvirt; JSON.
    #[zbus(allow_interactive_auth)]
    async fn bind_guest(
        &self,
        uuid: &str,
        name: &str,
        devices: &[&str],
        options: Options<'_>,
    ) -> zbus::Result<String>;
    /// Releases them; JSON.
    #[zbus(allow_interactive_auth)]
    async fn release_guest(&self, uuid: &str, options: Options<'_>) -> zbus::Result<String>;
    /// Restores devices whose change was interrupted; JSON.
    #[zbus(allow_interactive_auth)]
    async fn recover(&self, options: Options<'_>) -> zbus::Result<String>;
    /// Reserves a device for guests; JSON.
    #[zbus(allow_interactive_auth)]
    async fn reserve(&self, device: &str, options: Options<'_>) -> zbus::Result<String>;
    /// Ends a reservation; JSON.
    #[zbus(allow_interactive_auth)]
    async fn unreserve(&self, device: &str, options: Options<'_>) -> zbus::Result<String>;
    /// The agent's metrics as text.
    async fn metrics(&self, options: Options<'_>) -> zbus::Result<String>;
    /// Reads configuration and recipes again.
    async fn reload(&self, options: Options<'_>) -> zbus::Result<()>;
    /// Calls a method as a job.
    #[zbus(allow_interactive_auth)]
    async fn start_job(
        &self,
        operation: &str,
        subject: &str,
        options: Options<'_>,
    ) -> zbus::Result<OwnedObjectPath>;
    /// The outcome for a domain.
    #[zbus(signal)]
    fn domain_changed(
        &self,
        name: &str,
        uuid: &str,
        outcome: &str,
        details: HashMap<String, OwnedVariant>,
    ) -> zbus::Result<()>;
    /// The agent's version.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> zbus::Result<String>;
}

/// `org.variantd1.Device`.
#[proxy(interface = "org.variantd1.Device", default_service = "org.variantd1")]
pub trait Device {
    /// PCI address.
    #[zbus(property(emits_changed_signal = "const"))]
    fn address(&self) -> zbus::Result<String>;
    /// Its device state.
    #[zbus(property)]
    fn state(&self) -> zbus::Result<String>;
    /// Its driver.
    #[zbus(property)]
    fn driver(&self) -> zbus::Result<String>;
    /// The driver that is restored at its release.
    #[zbus(property)]
    fn previous_driver(&self) -> zbus::Result<String>;
    /// The domain that has it.
    #[zbus(property)]
    fn domain(&self) -> zbus::Result<String>;
    /// Whether it is reserved for guests.
    #[zbus(property)]
    fn reserved(&self) -> zbus::Result<bool>;
}

/// `org.variantd1.Job`.
#[proxy(interface = "org.variantd1.Job", default_service = "org.variantd1")]
pub trait Job {
    /// Ends it while it waits.
    async fn cancel(&self, options: Options<'_>) -> zbus::Result<()>;
    /// Its operation.
    #[zbus(property(emits_changed_signal = "const"))]
    fn operation(&self) -> zbus::Result<String>;
    /// `waiting`, `working`, `done`, `failed` or `cancelled`.
    #[zbus(property)]
    fn state(&self) -> zbus::Result<String>;
    /// The current step.
    #[zbus(property)]
    fn stage(&self) -> zbus::Result<String>;
    /// From 0 to 1.
    #[zbus(property)]
    fn progress(&self) -> zbus::Result<f64>;
    /// The error; empty for none.
    #[zbus(property)]
    fn error_name(&self) -> zbus::Result<String>;
    /// Its result.
    #[zbus(property)]
    fn result(&self) -> zbus::Result<String>;
    /// It has ended.
    #[zbus(signal)]
    fn completed(&self, success: bool, error_name: &str, result: &str) -> zbus::Result<()>;
}

/// The meaning of a call's error for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The agent refused.
    Refused(Words),
    /// The agent failed.
    Failed(Words),
    /// There is no such domain or device.
    NotFound(Words),
    /// The caller is not authorised.
    NotAuthorized(Words),
    /// A quota of the bus is used up, so the agent has not received the call: the bus's message.
    Full(String),
    /// The agent ended before it answered, or its answer was lost: the bus's message.
    Unanswered(String),
    /// No agent answered: why.
    Unreachable(String),
}

/// The agent's message, and the code from the end of its error name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// The message.
    pub text: String,
    /// The code, where there is one.
    pub code: Option<Code>,
}

impl Deref for Words {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<String> for Words {
    fn from(text: String) -> Self {
        Self { text, code: None }
    }
}

impl From<&str> for Words {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<zbus::Error> for Fault {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, text, _) => {
                Self::named(name.as_str(), text.unwrap_or_default())
            }
            zbus::Error::FDO(error) => match *error {
                fdo::Error::AccessDenied(_) => Self::NotAuthorized(Words {
                    text: "only root may do this; use sudo".into(),
                    code: Some(Code::NotAuthorized),
                }),
                other => {
                    let text = other.description().unwrap_or_default();
                    Self::named(&other.name(), text.to_owned())
                }
            },
            other => Self::Unreachable(other.to_string()),
        }
    }
}

impl Fault {
    /// That of an error name and its text.
    #[must_use]
    pub fn named(name: &str, text: String) -> Self {
        let Some((kind, code)) = Kind::of_name(name) else {
            return match name {
                FULL => Self::Full(text),
                NO_REPLY => Self::Unanswered(text),
                _ => Self::Unreachable(text),
            };
        };
        let words = Words { text, code };
        match kind {
            Kind::Refused => Self::Refused(words),
            Kind::NotFound => Self::NotFound(words),
            Kind::NotAuthorized => Self::NotAuthorized(words),
            Kind::Failed | Kind::TimedOut | Kind::Cancelled => Self::Failed(words),
        }
    }
}
