//! What real programs and the agent's own code read from the files of a state.

use std::fs;

use agent::opted_out::OptedOut;
use agent::record::DeviceRecord;
use agent::record::peek::{self, Peeked};
use agent::reserve::Reservations;
use tests::power_cut::{self, Node, Tree};

use super::GPU;
use crate::scene::Scene;

/// The domain of libvirt's test driver.
pub(super) const GUEST: &str = "6695eb01-f6a4-8304-79aa-97f2502e193f";

/// Its record as an agent before version 2 of the records wrote it.
pub(super) const OLDER: &str = r#"{"version":1,"uuid":"6695eb01-f6a4-8304-79aa-97f2502e193f","name":"test","devices":[
    {"address":"0009:01:00.0","driver":"nvgrace_gpu_vfio_pci","before":{"driver":"gone","driver_override":null},"state":"bound"}]}"#;

type View = Result<String, String>;

fn written(tree: &Tree) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    power_cut::write(directory.path(), tree);
    directory
}

/// The reservations that the agent reads, and what `variantctl list` prints of them.
pub(super) fn reservations(scene: &Scene, tree: &Tree) -> View {
    let directory = written(tree);
    let read = Reservations::new(directory.path().join("reserved.d")).all();
    let read = read.into_iter().collect::<Result<Vec<_>, _>>();
    let read = read.map_err(|why| why.to_string())?;
    let recipes = directory.path().join("recipes.d").display().to_string();
    let output = scene.variantctl(&["list", "--host", "host", "--recipes", &recipes]);
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8_lossy(&output.stderr);
    let driver = |one: &settings::reservation::Reservation| format!("{:?}", one.driver);
    Ok(format!(
        "{:?} {printed}",
        read.iter().map(driver).collect::<Vec<_>>()
    ))
}

fn all(tree: &Tree) -> Result<Vec<DeviceRecord>, String> {
    let directory = written(tree);
    let files = peek::all(&directory.path().join("run")).map_err(|why| why.to_string())?;
    let mut all = Vec::new();
    for (path, peeked) in files {
        match peeked {
            Peeked::Good(records) => all.extend(records),
            other => return Err(format!("{path}: {other:?}")),
        }
    }
    Ok(all)
}

/// The records.
pub(super) fn records(tree: &Tree) -> View {
    Ok(format!("{:?}", all(tree)?))
}

/// The owner of the GPU, whichever version recorded it: a migration must not lose it.
pub(super) fn owner(tree: &Tree) -> View {
    let all = all(tree)?;
    let of = all.iter().find(|one| one.device.to_string() == GPU);
    let of = of
        .and_then(|one| one.domain.as_ref())
        .ok_or("no domain has the device")?;
    Ok(format!("{} {:?}", of.domain.uuid, of.record.before))
}

/// Whether the guest has opted out.
pub(super) fn opted_out(tree: &Tree) -> View {
    let directory = written(tree);
    let path = directory.path().join("state/declined");
    if let Ok(text) = fs::read_to_string(&path)
        && text.lines().any(|line| line != GUEST)
    {
        return Err(text);
    }
    Ok(OptedOut::load(path)
        .has(&GUEST.parse().expect("uuid"))
        .to_string())
}

/// The files as they are, without those that are not renamed yet.
pub(super) fn whole(tree: &Tree) -> View {
    let files = tree.iter().filter(|(path, node)| {
        path.extension().is_none_or(|end| end != "new") && **node != Node::Directory
    });
    let shown = files.map(|(path, node)| format!("{path:?}: {node:?}"));
    Ok(shown.collect::<Vec<_>>().join("\n"))
}
