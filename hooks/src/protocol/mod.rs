//! The hook protocol: Varlink on the unix stream socket [`SOCKET`], interface `org.variantd1.Hook`. For the hook and for the agent.
//!
//! ```text
//! hook  --{"method": "org.variantd1.Hook.Run", "more": true, "parameters": {...}} NUL-->  agent
//! hook  <--{"continues": true, "parameters": {"stage": ...}} NUL--                        agent   after 100 ms, then every PROGRESS
//! hook  <--{"parameters": {"xml": ...}} NUL, or {"error": ..., "parameters": {...}} NUL-- agent
//! ```
//!
//! Follows varlink.org, "Method Call" and "Service". A message is one JSON object and a NUL byte. Unknown fields are ignored, so
//! that a hook and an agent of different versions understand each other as far as they can.

mod frame;

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use frame::{Frames, TooLong};

/// The agent's socket, in its run directory.
pub const SOCKET: &str = "hook";
/// The interface's name.
pub const INTERFACE: &str = "org.variantd1.Hook";
/// The interface as text, for GetInterfaceDescription.
pub const DESCRIPTION: &str = include_str!("org.variantd1.Hook.varlink");
/// The interface that every service has.
pub const SERVICE: &str = "org.varlink.service";
/// See [`DESCRIPTION`].
pub const SERVICE_DESCRIPTION: &str = include_str!("org.varlink.service.varlink");

/// The one method of the hook.
pub const RUN: &str = "org.variantd1.Hook.Run";
/// The methods of every service.
pub const GET_INFO: &str = "org.varlink.service.GetInfo";
/// See [`GET_INFO`].
pub const GET_DESCRIPTION: &str = "org.varlink.service.GetInterfaceDescription";

/// The agent refuses the operation.
pub const REFUSED: &str = "org.variantd1.Hook.Refused";
/// The operation failed on the host, in libvirt or in the agent.
pub const FAILED: &str = "org.variantd1.Hook.Failed";
/// See `org.varlink.service`.
pub const INTERFACE_NOT_FOUND: &str = "org.varlink.service.InterfaceNotFound";
/// See [`INTERFACE_NOT_FOUND`].
pub const METHOD_NOT_FOUND: &str = "org.varlink.service.MethodNotFound";
/// See [`INTERFACE_NOT_FOUND`].
pub const METHOD_NOT_IMPLEMENTED: &str = "org.varlink.service.MethodNotImplemented";
/// See [`INTERFACE_NOT_FOUND`].
pub const INVALID_PARAMETER: &str = "org.varlink.service.InvalidParameter";
/// See [`INTERFACE_NOT_FOUND`].
pub const PERMISSION_DENIED: &str = "org.varlink.service.PermissionDenied";

/// Bytes of a call: a definition of 1 MiB whose every character is escaped as two (JSON escapes quotes, backslashes and line
/// ends; XML has no other control characters), and the rest.
pub const LONGEST_CALL: usize = (2 << 20) + (64 << 10);
/// Bytes of a reply: a completed definition may be longer than its input.
pub const LONGEST_REPLY: usize = 8 << 20;

/// While it works, the agent sends a reply with `continues` at least this often.
pub const PROGRESS: Duration = Duration::from_secs(3);

/// A call. The sender borrows its texts; the receiver owns them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MethodCall<'a> {
    /// Interface and method.
    pub method: Cow<'a, str>,
    /// The arguments.
    #[serde(default)]
    pub parameters: Arguments<'a>,
    /// The caller wants progress replies.
    #[serde(default, skip_serializing_if = "is_false")]
    pub more: bool,
    /// The caller wants no reply.
    #[serde(default, skip_serializing_if = "is_false")]
    pub oneway: bool,
    /// The caller wants another protocol; there is none.
    #[serde(default, skip_serializing_if = "is_false")]
    pub upgrade: bool,
}

/// The arguments of all methods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Arguments<'a> {
    /// `Run`: libvirt's second argument.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Cow<'a, str>>,
    /// `Run`: libvirt's third argument.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<Cow<'a, str>>,
    /// `Run`: the domain's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<Cow<'a, str>>,
    /// `Run`: the domain's UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Cow<'a, str>>,
    /// `Run`: libvirt's last argument.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra: Option<Cow<'a, str>>,
    /// `Run`: the domain's definition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xml: Option<Cow<'a, str>>,
    /// `GetInterfaceDescription`: which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<Cow<'a, str>>,
}

/// A reply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MethodReply<T = Results> {
    /// The results, or an error's fields.
    #[serde(default)]
    pub parameters: T,
    /// More replies follow.
    #[serde(default, skip_serializing_if = "is_false")]
    pub continues: bool,
    /// The error's interface and name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The results of `Run`, and the fields of all errors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Results {
    /// The current step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The definition that replaces the input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xml: Option<String>,
    /// `Refused`, `Failed`: the stable code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What went wrong, on which object, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// A command for the hint, as a line for a shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// `InterfaceNotFound`: which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// `MethodNotFound`: which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// `InvalidParameter`: which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
}

impl Results {
    /// The fields of a refusal or failure as one sentence: message, code, hint.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut text = self.message.clone().unwrap_or_default();
        let parts = [(" (", &self.code, ")"), ("; ", &self.hint, "")];
        for (before, part, after) in parts {
            if let Some(part) = part {
                text.extend([before, part, after]);
            }
        }
        text
    }
}

/// The results of `GetInfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Info {
    /// The vendor.
    pub vendor: &'static str,
    /// The program.
    pub product: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its web page.
    pub url: &'static str,
    /// The interfaces that it serves.
    pub interfaces: [&'static str; 2],
}

/// The results of `GetInterfaceDescription`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Description {
    /// The interface as text.
    pub description: &'static str,
}

/// A message with its NUL byte.
///
/// # Errors
/// Never for texts and flags.
pub fn encoded(message: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(message)?;
    bytes.push(0);
    Ok(bytes)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests;
