//! Updates the devices' objects and the hook's lists: reads the host after each notification, and signals the changes.
//!
//! Nothing is polled: the records notify when the agent changes a device, the kernel's uevents when another program
//! does. Only while another process changes a device is the host read periodically.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::name::DEVICE_INTERFACE;
use kernel_glue::address::PciAddress;
use kernel_glue::host::Host;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};
use zbus::Connection;

use super::object::{DeviceObject, Properties, path};
use super::{BusError, blocking};
use crate::assign::Assigner;
use crate::context::Context;
use crate::inventory::{self, PublishError};
use crate::reserve::Reservations;
use crate::snapshot::Published;
use crate::status::{self, Status, Statuses};

/// Interval of reads while another process changes a device.
const AGAIN: Duration = Duration::from_secs(1);

/// Pause between attempts to write into a run directory that is full or read-only.
const UNWRITABLE: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 5000 });

/// Pause between a notification and the read: a start notifies several times, and a read would delay the rest of the
/// start.
const REST: Duration = Duration::from_millis(250);

/// The inputs of the objects.
#[derive(Clone)]
pub struct Sources {
    /// The host.
    pub context: Arc<Context>,
    /// The assignments.
    pub assigner: Arc<Assigner>,
    /// The reservations.
    pub reservations: Reservations,
    /// The directory of the published host snapshot.
    pub run: PathBuf,
}

/// The objects of devices on a connection.
pub struct Publisher {
    connection: Connection,
    sources: Arc<Sources>,
    snapshot: Arc<Mutex<Published>>,
    shown: BTreeMap<PciAddress, DeviceObject>,
    /// Why the hook's lists could not be written.
    unlisted: Option<String>,
    /// Why the snapshot could not be written.
    unpublished: Option<String>,
}

impl Publisher {
    /// Publishes the present devices.
    ///
    /// # Errors
    /// The host cannot be read, or the bus fails.
    pub async fn start(connection: Connection, sources: Sources) -> Result<Self, BusError> {
        let mut publisher = Self {
            connection,
            snapshot: Arc::new(Mutex::new(Published::new(&sources.run))),
            sources: Arc::new(sources),
            shown: BTreeMap::new(),
            unlisted: None,
            unpublished: None,
        };
        publisher.refresh().await?;
        Ok(publisher)
    }

    /// Follows all changes until the connection ends.
    pub async fn serve(mut self) {
        let assigner = self.sources.assigner.clone();
        loop {
            let unsettled = self.refresh().await.unwrap_or_else(|error| {
                warn!("cannot publish the devices: {error}");
                true
            });
            // Created after the read: a change during the read was counted by `Notify`, and ends the wait at once.
            let notified = assigner.notifier().notified();
            match (unsettled, &self.unlisted) {
                (true, _) => drop(timeout(AGAIN, notified).await),
                (false, Some(_)) => drop(timeout(UNWRITABLE, notified).await),
                (false, None) => notified.await,
            }
            sleep(REST).await;
            // One read follows for all notifications of the pause.
            assigner.notifier().clear();
        }
    }

    /// Reads once; true if it must be repeated soon.
    async fn refresh(&mut self) -> Result<bool, BusError> {
        let look = |sources: &Sources| {
            let looked = status::look(&sources.context, &sources.assigner, &sources.reservations)?;
            // Before the objects, which may fail: the hook decides by these lists which guests need the agent.
            let recipes = &sources.context.rules().recipes;
            let listed = inventory::update(&looked.host, recipes, &sources.run);
            Ok::<_, BusError>((looked, listed))
        };
        let metrics = &self.sources.context.metrics;
        let looked = blocking(&self.sources, look).await;
        let (statuses, listed) = looked.inspect_err(|_| metrics.no_devices())?;
        metrics.devices(statuses.devices.values().map(Status::labels));
        self.note(listed.err());
        let Statuses {
            devices,
            unsettled,
            host,
        } = statuses;
        let gone: BTreeSet<_> = self.shown.keys().copied().collect();
        for device in gone.into_iter().filter(|one| !devices.contains_key(one)) {
            self.remove(device).await?;
        }
        for (_, status) in devices {
            self.show(status).await?;
        }
        self.publish(host).await;
        Ok(unsettled)
    }

    /// Logs once why the hook's lists cannot be written, and again if the reason changes.
    fn note(&mut self, failure: Option<PublishError>) {
        let failure = failure.map(|error| error.to_string());
        match (&failure, &self.unlisted) {
            (Some(new), old) if old.as_ref() != Some(new) => warn!(
                "cannot write the hook's list of covered devices; the hook recognises new devices \
                    only by their ids: {new}"
            ),
            (None, Some(_)) => {
                info!("the list of covered devices for libvirt's hook is written again")
            }
            _ => {}
        }
        self.unlisted = failure;
    }

    /// The snapshot is for other programs: its errors do not affect the agent.
    async fn publish(&mut self, host: Host) {
        let snapshot = self.snapshot.clone();
        let update = move |sources: &Sources| {
            let mut snapshot = snapshot.lock().unwrap_or_else(PoisonError::into_inner);
            Ok::<_, BusError>(snapshot.update(&sources.context, host, &sources.reservations))
        };
        let failure = match blocking(&self.sources, update).await {
            Ok(Ok(true)) => {
                debug!("the snapshot of the host is published");
                None
            }
            Ok(Ok(false)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = failure.as_ref().filter(|_| failure != self.unpublished) {
            warn!("cannot publish the snapshot of the host: {why}");
        }
        self.unpublished = failure;
    }

    async fn show(&mut self, status: Status) -> Result<(), BusError> {
        let device = status.address;
        let Some(object) = self.shown.get(&device) else {
            let object = DeviceObject::new(status);
            let server = self.connection.object_server();
            server.at(path(device), object.clone()).await?;
            self.shown.insert(device, object);
            return Ok(());
        };
        let changed = object.set(status);
        if changed.is_empty() {
            return Ok(());
        }
        debug!("'{device}': {changed:?}");
        self.say(device, changed).await
    }

    async fn say(&self, device: PciAddress, changed: Properties) -> Result<(), BusError> {
        let none: &[&str] = &[];
        let body = (DEVICE_INTERFACE, changed, none);
        let (interface, name) = ("org.freedesktop.DBus.Properties", "PropertiesChanged");
        let printed =
            self.connection
                .emit_signal(None::<&str>, path(device), interface, name, &body);
        Ok(printed.await?)
    }

    async fn remove(&mut self, device: PciAddress) -> Result<(), BusError> {
        let server = self.connection.object_server();
        server.remove::<DeviceObject, _>(path(device)).await?;
        self.shown.remove(&device);
        Ok(())
    }
}
