//! Notifies that device state may have changed; several notifications before the next wait count as one.
//!
//! The receiver reads all device state again, so a notification has no content and none can be lost.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::Notify;

/// A notifier with several senders and one receiver.
#[derive(Clone, Debug, Default)]
pub struct Notifier(Arc<Notify>);

impl Notifier {
    /// Never blocks, from any thread.
    pub fn notify(&self) {
        self.0.notify_one();
    }

    /// Waits for a notification, or returns at once if there was one since the last wait.
    pub async fn notified(&self) {
        self.0.notified().await;
    }

    /// Clears earlier notifications.
    pub fn clear(&self) {
        pin!(self.0.notified()).enable();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn cleared_notification_does_not_repeat() {
        let notifier = Notifier::default();
        let notified = async || {
            timeout(Duration::from_millis(20), notifier.notified())
                .await
                .is_ok()
        };
        notifier.notify();
        notifier.notify();
        assert!(
            notified().await && !notified().await,
            "two notifications count as one"
        );
        notifier.notify();
        notifier.clear();
        assert!(!notified().await, "it was received");
        notifier.clear();
        notifier.notify();
        assert!(notified().await, "a later one counts again");
    }
}
