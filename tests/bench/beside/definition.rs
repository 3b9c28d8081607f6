//! Rewrites large definitions, compared with `xmllint` as a process and libxml2 in process.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use agent::snapshot::{Runs, Snapshot};
use anyhow::{Context, Result, bail, ensure};
use kernel_glue::host::Host;
use planner::plan::PlanInput;
use planner::recipe::Recipes;
use planner::rewrite::rewrite;
use tempfile::TempDir;

use crate::libxml2::Libxml2;
use crate::measure::{Pair, alternate};
use crate::model;
use crate::process::{binary, rival, says};
use crate::row::Row;

const ROUNDS: usize = 40;

/// A host, and a completed definition with the mark of an older plan. The rewrite reverts the added elements and plans again; the
/// result must equal the rewrite of the plain definition.
pub(crate) struct Work {
    folder: TempDir,
    old: String,
    completed: String,
}

impl Work {
    /// For a guest with this number of GPUs.
    pub(crate) fn new(gpus: usize) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        model::gpus(folder.path(), gpus)?;
        let host = Host::read(folder.path())?;
        let recipes = Recipes::shipped()?;
        let plan_input = PlanInput::newest(&host, &recipes);
        let completed = rewritten(&model::guest(gpus), &plan_input)?;
        let old = outdated(&completed)?;
        let work = Self {
            folder,
            old,
            completed,
        };
        fs::write(work.input(), &work.old)?;
        Ok(work)
    }

    fn input(&self) -> PathBuf {
        self.folder.path().join("old.xml")
    }

    /// A snapshot of the host: callgrind does not know openat2(2), with which the files of a recorded host are read.
    pub(crate) fn snapshot(&self) -> Result<PathBuf> {
        let host = Host::read(self.folder.path())?;
        let snapshot = Snapshot::new(host, Runs::default(), Vec::new());
        let path = self.folder.path().join("host.json");
        fs::write(&path, snapshot.text())?;
        Ok(path)
    }

    /// The rewrite as a process, for the recorded host or its snapshot.
    pub(crate) fn rewrite(&self, host: &Path) -> Result<Command> {
        let mut command = Command::new(binary("variantctl")?);
        command
            .arg("--host")
            .arg(host)
            .args(["--recipes", "/nonexistent", "rewrite"])
            .arg(self.input());
        Ok(command)
    }

    /// The same work of the other tool.
    pub(crate) fn format(&self) -> Result<Command> {
        let mut command = Command::new(rival("xmllint", "libxml2-utils")?);
        command.arg("--format").arg(self.input());
        Ok(command)
    }
}

fn rewritten(text: &str, plan_input: &PlanInput<'_>) -> Result<String> {
    match text
        .parse()
        .and_then(|definition| rewrite(&definition, plan_input))
    {
        Ok(done) => Ok(done.text),
        Err(refusal) => bail!("{refusal}"),
    }
}

/// The definition with another digest in its mark.
fn outdated(text: &str) -> Result<String> {
    let at = text.find(" digest=").context("no digest in the mark")? + " digest='".len();
    let mut old = text.to_owned();
    let digit = if old[at..].starts_with('0') { "1" } else { "0" };
    old.replace_range(at..=at, digit);
    Ok(old)
}

/// QEMU supports 128 cells; a guest with 16 such GPUs would have 130.
pub(crate) fn rows() -> Vec<Row> {
    [(4, "64 KB", 34, 0.6), (15, "512 KB", 122, 0.4)]
        .into_iter()
        .flat_map(|(gpus, size, cells, limit)| of_size(gpus, size, cells, limit))
        .collect()
}

fn of_size(gpus: usize, size: &str, cells: usize, limit: f64) -> [Row; 2] {
    let work = Work::new(gpus);
    let length = work.as_ref().map_or(0, |work| work.old.len() >> 10);
    let pair = |compare: fn(&Work) -> Result<Pair>| match &work {
        Ok(work) => compare(work),
        Err(error) => bail!("{error:#}"),
    };
    let what = format!("rewrite a domain of {cells} cells ({length} KiB, for {size})");
    [
        Row::ratio(
            &format!("{what}, whole process, host read"),
            "`xmllint --format` on it",
            limit,
            pair(process),
        ),
        Row::ratio(
            &format!("{what}, in process"),
            "parse and serialise with libxml2",
            0.5,
            pair(in_process),
        ),
    ]
}

fn process(work: &Work) -> Result<Pair> {
    let (mut rewrite, mut format) = (work.rewrite(work.folder.path())?, work.format()?);
    let ours = || {
        let (text, time) = says(&mut rewrite, None)?;
        ensure!(
            text == work.completed,
            "the definition is not what is planned"
        );
        Ok(time)
    };
    let theirs = || {
        let (text, time) = says(&mut format, None)?;
        ensure!(text.len() > work.old.len() / 2, "xmllint drops some of it");
        Ok(time)
    };
    alternate(ROUNDS, ours, theirs)
}

fn in_process(work: &Work) -> Result<Pair> {
    let libxml2 = Libxml2::load()?;
    let host = Host::read(work.folder.path())?;
    let recipes = Recipes::shipped()?;
    let plan_input = PlanInput::newest(&host, &recipes);
    let ours = || {
        let start = Instant::now();
        let text = rewritten(black_box(&work.old), &plan_input)?;
        let time = start.elapsed();
        ensure!(
            text == work.completed,
            "the definition is not what is planned"
        );
        Ok(time)
    };
    let theirs = || {
        let start = Instant::now();
        let length = libxml2.round(black_box(&work.old))?;
        let time = start.elapsed();
        ensure!(length > work.old.len() / 2, "libxml2 drops some of it");
        Ok(time)
    };
    alternate(5 * ROUNDS, ours, theirs)
}
