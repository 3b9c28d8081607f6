//! Reads and checks a host with 4,096 functions, compared with `lspci` on the same tree.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::measure::{Pair, alternate};
use crate::model;
use crate::process::{binary, rival, says};
use crate::row::Row;

const FUNCTIONS: usize = 4096;
/// The other functions are root ports, which cannot be assigned.
const ENDPOINTS: usize = FUNCTIONS / 8 * 7;
const ROUNDS: usize = 20;

pub(crate) fn rows() -> Vec<Row> {
    let folder = tempfile::tempdir().context("no temporary folder");
    let made = folder.and_then(|folder| {
        model::functions(folder.path(), FUNCTIONS)?;
        Ok(folder)
    });
    let with = |pair: fn(&Path) -> Result<Pair>| match &made {
        Ok(folder) => pair(folder.path()),
        Err(error) => Err(anyhow::anyhow!("{error:#}")),
    };
    vec![
        Row::ratio(
            "list and read all of a host with 4,096 functions (generated sysfs)",
            "`lspci -D -vv` on the same tree",
            0.25,
            with(list),
        ),
        Row::ratio(
            "AtomicOps verdict for all of its 3,584 endpoints",
            "`lspci -D -vvv`",
            0.3,
            with(verdicts),
        ),
    ]
}

fn ours(host: &Path, verb: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary("variantctl")?);
    command
        .arg("--host")
        .arg(host)
        .args(["--recipes", "/nonexistent"])
        .args(verb);
    Ok(command)
}

/// The other tool on the same host.
fn lspci(host: &Path, detail: &str) -> Result<Command> {
    let path = format!("sysfs.path={}", host.join("sys/bus/pci").display());
    let mut command = Command::new(rival("lspci", "pciutils")?);
    command.args(["-O", &path, "-D", detail]);
    Ok(command)
}

fn list(host: &Path) -> Result<Pair> {
    compare(
        ours(host, &["list", "--all"])?,
        lspci(host, "-vv")?,
        |text| {
            ensure!(
                text.lines().count() == FUNCTIONS + 1,
                "{} lines",
                text.lines().count()
            );
            ensure!(
                text.lines()
                    .filter(|line| line.contains("mlx5_core"))
                    .count()
                    == ENDPOINTS
            );
            Ok(())
        },
    )
}

fn verdicts(host: &Path) -> Result<Pair> {
    let command = ours(host, &["atomics", "--json"])?;
    compare(command, lspci(host, "-vvv")?, |text| {
        let reports: serde_json::Value = serde_json::from_str(text)?;
        let devices = reports["devices"].as_array().context("no devices")?;
        ensure!(devices.len() == ENDPOINTS, "{} verdicts", devices.len());
        Ok(())
    })
}

fn compare(
    mut ours: Command,
    mut lspci: Command,
    check: impl Fn(&str) -> Result<()>,
) -> Result<Pair> {
    let ours = || {
        let (text, time) = says(&mut ours, None)?;
        check(&text).map(|()| time)
    };
    let theirs = || {
        let (text, time) = says(&mut lspci, None)?;
        let functions = text
            .lines()
            .filter(|line| line.starts_with(|c: char| c.is_ascii_hexdigit()))
            .count();
        ensure!(functions == FUNCTIONS, "lspci shows {functions} functions");
        ensure!(
            text.matches("AtomicOpsCap").count() == FUNCTIONS,
            "lspci does not read all"
        );
        Ok(time)
    };
    alternate(ROUNDS, ours, theirs)
}
