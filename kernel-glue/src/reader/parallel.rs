//! Reads the PCI functions of a large host in several threads.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::thread;

use super::Reader;
use crate::address::PciAddress;
use crate::device::Device;
use crate::directory_cache::DirectoryCache;
use crate::failure::Failure;
use crate::sysfs::Root;

/// The functions for which a thread is worth its start: it takes about as long as two of them.
const EACH: usize = 128;

/// The result of one thread.
struct Part {
    devices: BTreeMap<PciAddress, Device>,
    gaps: BTreeMap<String, String>,
    exhausted: Option<Failure>,
}

impl Reader<'_> {
    /// All devices. The result does not depend on the number of threads.
    pub(super) fn devices(&mut self, names: &[String]) -> BTreeMap<PciAddress, Device> {
        // Only a large host asks for the processors: that reads the limits of the process's control group.
        let threads = match names.len() / EACH {
            0 | 1 => 1,
            wanted => thread::available_parallelism().map_or(1, |most| wanted.min(most.get())),
        };
        match self.tree.shared() {
            Some(root) if threads > 1 => self.devices_by_threads(root, names, threads),
            _ => self.devices_named(names),
        }
    }

    fn devices_by_threads(
        &mut self,
        root: &Root,
        names: &[String],
        threads: usize,
    ) -> BTreeMap<PciAddress, Device> {
        // The gaps of a recording are known before its files are read.
        let recorded = &self.gaps;
        let parts: Vec<Part> = thread::scope(|scope| {
            let chunks = names.chunks(names.len().div_ceil(threads));
            let started: Vec<_> = chunks
                .map(|names| scope.spawn(|| part(root, recorded.clone(), names)))
                .collect();
            let joined = started.into_iter().map(thread::ScopedJoinHandle::join);
            joined
                .map(|part| part.unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        });
        let mut devices = BTreeMap::new();
        for part in parts {
            devices.extend(part.devices);
            self.gaps.extend(part.gaps);
            self.exhausted = self.exhausted.take().or(part.exhausted);
        }
        devices
    }
}

fn part(root: &Root, gaps: BTreeMap<String, String>, names: &[String]) -> Part {
    let tree = DirectoryCache::new(root);
    let mut reader = Reader {
        tree: &tree,
        gaps,
        exhausted: None,
    };
    let devices = reader.devices_named(names);
    Part {
        devices,
        gaps: reader.gaps,
        exhausted: reader.exhausted,
    }
}
