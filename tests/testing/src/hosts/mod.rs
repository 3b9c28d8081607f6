//! Hosts for tests: the modelled ones, which are generated, and the recorded ones of tests/data/hosts.

// The generator's types use the names of sysfs.
#[allow(missing_docs)]
pub mod atomics;
#[allow(missing_docs)]
pub mod egm;
#[allow(missing_docs)]
pub mod gb300;
#[allow(missing_docs)]
pub mod grace;
#[allow(missing_docs)]
pub mod machine;
#[allow(missing_docs)]
pub mod node;
#[allow(missing_docs)]
pub mod numa;
#[allow(missing_docs)]
pub mod pci;
#[allow(missing_docs)]
pub mod processor;
#[allow(missing_docs)]
pub mod srat;
#[allow(missing_docs)]
pub mod tree;
#[allow(missing_docs)]
pub mod x86;

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use machine::Machine;
use tree::Tree;

/// All modelled hosts.
pub fn modelled() -> impl Iterator<Item = Machine> {
    let machines = grace::all().into_iter().chain(x86::all());
    machines.chain(atomics::all())
}

/// Writes each modelled host as a folder of `dir`, by its name.
pub fn write(dir: &Path) -> io::Result<()> {
    modelled().try_for_each(|machine| tree::write(&dir.join(machine.name), &machine.tree()))
}

/// The names of all hosts, modelled and recorded, in order.
#[must_use]
pub fn names() -> Vec<String> {
    let recorded = fs::read_dir(recorded()).expect("tests/data/hosts");
    let recorded = recorded.map(|entry| entry.expect("a host").file_name());
    let recorded = recorded.map(|name| name.into_string().expect("a name in UTF-8"));
    let mut names: Vec<String> = modelled()
        .map(|machine| machine.name.to_owned())
        .chain(recorded)
        .collect();
    names.sort();
    names
}

/// A host's folder. A modelled host is written at its first use beside the running program, under a name with a hash of its
/// content: all processes share it, and a changed generator writes another. Do not write to it.
#[must_use]
pub fn directory(name: &str) -> PathBuf {
    match modelled().find(|machine| machine.name == name) {
        Some(machine) => written(name, &machine.tree()).expect("a modelled host can be written"),
        None => recorded().join(name),
    }
}

fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/hosts")
}

fn written(name: &str, tree: &Tree) -> io::Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    tree.hash(&mut hasher);
    let program = std::env::current_exe()?;
    let hosts = program.with_file_name("modelled-hosts");
    let dir = hosts
        .join(format!("{name}-{:016x}", hasher.finish()))
        .join(name);
    if !dir.exists() {
        let parent = dir.parent().expect("a folder of the host's own");
        let unfinished = hosts.join(format!(
            "{name}-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        tree::write(&unfinished.join(name), tree)?;
        // The rename is atomic. It fails if another process or thread was faster.
        if fs::rename(&unfinished, parent).is_err() {
            fs::remove_dir_all(&unfinished)?;
        }
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_host_has_what_its_tree_has_and_is_written_once() {
        for machine in modelled() {
            let dir = directory(machine.name);
            for (path, entry) in machine.tree() {
                let path = dir.join(path);
                let found = match &entry {
                    tree::Entry::File(_) => tree::Entry::File(fs::read(&path).expect("file")),
                    tree::Entry::Link(_) => {
                        let target = fs::read_link(&path).expect("link");
                        tree::Entry::Link(target.into_os_string().into_string().expect("text"))
                    }
                };
                assert!(found == entry, "{}", path.display());
            }
            let modified = |dir: &Path| {
                fs::metadata(dir)
                    .and_then(|at| at.modified())
                    .expect("time")
            };
            let before = modified(&dir);
            assert_eq!(
                (directory(machine.name), modified(&dir)),
                (dir.clone(), before)
            );
        }
    }

    #[test]
    fn hosts_are_written_as_folders_by_their_names() {
        let dir = tempfile::tempdir().expect("scratch directory");
        write(dir.path()).expect("written");
        let folders = fs::read_dir(dir.path()).expect("folder").count();
        assert_eq!(folders, modelled().count());
        assert!(dir.path().join("gb200-4gpu/sys/bus/pci/devices").is_dir());
    }

    #[test]
    fn names_has_modelled_and_recorded_hosts() {
        let names = names();
        assert!(
            names.iter().any(|name| name == "gh200-1gpu") && names.iter().any(|name| name == "lab")
        );
        assert_eq!(names.len(), modelled().count() + 2);
    }
}
