//! The line of progress of the real `variantctl` on a terminal, while the real agent waits for a module, and what there is elsewhere.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};

use nix::pty::{Winsize, openpty};
use tests::program;

use crate::scene::{Agent, Scene};

const GPU: &str = "0009:01:00.0";
/// Columns of the terminal.
const COLUMNS: u16 = 36;

/// `variantctl` whose standard error is a terminal.
struct Terminal {
    child: Child,
    screen: File,
}

impl Terminal {
    fn start(scene: &Scene, arguments: &[&str]) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: COLUMNS,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(Some(&size), None).expect("a terminal");
        let child = Command::new(program::built("ctl", "variantctl"))
            .args(arguments)
            .current_dir(scene.path(""))
            .env("DBUS_SYSTEM_BUS_ADDRESS", scene.bus.address())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(pair.slave))
            .spawn();
        Self {
            child: child.expect("variantctl runs"),
            screen: from(pair.master),
        }
    }

    /// Reads up to `words`; all that was printed so far.
    fn until(&mut self, words: &str) -> String {
        let mut printed = String::new();
        while !printed.contains(words) {
            let read = self.read();
            assert!(!read.is_empty(), "no '{words}' in {printed:?}");
            printed += &read;
        }
        printed
    }

    /// The rest, and the exit status.
    fn rest(mut self) -> (String, Option<i32>) {
        let mut printed = String::new();
        loop {
            let read = self.read();
            if read.is_empty() {
                let status = self.child.wait().expect("a status");
                return (printed, status.code());
            }
            printed += &read;
        }
    }

    /// Some text; empty when no process has the terminal open any more, for which Linux returns EIO.
    fn read(&mut self) -> String {
        let mut bytes = [0; 4096];
        let count = self.screen.read(&mut bytes).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }
}

fn from(terminal: OwnedFd) -> File {
    terminal.into()
}

/// An agent, and a module whose load ends when the file `loaded` exists, or the scene is gone.
fn scene() -> (Scene, Agent) {
    let scene = Scene::new();
    let script = format!(
        "#!/bin/sh\nwhile [ -d {} ] && [ ! -e {} ]; do sleep 0.05; done\nexit 1\n",
        scene.path("host").display(),
        scene.path("loaded").display()
    );
    scene.program("host/usr/sbin/modprobe", &script);
    let mut agent = scene.start();
    agent.says("serves");
    (scene, agent)
}

const BIND: [&str; 4] = ["bind", "--driver", "mlx5_vfio_pci", GPU];

#[test]
fn terminal_has_one_line_with_the_stage_that_fits_and_is_erased() {
    let (scene, _agent) = scene();
    let mut terminal = Terminal::start(&scene, &BIND);
    let mut printed = terminal.until(" s)\x1b[K");
    printed += &terminal.until(" s)\x1b[K");
    fs::write(scene.path("loaded"), "").expect("the end");
    let (rest, status) = terminal.rest();
    printed += &rest;
    assert_eq!(status, Some(1), "{printed:?}");
    let (line, end) = printed.rsplit_once("\r\x1b[K").expect("erased");
    assert!(
        line.contains("loading the driver"),
        "the agent's stage: {line:?}"
    );
    let lines = line.split('\r').skip(1);
    assert!(lines.clone().count() >= 2);
    for one in lines {
        let text = one.strip_suffix("\x1b[K").expect("erased to its end");
        assert!(text.len() < usize::from(COLUMNS), "{text:?}");
        assert!(!text.contains('\n'), "{text:?}");
    }
    assert!(end.starts_with("error: "), "{end:?}");
    assert!(end.contains("VD-BND-001"), "{end:?}");
}

#[test]
fn terminal_has_no_line_with_json() {
    let (scene, mut agent) = scene();
    let terminal = Terminal::start(&scene, &[&["--json"], &BIND[..]].concat());
    // The agent has the call; the load outlasts the pause before a line.
    std::thread::sleep(std::time::Duration::from_secs(3));
    fs::write(scene.path("loaded"), "").expect("the end");
    let (printed, status) = terminal.rest();
    assert_eq!(status, Some(1), "{printed:?}");
    let error: serde_json::Value = serde_json::from_str(&printed).expect(&printed);
    assert_eq!(error["error"]["code"], "VD-BND-001");
    agent.send(nix::sys::signal::Signal::SIGTERM);
    assert!(agent.wait().success());
}

#[test]
fn a_guest_that_libvirt_is_slow_to_create_has_a_line() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    // It accepts connections and never answers.
    let socket = scene.path("silent");
    let _silent = UnixListener::bind(&socket).expect("a socket");
    let uri = format!("qemu+unix:///system?socket={}", socket.display());
    let file = scene.path("guest.xml");
    fs::write(&file, "<domain type='kvm'><name>slow</name></domain>").expect("written");
    let file = file.to_str().expect("a path");
    let mut terminal = Terminal::start(&scene, &["create", "--connect", &uri, file]);
    terminal.until("creating domain 'slow'");
    terminal.child.kill().expect("a child");
}

#[test]
fn an_agent_that_is_killed_ends_the_line_with_an_error() {
    let (scene, agent) = scene();
    let mut terminal = Terminal::start(&scene, &BIND);
    terminal.until(" s)\x1b[K");
    agent.send(nix::sys::signal::Signal::SIGKILL);
    let (rest, status) = terminal.rest();
    assert_eq!(status, Some(4), "{rest:?}");
    let (_, end) = rest.rsplit_once("\r\x1b[K").expect("erased");
    assert!(end.starts_with("error: variantd ended before"), "{end:?}");
}

#[test]
fn job_on_a_terminal_prints_what_the_method_prints_elsewhere() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    for arguments in [
        &["recover"][..],
        &["release", GPU],
        &["prepare", "test"],
        &["revert", "test"],
        &["bind", "0000:00:1f.0"],
        &["prepare", "missing"],
    ] {
        let mut terminal = Terminal::start(&scene, arguments);
        let mut printed = Vec::new();
        let mut stdout = terminal.child.stdout.take().expect("a pipe");
        stdout.read_to_end(&mut printed).expect("output");
        let (complaint, status) = terminal.rest();
        let piped = scene.variantctl(arguments);
        assert_eq!(piped.status.code(), status, "{arguments:?}: {complaint}");
        assert_eq!(piped.stdout, printed, "{arguments:?}");
        let text = String::from_utf8_lossy(&piped.stderr);
        // On a busy machine there was a line before, which is erased.
        let (_, complaint) = complaint
            .rsplit_once("\r\x1b[K")
            .unwrap_or(("", &complaint));
        // The terminal's driver adds a carriage return to each line end.
        assert_eq!(complaint.replace("\r\n", "\n"), text, "{arguments:?}");
    }
}
