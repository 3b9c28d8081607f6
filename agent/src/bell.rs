//! Rings when what is known about devices may have changed; rings that nobody has heard yet are one.
//!
//! Whoever hears it looks at everything anew, so that a ring needs no words and none can be lost.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::Notify;

/// A bell that several hold; one hears it.
#[derive(Clone, Debug, Default)]
pub struct Bell(Arc<Notify>);

impl Bell {
    /// Never waits, from any thread.
    pub fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits for a ring, also for one since the last time.
    pub async fn rung(&self) {
        self.0.notified().await;
    }

    /// What has rung until now is heard.
    pub fn hear(&self) {
        pin!(self.0.notified()).enable();
    }
}
