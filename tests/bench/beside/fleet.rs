//! Plans a guest for 10,000 and for 100,000 host snapshots in one call each: time and memory.

#[path = "../../../agent/examples/fleet/made_up.rs"]
mod made_up;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kernel_glue::host::Host;
use tempfile::TempDir;

use crate::measure::digits;
use crate::model;
use crate::process::binary;
use crate::row::Row;

const FEW: usize = 10_000;
const MANY: usize = 100_000;
/// Snapshots a second that the larger call must plan for.
const RATE: f64 = 20_000.0;
/// GPUs of each host, and of the guest.
const GPUS: usize = 4;
/// KiB that each further snapshot may add: its name, and its answer.
const EACH: f64 = 0.25;
/// The interval in which the memory of a running call is read.
const LOOK: Duration = Duration::from_millis(5);

/// One call: its time and its peak memory in KiB.
struct Call {
    time: Duration,
    memory: u64,
}

pub(crate) fn rows() -> Vec<Row> {
    let work = "plan of a guest with 4 GPUs for 10,000 and for 100,000 snapshots of hosts, in one call each";
    let found = calls().map(|(few, many)| verdict(&few, &many));
    let reach = "20,000 snapshots a second, at most 256 bytes of memory for each further one";
    vec![Row::words(work, "-", reach, found)]
}

/// Snapshots of hosts, and a guest.
pub(crate) struct Fleet {
    folder: TempDir,
    host: Host,
}

impl Fleet {
    /// With this number of snapshots.
    pub(crate) fn new(count: usize) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let recorded = folder.path().join("host");
        fs::create_dir(&recorded)?;
        model::gpus(&recorded, GPUS)?;
        let host = Host::read(&recorded)?;
        let fleet = Self { folder, host };
        fs::write(fleet.path("guest.xml"), model::guest(GPUS))?;
        fs::create_dir(fleet.path("fleet"))?;
        fleet.write(0..count)?;
        Ok(fleet)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, numbers: std::ops::Range<usize>) -> Result<()> {
        let directory = self.path("fleet");
        for number in numbers {
            let snapshot = made_up::snapshot(self.host.clone(), number);
            fs::write(directory.join(format!("{number:05}.json")), snapshot.text())?;
        }
        Ok(())
    }

    /// Plans the guest for all of them.
    pub(crate) fn plan(&self) -> Result<Command> {
        let mut command = Command::new(binary("variantctl")?);
        command
            .args(["--recipes", "/nonexistent", "--host"])
            .arg(self.path("fleet"))
            .arg("plan")
            .arg(self.path("guest.xml"));
        Ok(command)
    }
}

fn calls() -> Result<(Call, Call)> {
    let fleet = Fleet::new(FEW)?;
    call(&fleet, FEW)?;
    let few = call(&fleet, FEW)?;
    fleet.write(FEW..MANY)?;
    Ok((few, call(&fleet, MANY)?))
}

/// The output has a line for every host, and the guest fits on all hosts with the driver.
fn call(fleet: &Fleet, count: usize) -> Result<Call> {
    let printed = fleet.path("said");
    let start = Instant::now();
    let mut child = fleet
        .plan()?
        .stdout(File::create(&printed)?)
        .stderr(Stdio::null())
        .spawn()?;
    let mut memory = 0;
    let status = loop {
        memory = memory.max(peak(&child).unwrap_or(0));
        match child.try_wait()? {
            Some(status) => break status,
            None => thread::sleep(LOOK),
        }
    };
    let time = start.elapsed();
    ensure!(status.success(), "the call ends with {status}");
    let printed = fs::read_to_string(printed)?;
    let last = printed.lines().last().context("the call prints nothing")?;
    ensure!(
        last.starts_with(&format!("{count} hosts: it fits on ")),
        "{last}"
    );
    ensure!(
        printed.lines().count() == count + 1,
        "not every host has its line"
    );
    Ok(Call { time, memory })
}

fn peak(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

fn verdict(few: &Call, many: &Call) -> (String, bool) {
    let rate = |call: &Call, count: usize| count as f64 / call.time.as_secs_f64();
    let words = |call: &Call, count: usize| {
        format!(
            "{count}: {} s, {:.0} snapshots a second, {:.0} MiB at most",
            digits(call.time.as_secs_f64()),
            rate(call, count),
            call.memory as f64 / 1024.0
        )
    };
    let added = many.memory.saturating_sub(few.memory) as f64 / (MANY - FEW) as f64;
    let met = rate(many, MANY) >= RATE && added <= EACH;
    (format!("{}; {}", words(few, FEW), words(many, MANY)), met)
}
