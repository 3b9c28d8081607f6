//! The host snapshot in the run directory, for programs without root permission or access to libvirt.

use std::path::{Path, PathBuf};

use kernel_glue::host::Host;
use planner::fingerprint::Fingerprint;

use crate::context::Context;
use crate::inventory::PublishError;
use crate::reserve::Reservations;
use settings::config::Mode;
use settings::file;

pub use settings::snapshot::{FILE, MAX_BYTES, Runs, Snapshot, VERSION};

/// The last published snapshot, so that only a change is written.
#[derive(Debug)]
pub struct Published {
    path: PathBuf,
    last: Option<(Mode, Fingerprint)>,
}

impl Published {
    /// Publishes in the run directory.
    #[must_use]
    pub fn new(run: &Path) -> Self {
        Self {
            path: run.join(FILE),
            last: None,
        }
    }

    /// Replaces the file if the host has changed; true if it did.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn update(
        &mut self,
        context: &Context,
        host: Host,
        reservations: &Reservations,
    ) -> Result<bool, PublishError> {
        let mode = context.rules().config.snapshot_mode;
        let mut runs = Runs::here(None);
        if let Ok(stack) = context.stack() {
            runs.set_pair(stack);
        }
        let usable = reservations.all().into_iter().flatten().collect();
        let text = Snapshot::new(host, runs, usable).text();
        let now = (mode, Fingerprint::of(&text));
        if self.last == Some(now) {
            return Ok(false);
        }
        let written = file::replace_up_to(MAX_BYTES as u64, &self.path, &text, mode.bits());
        written.map_err(|why| PublishError::Write {
            path: self.path.display().to_string(),
            why,
        })?;
        self.last = Some(now);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use std::sync::Arc;

    use super::*;
    use crate::fixture::{GPU, address, context};
    use crate::stack::known::{Found, Key, KnownStack};
    use planner::stack::{Feature, How, Stack, Value};
    use settings::config::Config;

    fn inode(path: &Path) -> u64 {
        fs::metadata(path).expect("published").ino()
    }

    #[test]
    fn snapshot_is_published_again_only_after_a_change() {
        let (run, context) = context(Config::default());
        let none = Reservations::new(run.path().join("reserved.d"));
        let mut published = Published::new(run.path());
        let path = run.path().join(FILE);
        assert!(
            published
                .update(&context, context.host().expect("host"), &none)
                .expect("written")
        );
        let first = inode(&path);
        assert!(
            !published
                .update(&context, context.host().expect("host"), &none)
                .expect("looked")
        );
        assert_eq!(inode(&path), first, "an unchanged host writes nothing");
        let read = Snapshot::read(&path).expect("a snapshot");
        assert_eq!(read.host, context.host().expect("host"));
        assert_eq!(read.target.versions, context.known_versions.versions().ok());
        let reserved = format!("device = \"{GPU}\"\nid = \"10de:2342\"\n");
        let reservation = run.path().join(format!("reserved.d/{GPU}.toml"));
        file::replace(&reservation, &reserved, 0o644).expect("reserved");
        assert!(
            published
                .update(&context, context.host().expect("host"), &none)
                .expect("written")
        );
        let read = Snapshot::read(&path).expect("a snapshot");
        assert_eq!(read.reservations[0].device, address(GPU));
    }

    #[test]
    fn snapshot_and_plans_use_the_stack_that_was_found() {
        let (run, mut context) = context(Config::default());
        let versions = context.known_versions.versions().expect("versions");
        assert_eq!(context.stack(), Ok(Stack::assumed(versions)));
        fs::write(run.path().join("qemu"), "QEMU").expect("written");
        let key = Key::now(run.path(), Path::new("/qemu"), versions.libvirt).expect("a key");
        let mut stack = Stack::assumed(versions);
        let sorted = stack.set(Feature::InitiatorOrder, Value::Has(true), How::Asked);
        sorted.expect("an answer");
        let known = KnownStack::load(run.path().to_owned(), run.path().join("stack.json"));
        let notes = Vec::new();
        known.learn(Found { key, stack, notes });
        Arc::get_mut(&mut context).expect("one owner").known_stack = known;
        assert_eq!(context.stack(), Ok(stack));
        let none = Reservations::noted(Vec::new());
        let host = context.host().expect("host");
        let mut published = Published::new(run.path());
        published.update(&context, host, &none).expect("written");
        let read = Snapshot::read(&run.path().join(FILE)).expect("a snapshot");
        assert_eq!(read.target.pair(), Some(stack));
    }

    #[test]
    fn its_mode_is_the_configurations() {
        let mode = |text: &str| Mode::try_from(text.to_owned()).expect("a mode");
        let (run, context) = context(Config {
            snapshot_mode: mode("0640"),
            ..Config::default()
        });
        let none = Reservations::noted(Vec::new());
        Published::new(run.path())
            .update(&context, context.host().expect("host"), &none)
            .expect("written");
        let found = fs::metadata(run.path().join(FILE)).expect("published");
        assert_eq!(found.permissions().mode() & 0o777, 0o640);
    }
}
