//! A thousand connections at the same time, each with its own process, and the memory of one.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::packet::{call, define, packet, string};

const CONNECTIONS: u32 = 1000;
/// The limit of a connection's own memory, in KiB.
const MEMORY: u64 = 4096;
/// Blocks of a stream of 1 GiB.
const BLOCKS: usize = 4096;

/// A connection whose client is this test.
struct Connection {
    process: Child,
    client: UnixStream,
    daemon: UnixStream,
}

impl Connection {
    fn start(listener: &UnixListener, path: &Path, run: &Path) -> Self {
        let (client, theirs) = UnixStream::pair().expect("sockets");
        let output = theirs.try_clone().expect("a copy");
        let process = Command::new(env!("CARGO_BIN_EXE_variantd-connect"))
            .arg("--socket")
            .arg(path)
            .env("VARIANTD_RUN_DIR", run)
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(Stdio::from(std::os::fd::OwnedFd::from(output)))
            .spawn()
            .expect("the transport");
        let (daemon, _) = listener.accept().expect("a connection");
        for end in [&client, &daemon] {
            end.set_read_timeout(Some(Duration::from_secs(60)))
                .expect("a timeout");
        }
        Self {
            process,
            client,
            daemon,
        }
    }

    /// Sends a call and its reply, and returns whether both arrived unchanged.
    fn answers(&mut self, call: &[u8], reply: &[u8]) -> bool {
        let mut received = vec![0; call.len()];
        self.client.write_all(call).expect("sent");
        self.daemon.read_exact(&mut received).expect("a call");
        let mut answered = vec![0; reply.len()];
        self.daemon.write_all(reply).expect("sent");
        self.client.read_exact(&mut answered).expect("a reply");
        received == call && answered == reply
    }

    /// Private memory in KiB (proc_pid_status(5), `RssAnon`).
    fn memory(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .expect("RssAnon");
        line.trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("a number")
    }

    fn end(mut self) {
        drop((self.client, self.daemon));
        assert!(self.process.wait().expect("its end").success());
    }
}

fn listener(folder: &Path) -> (UnixListener, PathBuf) {
    let path = folder.join("sock");
    (UnixListener::bind(&path).expect("a socket"), path)
}

#[test]
fn a_thousand_connections_work_at_the_same_time() {
    // Two descriptors for each connection; the limit is 1024 by default.
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the limit");
    let folder = tempfile::tempdir().expect("a folder");
    let (listener, path) = listener(folder.path());
    let mut connections: Vec<Connection> = (0..CONNECTIONS)
        .map(|_| Connection::start(&listener, &path, folder.path()))
        .collect();
    for round in 1..=2 {
        for (serial, connection) in (1..).zip(&mut connections) {
            let (call, reply) = (
                call(round, serial, b"argument"),
                packet(1, round, serial, &string("result")),
            );
            assert!(connection.answers(&call, &reply));
        }
    }
    let most = connections.iter().map(Connection::memory).max();
    println!("{CONNECTIONS} connections, at most {most:?} KiB each");
    assert!(most < Some(MEMORY), "{most:?}");
    connections.into_iter().for_each(Connection::end);
}

#[test]
fn memory_stays_bounded_behind_a_stream_and_a_slow_reader() {
    let folder = tempfile::tempdir().expect("a folder");
    let (listener, path) = listener(folder.path());
    let mut connection = Connection::start(&listener, &path, folder.path());
    let block = packet(3, 201, 1, &vec![7; 262_120]);
    let mut sender = connection.client.try_clone().expect("a copy");
    let sent = block.clone();
    let sending = thread::spawn(move || {
        for _ in 0..BLOCKS {
            sender.write_all(&sent).expect("sent");
        }
    });
    let mut received = vec![0; block.len()];
    let mut most = 0;
    for number in 0..BLOCKS {
        connection
            .daemon
            .read_exact(&mut received)
            .expect("a block");
        assert!(received == block);
        if number % 64 == 0 {
            most = most.max(connection.memory());
        }
    }
    sending.join().expect("the sender");
    println!("at most {most} KiB while 1 GiB passes");
    assert!(most < MEMORY, "{most} KiB");
    // 16 MiB of one packet, and the daemon does not read.
    connection.client.set_nonblocking(true).expect("a flag");
    let mut large = call(201, 1, &[]);
    large[..4].copy_from_slice(&(16_u32 << 20).to_be_bytes());
    connection.client.write_all(&large).expect("sent");
    let mut quiet = 0;
    while quiet < 20 {
        match connection.client.write(&[0; 65_536]) {
            Ok(count) if count > 0 => quiet = 0,
            _ => {
                quiet += 1;
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
    let memory = connection.memory();
    println!("{memory} KiB behind a slow reader");
    assert!(memory < MEMORY, "{memory} KiB");
    connection.end();
}

#[test]
fn definition_of_4_mib_is_kept_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (listener, path) = listener(folder.path());
    let mut connection = Connection::start(&listener, &path, folder.path());
    let large = define(
        1,
        &format!("<domain><name>d</name>{}</domain>", " ".repeat(4_000_000)),
    );
    let mut sender = connection.client.try_clone().expect("a copy");
    let sent = large.clone();
    let sending = thread::spawn(move || sender.write_all(&sent));
    let mut received = vec![0; large.len()];
    connection.daemon.read_exact(&mut received).expect("a call");
    sending.join().expect("the sender").expect("sent");
    assert!(received == large);
    assert!(connection.answers(&call(1, 2, &[]), &packet(1, 1, 2, &[])));
    let memory = connection.memory();
    println!("{memory} KiB after a definition of 4 MiB");
    assert!(memory < MEMORY, "{memory} KiB");
    connection.end();
}
