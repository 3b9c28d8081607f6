//! libvirt's qemu hook: one operation of one guest, translated to one call of the agent.
//!
//! Installed as `/etc/libvirt/hooks/qemu.d/variantd`. `VARIANTD_RUN_DIR` replaces `/run/variantd`, `VARIANTD_ROOT` the
//! directory that has `sys`, `VARIANTD_HOOK_LOG` the system's log, and `VARIANTD_HOOK_SECONDS` every deadline (tests; libvirt
//! gives its hooks no such variables).
#![no_main]

mod entry;
mod fatal;
mod sentence;

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hooks::agent::{self, Limits};
use hooks::answer::{self, Answer};
use hooks::call::{Call, Operation};
use hooks::input::{Head, Input};
use hooks::relevance::Relevance;
use hooks::syslog;

/// Reads the rest of the definition, calls the agent for a relevant guest, and returns the exit status for libvirt.
fn work(arguments: &entry::Arguments, head: Head, run: &Path) -> u8 {
    let words = arguments
        .iter()
        .map(|word| word.to_string_lossy().into_owned());
    let call = Call::from_arguments(words);
    let input = head.finish(&mut io::stdin().lock());
    let relevance = match env::var_os("VARIANTD_ROOT") {
        Some(root) => Relevance::with(&input, run, &Path::new(&root).join("sys/bus/pci/devices")),
        None => Relevance::of(&input, run),
    };
    let answer = match call.operation {
        Some(operation) if relevance.any() => ask(&call, operation, &relevance, &input, run),
        _ => Answer::pass(),
    };
    deliver(&answer)
}

fn ask(
    call: &Call,
    operation: Operation,
    relevance: &Relevance,
    input: &Input,
    run: &Path,
) -> Answer {
    let text = match (&relevance.unreadable, &input.text) {
        (Some(why), _) | (None, Err(why)) => return answer::unreadable(call, operation, why),
        (None, Ok(text)) => text,
    };
    let limits = shortened().unwrap_or_else(|| Limits::of(operation));
    let reply = agent::call(call, operation, text, run, limits);
    answer::answer(call, operation, relevance, text, reply)
}

fn shortened() -> Option<Limits> {
    let seconds = env::var("VARIANTD_HOOK_SECONDS").ok()?.parse();
    seconds.ok().map(Duration::from_secs).map(Limits::within)
}

fn variable(name: &str, default: &str) -> PathBuf {
    env::var_os(name).map_or(default.into(), PathBuf::from)
}

/// Prints the answer. A closed standard error must not make a guest start fail.
fn deliver(answer: &Answer) -> u8 {
    if let Some(sentence) = &answer.sentence {
        let _ = writeln!(io::stderr(), "{sentence}");
        // libvirt shows standard error of a failed hook, and drops that of a successful one (virHookCall).
        if !answer.refused {
            syslog::warn(&variable("VARIANTD_HOOK_LOG", syslog::SOCKET), sentence);
        }
    }
    let mut out = io::stdout();
    let written = out
        .write_all(answer.xml.as_bytes())
        .and_then(|()| out.flush());
    u8::from(answer.refused || written.is_err())
}
