//! Whether the EGM memory of a definition fits the regions that the kernel shows once its GPUs are bound.
//!
//! The region appears when the module `nvgrace_egm` has bound to an auxiliary device of the GPU (drivers/vfio/pci/nvgrace-gpu/egm.c
//! of NVIDIA's kernels). udev loads that module after the bind of the GPU has returned, so the region may be late.

use std::thread;
use std::time::{Duration, Instant};

use crate::assign::{AssignError, Assigner};
use domain::Definition;
use domain::code::Code;

/// Pause between two reads of the host.
const PAUSE: Duration = Duration::from_millis(100);

impl Assigner {
    /// Compares EGM memory with the regions of its GPUs, all of which are bound.
    ///
    /// # Errors
    /// The refusal names the GPU or the cell; that of a missing region comes after 5 s.
    pub(in crate::assign) fn verify_egm(&self, definition: &Definition) -> Result<(), AssignError> {
        if definition.domain().platform.egm.is_empty() {
            return Ok(());
        }
        let until = Instant::now() + self.egm_timeout;
        loop {
            // The host is read again for each comparison.
            let result = self.context.look().verify_bound(definition);
            // Only a missing region can still appear. The size and the node of a region that exists do not change.
            let is_late = |code: Code| code == Code::EgmLeftOut && Instant::now() < until;
            match result {
                Err(refusal) if is_late(refusal.code) => thread::sleep(PAUSE),
                result => return result.map_err(AssignError::Refused),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kernel_glue::egm::EgmRegion;
    use kernel_glue::kernel::Kernel;
    use kernel_glue::model::Model;

    use super::*;
    use crate::fixture::{
        self, GPU, NIC, VARIANT, address, context_reading, definition, driver, guest,
    };
    use crate::record::Records;
    use settings::config::Config;

    /// MiB of the guest.
    const MIB: u64 = 4096;

    struct Scene {
        kernel: Arc<Model>,
        assigner: Assigner,
        xml: Definition,
        _directory: tempfile::TempDir,
    }

    /// A guest with EGM memory at `path`, on a host that shows `region` once its GPU is bound and the host was read `reads` times
    /// since.
    fn scene(path: &str, region: Option<EgmRegion>, reads: usize) -> Scene {
        let kernel = fixture::kernel();
        let (model, seen) = (kernel.clone(), AtomicUsize::new(0));
        let read_host = move || {
            let mut host = fixture::host();
            let on = model.driver(address(GPU)).expect("the GPU");
            let is_bound = on == Some(driver(VARIANT));
            host.devices.get_mut(&address(GPU)).expect("the GPU").driver = on;
            if is_bound && seen.fetch_add(1, Ordering::Relaxed) >= reads {
                host.egm = region.iter().cloned().collect();
            }
            Ok(host)
        };
        let (directory, context) = context_reading(Box::new(read_host), Config::default());
        let records = Records::new(directory.path().to_owned());
        let memory = format!(
            "<memory model='egm' access='shared'><source><path>{path}</path></source><target>\
             <size unit='MiB'>{MIB}</size><node>0</node><pciDev>ua-gpu</pciDev></target></memory>"
        );
        let text = guest(GPU)
            .replace("</hostdev>", "<alias name='ua-gpu'/></hostdev>")
            .replace("</devices>", &format!("{memory}</devices>"));
        let complete = context.look().rewrite(&definition(&text), false);
        let xml = definition(&complete.expect("a complete guest").text);
        Scene {
            assigner: Assigner::new(kernel.clone(), context, records),
            kernel,
            xml,
            _directory: directory,
        }
    }

    fn region(mib: u64, gpus: &[&str]) -> Option<EgmRegion> {
        Some(EgmRegion {
            number: 4,
            bytes: Some(mib << 20),
            gpus: gpus.iter().map(|at| address(at)).collect(),
        })
    }

    #[test]
    fn a_guest_whose_egm_memory_fits_the_region_starts() {
        for mib in [MIB, 2 * MIB] {
            let scene = scene("/dev/egm4", region(mib, &[GPU]), 0);
            scene.assigner.prepare(&scene.xml).expect("it fits");
            let on = scene.kernel.driver(address(GPU)).expect("the GPU");
            assert_eq!(on, Some(driver(VARIANT)));
            assert_eq!(scene.assigner.held().len(), 1);
        }
    }

    #[test]
    fn a_region_that_udev_makes_late_is_waited_for() {
        let scene = scene("/dev/egm4", region(MIB, &[GPU]), 3);
        scene.assigner.prepare(&scene.xml).expect("it fits");
        assert_eq!(scene.assigner.held().len(), 1);
    }

    #[test]
    fn a_guest_whose_egm_memory_contradicts_the_bound_gpu_is_refused_and_the_driver_restored() {
        for (path, region, code, words) in [
            (
                "/dev/egm4",
                region(MIB - 2, &[GPU]),
                Code::EgmSize,
                "cell 0 has 4194304 KiB of /dev/egm4, which has 4192256 KiB",
            ),
            (
                "/dev/egm9",
                region(MIB, &[GPU]),
                Code::EgmWrong,
                "its EGM memory has /dev/egm9, and /dev/egm4 is needed",
            ),
            (
                "/dev/egm4",
                region(MIB, &[GPU, NIC]),
                Code::EgmShared,
                "/dev/egm4 is also that of '0002:01:00.0'",
            ),
            (
                "/dev/egm4",
                region(MIB, &[NIC]),
                Code::EgmLeftOut,
                "no EGM region in /sys/class/egm lists it",
            ),
            (
                "/dev/egm4",
                None,
                Code::EgmLeftOut,
                "the host has no EGM region in /sys/class/egm",
            ),
        ] {
            let mut scene = scene(path, region, 0);
            scene.assigner.egm_timeout = Duration::ZERO;
            let error = scene.assigner.prepare(&scene.xml).expect_err("refused");
            assert!(matches!(error, AssignError::Refused(_)), "{error}");
            assert_eq!(error.refusal().code, code, "{error}");
            assert!(error.refusal().reason.contains(words), "{words}: {error}");
            let on = scene.kernel.driver(address(GPU)).expect("the GPU");
            assert_eq!(on, Some(driver("nvidia")));
            let text = scene.kernel.driver_override(address(GPU));
            assert_eq!(text.expect("the GPU"), None);
            assert!(!scene.kernel.writes().is_empty(), "it was bound before");
            assert!(scene.assigner.held().is_empty());
        }
    }
}
