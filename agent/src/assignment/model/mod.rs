//! Searches every reachable state of a bounded host, breadth first with the real `next`.
//!
//! Writes to the kernel and of records fail, fail with effect, hang, and end late. The agent ends at any point, also
//! between the records of two devices, and starts again. Devices are removed. In each state at most one domain has a
//! device, every write is preceded by its record, and no device is taken from a running guest. From each state a run
//! without further faults ends: without libvirt's answer with nothing unsettled, then with it each device bound for a
//! live owner or in its previous state. `VARIANTD_MODEL_FAULTS=2` searches further.

use std::collections::{HashSet, VecDeque};
use std::env;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Action, Claim, Event, Owner, Phase, Record, Step, next};
use shell::Model;
use world::*;

mod shell;
mod world;

/// No run without faults is longer.
const LONGEST: usize = 300;

/// A host with its requests, and the possible faults.
struct Bounds {
    model: Model,
    start: World,
}

/// The result of a search.
struct Searched {
    states: usize,
    depth: usize,
    violation: Option<String>,
}

fn host(initial: &[Binding], requests: [u8; OWNERS]) -> World {
    let device = |index: usize| Device {
        now: initial.get(index).copied().unwrap_or_default(),
        ..Device::default()
    };
    let faults = env::var("VARIANTD_MODEL_FAULTS").ok();
    World {
        devices: std::array::from_fn(device),
        disk: Default::default(),
        guests: [Guest::Off; 2],
        ended: [false; 2],
        orphans: [false; 2],
        retry: [false; OWNERS],
        work: [None; OWNERS],
        alive: true,
        faults: faults.and_then(|text| text.parse().ok()).unwrap_or(1),
        crashes: 1,
        removals: 0,
        requests,
    }
}

fn model(wants: [&'static [u8]; 2], admin: &'static [u8]) -> Model {
    Model {
        next,
        forgets_claim: false,
        wants,
        admin,
    }
}

/// Two domains request one device, and one of them another.
fn two_domains() -> Bounds {
    Bounds {
        model: model([&[0, 1], &[1]], &[2]),
        start: host(&[(1, 0), (0, 1)], [1, 1, 0]),
    }
}

/// A domain requests a device that an administrator binds and releases.
fn domain_and_admin() -> Bounds {
    Bounds {
        model: model([&[0], &[]], &[0]),
        start: host(&[(1, 1)], [1, 0, 2]),
    }
}

/// An administrator binds and releases a device with a companion.
fn companion() -> Bounds {
    Bounds {
        model: model([&[], &[]], &[1, 0]),
        start: host(&[(1, 0), (1, 1)], [0, 0, 2]),
    }
}

/// Three devices: two for each of two domains, one of them also for an administrator.
fn three_devices() -> Bounds {
    let start = host(&[(1, 0), (0, 0), (1, 1)], [1, 1, 1]);
    Bounds {
        model: model([&[0, 1], &[1, 2]], &[2]),
        start: World {
            faults: start.faults - 1,
            ..start
        },
    }
}

/// A device may be removed at any point.
fn removed() -> Bounds {
    let two = two_domains();
    Bounds {
        start: World {
            faults: two.start.faults - 1,
            removals: 1,
            ..two.start
        },
        ..two
    }
}

impl Bounds {
    fn search(&self) -> Searched {
        let mut seen = HashSet::from([key(&self.start)]);
        let mut good = HashSet::new();
        let mut ahead = VecDeque::from([(self.start.clone(), 0)]);
        let mut searched = Searched {
            states: 0,
            depth: 0,
            violation: None,
        };
        while let Some((world, depth)) = ahead.pop_front() {
            (searched.states, searched.depth) = (searched.states + 1, depth);
            let found = self.check(&world, &mut good);
            match found.and_then(|()| self.model.steps(&world)) {
                Err(violation) => {
                    searched.violation = Some(format!("{violation}\nin {world:#?}"));
                    return searched;
                }
                Ok(steps) => {
                    let new = steps.into_iter().filter(|step| seen.insert(key(step)));
                    ahead.extend(new.map(|step| (step, depth + 1)));
                }
            }
        }
        searched
    }

    fn check(&self, world: &World, good: &mut HashSet<u64>) -> Result<(), String> {
        for device in 0..DEVICES {
            let owners = world.disk[..ADMIN]
                .iter()
                .filter(|disk| disk[device].is_some());
            match (owners.count(), world.disk[ADMIN][device]) {
                (0, _) | (1, None) => {}
                (1, Some(lender)) if lender.phase() == Phase::Bound => {}
                _ => return Err(format!("device {device} has two owners")),
            }
        }
        let (calm, _) = self.run(world.clone(), false, good)?;
        let mut lines = calm.disk.iter().flatten().flatten();
        if lines.any(|line| line.phase() != Phase::Bound) {
            return Err(format!(
                "without libvirt something stays unsettled: {calm:#?}"
            ));
        }
        let (end, path) = self.run(calm, true, good)?;
        for device in 0..DEVICES {
            self.check_end(&end, device)?;
        }
        good.extend(path);
        Ok(())
    }

    /// Runs without faults until nothing is left to do, or the state was searched before.
    fn run(
        &self,
        mut world: World,
        libvirt: bool,
        good: &HashSet<u64>,
    ) -> Result<(World, Vec<u64>), String> {
        let mut path = Vec::new();
        for _ in 0..LONGEST {
            if libvirt && good.contains(&key(&world)) {
                return Ok((self.start.clone(), path));
            }
            path.push(key(&world));
            match self.model.fair(&world, libvirt)? {
                Some(next) => world = next,
                None => return Ok((world, path)),
            }
        }
        Err(format!("a run does not end: {world:#?}"))
    }

    /// Bound for a live owner, or in the previous state.
    fn check_end(&self, end: &World, device: usize) -> Result<(), String> {
        let found = &end.devices[device];
        let bound =
            |who: usize| end.disk[who][device].is_some_and(|line| line.phase() == Phase::Bound);
        let runs = |who: usize| end.guests[who] == Guest::Running;
        let is_right = match (0..ADMIN).find(|who| runs(*who) && bound(*who)) {
            _ if found.gone => true,
            Some(_) => found.now.0 == VARIANT,
            None if bound(ADMIN) => found.now == (VFIO, VFIO),
            None => {
                let is_noted = end.disk.iter().any(|disk| disk[device].is_some());
                found.now == self.start.devices[device].now && !is_noted
            }
        };
        match is_right {
            true => Ok(()),
            false => Err(format!(
                "device {device} does not end as it should: {end:#?}"
            )),
        }
    }
}

fn key(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

fn assert_sound(bounds: &Bounds) {
    let found = bounds.search();
    println!("{} states, depth {}", found.states, found.depth);
    assert_eq!(found.violation, None);
}

#[test]
fn model_holds_for_two_domains() {
    assert_sound(&two_domains());
}

#[test]
fn model_holds_for_a_domain_and_an_administrator() {
    assert_sound(&domain_and_admin());
}

#[test]
fn model_holds_for_a_device_and_its_companion() {
    assert_sound(&companion());
}

#[test]
fn model_holds_for_three_devices() {
    assert_sound(&three_devices());
}

#[test]
fn model_holds_for_a_removed_device() {
    assert_sound(&removed());
}

/// The search with a seeded bug ends with a violation that names it.
fn assert_caught(bounds: &Bounds, expected: &str) {
    let found = bounds.search();
    let violation = found.violation.expect("the bug is found");
    println!("found after {} states, depth {}", found.states, found.depth);
    assert!(violation.contains(expected), "{violation}");
}

#[test]
fn model_finds_a_bind_before_its_claim_is_written() {
    for mut bounds in [two_domains(), domain_and_admin()] {
        bounds.model.forgets_claim = true;
        assert_caught(&bounds, "is written to, and on record is None");
    }
}

#[test]
fn model_finds_an_override_that_an_undo_misses() {
    let mut bounds = two_domains();
    bounds.model.next = |record, event| {
        let mut step = next(record, event);
        let before = step
            .record
            .as_mut()
            .and_then(|record| record.before.as_mut());
        if let (Some(before), Event::Claim(_)) = (before, event) {
            before.driver_override = None;
        }
        step
    };
    assert_caught(&bounds, "does not end as it should");
}

#[test]
fn model_finds_a_claim_of_a_device_of_another_domain() {
    let mut bounds = two_domains();
    bounds.model.next = |record, event| {
        let mut event = event.clone();
        if let Event::Claim(claim) = &mut event {
            claim.is_taken = false;
        }
        next(record, &event)
    };
    assert_caught(&bounds, "has two owners");
}

#[test]
fn model_finds_a_missing_retry() {
    let mut bounds = two_domains();
    bounds.model.next = |record, event| {
        let mut step = next(record, event);
        step.actions.retain(|action| *action != Action::Retry);
        step
    };
    assert_caught(&bounds, "stays unsettled");
}

#[test]
fn model_finds_a_restore_that_ignores_a_stuck_write() {
    let mut bounds = two_domains();
    bounds.model.next = without_certainty;
    assert_caught(&bounds, "does not end as it should");
}

fn without_certainty(record: Option<&Record>, event: &Event) -> Step {
    let mut step = next(record, event);
    for action in &mut step.actions {
        if let Action::Restore(restore) = action {
            restore.certain = false;
        }
    }
    step
}

/// The results for an administrator hold for a reservation.
#[test]
fn a_reservation_is_treated_as_an_administrator_is() {
    let of = |owner, phase| Record {
        owner,
        target: driver(VFIO),
        before: Some(before((1, 0))),
        phase,
        replaces: Some(driver(VARIANT)),
    };
    let claim = |owner| Claim {
        owner,
        target: driver(VFIO),
        now: before((1, 0)),
        is_taken: false,
        lender: None,
    };
    let events = |owner| {
        [
            Event::Claim(claim(owner)),
            Event::Appeared(claim(owner)),
            Event::Bound,
            Event::NotBound { lasting: false },
            Event::NotBound { lasting: true },
            Event::Cancelled,
            Event::Released,
            Event::Resumed,
            Event::Restored,
            Event::NotRestored { lasting: false },
            Event::NotRestored { lasting: true },
        ]
    };
    let phases = [
        Phase::Binding,
        Phase::Bound,
        Phase::Releasing,
        Phase::Degraded,
    ];
    let steps = |owner| {
        let records = phases.map(|phase| Some(of(owner, phase)));
        let records = records.into_iter().chain([None]);
        let all =
            records.flat_map(|record| events(owner).map(|event| next(record.as_ref(), &event)));
        all.collect::<Vec<Step>>()
    };
    let mut reserved = steps(Owner::Reservation);
    for record in reserved.iter_mut().filter_map(|step| step.record.as_mut()) {
        assert_eq!(record.owner, Owner::Reservation);
        record.owner = Owner::Admin;
    }
    assert_eq!(reserved, steps(Owner::Admin));
}
