//! The agent's bus name: owned by one process, never taken from another; the agent exits when it loses the name.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use zbus::Connection;
use zbus::fdo::{DBusProxy, RequestNameFlags};

use super::Served;
use crate::instance::InstanceError;
use api::client::next;

/// Timeout of the bus.
const ANSWER: Duration = Duration::from_secs(10);

/// The name, reported by the bus if it is lost.
#[derive(Debug)]
pub struct Lost(UnboundedReceiver<&'static str>);

impl Lost {
    /// Waits until the name is lost.
    pub async fn name(&mut self) -> &'static str {
        match self.0.recv().await {
            Some(name) => name,
            None => std::future::pending().await,
        }
    }
}

/// Checks that no process owns the agent's name.
///
/// # Errors
/// Another process owns it, or the bus does not answer.
pub async fn require_free(name: &'static str) -> Result<(), NameError> {
    let asked = async {
        let connection = Connection::system().await?;
        let bus = DBusProxy::new(&connection).await?;
        let owned = bus.name_has_owner(name.try_into()?).await?;
        // Only for the message: the owner may have ended since.
        let pid = bus.get_connection_unix_process_id(name.try_into()?).await;
        Ok::<_, zbus::Error>((owned, pid.ok()))
    };
    match timeout(ANSWER, asked).await {
        Ok(Ok((false, _))) => Ok(()),
        Ok(Ok((true, pid))) => Err(InstanceError::Served { name, pid }.into()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(NameError::Silent),
    }
}

/// The name cannot be acquired.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// Another process owns it.
    #[error(transparent)]
    Taken(#[from] InstanceError),
    /// The bus fails.
    #[error(transparent)]
    Bus(#[from] zbus::Error),
    /// The bus does not answer.
    #[error("the system bus did not answer within {} s", ANSWER.as_secs())]
    Silent,
}

/// Requests the name; returns a future for its loss.
///
/// # Errors
/// As [`require_free`].
pub async fn request(served: &Served, name: &'static str) -> Result<Lost, NameError> {
    let (losses, lost) = unbounded_channel();
    let requested = timeout(ANSWER, request_one(&served.connection, name, losses));
    requested.await.map_err(|_| NameError::Silent)??;
    Ok(Lost(lost))
}

/// Releases the name, so that the next call starts an agent.
///
/// # Errors
/// The bus fails or does not answer.
pub async fn release(served: &Served, name: &'static str) -> Result<(), NameError> {
    let released = timeout(ANSWER, served.connection.release_name(name));
    released.await.map_err(|_| NameError::Silent)??;
    Ok(())
}

async fn request_one(
    connection: &Connection,
    name: &'static str,
    losses: UnboundedSender<&'static str>,
) -> Result<(), NameError> {
    let bus = DBusProxy::new(connection).await?;
    // Subscribed before the request, so that no loss is missed.
    let mut signals = bus.receive_name_lost().await?;
    // Without the flag the bus would queue this process, and it would serve later, without its start being noticed.
    let flags = RequestNameFlags::DO_NOT_QUEUE;
    match connection.request_name_with_flags(name, flags).await {
        Ok(_) => {}
        Err(zbus::Error::NameTaken) => {
            let pid = bus.get_connection_unix_process_id(name.try_into()?);
            let pid = pid.await.ok();
            return Err(InstanceError::Served { name, pid }.into());
        }
        Err(error) => return Err(error.into()),
    }
    tokio::spawn(async move {
        while let Some(signal) = next(&mut signals).await {
            if signal.args().is_ok_and(|args| args.name == name) {
                let _ = losses.send(name);
            }
        }
    });
    Ok(())
}
