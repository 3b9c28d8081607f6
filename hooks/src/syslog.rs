//! One warning to the system's log, where nobody would see standard error (syslog(3), RFC 3164).

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process;

/// Where journald, or another syslog daemon, listens.
pub const SOCKET: &str = "/dev/log";
/// A warning (4) of a daemon (3 * 8).
const PRIORITY: u8 = 28;

/// Never waits; where nobody listens the warning is lost.
pub fn warn(socket: &Path, text: &str) {
    let Ok(sender) = UnixDatagram::unbound() else {
        return;
    };
    let message = format!("<{PRIORITY}>variantd-hook[{}]: {text}", process::id());
    let _ = sender
        .set_nonblocking(true)
        .and_then(|()| sender.send_to(message.as_bytes(), socket));
}
