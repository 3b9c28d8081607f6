//! The poll loop between modelled peers: order, back-pressure, descriptors, half-closed and hostile ends.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write, pipe};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use connect::forward::{Fault, Gate, Verdict, forward};
use connect::packet::{Header, Packet, Violation};
use connect::procedure::replace;
use connect::socket::End;
use connect::splitter::Handling;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::packet::{call, define, numbers, packet, string};

/// Renames each defined domain, and answers an empty definition itself; both after `resume`, if there is one.
struct Renaming {
    ready: VecDeque<Verdict>,
    notifier: UnixStream,
    resume: Option<UnixStream>,
    pending: usize,
}

impl Gate for Renaming {
    fn handling(&mut self, header: &Header) -> Handling {
        match header.procedure {
            11 | 309 => Handling::Hold,
            _ => Handling::Pass,
        }
    }

    fn take(&mut self, mut packet: Packet) {
        let start = packet.arguments();
        let length = packet.bytes[start + 3] as usize;
        let span = 0..4 + length.next_multiple_of(4);
        self.pending += 1;
        self.ready.push_back(match length {
            0 => Verdict::Reply(connect::failure::reply(&packet.header, 67, "not so")),
            _ => {
                replace(&mut packet, &[(span, "<renamed/>".to_owned())]).expect("short");
                Verdict::Forward(packet)
            }
        });
    }

    fn has_room(&self) -> bool {
        self.pending < 4
    }

    fn is_busy(&self) -> bool {
        self.pending > 0
    }

    fn notifier(&self) -> BorrowedFd<'_> {
        self.notifier.as_fd()
    }

    fn verdict(&mut self) -> Option<Verdict> {
        if let (Some(resume), false) = (&self.resume, self.ready.is_empty()) {
            let mut byte = [0];
            resume.set_nonblocking(true).expect("a flag");
            if (&mut &*resume).read(&mut byte).is_err() {
                return None;
            }
            let _ = self.notifier.read(&mut byte);
        }
        self.pending -= usize::from(!self.ready.is_empty());
        self.ready.pop_front()
    }
}

/// A client, a daemon, and the loop between them.
struct Scene {
    client: UnixStream,
    daemon: UnixStream,
    ended: JoinHandle<Result<(), Fault>>,
    /// Each byte releases a verdict.
    resume: Option<(UnixStream, UnixStream)>,
}

/// A client and a daemon with the loop between them, which runs in a thread.
pub(crate) fn forwarding(
    mut gate: impl Gate + Send + 'static,
) -> (UnixStream, UnixStream, JoinHandle<Result<(), Fault>>) {
    let (client, ours) = UnixStream::pair().expect("sockets");
    let (daemon, theirs) = UnixStream::pair().expect("sockets");
    let ended = thread::spawn(move || {
        let client = End::new(ours.as_fd(), ours.as_fd()).expect("an end");
        let daemon = End::new(theirs.as_fd(), theirs.as_fd()).expect("an end");
        forward(&client, &daemon, &mut gate)
    });
    for end in [&client, &daemon] {
        end.set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a timeout");
    }
    (client, daemon, ended)
}

impl Scene {
    fn start(waits: bool) -> Self {
        let (notifier, notify) = UnixStream::pair().expect("sockets");
        let (release, resume) = UnixStream::pair().expect("sockets");
        notifier.set_nonblocking(true).expect("a flag");
        let gate = Renaming {
            ready: VecDeque::new(),
            notifier,
            resume: waits.then_some(resume),
            pending: 0,
        };
        let (client, daemon, ended) = forwarding(gate);
        Self {
            client,
            daemon,
            ended,
            resume: waits.then_some((release, notify)),
        }
    }

    fn release(&mut self) {
        let (release, notify) = self.resume.as_mut().expect("a gate that waits");
        release.write_all(&[0]).expect("the gate");
        notify.write_all(&[0]).expect("the gate");
    }

    fn ended(self) -> Result<(), Fault> {
        drop((self.client, self.daemon));
        self.ended.join().expect("the loop")
    }
}

fn receive(from: &mut UnixStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    from.read_exact(&mut bytes).expect("bytes");
    bytes
}

#[test]
fn only_a_definition_changes() {
    let mut scene = Scene::start(false);
    let around = [call(1, 1, &[7; 40]), call(201, 3, b"abcd")];
    let sent = [&around[0][..], &define(2, "<domain/>"), &around[1]].concat();
    scene.client.write_all(&sent).expect("sent");
    let renamed = define(2, "<renamed/>");
    let mut expected: Vec<Vec<u8>> = around.iter().cloned().chain([renamed]).collect();
    let total = expected.iter().map(Vec::len).sum();
    let received = receive(&mut scene.daemon, total);
    // The decided call may come behind the next one.
    expected.swap(1, 2);
    let in_order = expected.concat();
    expected.swap(1, 2);
    assert!(received == in_order || received == expected.concat());
    let reply = [packet(1, 1, 1, b"okay"), packet(2, 300, 0, &[1; 1000])].concat();
    scene.daemon.write_all(&reply).expect("sent");
    assert_eq!(receive(&mut scene.client, reply.len()), reply);
    scene.ended().expect("no fault");
}

#[test]
fn refusal_is_inserted_between_two_packets_of_the_daemon() {
    let mut scene = Scene::start(false);
    let stream = packet(3, 201, 9, &[5; 5000]);
    scene.daemon.write_all(&stream[..100]).expect("sent");
    assert_eq!(receive(&mut scene.client, 100), stream[..100]);
    scene.client.write_all(&define(4, "")).expect("sent");
    scene.client.write_all(&call(1, 5, &[])).expect("sent");
    // The loop has taken the refused call when the next one arrives.
    assert_eq!(receive(&mut scene.daemon, 28), call(1, 5, &[]));
    scene.daemon.write_all(&stream[100..]).expect("sent");
    assert_eq!(
        receive(&mut scene.client, stream.len() - 100),
        stream[100..]
    );
    let refusal =
        connect::failure::reply(&crate::packet::parsed(&define(4, "")).header, 67, "not so");
    assert_eq!(
        receive(&mut scene.client, refusal.bytes.len()),
        refusal.bytes
    );
    scene.ended().expect("no fault");
}

#[test]
fn keepalive_passes_while_a_call_is_decided() {
    let mut scene = Scene::start(true);
    scene
        .client
        .write_all(&define(1, "<domain/>"))
        .expect("sent");
    let ping = packet(2, 1, 0, &[]);
    for _ in 0..3 {
        scene.client.write_all(&ping).expect("sent");
        assert_eq!(receive(&mut scene.daemon, ping.len()), ping);
    }
    scene.release();
    let renamed = define(1, "<renamed/>");
    assert_eq!(receive(&mut scene.daemon, renamed.len()), renamed);
    scene.ended().expect("no fault");
}

#[test]
fn client_that_sends_no_more_still_gets_its_answers() {
    let mut scene = Scene::start(true);
    scene
        .client
        .write_all(&define(1, "<domain/>"))
        .expect("sent");
    scene.client.shutdown(Shutdown::Write).expect("closed");
    scene.release();
    let mut received = Vec::new();
    scene.daemon.read_to_end(&mut received).expect("the end");
    assert_eq!(received, define(1, "<renamed/>"));
    let reply = packet(1, 11, 1, &string("done"));
    scene.daemon.write_all(&reply).expect("sent");
    scene.daemon.shutdown(Shutdown::Write).expect("closed");
    let mut answered = Vec::new();
    scene.client.read_to_end(&mut answered).expect("the end");
    assert_eq!(answered, reply);
    scene.ended().expect("no fault");
}

#[test]
fn daemon_that_sends_no_more_still_gets_calls() {
    let mut scene = Scene::start(false);
    scene.daemon.shutdown(Shutdown::Write).expect("closed");
    let mut end = [0];
    assert_eq!(scene.client.read(&mut end).expect("the end"), 0);
    scene.client.write_all(&call(1, 1, &[])).expect("sent");
    assert_eq!(receive(&mut scene.daemon, 28), call(1, 1, &[]));
    scene.ended().expect("no fault");
}

#[test]
fn loop_ends_when_either_end_is_gone() {
    let scene = Scene::start(false);
    drop(scene.daemon);
    scene.ended.join().expect("the loop").expect("no fault");
    let scene = Scene::start(false);
    drop(scene.client);
    scene.ended.join().expect("the loop").expect("no fault");
}

#[test]
fn slow_reader_slows_its_sender_down() {
    let scene = Scene::start(false);
    let one = packet(3, 201, 1, &[0; 60_000]);
    for mut sender in [&scene.client, &scene.daemon] {
        sender.set_nonblocking(true).expect("a flag");
        let mut sent = 0;
        let mut quiet = 0;
        while quiet < 20 {
            match sender.write(&one[sent % one.len()..]) {
                Ok(count) => (sent, quiet) = (sent + count, 0),
                Err(_) => {
                    quiet += 1;
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
        // Two sockets' buffers (net.core.wmem_default is 208 KiB) and the queue.
        assert!(sent < 4 << 20, "{sent} bytes are kept");
    }
    scene.ended().expect("no fault");
}

#[test]
fn stream_of_64_mib_arrives_unchanged() {
    let mut scene = Scene::start(false);
    let block: Vec<u8> = (0..251_u8).cycle().take(262_120).collect();
    let one = packet(3, 201, 1, &block);
    let rounds = 256;
    let mut sender = scene.client.try_clone().expect("a copy");
    let sent = one.clone();
    let sending = thread::spawn(move || {
        for _ in 0..rounds {
            sender.write_all(&sent).expect("sent");
        }
    });
    for _ in 0..rounds {
        assert!(receive(&mut scene.daemon, one.len()) == one);
    }
    sending.join().expect("the sender");
    scene.ended().expect("no fault");
}

fn send_descriptor(to: &UnixStream, file: BorrowedFd<'_>) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let files = [file];
    ancillary.push(SendAncillaryMessage::ScmRights(&files));
    sendmsg(
        to,
        &[IoSlice::new(&[0])],
        &mut ancillary,
        SendFlags::empty(),
    )
    .expect("sent");
}

/// As virSocketRecvFD of libvirt reads it: one byte, one descriptor.
fn receive_descriptor(from: &UnixStream) -> OwnedFd {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    recvmsg(
        from,
        &mut [IoSliceMut::new(&mut byte)],
        &mut ancillary,
        flags,
    )
    .expect("a byte");
    let received = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    received.expect("a descriptor")
}

/// A file with this text.
fn file(text: &str) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

fn text(descriptor: OwnedFd) -> String {
    use std::os::unix::fs::FileExt;
    let mut bytes = [0; 16];
    let count = File::from(descriptor)
        .read_at(&mut bytes, 0)
        .expect("a file");
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

#[test]
fn descriptors_arrive_with_their_packet_in_both_directions() {
    let mut scene = Scene::start(false);
    let passing = packet(4, 343, 1, &[numbers(&[2]), string("gfx")].concat());
    let held = packet(
        4,
        309,
        2,
        &[numbers(&[1]), string("<domain/>"), numbers(&[0])].concat(),
    );
    scene.client.write_all(&passing).expect("sent");
    send_descriptor(&scene.client, file("first").as_fd());
    send_descriptor(&scene.client, file("second").as_fd());
    scene.client.write_all(&held).expect("sent");
    send_descriptor(&scene.client, file("third").as_fd());
    assert_eq!(receive(&mut scene.daemon, passing.len()), passing);
    assert_eq!(text(receive_descriptor(&scene.daemon)), "first");
    assert_eq!(text(receive_descriptor(&scene.daemon)), "second");
    let renamed = packet(
        4,
        309,
        2,
        &[numbers(&[1]), string("<renamed/>"), numbers(&[0])].concat(),
    );
    assert_eq!(receive(&mut scene.daemon, renamed.len()), renamed);
    assert_eq!(text(receive_descriptor(&scene.daemon)), "third");
    let reply = packet(5, 343, 1, &numbers(&[1]));
    scene.daemon.write_all(&reply).expect("sent");
    send_descriptor(&scene.daemon, file("fourth").as_fd());
    assert_eq!(receive(&mut scene.client, reply.len()), reply);
    assert_eq!(text(receive_descriptor(&scene.client)), "fourth");
    scene.ended().expect("no fault");
}

#[test]
fn hostile_client_ends_only_its_own_connection() {
    for (bytes, expected) in [
        (vec![0; 28], Violation::Length(0)),
        (vec![0xff; 28], Violation::Length(u32::MAX)),
        (
            [packet(4, 343, 1, &numbers(&[1])), vec![0]].concat(),
            Violation::NoDescriptor,
        ),
    ] {
        let mut scene = Scene::start(false);
        scene.client.write_all(&bytes).expect("sent");
        let ended = scene.ended.join().expect("the loop");
        assert!(
            matches!(ended, Err(Fault::Client(violation)) if violation == expected),
            "{ended:?}"
        );
    }
}

#[test]
fn hostile_daemon_ends_only_this_connection() {
    let mut scene = Scene::start(false);
    scene.daemon.write_all(&[0xff; 28]).expect("sent");
    let ended = scene.ended.join().expect("the loop");
    assert!(
        matches!(ended, Err(Fault::Daemon(Violation::Length(u32::MAX)))),
        "{ended:?}"
    );
}

/// Over pipes, as behind ssh(1), everything passes but descriptors.
#[test]
fn pipes_carry_packets_but_no_descriptors() {
    let (input, mut to_us) = pipe().expect("a pipe");
    let (mut from_us, output) = pipe().expect("a pipe");
    let (mut daemon, theirs) = UnixStream::pair().expect("sockets");
    let (notifier, _notify) = UnixStream::pair().expect("sockets");
    let ended = thread::spawn(move || {
        let mut gate = Renaming {
            ready: VecDeque::new(),
            notifier,
            resume: None,
            pending: 0,
        };
        let client = End::new(input.as_fd(), output.as_fd()).expect("an end");
        let daemon = End::new(theirs.as_fd(), theirs.as_fd()).expect("an end");
        forward(&client, &daemon, &mut gate)
    });
    to_us.write_all(&define(1, "<domain/>")).expect("sent");
    let renamed = define(1, "<renamed/>");
    assert_eq!(receive(&mut daemon, renamed.len()), renamed);
    let reply = packet(1, 11, 1, b"okay");
    daemon.write_all(&reply).expect("sent");
    let mut received = vec![0; reply.len()];
    from_us.read_exact(&mut received).expect("the reply");
    assert_eq!(received, reply);
    daemon
        .write_all(&packet(5, 343, 1, &numbers(&[1])))
        .expect("sent");
    send_descriptor(&daemon, file("lost").as_fd());
    let mut rest = Vec::new();
    daemon.shutdown(Shutdown::Write).expect("closed");
    drop(to_us);
    ended.join().expect("the loop").expect("no fault");
    from_us.read_to_end(&mut rest).expect("the end");
    assert_eq!(rest, packet(5, 343, 1, &numbers(&[1])));
}
