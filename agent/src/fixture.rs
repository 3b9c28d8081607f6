//! A host of one socket and one GPU with eight initiator nodes, and guests on it, for tests.

use std::sync::Arc;

use kernel_glue::address::PciAddress;
use kernel_glue::config::{Config as ConfigSpace, ConfigError};
use kernel_glue::device::{Bar, Device};
use kernel_glue::driver::DriverName;
use kernel_glue::host::Host;
use kernel_glue::model::Model;
use kernel_glue::numa::{Node, Numa, NumaNode, RangeList};
use kernel_glue::rebind::Before;

use crate::assignment::{self, Owner, Phase};
use crate::bound::Record;
use crate::config::Config;
use crate::declined::Declined;
use crate::learned::Learned;
use crate::recipe::Recipes;
pub(crate) use crate::site::ReadHost;
use crate::site::{Rules, Site};
use crate::target::Versions;

pub(crate) const GPU: &str = "0009:01:00.0";
/// A device without a recipe.
pub(crate) const NIC: &str = "0002:01:00.0";
pub(crate) const UUID: &str = "6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11";
pub(crate) const VARIANT: &str = "nvgrace_gpu_vfio_pci";

pub(crate) fn address(text: &str) -> PciAddress {
    text.parse().expect("address")
}

pub(crate) fn driver(text: &str) -> DriverName {
    text.parse().expect("driver name")
}

/// The record of a bind outside of any guest that was cut off.
pub(crate) fn interrupted(device: PciAddress, target: DriverName, before: Before) -> Record {
    let record = assignment::Record {
        owner: Owner::Admin,
        target,
        before: Some(before),
        phase: Phase::Binding,
        replaces: None,
    };
    Record::of(device, None, &record).expect("what was before is known")
}

pub(crate) fn device(at: &str, id: &str, on: &str) -> Device {
    Device {
        address: address(at),
        id: id.parse().expect("id"),
        class: 0x03_0200,
        driver: Some(driver(on)),
        driver_override: None,
        numa_node: Some(node(0)),
        iommu_group: None,
        iommu: None,
        modalias: String::new(),
        bars: [Bar::default(); 6],
        regions: None,
        reset_methods: vec!["flr".into()],
        physical_function: None,
        ancestors: Vec::new(),
        config: ConfigSpace::Unreadable(ConfigError::Short(64)),
    }
}

fn node(id: u32) -> NumaNode {
    id.try_into().expect("node")
}

fn distance(a: u32, b: u32) -> u8 {
    match (a, b) {
        _ if a == b => 10,
        (0, _) | (_, 0) => 80,
        _ => 11,
    }
}

pub(crate) fn host() -> Host {
    let nodes = (0..9).map(|id| Node {
        id: node(id),
        cpus: if id == 0 {
            (0..72).collect()
        } else {
            RangeList::default()
        },
        memory_kib: if id == 0 { 1 << 28 } else { 0 },
        distances: (0..9).map(|to| distance(id, to)).collect(),
    });
    let devices = [
        device(GPU, "10de:2342", "nvidia"),
        device(NIC, "15b3:1023", "mlx5_core"),
    ];
    Host {
        devices: devices.into_iter().map(|d| (d.address, d)).collect(),
        numa: Numa {
            nodes: nodes.collect(),
            generic_initiators: Some((1..9).collect()),
        },
        ..Host::default()
    }
}

/// A kernel with that host, where the variant driver is a module still to be loaded.
pub(crate) fn kernel() -> Arc<Model> {
    kernel_of(&host())
}

/// A kernel with `host`, where the variant driver is a module still to be loaded.
pub(crate) fn kernel_of(host: &Host) -> Arc<Model> {
    let model = Model::from_host(host);
    model.add_module(VARIANT, driver(VARIANT));
    Arc::new(model)
}

/// That host with its GPU on another driver.
pub(crate) fn host_on(name: &str) -> Host {
    let mut host = host();
    let gpu = host.devices.get_mut(&address(GPU)).expect("gpu");
    gpu.driver = Some(driver(name));
    host
}

/// Surroundings with that host, the shipped recipes and the newest tested versions.
pub(crate) fn site(config: Config) -> (tempfile::TempDir, Arc<Site>) {
    site_of(host(), config)
}

/// The same with another host.
pub(crate) fn site_of(host: Host, config: Config) -> (tempfile::TempDir, Arc<Site>) {
    site_reading(Box::new(move || Ok(host.clone())), config)
}

/// The same with a host that is read anew each time.
pub(crate) fn site_reading(read_host: ReadHost, config: Config) -> (tempfile::TempDir, Arc<Site>) {
    let directory = tempfile::tempdir().expect("directory");
    let learned = Learned::load(directory.path().join("versions"));
    learned.learn(Versions::NEWEST_TESTED);
    let rules = Rules {
        recipes: Recipes::shipped().expect("recipes"),
        config,
    };
    let declined = Declined::load(directory.path().join("declined"));
    let site = Site::new(read_host, learned, declined, rules);
    (directory, Arc::new(site))
}

/// A guest that is assigned the device at `at`.
pub(crate) fn guest(at: &str) -> String {
    let at = address(at);
    format!(
        "<domain type='kvm'>\n  <name>d0</name>\n  <uuid>{UUID}</uuid>\n  \
         <memory unit='KiB'>4194304</memory>\n  <vcpu>4</vcpu>\n  \
         <os firmware='efi'>\n    <type arch='aarch64' machine='virt'>hvm</type>\n  </os>\n  <features><acpi/></features>\n  \
         <cpu mode='host-passthrough'/>\n  <devices>\n    \
         <controller type='pci' index='0' model='pcie-root'/>\n    \
         <hostdev mode='subsystem' type='pci' managed='yes'>\n      <source>\n        \
         <address domain='{:#06x}' bus='{:#04x}' slot='0x00' function='0x0'/>\n      \
         </source>\n    </hostdev>\n  </devices>\n</domain>\n",
        at.domain(),
        at.bus()
    )
}

/// Methods of a [`kernel_glue::kernel::Kernel`] that the model in its field `model` answers: what a test's kernel does not
/// change.
macro_rules! as_the_model {
    ($($method:ident)*) => { $($crate::fixture::as_the_model!(@ $method);)* };
    (@ write) => {
        fn write(&self, knob: &kernel_glue::kernel::Knob, value: &str) -> Result<(), nix::errno::Errno> {
            self.model.write(knob, value)
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
