//! The versions of libvirt and QEMU, reported by libvirt and stored for when it cannot be reached.
//!
//! At boot libvirt starts guests, and calls the hook, before it accepts a connection.

use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use tracing::warn;

use domain::code::Code;
use domain::refusal::Refusal;
use planner::target::Versions;
use settings::file;

/// libvirt's last report, now or before the last reboot.
#[derive(Debug)]
pub struct KnownVersions {
    path: PathBuf,
    versions: RwLock<Option<Versions>>,
}

impl KnownVersions {
    /// Loads the content of `path`; empty if there is no such file.
    #[must_use]
    pub fn load(path: PathBuf) -> Self {
        let text = file::read(&path).unwrap_or_default();
        let versions = RwLock::new(text.trim().parse().ok());
        Self { path, versions }
    }

    /// Stores the versions that libvirt reports.
    pub fn learn(&self, versions: Versions) {
        let mut kept = self
            .versions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if *kept == Some(versions) {
            return;
        }
        *kept = Some(versions);
        let text = format!("libvirt={},qemu={}\n", versions.libvirt, versions.qemu);
        if let Err(error) = file::replace(&self.path, &text, 0o644) {
            warn!("cannot write '{}': {error}", self.path.display());
        }
    }

    /// The versions.
    ///
    /// # Errors
    /// libvirt was never reached on this host.
    pub fn versions(&self) -> Result<Versions, Refusal> {
        let kept = *self.versions.read().unwrap_or_else(PoisonError::into_inner);
        kept.ok_or_else(|| {
            let reason = "the versions of libvirt and QEMU are unknown";
            let hint = "retry when 'virsh version' works";
            Refusal::new(Code::TargetUnknown, reason, hint)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_versions_survive_a_restart() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("versions");
        let known_versions = KnownVersions::load(path.clone());
        assert!(known_versions.versions().is_err());
        known_versions.learn(Versions::NEWEST_TESTED);
        let again = KnownVersions::load(path).versions();
        assert_eq!(again, Ok(Versions::NEWEST_TESTED));
    }
}
