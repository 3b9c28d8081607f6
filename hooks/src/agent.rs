//! One call of the agent over the system bus, with a deadline.

use std::collections::HashMap;
use std::time::Duration;

use zbus::{Connection, Variant, fdo};

use crate::call::{Call, Operation};

/// What came of asking the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done; for a rewriting operation the new XML, empty when unchanged.
    Done(String),
    /// The agent says no, or could not: its sentence.
    Refused(String),
    /// No agent answered the call at all: why.
    Unreachable(String),
    /// The agent took the call and did not answer within this time.
    Late(Duration),
    /// The agent took the call and ended.
    Broken,
}

/// Calls the method for `operation` and waits no longer than `limit`.
#[must_use]
pub fn call(call: &Call, operation: Operation, xml: &str, limit: Duration) -> Reply {
    zbus::block_on(async {
        match tokio::time::timeout(limit, exchange(call, operation, xml)).await {
            Ok(Ok(text)) => Reply::Done(text),
            Ok(Err(error)) => sort(error, limit),
            Err(_) => Reply::Late(limit),
        }
    })
}

async fn exchange(call: &Call, operation: Operation, xml: &str) -> zbus::Result<String> {
    let bus = bus().await?;
    let options = HashMap::from([
        ("domain", Variant::from(call.domain.as_str())),
        ("operation", Variant::from(operation.word())),
        ("extra", Variant::from(call.extra.as_str())),
    ]);
    let reply = bus
        .call_method(
            Some("org.variantd1"),
            "/org/variantd1/Hook",
            Some("org.variantd1.Hook"),
            operation.method(),
            &(xml, options),
        )
        .await?;
    if operation.rewrites() {
        reply.body().deserialize()
    } else {
        Ok(String::new())
    }
}

/// Has the XML of a guest that is about to be made completed, and waits no longer than `limit`.
#[must_use]
pub fn complete(xml: &str, limit: Duration) -> Reply {
    zbus::block_on(async {
        match tokio::time::timeout(limit, completed(xml)).await {
            Ok(Ok(text)) => Reply::Done(text),
            Ok(Err(error)) => sort(error, limit),
            Err(_) => Reply::Late(limit),
        }
    })
}

async fn completed(xml: &str) -> zbus::Result<String> {
    let options: HashMap<&str, Variant<'_>> = HashMap::new();
    let reply = bus()
        .await?
        .call_method(
            Some("org.variantd1"),
            "/org/variantd1",
            Some("org.variantd1.Manager"),
            "PrepareXml",
            &(xml, options),
        )
        .await?;
    let (text, _findings): (String, String) = reply.body().deserialize()?;
    Ok(text)
}

async fn bus() -> zbus::Result<Connection> {
    let bus = tokio::time::timeout(Duration::from_secs(5), Connection::system()).await;
    bus.unwrap_or_else(|_| Err(zbus::Error::Failure("the bus does not answer".into())))
}

/// An error that the agent sent is its answer; any other means that there is no agent.
fn sort(error: zbus::Error, limit: Duration) -> Reply {
    match error {
        zbus::Error::MethodError(name, text, _) if name.as_str().starts_with("org.variantd1.") => {
            Reply::Refused(text.unwrap_or_else(|| name.to_string()))
        }
        zbus::Error::MethodError(name, text, _) => {
            Reply::Unreachable(text.unwrap_or_else(|| name.to_string()))
        }
        zbus::Error::FDO(error) => sort_standard(*error, limit),
        other => Reply::Unreachable(other.to_string()),
    }
}

fn sort_standard(error: fdo::Error, limit: Duration) -> Reply {
    match error {
        fdo::Error::NoReply(_) => Reply::Broken,
        fdo::Error::Timeout(_) | fdo::Error::TimedOut(_) => Reply::Late(limit),
        other => Reply::Unreachable(other.to_string()),
    }
}
