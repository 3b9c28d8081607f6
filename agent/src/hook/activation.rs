//! The listening socket that systemd passed to this process (sd_listen_fds(3)).
#![expect(unsafe_code, reason = "a descriptor by its number")]

use std::env;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{SockType, getsockopt, sockopt};

/// The first descriptor that systemd passes.
const FIRST: i32 = 3;

/// The socket, if systemd passed one to this process. Call it once.
///
/// # Errors
/// The descriptor is not one listening stream socket.
pub(super) fn listener() -> io::Result<Option<UnixListener>> {
    let number = |key| env::var(key).ok()?.parse::<u32>().ok();
    // The variables are inherited: those of another process do not describe our descriptors.
    if number("LISTEN_PID") != Some(process::id()) {
        return Ok(None);
    }
    match number("LISTEN_FDS") {
        None | Some(0) => return Ok(None),
        Some(1) => {}
        Some(count) => {
            return Err(io::Error::other(format!(
                "systemd passed {count} sockets; expected 1"
            )));
        }
    }
    // SAFETY: systemd has opened this descriptor for this process (LISTEN_PID), no other part of the program uses it,
    // and `Hook::listen` is the only caller, once.
    let passed = unsafe { OwnedFd::from_raw_fd(FIRST) };
    // systemd passes it without close-on-exec, and a child that keeps it open would hold the socket after the agent's end.
    fcntl(&passed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    let is_stream = getsockopt(&passed, sockopt::SockType)? == SockType::Stream;
    if !is_stream || !getsockopt(&passed, sockopt::AcceptConn)? {
        let why = "the descriptor from systemd is not a listening stream socket";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(Some(UnixListener::from(passed)))
}
