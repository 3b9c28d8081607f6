//! When the agent may end by itself: `idle_exit` is set, and for so long nobody asked and nothing needs it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::assign::Assigner;
use crate::bus::{Callers, Jobs};
use crate::context::Context;
use crate::reserve::Reservations;
use crate::worker::Worker;

/// Between two looks whether `idle_exit` was set by a reload.
const LOOK: Duration = Duration::from_secs(60);

/// What keeps the agent.
pub struct Idle {
    pub(crate) callers: Callers,
    pub(crate) context: Arc<Context>,
    pub(crate) assigner: Arc<Assigner>,
    pub(crate) worker: Arc<Worker>,
    pub(crate) reservations: Reservations,
    pub(crate) jobs: Jobs,
}

impl Idle {
    /// Returns once the agent is not needed any more; never while `idle_exit` is not set.
    pub async fn reached(&self) {
        loop {
            let limit = self.context.rules().config.idle_exit;
            let silence = match limit {
                0 => LOOK,
                seconds => Duration::from_secs(seconds),
            };
            // Not the messages of the connection: the watchdog's own go over it, too.
            let before = self.callers.heard();
            sleep(silence).await;
            let is_silent = self.callers.heard() == before;
            if is_silent && limit > 0 && self.is_unneeded() {
                return;
            }
        }
    }

    /// No device is bound, reserved or worked on, no definition is ours to watch, and nothing is under way.
    fn is_unneeded(&self) -> bool {
        self.assigner.unread().is_none()
            && self.assigner.device_states().is_empty()
            && self.reservations.all().is_empty()
            && self.worker.is_unneeded()
            && self.jobs.under_way() == 0
    }
}
