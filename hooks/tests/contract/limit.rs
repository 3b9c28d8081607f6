//! The real hook under resource limits that libvirt's daemon may have.

use std::fs;
use std::os::unix::net::UnixDatagram;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Pid;

use super::scene::{Call, FOREIGN, MARKED, Scene, UNMARKED};

/// With each limit the kernel can still load the program.
const LIMITS: [&str; 7] = [
    r#"ulimit -n 3; exec "$0" "$@""#,
    r#"ulimit -n 0; exec "$0" "$@""#,
    r#"ulimit -v 8192; exec "$0" "$@""#,
    r#"ulimit -d 1024; exec "$0" "$@""#,
    r#"ulimit -s 64; exec "$0" "$@""#,
    r#"ulimit -f 0; exec "$0" "$@""#,
    r#"ulimit -n 3 -v 8192 -d 1024 -s 64 -f 0 -l 0; exec "$0" "$@""#,
];

/// Segments of a program (elf(5), `p_type`).
const LOAD: u64 = 1;
/// See [`LOAD`].
const INTERPRETER: u64 = 3;

/// The hook's exit status when no agent runs: operation, unrelated guest, guest with the mark.
const STATUS: [(&str, i32, i32); 8] = [
    ("prepare begin -", 0, 1),
    ("start begin -", 0, 1),
    ("migrate begin -", 0, 1),
    ("restore begin -", 0, 1),
    ("started begin -", 0, 0),
    ("stopped end -", 0, 0),
    ("release end -", 0, 0),
    ("reconnect begin -", 0, 0),
];

#[test]
fn no_limit_changes_the_exit_status() {
    let scene = Scene::start();
    for limit in LIMITS {
        for (operation, unrelated, marked) in STATUS {
            for (guest, xml, expected) in [
                ("unrelated", FOREIGN, unrelated),
                ("marked", MARKED, marked),
                ("unmarked", UNMARKED, 0),
            ] {
                let call = Call {
                    shell: Some(limit),
                    ..scene.call(operation)
                };
                let told = call.run(xml);
                assert_eq!(
                    told.status, expected,
                    "{limit}: {operation}, {guest}: {told:?}"
                );
            }
        }
    }
}

/// 16 KiB of stack: a signal ends the child process before it has read anything.
#[test]
fn hook_without_a_stack_passes_reconnect_with_a_message() {
    let scene = Scene::start();
    for (operation, _, marked) in STATUS {
        let call = Call {
            shell: Some(r#"ulimit -s 16; exec "$0" "$@""#),
            ..scene.call(operation)
        };
        let told = call.run(MARKED);
        assert_eq!(told.status, marked, "{operation}: {told:?}");
        let last = told.printed.lines().last().unwrap_or_default();
        assert!(
            last.contains("VD-HOK-006") || last.contains("VD-AGT-001"),
            "{operation}: {told:?}"
        );
    }
}

/// The signal goes to the process that has connected: the child process where there is one.
#[test]
fn fatal_signal_has_the_effect_of_a_refusal_or_none() {
    let scene = Scene::start();
    let _agent = scene.serve(|peer| {
        peer.call().expect("a call");
        let hook = getsockopt(&peer.stream, PeerCredentials).expect("a peer");
        kill(Pid::from_raw(hook.pid()), Signal::SIGSEGV).expect("a process");
        assert!(peer.call().is_none(), "it ends");
    });
    for (operation, _, marked) in STATUS {
        let told = scene.run(operation, MARKED);
        assert_eq!(told.status, marked, "{operation}: {told:?}");
        let printed = &told.printed;
        assert!(
            printed.contains("SIGSEGV") && printed.contains("VD-HOK-006"),
            "{operation}: {told:?}"
        );
    }
}

/// The kernel starts no dynamic loader for a program without PT_INTERP.
#[test]
fn the_hook_is_linked_statically() {
    let program = env!("CARGO_BIN_EXE_variantd-hook");
    let kinds = segments(&fs::read(program).expect("a program"));
    assert!(kinds.contains(&LOAD), "{program} is not understood");
    assert!(!kinds.contains(&INTERPRETER), "{program} needs a loader");
}

/// The kinds of the segments of a 64-bit program (elf(5), `Elf64_Ehdr` and `Elf64_Phdr`).
fn segments(program: &[u8]) -> Vec<u64> {
    let number = |at: usize, length: usize| {
        let bytes = program[at..at + length].iter().rev();
        bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    let index = |at, length| usize::try_from(number(at, length)).expect("a place in the program");
    let (table, size, count) = (index(32, 8), index(54, 2), index(56, 2));
    (0..count)
        .map(|segment| number(table + segment * size, 4))
        .collect()
}

#[test]
fn hook_logs_a_warning_that_libvirt_does_not_show() {
    let scene = Scene::start();
    let log = UnixDatagram::bind(scene.path("log")).expect("a log");
    log.set_nonblocking(true).expect("a socket");
    let mut message = [0; 1024];
    let told = scene.run("prepare begin -", UNMARKED);
    assert_eq!(told.status, 0);
    let length = log.recv(&mut message).expect("a warning");
    let text = String::from_utf8_lossy(&message[..length]);
    assert!(text.starts_with("<28>variantd-hook["), "{text}");
    assert!(text.contains("VD-AGT-001"), "{text}");
    let told = scene.run("prepare begin -", MARKED);
    assert_eq!(told.status, 1);
    let told = scene.run("prepare begin -", FOREIGN);
    assert_eq!(told.status, 0);
    assert!(
        log.recv(&mut message).is_err(),
        "libvirt shows a refusal, and an unrelated guest has no warning"
    );
}
