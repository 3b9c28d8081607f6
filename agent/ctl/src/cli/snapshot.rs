//! `variantctl snapshot`: the data of a host that planning reads, as one JSON text; on request what Nova's scheduler can use of it.

mod nova;

use std::path::{Path, PathBuf};

use clap::Args;

use super::problem::Problem;
use super::{HostView, capacity, output};
use agent::daemon::STATE;
use agent::known_versions::KnownVersions;
use agent::region::Shown;
use agent::snapshot::{MAX_BYTES, Runs, Snapshot};
use agent::stack::known::{FILE, KnownStack};
use planner::target::Target;
use settings::file;

/// The snapshot's file and versions.
#[derive(Debug, Args)]
pub(super) struct Request {
    /// File to write; standard output by default
    file: Option<PathBuf>,
    /// What runs guests: versions such as libvirt=12.8,qemu=11.1,arch=aarch64, a stack's name such as nvidia-10.1, or its
    /// file FILE.json; default: the versions that the agent recorded
    #[arg(long, value_name = "TARGET", value_parser = super::target::parse)]
    target: Option<Target>,
    /// Write what OpenStack Nova's scheduler can use instead: traits by driver, recipe and NUMA node
    #[arg(long, value_enum, value_name = "FORM", conflicts_with = "target")]
    nova: Option<nova::Form>,
}

/// Writes the snapshot, and prints the facts that could not be read.
pub(super) fn run(host_view: &HostView, request: &Request) -> Result<(), Problem> {
    if let Some(form) = request.nova {
        output::gaps(&host_view.host.gaps);
        if nova::covered(host_view).next().is_none() {
            output::none_covered(&host_view.root);
        }
        return write(request, &form.text(host_view, host_view.json));
    }
    let capacity = capacity::read(host_view)?;
    let snapshot = snapshot(host_view, request).with_capacity(capacity);
    output::gaps(&snapshot.host.gaps);
    if snapshot.target.versions.is_none() {
        output::say(
            "note: the versions of libvirt and QEMU are unknown here; add --target libvirt=...,qemu=..., or plans \
             made from this snapshot assume the newest that are tested",
        );
    }
    write(request, &snapshot.text())
}

/// Into the file, or on standard output.
fn write(request: &Request, text: &str) -> Result<(), Problem> {
    let Some(path) = &request.file else {
        return output::data(text);
    };
    let written = file::replace_up_to(MAX_BYTES as u64, path, text, 0o644);
    written.map_err(|why| Problem::Failed(format!("cannot write '{}': {why}", path.display())))
}

fn snapshot(host_view: &HostView, request: &Request) -> Snapshot {
    let live = host_view.root == Path::new("/");
    let mut host = host_view.host.clone();
    let mut runs = match live {
        true => {
            let state = Path::new(STATE);
            // A query of VFIO resets the device, so the snapshot gets what the agent stored of earlier queries.
            Shown::load(state.join("regions")).add_to(&mut host);
            let mut runs = Runs::here(None);
            if let Ok(versions) = KnownVersions::load(state.join("versions")).versions() {
                let known = KnownStack::load(host_view.root.clone(), state.join(FILE));
                runs.set_pair(known.stack(versions));
            }
            runs
        }
        false => {
            let mut runs = Runs::default();
            if let Some(stack) = host_view.stack {
                runs.set_pair(stack);
            }
            runs
        }
    };
    if let Some(target) = request.target {
        runs.set_pair(target.stack);
        runs.arch = target.arch.or(runs.arch);
    }
    // Planning does not need a reservation that cannot be read; 'list' and 'doctor' report it.
    let reservations = host_view.reservations.all().into_iter().flatten().collect();
    Snapshot::new(host, runs, reservations)
}
