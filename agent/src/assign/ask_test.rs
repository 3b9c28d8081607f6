//! Region queries on a modelled kernel.

use std::sync::mpsc;
use std::thread;

use kernel_glue::address::PciAddress;
use kernel_glue::holder::{HeldNode, Holder};
use kernel_glue::kernel::Kernel;
use kernel_glue::model::Model;
use kernel_glue::occupancy::Occupancy;
use kernel_glue::region::{Region, RegionError, Regions};

use super::*;
use crate::fixture::{
    GPU, NIC, VARIANT, address, as_the_model, assigner, context_of, definition, driver, guest,
    host_on,
};
use settings::config::Config;

struct Scene {
    kernel: Arc<Model>,
    assigner: Assigner,
    context: Arc<Context>,
    directory: tempfile::TempDir,
}

/// The GPU on the driver `on`, and 128 GiB of memory from the variant driver.
fn scene(on: &str) -> Scene {
    let kernel = Arc::new(Model::from_host(&host_on(on)));
    kernel.set_regions(address(GPU), driver(VARIANT), regions());
    let (directory, context) = context_of(host_on(on), Config::default());
    Scene {
        assigner: assigner(kernel.clone(), &context, &directory),
        kernel,
        context,
        directory,
    }
}

fn regions() -> Regions {
    let mut regions = Regions::default();
    regions[4] = Region {
        size: 128 << 30,
        mmap: true,
        kind: Region::MEMORY_64_PREFETCH,
    };
    regions
}

impl Scene {
    fn ask(&self) {
        self.assigner
            .ask_regions(definition(&guest(GPU)).domain())
            .expect("a domain");
    }

    fn known(&self) -> Option<Regions> {
        self.context.host().expect("host").devices[&address(GPU)].regions
    }
}

#[test]
fn reported_regions_apply_to_later_reads() {
    let scene = scene(VARIANT);
    assert_eq!(scene.known(), None);
    scene.ask();
    assert_eq!(scene.known(), Some(regions()));
    let text = scene
        .context
        .look()
        .rewrite(&definition(&guest(GPU)), false);
    let text = text.expect("a plan").text;
    assert!(
        text.contains("<pcihole64 unit='KiB'>536870912</pcihole64>"),
        "{text}"
    );
    scene
        .context
        .look()
        .verify(&definition(&text))
        .expect("complete");
}

#[test]
fn a_device_on_another_driver_is_not_opened() {
    for on in ["nvidia", "vfio-pci"] {
        let scene = scene(on);
        scene
            .kernel
            .set_regions(address(GPU), driver(on), regions());
        scene.ask();
        assert_eq!((scene.kernel.opens(), scene.known()), (0, None), "{on}");
    }
}

#[test]
fn a_device_without_a_recipe_is_not_opened() {
    let scene = scene(VARIANT);
    scene
        .assigner
        .ask_regions(definition(&guest(NIC)).domain())
        .expect("a domain");
    assert_eq!(scene.kernel.opens(), 0);
}

#[test]
fn a_device_that_a_domain_holds_is_not_opened() {
    let scene = scene(VARIANT);
    let complete = scene
        .context
        .look()
        .rewrite(&definition(&guest(GPU)), false);
    let complete = complete.expect("a plan").text;
    scene
        .assigner
        .prepare(&definition(&complete))
        .expect("bound");
    scene.ask();
    assert_eq!(scene.kernel.opens(), 0);
}

#[test]
fn region_query_skips_a_device_that_is_bound_manually() {
    let scene = scene(VARIANT);
    let lock = scene.assigner.lock(address(GPU)).expect("lock");
    scene.ask();
    assert_eq!(scene.kernel.opens(), 0);
    drop(lock);
    scene.ask();
    assert_eq!(scene.kernel.opens(), 1);
}

#[test]
fn a_device_that_is_open_or_fails_is_planned_by_the_table() {
    let scene = scene(VARIANT);
    scene.kernel.set_users(address(GPU), &[42]);
    scene.ask();
    scene.kernel.set_users(address(GPU), &[]);
    let failing = RegionError::MemoryMissing;
    scene
        .kernel
        .fail_regions(address(GPU), driver(VARIANT), failing);
    scene.ask();
    assert_eq!((scene.kernel.opens(), scene.known()), (1, None));
}

#[test]
fn manual_release_waits_for_a_region_query() {
    let there = scene(VARIANT);
    let (assigner, opened, close) = slow(&there);
    thread::scope(|scope| {
        scope.spawn(|| assigner.ask_regions(definition(&guest(GPU)).domain()));
        opened.recv().expect("the device is open");
        let release = scope.spawn(|| assigner.release_manually(address(GPU)));
        thread::sleep(Duration::from_millis(100));
        let waits = !release.is_finished();
        close.send(()).expect("close");
        assert!(waits, "the device was taken while it was open");
        release.join().expect("thread").expect("not busy");
    });
}

#[test]
fn start_waits_for_a_region_query() {
    let there = scene(VARIANT);
    let (assigner, opened, close) = slow(&there);
    let complete = there
        .context
        .look()
        .rewrite(&definition(&guest(GPU)), false);
    let complete = complete.expect("a plan").text;
    thread::scope(|scope| {
        scope.spawn(|| assigner.ask_regions(definition(&guest(GPU)).domain()));
        opened.recv().expect("the device is open");
        let start = scope.spawn(|| assigner.prepare(&definition(&complete)));
        thread::sleep(Duration::from_millis(100));
        let waits = !start.is_finished() && assigner.held().is_empty();
        close.send(()).expect("close");
        assert!(waits, "the device was claimed while it was open");
        start.join().expect("thread").expect("bound");
    });
    assert_eq!(assigner.held().len(), 1);
}

/// A kernel that reports when a device is open, and closes it on request.
struct Slow {
    model: Arc<Model>,
    open: mpsc::Sender<()>,
    closed: Mutex<mpsc::Receiver<()>>,
}

/// An assigner on such a kernel, the channel that reports the open device, and the channel that closes it.
fn slow(there: &Scene) -> (Assigner, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (open, opened) = mpsc::channel();
    let (close, closed) = mpsc::channel();
    let slow = Slow {
        model: there.kernel.clone(),
        open,
        closed: Mutex::new(closed),
    };
    let assigner = assigner(Arc::new(slow), &there.context, &there.directory);
    (assigner, opened, close)
}

impl Kernel for Slow {
    as_the_model! { write load_module driver driver_override registered vfio_users occupancy unbind_lock }

    fn regions(&self, device: PciAddress) -> Result<Regions, RegionError> {
        self.model.set_occupancy(device, by_ourselves());
        self.open.send(()).expect("the test waits");
        let closed = self.closed.lock().expect("receiver");
        closed.recv().expect("the test closes");
        self.model.set_occupancy(device, Occupancy::default());
        self.model.regions(device)
    }
}

/// The agent's own query has the device open, which a start must not see as a holder.
fn by_ourselves() -> Occupancy {
    let node = HeldNode {
        path: "/dev/vfio/7".into(),
        descriptor: Some(3),
        shared: false,
    };
    let holder = Holder {
        process: 1,
        command: "variantd".into(),
        unit: None,
        nodes: vec![node],
    };
    let mut occupancy = Occupancy::default();
    occupancy.holders.found.push(holder);
    occupancy
}
