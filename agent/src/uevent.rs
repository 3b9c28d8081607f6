//! The kernel's events about PCI functions that appeared, disappeared or changed their driver (NETLINK_KOBJECT_UEVENT).
//!
//! The content of an event is not used: the receiver of the notification reads the host again.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use tracing::warn;

use crate::notifier::Notifier;

/// The group of the kernel's own messages; udev has the other.
const KERNEL: u32 = 1;
/// Larger than any event (UEVENT_BUFFER_SIZE is 2 KiB, and the header).
const LIMIT: usize = 8 << 10;

/// Pause before listening again after an error.
const PAUSE: Duration = Duration::from_secs(5);

/// Notifies of each event about a PCI function from now on.
pub fn follow(notifier: Notifier) {
    let listener = thread::Builder::new().name("uevent".into());
    if let Err(error) = listener.spawn(move || listen_for_ever(&notifier)) {
        deaf(&error);
    }
}

fn deaf(error: &io::Error) {
    warn!(
        "cannot receive kernel events ({error}): device state is only updated when variantd \
        changes a device"
    );
}

/// Notifies each time that it can listen again, because it missed events.
fn listen_for_ever(notifier: &Notifier) {
    let mut printed = None;
    loop {
        let error = match open() {
            Ok(socket) => {
                printed = None;
                notifier.notify();
                listen(&socket, notifier)
            }
            Err(error) => error,
        };
        let kind = error.raw_os_error();
        // One warning for each reason, not one every five seconds.
        if printed != Some(kind) {
            deaf(&error);
        }
        printed = Some(kind);
        thread::sleep(PAUSE);
    }
}

fn open() -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkKObjectUEvent,
    )?;
    // Port 0: the kernel chooses a free one.
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL))?;
    Ok(socket)
}

/// Returns when it can receive no more.
fn listen(socket: &OwnedFd, notifier: &Notifier) -> io::Error {
    let mut buffer = vec![0; LIMIT];
    loop {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) if is_about_pci(&buffer[..length]) => notifier.notify(),
            // Events were lost: reading the host once replaces them.
            Err(Errno::ENOBUFS) => notifier.notify(),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return error.into(),
        }
    }
}

/// Checks `add@PATH`, followed by fields `KEY=VALUE`, each ended by a zero.
fn is_about_pci(event: &[u8]) -> bool {
    let mut words = event.split(|byte| *byte == 0);
    words.any(|word| word == b"SUBSYSTEM=pci")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_of_pci_functions_count() {
        let pci = b"bind@/devices/pci0009:00/0009:01:00.0\0ACTION=bind\0SUBSYSTEM=pci\0DRIVER=x\0";
        assert!(is_about_pci(pci));
        let other = b"add@/devices/virtual/net/pci\0ACTION=add\0SUBSYSTEM=net\0INTERFACE=pci\0";
        assert!(!is_about_pci(other));
        assert!(!is_about_pci(b""));
    }

    #[test]
    fn the_kernels_socket_can_be_opened() {
        open().expect("a netlink socket");
    }
}
