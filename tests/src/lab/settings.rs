//! The settings of a lab, and the check for unsupported combinations.

use anyhow::{Result, ensure};

use super::architecture::Architecture;
use super::debian::Suite;
use super::driver::Modules;
use super::machine::Accelerator;
use super::size::Size;

/// The smallest memory that the driver accepts: 1 GiB that it reserves and one block of 512 MiB.
/// The start of a guest maps all of it, so this is the default.
pub const SMALLEST_GPU_MEMORY: Size = Size::mebibytes(1536);

/// The settings of a start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Processor of the emulated host.
    pub architecture: Architecture,
    /// The modules for its kernel.
    pub modules: Modules,
    /// The suite of the emulated host; QEMU around it is always from testing.
    pub suite: Suite,
    /// Whether to check Debian's archive even if the cache is recent.
    pub fresh: bool,
    /// Number of synthetic GPUs; without a value the default of the processor.
    pub gpus: Option<u32>,
    /// Memory of each.
    pub gpu_memory: Size,
    /// Whether node ids equal proximity domains, as with most firmware.
    pub sorted_srat: bool,
    /// AtomicOp bits of ports by slot number, in addition to those of the GPUs' ports.
    pub atomics: Vec<(u16, u32)>,
    /// More arguments for each GPU server.
    pub gpu_arguments: Vec<String>,
    /// Additional kernel arguments.
    pub kernel_arguments: Vec<String>,
    /// Debian packages for scenarios, on a disk of their own.
    pub packages: Vec<String>,
    /// The accelerator; without a value KVM if it works, else TCG.
    pub accelerator: Option<Accelerator>,
}

impl Settings {
    /// The number of GPUs.
    pub fn gpu_count(&self) -> Result<u32> {
        let most = self.architecture.most_gpus();
        let wanted = self.gpus.unwrap_or(self.architecture.usual_gpus());
        ensure!(
            wanted <= most,
            "an {} lab has no room for {wanted} GPUs: ask for --gpus {most}",
            self.architecture
        );
        Ok(wanted)
    }

    /// Refuses combinations that nothing tests.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.modules == Modules::Driver || self.suite == Suite::Testing,
            "--iommufd needs Debian testing, not {}: leave out --suite",
            self.suite
        );
        ensure!(
            self.architecture == Architecture::X86_64 || self.suite != Suite::Oldstable,
            "--arch aarch64 needs Debian stable or testing, not {}: leave out --suite",
            self.suite
        );
        ensure!(
            self.architecture == Architecture::X86_64 || self.packages.is_empty(),
            "the scripts of {} packages cannot run here: leave out the scenarios that need {}",
            self.architecture,
            self.packages.join(", ")
        );
        ensure!(
            self.architecture == Architecture::X86_64 || self.accelerator != Some(Accelerator::Kvm),
            "the kernel here cannot run an {} host: leave out --accelerator kvm",
            self.architecture
        );
        self.gpu_count().map(drop)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            architecture: Architecture::default(),
            modules: Modules::default(),
            suite: Suite::Testing,
            fresh: false,
            gpus: None,
            gpu_memory: SMALLEST_GPU_MEMORY,
            sorted_srat: true,
            atomics: Vec::new(),
            gpu_arguments: Vec::new(),
            kernel_arguments: Vec::new(),
            packages: Vec::new(),
            accelerator: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm() -> Settings {
        Settings {
            architecture: Architecture::Aarch64,
            ..Settings::default()
        }
    }

    fn refusal(settings: &Settings) -> String {
        settings
            .check()
            .map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn a_lab_has_at_most_the_gpus_that_its_processor_supports() {
        assert_eq!(Settings::default().gpu_count().ok(), Some(2));
        assert_eq!(arm().gpu_count().ok(), Some(1));
        let asked = |number, settings| Settings {
            gpus: Some(number),
            ..settings
        };
        assert_eq!(asked(4, Settings::default()).gpu_count().ok(), Some(4));
        for (settings, most) in [(asked(5, Settings::default()), 4), (asked(2, arm()), 1)] {
            let printed = refusal(&settings);
            assert!(printed.contains(&format!("--gpus {most}")), "{printed}");
        }
    }

    #[test]
    fn another_processor_and_other_modules_need_newer_releases() {
        let iommufd = Settings {
            modules: Modules::Iommufd,
            ..Settings::default()
        };
        let with = |settings: &Settings, suite| {
            refusal(&Settings {
                suite,
                ..settings.clone()
            })
        };
        for settings in [arm(), iommufd.clone()] {
            assert_eq!(with(&settings, Suite::Testing), "");
            assert!(with(&settings, Suite::Oldstable).ends_with("leave out --suite"));
        }
        assert_eq!(with(&arm(), Suite::Stable), "");
        assert!(with(&iommufd, Suite::Stable).ends_with("leave out --suite"));
    }

    #[test]
    fn packages_of_another_processor_are_refused() {
        let packages = vec!["python3-nova".to_owned()];
        let here = Settings {
            packages: packages.clone(),
            ..Settings::default()
        };
        assert!(refusal(&here).is_empty());
        let there = Settings { packages, ..arm() };
        assert!(refusal(&there).contains("python3-nova"));
    }

    #[test]
    fn another_processor_is_emulated() {
        let kvm = Settings {
            accelerator: Some(Accelerator::Kvm),
            ..arm()
        };
        assert!(refusal(&kvm).contains("leave out --accelerator"));
    }
}
