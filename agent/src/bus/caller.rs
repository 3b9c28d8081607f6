//! Who calls: the user behind a message, and whether it is root or the user that the agent runs as.

use nix::unistd::geteuid;
use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::message::Header;

use super::BusError;
use crate::code::Code;

/// The user who sent a message; `None` for a peer without a bus, who was looked at when it came.
pub(super) async fn user(
    connection: &Connection,
    header: &Header<'_>,
) -> Result<Option<u32>, BusError> {
    let Some(sender) = header.sender().filter(|_| connection.is_bus()) else {
        return Ok(None);
    };
    let bus = DBusProxy::new(connection).await?;
    let user = bus.get_connection_unix_user(sender.clone().into()).await;
    Ok(Some(user.map_err(zbus::Error::from)?))
}

/// Root, or the user that the agent runs as (tests).
pub(super) fn is_root(user: u32) -> bool {
    user == 0 || user == geteuid().as_raw()
}

/// Passes for root alone. The bus policy says the same of the hook; this holds where somebody has
/// loosened it.
///
/// # Errors
/// [`BusError::NotAuthorized`].
pub(super) async fn require_root(
    connection: &Connection,
    header: &Header<'_>,
) -> Result<(), BusError> {
    match user(connection, header).await? {
        Some(user) if !is_root(user) => Err(root_only(user)),
        _ => Ok(()),
    }
}

/// Only root may.
pub(super) fn root_only(user: u32) -> BusError {
    BusError::NotAuthorized(format!(
        "only root may do this, not user {user} ({}); try again with sudo",
        Code::NotAuthorized
    ))
}
