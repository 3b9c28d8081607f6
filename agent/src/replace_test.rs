//! Another client acts at each point around our define.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::fixture::{GPU, context, guest};
use crate::libvirt::fake::{Act, Fake, Point};
use crate::prepare::{Preparer, Trigger};
use api::report::{Outcome, Report};
use settings::config::Config;

struct Scene {
    libvirt: Arc<Fake>,
    preparer: Preparer,
    domain: DomainRef,
    _directory: tempfile::TempDir,
}

fn scene() -> Scene {
    let (directory, context) = context(Config::default());
    let libvirt = Arc::new(Fake::default());
    Scene {
        domain: libvirt.put(&guest(GPU)),
        preparer: Preparer::new(libvirt.clone(), context),
        libvirt,
        _directory: directory,
    }
}

fn edited() -> String {
    guest(GPU).replace("<vcpu>4</vcpu>", "<vcpu>5</vcpu>")
}

impl Scene {
    fn prepare(&self) -> Result<Report, PrepareError> {
        self.preparer.prepare(&self.domain, Trigger::Define)
    }

    fn has_their_edit(&self) -> bool {
        self.libvirt.text(&self.domain).contains("<vcpu>5</vcpu>")
    }
}

const DELAYS: [Option<Duration>; 2] = [None, Some(Duration::from_millis(120))];

#[test]
fn edit_before_the_define_is_kept_and_completed() {
    let scene = scene();
    scene.libvirt.act(Point::Before, Act::Define(edited()));
    assert_eq!(
        scene.prepare().expect("prepared").outcome,
        Outcome::Completed
    );
    assert!(scene.has_their_edit());
}

#[test]
fn edit_during_the_validation_is_restored_and_completed() {
    let scene = scene();
    scene.libvirt.act(Point::Within, Act::Define(edited()));
    assert_eq!(
        scene.prepare().expect("prepared").outcome,
        Outcome::Completed
    );
    assert!(scene.has_their_edit());
    assert!(scene.libvirt.text(&scene.domain).contains("urn:variantd:1"));
}

#[test]
fn edit_after_the_define_is_kept_and_completed() {
    for delay in DELAYS {
        let scene = scene();
        delay.inspect(|delay| scene.libvirt.delay_events(*delay));
        scene.libvirt.act(Point::After, Act::Define(edited()));
        // By the read back, or by its own event.
        let prepared = scene.prepare();
        assert!(scene.has_their_edit(), "{delay:?}");
        assert!(
            prepared.is_err() || scene.libvirt.text(&scene.domain).contains("urn:variantd:1"),
            "{delay:?}: it is not reported complete"
        );
        scene.prepare().expect("prepared");
        assert!(scene.has_their_edit(), "{delay:?}");
        assert!(scene.libvirt.text(&scene.domain).contains("urn:variantd:1"));
    }
}

#[test]
fn unreadable_concurrent_edit_is_reported_as_lost() {
    for delay in DELAYS {
        let scene = scene();
        delay.inspect(|delay| scene.libvirt.delay_events(*delay));
        scene.libvirt.act(Point::Hidden, Act::Define(edited()));
        let report = scene.prepare().expect("prepared");
        let told = report.notes.iter().any(|note| note.code == "VD-XML-013");
        assert!(told || scene.has_their_edit(), "{delay:?}");
    }
}

#[test]
fn concurrent_undefine_is_kept() {
    for delay in DELAYS {
        for point in [Point::Before, Point::Within, Point::Hidden, Point::After] {
            let scene = scene();
            delay.inspect(|delay| scene.libvirt.delay_events(*delay));
            scene.libvirt.act(point, Act::Undefine);
            let error = scene.prepare().expect_err("gone");
            assert!(
                matches!(error, PrepareError::NotFound(_)),
                "{point:?}: {error}"
            );
            assert!(!scene.libvirt.has(&scene.domain), "{point:?} {delay:?}");
        }
    }
}

#[test]
fn a_running_guest_without_a_definition_is_not_defined() {
    let scene = scene();
    scene.libvirt.run(&guest(GPU));
    scene.libvirt.act(Point::Hidden, Act::Undefine);
    let error = scene.prepare().expect_err("transient");
    assert!(matches!(error, PrepareError::NotFound(_)));
    assert!(!scene.libvirt.has(&scene.domain));
    assert_eq!(scene.libvirt.running().expect("running").len(), 1);
}

#[test]
fn revert_keeps_a_concurrent_edit() {
    let revert = |scene: &Scene| scene.preparer.prepare(&scene.domain, Trigger::Revert);
    let scene = scene();
    scene.prepare().expect("prepared");
    scene.libvirt.act(Point::Within, Act::Define(edited()));
    assert_eq!(revert(&scene).expect("reverted").outcome, Outcome::Reverted);
    assert!(scene.has_their_edit());
    let scene = self::scene();
    scene.prepare().expect("prepared");
    scene.libvirt.act(Point::Hidden, Act::Undefine);
    revert(&scene).expect_err("gone");
    assert!(!scene.libvirt.has(&scene.domain));
}
