//! The shared socket: a listener starts a process for each connection, as systemd does for `Accept=yes`, and libvirt's own client
//! connects to it.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::libvirt::{COMPLETED, GPU, Scene, guest};

/// The socket, while it is kept.
pub(super) struct Listener {
    path: PathBuf,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    pub(super) fn start(scene: &Scene) -> Self {
        let path = scene.bus.path("shared");
        let listener = UnixListener::bind(&path).expect("a socket");
        let ended = Arc::new(AtomicBool::new(false));
        let is_ended = ended.clone();
        let folder = scene.bus.path("");
        let (address, socket) = (scene.bus.address().to_owned(), scene.socket());
        let start = move |stream: UnixStream| {
            let mut log = File::options();
            let log = log.create(true).append(true);
            let log = log.open(folder.join("shared.log")).expect("a log");
            Command::new(env!("CARGO_BIN_EXE_variantd-connect"))
                .args(["--shared", "--socket"])
                .arg(&socket)
                .env("DBUS_SYSTEM_BUS_ADDRESS", &address)
                .env("VARIANTD_RUN_DIR", &folder)
                .env("VARIANTD_ROOT", &folder)
                .stdin(OwnedFd::from(stream.try_clone().expect("a copy")))
                .stdout(OwnedFd::from(stream))
                .stderr(log)
                .spawn()
                .expect("the transport")
        };
        let serve = move || {
            let mut children: Vec<Child> = Vec::new();
            for stream in listener.incoming() {
                if is_ended.load(Ordering::SeqCst) {
                    break;
                }
                children.push(start(stream.expect("a client")));
            }
            for mut child in children {
                let _ = child.kill();
                let _ = child.wait();
            }
        };
        Self {
            path,
            ended,
            thread: Some(thread::spawn(serve)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The URI of a driver over the socket.
    pub(super) fn uri(&self, base: &str) -> String {
        let (driver, path) = base.split_once(':').expect("a URI");
        format!("{driver}+unix:{path}?socket={}", self.path.display())
    }

    fn virsh(&self, scene: &Scene, arguments: &[&str]) -> Output {
        scene.client(&self.uri("test:///default"), arguments)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(&self.path);
        let _ = self.thread.take().map(JoinHandle::join);
        let _ = fs::remove_file(&self.path);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn shared_socket_completes_and_refuses_definitions() {
    let scene = Scene::start();
    let _served = scene.serve();
    let listener = Listener::start(&scene);
    let path = scene.file("d.xml", &guest("d0", GPU));
    let defined = listener.virsh(&scene, &["define", &path]);
    assert!(defined.status.success(), "{}", text(&defined.stderr));
    let printed = listener.virsh(&scene, &["dumpxml", "d0"]);
    assert!(text(&printed.stdout).contains(COMPLETED));
    let path = scene.file("r.xml", &guest("refused", GPU));
    let refused = listener.virsh(&scene, &["define", &path]);
    assert!(!refused.status.success());
    let error = text(&refused.stderr);
    assert!(
        error.contains("the host has no such device (VD-DEV-001)"),
        "{error}"
    );
    let log = fs::read_to_string(scene.bus.path("shared.log")).expect("a log");
    let user = rustix::process::getuid().as_raw();
    let serves = |line: &str| {
        line.starts_with("serves process ") && line.ends_with(&format!(" of user {user}"))
    };
    assert_eq!(log.lines().filter(|line| serves(line)).count(), 3, "{log}");
}

#[test]
fn shared_socket_refuses_a_libvirt_with_access_control() {
    let scene = Scene::start();
    let listener = Listener::start(&scene);
    let folder = scene.bus.path("etc/libvirt");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(
        folder.join("libvirtd.conf"),
        "access_drivers = [ \"polkit\" ]\n",
    )
    .expect("a file");
    let refused = listener.virsh(&scene, &["list"]);
    assert!(!refused.status.success());
    let error = text(&refused.stderr);
    for part in [
        "no shared socket: ",
        "libvirtd.conf', line 1: access_drivers is [\"polkit\"] (VD-CON-002)",
        "connect --how",
    ] {
        assert!(error.contains(part), "{error}");
    }
    // The transport that runs as its client is not concerned.
    scene.printed(&["list"]);
    fs::remove_file(folder.join("libvirtd.conf")).expect("removed");
    assert!(listener.virsh(&scene, &["list"]).status.success());
}

#[test]
fn shared_socket_names_a_missing_daemon_to_its_client() {
    let mut scene = Scene::start();
    let listener = Listener::start(&scene);
    scene.end_daemon();
    let error = text(&listener.virsh(&scene, &["list"]).stderr);
    assert!(
        error.contains("cannot connect to libvirt's daemon at"),
        "{error}"
    );
    assert!(error.contains("systemctl start"), "{error}");
}
