//! The socket of libvirt's daemon, chosen as libvirt's own clients choose it (src/remote/remote_sockets.c).

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::net::sockopt::socket_peercred;
use rustix::process::{Uid, geteuid};

/// The directory of the system daemons' sockets.
pub const DIRECTORY: &str = "/run/libvirt";

/// Why there is no connection to libvirt's daemon.
#[derive(Debug)]
pub enum Fault {
    /// connect(2) failed.
    Connect(PathBuf, io::Error),
    /// This user, neither root nor the caller, listens there.
    Untrusted(PathBuf, u32),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(path, error) => {
                let hint = match error.kind() {
                    io::ErrorKind::PermissionDenied => "join the group 'libvirt'",
                    _ => {
                        "start it with 'systemctl start virtqemud.socket' or 'systemctl start libvirtd.socket'"
                    }
                };
                let path = path.display();
                write!(
                    f,
                    "cannot connect to libvirt's daemon at '{path}': {error}; {hint}"
                )
            }
            Self::Untrusted(path, user) => {
                let path = path.display();
                write!(
                    f,
                    "cannot trust '{path}': user {user} listens there, not root"
                )
            }
        }
    }
}

/// The modular daemon's socket where it exists, else that of libvirtd.
#[must_use]
pub fn socket(directory: &Path, read_only: bool) -> PathBuf {
    let end = if read_only { "sock-ro" } else { "sock" };
    // By the socket and not by the process: systemd starts the daemon at the first connection.
    let modular = directory.join(format!("virtqemud-{end}"));
    match modular.exists() {
        true => modular,
        false => directory.join(format!("libvirt-{end}")),
    }
}

/// Connects to a daemon of root or of the caller.
///
/// # Errors
/// No process listens there, or another user's does.
pub fn connect(path: &Path) -> Result<UnixStream, Fault> {
    let connected = UnixStream::connect(path);
    let stream = connected.map_err(|error| Fault::Connect(path.to_owned(), error))?;
    let peer = socket_peercred(&stream);
    let peer = peer.map_err(|error| Fault::Connect(path.to_owned(), error.into()))?;
    // SO_PEERCRED has the user who called listen(2), which for a socket of systemd is root.
    check(path, peer.uid)?;
    Ok(stream)
}

fn check(path: &Path, peer: Uid) -> Result<(), Fault> {
    match peer.is_root() || peer == geteuid() {
        true => Ok(()),
        false => Err(Fault::Untrusted(path.to_owned(), peer.as_raw())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn socket_prefers_the_modular_daemon() {
        let directory = tempfile::tempdir().expect("directory");
        let path = |read_only| socket(directory.path(), read_only);
        let file = |name| directory.path().join(name);
        assert_eq!(path(false), file("libvirt-sock"));
        assert_eq!(path(true), file("libvirt-sock-ro"));
        fs::write(file("virtqemud-sock"), "").expect("file");
        assert_eq!(path(false), file("virtqemud-sock"));
        assert_eq!(path(true), file("libvirt-sock-ro"));
    }

    #[test]
    fn connect_refuses_a_socket_of_another_user() {
        let check = |peer| check(Path::new("/run/libvirt/libvirt-sock"), Uid::from_raw(peer));
        check(0).expect("root");
        check(geteuid().as_raw()).expect("the caller");
        let fault = check(4711).expect_err("another user").to_string();
        assert_eq!(
            fault,
            "cannot trust '/run/libvirt/libvirt-sock': user 4711 listens there, not root"
        );
    }

    #[test]
    fn connect_names_the_socket_and_the_fix() {
        let path = Path::new("/nonexistent/virtqemud-sock");
        let fault = connect(path).expect_err("no socket").to_string();
        assert!(fault.contains("'/nonexistent/virtqemud-sock'"), "{fault}");
        assert!(fault.contains("systemctl start"), "{fault}");
    }
}
