//! Reads one process from `/proc`: the nodes that it holds, its program, its unit.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::node::Nodes;
use super::{HeldNode, Holder, gone};
use crate::address::PciAddress;
use crate::directory_cache::DirectoryCache;
use crate::numa::NumaNode;
use crate::sysfs::{Root, Tree};

/// Maximum size of a list of mappings; 65,530 mappings, the kernel's limit, have about 8 MiB.
const MAX_MAPS: u64 = 16 << 20;
/// Bytes of a command line that are read; only its first argument counts.
const COMMAND_HEAD: usize = 4096;
/// Maximum length of a printed name.
const MAX_NAME: usize = 64;
/// Maximum length of a unit name (systemd, UNIT_NAME_MAX).
const MAX_UNIT: usize = 255;

/// The process as a holder; `None` if it holds none of the nodes, or has ended.
pub(super) fn holder(root: &Root, process: u32, nodes: &Nodes) -> Result<Option<Holder>, Errno> {
    if is_kernels(root, process) {
        return Ok(None);
    }
    let mut held = ended(opened(root, process, nodes))?;
    // Only then: the list of mappings takes the process's mmap lock, and a large QEMU has many mappings.
    if held.is_empty() && nodes.can_be_mapped() {
        held = ended(mapped(root, process, nodes))?;
    }
    if held.is_empty() {
        return Ok(None);
    }
    Ok(Some(Holder {
        process,
        command: command(root, process),
        unit: unit(root, process),
        nodes: held,
    }))
}

/// The process as a user of a NUMA node's memory, without nodes of `/dev`; `None` if it has none of it, or has ended.
pub(super) fn user(root: &Root, process: u32, node: NumaNode) -> Result<Option<Holder>, Errno> {
    if is_kernels(root, process) {
        return Ok(None);
    }
    let uses = match has_memory(root, process, node) {
        Err(errno) if gone(errno) => false,
        other => other?,
    };
    Ok(uses.then(|| Holder {
        process,
        command: command(root, process),
        unit: unit(root, process),
        nodes: Vec::new(),
    }))
}

/// Whether a mapping has pages of the node: a word such as `N4=512`. In the words of files the kernel escapes blanks
/// (fs/proc/task_mmu.c, `show_numa_map`).
fn has_memory(root: &Root, process: u32, node: NumaNode) -> Result<bool, Errno> {
    let file = root.open(&format!("proc/{process}/numa_maps"), OFlag::O_RDONLY);
    let file = file.map_err(|error| raw(&error))?;
    let word = format!("N{node}=");
    for line in BufReader::new(File::from(file).take(MAX_MAPS)).split(b'\n') {
        let line = line.map_err(|error| raw(&error))?;
        let mut words = line.split(|byte| *byte == b' ');
        if words.any(|one| one.starts_with(word.as_bytes())) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// True for a kernel thread, which has neither files nor mappings: like a process that has ended, it has no program. A
/// host has more kernel threads than other processes.
fn is_kernels(root: &Root, process: u32) -> bool {
    let program = DirectoryCache::new(root).link(&format!("proc/{process}/exe"));
    program.is_err_and(|failure| failure.is_absent())
}

/// Returns nothing if the process has ended.
fn ended(held: Result<Vec<HeldNode>, Errno>) -> Result<Vec<HeldNode>, Errno> {
    match held {
        Err(errno) if gone(errno) => Ok(Vec::new()),
        other => other,
    }
}

fn opened(root: &Root, process: u32, nodes: &Nodes) -> Result<Vec<HeldNode>, Errno> {
    let dir = format!("proc/{process}/fd");
    let mut held = Vec::new();
    for link in root.links(&dir).map_err(|error| raw(&error))? {
        let (name, Some(target)) = link.map_err(|error| raw(&error))? else {
            continue;
        };
        let mut found = nodes.find(&target);
        if found.is_none() && nodes.device.is_some() {
            let device = vfio_device(root, process, &name, &target)?;
            found = (device == nodes.device).then_some((&*target, false));
        }
        if let Some((path, shared)) = found {
            held.push(HeldNode {
                path: path.to_owned(),
                descriptor: name.parse().ok(),
                shared,
            });
        }
    }
    held.sort_by_key(|node| node.descriptor);
    Ok(held)
}

/// The device that VFIO opened for a descriptor. It stays open after the group's descriptor is closed. Kernels before
/// 6.18 do not report it (drivers/vfio/vfio_main.c, `vfio_device_show_fdinfo`).
pub(crate) fn vfio_device(
    root: &Root,
    process: u32,
    descriptor: &str,
    target: &str,
) -> Result<Option<PciAddress>, Errno> {
    // The name that drivers/vfio/group.c gives the file of VFIO_GROUP_GET_DEVICE_FD.
    if target != "anon_inode:[vfio-device]" {
        return Ok(None);
    }
    let text = match root.text(&format!("proc/{process}/fdinfo/{descriptor}")) {
        Ok(text) => text,
        // A process that has ended answers ESRCH.
        Err(failure) if failure.is_absent() || failure.errno() == Some(Errno::ESRCH) => {
            return Ok(None);
        }
        Err(failure) => return Err(failure.errno().unwrap_or(Errno::EIO)),
    };
    let mut lines = text.lines();
    let path = lines.find_map(|line| line.strip_prefix("vfio-device-syspath:"));
    Ok(path
        .and_then(|path| path.rsplit('/').next())
        .and_then(|name| name.parse().ok()))
}

/// A node can stay mapped after its descriptor was closed, and is then still in use.
fn mapped(root: &Root, process: u32, nodes: &Nodes) -> Result<Vec<HeldNode>, Errno> {
    let path = format!("proc/{process}/maps");
    let file = root.open(&path, OFlag::O_RDONLY);
    let file = file.map_err(|error| raw(&error))?;
    let mut held: Vec<HeldNode> = Vec::new();
    for line in BufReader::new(File::from(file).take(MAX_MAPS)).split(b'\n') {
        let line = line.map_err(|error| raw(&error))?;
        let line = String::from_utf8_lossy(&line);
        let found = line.find('/').and_then(|at| nodes.find(&line[at..]));
        if let Some((path, shared)) = found
            && !held.iter().any(|node| node.path == path)
        {
            held.push(HeldNode {
                path: path.to_owned(),
                descriptor: None,
                shared,
            });
        }
    }
    Ok(held)
}

/// The program's file name; the kernel's short name if there is no command line.
fn command(root: &Root, process: u32) -> String {
    let line = root.head(&format!("proc/{process}/cmdline"), COMMAND_HEAD);
    let line = line.unwrap_or_default();
    let line = String::from_utf8_lossy(&line);
    // A program that sets its title (setproctitle) leaves one text with blanks instead of arguments.
    let word = line.split(['\0', ' ']).next().unwrap_or_default();
    let name = printable(word.rsplit('/').next().unwrap_or_default());
    if !name.is_empty() {
        return name;
    }
    let short = root.text(&format!("proc/{process}/comm"));
    printable(&short.unwrap_or_else(|_| "a process".to_owned()))
}

fn printable(text: &str) -> String {
    let plain = text.chars().filter(|c| !c.is_control());
    plain.take(MAX_NAME).collect()
}

/// The unit in the cgroup's path; `None` outside systemd's.
fn unit(root: &Root, process: u32) -> Option<String> {
    let text = root.text(&format!("proc/{process}/cgroup")).ok()?;
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        // With cgroup v1 beside v2, all processes are in the root of v2, and systemd's own v1 hierarchy has the unit.
        .filter(|path| *path != "/")
        .or_else(|| {
            text.lines()
                .find_map(|line| line.split_once(":name=systemd:"))
                .map(|(_, path)| path)
        })?;
    let is_unit = |name: &&str| name.ends_with(".service") || name.ends_with(".scope");
    let mut units = path.split('/').filter(is_unit);
    let unit = match path.starts_with("/user.slice/") {
        // `user@1000.service/app.slice/...`: systemctl of the system knows only the first one.
        true => units.next(),
        false => units.next_back(),
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    unit.filter(|unit| unit.len() <= MAX_UNIT && unit.chars().all(allowed))
        .map(str::to_owned)
}

fn raw(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
