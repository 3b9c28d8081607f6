//! The agent settles an interrupted change as soon as possible, without a request.

use std::future::pending;

use kernel_glue::kernel::Kernel;
use nix::errno::Errno;
use tokio::sync::Notify;

use super::again::serve_with;
use super::fault_fixture::Fault;
use super::trial_fixture::*;
use super::*;
use crate::fixture::{GPU, VARIANT, address, context, driver, kernel};
use settings::config::Config;

const SOON: Duration = Duration::from_millis(10);
/// Longer than any test waits, so that only the notification can be the cause.
const NEVER: Duration = Duration::from_secs(3600);

/// Runs the agent's retries until `done`.
async fn until(
    agent: &Arc<Assigner>,
    ended: &Arc<Notify>,
    pause: Duration,
    done: impl Fn() -> bool,
) {
    let pauses = [pause];
    let retries = async {
        serve_with(agent.clone(), ended.clone(), &pauses).await;
        pending::<()>().await;
    };
    let watch = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let done = async {
        tokio::select! {
            () = retries => {}
            () = watch => {}
        }
    };
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, done).await.expect("settled");
}

#[tokio::test]
async fn device_that_was_busy_at_start_is_released_when_free() {
    let (directory, context) = context(Config::default());
    let kernel = kernel();
    let start = || {
        let records = Records::new(directory.path().to_owned());
        let mut agent = Assigner::new(kernel.clone(), context.clone(), records);
        agent.qemu_timeout = Duration::ZERO;
        Arc::new(agent)
    };
    let agent = start();
    agent
        .bind(&domain(), &planned(ONE), || Ok(()))
        .expect("bound");
    kernel.set_users(address(GPU), &[4711]);
    agent.release(&domain().uuid).expect_err("held");
    let agent = start();
    agent.resume();
    assert!(!agent.settle(), "it is held");
    kernel.set_users(address(GPU), &[]);
    until(&agent, &Arc::default(), SOON, || agent.held().is_empty()).await;
    assert_eq!(kernel.driver(address(GPU)), Ok(Some(driver("nvidia"))));
}

#[tokio::test]
async fn a_write_that_was_stuck_is_settled_when_it_ends_whatever_came_of_it() {
    for fault in [Fault::Hangs, Fault::HangsLate] {
        let mut settled = 0;
        for point in 1.. {
            let (_directory, context) = context(Config::default());
            let trial = Trial::new(&context, ONE, &[(point, fault)]);
            let agent = Arc::new(agent(&trial.life, &context, &trial.directory));
            let bound = agent.bind(&domain(), &planned(ONE), || Ok(())).is_ok();
            if trial.machine.ahead() > 0 {
                break;
            }
            if bound || agent.held().is_empty() {
                continue; // The module or the record: no device has hung.
            }
            let ended = Arc::new(Notify::new());
            trial.machine.end_stuck_writes();
            ended.notify_one();
            until(&agent, &ended, NEVER, || agent.held().is_empty()).await;
            assert_eq!(trial.state(&GPU0), before(&GPU0), "{fault:?} at {point}");
            settled += 1;
        }
        assert_eq!(settled, 3, "the override, the unbind and the bind");
    }
}

#[tokio::test]
async fn failed_undo_of_a_manual_bind_is_retried() {
    let (directory, context) = context(Config::default());
    let kernel = kernel();
    let records = Records::new(directory.path().to_owned());
    let agent = Arc::new(Assigner::new(kernel.clone(), context, records));
    kernel.fail_write(3, Errno::EIO);
    kernel.fail_write(4, Errno::EIO);
    let failed = agent.bind_manually(address(GPU), Some(driver(VARIANT)));
    assert!(
        failed
            .expect_err("degraded")
            .to_string()
            .contains("VD-BND-004")
    );
    let back = || kernel.driver(address(GPU)) == Ok(Some(driver("nvidia")));
    until(&agent, &Arc::default(), SOON, back).await;
    // The driver is back before the record is gone.
    until(&agent, &Arc::default(), NEVER, || agent.settle()).await;
}

#[test]
fn recover_keeps_the_devices_of_a_running_guest() {
    let (_directory, context) = context(Config::default());
    let trial = Trial::new(&context, TWO, &[]);
    assert!(trial.start());
    assert!(trial.agent.settle());
    assert!(TWO.iter().all(|line| trial.is_bound(line)));
}
