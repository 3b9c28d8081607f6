//! Each system call of a real agent fails once, from its start to its end: it serves, or it exits with a clear error.
//!
//! It never panics, hangs, fails to reply, or loses the state in its files. `tests::trace` makes a call fail. The
//! regular run takes a sample; with VARIANTD_EVERY_CALL=1 every call is tried with every errno, with 7 every seventh;
//! VARIANTD_CALLS=1000-1100 selects a range.

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use agent::record::Records;
use api::client::{Fault, ManagerProxy};
use hooks::agent::Reply;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tests::trace;
use zbus::connection;

use crate::scene::Scene;

const ERRNOS: [Errno; 5] = [
    Errno::EMFILE,
    Errno::EIO,
    Errno::ENOSPC,
    Errno::EINTR,
    Errno::ENOMEM,
];
/// Points of the regular run.
const SAMPLE: usize = 20;
/// Only a failure waits so long, also on a busy machine.
const GIVE_UP: Duration = Duration::from_secs(60);
/// A failed call may cost a request its reply, but not the next request.
const QUESTIONS: usize = 3;
/// Timeout of a reply.
const ANSWER: Duration = Duration::from_secs(10);

/// A guest that has ended and whose device cannot be released: the recorded host has neither the driver nor an unbind
/// file.
const ENDED: &str = "6695eb01-f6a4-8304-79aa-97f2502e193f";
const ENTRY: &str = r#"{"version":1,"uuid":"6695eb01-f6a4-8304-79aa-97f2502e193f","name":"test","devices":[
    {"address":"0009:01:00.0","driver":"nvgrace_gpu_vfio_pci","before":{"driver":"gone","driver_override":null},"state":"bound"}]}"#;
const DECLINED: &str = "aaaaaaaa-2222-3333-4444-555555555555\n";

/// The result of one run of an agent.
struct Life {
    status: Option<i32>,
    served: bool,
    /// A request by each of its interfaces had a reply.
    answered: bool,
    log: String,
    /// Counted calls, and the number of the failed one.
    calls: usize,
    failed: i32,
}

/// Writes the files of an agent that has a guest with a device.
fn reset(scene: &Scene) {
    for directory in ["run", "state"] {
        let _ = fs::remove_dir_all(scene.path(directory));
    }
    let _ = fs::remove_file(scene.path("notify"));
    scene.write(&format!("run/journal/{ENDED}.json"), ENTRY);
    scene.write("state/declined", DECLINED);
}

/// Starts an agent whose call `number` fails, sends it one request, and ends it.
fn live(scene: &Scene, shim: &Path, number: usize, errno: Errno) -> Life {
    reset(scene);
    let notified = UnixDatagram::bind(scene.path("notify")).expect("socket");
    notified.set_nonblocking(true).expect("mode");
    let agent = scene
        .bus
        .agent(Path::new(env!("CARGO_BIN_EXE_variantd")), "test:///default");
    let mut process = Command::new(shim)
        .arg("fail")
        .arg(number.to_string())
        .arg((errno as i32).to_string())
        .arg(agent.get_program())
        .args(agent.get_args())
        .env("DBUS_SYSTEM_BUS_ADDRESS", scene.bus.address())
        .env("NOTIFY_SOCKET", scene.path("notify"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("trace");
    let (send, lines) = mpsc::channel();
    let stderr = BufReader::new(process.stderr.take().expect("stderr"));
    thread::spawn(move || {
        let lines = stderr.lines().map_while(Result::ok);
        lines.for_each(|line| drop(send.send(line)));
    });
    let mut log = Vec::new();
    let served = is_ready(&notified, &lines, &mut log);
    let mut answered = false;
    if served {
        answered = (0..QUESTIONS).any(|_| ask(scene));
        let pid = i32::try_from(process.id()).expect("pid");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("signal");
    }
    let has_ended = |log: &[String]| log.last().is_some_and(|line| line.starts_with("failing: "));
    let ended = has_ended(&log) || read_to_end(&lines, &mut log);
    if !ended {
        let group = Pid::from_raw(i32::try_from(process.id()).expect("pid"));
        let _ = killpg(group, Signal::SIGKILL);
    }
    let status = process.wait().expect("status").code().filter(|_| ended);
    let (calls, failed) = counted(log.last().map_or("", String::as_str));
    Life {
        status,
        served,
        answered,
        log: log.join("\n"),
        calls,
        failed,
    }
}

/// Whether the agent reports READY=1 to systemd in time, before it exits. Its log cannot be used: the failing call may
/// be the one that writes the line.
fn is_ready(notified: &UnixDatagram, lines: &Receiver<String>, log: &mut Vec<String>) -> bool {
    let until = Instant::now() + GIVE_UP;
    while Instant::now() < until {
        let mut message = [0; 64];
        if let Ok(length) = notified.recv(&mut message)
            && message[..length] == *b"READY=1"
        {
            return true;
        }
        match lines.recv_timeout(Duration::from_millis(5)) {
            Ok(line) => log.push(line),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        if log.last().is_some_and(|line| line.starts_with("failing: ")) {
            return false;
        }
    }
    false
}

/// Reads up to the last line of `trace`; false if there is none in time.
fn read_to_end(lines: &Receiver<String>, log: &mut Vec<String>) -> bool {
    let until = Instant::now() + GIVE_UP;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let Ok(line) = lines.recv_timeout(left) else {
            return false;
        };
        let ended = line.starts_with("failing: ");
        log.push(line);
        if ended {
            return true;
        }
    }
}

/// Makes a call over the bus and one of libvirt's hook; true if both have a reply of the agent, even an error.
fn ask(scene: &Scene) -> bool {
    is_listed(scene) && matches!(scene.asks_about("stopped", "no XML"), Reply::Refused(_))
}

fn is_listed(scene: &Scene) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let calls = async {
            let bus = connection::Builder::address(scene.bus.address())
                .build()
                .await?;
            let manager = ManagerProxy::new(&bus).await?;
            let listed = manager.list_devices(HashMap::new()).await;
            Ok::<_, zbus::Error>(is_answer(listed))
        };
        matches!(tokio::time::timeout(ANSWER, calls).await, Ok(Ok(true)))
    })
}

fn is_answer<T>(reply: zbus::Result<T>) -> bool {
    let fault = reply.map_err(Fault::from).err();
    !matches!(
        fault,
        Some(Fault::Unreachable(_) | Fault::Unanswered(_) | Fault::Full(_))
    )
}

/// Parses `failing: COUNT calls, SYSCALL failed`.
fn counted(line: &str) -> (usize, i32) {
    let numbers: Vec<i32> = line
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    match numbers[..] {
        [calls, failed] => (usize::try_from(calls).unwrap_or(0), failed),
        _ => (0, -1),
    }
}

/// The failure of a run.
fn fault(scene: &Scene, life: &Life) -> Option<String> {
    let says = |words: &str| life.log.contains(words);
    let gave_reason = says("ERROR") || says("error");
    let uuid = ENDED.parse().expect("uuid");
    let entry = Records::new(scene.path("run")).entry(&uuid);
    let device = "0009:01:00.0".parse().expect("address");
    let is_kept = entry.is_ok_and(|entry| entry.is_some_and(|entry| entry.held(device).is_some()));
    let opted_out = fs::read_to_string(scene.path("state/declined"));
    let wrong = [
        (life.status.is_none(), "it hangs"),
        (says("panicked"), "it panics"),
        (
            life.status.is_some_and(|status| status > 1),
            "it is killed, or aborts",
        ),
        (
            life.status == Some(1) && !gave_reason,
            "it ends without a word",
        ),
        (
            life.status == Some(0) && !life.served,
            "it ends as if nothing had happened",
        ),
        (
            life.status == Some(0) && !life.answered,
            "it serves and does not answer",
        ),
        (!is_kept, "its journal has lost the device"),
        (
            opted_out.ok().as_deref() != Some(DECLINED),
            "what was declined is another",
        ),
    ];
    let mut wrong = wrong.iter().filter(|(is_so, _)| *is_so);
    wrong.next().map(|(_, what)| (*what).to_owned())
}

/// The calls to try of so many, each with its errnos.
fn points(calls: usize) -> Vec<(usize, Errno)> {
    let Ok(stride) = env::var("VARIANTD_EVERY_CALL") else {
        return (1..=calls)
            .step_by((calls / SAMPLE).max(1))
            .zip(ERRNOS.into_iter().cycle())
            .collect();
    };
    let range = env::var("VARIANTD_CALLS").ok();
    let (first, last) = range.as_deref().map_or((1, calls), bounds);
    (first..=last)
        .step_by(stride.parse().expect("a stride"))
        .flat_map(|number| ERRNOS.map(|errno| (number, errno)))
        .collect()
}

/// Parses `FIRST-LAST`.
fn bounds(range: &str) -> (usize, usize) {
    let (first, last) = range.split_once('-').expect("FIRST-LAST");
    let number = |text: &str| text.parse().expect("a call's number");
    (number(first), number(last))
}

/// The outcome of a run, for the summary.
fn outcome(life: &Life) -> &'static str {
    match (life.failed >= 0, life.served, life.status) {
        (false, ..) => "ended before that call",
        (true, true, Some(0)) => "served to its end",
        (true, true, _) => "served, then ended with an error",
        (true, false, _) => "ended with an error at its start",
    }
}

#[test]
fn agent_serves_or_reports_the_error_after_any_failed_system_call() {
    let scene = Scene::new();
    let shim = trace::program();
    let whole = live(&scene, shim, 0, Errno::EIO);
    assert!(
        whole.served && whole.answered && whole.status == Some(0),
        "{}",
        whole.log
    );
    let points = points(whole.calls);
    let mut counts: BTreeMap<(String, &str), usize> = BTreeMap::new();
    let mut found = Vec::new();
    for (number, errno) in &points {
        let life = live(&scene, shim, *number, *errno);
        *counts
            .entry((format!("{errno:?}"), outcome(&life)))
            .or_default() += 1;
        if let Some(what) = fault(&scene, &life) {
            let status = life.status;
            eprintln!(
                "call {number} ({}, {errno:?}): {what} ({status:?}): {}",
                life.failed, life.log
            );
            found.push((*number, *errno, what));
        }
    }
    println!("{} points of {} calls tried", points.len(), whole.calls);
    for ((errno, outcome), count) in counts {
        println!("{errno}: {count} {outcome}");
    }
    assert!(found.is_empty(), "{found:#?}");
}
