//! Calls as jobs: start, progress, cancel, limits and removal.

use tokio::time::timeout;

use super::*;
use api::client::{JobProxy, Options};

async fn job(scene: &Scene, operation: &str, subject: &str) -> Result<JobProxy<'static>, Fault> {
    let manager = scene.manager().await;
    let path = manager.start_job(operation, subject, Options::new()).await;
    let proxy = JobProxy::builder(&scene.client).path(path.map_err(Fault::from)?);
    let proxy = proxy.cache_properties(zbus::proxy::CacheProperties::No);
    Ok(proxy.build().await.expect("proxy"))
}

/// Waits for the end, also of a job that has ended before the test subscribed.
async fn end(job: &JobProxy<'static>) -> (String, String, String) {
    let mut completed = job.receive_completed().await.expect("signals");
    let over = async {
        while ["waiting", "working"].contains(&&*job.state().await.expect("state")) {
            next(&mut completed).await.expect("a signal");
        }
    };
    timeout(Duration::from_secs(10), over)
        .await
        .expect("in time");
    let (state, error) = (job.state().await, job.error_name().await);
    let result = job.result().await;
    (
        state.expect("state"),
        error.expect("error"),
        result.expect("result"),
    )
}

async fn until(job: &JobProxy<'static>, state: &str) {
    let reached = async {
        while job.state().await.expect("state") != state {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), reached)
        .await
        .expect("in time");
}

#[tokio::test]
async fn job_returns_the_reply_of_its_method() {
    let scene = scene().await;
    let bound = job(&scene, "bind", GPU).await.expect("job");
    let (state, error, result) = end(&bound).await;
    assert_eq!((&*state, &*error), ("done", ""));
    assert!(result.contains(r#""outcome":"bound""#), "{result}");
    assert_eq!(bound.progress().await, Ok(1.0));
    assert_eq!(bound.operation().await.expect("operation"), "bind");
    assert_eq!(scene.driver(), VARIANT);
    let released = job(&scene, "release", GPU).await.expect("job");
    assert!(end(&released).await.2.contains(r#""outcome":"released""#));
    let failed = job(&scene, "bind", "0009:1f:00.0").await.expect("job");
    let (state, error, result) = end(&failed).await;
    assert_eq!(
        (&*state, &*error),
        ("failed", "org.variantd1.Error.NotFound.VD_DEV_001")
    );
    assert!(result.contains("0009:1f:00.0"), "{result}");
    // The subject is resolved before the job starts.
    let missing = job(&scene, "prepare", "missing")
        .await
        .expect_err("no domain");
    assert!(matches!(missing, Fault::NotFound(ref text) if text.contains("'missing'")));
}

#[tokio::test]
async fn the_end_is_a_signal_with_the_result() {
    let scene = scene().await;
    scene.libvirt.put(&guest(GPU));
    scene.libvirt.hold_defines(true);
    let prepared = job(&scene, "prepare", "d0").await.expect("job");
    let mut completed = prepared.receive_completed().await.expect("signals");
    scene.libvirt.hold_defines(false);
    let completed = timeout(Duration::from_secs(10), next(&mut completed)).await;
    let completed = completed.expect("in time").expect("a signal");
    let printed = completed.args().expect("arguments");
    assert!(*printed.success(), "{printed:?}");
    assert_eq!(*printed.error_name(), "");
    assert!(
        printed.result().contains(r#""outcome":"completed""#),
        "{printed:?}"
    );
    let reverted = job(&scene, "revert", "d0").await.expect("job");
    assert!(end(&reverted).await.2.contains(r#""outcome":"reverted""#));
}

#[tokio::test]
async fn a_job_that_waits_for_its_turn_is_cancelled_and_one_that_has_begun_is_not() {
    let scene = scene().await;
    let domain = scene.libvirt.put(&guest(GPU));
    scene.libvirt.hold_defines(true);
    let first = job(&scene, "prepare", "d0").await.expect("job");
    until(&first, "working").await;
    let second = job(&scene, "prepare", "d0").await.expect("job");
    let refused = first.cancel(Options::new()).await.expect_err("begun");
    let refused = Fault::from(refused);
    assert!(matches!(refused, Fault::Refused(ref text) if text.contains("VD-AGT-003")));
    assert_eq!(second.state().await.expect("state"), "waiting");
    second.cancel(Options::new()).await.expect("cancelled");
    let (state, error, _) = end(&second).await;
    assert_eq!(
        (&*state, &*error),
        ("cancelled", "org.variantd1.Error.Cancelled.VD_AGT_005")
    );
    scene.libvirt.hold_defines(false);
    assert_eq!(end(&first).await.0, "done");
    assert_eq!(scene.libvirt.defines(), 1);
    assert!(scene.libvirt.text(&domain).contains("urn:variantd:1"));
}

#[tokio::test]
async fn a_stage_is_reported_during_the_work() {
    let scene = scene().await;
    scene.libvirt.put(&guest(GPU));
    scene.libvirt.hold_defines(true);
    let job = job(&scene, "prepare", "d0").await.expect("job");
    let defining = async {
        while job.stage().await.expect("stage") != "defining the completed domain" {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), defining)
        .await
        .expect("in time");
    let progress = job.progress().await.expect("progress");
    assert!(progress > 0.0 && progress < 1.0, "{progress}");
    scene.libvirt.hold_defines(false);
    end(&job).await;
}

#[tokio::test]
async fn a_caller_has_eight_jobs_at_most_and_no_unknown_ones() {
    let scene = scene().await;
    scene.libvirt.put(&guest(GPU));
    scene.libvirt.hold_defines(true);
    let mut jobs = Vec::new();
    for _ in 0..8 {
        jobs.push(job(&scene, "prepare", "d0").await.expect("job"));
    }
    let full = job(&scene, "recover", "").await.expect_err("too many");
    assert!(matches!(full, Fault::Refused(ref text) if text.contains("VD-AGT-004")));
    let unknown = job(&scene, "reload", "").await.expect_err("unknown");
    assert!(matches!(unknown, Fault::Failed(ref text) if text.contains("'recover' can")));
    scene.libvirt.hold_defines(false);
    for one in &jobs {
        assert_eq!(end(one).await.0, "done");
    }
    job(&scene, "recover", "").await.expect("room again");
}

#[tokio::test]
async fn a_job_is_removed_some_time_after_its_end() {
    let mut parts = parts();
    parts.manager.jobs.kept = Duration::from_millis(1);
    let scene = scene_of(parts).await;
    let job = job(&scene, "recover", "").await.expect("job");
    let gone = async { while job.state().await.is_ok() {} };
    timeout(Duration::from_secs(10), gone)
        .await
        .expect("in time");
}
