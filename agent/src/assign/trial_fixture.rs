//! A plan on a machine with faults, and the agents that run there in turn.

use kernel_glue::driver::DriverName;
use kernel_glue::kernel::{Attribute, Kernel};
use kernel_glue::model::Model;
use kernel_glue::occupancy::Occupancy;

use super::fault_fixture::{Fault, Life, Machine};
use super::*;
use crate::assignment::Phase;
use crate::fixture::{UUID, VARIANT, address, driver};
use settings::config::Release;

/// A device of a plan: address, id, previous driver, previous override, wanted driver.
pub(super) type Line = (
    &'static str,
    &'static str,
    Option<&'static str>,
    Option<&'static str>,
    &'static str,
);

pub(super) const GPU0: Line = ("0009:01:00.0", "10de:2342", Some("nvidia"), None, VARIANT);
pub(super) const GPU1: Line = ("0019:01:00.0", "10de:2342", None, Some("none"), VARIANT);
pub(super) const GPU2: Line = (
    "0029:01:00.0",
    "10de:2342",
    Some("vfio-pci"),
    Some("vfio-pci"),
    VARIANT,
);
pub(super) const GPU3: Line = ("0039:01:00.0", "10de:2342", None, None, VARIANT);
/// A GPU with a vGPU build of NVIDIA's driver.
pub(super) const GPU4: Line = ("0049:01:00.0", "10de:2342", Some("nvidia"), None, VARIANT);
pub(super) const AUDIO: Line = (
    "0009:01:00.1",
    "10de:22ba",
    Some("snd_hda_intel"),
    None,
    "vfio-pci",
);
pub(super) const USB: Line = (
    "0009:01:00.2",
    "10de:1ad8",
    Some("xhci_hcd"),
    Some("xhci_hcd"),
    "vfio-pci",
);

pub(super) const ONE: &[Line] = &[GPU0];
pub(super) const TWO: &[Line] = &[GPU0, GPU1];
pub(super) const FOUR: &[Line] = &[GPU0, GPU1, GPU2, GPU3];
/// A GPU with the other functions of its card.
pub(super) const COMPANIONS: &[Line] = &[GPU0, AUDIO, USB];
/// Two GPUs of one IOMMU group with their other function.
pub(super) const GROUP: &[Line] = &[GPU0, GPU2, AUDIO];
/// A GPU whose driver has an `unbindLock`, and its other function.
pub(super) const LOCKED: &[Line] = &[GPU4, AUDIO];
pub(super) const PLANS: [&[Line]; 6] = [ONE, TWO, FOUR, COMPANIONS, GROUP, LOCKED];

/// A machine with a plan, and agents on it.
pub(super) struct Trial {
    pub(super) plan: &'static [Line],
    pub(super) machine: Arc<Machine>,
    pub(super) life: Life,
    pub(super) agent: Assigner,
    pub(super) context: Arc<Context>,
    pub(super) directory: tempfile::TempDir,
    /// Printed if the test fails.
    pub(super) faults: Vec<(usize, Fault)>,
}

pub(super) fn model(plan: &[Line]) -> Model {
    let model = Model::default();
    model.add_driver(driver("vfio-pci"), []);
    model.add_module(VARIANT, driver(VARIANT));
    for (at, id, on, text, _) in plan {
        let id = id.parse().expect("id");
        if let Some(on) = on {
            model.add_driver(driver(on), [id]);
        }
        model.add_device(address(at), id, on.map(driver));
        let attribute = Attribute::Override(address(at));
        text.map(|text| model.write(&attribute, text).expect("override"));
        if *at == GPU4.0 {
            let unbind_lock = Some(false);
            let occupancy = Occupancy {
                unbind_lock,
                ..Occupancy::default()
            };
            model.set_occupancy(address(at), occupancy);
        }
    }
    model
}

pub(super) fn agent(
    life: &Life,
    context: &Arc<Context>,
    directory: &tempfile::TempDir,
) -> Assigner {
    let records = Records::with_storage(directory.path().to_owned(), Arc::new(life.clone()));
    let agent = Assigner::new(Arc::new(life.clone()), context.clone(), records);
    agent.with_services(Arc::new(life.clone()))
}

pub(super) fn planned(plan: &[Line]) -> Vec<Planned> {
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

pub(super) fn domain() -> DomainRef {
    DomainRef {
        uuid: UUID.parse().expect("uuid"),
        name: "d0".into(),
    }
}

pub(super) fn before(line: &Line) -> Before {
    Before {
        driver: line.2.map(driver),
        driver_override: line.3.map(str::to_owned),
    }
}

impl Assigner {
    /// Claims devices and binds them, without a check for obstacles between.
    pub(super) fn bind(
        &self,
        domain: &DomainRef,
        devices: &[Planned],
        accept: impl FnOnce() -> Result<(), AssignError>,
    ) -> Result<(), AssignError> {
        let held = self.claim(domain, devices).inspect_err(|_| {
            self.left_over(&domain.uuid);
        })?;
        self.bind_claimed(domain, devices, held, accept)
    }
}

impl Trial {
    pub(super) fn new(
        context: &Arc<Context>,
        plan: &'static [Line],
        faults: &[(usize, Fault)],
    ) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let machine = Machine::new(model(plan), faults);
        let life = machine.life();
        Self {
            plan,
            agent: agent(&life, context, &directory),
            machine,
            life,
            context: context.clone(),
            directory,
            faults: faults.to_vec(),
        }
    }

    /// Binds the plan's devices for the domain.
    pub(super) fn bind(&self) -> Result<(), AssignError> {
        let (host_view, devices) = (self.context.look(), planned(self.plan));
        self.agent.undisturbed(|| {
            let held = self.agent.claim_free(&host_view, &domain(), &devices)?;
            let accept = || Ok(());
            self.agent.bind_claimed(&domain(), &devices, held, accept)
        })
    }

    /// As libvirt does: a refused start is followed by a release.
    pub(super) fn start(&self) -> bool {
        let bound = self.bind().is_ok();
        self.check_journalled("after the bind");
        if !bound {
            let _ = self.agent.release(&domain().uuid);
            self.check_journalled("after the release of a start that failed");
        }
        bound && !self.life.is_over()
    }

    /// Starts agents that recover, until one does not end meanwhile.
    pub(super) fn recover(&mut self, running: &[DomainUuid]) {
        for _ in 0..3 {
            self.life = self.machine.life();
            self.agent = agent(&self.life, &self.context, &self.directory);
            self.agent.resume();
            self.check_journalled("after resuming");
            self.agent.recover(running);
            self.check_journalled("after recovering");
            if !self.life.is_over() {
                return;
            }
        }
    }

    pub(super) fn state(&self, line: &Line) -> Before {
        Before::read(&self.machine.model, address(line.0)).expect("state")
    }

    /// Reads the files: a fault of the agent's reads does not matter here.
    pub(super) fn journalled(&self, line: &Line) -> Option<Phase> {
        let held = Records::new(self.directory.path().to_owned()).entries();
        let mut devices = held.iter().flat_map(|(_, entry)| &entry.devices);
        let found = devices.find(|held| held.address == address(line.0));
        found.map(|held| held.record.phase)
    }

    pub(super) fn is_bound(&self, line: &Line) -> bool {
        let state = self.state(line);
        state.driver == Some(driver(line.4)) && self.journalled(line) == Some(Phase::Bound)
    }

    /// Every change is journalled, except by the policy.
    pub(super) fn check_journalled(&self, when: &str) {
        for line in self.plan {
            let state = self.state(line);
            let known = self.journalled(line).is_some() || self.is_released(line);
            let faults = &self.faults;
            assert!(known, "{}: {state:?}, {when}: {faults:?}", line.0);
        }
    }

    /// In the previous state, or in the one that the policy requires.
    pub(super) fn is_released(&self, line: &Line) -> bool {
        let state = self.state(line);
        let policy = &self.context.rules().config.release;
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

    /// Each device is bound and journalled, or restored and not journalled.
    pub(super) fn check_settled(&self) {
        for line in self.plan {
            let (state, noted) = (self.state(line), self.journalled(line));
            let back = state == before(line) && noted.is_none();
            let (known, faults) = (back || self.is_bound(line), &self.faults);
            assert!(known, "{}: {state:?} {noted:?}: {faults:?}", line.0);
        }
        let bound = self.plan.iter().filter(|line| self.is_bound(line)).count();
        assert!([0, self.plan.len()].contains(&bound), "{bound} bound");
        let (served, faults) = (self.machine.is_served(), &self.faults);
        assert!(bound > 0 || served, "the service does not run: {faults:?}");
        let locked =
            |line: &&Line| self.machine.model.unbind_lock(address(line.0)) == Ok(Some(true));
        let left = self.plan.iter().find(locked);
        assert_eq!(left, None, "its unbindLock is taken: {faults:?}");
    }

    /// A start; `running` is libvirt's later answer, regardless of the agent's.
    pub(super) fn start_and_recover(&mut self, running: bool, stuck_meanwhile: bool) {
        let started = self.start();
        let running = match running || started {
            true => vec![domain().uuid],
            false => Vec::new(),
        };
        if stuck_meanwhile {
            self.recover(&running);
        }
        self.machine.end_stuck_writes();
        self.recover(&running);
        self.machine.heal();
        self.recover(&running);
        self.check_settled();
        if started {
            assert!(self.plan.iter().all(|line| self.is_bound(line)));
        }
    }

    /// A guest that has run ends, and libvirt reports it.
    pub(super) fn release_and_recover(&mut self) {
        let _ = self.agent.release(&domain().uuid);
        self.check_journalled("after the release");
        self.recover(&[]);
        self.machine.end_stuck_writes();
        self.recover(&[]);
        self.machine.heal();
        self.recover(&[]);
        for line in self.plan {
            let (released, faults) = (self.is_released(line), &self.faults);
            assert!(released, "{:?}: {faults:?}", self.state(line));
            assert_eq!(self.journalled(line), None, "{faults:?}");
        }
        assert!(self.machine.is_served(), "{:?}", self.faults);
    }
}
