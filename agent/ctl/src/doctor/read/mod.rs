//! Reads the facts for the checks from files below a root, libvirt and the agent. Changes nothing, starts nothing, opens no
//! device; must not rename unreadable files.

mod boot;
mod bus;
mod fact;
mod grace;
mod hook;
mod journal;
mod module;
mod process;
mod security;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kernel_glue::address::PciAddress;
use kernel_glue::capacity::Capacity;
use kernel_glue::failure::{Failure, describe};
use kernel_glue::firmware;
use kernel_glue::host::Host;
use kernel_glue::occupancy::Occupancy;
use kernel_glue::record;
use kernel_glue::sysfs::Root;
use nix::errno::Errno;

use super::grace::is_grace;
use super::scene::{Guest, Libvirt, Scene, Seen, Unavailable};
use crate::inquiry;
use agent::libvirt::{Defined, LookError};
use agent::reserve::Reservations;
use planner::from_libvirt::Networks;
use planner::recipe::Recipes;
use planner::stack::Stack;
use settings::config::Config;

/// libvirt's time limit: a list of domains waits for every start in progress.
const TIMEOUT: Duration = Duration::from_secs(10);
const URI: &str = "qemu:///system";
/// Places of the bus policy.
const POLICIES: [&str; 2] = [
    "usr/share/dbus-1/system.d/org.variantd1.conf",
    "etc/dbus-1/system.d/org.variantd1.conf",
];
/// Links to the units that start with the host.
const WANTS: &str = "etc/systemd/system/multi-user.target.wants";
/// Maximum size of a recording's list of unread paths; it has about 100 of them.
const MAX_UNREAD: usize = 1 << 20;

/// The places to read.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// `/`, or the directory of a recorded host.
    pub root: PathBuf,
    /// The host of a snapshot, which has no files.
    pub host: Option<Host>,
    /// The CPUs and huge pages of a snapshot, if it has them.
    pub capacity: Option<Capacity>,
    /// What libvirt and QEMU can express, if it is known.
    pub stack: Option<Stack>,
    /// The directory of the administrator's recipes.
    pub recipes: PathBuf,
    /// The reservations.
    pub reservations: Reservations,
}

/// Files below the root. On a live host a missing file does not exist; in a recording it may not be recorded.
struct Look {
    root: Root,
    live: bool,
    /// The paths that a recording says it could not store, with the reasons; `None` for a live host, and for a recording of an
    /// earlier release, which does not say it.
    unread: Option<BTreeMap<String, String>>,
}

pub(crate) use fact::facts;

/// Reads everything; reports each stage that may take long.
///
/// # Errors
/// When there are no PCI devices at all.
pub(crate) fn scene(places: Places, stage: &dyn Fn(&str)) -> Result<Scene, Failure> {
    let (root, host, capacity) = match places.host {
        Some(host) => {
            let capacity = places.capacity.ok_or_else(Unavailable::not_recorded);
            (Root::empty(places.root.clone()), host, capacity)
        }
        None => {
            let host = Host::read(&places.root)?;
            let read = Capacity::read(&places.root, &host.numa);
            let capacity = read.map_err(|failure| Unavailable::of(&failure));
            (Root::new(places.root.clone())?, host, capacity)
        }
    };
    let live = places.root == Path::new("/");
    let look = Look::new(root, live);
    let (recipes, settings, allow_group) = settings(&places.recipes);
    let covered = addresses(&host, &recipes);
    let boot = boot::read(&look);
    let modules = module::read(&look, &host, &boot, module::names(&host, &recipes));
    let daemon = look.if_live(|| Ok(process::daemon(&look.root)));
    stage("asking libvirt for its domains");
    let mut libvirt = look.if_live(|| libvirt(&host, &recipes, &look));
    // After libvirt, because the agent is asked for its plan of each domain.
    let domains = domains(&mut libvirt);
    stage(&format!("asking variantd about {} domains", domains.len()));
    let agent = look.if_live(|| bus::agent(&look, domains));
    let in_use = |number: usize| {
        let all = covered.len();
        stage(&format!(
            "reading which processes use device {number} of {all}"
        ));
    };
    let mut scene = Scene {
        egm_class: look.exists("sys/class/egm"),
        platform: None,
        recorded: (!look.live).then(|| places.root.clone()),
        occupancy: occupancy(&look, covered.iter(), in_use),
        memory_named: memory_named(&look),
        hook: hook::read(&look),
        policy: policy(&look),
        security: look.if_live(|| security::read(&look)),
        enabled: enabled(&look),
        journal: journal::read(&look, &places.root),
        reservations: reservations(&look, &places.reservations),
        stack: places.stack,
        host,
        capacity,
        recipes,
        settings,
        allow_group,
        boot,
        modules,
        daemon,
        libvirt,
        agent,
    };
    let release = scene.host.kernel_release.as_deref();
    let platform = is_grace(&scene).then(|| grace::read(&look, release));
    scene.platform = platform;
    Ok(scene)
}

/// The rules in force, or the shipped recipes and why the others cannot be used.
fn settings(recipes: &Path) -> (Recipes, Result<(), String>, bool) {
    let config = Config::read(&recipes.with_file_name("variantd.conf"));
    let config = config.map_err(|error| error.to_string());
    let loaded = config.and_then(|config| {
        let all = settings::recipes::load(recipes).and_then(|all| all.extended(&config.devices));
        let all = all.map_err(|error| error.to_string())?;
        Ok((all, config.allow_group))
    });
    match loaded {
        Ok((recipes, allow_group)) => (recipes, Ok(()), allow_group),
        Err(why) => {
            let shipped = Recipes::shipped().expect("a test reads the shipped recipes");
            (shipped, Err(why), false)
        }
    }
}

fn occupancy<'a>(
    look: &Look,
    devices: impl Iterator<Item = &'a PciAddress>,
    stage: impl Fn(usize),
) -> BTreeMap<PciAddress, Seen<Occupancy>> {
    let one = |(index, device): (usize, &PciAddress)| {
        stage(index + 1);
        let read = Occupancy::read_root(&look.root, *device);
        let seen = match read {
            Ok(one) if look.live || one.holders.seen > 0 => Ok(one),
            Err(failure) if look.live || !failure.is_absent() => Err(Unavailable::of(&failure)),
            Ok(_) | Err(_) => Err(Unavailable::not_recorded()),
        };
        (*device, seen)
    };
    devices.enumerate().map(one).collect()
}

fn memory_named(look: &Look) -> Seen<bool> {
    match firmware::names_memory(&look.root) {
        Some(named) => Ok(named),
        None if look.live => Err(Unavailable::to_others("ACPI tables: run it as root")),
        None => Err(look
            .reason(firmware::TABLES)
            .unwrap_or_else(Unavailable::not_recorded)),
    }
}

/// Addresses of the covered devices.
fn addresses(host: &Host, recipes: &Recipes) -> Vec<PciAddress> {
    let covered = recipes.covered(host);
    covered.map(|(device, _)| device.address).collect()
}

fn libvirt(host: &Host, recipes: &Recipes, files: &Look) -> Seen<Libvirt> {
    match inquiry::look(URI, addresses(host, recipes), TIMEOUT) {
        Ok(found) => Ok(Libvirt::Answers {
            versions: found.versions,
            domains: definitions(found.domains, found.networks),
        }),
        // Neither says that libvirt is broken: another user may be allowed, and a start in progress delays the list.
        Err(why @ (LookError::Denied(_) | LookError::Late(_))) => {
            Err(Unavailable::because(why.to_string()))
        }
        Err(LookError::Broken(why)) => Ok(Libvirt::Unasked {
            why,
            unloaded: false,
        }),
        Err(LookError::Unloaded(why)) => Ok(Libvirt::Unasked {
            why,
            unloaded: true,
        }),
        Err(LookError::Failed(why)) => Ok(Libvirt::Failed {
            unit: unit(files),
            why,
        }),
        Err(LookError::Silent(why)) => Ok(Libvirt::Silent {
            unit: unit(files),
            why,
        }),
    }
}

fn definitions(found: Vec<Defined>, networks: Option<Networks>) -> Vec<Guest> {
    let networks = networks.map(Arc::new);
    let found = found.into_iter();
    found.map(|one| Guest::new(one, networks.clone())).collect()
}

/// The unit that starts libvirt's daemon here.
fn unit(look: &Look) -> Option<String> {
    let programs = ["libvirtd", "virtqemud"];
    let there = |name: &&str| look.root.has(&format!("usr/sbin/{name}"));
    programs.into_iter().find(there).map(str::to_owned)
}

fn domains(libvirt: &mut Seen<Libvirt>) -> &mut [Guest] {
    match libvirt {
        Ok(Libvirt::Answers { domains, .. }) => domains,
        _ => &mut [],
    }
}

fn policy(look: &Look) -> Seen<bool> {
    match POLICIES.into_iter().any(|path| look.root.has(path)) {
        true => Ok(true),
        false => look
            .missing(POLICIES[0], "usr/share/dbus-1")
            .map(|()| false),
    }
}

fn enabled(look: &Look) -> Seen<Vec<String>> {
    match look.root.list(WANTS) {
        Ok(names) => Ok(names
            .iter()
            .filter_map(|name| name.strip_suffix(".service"))
            .map(str::to_owned)
            .collect()),
        Err(failure) if failure.is_absent() => look.absent(WANTS).map(|()| Vec::new()),
        Err(failure) => Err(Unavailable::of(&failure)),
    }
}

fn reservations(
    look: &Look,
    places: &Reservations,
) -> Seen<Vec<Result<agent::reserve::Reservation, String>>> {
    let all = places.all().into_iter();
    let all: Vec<_> = all
        .map(|one| one.map_err(|error| error.to_string()))
        .collect();
    match all.is_empty() {
        true => look.absent("etc/variantd").map(|()| all),
        false => Ok(all),
    }
}

impl Look {
    fn new(root: Root, live: bool) -> Self {
        // A live host has all its files; such a list would be a foreign file.
        let list = root
            .bytes(record::UNREAD, MAX_UNREAD)
            .ok()
            .filter(|_| !live);
        let unread = list.map(|list| {
            let text = String::from_utf8_lossy(&list);
            let lines = text.lines().filter_map(|line| line.split_once(": "));
            let paths = lines.filter_map(|(path, reason)| Some((path.strip_prefix('/')?, reason)));
            let owned = paths.map(|(path, reason)| (path.to_owned(), reason.to_owned()));
            owned.collect()
        });
        Self { root, live, unread }
    }

    /// A fact that only the running host has.
    fn if_live<T>(&self, ask: impl FnOnce() -> Seen<T>) -> Seen<T> {
        match self.live {
            true => ask(),
            false => Err(Unavailable::not_recorded()),
        }
    }

    /// Passes when a missing file is known not to exist: on this host, and in a recording that has it among its unread paths. A
    /// recording without such a list must have `sign`.
    fn missing(&self, path: &str, sign: &str) -> Seen<()> {
        let is_recorded = match &self.unread {
            None => self.live || self.root.has(sign),
            Some(unread) => unread.get(path).is_some_and(|reason| *reason == absence()),
        };
        match is_recorded {
            true => Ok(()),
            false => Err(self.reason(path).unwrap_or_else(Unavailable::not_recorded)),
        }
    }

    /// As [`Self::missing`], for a file that is its own sign.
    fn absent(&self, path: &str) -> Seen<()> {
        self.missing(path, path)
    }

    /// Why a recording does not have a path.
    fn reason(&self, path: &str) -> Option<Unavailable> {
        let reason = self.unread.as_ref()?.get(path)?;
        Some(Unavailable::of_reason("", reason))
    }

    /// Whether a path exists.
    fn exists(&self, path: &str) -> Seen<bool> {
        match self.root.exists(path) {
            Ok(true) => Ok(true),
            Ok(false) => self.absent(path).map(|()| false),
            Err(failure) => Err(Unavailable::of(&failure)),
        }
    }

    /// A text file; `None` when it is known not to exist.
    fn text(&self, path: &str, sign: &str) -> Seen<Option<String>> {
        match self.root.text(path) {
            Ok(text) => Ok(Some(text)),
            Err(failure) if failure.is_absent() => self.missing(path, sign).map(|()| None),
            Err(failure) => Err(Unavailable::of(&failure)),
        }
    }
}

/// The reason of a path that does not exist.
fn absence() -> String {
    describe(Errno::ENOENT)
}

impl Unavailable {
    fn not_recorded() -> Self {
        Self::because("not recorded")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Root;

    /// A root with these files: path below it and text.
    pub(super) fn root_with(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().expect("directory");
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            fs::write(path, text).expect("file");
        }
        let root = Root::new(directory.path().to_owned()).expect("root");
        (directory, root)
    }
}
