//! Starts the agent: context, assigner, libvirt half and bus objects.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::name::SERVICE;
use kernel_glue::address::PciAddress;
use kernel_glue::cache::Cache;
use kernel_glue::capacity::Capacity;
use kernel_glue::device::Device;
use kernel_glue::driver::DriverName;
use kernel_glue::failure::Failure;
use kernel_glue::host::Host;
use kernel_glue::live::Live;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::timeout;
use tracing::{error, info, warn};
use zbus::connection::Builder;

use crate::assign::{self, Assigner, OnRefusal};
use crate::bind_limit::BindLimits;
use crate::bus::{
    self, Authority, BusError, Callers, Jobs, Lanes, Lost, Manager, NameError, Publisher, Reload,
    Served, Sources,
};
use crate::child::InChild;
use crate::context::{Context, ReadHost, Rules};
use crate::hook::{self, Hook};
use crate::idle::Idle;
use crate::instance::{self, Instance, InstanceError};
use crate::inventory::{self, PublishError};
use crate::known_versions::KnownVersions;
use crate::libvirt::{self, LibvirtError};
use crate::metrics::MetricsFile;
use crate::notifier::Notifier;
use crate::opted_out::OptedOut;
use crate::program::{self, ProgramError};
use crate::record::Records;
use crate::region::Shown;
use crate::request;
use crate::reserve::{self, Reservations, ReserveError};
use crate::service::Systemd;
use crate::stack::{self, known::KnownStack};
use crate::supervisor::Supervisor;
use crate::uevent;
use crate::worker::Worker;
use domain::code::Code;
use planner::recipe::LoadError;
use settings::config::{Config, ConfigError};

/// The default directory of versions and regions.
pub const STATE: &str = "/var/lib/variantd";

/// The directory in which libvirt's system daemon keeps definitions of QEMU guests.
const DEFINITIONS: &str = "etc/libvirt/qemu";

/// Maximum delay of the start by the recovery of interrupted changes.
const BEFORE_SERVING: Duration = Duration::from_secs(2);

/// Timeout of each step of the start on the bus; the bus has shorter timeouts for its callers, and systemd's is 90 s.
const STEP: Duration = Duration::from_secs(30);

/// The paths of the agent.
#[derive(Clone, Debug)]
pub struct Places {
    /// The configuration file; `recipes.d` and `reserved.d` are beside it.
    pub config: PathBuf,
    /// Lost at reboot: records and published devices.
    pub run: PathBuf,
    /// Cache that survives a reboot: versions and regions.
    pub state: PathBuf,
    /// The directory of `sys` and `proc`.
    pub root: PathBuf,
    /// libvirt's connection URI.
    pub uri: String,
}

/// The agent cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A recipe is invalid.
    #[error(transparent)]
    Recipe(#[from] LoadError),
    /// The host cannot be read.
    #[error(transparent)]
    Host(#[from] Failure),
    /// The list of devices cannot be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// libvirt's library fails.
    #[error(transparent)]
    Libvirt(#[from] LibvirtError),
    /// Another agent serves.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The bus name cannot be acquired.
    #[error("cannot serve 'org.variantd1' on the system bus: {0}")]
    Name(NameError),
    /// The bus, or the name on it, is not available.
    #[error("cannot serve 'org.variantd1' on the system bus")]
    Bus(#[from] zbus::Error),
    /// The devices cannot be published on the bus.
    #[error("cannot publish the devices on the system bus: {0}")]
    Show(#[from] BusError),
    /// A step of the start did not end in time.
    #[error(
        "cannot {step}: it did not end within {} s; systemd starts variantd again",
        STEP.as_secs()
    )]
    Late {
        /// The step.
        step: &'static str,
    },
    /// The hook's socket cannot be opened.
    #[error("cannot listen for libvirt's hook: {0}")]
    Hook(io::Error),
    /// The path of the running program is unknown.
    #[error("cannot find the running program")]
    Program(#[from] io::Error),
    /// A reservation is invalid.
    #[error(transparent)]
    Reserve(#[from] ReserveError),
    /// The program that writes to the host does not exist.
    #[error(transparent)]
    Child(#[from] ProgramError),
}

impl From<NameError> for StartError {
    fn from(error: NameError) -> Self {
        match error {
            NameError::Taken(error) => Self::Instance(error),
            error => Self::Name(error),
        }
    }
}

impl StartError {
    /// True if another agent runs already.
    #[must_use]
    pub fn is_second(&self) -> bool {
        let Self::Instance(error) = self else {
            return false;
        };
        !matches!(error, InstanceError::Failed { .. })
    }
}

/// The agent, serving.
pub struct Daemon {
    /// Sends messages to systemd.
    pub supervisor: Supervisor,
    /// Decides when the agent may exit by itself.
    pub idle: Idle,
    /// The service; ends when dropped.
    pub manager: Served,
    /// Reports that another process took the name.
    pub lost: Lost,
    /// The hook's socket; none if the run directory cannot be written.
    pub socket: Option<hook::Socket>,
    /// The metrics for node_exporter.
    pub metrics: MetricsFile,
    /// Reads configuration and recipes again.
    pub reload: Arc<Reload>,
    /// Locks the run directory against other agents.
    pub instance: Instance,
}

/// Starts everything; libvirt need not run yet.
///
/// # Errors
/// Names what failed.
pub async fn start(places: &Places) -> Result<Daemon, StartError> {
    // Before anything is read or recovered: another agent may be changing it.
    let instance = Instance::hold(&places.run)?;
    let free = bus::require_free(SERVICE);
    in_time("query the owner of variantd's name on the system bus", free).await?;
    // Before the runtime is busy: the hook has its own thread, so that no other work delays it.
    let thread = hook::thread()?;
    let metrics = MetricsFile::open(&places.run);
    let context = context(places)?;
    published(&context, &places.run)?;
    let (assigner, ended) = assigner(places, context.clone())?;
    let assigner = Arc::new(assigner.with_services(Arc::new(Systemd)));
    tokio::spawn(assign::try_again(assigner.clone(), ended));
    // Before a guest requests a device whose manual bind was interrupted. A write that is still in progress may take as
    // long as a probe; only that device waits for it.
    let manual = assigner.clone();
    let manual =
        tokio::task::spawn_blocking(move || manual.recover_manually(None, OnRefusal::Kept));
    let _ = timeout(BEFORE_SERVING, manual).await;
    let resumed = assigner.clone();
    // May wait for the kernel; a hook call for one of these domains waits for it.
    tokio::task::spawn_blocking(move || resumed.resume());
    // Unbounded: libvirt's event loop must never wait for the agent. libvirt itself limits the rate.
    let (events, seen) = unbounded_channel();
    let (repairs, wanted) = unbounded_channel();
    let live = libvirt::connect(places.uri.clone(), events)?;
    let worker = Worker::new(Arc::new(live), context.clone(), assigner.clone());
    tokio::spawn(worker.clone().serve(seen, wanted));
    let supervisor = Supervisor::of_environment();
    let notifier = assigner.notifier().clone();
    let reload = reload(
        places.clone(),
        context.clone(),
        supervisor.clone(),
        notifier,
    );
    let callers = Callers::on(Builder::system());
    let callers = in_time("connect to the system bus to identify callers", callers).await?;
    let manager = Manager {
        worker: worker.clone(),
        assigner: assigner.clone(),
        context: context.clone(),
        reservations: reservations(places),
        reload: Arc::new(reload),
        authority: Authority::of(callers.clone()),
        jobs: Jobs::default(),
        lanes: Lanes::default(),
    };
    let hook = Hook {
        assigner: assigner.clone(),
        context: context.clone(),
        repairs,
        definitions: places.root.join(DEFINITIONS),
    };
    let served = serve(manager.clone(), &places.run).await?;
    // After all objects exist: the bus delivers calls as soon as the name has an owner.
    let lost = bus::request(&served, SERVICE);
    let lost = in_time("register the name on the system bus", lost).await?;
    // Last: a call in the queue of systemd's socket is then served by an agent that is complete.
    let socket = socket(&places.run, hook, &thread)?;
    metrics
        .begin(Arc::new(move || context.metrics_text()))
        .await;
    supervisor.ready();
    tokio::spawn(supervisor.clone().watch(assigner, worker, thread, callers));
    Ok(Daemon {
        reload: manager.reload.clone(),
        idle: idle(manager),
        supervisor,
        manager: served,
        lost,
        socket,
        metrics,
        instance,
    })
}

/// If the run directory is full or read-only and systemd has passed no socket, the bus is served anyway.
fn socket(run: &Path, hook: Hook, thread: &Handle) -> Result<Option<hook::Socket>, StartError> {
    match hook::Socket::listen(run, hook, thread) {
        Ok(socket) => Ok(Some(socket)),
        Err(why) if instance::is_unwritable(&why) => {
            error!("libvirt's hook cannot reach variantd, which has no socket for it: {why}");
            Ok(None)
        }
        Err(why) => Err(StartError::Hook(why)),
    }
}

/// If the run directory is full or read-only, the agent serves everything that needs no file: unchanged files are not
/// written again, an assignment is refused for its record (`VD-BND-010`), and the publisher retries.
fn published(context: &Context, run: &Path) -> Result<(), StartError> {
    match inventory::publish(context, run) {
        Ok(devices) => info!("recipes cover {devices} devices"),
        Err(error @ PublishError::Write { .. }) => warn!(
            "{error}; no device is assigned to a guest until the run directory is writable ({})",
            Code::JournalFailed
        ),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Awaits a step of the start. A reply that never comes ends the agent with an error, and systemd restarts it.
async fn in_time<T, E>(
    step: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, StartError>
where
    StartError: From<E>,
{
    match timeout(STEP, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(StartError::Late { step }),
    }
}

/// All objects exist before the agent owns the name.
async fn serve(manager: Manager, run: &Path) -> Result<Served, StartError> {
    let sources = Sources {
        context: manager.context.clone(),
        assigner: manager.assigner.clone(),
        reservations: manager.reservations.clone(),
        run: run.to_owned(),
    };
    let (notifier, worker) = (manager.assigner.notifier().clone(), manager.worker.clone());
    let served = bus::serve_manager(manager);
    let served = in_time("serve on the system bus", served).await?;
    let connection = served.connection.clone();
    let publisher = Publisher::start(connection.clone(), sources);
    let publisher = in_time("publish the devices on the system bus", publisher).await?;
    tokio::spawn(publisher.serve());
    tokio::spawn(bus::announce(connection, worker));
    uevent::follow(notifier);
    Ok(served)
}

fn idle(manager: Manager) -> Idle {
    Idle {
        callers: manager.authority.callers,
        context: manager.context,
        assigner: manager.assigner,
        worker: manager.worker,
        reservations: manager.reservations,
        jobs: manager.jobs,
    }
}

/// Binds the reserved devices; returns how many reservations are not in force.
///
/// # Errors
/// Configuration, recipes or host cannot be read: nothing is bound then.
pub fn reserve(places: &Places) -> Result<usize, StartError> {
    let _instance = migrating(&places.run)?;
    let context = context(places)?;
    let (assigner, _) = assigner(places, context.clone())?;
    let host = context.host().map_err(PublishError::from)?;
    Ok(reserve::apply(&assigner, &host, reservations(places).all()))
}

/// The driver for the override of a device that has just appeared, if it is reserved.
///
/// # Errors
/// As [`reserve`]; or its reservation is invalid.
pub fn reserved(places: &Places, device: PciAddress) -> Result<Option<DriverName>, StartError> {
    let _instance = migrating(&places.run)?;
    let root = places.root.clone();
    let context = context_on(places, Box::new(move || alone(&root, device)))?;
    let (assigner, _) = assigner(places, context.clone())?;
    let host = context.host().map_err(PublishError::from)?;
    let all = reservations(places).all();
    Ok(reserve::claim(&assigner, &host, all, device)?)
}

/// Locks the run directory if an older version left files there: only the owner of the directory may migrate them, and
/// an agent of that version may still run.
fn migrating(run: &Path) -> Result<Option<Instance>, InstanceError> {
    if !Records::has_older(run) {
        return Ok(None);
    }
    match Instance::hold(run) {
        // Another process has migrated it meanwhile.
        Err(_) if !Records::has_older(run) => Ok(None),
        held => held.map(Some),
    }
}

/// A host with one device, or an empty one if the device does not exist: udev waits for each device that appears, and
/// reading all devices would take too long.
fn alone(root: &Path, device: PciAddress) -> Result<Host, Failure> {
    match Device::read(root, device) {
        Ok((found, gaps)) => Ok(Host {
            devices: [(device, found)].into(),
            gaps,
            ..Host::default()
        }),
        Err(failure) if failure.is_absent() => Ok(Host::default()),
        Err(failure) => Err(failure),
    }
}

fn reservations(places: &Places) -> Reservations {
    Reservations::new(places.config.with_file_name(reserve::DIRECTORY))
}

fn context(places: &Places) -> Result<Arc<Context>, StartError> {
    let (root, kept) = (places.root.clone(), Cache::default());
    context_on(places, Box::new(move || Host::read_again(&root, &kept)))
}

fn context_on(places: &Places, read_host: ReadHost) -> Result<Arc<Context>, StartError> {
    let known_versions = KnownVersions::load(places.state.join("versions"));
    let opted_out = OptedOut::load(places.state.join("declined"));
    let mut context = Context::new(read_host, known_versions, opted_out, rules(&places.config)?);
    context.known_stack =
        KnownStack::load(places.root.clone(), places.state.join(stack::known::FILE));
    let root = places.root.clone();
    context.read_capacity = Box::new(move |numa| Capacity::read(&root, numa));
    context.shown = Shown::load(places.state.join("regions"));
    Ok(Arc::new(context))
}

/// Receives a notification for each stuck write that has ended.
fn assigner(places: &Places, context: Arc<Context>) -> Result<(Assigner, Arc<Notify>), StartError> {
    let root = places.root.clone();
    let recipes = context.clone();
    let limits = Box::new(move || BindLimits::of_recipes(&recipes.rules().recipes));
    let kernel = InChild::new(
        Live::new(root.clone())?,
        root,
        program::find(request::PROGRAM)?,
        limits,
    );
    let records = Records::new(places.run.clone());
    let ended = kernel.ended();
    Ok((Assigner::new(Arc::new(kernel), context, records), ended))
}

fn rules(config: &Path) -> Result<Rules, StartError> {
    let recipes = settings::recipes::load(&config.with_file_name("recipes.d"))?;
    let config = Config::read(config)?;
    Ok(Rules {
        recipes: recipes.extended(&config.devices)?,
        config,
    })
}

/// An error in the new files keeps the old rules.
fn reload(
    places: Places,
    context: Arc<Context>,
    supervisor: Supervisor,
    notifier: Notifier,
) -> Reload {
    Box::new(move || {
        supervisor.reloading();
        let reloaded = read_again(&places, &context);
        supervisor.ready();
        notifier.notify();
        let devices = reloaded?;
        info!("configuration read again; recipes cover {devices} devices");
        Ok(())
    })
}

fn read_again(places: &Places, context: &Context) -> Result<usize, String> {
    context.reload(rules(&places.config).map_err(|error| error.to_string())?);
    let devices = inventory::publish(context, &places.run);
    devices.map_err(|error| error.to_string())
}
