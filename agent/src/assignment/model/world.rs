//! The state of the model: devices, their records, guests, and work in progress.
//!
//! Drivers are numbers here, 0 for none; the real types are made for each call of `next`.

use kernel_glue::driver::DriverName;
use kernel_glue::rebind::Before;

use crate::assignment::{Owner, Phase, Record, Step};

/// Maximum number of devices.
pub(super) const DEVICES: usize = 3;
/// Two domains, then the administrator.
pub(super) const OWNERS: usize = 3;
pub(super) const ADMIN: usize = 2;
pub(super) const VARIANT: u8 = 2;
pub(super) const VFIO: u8 = 3;
const NAMES: [&str; 4] = ["", "nvidia", "nvgrace_gpu_vfio_pci", "vfio-pci"];

/// Driver and override.
pub(super) type Binding = (u8, u8);
/// One record per device.
pub(super) type Records = [Option<Line>; DEVICES];
/// The deciding function: the real one, or one with a seeded bug.
pub(super) type Next = fn(Option<&Record>, &crate::assignment::Event) -> Step;

/// A record, as small as possible for the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Line {
    pub(super) owner: u8,
    pub(super) target: u8,
    pub(super) before: Option<Binding>,
    pub(super) phase: u8,
    pub(super) replaces: u8,
}

/// A write that has not ended, and whether it will have its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Write {
    Override(u8),
    Unbind,
    Bind(u8),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Device {
    pub(super) now: Binding,
    pub(super) stuck: Option<(Write, bool)>,
    /// A running guest has it open.
    pub(super) used: bool,
    pub(super) gone: bool,
}

/// An action in progress on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    Idle,
    Acting {
        /// A bind checks only the driver.
        is_bind: bool,
        from: Binding,
        goal: Binding,
        certain: bool,
        undoing: bool,
        hung: bool,
    },
    Ended {
        is_bind: bool,
        result: Ended,
    },
}

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ended {
    Done,
    /// It was undone.
    Undone,
    /// The undo failed.
    Astray,
    /// A write may still have its effect.
    Hung,
}

/// The work in progress for one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Work {
    pub(super) kind: Kind,
    pub(super) records: Records,
    pub(super) parts: [Part; DEVICES],
    /// For an administrator's bind: the state in which the device was found.
    pub(super) found: [Binding; DEVICES],
    /// The remaining devices in order; an administrator's are changed one after another.
    pub(super) queue: [Option<u8>; DEVICES],
    /// The devices that an administrator's bind has bound, as a bit set.
    pub(super) taken: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A domain's bind; a start first restores what an earlier agent left.
    Resume,
    Bind,
    PutBack,
    /// The last device's release ends the entry.
    Release,
    Retry,
    /// The administrator's.
    Take,
    Cancel,
    GiveBack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Guest {
    Off,
    Starting,
    Running,
}

/// The whole state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) devices: [Device; DEVICES],
    pub(super) disk: [Records; OWNERS],
    pub(super) guests: [Guest; 2],
    /// The hook call of a guest's end is still to come.
    pub(super) ended: [bool; 2],
    /// The domain had no event since the agent started, or since a release failed.
    pub(super) orphans: [bool; 2],
    pub(super) retry: [bool; OWNERS],
    pub(super) work: [Option<Work>; OWNERS],
    pub(super) alive: bool,
    pub(super) faults: u8,
    pub(super) crashes: u8,
    pub(super) removals: u8,
    /// Remaining requests of each owner.
    pub(super) requests: [u8; OWNERS],
}

fn name(driver: u8) -> Option<DriverName> {
    NAMES[usize::from(driver)].parse().ok()
}

fn number(name: &str) -> u8 {
    let found = NAMES.iter().position(|one| *one == name);
    found.map_or(0, |index| index as u8)
}

pub(super) fn before(binding: Binding) -> Before {
    Before {
        driver: name(binding.0),
        driver_override: name(binding.1).map(|name| name.to_string()),
    }
}

pub(super) fn driver(target: u8) -> DriverName {
    name(target).expect("a driver")
}

const PHASES: [Phase; 4] = [
    Phase::Binding,
    Phase::Bound,
    Phase::Releasing,
    Phase::Degraded,
];

impl Line {
    pub(super) fn of(record: &Record) -> Self {
        let binding = |before: &Before| {
            let driver = before.driver.as_ref().map_or("", DriverName::as_str);
            let text = before.driver_override.as_deref().unwrap_or_default();
            (number(driver), number(text))
        };
        let phase = PHASES.iter().position(|phase| *phase == record.phase);
        Self {
            owner: u8::from(record.owner != Owner::Domain),
            target: number(record.target.as_str()),
            before: record.before.as_ref().map(binding),
            phase: phase.unwrap_or_default() as u8,
            replaces: record
                .replaces
                .as_ref()
                .map_or(0, |name| number(name.as_str())),
        }
    }

    pub(super) fn record(self) -> Record {
        Record {
            owner: [Owner::Domain, Owner::Admin][usize::from(self.owner)],
            target: driver(self.target),
            before: self.before.map(before),
            phase: self.phase(),
            replaces: name(self.replaces),
        }
    }

    fn binding(self) -> Self {
        Self { phase: 0, ..self }
    }

    pub(super) fn phase(self) -> Phase {
        PHASES[usize::from(self.phase)]
    }

    /// As read back: a record does not store the replaced driver.
    pub(super) fn stored(self) -> Self {
        Self {
            replaces: 0,
            ..self
        }
    }
}

impl World {
    /// An owner's records: while one device of a domain is binding, all are.
    pub(super) fn read(&self, who: usize) -> Records {
        let mut records = self.disk[who];
        let lines = || records.iter().flatten();
        if who == ADMIN || !lines().any(|line| line.phase() == Phase::Binding) {
            return records;
        }
        for line in records.iter_mut().flatten() {
            if line.phase() == Phase::Bound {
                *line = line.binding();
            }
        }
        records
    }
}

impl Device {
    pub(super) fn apply(&mut self, write: Write) {
        match write {
            Write::Override(text) => self.now.1 = text,
            Write::Unbind => self.now.0 = 0,
            // The kernel binds a driver that the override names; it refuses a device that has a driver.
            Write::Bind(driver) if self.now.0 == 0 && [0, driver].contains(&self.now.1) => {
                self.now.0 = driver;
            }
            Write::Bind(_) => {}
        }
    }

    /// The next write towards a binding, in the order of `Rebind`.
    pub(super) fn write_to(&self, goal: Binding, is_bind: bool) -> Option<Write> {
        let (driver, text) = self.now;
        match goal.0 {
            wanted if wanted == driver && is_bind => None,
            wanted if wanted == driver => (text != goal.1).then_some(Write::Override(goal.1)),
            0 => Some(Write::Unbind),
            wanted if text != wanted => Some(Write::Override(wanted)),
            wanted if driver == 0 => Some(Write::Bind(wanted)),
            _ => Some(Write::Unbind),
        }
    }
}
