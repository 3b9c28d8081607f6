//! The memory of the agent, beside a C program that only holds a connection of libvirt's client library.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::libvirt::{GPU, MARK, Stand, guest};
use crate::process::{Unavailable, rival, says};
use crate::row::Row;

/// KiB that the agent may have beyond the C program, and as its own.
const BEYOND: u64 = 3 << 10;
const OWN: u64 = 2 << 10;
/// KiB that a measurement may differ by.
const SLACK: u64 = 256;
/// Definitions of one virsh.
const BATCH: usize = 500;
const SETTLED: Duration = Duration::from_secs(3);

const PROGRAM: &str = r#"
#include <libvirt/libvirt.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 2 || !virConnectOpen(argv[1]))
        return 1;
    puts("open");
    fflush(stdout);
    pause();
}
"#;

/// Resident memory in KiB.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    /// All of it.
    resident: u64,
    /// Without pages of files, which other processes share.
    own: u64,
}

impl Memory {
    /// Of a process.
    pub(crate) fn of(process: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let of = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Ok(Self {
            resident: of("VmRSS:").context("no VmRSS")?,
            own: of("RssAnon:").context("no RssAnon")?,
        })
    }

    fn words(self) -> String {
        format!(
            "{} MiB resident, {} MiB of them its own",
            mib(self.resident),
            mib(self.own)
        )
    }
}

/// The C program; dropping it ends the process.
struct Holder(Child);

impl Holder {
    fn start(stand: &Stand) -> Result<Self> {
        let (source, program) = (stand.scene.path("hold.c"), stand.scene.path("hold"));
        fs::write(&source, PROGRAM)?;
        let mut compiler = Command::new(rival("gcc", "gcc")?);
        let compiler = compiler
            .args(["-O2", "-o"])
            .args([&program, &source])
            .arg("-lvirt");
        says(compiler, None).map_err(|why| Unavailable(format!("no libvirt-dev: {why:#}")))?;
        let mut child = Command::new(program)
            .arg(&stand.uri)
            .stdout(Stdio::piped())
            .spawn()?;
        let printed = child.stdout.take().context("no standard output")?;
        let holder = Self(child);
        match BufReader::new(printed).lines().next() {
            Some(Ok(line)) if line == "open" => Ok(holder),
            _ => bail!("the C program cannot connect to libvirt"),
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// At the start, after 1,000, after 10,000 and after 20,000 events; and of the C program.
struct Taken {
    idle: Memory,
    after: [Memory; 3],
    theirs: Memory,
}

pub(crate) fn rows(stand: Result<&Stand>) -> Vec<Row> {
    let taken = stand
        .and_then(taken)
        .map_err(|error| (error.is::<Unavailable>(), format!("{error:#}")));
    let with = |found: fn(&Taken) -> (String, bool)| match &taken {
        Ok(taken) => Ok(found(taken)),
        Err((true, why)) => Err(Unavailable(why.clone()).into()),
        Err((false, why)) => bail!("{why}"),
    };
    vec![
        Row::words(
            "memory of the agent, idle",
            "a C program that holds a connection of libvirt's client library",
            "own at most 2 MiB, resident at most 3 MiB more than that program",
            with(idle),
        ),
        Row::words(
            "memory of the agent after 10,000 define events",
            "-",
            "no growth after the first 1,000",
            with(grown),
        ),
    ]
}

fn idle(taken: &Taken) -> (String, bool) {
    let (ours, theirs) = (taken.idle, taken.theirs);
    let met = ours.own <= OWN && ours.resident <= theirs.resident + BEYOND;
    (
        format!("{}; the other program {}", ours.words(), theirs.words()),
        met,
    )
}

fn grown(taken: &Taken) -> (String, bool) {
    let [first, last, twice] = taken.after;
    let three = |of: fn(&Memory) -> u64| [first, last, twice].map(|memory| mib(of(&memory)));
    let ([a, b, c], [x, y, z]) = (three(|memory| memory.resident), three(|memory| memory.own));
    let text = format!(
        "{a} MiB after 1,000, {b} after 10,000, {c} after 20,000 (its own: {x}, {y} and {z})"
    );
    (text, last.resident <= first.resident + SLACK)
}

fn mib(kib: u64) -> String {
    format!("{:.1}", kib as f64 / 1024.0)
}

fn taken(stand: &Stand) -> Result<Taken> {
    let holder = Holder::start(stand)?;
    let theirs = Memory::of(holder.0.id())?;
    let file = stand.scene.path("ours.xml");
    fs::write(&file, guest(1, GPU))?;
    let agent = stand.agent()?;
    thread::sleep(SETTLED);
    let idle = agent.memory()?;
    stand.virsh(&["define", &file.display().to_string()])?;
    thread::sleep(SETTLED);
    let completed = stand.virsh(&["dumpxml", "bench-0001"])?.0;
    ensure!(completed.contains(MARK), "the guest was not completed");
    fs::write(&file, completed)?;
    let batch = format!("define {}; ", file.display()).repeat(BATCH);
    let after = |events: usize| -> Result<Memory> {
        for _ in 0..events / BATCH {
            stand.virsh(&[&batch])?;
        }
        thread::sleep(Duration::from_secs(1));
        agent.memory()
    };
    let after = [after(1000)?, after(9000)?, after(10_000)?];
    stand.virsh(&["undefine", "bench-0001"])?;
    Ok(Taken {
        idle,
        after,
        theirs,
    })
}
