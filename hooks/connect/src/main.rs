//! A libvirt transport that completes definitions before libvirt's daemon sees them.
//!
//! Standard input and output are the client. `VARIANTD_RUN_DIR` replaces `/run/variantd`, `VARIANTD_ROOT` the root of `/sys` and of
//! `/etc/libvirt` (tests).

use std::env;
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ask::Affects;
use connect::access;
use connect::admission::{Admission, Agent};
use connect::daemon;
use connect::forward::forward;
use connect::refusal::refuse;
use connect::socket::End;
use domain::printable::Printable;
use hooks::agent::Reply;
use hooks::relevance::PCI_DEVICES;
use rustix::net::sockopt::socket_peercred;
use rustix::stdio::{stdin, stdout};

/// The time limit for the agent's answer about one definition.
const LIMIT: Duration = Duration::from_secs(20);

const USAGE: &str = "usage: variantd-connect [--read-only] [--shared] [--socket PATH]; libvirt runs it for \
                     'qemu+ext:///system?command=/usr/libexec/variantd/variantd-connect'";

/// The arguments.
struct Options {
    socket: Option<PathBuf>,
    read_only: bool,
    /// The client is another user, on the socket that systemd passed.
    shared: bool,
}

impl Options {
    /// libvirt passes no arguments, so the program's name also asks for the read-only socket.
    fn parse(mut words: impl Iterator<Item = OsString>) -> Option<Self> {
        let name = words.next().map(PathBuf::from).unwrap_or_default();
        let name = name
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut options = Self {
            socket: None,
            read_only: name.ends_with("-ro"),
            shared: false,
        };
        while let Some(word) = words.next() {
            match word.to_str() {
                Some("--read-only") => options.read_only = true,
                Some("--shared") => options.shared = true,
                Some("--socket") => options.socket = Some(words.next()?.into()),
                _ => return None,
            }
        }
        Some(options)
    }
}

/// The agent on the system bus.
struct Bus;

impl Agent for Bus {
    fn complete(&self, xml: &str) -> Reply {
        ask::complete(xml, LIMIT)
    }

    fn attach(&self, uuid: &str, xml: &str, affects: Affects) -> Reply {
        ask::attach(uuid, xml, affects, LIMIT)
    }

    fn settle(&self, uuid: &str) {
        let _ = ask::settle(uuid, LIMIT);
    }
}

fn main() -> ExitCode {
    let Some(options) = Options::parse(env::args_os()) else {
        tell(USAGE);
        return ExitCode::from(2);
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            tell(&format!("variantd-connect: {}", Printable(&sentence)));
            ExitCode::FAILURE
        }
    }
}

/// Prints a line, if the client has not closed standard error.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn run(options: Options) -> Result<(), String> {
    let root = env::var_os("VARIANTD_ROOT").map_or("/".into(), PathBuf::from);
    let stream = match options.shared {
        true => shared(&options, &root)?,
        false => open(&options)?,
    };
    let run = env::var_os("VARIANTD_RUN_DIR").map_or("/run/variantd".into(), PathBuf::from);
    let pci = below(&root, PCI_DEVICES);
    let failed = |error: std::io::Error| format!("cannot prepare the connection: {error}");
    let mut admission = Admission::new(run, pci, Bus).map_err(failed)?;
    let client = End::new(stdin(), stdout()).map_err(failed)?;
    let server = End::new(stream.as_fd(), stream.as_fd()).map_err(failed)?;
    forward(&client, &server, &mut admission)
        .map_err(|fault| format!("the connection ended: {fault}"))
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Connects to libvirt's daemon.
fn open(options: &Options) -> Result<UnixStream, String> {
    let chosen = || daemon::socket(Path::new(daemon::DIRECTORY), options.read_only);
    let path = options.socket.clone().unwrap_or_else(chosen);
    daemon::connect(&path).map_err(|fault| fault.to_string())
}

/// The same for a client of another user, who is told why there is no connection. The journal has the client, because libvirt's log
/// and polkit see this program's user.
fn shared(options: &Options, root: &Path) -> Result<UnixStream, String> {
    let failed = |error: std::io::Error| format!("standard input is not a unix socket: {error}");
    let peer = socket_peercred(stdin()).map_err(|error| failed(error.into()))?;
    let client = stdin().try_clone_to_owned().map_err(failed)?;
    let (process, user) = (peer.pid.as_raw_nonzero(), peer.uid.as_raw());
    tell(&format!("serves process {process} of user {user}"));
    let access = access::check(&below(root, access::DIRECTORY));
    let opened = access.map_err(|fault| fault.to_string());
    opened.and_then(|()| open(options)).inspect_err(|sentence| {
        // A client that does not wait for the answer has left.
        let _ = refuse(&client.into(), &Printable(sentence).to_string());
    })
}
