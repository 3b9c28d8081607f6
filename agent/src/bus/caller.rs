//! Who calls: root, or the user that the agent runs as (tests). The bus policy says the same; this
//! holds where somebody has loosened it.

use nix::unistd::geteuid;
use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::message::Header;

use super::BusError;

/// Passes when the caller may change the host.
///
/// # Errors
/// [`BusError::NotAuthorized`].
pub(super) async fn require_root(
    connection: &Connection,
    header: &Header<'_>,
) -> Result<(), BusError> {
    // A peer without a bus was given its end of the socket by us.
    let Some(sender) = header.sender() else {
        return Ok(());
    };
    let bus = DBusProxy::new(connection).await?;
    let user = bus.get_connection_unix_user(sender.clone().into()).await;
    let user = user.map_err(zbus::Error::from)?;
    if user == 0 || user == geteuid().as_raw() {
        return Ok(());
    }
    let sentence = format!("only root may do this, not user {user}; try again with sudo");
    Err(BusError::NotAuthorized(sentence))
}
