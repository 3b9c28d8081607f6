//! Services that hold a GPU, on a modelled kernel and a modelled service manager.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use kernel_glue::holder::{HeldNode, Holder};
use kernel_glue::kernel::Kernel;
use kernel_glue::model::Model;
use kernel_glue::occupancy::{Occupancy, Onlined};
use nix::errno::Errno;

use super::*;
use crate::fixture::{GPU, UUID, VARIANT, address, context, definition, guest, kernel};
use crate::service::{Action, ServiceError, ServiceName};
use settings::config::Config;

const DAEMON: &str = "nvidia-persistenced.service";
const MONITOR: &str = "nvidia-dcgm.service";

/// Units that hold the GPU while they run; those in `needs` stop with the unit.
struct Units {
    kernel: Arc<Model>,
    running: Mutex<BTreeSet<String>>,
    needs: BTreeMap<String, Vec<String>>,
    /// The manager does not answer start requests.
    silent: AtomicBool,
    /// A unit that does not end when it is stopped.
    stubborn: Option<&'static str>,
    /// The GPU's memory, which the driver removes when no unit runs any more.
    memory: Option<Onlined>,
    done: Mutex<Vec<String>>,
}

impl Units {
    fn hold(&self) {
        let running = self.running.lock().expect("running");
        let holders = (7..).zip(running.iter()).map(|(process, unit)| Holder {
            process,
            command: "daemon".into(),
            unit: Some(unit.clone()),
            nodes: vec![HeldNode {
                path: "/dev/nvidia0".into(),
                descriptor: Some(4),
                shared: false,
            }],
        });
        let mut occupancy = Occupancy::default();
        occupancy.holders.found = holders.collect();
        occupancy.onlined = self.memory.clone();
        if !occupancy.holders.found.is_empty() {
            self.kernel.set_occupancy(address(GPU), occupancy);
            return;
        }
        let onlined = self.memory.clone().map(|memory| Onlined {
            is_changing: true,
            ..memory
        });
        let removing = Occupancy {
            onlined,
            ..Occupancy::default()
        };
        let next = [removing.clone(), removing, Occupancy::default()];
        self.kernel.set_occupancies(address(GPU), next);
    }

    fn note(&self, what: &str, unit: &ServiceName) {
        let mut done = self.done.lock().expect("done");
        done.push(format!("{what} {unit}"));
    }

    fn is_running(&self, unit: &str) -> bool {
        self.running.lock().expect("running").contains(unit)
    }
}

impl Services for Units {
    fn dependents(&self, unit: &ServiceName) -> Result<Vec<String>, ServiceError> {
        let needing = self.needs.get(unit.as_str()).cloned();
        let running = |unit: &String| self.is_running(unit);
        Ok(needing
            .unwrap_or_default()
            .into_iter()
            .filter(running)
            .collect())
    }

    fn stop(&self, unit: &ServiceName) -> Result<(), ServiceError> {
        self.note("stop", unit);
        if self.stubborn == Some(unit.as_str()) {
            let (unit, seconds) = (unit.to_string(), 15);
            return Err(ServiceError::Late { unit, seconds });
        }
        self.running.lock().expect("running").remove(unit.as_str());
        self.hold();
        Ok(())
    }

    fn start(&self, unit: &ServiceName) -> Result<(), ServiceError> {
        if self.silent.load(Ordering::SeqCst) {
            let (action, unit, why) = (Action::Start, unit.to_string(), "no answer".into());
            return Err(ServiceError::Failed { action, unit, why });
        }
        self.note("start", unit);
        let mut running = self.running.lock().expect("running");
        running.insert(unit.to_string());
        drop(running);
        self.hold();
        Ok(())
    }
}

struct Scene {
    kernel: Arc<Model>,
    units: Arc<Units>,
    context: Arc<Context>,
    assigner: Assigner,
    directory: tempfile::TempDir,
}

/// These units run and hold the GPU; a guest's start may stop `named`.
fn scene(running: &[&str], named: &[&str], alter: impl FnOnce(&mut Units)) -> Scene {
    let name = |name: &&str| ServiceName::try_from((*name).to_owned()).expect("service");
    let (directory, context) = context(Config {
        stop_services: named.iter().map(name).collect(),
        ..Config::default()
    });
    let kernel = kernel();
    let mut units = Units {
        kernel: kernel.clone(),
        running: Mutex::new(running.iter().map(ToString::to_string).collect()),
        needs: BTreeMap::new(),
        silent: AtomicBool::new(false),
        stubborn: None,
        memory: None,
        done: Mutex::default(),
    };
    alter(&mut units);
    units.hold();
    let units = Arc::new(units);
    Scene {
        assigner: agent(&kernel, &context, &units, &directory),
        kernel,
        units,
        context,
        directory,
    }
}

fn agent(
    kernel: &Arc<Model>,
    context: &Arc<Context>,
    units: &Arc<Units>,
    directory: &tempfile::TempDir,
) -> Assigner {
    let records = Records::new(directory.path().to_owned());
    Assigner::new(kernel.clone(), context.clone(), records).with_services(units.clone())
}

impl Scene {
    fn restarted(&self) -> Assigner {
        agent(&self.kernel, &self.context, &self.units, &self.directory)
    }

    fn complete(&self) -> Definition {
        let rewrite = self.context.look().rewrite(&definition(&guest(GPU)), false);
        definition(&rewrite.expect("a complete guest").text)
    }

    fn driver(&self) -> String {
        let driver = self.kernel.driver(address(GPU)).expect("device");
        driver.expect("a driver").to_string()
    }

    fn done(&self) -> Vec<String> {
        self.units.done.lock().expect("done").clone()
    }

    fn records(&self) -> usize {
        self.assigner.records.units().0.len()
    }
}

fn uuid() -> DomainUuid {
    UUID.parse().expect("uuid")
}

#[test]
fn a_named_service_is_stopped_for_a_guest_and_started_when_it_has_ended() {
    let scene = scene(&[DAEMON], &[DAEMON], |_| {});
    scene.assigner.prepare(&scene.complete()).expect("bound");
    assert_eq!(scene.driver(), VARIANT);
    assert_eq!(
        (scene.done(), scene.records()),
        (vec![format!("stop {DAEMON}")], 1)
    );
    scene.assigner.release(&uuid()).expect("released");
    assert!(scene.units.is_running(DAEMON));
    assert_eq!((scene.driver(), scene.records()), ("nvidia".into(), 0));
}

#[test]
fn start_waits_until_a_stopped_service_has_left_the_memory() {
    let scene = scene(&[DAEMON], &[DAEMON], |units| {
        units.memory = Some(Onlined {
            node: None,
            ranges: 2,
            is_changing: false,
        });
    });
    scene.assigner.prepare(&scene.complete()).expect("bound");
    assert_eq!(scene.driver(), VARIANT);
    assert_eq!(scene.done(), [format!("stop {DAEMON}")]);
}

#[test]
fn unlisted_service_is_not_stopped_and_the_refusal_names_the_setting() {
    for (running, named) in [(DAEMON, ""), (DAEMON, MONITOR), ("train.service", DAEMON)] {
        let named: Vec<&str> = [named]
            .into_iter()
            .filter(|name| !name.is_empty())
            .collect();
        let scene = scene(&[running], &named, |_| {});
        let error = scene.assigner.prepare(&scene.complete()).expect_err("held");
        let text = error.to_string();
        assert!(
            text.contains("VD-BND-005") && text.contains(running),
            "{text}"
        );
        assert_eq!(
            text.contains("--stop-services"),
            running == DAEMON,
            "{text}"
        );
        assert_eq!((scene.done(), scene.records()), (Vec::new(), 0));
        assert!(scene.kernel.writes().is_empty());
    }
}

#[test]
fn free_device_needs_no_service_stop() {
    let scene = scene(&[], &[DAEMON], |_| {});
    scene.assigner.prepare(&scene.complete()).expect("bound");
    scene.assigner.release(&uuid()).expect("released");
    assert!(scene.done().is_empty());
}

#[test]
fn a_service_runs_again_after_a_bind_that_failed() {
    let scene = scene(&[DAEMON], &[DAEMON], |_| {});
    scene.kernel.fail_write(3, Errno::ETIME);
    let error = scene.assigner.prepare(&scene.complete());
    assert!(error.expect_err("fails").to_string().contains("VD-BND-030"));
    assert!(scene.units.is_running(DAEMON));
    assert_eq!((scene.driver(), scene.records()), ("nvidia".into(), 0));
    assert!(scene.assigner.held().is_empty());
}

#[test]
fn refused_start_restarts_the_stopped_service() {
    let scene = scene(&[DAEMON, "train.service"], &[DAEMON], |_| {});
    let error = scene.assigner.prepare(&scene.complete()).expect_err("held");
    assert!(error.to_string().contains("train.service"), "{error}");
    assert!(scene.units.is_running(DAEMON));
    assert_eq!((scene.records(), scene.assigner.held().len()), (0, 0));
}

#[test]
fn start_is_refused_if_a_service_does_not_stop() {
    let scene = scene(&[DAEMON], &[DAEMON], |units| units.stubborn = Some(DAEMON));
    let error = scene.assigner.prepare(&scene.complete()).expect_err("held");
    let text = error.to_string();
    assert!(
        text.contains("VD-BND-013") && text.contains("15 s"),
        "{text}"
    );
    let done = [format!("stop {DAEMON}"), format!("start {DAEMON}")];
    assert_eq!((scene.done(), scene.records()), (done.to_vec(), 0));
    assert!(scene.kernel.writes().is_empty());
}

#[test]
fn stop_refuses_unlisted_dependents() {
    let needed = |units: &mut Units| {
        units
            .needs
            .insert(DAEMON.into(), vec![MONITOR.into(), "absent.service".into()]);
    };
    let there = scene(&[DAEMON, MONITOR], &[DAEMON], needed);
    let error = there.assigner.prepare(&there.complete()).expect_err("held");
    let text = error.to_string();
    assert!(
        text.contains("VD-BND-013") && text.contains(MONITOR),
        "{text}"
    );
    assert!(there.done().is_empty());

    let there = scene(&[DAEMON, MONITOR], &[DAEMON, MONITOR], needed);
    there.assigner.prepare(&there.complete()).expect("bound");
    assert_eq!(
        there.done()[..2],
        [format!("stop {MONITOR}"), format!("stop {DAEMON}")]
    );
    there.assigner.release(&uuid()).expect("released");
    assert!(there.units.is_running(DAEMON) && there.units.is_running(MONITOR));
}

#[test]
fn an_agent_that_died_between_stop_and_bind_leaves_no_service_stopped() {
    let scene = scene(&[DAEMON], &[DAEMON], |_| {});
    let name = scene.context.rules().config.stop_services[0].clone();
    let record = scene.assigner.records.add_unit(&name, address(GPU));
    record.expect("recorded");
    scene.units.stop(&name).expect("stopped");
    scene.restarted().resume();
    assert!(scene.units.is_running(DAEMON));
    assert_eq!(scene.records(), 0);
}

#[test]
fn failed_service_start_is_retried() {
    let scene = scene(&[DAEMON], &[DAEMON], |_| {});
    scene.assigner.prepare(&scene.complete()).expect("bound");
    scene.units.silent.store(true, Ordering::SeqCst);
    scene
        .assigner
        .release(&uuid())
        .expect("the device is released");
    assert_eq!((scene.driver(), scene.records()), ("nvidia".into(), 1));
    assert!(!scene.assigner.settle(), "it does not run yet");
    scene.units.silent.store(false, Ordering::SeqCst);
    assert!(scene.assigner.settle());
    assert!(scene.units.is_running(DAEMON));
    assert_eq!(scene.records(), 0);
}

#[test]
fn after_a_restart_a_service_stays_stopped_while_the_guest_runs() {
    let scene = scene(&[DAEMON], &[DAEMON], |_| {});
    scene.assigner.prepare(&scene.complete()).expect("bound");
    let agent = scene.restarted();
    agent.resume();
    agent.recover(&[uuid()]);
    assert!(!scene.units.is_running(DAEMON));
    agent.recover(&[]);
    assert!(scene.units.is_running(DAEMON));
    assert_eq!((scene.driver(), scene.records()), ("nvidia".into(), 0));
}

#[test]
fn manual_bind_stops_known_services_on_request_until_the_release() {
    let scene = scene(&[DAEMON], &[], |_| {});
    let refused = scene.assigner.bind_manually(address(GPU), None);
    assert!(refused.expect_err("held").to_string().contains(DAEMON));
    let bind_options = BindOptions {
        stop_services: true,
        ..BindOptions::default()
    };
    let bound = scene
        .assigner
        .bind_group_manually(address(GPU), bind_options);
    assert_eq!(bound.expect("bound").device.outcome, BindOutcome::Bound);
    assert!(!scene.units.is_running(DAEMON));
    scene.restarted().resume();
    assert!(!scene.units.is_running(DAEMON), "it is bound still");
    scene
        .assigner
        .release_manually(address(GPU))
        .expect("released");
    assert!(scene.units.is_running(DAEMON));
    assert_eq!(scene.records(), 0);
}

#[test]
fn bound_device_needs_no_service_stop() {
    let scene = scene(&[], &[DAEMON], |_| {});
    scene
        .assigner
        .bind_manually(address(GPU), None)
        .expect("bound");
    scene
        .units
        .start(&scene.context.rules().config.stop_services[0])
        .expect("started");
    let error = scene.assigner.prepare(&scene.complete()).expect_err("held");
    assert!(error.to_string().contains("VD-BND-005"), "{error}");
    assert!(!scene.done().iter().any(|line| line.starts_with("stop")));
}
