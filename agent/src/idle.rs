//! When the agent may exit by itself: `idle_exit` is set, there was no call for that long, and nothing needs it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::assign::Assigner;
use crate::bus::{Callers, Jobs};
use crate::context::Context;
use crate::reserve::Reservations;
use crate::worker::Worker;

/// Interval of checks whether a reload set `idle_exit`.
const LOOK: Duration = Duration::from_secs(60);

/// The reasons to keep running.
pub struct Idle {
    pub(crate) callers: Callers,
    pub(crate) context: Arc<Context>,
    pub(crate) assigner: Arc<Assigner>,
    pub(crate) worker: Arc<Worker>,
    pub(crate) reservations: Reservations,
    pub(crate) jobs: Jobs,
}

impl Idle {
    /// Returns when the agent is no longer needed; never while `idle_exit` is not set.
    pub async fn reached(&self) {
        loop {
            let limit = self.context.rules().config.idle_exit;
            let silence = match limit {
                0 => LOOK,
                seconds => Duration::from_secs(seconds),
            };
            // Not the messages of the connection: they include those of the watchdog.
            let before = self.callers.heard();
            sleep(silence).await;
            let is_silent = self.callers.heard() == before;
            if is_silent && limit > 0 && self.is_unneeded() {
                return;
            }
        }
    }

    /// No device is bound, reserved or being changed, no definition must be watched, and no operation is in progress.
    fn is_unneeded(&self) -> bool {
        self.assigner.unread().is_none()
            && self.assigner.device_states().is_empty()
            && self.reservations.all().is_empty()
            && self.worker.is_unneeded()
            && self.jobs.under_way() == 0
    }
}
