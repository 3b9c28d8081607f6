//! libvirt's fine-grained access control (`access_drivers`), which judges the user of this program and not the client.
//!
//! A shared transport connects as one user for all its clients. With `access_drivers` libvirt decides for each user and object, so all
//! clients would have the rights of that one user. A transport that runs as its client has no such question.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use domain::code::Code;
use settings::file;
use settings::libvirt::{Malformed, Value, find, parse};

/// The directory of libvirt's configuration.
pub const DIRECTORY: &str = "/etc/libvirt";
/// The setting.
const DRIVERS: &str = "access_drivers";
/// The driver that permits everything (libvirt's src/access/viraccessdrivernop.c).
const NONE: &str = "none";
/// The daemons that have the setting. virtqemud calls the other modular daemons with the identity of its own caller.
const DAEMONS: [&str; 9] = [
    "libvirtd",
    "virtqemud",
    "virtproxyd",
    "virtinterfaced",
    "virtnetworkd",
    "virtnodedevd",
    "virtnwfilterd",
    "virtsecretd",
    "virtstoraged",
];

/// Why a shared transport must not run.
#[derive(Debug)]
pub enum Fault {
    /// A daemon has access control: the file, its line, and the setting's value.
    Controlled(PathBuf, usize, Value),
    /// The file exists and cannot be read.
    Unreadable(PathBuf, io::Error),
    /// libvirt does not read the file.
    Malformed(PathBuf, Malformed),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, why) = match self {
            Self::Controlled(path, line, value) => {
                (path, format!("line {line}: {DRIVERS} is {value}"))
            }
            Self::Unreadable(path, error) => (path, format!("cannot be read: {error}")),
            Self::Malformed(path, malformed) => (path, malformed.to_string()),
        };
        let (path, code) = (path.display(), Code::ConnectAccess);
        write!(
            f,
            "no shared socket: '{path}', {why} ({code}); use the URI of 'variantctl connect --how'"
        )
    }
}

/// Reads the configuration of each daemon in `directory`.
///
/// # Errors
/// The first daemon with access control, or whose configuration does not say.
pub fn check(directory: &Path) -> Result<(), Fault> {
    let files = DAEMONS
        .iter()
        .map(|name| directory.join(format!("{name}.conf")));
    files.into_iter().try_for_each(|path| check_file(&path))
}

fn check_file(path: &Path) -> Result<(), Fault> {
    let text = match file::read(path) {
        // A daemon without a file has libvirt's defaults, in which `access_drivers` is empty.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => text.map_err(|error| Fault::Unreadable(path.to_owned(), error))?,
    };
    let settings = parse(&text).map_err(|fault| Fault::Malformed(path.to_owned(), fault))?;
    match find(&settings, DRIVERS) {
        Some(setting) if !is_open(&setting.value) => {
            let (line, value) = (setting.line, setting.value.clone());
            Err(Fault::Controlled(path.to_owned(), line, value))
        }
        _ => Ok(()),
    }
}

fn is_open(value: &Value) -> bool {
    let is_none = |item: &Value| *item == Value::Text(NONE.to_owned());
    matches!(value, Value::List(items) if items.iter().all(is_none))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn check_passes_without_access_control() {
        let directory = tempfile::tempdir().expect("a directory");
        check(directory.path()).expect("no file");
        for text in [
            "",
            "#access_drivers = [ \"polkit\" ]\n",
            "access_drivers = []",
            "access_drivers = [ 'none' ]",
            "auth_unix_rw = \"polkit\"",
        ] {
            fs::write(directory.path().join("libvirtd.conf"), text).expect("a file");
            check(directory.path()).expect(text);
        }
    }

    #[test]
    fn check_refuses_access_control_of_each_daemon() {
        for name in DAEMONS {
            for value in ["[ \"polkit\" ]", "[ 'none', 'polkit' ]", "\"none\"", "1"] {
                let directory = tempfile::tempdir().expect("a directory");
                let path = directory.path().join(format!("{name}.conf"));
                fs::write(
                    &path,
                    format!("max_clients = 5\naccess_drivers = {value}\n"),
                )
                .expect("a file");
                let fault = check(directory.path()).expect_err(value).to_string();
                for part in [
                    &format!("/{name}.conf', line 2:"),
                    "VD-CON-002",
                    "connect --how",
                ] {
                    assert!(fault.contains(part), "{fault}");
                }
            }
        }
    }

    #[test]
    fn check_refuses_a_file_that_cannot_be_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("virtqemud.conf");
        fs::write(&path, "access_drivers = [").expect("a file");
        let fault = check(directory.path()).expect_err("a fault").to_string();
        assert!(fault.contains("line 1: expected a value"), "{fault}");
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("a directory in its place");
        let fault = check(directory.path()).expect_err("a fault").to_string();
        assert!(fault.contains("cannot be read"), "{fault}");
    }
}
