//! Requests to `variantd-child`: one write, one module, or one query of VFIO; and the child's side.
//!
//! Must not use libvirt: loading its libraries takes longer than the write, for each write to each device.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use kernel_glue::address::PciAddress;
use kernel_glue::atomics::{Width, Widths};
use kernel_glue::kernel::{Attribute, Kernel};
use kernel_glue::live::Live;
use kernel_glue::region::RegionError;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::helper::{self, HelperError};

/// The program.
pub const PROGRAM: &str = "variantd-child";

/// A request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// One write below a root; answered with [`Written`].
    Write {
        /// The root, here and below.
        root: PathBuf,
        /// The file.
        attribute: Attribute,
        /// The value.
        value: String,
    },
    /// A module to be loaded; answered with [`Written`].
    LoadModule {
        /// See above.
        root: PathBuf,
        /// Its name.
        module: String,
    },
    /// The regions of a device that VFIO reports; answered with them or a [`RegionError`].
    Regions {
        /// See above.
        root: PathBuf,
        /// The device.
        device: PciAddress,
    },
    /// The AtomicOp widths that VFIO reports to QEMU; answered with them in bits, or a [`RegionError`].
    Atomics {
        /// See above.
        root: PathBuf,
        /// The device.
        device: PciAddress,
    },
}

/// The result of a write: the errno if it failed.
pub type Written = Result<(), i32>;

/// The child's side: one request.
#[must_use]
pub fn serve() -> ExitCode {
    helper::serve(PROGRAM, |request| match request {
        Request::Write {
            root,
            attribute,
            value,
        } => serde_json::to_vec(&printed(
            live(root).and_then(|live| live.write(&attribute, &value)),
        )),
        Request::LoadModule { root, module } => serde_json::to_vec(&printed(
            live(root).and_then(|live| live.load_module(&module)),
        )),
        Request::Regions { root, device } => {
            let live = Live::new(root).map_err(|_| unusable());
            serde_json::to_vec(&live.and_then(|live| live.regions(device)))
        }
        Request::Atomics { root, device } => {
            let live = Live::new(root).map_err(|_| unusable());
            let widths = live.and_then(|live| live.atomics(device));
            let bits = |widths: Widths| widths.iter().map(Width::bits).collect::<Vec<_>>();
            serde_json::to_vec(&widths.map(bits))
        }
    })
}

fn live(root: PathBuf) -> Result<Live, Errno> {
    Live::new(root).map_err(|failure| failure.errno().unwrap_or(Errno::EIO))
}

fn printed(result: Result<(), Errno>) -> Written {
    result.map_err(|errno| errno as i32)
}

fn unusable() -> RegionError {
    RegionError::Kernel {
        action: "open the root".to_owned(),
        errno: Errno::ENOENT as i32,
    }
}

/// The result of a write for the parent.
pub(crate) fn written(answer: Result<Written, HelperError>) -> Result<(), Errno> {
    match answer {
        Ok(written) => written.map_err(Errno::from_raw),
        Err(why) => Err(no_answer(&why)),
    }
}

/// A killed child sent no reply.
pub(crate) fn no_answer(why: &HelperError) -> Errno {
    warn!("'{PROGRAM}': {why}");
    match why {
        HelperError::Io(why) => why.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
        HelperError::Silent { .. } => Errno::EINTR,
    }
}

/// The program, with its task as arguments, which ps(1) shows.
pub(crate) fn command(program: &Path, request: &Request) -> Command {
    let mut command = Command::new(program);
    match request {
        Request::Write {
            root,
            attribute,
            value,
        } => {
            let [kind, name] = words(attribute);
            command.arg("write-attribute").arg(root).arg(kind);
            command.arg(name).arg(value)
        }
        Request::LoadModule { root, module } => command.arg("load-module").arg(root).arg(module),
        Request::Regions { root, device } => {
            command.args(["ask-vfio", "regions"]).arg(root);
            command.arg(device.to_string())
        }
        Request::Atomics { root, device } => {
            command.args(["ask-vfio", "atomics"]).arg(root);
            command.arg(device.to_string())
        }
    };
    command
}

fn words(attribute: &Attribute) -> [String; 2] {
    let (kind, name) = match attribute {
        Attribute::Override(device) => ("override", device.to_string()),
        Attribute::Unbind(driver) => ("unbind", driver.to_string()),
        Attribute::Bind(driver) => ("bind", driver.to_string()),
        Attribute::Probe => ("probe", String::new()),
        Attribute::UnbindLock(device) => ("unbind-lock", device.to_string()),
        Attribute::Barrier(device) => ("barrier", device.to_string()),
    };
    [kind.to_owned(), name]
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel_glue::driver::DriverName;

    #[test]
    fn each_request_survives_the_way_to_the_child() {
        let driver: DriverName = "vfio-pci".parse().expect("driver");
        let device = "0009:01:00.0".parse().expect("address");
        for attribute in [
            Attribute::Override(device),
            Attribute::Unbind(driver.clone()),
            Attribute::Bind(driver),
            Attribute::Probe,
            Attribute::UnbindLock(device),
            Attribute::Barrier(device),
        ] {
            let request = Request::Write {
                root: "/".into(),
                attribute: attribute.clone(),
                value: "0009:01:00.0\n".into(),
            };
            let text = serde_json::to_string(&request).expect("text");
            let read: Request = serde_json::from_str(&text).expect(&text);
            let is_same =
                matches!(read, Request::Write { attribute: read, .. } if read == attribute);
            assert!(is_same, "{text}");
        }
    }

    #[test]
    fn errno_of_the_child_is_returned() {
        assert_eq!(written(Ok(Ok(()))), Ok(()));
        assert_eq!(written(Ok(Err(Errno::ETIME as i32))), Err(Errno::ETIME));
        let died = HelperError::Silent {
            status: None,
            words: String::new(),
        };
        assert_eq!(written(Err(died)), Err(Errno::EINTR));
        let none = HelperError::Io(std::io::Error::from_raw_os_error(Errno::EAGAIN as i32));
        assert_eq!(written(Err(none)), Err(Errno::EAGAIN));
    }
}
