//! `unbindLock`: while NVIDIA's driver grants it, no process can open the GPU.
//!
//! Only builds for vGPU hosts have the file. The driver grants the lock if the use count is 0; the count includes users
//! without a file. A write takes effect when the file is closed, and never fails, so only reading the file back shows
//! the result. The lock ends with the binding. Follows kernel-open/nvidia/nv-procfs.c (nv_procfs_close_unbind_lock).

use crate::address::PciAddress;
use crate::kernel::{Attribute, Kernel};

use super::{RebindError, Step};

const TAKE: &str = "1";
const RELEASE: &str = "0";

/// Takes the lock before the steps, if it exists and a step unbinds; true if this call must release it.
pub(super) fn take(
    kernel: &dyn Kernel,
    device: PciAddress,
    steps: &[Step],
) -> Result<bool, RebindError> {
    if !steps.iter().any(Step::unbinds) || read(kernel, device)? != Some(false) {
        return Ok(false);
    }
    // An error here does not decide: the file is read back in any case.
    let written = kernel.write(&Attribute::UnbindLock(device), TAKE);
    match read(kernel, device) {
        Ok(Some(true)) => Ok(true),
        Ok(_) => Err(RebindError::Locked {
            device,
            errno: written.err(),
        }),
        // The lock may be taken: if that is unknown, release it.
        Err(error) => {
            let _ = kernel.write(&Attribute::UnbindLock(device), RELEASE);
            Err(error)
        }
    }
}

fn read(kernel: &dyn Kernel, device: PciAddress) -> Result<Option<bool>, RebindError> {
    let unreadable = |errno| RebindError::Unreadable { device, errno };
    kernel.unbind_lock(device).map_err(unreadable)
}

/// Releases the lock, if it is taken, so that the device can be opened again.
pub(super) fn release(kernel: &dyn Kernel, device: PciAddress) -> Result<(), RebindError> {
    if read(kernel, device)? != Some(true) {
        return Ok(());
    }
    let written = kernel.write(&Attribute::UnbindLock(device), RELEASE);
    written.map_err(|errno| RebindError::Locked {
        device,
        errno: Some(errno),
    })
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;
    use crate::driver::DriverName;
    use crate::holder::{Holder, Holders};
    use crate::model::{Model, Write};
    use crate::occupancy::Occupancy;
    use crate::rebind::{Before, Outcome, Rebind, restore, settle};

    fn name(text: &str) -> DriverName {
        text.parse().expect("name")
    }

    /// A GPU on `nvidia` whose driver has the lock.
    fn scene(locked: bool) -> (Model, PciAddress) {
        let (model, gpu) = (Model::default(), "0009:01:00.0".parse().expect("address"));
        let id = "10de:2342".parse().expect("id");
        model.add_driver(name("nvidia"), [id]);
        model.add_driver(name("vfio-pci"), []);
        model.add_device(gpu, id, Some(name("nvidia")));
        model.set_occupancy(gpu, occupancy(locked));
        (model, gpu)
    }

    fn occupancy(locked: bool) -> Occupancy {
        Occupancy {
            unbind_lock: Some(locked),
            ..Occupancy::default()
        }
    }

    fn bind(model: &Model, device: PciAddress) -> Result<Outcome, RebindError> {
        let before = Before::read(model, device).expect("state");
        let to = name("vfio-pci");
        Rebind { device, to }.apply(model, &before)
    }

    fn lines(model: &Model) -> Vec<String> {
        let short = |write: &Write| write.to_string().rsplit('/').next().map(str::to_owned);
        model.writes().iter().filter_map(short).collect()
    }

    #[test]
    fn the_lock_is_taken_first_and_ends_with_the_binding() {
        let (model, gpu) = scene(false);
        let before = Before::read(&model, gpu).expect("state");
        bind(&model, gpu).expect("bound");
        assert_eq!(
            lines(&model)[..2],
            ["unbindLock <- 1", "driver_override <- vfio-pci"]
        );
        restore(&model, gpu, &before).expect("released");
        assert_eq!(model.unbind_lock(gpu), Ok(Some(false)));
    }

    #[test]
    fn bind_fails_without_changes_if_the_driver_refuses_the_lock() {
        let (model, gpu) = scene(false);
        let user = Holder {
            process: 9,
            command: "a".into(),
            unit: None,
            nodes: Vec::new(),
        };
        let holders = Holders {
            found: vec![user],
            ..Holders::default()
        };
        model.set_occupancy(
            gpu,
            Occupancy {
                holders,
                ..occupancy(false)
            },
        );
        let error = bind(&model, gpu).expect_err("in use");
        assert_eq!(
            error,
            RebindError::Locked {
                device: gpu,
                errno: None
            }
        );
        assert_eq!(lines(&model), ["unbindLock <- 1"]);
        assert_eq!(model.driver(gpu), Ok(Some(name("nvidia"))));
    }

    #[test]
    fn device_can_be_opened_after_each_failing_write() {
        for number in 1..=4 {
            let (model, gpu) = scene(false);
            let before = Before::read(&model, gpu).expect("state");
            model.fail_write(number, Errno::EIO);
            bind(&model, gpu).expect_err("fails");
            assert_eq!(Before::read(&model, gpu), Ok(before), "write {number}");
            assert_eq!(model.unbind_lock(gpu), Ok(Some(false)), "write {number}");
        }
    }

    #[test]
    fn restore_releases_the_lock_after_a_crash() {
        let (model, gpu) = scene(true);
        let before = Before::read(&model, gpu).expect("state");
        restore(&model, gpu, &before).expect("nothing else to do");
        assert_eq!(lines(&model), ["unbindLock <- 0"]);
    }

    #[test]
    fn restore_after_a_crash_between_override_and_unbind() {
        for back in [restore, settle] {
            let (model, gpu) = scene(true);
            let before = Before::read(&model, gpu).expect("state");
            let attribute = Attribute::Override(gpu);
            model.write(&attribute, "vfio-pci").expect("override");
            back(&model, gpu, &before).expect("released");
            assert_eq!(Before::read(&model, gpu), Ok(before));
            assert_eq!(model.unbind_lock(gpu), Ok(Some(false)));
        }
    }

    #[test]
    fn lock_of_another_program_is_kept() {
        let (model, gpu) = scene(true);
        model.fail_write(1, Errno::EIO);
        bind(&model, gpu).expect_err("fails");
        assert_eq!(model.unbind_lock(gpu), Ok(Some(true)));
    }
}
