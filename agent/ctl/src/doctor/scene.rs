//! What was read for the checks: plain values, each with the reason where it could not be seen.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use kernel_glue::address::PciAddress;
use kernel_glue::device::Device;
use kernel_glue::failure::{Failure, is_denied};
use kernel_glue::host::Host;
use kernel_glue::occupancy::Occupancy;

use agent::libvirt::Defined;
use agent::record::DeviceRecord;
use agent::reserve::Reservation;
use domain::Definition;
use domain::code::Code;
use domain::refusal::Refusal;
use planner::from_libvirt::{FromLibvirt, Networks};
use planner::recipe::{Recipe, Recipes};
use planner::target::Versions;

/// What was seen, or why not.
pub(crate) type Seen<T> = Result<T, Unavailable>;

/// Why something could not be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unavailable {
    /// In words.
    pub why: String,
    /// Root would see it.
    pub needs_root: bool,
}

impl Unavailable {
    /// Root would not see it either.
    pub(crate) fn because(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            needs_root: false,
        }
    }

    /// Root would see it.
    pub(crate) fn to_others(why: impl Into<String>) -> Self {
        Self {
            needs_root: true,
            ..Self::because(why)
        }
    }

    /// A file could not be read.
    pub(super) fn of(failure: &Failure) -> Self {
        Self {
            why: failure.reason(),
            needs_root: failure.is_denied(),
        }
    }

    /// The reason that a file could not be read for, as a host has it that may be recorded; behind these words.
    pub(super) fn of_reason(words: &str, reason: &str) -> Self {
        Self {
            why: format!("{words}{reason}"),
            needs_root: is_denied(reason),
        }
    }
}

/// Everything that the checks look at.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    /// The directory of a recorded host.
    pub recorded: Option<PathBuf>,
    /// The host.
    pub host: Host,
    /// The recipes in force, or the shipped ones.
    pub recipes: Recipes,
    /// Why configuration and recipes of the host cannot be used.
    pub settings: Result<(), String>,
    /// The administrator lets the rest of a device's group go with it.
    pub allow_group: bool,
    /// How the host was started, and its memory.
    pub boot: Boot,
    /// Modules of the drivers that recipes name, by name with underscores.
    pub modules: BTreeMap<String, Module>,
    /// Who uses each device that a recipe covers.
    pub occupancy: BTreeMap<PciAddress, Seen<Occupancy>>,
    /// A firmware table names the memory of Grace GPUs.
    pub memory_named: Seen<bool>,
    /// libvirt, as it answers.
    pub libvirt: Seen<Libvirt>,
    /// libvirt's daemon.
    pub daemon: Seen<Option<Daemon>>,
    /// libvirt's qemu hook.
    pub hook: Seen<Hook>,
    /// The agent.
    pub agent: Seen<Agent>,
    /// The bus policy is installed.
    pub policy: Seen<bool>,
    /// Units that are enabled.
    pub enabled: Seen<Vec<String>>,
    /// What is journalled.
    pub journal: Seen<Journal>,
    /// Reservations, each as it is or why it cannot be used.
    pub reservations: Seen<Vec<Result<Reservation, String>>>,
}

/// How the host was started.
#[derive(Clone, Debug)]
pub(crate) struct Boot {
    /// Who made the processor.
    pub vendor: Vendor,
    /// The kernel's command line.
    pub command_line: Seen<String>,
    /// VFIO takes devices without an IOMMU.
    pub no_iommu: Seen<bool>,
    /// VFIO takes devices whose interrupts are not isolated.
    pub unsafe_interrupts: Seen<bool>,
    /// Memory.
    pub memory: Seen<Memory>,
}

/// Who made a processor, as far as hints differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum Vendor {
    Intel,
    Amd,
    Arm,
    Unknown,
}

/// Memory of the host in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// All of it.
    pub total: u64,
    /// Huge pages of the default size.
    pub huge_pages: u64,
    /// Of these, free.
    pub free_pages: u64,
    /// The size of one.
    pub page: u64,
}

/// A kernel module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Module {
    /// It is part of the kernel.
    pub built_in: bool,
    /// Its file as the index has it, below the modules of the kernel.
    pub indexed: Option<String>,
    /// Its file is there, whether the index has it or not.
    pub file: Option<String>,
    /// What keeps it from being loaded.
    pub blocked: Option<Blocked>,
}

/// A line that keeps a module from being loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blocked {
    /// The file, or the kernel's command line.
    pub file: String,
    /// The line, or the argument.
    pub line: String,
    /// The line's number in the file, from 1.
    pub number: Option<usize>,
}

/// What libvirt says.
#[derive(Clone, Debug)]
pub(crate) enum Libvirt {
    /// It answers.
    Answers {
        /// Its version and QEMU's.
        versions: Versions,
        /// Definitions that have a device which a recipe covers.
        domains: Vec<Guest>,
    },
    /// Our own program, which asks it, is missing or cannot run.
    Unasked {
        /// Why.
        why: String,
        /// A library that it needs is not installed.
        unloaded: bool,
    },
    /// It answers with an error.
    Failed {
        /// Its unit; `None` when its daemon is not installed.
        unit: Option<String>,
        /// libvirt's words.
        why: String,
    },
    /// It does not answer.
    Silent {
        /// The unit to start; `None` when libvirt is not installed.
        unit: Option<String>,
        /// libvirt's words.
        why: String,
    },
}

/// A guest that libvirt has a definition of.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    /// Its name.
    pub name: String,
    /// Its inactive XML, read once.
    pub definition: Result<Definition, Refusal>,
    /// It runs.
    pub active: bool,
    /// The host devices that the running guest has.
    pub has: Vec<PciAddress>,
    /// libvirt says that its host devices can go through iommufd.
    pub iommufd: Option<bool>,
    /// What else libvirt says of it: its networks, and the defaults for its architecture and machine.
    pub libvirt: FromLibvirt,
    /// What the agent plans for it: codes of what is missing and notes, or its sentence. `None` when it was not asked.
    pub planned: Option<Result<Vec<Code>, Refusal>>,
}

/// libvirt's daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Daemon {
    /// Its unit, such as `libvirtd`.
    pub unit: String,
    /// When it started.
    pub started: SystemTime,
    /// Its security label, such as `libvirtd (enforce)`.
    pub label: Option<String>,
    /// It can raise the limit of locked memory.
    pub can_lock: Seen<bool>,
}

/// libvirt's qemu hook as installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    /// Its path.
    pub path: String,
    /// What is there.
    pub state: Trouble,
    /// The program it leads to; of a missing hook the one that it should lead to, where that is there.
    pub program: Option<String>,
    /// When the oldest of libvirt's qemu hooks that can be run came to be so.
    pub since: Option<SystemTime>,
    /// When libvirt last called it.
    pub called: Option<SystemTime>,
    /// SELinux enforces its policy.
    pub selinux: bool,
}

/// What is wrong with a hook's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing.
    None,
    /// There is no such file.
    Missing,
    /// It is a link that leads nowhere.
    Dangling(String),
    /// It cannot be executed.
    NotExecutable(String),
    /// It leads to another program.
    Other(String),
}

/// The agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Agent {
    /// Its program is not there.
    NotInstalled,
    /// Its name has no owner.
    Stopped,
    /// It answers, with its version.
    Answers(String),
    /// The bus does not let us ask.
    Denied(String),
    /// There is no bus.
    NoBus(String),
}

/// What is journalled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    /// What is on record of devices.
    pub records: Vec<DeviceRecord>,
    /// Why nothing can be written into the run directory.
    pub unwritable: Option<String>,
    /// Files that cannot be used: path, why, and whether a newer version wrote it.
    pub unusable: Vec<(String, String, bool)>,
}

impl Guest {
    /// As libvirt has it, with the networks that libvirt names.
    pub(super) fn new(found: Defined, networks: Option<Arc<Networks>>) -> Self {
        Self {
            libvirt: found.capabilities.with(networks),
            name: found.name,
            definition: found.xml.parse(),
            active: found.active,
            has: found.has,
            iommufd: found.capabilities.iommufd,
            planned: None,
        }
    }
}

impl Scene {
    /// The devices that a recipe covers.
    pub(super) fn covered(&self) -> impl Iterator<Item = (&Device, &Recipe)> {
        let devices = self.host.devices.values();
        devices.filter_map(|device| Some((device, self.recipes.for_device(device)?)))
    }

    /// The running guest that libvirt has given a device to.
    pub(super) fn guest_with(&self, device: &Device) -> Option<&str> {
        let Ok(Libvirt::Answers { domains, .. }) = &self.libvirt else {
            return None;
        };
        let has = |one: &&Guest| one.has.contains(&device.address);
        let mut running = domains.iter().filter(|one| one.active);
        running.find(has).map(|one| one.name.as_str())
    }
}
