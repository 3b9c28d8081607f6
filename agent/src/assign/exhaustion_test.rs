//! Every system call of the agent fails once, including reads and the start, with each errno of an exhausted resource.
//!
//! No device is forgotten: a device that is not in its previous state is journalled after every failure. An error names
//! its cause. When nothing fails any more, the agent that saw the failure settles by itself, and so does a restarted
//! agent.

use kernel_glue::failure::{Failure, describe};
use kernel_glue::host::Gap;
use nix::errno::Errno;

use super::fault_fixture::Fault;
use super::trial_fixture::*;
use super::*;
use crate::fixture::{self, GPU, VARIANT, address, context, definition, driver, guest};
use settings::config::{Config, Release};

const ERRNOS: [Errno; 5] = [
    Errno::EMFILE,
    Errno::ENOMEM,
    Errno::EIO,
    Errno::ENOSPC,
    Errno::EINTR,
];

/// Runs with a fault at each point after `begin` until none occurs; returns the number of runs.
fn each_point(begin: usize, run: impl FnMut(Errno, &[(usize, Fault)]) -> bool) -> usize {
    each_point_of(begin, ERRNOS.len(), run)
}

/// Like [`each_point`], with so many errnos at each point, in turn.
fn each_point_of(
    begin: usize,
    errnos: usize,
    mut run: impl FnMut(Errno, &[(usize, Fault)]) -> bool,
) -> usize {
    let struck = (begin + 1..).take_while(|point| {
        let some = ERRNOS.iter().cycle().skip(*point).take(errnos);
        let struck = some.filter(|errno| run(**errno, &[(*point, Fault::Errno(**errno))]));
        struck.count() > 0
    });
    struck.count() * errnos
}

/// Every errno at each point of one device; one at each point of several devices, whose calls are the same.
fn errnos(plan: &[Line]) -> usize {
    match plan.len() {
        1 => ERRNOS.len(),
        _ => 1,
    }
}

fn trial(context: &Arc<Context>, plan: &'static [Line], faults: &[(usize, Fault)]) -> Trial {
    Trial::reading(context, plan, faults)
}

/// The error text of an injected errno contains the errno's text.
fn check_words(errno: Errno, error: &AssignError) {
    let text = error.to_string();
    let known = text.contains(&describe(errno)) || text.contains(&format!("{errno:?}"));
    let by_journal = text.contains(&std::io::Error::from(errno).to_string());
    assert!(known || by_journal, "{errno:?}: {text}");
}

#[test]
fn start_reports_the_cause_of_any_failed_call_and_restores() {
    let (_directory, context) = context(Config::default());
    let points: usize = PLANS
        .iter()
        .map(|plan| {
            each_point_of(0, errnos(plan), |errno, faults| {
                let trial = trial(&context, plan, faults);
                let result = trial.bind();
                let struck = trial.machine.ahead() == 0;
                trial.check_journalled("after the bind");
                if let Err(error) = &result {
                    check_words(errno, error);
                    let _ = trial.agent.release(&domain().uuid);
                }
                trial.check_journalled("after its release");
                trial.machine.heal();
                trial.agent.settle();
                trial.check_settled();
                struck
            })
        })
        .sum();
    println!("{points} failing calls of a start tried");
    assert!(points > 400, "{points}");
}

#[test]
fn release_finishes_after_any_failed_call() {
    let vfio = Release::Driver(driver("vfio-pci"));
    let mut points = 0;
    for release in [Release::Previous, Release::Keep, vfio] {
        let (_directory, context) = context(Config {
            release,
            ..Config::default()
        });
        for plan in [ONE, TWO, LOCKED] {
            let bound = trial(&context, plan, &[]);
            assert!(bound.start());
            let begin = bound.machine.point();
            points += each_point_of(begin, errnos(plan), |_, faults| {
                let trial = trial(&context, plan, faults);
                assert!(trial.start());
                let _ = trial.agent.release(&domain().uuid);
                let struck = trial.machine.ahead() == 0;
                trial.check_journalled("after the release");
                trial.machine.heal();
                trial.agent.settle();
                for line in plan {
                    let (released, faults) = (trial.is_released(line), &trial.faults);
                    assert!(released, "{:?}: {faults:?}", trial.state(line));
                    assert_eq!(trial.journalled(line), None, "{faults:?}");
                }
                struck
            });
        }
    }
    println!("{points} failing calls of a release tried");
    assert!(points > 250, "{points}");
}

#[test]
fn recovery_completes_after_any_failed_call() {
    let (_directory, context) = context(Config::default());
    let mut points = 0;
    let begin = trial(&context, ONE, &[]).machine.point();
    for death in (begin + 1..).step_by(3) {
        let died = |faults: &[(usize, Fault)]| {
            let trial = trial(
                &context,
                ONE,
                &[&[(death, Fault::DiesAfter)], faults].concat(),
            );
            trial.start();
            trial
        };
        let first = died(&[]);
        if !first.life.is_over() {
            break;
        }
        points += each_point(first.machine.point(), |_, faults| {
            let mut trial = died(faults);
            trial.recover(&[]);
            let struck = trial.machine.ahead() == 0;
            trial.machine.heal();
            trial.agent.settle();
            trial.agent.recover(&[]);
            trial.check_settled();
            struck
        });
    }
    println!("{points} failing calls of a start of the agent tried");
    assert!(points > 400, "{points}");
}

#[test]
fn manual_bind_and_release_leave_no_third_state_after_any_failed_call() {
    let (_directory, context) = context(Config::default());
    let gpu = address(GPU0.0);
    let mut points = each_point(0, |errno, faults| {
        let trial = trial(&context, ONE, faults);
        let bound = trial.agent.bind_manually(gpu, Some(driver(VARIANT)));
        let struck = trial.machine.ahead() == 0;
        if let Err(error) = &bound {
            check_words(errno, error);
        }
        trial.check_manual(bound.is_ok());
        struck
    });
    let begin = {
        let trial = trial(&context, ONE, &[]);
        let bound = trial.agent.bind_manually(gpu, Some(driver(VARIANT)));
        bound.expect("bound");
        trial.machine.point()
    };
    points += each_point(begin, |_, faults| {
        let trial = trial(&context, ONE, faults);
        let bound = trial.agent.bind_manually(gpu, Some(driver(VARIANT)));
        bound.expect("bound");
        let released = trial.agent.release_manually(gpu);
        let struck = trial.machine.ahead() == 0;
        if released.is_err() {
            trial.machine.heal();
            trial.agent.settle();
            let _ = trial.agent.release_manually(gpu);
        }
        assert_eq!(trial.state(&GPU0), before(&GPU0), "{faults:?}");
        trial.check_manual(false);
        struck
    });
    println!("{points} failing calls of a manual bind and release tried");
    assert!(points > 100, "{points}");
}

impl Trial {
    /// A trial whose reads are fault points, including those of the agent's start.
    fn reading(context: &Arc<Context>, plan: &'static [Line], faults: &[(usize, Fault)]) -> Self {
        let mut trial = Self::new(context, plan, faults);
        trial.machine.count_reads();
        trial.agent = agent(&trial.life, &trial.context, &trial.directory);
        trial
    }

    /// A manually bound device is recorded and bound, or restored and not recorded.
    fn check_manual(&self, bound: bool) {
        self.machine.heal();
        self.agent.settle();
        let (state, faults) = (self.state(&GPU0), &self.faults);
        let record = self
            .agent
            .records
            .manual(address(GPU0.0))
            .expect("readable");
        let is_bound = state.driver == Some(driver(VARIANT))
            && record.as_ref().is_some_and(|one| !one.is_unsettled());
        let is_back = state == before(&GPU0) && record.is_none();
        assert!(is_bound || is_back, "{state:?} {record:?}: {faults:?}");
        assert!(!bound || is_bound, "{state:?} {record:?}: {faults:?}");
    }
}

/// A guest's definition, and an assigner on a host that is read by `read`.
fn prepared(read: fixture::ReadHost) -> (AssignError, Arc<kernel_glue::model::Model>) {
    let (_directory, good) = context(Config::default());
    let complete = good
        .look()
        .rewrite(&definition(&guest(GPU)), false)
        .expect("a complete guest");
    let (directory, context) = fixture::context_reading(read, Config::default());
    let kernel = fixture::kernel();
    let records = Records::new(directory.path().to_owned());
    let assigner = Assigner::new(kernel.clone(), context, records);
    (
        assigner
            .prepare(&definition(&complete.text))
            .expect_err("refused"),
        kernel,
    )
}

#[test]
fn a_start_is_refused_when_the_host_or_the_device_cannot_be_read() {
    let exhausted = || Failure::Io {
        action: "read",
        path: "/sys".into(),
        source: Errno::EMFILE.into(),
    };
    let (error, kernel) = prepared(Box::new(move || Err(exhausted())));
    assert!(error.to_string().contains("too many open files"), "{error}");
    assert!(kernel.writes().is_empty());
    // The device is not in the host because its id could not be read.
    let (error, kernel) = prepared(Box::new(|| {
        let mut host = fixture::host();
        host.devices.remove(&address(GPU));
        host.gaps.push(Gap {
            path: format!("/sys/bus/pci/devices/{GPU}/vendor"),
            reason: "I/O error".into(),
        });
        Ok(host)
    }));
    let text = error.to_string();
    assert!(
        text.contains("VD-AGT-002") && text.contains("I/O error"),
        "{text}"
    );
    assert!(kernel.writes().is_empty());
}
