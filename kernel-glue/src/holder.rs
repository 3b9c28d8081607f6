//! Finds the processes that hold a device: they have one of its nodes open or mapped.
//!
//! Reads `/proc`, which changes meanwhile: a process that ends is not an error, and one that this user may not inspect
//! is counted. Follows proc(5).

mod node;
mod process;

use std::fmt;

use nix::errno::Errno;

use crate::address::PciAddress;
use crate::failure::Failure;
use crate::numa::NumaNode;
use crate::sysfs::Root;

pub(crate) use node::{NVIDIA, is_alone, optional};
pub(crate) use process::vfio_device;

use node::Nodes;

/// The holders of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// The processes, by id.
    pub found: Vec<Holder>,
    /// Number of processes that could not be inspected; that needs CAP_SYS_PTRACE.
    pub hidden: usize,
    /// Number of processes that were inspected; 0 in a recorded host.
    pub seen: usize,
}

/// A process that holds a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub process: u32,
    /// The name of its program, bounded and printable.
    pub command: String,
    /// The systemd unit it runs in; below `user.slice` the user's own manager or the session.
    pub unit: Option<String>,
    /// The nodes that it holds, in the order of `/proc/PID/fd`.
    pub nodes: Vec<HeldNode>,
}

/// A node that a process holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldNode {
    /// The node's path.
    pub path: String,
    /// The descriptor; `None` if the node is only mapped.
    pub descriptor: Option<u32>,
    /// The node belongs to all devices of its driver, so the process may use another device.
    pub shared: bool,
}

impl Holders {
    /// Finds the holders of `device` below `root`.
    ///
    /// # Errors
    /// The device's directory or `/proc` cannot be read.
    pub(crate) fn read(root: &Root, device: PciAddress) -> Result<Self, Failure> {
        let nodes = Nodes::read(root, device)?;
        let mut holders = Self::default();
        if nodes.is_empty() {
            return Ok(holders);
        }
        holders.search(root, |process| process::holder(root, process, &nodes))?;
        Ok(holders)
    }

    /// Finds the processes that have memory of a NUMA node, from the lists of their mappings (`/proc/PID/numa_maps`). Takes
    /// as long as the kernel needs to walk the page tables of all processes: only for a message.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub(crate) fn of_memory(root: &Root, node: NumaNode) -> Result<Self, Failure> {
        let mut users = Self::default();
        users.search(root, |process| process::user(root, process, node))?;
        Ok(users)
    }

    /// Adds the processes for which `read` returns a holder, and counts those that it cannot read.
    fn search(
        &mut self,
        root: &Root,
        read: impl Fn(u32) -> Result<Option<Holder>, Errno>,
    ) -> Result<(), Failure> {
        let failure = |source| Failure::io("list", &root.path().join("proc"), source);
        for name in root.entries("proc").map_err(failure)? {
            let Ok(process) = name.map_err(failure)?.parse() else {
                continue;
            };
            self.seen += 1;
            match read(process) {
                Ok(holder) => self.found.extend(holder),
                // Any error: a process whose files are unknown may hold the device.
                Err(_) => self.hidden += 1,
            }
        }
        self.found.sort_by_key(|holder| holder.process);
        Ok(())
    }
}

impl Holder {
    /// True if one of its nodes belongs to the device alone.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.nodes.iter().any(|node| !node.shared)
    }
}

impl fmt::Display for Holder {
    /// Prints for example `nvidia-persistenced (pid 2211, nvidia-persistenced.service, '/dev/nvidia0' as fd 4)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}", self.command, self.process)?;
        if let Some(unit) = &self.unit {
            write!(f, ", {unit}")?;
        }
        let certain = self.nodes.iter().find(|node| !node.shared);
        if let Some(node) = certain.or(self.nodes.first()) {
            write!(f, ", {node}")?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for HeldNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.descriptor {
            Some(number) => write!(f, "'{}' as fd {number}", self.path),
            None => write!(f, "'{}' mapped", self.path),
        }
    }
}

/// True for the errno of a process that has ended.
fn gone(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ESRCH)
}

#[cfg(test)]
mod tests;
