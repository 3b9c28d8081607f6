//! Turns for planning, the most expensive operation that every user may request: root has its own, and every other user
//! waits for one call of each other user, not for all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Semaphore;

use super::caller;

/// Concurrent plans of root.
const ROOT: usize = 1;
/// Concurrent plans of all other users.
const OTHERS: usize = 1;

/// The turns; all clones are one.
#[derive(Clone, Debug)]
pub struct Lanes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: Semaphore,
    others: Semaphore,
    /// One turn of each user that plans or waits.
    users: Mutex<HashMap<u32, Weak<Semaphore>>>,
}

impl Default for Lanes {
    fn default() -> Self {
        Self(Arc::new(Inner {
            root: Semaphore::new(ROOT),
            others: Semaphore::new(OTHERS),
            users: Mutex::default(),
        }))
    }
}

impl Lanes {
    /// Does the work in the user's turn; the turn lasts as long as the work. `None` is a peer without a bus.
    pub(super) async fn within<T>(&self, user: Option<u32>, work: impl Future<Output = T>) -> T {
        let Some(user) = user.filter(|user| !caller::is_root(*user)) else {
            let _turn = self.0.root.acquire().await;
            return work.await;
        };
        let own = self.own(user);
        // First the user's own turn: otherwise one user could fill the queue of the common one.
        let _own = own.acquire().await;
        let _turn = self.0.others.acquire().await;
        work.await
    }

    fn own(&self, user: u32) -> Arc<Semaphore> {
        let mut users = self.0.users.lock().unwrap_or_else(PoisonError::into_inner);
        // Only users who plan or wait are kept, so the map has at most as many entries as there are unfinished calls.
        users.retain(|_, lane| lane.strong_count() > 0);
        let known = users.get(&user).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let lane = Arc::new(Semaphore::new(1));
            users.insert(user, Arc::downgrade(&lane));
            lane
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const TIME: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_user_waits_for_one_call_of_another_user_and_root_for_no_call() {
        let lanes = Lanes::default();
        let (done, mut order) = tokio::sync::mpsc::unbounded_channel();
        let (open, opened) = tokio::sync::oneshot::channel::<()>();
        let first = lanes.clone();
        let held = tokio::spawn(async move { first.within(Some(65_000), opened).await });
        tokio::task::yield_now().await;
        for user in [65_000, 65_000, 65_000, 65_001] {
            let (lanes, done) = (lanes.clone(), done.clone());
            tokio::spawn(async move { lanes.within(Some(user), async { done.send(user) }).await });
            tokio::task::yield_now().await;
        }
        let root = lanes.within(Some(0), async { "root" });
        assert_eq!(timeout(TIME, root).await, Ok("root"));
        open.send(()).expect("held");
        held.await.expect("a turn").expect("opened");
        let mut next = async || timeout(TIME, order.recv()).await.expect("in time");
        assert_eq!(next().await, Some(65_001));
        assert_eq!(next().await, Some(65_000));
    }
}
