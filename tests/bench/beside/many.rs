//! The agent with a libvirt that has many domains, or gets many at once.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use tempfile::TempDir;

use crate::hook;
use crate::libvirt::{GPU, MARK, OTHER, Stand, guest};
use crate::measure::{Pair, Times, alternate, digits};
use crate::process::{binary, says};
use crate::row::Row;

/// Numbers of defined domains at an agent's start, and the most that the ratio may be.
const DEFINED: [(usize, Option<f64>); 4] = [
    (1, None),
    (100, None),
    (1000, Some(0.5)),
    (10_000, Some(0.02)),
];
const STARTS: usize = 5;
/// The number of domains that are checked during calls of the hook, the fewest calls, and by how many milliseconds they may delay one.
const CHECKED: usize = 10_000;
const CALLS: usize = 50;
const DELAY: f64 = 1.0;
/// The index of the guest of these calls.
const HELD: usize = 0xf000;
/// Between two questions to the agent how many it has checked.
const LOOK: Duration = Duration::from_millis(200);
/// Domains that are defined at once.
const BURST: usize = 100;
const BURSTS: usize = 10;
/// The indices of the guests that are not completed.
const OTHERS: usize = 1000;
const TIMEOUT: Duration = Duration::from_secs(60);
/// Commands of one virsh: one argument has at most 128 KiB (MAX_ARG_STRLEN of include/uapi/linux/binfmts.h).
const COMMANDS: usize = 1000;

pub(crate) fn rows<'a>(stand: &dyn Fn() -> Result<&'a Stand>) -> Vec<Row> {
    let mut rows = Vec::new();
    for (count, limit) in DEFINED {
        let work = format!("agent start to its name on the bus with {count} defined domains");
        let reach = limit.map_or("-".to_owned(), |limit| format!("at most {limit}"));
        let theirs = "`virsh list --all` plus `dumpxml` of each, 1,000 in one virsh";
        let measured = stand().and_then(|stand| {
            let guests = Guests::new(0..count, OTHER)?;
            guests.define(stand)?;
            let pair = start(stand, &guests);
            let delayed = (count == CHECKED).then(|| delay(stand));
            guests.undefine(stand)?;
            Ok((pair, delayed))
        });
        let (pair, delayed) = match measured {
            Ok((pair, delayed)) => (pair, delayed),
            Err(error) => (Err(error), None),
        };
        rows.push(Row::compared(&work, theirs, limit, &reach, pair));
        rows.extend(delayed.map(|delayed| {
            let work = "hook of a prepared GPU guest while the agent checks 10,000 definitions after its start";
            Row::words(work, "the same later", "at most 1 ms more", delayed)
        }));
    }
    rows.push(Row::ratio(
        "100 GPU guests defined by one virsh, until all are complete",
        "`virsh define` of 100 such guests, not completed",
        1.2,
        stand().and_then(burst),
    ));
    rows.push(Row::compared(
        "`virsh define --validate` of the 100 completed definitions, without an agent",
        "the same",
        None,
        "-",
        stand().and_then(validated),
    ));
    rows
}

/// Definitions in files of their own.
struct Guests {
    folder: TempDir,
    indices: std::ops::Range<usize>,
}

impl Guests {
    fn new(indices: std::ops::Range<usize>, segment: &str) -> Result<Self> {
        let guests = Self {
            folder: tempfile::tempdir()?,
            indices,
        };
        for index in guests.indices.clone() {
            fs::write(guests.file(index), guest(index, segment))?;
        }
        Ok(guests)
    }

    fn file(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("{index}.xml"))
    }

    /// One command for each, for as few virsh as possible; returns their output and their time.
    fn each(&self, stand: &Stand, command: impl Fn(usize) -> String) -> Result<(String, Duration)> {
        let commands: Vec<String> = self.indices.clone().map(command).collect();
        let (mut printed, mut took) = (String::new(), Duration::ZERO);
        for batch in commands.chunks(COMMANDS) {
            let (text, time) = stand.virsh(&[&batch.join("; ")])?;
            printed += &text;
            took += time;
        }
        Ok((printed, took))
    }

    fn define(&self, stand: &Stand) -> Result<Duration> {
        let (_, time) = self.each(stand, |index| {
            format!("define {}", self.file(index).display())
        })?;
        Ok(time)
    }

    fn undefine(&self, stand: &Stand) -> Result<()> {
        self.each(stand, |index| format!("undefine {}", name(index)))?;
        Ok(())
    }
}

fn name(index: usize) -> String {
    format!("bench-{index:04x}")
}

fn start(stand: &Stand, guests: &Guests) -> Result<Pair> {
    let count = guests.indices.len();
    let ours = || {
        let start = Instant::now();
        let agent = stand.scene.start()?;
        let time = start.elapsed();
        drop(agent);
        Ok(time)
    };
    let theirs = || {
        let (_, list) = stand.virsh(&["list", "--all"])?;
        let (text, dump) = guests.each(stand, |index| format!("dumpxml {}", name(index)))?;
        ensure!(
            text.matches("<domain ").count() == count,
            "virsh dumps not all"
        );
        Ok(list + dump)
    };
    alternate(STARTS, ours, theirs)
}

fn delay(stand: &Stand) -> Result<(String, bool)> {
    let guests = Guests::new(HELD..HELD + 1, GPU)?;
    let (name, input) = (name(HELD), stand.scene.path("held.xml"));
    let drivers = stand.scene.path("host/sys/bus/pci/drivers");
    fs::create_dir_all(drivers.join("nvgrace_gpu_vfio_pci"))?;
    let agent = stand.agent()?;
    until_complete(stand, &guests)?;
    fs::write(&input, stand.virsh(&["dumpxml", &name])?.0)?;
    drop(agent);

    let call = || hook::start(&stand.scene, &name, &input);
    let _agent = stand.agent()?;
    // The first one binds the device.
    call()?;
    let (during, checked) = while_checking(stand, call)?;
    let later: Result<Vec<Duration>> = during.iter().map(|_| call()).collect();
    guests.undefine(stand)?;
    let (during, later) = (Times::of(&during), Times::of(&later?));
    let text = format!(
        "{} ms while the agent checks, for {} s; {} ms later",
        during.words(),
        digits(checked.as_secs_f64()),
        later.words()
    );
    Ok((text, during.median() - later.median() <= DELAY))
}

/// The time of each call until all definitions are checked, and of the check.
fn while_checking(
    stand: &Stand,
    call: impl Fn() -> Result<Duration>,
) -> Result<(Vec<Duration>, Duration)> {
    let (mut during, begun) = (Vec::new(), Instant::now());
    thread::scope(|scope| {
        let checked = scope.spawn(|| -> Result<()> {
            while preparations(stand)? < CHECKED as f64 {
                ensure!(
                    begun.elapsed() < TIMEOUT,
                    "the agent does not check all definitions"
                );
                thread::sleep(LOOK);
            }
            Ok(())
        });
        while !checked.is_finished() {
            during.push(call()?);
        }
        checked.join().map_err(|_| anyhow!("a panic"))?
    })?;
    let calls = during.len();
    ensure!(calls >= CALLS, "only {calls} calls while the agent checks");
    Ok((during, begun.elapsed()))
}

/// How many definitions the agent has checked since its start.
fn preparations(stand: &Stand) -> Result<f64> {
    let mut command = Command::new(binary("variantctl")?);
    command
        .arg("metrics")
        .env("DBUS_SYSTEM_BUS_ADDRESS", stand.scene.bus.address());
    let (text, _) = says(&mut command, None)?;
    let counters = text
        .lines()
        .filter(|line| line.starts_with("variantd_preparations_total"));
    Ok(counters
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum())
}

fn burst(stand: &Stand) -> Result<Pair> {
    let completed = Guests::new(0..BURST, GPU)?;
    let _agent = stand.agent()?;
    beside_others(stand, || {
        let time = until_complete(stand, &completed)?;
        completed.undefine(stand)?;
        Ok(time)
    })
}

/// What libvirt alone needs for the definitions that the agent made.
fn validated(stand: &Stand) -> Result<Pair> {
    let completed = Guests::new(0..BURST, GPU)?;
    let agent = stand.agent()?;
    until_complete(stand, &completed)?;
    for index in completed.indices.clone() {
        let (text, _) = stand.virsh(&["dumpxml", "--inactive", &name(index)])?;
        fs::write(completed.file(index), text)?;
    }
    completed.undefine(stand)?;
    drop(agent);
    beside_others(stand, || {
        let define =
            |index: usize| format!("define --validate {}", completed.file(index).display());
        let (_, time) = completed.each(stand, define)?;
        completed.undefine(stand)?;
        Ok(time)
    })
}

/// Compares the work with the definition of as many guests that are not completed.
fn beside_others(stand: &Stand, ours: impl FnMut() -> Result<Duration>) -> Result<Pair> {
    let others = Guests::new(OTHERS..OTHERS + BURST, OTHER)?;
    alternate(BURSTS, ours, || {
        let time = others.define(stand)?;
        others.undefine(stand)?;
        Ok(time)
    })
}

/// Defines the guests and returns when the agent has completed all of them.
fn until_complete(stand: &Stand, guests: &Guests) -> Result<Duration> {
    let start = Instant::now();
    guests.define(stand)?;
    for index in guests.indices.clone() {
        wait(stand, index, start)?;
    }
    Ok(start.elapsed())
}

/// Waits until the definition in libvirt's folder is complete.
fn wait(stand: &Stand, index: usize, start: Instant) -> Result<()> {
    let file = stand.kept(&name(index));
    while !fs::read_to_string(&file).unwrap_or_default().contains(MARK) {
        if start.elapsed() > TIMEOUT {
            bail!("'{}' is not completed", name(index));
        }
        thread::sleep(Duration::from_micros(100));
    }
    Ok(())
}
