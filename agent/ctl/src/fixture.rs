//! The host and guests of the planner's tests, and a record, for tests.

use agent::record::{DeviceRecord, Manual, Owner, Phase, Purpose, Record};
use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::rebind::Before;

pub(crate) use planner::fixture::{GPU, NIC, UUID, address, driver, guest, host};

pub(crate) const VARIANT: &str = "nvgrace_gpu_vfio_pci";

/// The record of an interrupted manual bind.
pub(crate) fn interrupted(device: PciAddress, target: DriverName, before: Before) -> DeviceRecord {
    let record = Record {
        owner: Owner::Admin,
        target,
        before: Some(before),
        phase: Phase::Binding,
        replaces: None,
    };
    DeviceRecord {
        manual: Some(Manual {
            device,
            purpose: Purpose::default(),
            record,
        }),
        ..DeviceRecord::new(device)
    }
}
