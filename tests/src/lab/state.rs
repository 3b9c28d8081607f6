//! The folder of a running lab with its sockets, records and logs: `/run/variantd-lab/NAME`.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg};

use super::architecture::Architecture;
use super::driver::Modules;
use super::process::{self, Process};
use super::progress::Step;

const ROOT: &str = "/run/variantd-lab";

/// The paths of one lab.
#[derive(Clone, Debug)]
pub struct State {
    name: String,
    folder: PathBuf,
}

impl State {
    /// The lab of this name, whether it runs or not.
    pub fn new(name: &str) -> Result<Self> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        ensure!(
            !name.is_empty() && name.len() <= 32 && name.chars().all(is_plain),
            "'{name}' is not a name for a lab: use letters, digits and hyphens"
        );
        Ok(Self {
            name: name.to_owned(),
            folder: Path::new(ROOT).join(name),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file in it.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// The folder that the emulated host sees as `/share`.
    pub fn share(&self) -> PathBuf {
        self.path("share")
    }

    /// The serial console of the emulated host.
    pub fn console(&self) -> PathBuf {
        self.path("console.log")
    }

    /// Its QEMU, if it runs.
    pub fn qemu(&self) -> Option<Process> {
        Process::recorded(&self.path("qemu.pid")).filter(Process::is_alive)
    }

    /// Writes the kind of the host.
    pub fn set_kind(
        &self,
        architecture: Architecture,
        modules: Modules,
        gpus: usize,
        kernel_arguments: &[String],
    ) -> Result<()> {
        let mut text = format!("{architecture}{}-gpus={gpus}", modules.suffix());
        text.extend(kernel_arguments.iter().map(|word| format!("-{word}")));
        fs::write(self.path("kind"), text).context("cannot note the kind of the lab")
    }

    /// Keywords for scenarios that only fit some labs: the processor, "iommufd", the number of GPUs such as "gpus=2", and
    /// additional kernel arguments such as "intel_iommu=off".
    pub fn kind(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("kind")).unwrap_or_default();
        text.split('-').map(str::to_owned).collect()
    }

    /// Processor time until now of the lab's processes, and of this process with its children.
    pub fn processor_time(&self) -> Duration {
        let own = Process::find(std::process::id()).ok();
        let all = process::recorded_in(&self.folder).into_iter().chain(own);
        all.map(|process| process.processor_time()).sum()
    }

    /// Notes the folder with the disk of packages.
    pub fn set_packages(&self, folder: &Path) -> Result<()> {
        fs::write(self.path("packages"), folder.as_os_str().as_encoded_bytes())
            .context("cannot note the packages of the lab")
    }

    /// The folder with the disk of packages, if the lab has one.
    pub fn packages(&self) -> Option<PathBuf> {
        fs::read_to_string(self.path("packages"))
            .ok()
            .map(PathBuf::from)
    }

    /// Whether the lab has been started completely.
    pub fn is_up(&self) -> bool {
        self.qemu().is_some() && self.path("ready").exists()
    }

    /// Creates an empty folder.
    pub fn create(&self) -> Result<()> {
        self.remove()?;
        for folder in [
            self.folder.clone(),
            self.share().join("jobs"),
            self.share().join("request"),
            self.share().join("gpu"),
        ] {
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot create '{}'", folder.display()))?;
        }
        Ok(())
    }

    /// Removes the folder and all in it.
    pub fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove '{}'", self.folder.display()))
            }
            _ => Ok(()),
        }
    }

    /// Stops each process that this lab recorded, the last one first.
    pub fn stop(&self) -> Result<usize> {
        let alive: Vec<Process> = process::recorded_in(&self.folder)
            .into_iter()
            .filter(Process::is_alive)
            .collect();
        for process in alive.iter().rev() {
            process.stop()?;
        }
        Ok(alive.len())
    }

    /// Locks this lab: only one command at a time may start or stop it.
    pub fn lock(&self) -> Result<Flock<File>> {
        fs::create_dir_all(ROOT).with_context(|| format!("cannot create '{ROOT}'"))?;
        let path = Path::new(ROOT).join(format!("{}.lock", self.name));
        let file =
            File::create(&path).with_context(|| format!("cannot create '{}'", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(lock),
            Err((file, _)) => {
                let step = Step::begin(format!(
                    "waiting for another command that starts or stops lab '{}'",
                    self.name
                ));
                let lock = Flock::lock(file, FlockArg::LockExclusive)
                    .map_err(|(_, error)| error)
                    .with_context(|| format!("cannot lock '{}'", path.display()))?;
                step.done();
                Ok(lock)
            }
        }
    }
}

/// All labs that have a folder.
pub fn all() -> Vec<State> {
    let Ok(entries) = fs::read_dir(ROOT) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
        .iter()
        .filter_map(|name| State::new(name).ok())
        .collect()
}

/// Artefacts that running labs use (each lab lists its own in `artefacts`).
pub fn artefacts_in_use() -> HashSet<PathBuf> {
    all()
        .iter()
        .filter(|state| state.qemu().is_some())
        .filter_map(|state| fs::read_to_string(state.path("artefacts")).ok())
        .flat_map(|text| text.lines().map(PathBuf::from).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_the_folder() {
        for name in ["", "..", "a/b", "a b", "."] {
            assert!(State::new(name).is_err(), "{name}");
        }
        assert!(State::new("ci-2").is_ok());
    }
}
