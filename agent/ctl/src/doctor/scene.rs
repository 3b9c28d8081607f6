//! The facts for the checks: plain values, or the reason why one is not available.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use kernel_glue::address::PciAddress;
use kernel_glue::capacity::Capacity;
use kernel_glue::device::Device;
use kernel_glue::failure::{Failure, is_denied};
use kernel_glue::host::Host;
use kernel_glue::iort::Iort;
use kernel_glue::occupancy::Occupancy;

use agent::libvirt::Defined;
use agent::record::DeviceRecord;
use agent::reserve::Reservation;
use domain::Definition;
use domain::code::Code;
use domain::refusal::Refusal;
use planner::from_libvirt::{FromLibvirt, Networks};
use planner::recipe::{Recipe, Recipes};
use planner::stack::Stack;
use planner::target::Versions;

/// A fact, or why it is not available.
pub(crate) type Seen<T> = Result<T, Unavailable>;

/// Why a fact is not available.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unavailable {
    /// The reason as text.
    pub why: String,
    /// Root can read it.
    pub needs_root: bool,
}

impl Unavailable {
    /// Root cannot read it either.
    pub(crate) fn because(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            needs_root: false,
        }
    }

    /// Root can read it.
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

    /// The same with text before the reason.
    pub(super) fn after(self, words: &str) -> Self {
        Self {
            why: format!("{words}{}", self.why),
            ..self
        }
    }

    /// The reason why a file of a live or recorded host could not be read, behind a prefix.
    pub(super) fn of_reason(words: &str, reason: &str) -> Self {
        Self {
            why: format!("{words}{reason}"),
            needs_root: is_denied(reason),
        }
    }
}

/// All facts for the checks.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    /// The directory of a recorded host.
    pub recorded: Option<PathBuf>,
    /// The host.
    pub host: Host,
    /// Its CPUs and huge pages, for the layouts of guests.
    pub capacity: Seen<Capacity>,
    /// The recipes in force, or the shipped ones.
    pub recipes: Recipes,
    /// Why configuration and recipes of the host cannot be used.
    pub settings: Result<(), String>,
    /// The administrator allows binding the rest of a device's group.
    pub allow_group: bool,
    /// How the host was started, and its memory.
    pub boot: Boot,
    /// The kernel has the class `egm`, whose module makes it when it is loaded.
    pub egm_class: Seen<bool>,
    /// Facts that matter only on a Grace host; `None` on others.
    pub platform: Option<Platform>,
    /// Modules of the drivers that recipes name, by name with underscores.
    pub modules: BTreeMap<String, Module>,
    /// The users of each device that a recipe covers.
    pub occupancy: BTreeMap<PciAddress, Seen<Occupancy>>,
    /// A firmware table names the memory of Grace GPUs.
    pub memory_named: Seen<bool>,
    /// What libvirt and QEMU can express, as the agent found it or a recording has it.
    pub stack: Option<Stack>,
    /// libvirt's answer.
    pub libvirt: Seen<Libvirt>,
    /// libvirt's daemon.
    pub daemon: Seen<Option<Daemon>>,
    /// libvirt's qemu hook.
    pub hook: Seen<Hook>,
    /// The agent.
    pub agent: Seen<Agent>,
    /// The bus policy is installed.
    pub policy: Seen<bool>,
    /// SELinux and AppArmor.
    pub security: Seen<Security>,
    /// Units that are enabled.
    pub enabled: Seen<Vec<String>>,
    /// The agent's records.
    pub journal: Seen<Journal>,
    /// Reservations, each valid or with its error.
    pub reservations: Seen<Vec<Result<Reservation, String>>>,
}

/// How the host was started.
#[derive(Clone, Debug)]
pub(crate) struct Boot {
    /// The processor's vendor.
    pub vendor: Vendor,
    /// The kernel's command line.
    pub command_line: Seen<String>,
    /// VFIO accepts devices without an IOMMU.
    pub no_iommu: Seen<bool>,
    /// VFIO accepts devices whose interrupts are not isolated.
    pub unsafe_interrupts: Seen<bool>,
    /// Memory.
    pub memory: Seen<Memory>,
}

/// A processor's vendor, as far as hints differ.
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

/// Facts that matter only on a host with Grace GPUs.
#[derive(Clone, Debug)]
pub(crate) struct Platform {
    /// Huge pages of 512 MiB by node; `None` if the kernel has none, because its pages are not of 64 KiB.
    pub huge_pages: Seen<Option<Vec<HugePages>>>,
    /// The firmware's root complexes.
    pub iort: Seen<Iort>,
    /// The kernel's options for BARs as dma-buf.
    pub peers: Seen<Peers>,
    /// The emulator; `None` if none is installed where distributions have it.
    pub emulator: Seen<Option<Emulator>>,
    /// The list in qemu.conf of devices that QEMU may open; `None` if libvirt's own counts.
    pub devices_allowed: Seen<Option<Vec<String>>>,
}

/// The kernel's options for BARs as dma-buf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peers {
    /// Those that it lacks.
    pub lacking: Vec<String>,
    /// The file of its configuration.
    pub path: String,
}

/// Huge pages of 512 MiB of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HugePages {
    /// The node.
    pub node: u32,
    /// All of them.
    pub all: u64,
    /// Of these, free.
    pub free: u64,
}

/// An emulator's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Emulator {
    /// Its path.
    pub path: String,
    /// It has file capabilities (extended attribute `security.capability`).
    pub has_capabilities: bool,
}

/// A kernel module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Module {
    /// It is part of the kernel.
    pub built_in: bool,
    /// Its file in the index, below the modules of the kernel.
    pub indexed: Option<String>,
    /// Its file, also without an index entry.
    pub file: Option<String>,
    /// The line that blocks it.
    pub blocked: Option<Blocked>,
}

/// A line that blocks a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blocked {
    /// The file, or the kernel's command line.
    pub file: String,
    /// The line, or the argument.
    pub line: String,
    /// The line's number in the file, from 1.
    pub number: Option<usize>,
}

/// libvirt's state.
#[derive(Clone, Debug)]
pub(crate) enum Libvirt {
    /// It answers.
    Answers {
        /// Its version and QEMU's.
        versions: Versions,
        /// Definitions that have a device which a recipe covers.
        domains: Vec<Guest>,
    },
    /// Our helper program is missing or cannot run.
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
        /// libvirt's error.
        why: String,
    },
    /// It does not answer.
    Silent {
        /// The unit to start; `None` when libvirt is not installed.
        unit: Option<String>,
        /// libvirt's error.
        why: String,
    },
}

/// A guest with a definition in libvirt.
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
    /// libvirt reports that its host devices can use iommufd.
    pub iommufd: Option<bool>,
    /// Other facts from libvirt: its networks, and the defaults for its architecture and machine.
    pub libvirt: FromLibvirt,
    /// The agent's plan: codes of missing elements and of notes, or its refusal. `None` when the agent was not asked.
    pub planned: Option<Result<Vec<Code>, Refusal>>,
}

/// libvirt's daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Daemon {
    /// Its unit, such as `libvirtd`.
    pub unit: String,
    /// Its directory in `/proc`.
    pub files: String,
    /// When it started.
    pub started: SystemTime,
    /// Its security label, such as `libvirtd (enforce)`.
    pub label: Option<String>,
    /// It can raise the limit of locked memory.
    pub can_lock: Seen<bool>,
    /// Its bounding set has CAP_IPC_LOCK, so it can execute an emulator that has it as a file capability.
    pub may_lock: Seen<bool>,
}

/// libvirt's qemu hook as installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    /// Its path.
    pub path: String,
    /// The state of its file.
    pub state: Trouble,
    /// Its program; for a missing hook the installed program that it should lead to.
    pub program: Option<String>,
    /// Since when libvirt has had an executable qemu hook.
    pub since: Option<SystemTime>,
    /// When libvirt last called it.
    pub called: Option<SystemTime>,
}

/// The security modules of the running host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Security {
    /// SELinux, if a policy is loaded.
    pub selinux: Option<Selinux>,
    /// AppArmor, if it is enabled.
    pub apparmor: Option<AppArmor>,
    /// The label of the agent's process, if it runs.
    pub agent: Option<String>,
}

/// SELinux, with a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selinux {
    /// It denies, and does not only report.
    pub enforcing: bool,
    /// The name of the policy, such as `targeted`.
    pub policy: String,
    /// The policy has variantd's module.
    pub module: Seen<bool>,
    /// A program of variantd and its type, if that is not the module's.
    pub mislabelled: Option<(String, String)>,
    /// The policy's booleans about VFIO and modules.
    pub booleans: BTreeMap<String, bool>,
}

/// AppArmor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AppArmor {
    /// The agent's profile is a file of this host.
    pub installed: bool,
    /// The rules for every guest; `None` without those of libvirt.
    pub rules: Seen<Option<String>>,
}

/// The fault of a hook's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing.
    None,
    /// There is no such file.
    Missing,
    /// It is a link to a file that does not exist.
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
    /// The bus does not allow the call.
    Denied(String),
    /// There is no bus.
    NoBus(String),
}

/// The agent's records.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    /// The records of devices.
    pub records: Vec<DeviceRecord>,
    /// Why the run directory is not writable.
    pub unwritable: Option<String>,
    /// Files that cannot be used: path, why, and whether a newer version wrote it.
    pub unusable: Vec<(String, String, bool)>,
}

impl Guest {
    /// From libvirt's answer, with libvirt's networks.
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
        self.recipes.covered(&self.host)
    }

    /// The running guest that has a device.
    pub(super) fn guest_with(&self, device: &Device) -> Option<&str> {
        let Ok(Libvirt::Answers { domains, .. }) = &self.libvirt else {
            return None;
        };
        let has = |one: &&Guest| one.has.contains(&device.address);
        let mut running = domains.iter().filter(|one| one.active);
        running.find(has).map(|one| one.name.as_str())
    }
}
