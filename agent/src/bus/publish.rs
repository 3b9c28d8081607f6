//! Keeps the devices' objects, and the lists that the hook reads, true: looks at the host whenever the bell rings, and
//! says what changed.
//!
//! Nothing is polled: the records ring when we change a device, the kernel's uevents when somebody
//! else does. Only while another process works on a device is it looked at again by time.

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

/// Between two looks at a device that another process works on.
const AGAIN: Duration = Duration::from_secs(1);

/// Between two attempts to write into a run directory that is full or read-only.
const UNWRITABLE: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 5000 });

/// Between a ring and the look: one start rings several times, and a look takes from what the start still has to do.
const REST: Duration = Duration::from_millis(250);

/// What the objects are made from.
#[derive(Clone)]
pub struct Sources {
    /// The host.
    pub context: Arc<Context>,
    /// What is bound.
    pub assigner: Arc<Assigner>,
    /// What is reserved.
    pub reservations: Reservations,
    /// Where the snapshot of the host is published.
    pub run: PathBuf,
}

/// The objects of devices on a connection.
pub struct Publisher {
    connection: Connection,
    sources: Arc<Sources>,
    snapshot: Arc<Mutex<Published>>,
    shown: BTreeMap<PciAddress, DeviceObject>,
    /// Why the lists for the hook could not be written.
    unlisted: Option<String>,
    /// Why the snapshot could not be written.
    unpublished: Option<String>,
}

impl Publisher {
    /// Shows the devices that are there.
    ///
    /// # Errors
    /// When the host cannot be read, or the bus fails.
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

    /// Follows all changes for as long as the connection lasts.
    pub async fn serve(mut self) {
        let assigner = self.sources.assigner.clone();
        loop {
            let unsettled = self.refresh().await.unwrap_or_else(|error| {
                warn!("cannot show the devices: {error}");
                true
            });
            let notified = assigner.notifier().notified();
            match (unsettled, &self.unlisted) {
                (true, _) => drop(timeout(AGAIN, notified).await),
                (false, Some(_)) => drop(timeout(UNWRITABLE, notified).await),
                (false, None) => notified.await,
            }
            sleep(REST).await;
            assigner.notifier().clear();
        }
    }

    /// Looks once; true when that is to be done again soon.
    async fn refresh(&mut self) -> Result<bool, BusError> {
        let look = |sources: &Sources| {
            let looked = status::look(&sources.context, &sources.assigner, &sources.reservations)?;
            // Before the objects, which may fail: by these lists the hook knows which guests to ask about.
            let recipes = &sources.context.rules().recipes;
            let listed = inventory::update(&looked.host, recipes, &sources.run);
            Ok::<_, BusError>((looked, listed))
        };
        let (statuses, listed) = blocking(&self.sources, look).await?;
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

    /// Why the lists for the hook cannot be written is said once, and again when it is another reason.
    fn note(&mut self, failure: Option<PublishError>) {
        let failure = failure.map(|error| error.to_string());
        match (&failure, &self.unlisted) {
            (Some(new), old) if old.as_ref() != Some(new) => warn!(
                "the list of covered devices for libvirt's hook is old, so the hook knows new devices by their ids alone: {new}"
            ),
            (None, Some(_)) => {
                info!("the list of covered devices for libvirt's hook is written again")
            }
            _ => {}
        }
        self.unlisted = failure;
    }

    /// The snapshot is for programs elsewhere: what goes wrong with it keeps nothing here from working.
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
        let said = self
            .connection
            .emit_signal(None::<&str>, path(device), interface, name, &body);
        Ok(said.await?)
    }

    async fn remove(&mut self, device: PciAddress) -> Result<(), BusError> {
        let server = self.connection.object_server();
        server.remove::<DeviceObject, _>(path(device)).await?;
        self.shown.remove(&device);
        Ok(())
    }
}
