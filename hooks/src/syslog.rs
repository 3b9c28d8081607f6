//! Sends one warning to the system's log when libvirt does not show standard error (syslog(3), RFC 3164).

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process;

/// The socket of journald or another syslog daemon.
pub const SOCKET: &str = "/dev/log";
/// A warning (4) of a daemon (3 * 8).
const PRIORITY: u8 = 28;

/// Never blocks; without a syslog daemon the warning is lost.
pub fn warn(socket: &Path, text: &str) {
    let Ok(sender) = UnixDatagram::unbound() else {
        return;
    };
    let message = format!("<{PRIORITY}>variantd-hook[{}]: {text}", process::id());
    let _ = sender
        .set_nonblocking(true)
        .and_then(|()| sender.send_to(message.as_bytes(), socket));
}
