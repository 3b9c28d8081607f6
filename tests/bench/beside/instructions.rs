//! Counts the instructions of whole processes with callgrind, beside those of the other tool. They do not depend on the load of the
//! machine, so that a small change shows.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::definition::Work;
use crate::fleet::Fleet;
use crate::hook::Unrelated;
use crate::process::{rival, run};
use crate::row::Row;

/// Snapshots of hosts for which one guest is planned.
const SNAPSHOTS: usize = 20;

/// Both sides of a comparison.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instructions {
    pub(crate) ours: u64,
    pub(crate) theirs: Option<u64>,
}

pub(crate) fn rows() -> Vec<Row> {
    let hook = |size: &str, bytes| {
        let work = format!("hook process for an unrelated guest, {size} of XML");
        Row::instructions(&work, "an empty `bash` hook script", unrelated(bytes))
    };
    let rewrite = |cells: usize, gpus| {
        let work = format!("rewrite a domain of {cells} cells for a snapshot, whole process");
        Row::instructions(&work, "`xmllint --format` on it", rewritten(gpus))
    };
    vec![
        hook("1 KB", 1 << 10),
        hook("200 KB", 200 << 10),
        rewrite(34, 4),
        rewrite(122, 15),
        Row::instructions(
            &format!("plan of a guest with 4 GPUs for {SNAPSHOTS} snapshots of hosts"),
            "-",
            planned(),
        ),
    ]
}

fn unrelated(bytes: usize) -> Result<Instructions> {
    let guest = Unrelated::new(bytes)?;
    let input = Some(guest.input());
    Ok(Instructions {
        ours: count(&guest.hook()?, input)?,
        theirs: Some(count(&guest.script()?, input)?),
    })
}

fn rewritten(gpus: usize) -> Result<Instructions> {
    let work = Work::new(gpus)?;
    Ok(Instructions {
        ours: count(&work.rewrite(&work.snapshot()?)?, None)?,
        theirs: Some(count(&work.format()?, None)?),
    })
}

fn planned() -> Result<Instructions> {
    let fleet = Fleet::new(SNAPSHOTS)?;
    Ok(Instructions {
        ours: count(&fleet.plan()?, None)?,
        theirs: None,
    })
}

/// The instructions of a process and its children, outside of the kernel. The program gets only the environment that `command` sets.
fn count(command: &Command, input: Option<&Path>) -> Result<u64> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let environment = command.get_envs();
    let mut valgrind = Command::new(rival("valgrind", "valgrind")?);
    valgrind
        .args(["--tool=callgrind", "--trace-children=yes"])
        .args(["--callgrind-out-file=/dev/null"])
        .arg(format!("--log-file={}", log.display()))
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(environment.filter_map(|(name, value)| Some((name, value?))));
    let (output, _) = run(&mut valgrind, input)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {complaint}");
    sum(&fs::read_to_string(log)?)
}

/// Callgrind writes `==PID== Collected : NUMBER` at the end of each process.
fn sum(log: &str) -> Result<u64> {
    let counts = log
        .lines()
        .filter_map(|line| line.split_once("Collected : "));
    let counts = counts.map(|(_, count)| count.trim().parse::<u64>());
    let counts = counts.collect::<Result<Vec<_>, _>>()?;
    ensure!(!counts.is_empty(), "callgrind has counted nothing: {log}");
    Ok(counts.into_iter().sum())
}
