//! Each write of a bind and of a restore fails once; the device must have an allowed state afterwards.

use super::*;
use crate::id::PciId;
use crate::model::Model;

const NEW: &str = "nvgrace_gpu_vfio_pci";
const OLD: &str = "nvidia";

fn name(text: &str) -> DriverName {
    text.parse().expect("name")
}

fn gpu() -> PciAddress {
    "0009:01:00.0".parse().expect("address")
}

/// A kernel with the GPU in the state `before`.
fn kernel(before: &Before) -> Model {
    let model = Model::default();
    let id: PciId = "10de:2342".parse().expect("id");
    model.add_driver(name(OLD), [id]);
    model.add_driver(name("vfio-pci"), []);
    model.add_driver(name(NEW), []);
    model.add_device(gpu(), id, before.driver.clone());
    if let Some(text) = &before.driver_override {
        model
            .write(&Attribute::Override(gpu()), text)
            .expect("override");
    }
    model
}

fn state(driver: Option<&str>, driver_override: Option<&str>) -> Before {
    Before {
        driver: driver.map(name),
        driver_override: driver_override.map(str::to_owned),
    }
}

/// States in which a GPU can be found.
fn befores() -> Vec<Before> {
    vec![
        state(Some(OLD), None),
        state(Some(OLD), Some(OLD)),
        state(Some(OLD), Some("none")),
        state(Some("vfio-pci"), Some("vfio-pci")),
        state(None, None),
        state(None, Some("none")),
        state(None, Some(NEW)),
    ]
}

fn rebind() -> Rebind {
    Rebind {
        device: gpu(),
        to: name(NEW),
    }
}

fn now(model: &Model) -> Before {
    Before::read(model, gpu()).expect("state")
}

/// Binds on a new kernel on which the given writes fail.
fn bind(before: &Before, failing: &[usize]) -> (Model, Result<Outcome, RebindError>) {
    let model = kernel(before);
    failing
        .iter()
        .for_each(|number| model.fail_write(*number, Errno::EIO));
    let result = rebind().apply(&model, before);
    (model, result)
}

/// Binds, then restores while the given writes fail.
fn release_devices(before: &Before, failing: &[usize]) -> (Model, Result<Outcome, RebindError>) {
    let (model, bound) = bind(before, &[]);
    bound.expect("bound");
    failing
        .iter()
        .for_each(|number| model.fail_write(*number, Errno::EIO));
    let result = restore(&model, gpu(), before);
    (model, result)
}

fn assert_settled(
    (model, result): (Model, Result<Outcome, RebindError>),
    goal: &Before,
    from: &Before,
) {
    let there = now(&model);
    match result {
        Ok(_) => assert_eq!(&there, goal),
        Err(error) if error.is_degraded() => {}
        Err(error) => assert_eq!(&there, from, "{error}"),
    }
}

#[test]
fn bind_restores_the_device_after_each_failing_write() {
    let bound = state(Some(NEW), Some(NEW));
    for before in befores() {
        for number in 1..=3 {
            let (model, result) = bind(&before, &[number]);
            let degraded = result.as_ref().is_err_and(RebindError::is_degraded);
            assert!(!degraded, "one failing write must never degrade");
            assert_settled((model, result), &bound, &before);
        }
    }
}

#[test]
fn restore_keeps_the_device_bound_after_each_failing_write() {
    let bound = state(Some(NEW), Some(NEW));
    for before in befores() {
        for number in 1..=4 {
            let (model, result) = release_devices(&before, &[number]);
            let degraded = result.as_ref().is_err_and(RebindError::is_degraded);
            assert!(!degraded, "one failing write must never degrade");
            assert_settled((model, result), &before, &bound);
        }
    }
}

#[test]
fn two_failing_writes_are_undone_or_reported_as_degraded() {
    let bound = state(Some(NEW), Some(NEW));
    let mut degraded = 0;
    for before in befores() {
        for (first, second) in (1..=8).flat_map(|a| (a + 1..=8).map(move |b| (a, b))) {
            let taken = bind(&before, &[first, second]);
            degraded += usize::from(taken.1.as_ref().is_err_and(RebindError::is_degraded));
            assert_settled(taken, &bound, &before);
            assert_settled(release_devices(&before, &[first, second]), &before, &bound);
        }
    }
    assert!(degraded > 0, "no pair of failures reached the undo");
}

#[test]
fn a_restore_after_a_bind_is_the_identity() {
    for before in befores() {
        let (model, result) = release_devices(&before, &[]);
        assert_eq!(result, Ok(Outcome::Done));
        assert_eq!(now(&model), before);
    }
}

#[test]
fn restore_from_the_journal_after_a_crash_at_any_write() {
    for before in befores() {
        let steps = rebind().plan(&before);
        for count in 0..=steps.len() {
            let model = kernel(&before);
            for step in &steps[..count] {
                model.write(&step.attribute, &step.value).expect("write");
            }
            restore(&model, gpu(), &before).expect("restored");
            assert_eq!(now(&model), before, "after {count} writes");
        }
    }
}

#[test]
fn second_bind_writes_nothing() {
    let before = state(Some(OLD), None);
    let (model, _) = bind(&before, &[]);
    let writes = model.writes().len();
    let bound = now(&model);
    assert_eq!(rebind().apply(&model, &bound), Ok(Outcome::AlreadySo));
    assert_eq!(restore(&model, gpu(), &bound), Ok(Outcome::AlreadySo));
    assert_eq!(model.writes().len(), writes);
}

#[test]
fn bind_and_restore_do_these_writes() {
    let (model, _) = release_devices(&state(Some(OLD), None), &[]);
    let lines: Vec<String> = model.writes().iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "/sys/bus/pci/devices/0009:01:00.0/driver_override <- nvgrace_gpu_vfio_pci",
            "/sys/bus/pci/drivers/nvidia/unbind <- 0009:01:00.0",
            "/sys/bus/pci/drivers/nvgrace_gpu_vfio_pci/bind <- 0009:01:00.0",
            "/sys/bus/pci/devices/0009:01:00.0/driver_override <- nvidia",
            "/sys/bus/pci/drivers/nvgrace_gpu_vfio_pci/unbind <- 0009:01:00.0",
            "/sys/bus/pci/drivers/nvidia/bind <- 0009:01:00.0",
            "/sys/bus/pci/devices/0009:01:00.0/driver_override <- \\n",
        ]
    );
}

#[test]
fn the_plan_is_what_apply_writes() {
    for before in befores() {
        let (model, _) = bind(&before, &[]);
        let skip = usize::from(before.driver_override.is_some());
        let written: Vec<Step> = model.writes().into_iter().skip(skip).map(step).collect();
        assert_eq!(written, rebind().plan(&before));
    }
}

fn step(write: crate::model::Write) -> Step {
    Step {
        attribute: write.attribute,
        value: write.value,
    }
}

#[test]
fn a_failing_probe_restores_the_previous_driver() {
    let before = state(Some(OLD), None);
    let model = kernel(&before);
    model.fail_probe(name(NEW), Errno::ETIME);
    let error = rebind().apply(&model, &before).expect_err("probe fails");
    assert_eq!(
        error.to_string(),
        "cannot bind '0009:01:00.0' to 'nvgrace_gpu_vfio_pci': \
         the GPU did not become ready within the driver's 30 s (ETIME)"
    );
    assert_eq!(now(&model), before);
}

#[test]
fn failed_undo_is_degraded_and_reports_the_reason() {
    let before = state(Some(OLD), None);
    let model = kernel(&before);
    model.fail_probe(name(NEW), Errno::ETIME);
    model.fail_probe(name(OLD), Errno::EIO);
    let error = rebind().apply(&model, &before).expect_err("both fail");
    assert!(error.is_degraded());
    assert!(error.to_string().ends_with(
        "its previous state could not be restored: cannot write \
            '/sys/bus/pci/drivers/nvidia/bind': I/O error"
    ));
}

#[test]
fn a_device_in_use_is_not_unbound() {
    let before = state(Some(OLD), None);
    let (model, _) = bind(&before, &[]);
    model.set_users(gpu(), &[2211, 2300]);
    let writes = model.writes().len();
    let error = restore(&model, gpu(), &before).expect_err("in use");
    let text = "cannot unbind '0009:01:00.0': in use through VFIO by pid 2211, pid 2300";
    assert_eq!(error.to_string(), text);
    let other = Rebind {
        to: name("vfio-pci"),
        ..rebind()
    };
    let in_use = other.apply(&model, &now(&model));
    assert!(matches!(in_use, Err(RebindError::InUse { .. })));
    assert_eq!(model.writes().len(), writes);
}

#[test]
fn bind_fails_if_the_state_has_changed() {
    let model = kernel(&state(Some(OLD), None));
    let stale = state(Some("vfio-pci"), None);
    let result = rebind().apply(&model, &stale);
    assert_eq!(result, Err(RebindError::Changed(gpu())));
    assert!(model.writes().is_empty());
}

#[test]
fn a_driver_that_is_not_registered_is_loaded_first() {
    let before = state(None, None);
    let model = Model::default();
    model.add_device(gpu(), "10de:2342".parse().expect("id"), None);
    let missing = rebind().apply(&model, &before).expect_err("no module");
    assert!(matches!(missing, RebindError::NoDriver { .. }));
    assert!(model.writes().is_empty());
    model.add_module(NEW, name(NEW));
    assert_eq!(rebind().apply(&model, &before), Ok(Outcome::Done));
    assert_eq!(model.loaded(), [NEW]);
}

#[test]
fn settle_waits_for_the_device_lock() {
    let before = state(Some(OLD), None);
    let model = kernel(&before);
    assert_eq!(settle(&model, gpu(), &before), Ok(Outcome::AlreadySo));
    let written: Vec<String> = model.writes().iter().map(ToString::to_string).collect();
    let path = "/sys/bus/pci/devices/0009:01:00.0/power/control";
    assert_eq!(written, [format!("{path} <- settle (EINVAL)")]);
    model.fail_write(1, Errno::ETIMEDOUT);
    let error = settle(&model, gpu(), &before).expect_err("stuck");
    assert!(error.is_hung() && !error.is_degraded());
    assert!(
        error.to_string().contains("may still be in progress"),
        "{error}"
    );
}

#[test]
fn removed_device_is_unreadable() {
    let before = state(Some(OLD), None);
    let (model, _) = bind(&before, &[]);
    model.remove_device(gpu());
    let errno = Errno::ENODEV;
    let device = gpu();
    assert_eq!(
        restore(&model, device, &before),
        Err(RebindError::Unreadable { device, errno })
    );
}
