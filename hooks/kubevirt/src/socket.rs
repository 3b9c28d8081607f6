//! The socket of a plugin's hook, at the path that the Plugin object names.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use tokio::net::UnixListener;

/// Listens at `path`, in place of a socket whose server has ended. Its directory must exist: KubeVirt or the DaemonSet mounts it.
///
/// # Errors
/// Another program serves there, something else than a socket has the name, or the directory cannot be written.
pub fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let why = "a file that is no socket has this name";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            let why = "another program serves there";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, why));
        }
        _ => {}
    }
    // KubeVirt takes a socket that exists for one that answers.
    let listener = settings::socket::listen(path, mode)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Removes a socket of a listener that has ended.
pub fn forget(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path),
        _ => Ok(()),
    }
}
