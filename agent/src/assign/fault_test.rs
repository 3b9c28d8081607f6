//! Every write of every plan fails, hangs or ends the agent; no device stays in a third state.
//!
//! At any time a device that is not in its previous state is journalled. After an agent has recovered on a machine
//! where nothing fails any more, each device is bound to its driver and journalled as bound, or restored and not
//! journalled.

use super::fault_fixture::{FAULTS, Fault, SERVICE};
use super::trial_fixture::*;
use super::*;
use crate::fixture::{VARIANT, address, context, driver};
use crate::service::ServiceName;
use settings::config::{Config, Release};

fn plain_site() -> (tempfile::TempDir, Arc<Context>) {
    context(Config::default())
}

/// Runs a start, or a later operation, with a single fault at each point; returns the number of points.
fn each_point(run: impl FnMut(&[(usize, Fault)]) -> bool) -> usize {
    each_point_behind(&[], &FAULTS, run)
}

/// The same with another fault before it, for each of `faults`.
fn each_point_behind(
    first: &[(usize, Fault)],
    faults: &[Fault],
    mut run: impl FnMut(&[(usize, Fault)]) -> bool,
) -> usize {
    let begin = first.first().map_or(1, |(point, _)| point + 1);
    let struck = (begin..).take_while(|point| {
        let both = |fault: &Fault| [first, &[(*point, *fault)]].concat();
        let struck = faults.iter().filter(|fault| run(&both(fault)));
        struck.count() > 0
    });
    struck.count() * faults.len()
}

#[test]
fn single_failed_write_is_undone() {
    let (_directory, context) = plain_site();
    for plan in PLANS {
        let struck = (1..).take_while(|point| {
            let tried = [Fault::Fails, Fault::FailsLate].map(|fault| {
                let trial = Trial::new(&context, plan, &[(*point, fault)]);
                let bound = trial
                    .agent
                    .bind(&domain(), &planned(plan), || Ok(()))
                    .is_ok();
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
fn start_ends_bound_or_restored_after_any_single_fault() {
    let (_directory, context) = plain_site();
    let mut points = 0;
    for plan in PLANS {
        for (running, stuck) in [(false, false), (false, true), (true, true)] {
            points += each_point(|faults| {
                let mut trial = Trial::new(&context, plan, faults);
                trial.start_and_recover(running, stuck);
                trial.machine.ahead() == 0
            });
        }
    }
    println!("{points} points of a start tried");
    assert!(points > 800, "{points}");
}

#[test]
fn stopped_service_runs_again_after_any_single_fault() {
    let named = ServiceName::known().filter(|name| name.as_str() == SERVICE);
    let (_directory, context) = context(Config {
        stop_services: named.collect(),
        ..Config::default()
    });
    let mut points = 0;
    let served = |faults: &[(usize, Fault)]| {
        let trial = Trial::new(&context, ONE, faults);
        trial.machine.serve(address(GPU0.0));
        trial
    };
    for stuck in [false, true] {
        points += each_point(|faults| {
            let mut trial = served(faults);
            trial.start_and_recover(false, stuck);
            trial.machine.ahead() == 0
        });
    }
    let bound = served(&[]);
    assert!(bound.start() && !bound.machine.is_served());
    let begin = bound.machine.point();
    points += each_point(|faults| {
        let faults: Vec<_> = faults.iter().map(|(p, f)| (p + begin, *f)).collect();
        let mut trial = served(&faults);
        assert!(trial.start());
        trial.release_and_recover();
        trial.machine.ahead() == 0
    });
    println!("{points} points of a guest's life beside a service tried");
    assert!(points > 140, "{points}");
}

#[test]
fn release_ends_by_policy_or_restored_after_any_single_fault() {
    let vfio = Release::Driver(driver("vfio-pci"));
    let policies = [Release::Previous, Release::Keep, vfio];
    let points: usize = policies.map(points_of_a_release).iter().sum();
    println!("{points} points of a release tried");
    assert!(points > 500, "{points}");
}

fn points_of_a_release(release: Release) -> usize {
    let (_directory, context) = context(Config {
        release,
        ..Config::default()
    });
    let points = PLANS.map(|plan| {
        let bound = Trial::new(&context, plan, &[]);
        assert!(bound.start());
        let begin = bound.machine.point();
        each_point(|faults| {
            let faults: Vec<_> = faults.iter().map(|(p, f)| (p + begin, *f)).collect();
            let mut trial = Trial::new(&context, plan, &faults);
            assert!(trial.start());
            trial.release_and_recover();
            trial.machine.ahead() == 0
        })
    });
    points.iter().sum()
}

#[test]
fn release_without_faults_ends_by_policy() {
    let cases = [
        ("previous", Some("nvidia"), None),
        ("keep", Some(VARIANT), Some(VARIANT)),
        ("vfio-pci", Some("vfio-pci"), Some("vfio-pci")),
        ("nvidia", Some("nvidia"), None),
    ];
    for (policy, on, text) in cases {
        let release = policy.to_owned().try_into().expect("policy");
        let (_directory, context) = context(Config {
            release,
            ..Config::default()
        });
        let trial = Trial::new(&context, ONE, &[]);
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
fn two_faults_leave_no_third_state() {
    let pairs = pairs(ONE, &FAULTS);
    println!("{pairs} pairs of points of one device tried");
    assert!(pairs > 500, "{pairs}");
}

#[test]
fn fault_in_the_undo_of_two_devices_leaves_no_third_state() {
    let pairs = pairs(TWO, &[Fault::Fails, Fault::DiesBefore]);
    println!("{pairs} pairs of points of two devices tried");
    assert!(pairs > 500, "{pairs}");
}

fn pairs(plan: &'static [Line], second: &[Fault]) -> usize {
    let (_directory, context) = plain_site();
    let mut pairs = 0;
    each_point(|first| {
        let mut struck = false;
        pairs += each_point_behind(first, second, |faults| {
            let mut trial = Trial::new(&context, plan, faults);
            trial.start_and_recover(false, true);
            struck |= trial.machine.ahead() < 2;
            trial.machine.ahead() == 0
        });
        struck
    });
    pairs
}

#[test]
fn manual_bind_ends_bound_or_restored_after_any_single_fault() {
    let (_directory, context) = plain_site();
    let device = address(GPU0.0);
    let points = each_point(|faults| {
        let mut trial = Trial::new(&context, ONE, faults);
        let bound = trial.agent.bind_manually(device, None).is_ok() && !trial.life.is_over();
        trial.machine.end_stuck_writes();
        trial.machine.heal();
        trial.life = trial.machine.life();
        trial.agent = agent(&trial.life, &trial.context, &trial.directory);
        assert!(trial.agent.settle(), "{faults:?}");
        let record = trial.agent.records.manual(device).expect("read");
        let is_bound = record.is_some_and(|record| !record.is_unsettled());
        let state = trial.state(&GPU0);
        let expected = match is_bound {
            true => state.driver == Some(driver(VARIANT)),
            false => state == before(&GPU0) && !bound,
        };
        assert!(expected, "{state:?}: {faults:?}");
        trial.machine.ahead() == 0
    });
    println!("{points} points of a manual bind tried");
    assert!(points > 30, "{points}");
}
