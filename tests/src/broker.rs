//! A private `dbus-broker`. As its launcher does, a controller socket tells it the address and the policy (dbus-broker(1);
//! `org.bus1.DBus.Broker`). The launcher itself needs systemd.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use zbus::{Fd, Message, ObjectPath, as_variant};

/// The launcher's limit of queued bytes for each user.
pub(crate) const BYTES: u32 = 512 << 20;
/// The launcher's other limits for each user.
const LIMITS: [(&str, &str); 3] = [
    ("--max-fds", "4096"),
    ("--max-matches", "131072"),
    ("--max-objects", "16384"),
];
const TIME: Duration = Duration::from_secs(20);
/// The second byte of a reply without an error.
const RETURN: u8 = 2;

/// Verdict, priority and subject of a policy rule.
type Own = (bool, u64, bool, &'static str);
type Transmission = (
    bool,
    u64,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    u32,
    u32,
    u64,
    u64,
);
type Batch = (bool, u64, Vec<Own>, Vec<Transmission>, Vec<Transmission>);
type Range = (bool, u32, u32, Batch);
type Policy = (
    Vec<(u32, Batch)>,
    Vec<Range>,
    Vec<(&'static str, &'static str)>,
    bool,
    &'static str,
);

/// Starts a broker that listens at `path` for every user, with this limit of queued bytes for each. It exits with the controller.
pub(crate) fn start(path: &Path, bytes: u32) -> Result<(Child, UnixStream)> {
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    let (controller, theirs) = UnixStream::pair()?;
    let mut broker = Command::new("dbus-broker");
    broker.args(["--controller", "0", "--machine-id", &"0".repeat(32)]);
    broker.args(["--max-bytes", &bytes.to_string()]);
    for (option, limit) in LIMITS {
        broker.args([option, limit]);
    }
    let broker = broker.stdin(Stdio::from(OwnedFd::from(theirs))).spawn();
    let broker = broker.context("cannot run 'dbus-broker': install the package 'dbus-broker'")?;
    controller.set_read_timeout(Some(TIME))?;
    authenticate(&controller)?;
    listen(&controller, &listener)?;
    Ok((broker, controller))
}

fn authenticate(mut controller: &UnixStream) -> Result<()> {
    let user = geteuid().to_string();
    let hexadecimal: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
    let words = format!("\0AUTH EXTERNAL {hexadecimal}\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n");
    controller.write_all(words.as_bytes())?;
    let mut printed = Vec::new();
    while !printed.ends_with(b"AGREE_UNIX_FD\r\n") {
        let mut byte = [0];
        controller
            .read_exact(&mut byte)
            .context("'dbus-broker' does not greet its controller")?;
        printed.push(byte[0]);
    }
    Ok(())
}

fn listen(mut controller: &UnixStream, listener: &UnixListener) -> Result<()> {
    let any = || (true, 1, "", "", "", "", 0, 0, 0, u64::MAX);
    let batch: Batch = (true, 1, vec![(true, 1, true, "")], vec![any()], vec![any()]);
    let policy: Policy = (
        vec![(u32::MAX, batch)],
        Vec::new(),
        Vec::new(),
        false,
        "system",
    );
    let path = ObjectPath::try_from("/org/bus1/DBus/Listener/0")?;
    let body = (path, Fd::from(listener), as_variant::Serialize(&policy));
    let call = Message::method_call("/org/bus1/DBus/Broker", "AddListener");
    let call = call.interface("org.bus1.DBus.Broker").build(&body)?;
    let descriptors = [listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    rights.push(SendAncillaryMessage::ScmRights(&descriptors));
    let bytes = [IoSlice::new(call.data().bytes())];
    let sent = sendmsg(controller, &bytes, &mut rights, SendFlags::empty())?;
    ensure!(
        sent == call.data().len(),
        "'dbus-broker' takes {sent} bytes of a call"
    );
    let mut reply = [0; 2];
    controller
        .read_exact(&mut reply)
        .context("'dbus-broker' does not answer its controller")?;
    ensure!(
        reply[1] == RETURN,
        "'dbus-broker' does not listen: its form of AddListener is another"
    );
    Ok(())
}
