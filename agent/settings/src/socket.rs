//! Unix sockets whose name appears only with its listener.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Listens at `path` with this mode, in place of a file that has the name. bind(2) creates a socket before listen(2) and with the mode
/// of the umask, so it is made beside `path`, with the extension `new`, and renamed.
///
/// # Errors
/// The directory does not exist or cannot be written.
pub fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let made = path.with_extension("new");
    // A process that was killed leaves it, and bind(2) refuses a name that exists.
    match fs::remove_file(&made) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&made)?;
    fs::set_permissions(&made, Permissions::from_mode(mode))?;
    fs::rename(&made, path)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_socket_replaces_the_one_of_an_ended_program_and_has_its_mode() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.sock");
        for mode in [0o600, 0o660] {
            let _listener = listen(&path, mode).expect("it listens");
            UnixStream::connect(&path).expect("connected");
            let now = fs::metadata(&path).expect("a socket").permissions();
            assert_eq!(now.mode() & 0o777, mode);
            assert!(!path.with_extension("new").exists());
        }
    }
}
