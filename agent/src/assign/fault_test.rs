//! Every write of every plan fails, hangs or ends the agent; no device is ever in a third state for good.
//!
//! At any time a device that is not as it was before is journalled. Once an agent has recovered on a
//! machine where nothing fails any more, each device is on its driver and journalled as bound, or
//! as it was before and not journalled.

use kernel_glue::driver::DriverName;
use kernel_glue::kernel::{Kernel, Knob};
use kernel_glue::model::Model;

use super::fault_fixture::{FAULTS, Fault, Life, Machine};
use super::*;
use crate::config::{Config, Release};
use crate::fixture::{UUID, VARIANT, address, driver, site};

/// A device of a plan: address, id, the driver before, the override before, the driver wanted.
type Line = (
    &'static str,
    &'static str,
    Option<&'static str>,
    Option<&'static str>,
    &'static str,
);

const GPU0: Line = ("0009:01:00.0", "10de:2342", Some("nvidia"), None, VARIANT);
const GPU1: Line = ("0019:01:00.0", "10de:2342", None, Some("none"), VARIANT);
const GPU2: Line = (
    "0029:01:00.0",
    "10de:2342",
    Some("vfio-pci"),
    Some("vfio-pci"),
    VARIANT,
);
const GPU3: Line = ("0039:01:00.0", "10de:2342", None, None, VARIANT);
const AUDIO: Line = (
    "0009:01:00.1",
    "10de:22ba",
    Some("snd_hda_intel"),
    None,
    "vfio-pci",
);
const USB: Line = (
    "0009:01:00.2",
    "10de:1ad8",
    Some("xhci_hcd"),
    Some("xhci_hcd"),
    "vfio-pci",
);

const ONE: &[Line] = &[GPU0];
const TWO: &[Line] = &[GPU0, GPU1];
const FOUR: &[Line] = &[GPU0, GPU1, GPU2, GPU3];
/// A GPU with the other functions of its card.
const COMPANIONS: &[Line] = &[GPU0, AUDIO, USB];
/// Two GPUs of one IOMMU group with the function beside them.
const GROUP: &[Line] = &[GPU0, GPU2, AUDIO];
const PLANS: [&[Line]; 5] = [ONE, TWO, FOUR, COMPANIONS, GROUP];

/// A machine with a plan, and agents on it.
struct Trial {
    plan: &'static [Line],
    machine: Arc<Machine>,
    life: Life,
    agent: Assigner,
    site: Arc<Site>,
    directory: tempfile::TempDir,
    /// For who reads of a failure.
    faults: Vec<(usize, Fault)>,
}

fn model(plan: &[Line]) -> Model {
    let model = Model::default();
    model.add_driver(driver("vfio-pci"), []);
    model.add_module(VARIANT, driver(VARIANT));
    for (at, id, on, text, _) in plan {
        let id = id.parse().expect("id");
        if let Some(on) = on {
            model.add_driver(driver(on), [id]);
        }
        model.add_device(address(at), id, on.map(driver));
        let knob = Knob::Override(address(at));
        text.map(|text| model.write(&knob, text).expect("override"));
    }
    model
}

fn agent(life: &Life, site: &Arc<Site>, directory: &tempfile::TempDir) -> Assigner {
    let path = directory.path().join("journal");
    let journal = Journal::with_storage(path, Arc::new(life.clone()));
    Assigner::new(Arc::new(life.clone()), site.clone(), journal)
}

fn planned(plan: &[Line]) -> Vec<Planned> {
    let planned = plan.iter().map(|(at, .., wanted)| Planned {
        address: address(at),
        recipe: String::new(),
        label: String::new(),
        driver: driver(wanted),
        cells: Default::default(),
        host_nodes: Vec::new(),
    });
    planned.collect()
}

fn domain() -> DomainRef {
    DomainRef {
        uuid: UUID.parse().expect("uuid"),
        name: "d0".into(),
    }
}

fn before(line: &Line) -> Before {
    Before {
        driver: line.2.map(driver),
        driver_override: line.3.map(str::to_owned),
    }
}

impl Trial {
    fn new(site: &Arc<Site>, plan: &'static [Line], faults: &[(usize, Fault)]) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let machine = Machine::new(model(plan), faults);
        let life = machine.life();
        Self {
            plan,
            agent: agent(&life, site, &directory),
            machine,
            life,
            site: site.clone(),
            directory,
            faults: faults.to_vec(),
        }
    }

    /// As libvirt does it: a start that is refused is released.
    fn start(&self) -> bool {
        let bound = self.agent.bind(&domain(), &planned(self.plan)).is_ok();
        self.check_journalled("after the bind");
        if !bound {
            let _ = self.agent.release(&domain().uuid);
            self.check_journalled("after the release of a start that failed");
        }
        bound && !self.life.is_over()
    }

    /// A new agent recovers, again and again while it dies of it.
    fn recover(&mut self, running: &[DomainUuid]) {
        for _ in 0..3 {
            self.life = self.machine.life();
            self.agent = agent(&self.life, &self.site, &self.directory);
            self.agent.resume();
            self.check_journalled("after resuming");
            self.agent.recover(running);
            self.check_journalled("after recovering");
            if !self.life.is_over() {
                return;
            }
        }
    }

    fn state(&self, line: &Line) -> Before {
        Before::read(&self.machine.model, address(line.0)).expect("state")
    }

    fn journalled(&self, line: &Line) -> Option<State> {
        let held = self.agent.held();
        let mut devices = held.iter().flat_map(|(_, entry)| &entry.devices);
        let found = devices.find(|held| held.address == address(line.0));
        found.map(|held| held.state)
    }

    fn is_bound(&self, line: &Line) -> bool {
        let state = self.state(line);
        state.driver == Some(driver(line.4)) && self.journalled(line) == Some(State::Bound)
    }

    /// Nothing has been changed that is not journalled, but by the policy.
    fn check_journalled(&self, when: &str) {
        for line in self.plan {
            let state = self.state(line);
            let known = self.journalled(line).is_some() || self.is_released(line);
            let faults = &self.faults;
            assert!(known, "{}: {state:?}, {when}: {faults:?}", line.0);
        }
    }

    /// As it was before, or where the policy says.
    fn is_released(&self, line: &Line) -> bool {
        let state = self.state(line);
        let policy = &self.site.rules().config.release;
        let driven = |driver: DriverName| Before {
            driver_override: Some(driver.to_string()),
            driver: Some(driver),
        };
        state == before(line)
            || match policy {
                Release::Previous => false,
                Release::Keep => state == driven(driver(line.4)),
                Release::Driver(name) => state == driven(name.clone()),
            }
    }

    /// Each device is fully there and journalled, or fully back and forgotten.
    fn check_settled(&self) {
        for line in self.plan {
            let (state, noted) = (self.state(line), self.journalled(line));
            let back = state == before(line) && noted.is_none();
            let (known, faults) = (back || self.is_bound(line), &self.faults);
            assert!(known, "{}: {state:?} {noted:?}: {faults:?}", line.0);
        }
        let bound = self.plan.iter().filter(|line| self.is_bound(line)).count();
        assert!([0, self.plan.len()].contains(&bound), "{bound} bound");
    }

    /// A start; `running` is what libvirt says afterwards whatever the agent said to it.
    fn start_and_recover(&mut self, running: bool, stuck_meanwhile: bool) {
        let started = self.start();
        let running = match running || started {
            true => vec![domain().uuid],
            false => Vec::new(),
        };
        if stuck_meanwhile {
            self.recover(&running);
        }
        self.machine.let_go();
        self.recover(&running);
        self.machine.heal();
        self.recover(&running);
        self.check_settled();
        if started {
            assert!(self.plan.iter().all(|line| self.is_bound(line)));
        }
    }

    /// A guest that has run ends, and libvirt says so.
    fn release_and_recover(&mut self) {
        let _ = self.agent.release(&domain().uuid);
        self.check_journalled("after the release");
        self.recover(&[]);
        self.machine.let_go();
        self.recover(&[]);
        self.machine.heal();
        self.recover(&[]);
        for line in self.plan {
            let (released, faults) = (self.is_released(line), &self.faults);
            assert!(released, "{:?}: {faults:?}", self.state(line));
            assert_eq!(self.journalled(line), None, "{faults:?}");
        }
    }
}

fn plain_site() -> (tempfile::TempDir, Arc<Site>) {
    site(Config::default())
}

/// Points of a start, or of what follows it, at which a single fault strikes; how many there were.
fn each_point(run: impl FnMut(&[(usize, Fault)]) -> bool) -> usize {
    each_point_behind(&[], run)
}

/// The same with another fault before it.
fn each_point_behind(
    first: &[(usize, Fault)],
    mut run: impl FnMut(&[(usize, Fault)]) -> bool,
) -> usize {
    let begin = first.first().map_or(1, |(point, _)| point + 1);
    let struck = (begin..).take_while(|point| {
        let both = |fault| [first, &[(*point, fault)]].concat();
        FAULTS.map(|fault| run(&both(fault))).contains(&true)
    });
    struck.count() * FAULTS.len()
}

#[test]
fn one_write_that_fails_is_undone_at_once() {
    let (_directory, site) = plain_site();
    for plan in PLANS {
        let struck = (1..).take_while(|point| {
            let tried = [Fault::Fails, Fault::FailsLate].map(|fault| {
                let trial = Trial::new(&site, plan, &[(*point, fault)]);
                let bound = trial.agent.bind(&domain(), &planned(plan)).is_ok();
                let back = plan.iter().all(|line| trial.state(line) == before(line));
                assert!(back || bound, "{fault:?} at {point}");
                trial.machine.ahead() == 0
            });
            tried.contains(&true)
        });
        assert!(struck.count() > 4);
    }
}

#[test]
fn a_start_ends_bound_or_as_before_wherever_one_fault_strikes() {
    let (_directory, site) = plain_site();
    let mut points = 0;
    for plan in PLANS {
        for (running, stuck) in [(false, false), (false, true), (true, true)] {
            points += each_point(|faults| {
                let mut trial = Trial::new(&site, plan, faults);
                trial.start_and_recover(running, stuck);
                trial.machine.ahead() == 0
            });
        }
    }
    println!("{points} points of a start tried");
    assert!(points > 800, "{points}");
}

#[test]
fn a_release_ends_where_the_policy_says_or_as_before_wherever_one_fault_strikes() {
    let vfio = Release::Driver(driver("vfio-pci"));
    let policies = [Release::Previous, Release::Keep, vfio];
    let points: usize = policies.map(points_of_a_release).iter().sum();
    println!("{points} points of a release tried");
    assert!(points > 500, "{points}");
}

fn points_of_a_release(release: Release) -> usize {
    let (_directory, site) = site(Config {
        release,
        ..Config::default()
    });
    let points = PLANS.map(|plan| {
        let bound = Trial::new(&site, plan, &[]);
        assert!(bound.start());
        let begin = bound.machine.point();
        each_point(|faults| {
            let faults: Vec<_> = faults.iter().map(|(p, f)| (p + begin, *f)).collect();
            let mut trial = Trial::new(&site, plan, &faults);
            assert!(trial.start());
            trial.release_and_recover();
            trial.machine.ahead() == 0
        })
    });
    points.iter().sum()
}

#[test]
fn an_undisturbed_release_ends_where_the_policy_says() {
    let cases = [
        ("previous", Some("nvidia"), None),
        ("keep", Some(VARIANT), Some(VARIANT)),
        ("vfio-pci", Some("vfio-pci"), Some("vfio-pci")),
        ("nvidia", Some("nvidia"), None),
    ];
    for (policy, on, text) in cases {
        let release = policy.to_owned().try_into().expect("policy");
        let (_directory, site) = site(Config {
            release,
            ..Config::default()
        });
        let trial = Trial::new(&site, ONE, &[]);
        assert!(trial.start());
        trial.agent.release(&domain().uuid).expect("released");
        let state = trial.state(&GPU0);
        let (found, named) = (state.driver.map(String::from), state.driver_override);
        assert_eq!((found.as_deref(), named.as_deref()), (on, text), "{policy}");
        assert_eq!(trial.journalled(&GPU0), None, "{policy}");
        assert!(trial.start(), "the next start after '{policy}'");
    }
}

#[test]
fn two_faults_one_in_the_undo_or_the_recovery_of_the_other_leave_no_third_state() {
    let (_directory, site) = plain_site();
    let mut pairs = 0;
    for plan in [ONE, TWO] {
        each_point(|first| {
            let mut struck = false;
            pairs += each_point_behind(first, |faults| {
                let mut trial = Trial::new(&site, plan, faults);
                trial.start_and_recover(false, true);
                struck |= trial.machine.ahead() < 2;
                trial.machine.ahead() == 0
            });
            struck
        });
    }
    println!("{pairs} pairs of points tried");
    assert!(pairs > 2500, "{pairs}");
}
