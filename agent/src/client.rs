//! The agent as its callers see it: a proxy of `org.variantd1.Manager` and its errors in words.

use std::collections::HashMap;

use zbus::{OwnedVariant, Variant, fdo, proxy};

/// Options of a call.
pub type Options<'a> = HashMap<&'a str, Variant<'a>>;
/// A row of a list.
pub type Row = HashMap<String, OwnedVariant>;

/// `org.variantd1.Manager`; see `packaging/dbus/org.variantd1.xml`.
#[proxy(
    interface = "org.variantd1.Manager",
    default_service = "org.variantd1",
    default_path = "/org/variantd1"
)]
pub trait Manager {
    /// The domains that are the agent's business.
    async fn list_domains(&self, options: Options<'_>) -> zbus::Result<Vec<Row>>;
    /// The host devices that a recipe covers.
    async fn list_devices(&self, options: Options<'_>) -> zbus::Result<Vec<Row>>;
    /// What a definition needs; JSON.
    async fn plan(&self, domain: &str, options: Options<'_>) -> zbus::Result<String>;
    /// Completes a definition; JSON.
    async fn prepare(&self, domain: &str, options: Options<'_>) -> zbus::Result<String>;
    /// Takes back what was added; JSON.
    async fn revert(&self, domain: &str, options: Options<'_>) -> zbus::Result<String>;
    /// Waits until a definition is at rest; JSON.
    async fn wait(
        &self,
        domain: &str,
        timeout_ms: u32,
        options: Options<'_>,
    ) -> zbus::Result<String>;
    /// Binds a device outside of any guest; JSON.
    async fn bind(&self, device: &str, options: Options<'_>) -> zbus::Result<String>;
    /// Gives such a device back; JSON.
    async fn release(&self, device: &str, options: Options<'_>) -> zbus::Result<String>;
    /// Gives back what was left half-way; JSON.
    async fn recover(&self, options: Options<'_>) -> zbus::Result<String>;
    /// Reserves a device for guests; JSON.
    async fn reserve(&self, device: &str, options: Options<'_>) -> zbus::Result<String>;
    /// Ends a reservation; JSON.
    async fn unreserve(&self, device: &str, options: Options<'_>) -> zbus::Result<String>;
    /// Reads configuration and recipes again.
    async fn reload(&self, options: Options<'_>) -> zbus::Result<()>;
    /// The agent's version.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> zbus::Result<String>;
}

/// What an error of a call means to a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The agent will not: its sentence.
    Refused(String),
    /// The agent could not: its sentence.
    Failed(String),
    /// There is no such domain or device.
    NotFound(String),
    /// The caller may not.
    NotAuthorized(String),
    /// There is no agent: why.
    Unreachable(String),
}

impl From<zbus::Error> for Fault {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, text, _) => {
                Self::named(name.as_str(), text.unwrap_or_default())
            }
            zbus::Error::FDO(error) => match *error {
                fdo::Error::AccessDenied(_) => {
                    Self::NotAuthorized("only root may do this; try again with sudo".into())
                }
                other => Self::Unreachable(other.to_string()),
            },
            other => Self::Unreachable(other.to_string()),
        }
    }
}

impl Fault {
    fn named(name: &str, text: String) -> Self {
        match name.strip_prefix("org.variantd1.Error.") {
            Some("Refused") => Self::Refused(text),
            Some("NotFound") => Self::NotFound(text),
            Some("NotAuthorized") => Self::NotAuthorized(text),
            Some(_) => Self::Failed(text),
            None => Self::Unreachable(text),
        }
    }
}
