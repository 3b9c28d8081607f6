//! The host and guests of the planner's tests, with a modelled kernel and a context, for tests.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use kernel_glue::host::Host;
use kernel_glue::model::Model;

use crate::assign::{Assigner, SharedKernel};
pub(crate) use crate::context::ReadHost;
use crate::context::{Context, Rules};
use crate::known_versions::KnownVersions;
use crate::opted_out::OptedOut;
use crate::record::Records;
pub(crate) use planner::fixture::{
    GPU, NIC, UUID, address, definition, device, driver, guest, host, host_on, hostdev,
};
use planner::recipe::Recipes;
use planner::target::Versions;
use settings::config::Config;

pub(crate) const VARIANT: &str = "nvgrace_gpu_vfio_pci";

/// Keeps what a log writes.
#[derive(Clone, Default)]
pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    /// All of it.
    pub(crate) fn text(&self) -> String {
        let bytes = self.0.lock().expect("lock").clone();
        String::from_utf8(bytes).expect("text")
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A kernel with that host, where the variant driver is a module that is not loaded.
pub(crate) fn kernel() -> Arc<Model> {
    kernel_of(&host())
}

/// A kernel with `host`, where the variant driver is a module that is not loaded.
pub(crate) fn kernel_of(host: &Host) -> Arc<Model> {
    let model = Model::from_host(host);
    model.add_module(VARIANT, driver(VARIANT));
    Arc::new(model)
}

/// A context with that host, the shipped recipes and the newest tested versions.
pub(crate) fn context(config: Config) -> (tempfile::TempDir, Arc<Context>) {
    context_of(host(), config)
}

/// The same with another host.
pub(crate) fn context_of(host: Host, config: Config) -> (tempfile::TempDir, Arc<Context>) {
    context_reading(Box::new(move || Ok(host.clone())), config)
}

/// The same with a host that is read each time.
pub(crate) fn context_reading(
    read_host: ReadHost,
    config: Config,
) -> (tempfile::TempDir, Arc<Context>) {
    let directory = tempfile::tempdir().expect("directory");
    let known_versions = KnownVersions::load(directory.path().join("versions"));
    known_versions.learn(Versions::NEWEST_TESTED);
    let rules = Rules {
        recipes: Recipes::shipped().expect("recipes"),
        config,
    };
    let opted_out = OptedOut::load(directory.path().join("declined"));
    let context = Context::new(read_host, known_versions, opted_out, rules);
    (directory, Arc::new(context))
}

/// An assigner whose records are in the context's directory. A second one there is the agent after a restart.
pub(crate) fn assigner(
    kernel: Arc<SharedKernel>,
    context: &Arc<Context>,
    directory: &tempfile::TempDir,
) -> Assigner {
    let records = Records::new(directory.path().to_owned());
    Assigner::new(kernel, context.clone(), records)
}

/// Methods of a [`kernel_glue::kernel::Kernel`] that forward to the model in field `model`: the ones that a test's
/// kernel does not change.
macro_rules! as_the_model {
    ($($method:ident)*) => { $($crate::fixture::as_the_model!(@ $method);)* };
    (@ write) => {
        fn write(&self, attribute: &kernel_glue::kernel::Attribute, value: &str) -> Result<(), nix::errno::Errno> {
            self.model.write(attribute, value)
        }
    };
    (@ load_module) => {
        fn load_module(&self, module: &str) -> Result<(), nix::errno::Errno> {
            self.model.load_module(module)
        }
    };
    (@ registered) => {
        fn registered(
            &self,
            name: &str,
        ) -> Result<Option<kernel_glue::driver::DriverName>, nix::errno::Errno> {
            self.model.registered(name)
        }
    };
    (@ driver) => { $crate::fixture::as_the_model!(@ driver -> Option<kernel_glue::driver::DriverName>); };
    (@ driver_override) => { $crate::fixture::as_the_model!(@ driver_override -> Option<String>); };
    (@ vfio_users) => { $crate::fixture::as_the_model!(@ vfio_users -> Vec<u32>); };
    (@ occupancy) => { $crate::fixture::as_the_model!(@ occupancy -> kernel_glue::occupancy::Occupancy); };
    (@ unbind_lock) => { $crate::fixture::as_the_model!(@ unbind_lock -> Option<bool>); };
    (@ regions) => {
        fn regions(
            &self,
            device: kernel_glue::address::PciAddress,
        ) -> Result<kernel_glue::region::Regions, kernel_glue::region::RegionError> {
            self.model.regions(device)
        }
    };
    (@ $method:ident -> $answer:ty) => {
        fn $method(
            &self,
            device: kernel_glue::address::PciAddress,
        ) -> Result<$answer, nix::errno::Errno> {
            self.model.$method(device)
        }
    };
}
pub(crate) use as_the_model;

/// The value of a series such as `variantd_devices{state="free"}` in the agent's metrics; `None` if it is absent.
pub(crate) fn metric(context: &Context, series: &str) -> Option<f64> {
    let text = context.metrics_text();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map(|value| value.parse().expect("a number"))
}
