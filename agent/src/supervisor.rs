//! Messages to systemd (sd_notify(3)): ready, reloading, stopping, and the watchdog.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::assign::Assigner;
use crate::bus::Callers;
use crate::worker::Worker;

/// How often a message is sent if the socket does not accept it: without READY=1 systemd would kill the agent after its
/// start timeout.
const ATTEMPTS: usize = 3;
/// Pause before each further attempt.
const PAUSE: Duration = Duration::from_millis(20);

/// The socket of systemd; nothing is sent without one.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    socket: Option<SocketAddr>,
    /// The watchdog interval.
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// From the environment that systemd sets.
    #[must_use]
    pub fn of_environment() -> Self {
        let socket = env::var("NOTIFY_SOCKET").ok();
        let number = |key| env::var(key).ok()?.parse::<u64>().ok();
        // Inherited by children, for which systemd does not wait (sd_watchdog_enabled(3)).
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| ours && *micros > 0);
        Self {
            socket: socket.and_then(|path| address(&path).ok()),
            watchdog: watchdog.map(Duration::from_micros),
        }
    }

    /// Reports that the agent serves.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// Reports that the agent reloads its configuration, until it is ready.
    pub fn reloading(&self) {
        self.say("RELOADING=1");
    }

    /// Reports that the agent stops.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// Sends a watchdog message at half the interval if the agent works: this loop and the hook's loop run, a thread
    /// can be created, every lock that a call may need can be taken, and a call of the agent to itself over the bus is
    /// answered. Without messages systemd kills and restarts the agent.
    pub async fn watch(
        self,
        assigner: Arc<Assigner>,
        worker: Arc<Worker>,
        hooks: Handle,
        callers: Callers,
    ) {
        let Some(interval) = self.watchdog else {
            return;
        };
        loop {
            let (assigner, worker) = (assigner.clone(), worker.clone());
            let locks = move || {
                assigner.answers();
                worker.answers();
            };
            // A lock that is never released blocks this task, so no message is sent and systemd restarts the agent.
            let answers = hooks.spawn(async move { spawn_blocking(locks).await });
            let answered = answers.await.and_then(|answered| answered);
            match (answered, callers.round_trip().await) {
                (Ok(()), Ok(())) => self.say("WATCHDOG=1"),
                (Err(error), _) => warn!("cannot send the watchdog message: {error}"),
                (_, Err(error)) => warn!(
                    "no watchdog message is sent, because variantd's call to itself over the bus failed: \
                        {error}"
                ),
            }
            sleep(interval / 2).await;
        }
    }

    fn say(&self, words: &str) {
        let Some(socket) = &self.socket else {
            return;
        };
        for attempt in 1..=ATTEMPTS {
            let sent =
                // A new socket each time: it needs no state, and it works after the descriptors were used up.
                UnixDatagram::unbound().and_then(|own| own.send_to_addr(words.as_bytes(), socket));
            match sent {
                Ok(_) => return,
                Err(error) if attempt == ATTEMPTS => {
                    warn!("cannot send '{words}' to systemd: {error}");
                }
                Err(error) => {
                    debug!("cannot send '{words}' to systemd yet: {error}");
                    thread::sleep(PAUSE);
                }
            }
        }
    }
}

fn address(path: &str) -> io::Result<SocketAddr> {
    match path.strip_prefix('@') {
        // `@` is systemd's notation of the abstract namespace (sd_notify(3)).
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{context, kernel};
    use crate::libvirt::fake::Fake;
    use crate::record::Records;
    use settings::config::Config;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    fn supervisor(directory: &std::path::Path) -> (Supervisor, UnixDatagram) {
        let path = directory.join("notify");
        let socket = UnixDatagram::bind(&path).expect("socket");
        let limit = Some(Duration::from_secs(10));
        socket.set_read_timeout(limit).expect("limit");
        let supervisor = Supervisor {
            socket: Some(address(path.to_str().expect("text")).expect("address")),
            watchdog: Some(Duration::from_millis(2)),
        };
        (supervisor, socket)
    }

    #[test]
    fn each_state_is_one_message() {
        let directory = tempfile::tempdir().expect("directory");
        let (supervisor, socket) = supervisor(directory.path());
        supervisor.ready();
        supervisor.reloading();
        supervisor.stopping();
        let printed = [heard(&socket), heard(&socket), heard(&socket)];
        assert_eq!(printed, ["READY=1", "RELOADING=1", "STOPPING=1"]);
        Supervisor::default().ready();
    }

    #[tokio::test]
    async fn no_watchdog_message_is_sent_while_a_lock_is_held() {
        let (directory, context) = context(Config::default());
        let records = Records::new(directory.path().to_owned());
        let assigner = Arc::new(Assigner::new(kernel(), context.clone(), records));
        let worker = Worker::new(Arc::new(Fake::default()), context, assigner.clone());
        let (supervisor, socket) = supervisor(directory.path());
        let watch = tokio::spawn(supervisor.watch(
            assigner.clone(),
            worker,
            Handle::current(),
            Callers::default(),
        ));
        let socket = Arc::new(socket);
        let next = async || {
            let socket = socket.clone();
            spawn_blocking(move || heard(&socket)).await.expect("heard")
        };
        assert_eq!(next().await, "WATCHDOG=1");
        assert_eq!(next().await, "WATCHDOG=1");
        let (begun, begin) = tokio::sync::oneshot::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let holder = spawn_blocking(move || {
            let _held = assigner.hold_claims();
            begun.send(()).expect("a receiver");
            let _ = released.recv();
        });
        begin.await.expect("held");
        // Messages in progress are sent; then nothing more.
        let silence = async {
            socket.set_nonblocking(true).expect("mode");
            let mut quiet = 0;
            while quiet < 20 {
                quiet = match socket.recv(&mut [0; 64]) {
                    Ok(_) => 0,
                    Err(_) => quiet + 1,
                };
                sleep(Duration::from_millis(5)).await;
            }
            socket.set_nonblocking(false).expect("mode");
        };
        silence.await;
        drop(release);
        holder.await.expect("released");
        assert_eq!(next().await, "WATCHDOG=1");
        watch.abort();
    }
}
