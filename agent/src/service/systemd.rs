//! systemd over the system bus, each call with a deadline. Follows org.freedesktop.systemd1(5).
//!
//! Blocks its thread, which must not be one that serves the agent's own bus.

use std::future::Future;
use std::time::{Duration, Instant};

use tracing::info;
use zbus::proxy::CacheProperties;
use zbus::{Connection, fdo, proxy};

use super::{Action, ServiceError, ServiceName, Services};

/// Timeout of a stop; libvirt and its hook wait meanwhile, and [`crate::timeouts::of_start`] includes it.
pub(crate) const STOP: Duration = Duration::from_secs(15);
/// Timeout of all other calls.
const ANSWER: Duration = Duration::from_secs(5);
/// Interval of reads of a unit that stops or runs.
const LOOK: Duration = Duration::from_millis(50);
/// The state of a oneshot unit whose program has not ended.
const STILL_RUNS: &str = "activating";

/// The host's systemd.
#[derive(Clone, Copy, Debug)]
pub struct Systemd;

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    async fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<zbus::OwnedObjectPath>;
    async fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<zbus::OwnedObjectPath>;
    async fn load_unit(&self, name: &str) -> zbus::Result<zbus::OwnedObjectPath>;
}

#[proxy(
    interface = "org.freedesktop.systemd1.Unit",
    default_service = "org.freedesktop.systemd1"
)]
trait Unit {
    #[zbus(property(emits_changed_signal = "false"))]
    fn active_state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn job(&self) -> zbus::Result<(u32, zbus::OwnedObjectPath)>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn required_by(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn bound_by(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn consists_of(&self) -> zbus::Result<Vec<String>>;
}

impl Services for Systemd {
    fn dependents(&self, unit: &ServiceName) -> Result<Vec<String>, ServiceError> {
        within(ANSWER, Action::Inquire, unit.as_str(), async {
            let bus = Connection::system().await?;
            let proxy = look_at(&bus, unit.as_str()).await?;
            let needing = [
                proxy.required_by().await?,
                proxy.bound_by().await?,
                proxy.consists_of().await?,
            ];
            let mut running = Vec::new();
            for name in needing.concat() {
                if runs(&look_at(&bus, &name).await?.active_state().await?) {
                    running.push(name);
                }
            }
            Ok(running)
        })
    }

    fn stop(&self, unit: &ServiceName) -> Result<(), ServiceError> {
        let begun = Instant::now();
        within(STOP, Action::Stop, unit.as_str(), async {
            let bus = Connection::system().await?;
            let manager = ManagerProxy::new(&bus).await?;
            manager.stop_unit(unit.as_str(), "replace").await?;
            let proxy = look_at(&bus, unit.as_str()).await?;
            // Polled, because `JobRemoved` reaches only clients that called `Subscribe`, and it can come before the reply to `StopUnit`.
            while runs(&proxy.active_state().await?) {
                tokio::time::sleep(LOOK).await;
            }
            Ok(())
        })?;
        info!("'{unit}' stopped in {} ms", begun.elapsed().as_millis());
        Ok(())
    }

    fn start(&self, unit: &ServiceName) -> Result<(), ServiceError> {
        within(ANSWER, Action::Start, unit.as_str(), async {
            let bus = Connection::system().await?;
            let manager = ManagerProxy::new(&bus).await?;
            manager.start_unit(unit.as_str(), "replace").await?;
            Ok(())
        })?;
        info!("'{unit}' started again");
        Ok(())
    }
}

/// Runs a unit of type oneshot to its end, and waits at most for `limit`: then the unit continues. It is one of ours, so it needs
/// no [`ServiceName`]: that names only services which the agent may stop.
///
/// # Errors
/// It does not exist, has failed, or still runs.
pub(crate) fn run(unit: &str, limit: Duration) -> Result<(), ServiceError> {
    // Ends before `within` does, so that the caller learns that the unit still runs, not that systemd did not answer.
    let end = Instant::now() + limit.saturating_sub(2 * LOOK);
    let state = within(limit, Action::Start, unit, async {
        let bus = Connection::system().await?;
        let manager = ManagerProxy::new(&bus).await?;
        manager.start_unit(unit, "replace").await?;
        let proxy = look_at(&bus, unit).await?;
        // The job of a oneshot unit ends with the unit's process.
        while proxy.job().await?.0 != 0 {
            if Instant::now() >= end {
                return Ok(STILL_RUNS.to_owned());
            }
            tokio::time::sleep(LOOK).await;
        }
        proxy.active_state().await
    })?;
    match state.as_str() {
        "failed" => Err(no(
            Action::Start,
            unit,
            format!("see 'journalctl -u {unit}'"),
        )),
        STILL_RUNS => {
            let why = format!("it still runs after {} s", limit.as_secs());
            Err(no(Action::Start, unit, why))
        }
        _ => Ok(()),
    }
}

async fn look_at(bus: &Connection, unit: &str) -> zbus::Result<UnitProxy<'static>> {
    let path = ManagerProxy::new(bus).await?.load_unit(unit).await?;
    let proxy = UnitProxy::builder(bus).path(path);
    proxy.cache_properties(CacheProperties::No).build().await
}

/// A `deactivating` unit still runs; a `failed` one does not.
fn runs(state: &str) -> bool {
    // A `failed` unit has no process left, but systemd keeps that state until the next start or `reset-failed`.
    !matches!(state, "inactive" | "failed")
}

fn within<T>(
    limit: Duration,
    action: Action,
    unit: &str,
    work: impl Future<Output = zbus::Result<T>>,
) -> Result<T, ServiceError> {
    let done = zbus::block_on(async { tokio::time::timeout(limit, work).await });
    match done {
        Ok(result) => result.map_err(|error| failed(action, unit, error)),
        Err(_) if action == Action::Stop => Err(ServiceError::Late {
            unit: unit.to_string(),
            seconds: limit.as_secs(),
        }),
        Err(_) => {
            let why = format!("systemd did not answer within {} s", limit.as_secs());
            Err(no(action, unit, why))
        }
    }
}

fn failed(action: Action, unit: &str, error: zbus::Error) -> ServiceError {
    match error {
        zbus::Error::MethodError(name, ..)
            if name.as_str() == "org.freedesktop.systemd1.NoSuchUnit" =>
        {
            ServiceError::Gone(unit.to_string())
        }
        zbus::Error::MethodError(_, Some(text), _) => {
            no(action, unit, text.trim_end_matches('.').to_owned())
        }
        zbus::Error::FDO(error) => match *error {
            fdo::Error::ServiceUnknown(_) => no(action, unit, "systemd is not on the bus".into()),
            other => no(action, unit, other.to_string()),
        },
        other => no(action, unit, other.to_string()),
    }
}

fn no(action: Action, unit: &str, why: String) -> ServiceError {
    let unit = unit.to_string();
    ServiceError::Failed { action, unit, why }
}
