//! What guests can have of a host: its CPUs and huge pages, and what other guests hold of them.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use kernel_glue::capacity::Capacity;

use super::problem::Problem;
use super::{HostView, defined, input, output};
use domain::{Domain, MAX_BYTES, NumaMode};
use planner::layout::{Other, needs_facts};
use planner::plan::{NumaFacts, NumaInput};

/// The value of `--numa`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Numa {
    Mirror,
    Keep,
}

impl From<Numa> for NumaMode {
    fn from(numa: Numa) -> Self {
        match numa {
            Numa::Mirror => Self::Mirror,
            Numa::Keep => Self::Keep,
        }
    }
}

/// The facts for a NUMA layout, if a plan reads them.
#[derive(Default)]
pub(super) struct Facts {
    wanted: Option<NumaMode>,
    /// `None` in a snapshot without them, and for a plan that needs no layout.
    capacity: Option<Capacity>,
    others: Vec<Other>,
}

impl Facts {
    /// Reads the facts if the plan of a file needs them.
    pub(super) fn of_file(
        host_view: &HostView,
        domain: &Domain,
        wanted: Option<Numa>,
    ) -> Result<Self, Problem> {
        Self::of(host_view, domain, wanted, true)
    }

    /// Reads the facts if the plan of a domain in libvirt needs them.
    pub(super) fn of_domain(host_view: &HostView, domain: &Domain) -> Result<Self, Problem> {
        Self::of(host_view, domain, None, false)
    }

    fn of(
        host_view: &HostView,
        domain: &Domain,
        wanted: Option<Numa>,
        is_file: bool,
    ) -> Result<Self, Problem> {
        let wanted = wanted.map(NumaMode::from);
        let none = Self {
            wanted,
            ..Self::default()
        };
        if !needs_facts(&host_view.host, &host_view.recipes, wanted, domain) {
            return Ok(none);
        }
        Ok(Self {
            capacity: read(host_view)?,
            others: others(host_view, domain, &[], is_file)?,
            ..none
        })
    }

    /// They as a plan's input.
    pub(super) fn input(&self) -> NumaInput<'_> {
        let facts = |capacity| NumaFacts {
            capacity,
            others: &self.others,
        };
        NumaInput {
            wanted: self.wanted,
            facts: self.capacity.as_ref().map(facts),
        }
    }
}

/// Reads CPUs and huge pages; `None` for a snapshot without them.
pub(super) fn read(host_view: &HostView) -> Result<Option<Capacity>, Problem> {
    if super::is_snapshot(&host_view.root) {
        return Ok(host_view.capacity.clone());
    }
    let read = Capacity::read(&host_view.root, &host_view.host.numa);
    read.map(Some)
        .map_err(|failure| Problem::Failed(failure.to_string()))
}

/// The guests beside a domain: those of the files, else on this host all domains in libvirt. A file is planned without libvirt as
/// well.
pub(super) fn others(
    host_view: &HostView,
    domain: &Domain,
    beside: &[PathBuf],
    is_file: bool,
) -> Result<Vec<Other>, Problem> {
    let read = |file: &PathBuf| Ok(Domain::parse(&input::text(file, MAX_BYTES)?)?);
    let mut all: Vec<Domain> = beside.iter().map(read).collect::<Result<_, Problem>>()?;
    if beside.is_empty() && host_view.root == Path::new("/") {
        match defined::all() {
            Ok(domains) => all = domains,
            Err(why) if is_file => {
                output::say(&format!("note: pins of other guests are unknown: {why}"));
            }
            Err(why) => return Err(why),
        }
    }
    Ok(Other::beside(&host_view.host.numa, domain, &all))
}
