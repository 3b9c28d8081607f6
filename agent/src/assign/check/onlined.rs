//! Waits for NVIDIA's driver to add GPU memory to the host, and to remove it, before the device is unbound.
//!
//! ```text
//! memory is being added -> wait until it is stable -> record -> stop services -> wait until it is removed -> unbind
//! ```
//!
//! The driver adds the memory while the first process opens the GPU, and removes it after the last has closed it; an unbind
//! meanwhile fails or blocks (NVIDIA open-gpu-kernel-modules, kernel-open/nvidia/nv-procfs.c; OpenNebula's manual for
//! GB200). Changes nothing itself.

use std::thread;
use std::time::{Duration, Instant};

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::holder::Holders;
use kernel_glue::occupancy::{Occupancy, Onlined, can_add_memory};
use tracing::info;

use super::holder;
use crate::assign::{AssignError, Assigner};
use crate::progress;
use crate::service::ServiceName;
use domain::code::Code;
use domain::hint::Hint;
use domain::refusal::Refusal;

/// Time limit of each of the two waits, for all devices of a bind together. [`crate::timeouts::of_start`] includes both.
pub(crate) const WAIT: Duration = Duration::from_secs(30);
/// Pause between two reads.
const PAUSE: Duration = Duration::from_millis(200);

/// The rest of a time limit that several waits share. Only the time of the waits counts.
pub(in crate::assign) struct Budget {
    limit: Duration,
    left: Duration,
}

impl Budget {
    pub(in crate::assign) fn new(limit: Duration) -> Self {
        Self { limit, left: limit }
    }

    /// Sleeps until the next read; false if no time is left.
    pub(in crate::assign) fn pause(&mut self) -> bool {
        if self.left.is_zero() {
            return false;
        }
        // Measured, because `thread::sleep` may sleep longer than asked for.
        let begun = Instant::now();
        thread::sleep(PAUSE.min(self.left));
        self.left = self.left.saturating_sub(begun.elapsed());
        true
    }
}

impl Assigner {
    /// Waits until the memory of the devices is stable: two reads find the same, and the driver neither adds nor removes
    /// it. Waits for memory that is not there yet only if a service of `allowed`, which is about to be stopped, holds the
    /// GPU. Called before anything is recorded, so the caller can still be cancelled.
    ///
    /// # Errors
    /// It is not stable after the time limit. A device that cannot be read is left to [`inspect`](Self::inspect).
    pub(in crate::assign) fn wait_until_stable<'a>(
        &self,
        devices: impl IntoIterator<Item = (PciAddress, &'a DriverName)>,
        allowed: &[ServiceName],
    ) -> Result<(), AssignError> {
        let mut budget = Budget::new(self.memory_timeout);
        for (device, driver) in devices {
            if self.may_have_memory(device, driver)? {
                let stable = self.wait_for_one(device, allowed, &mut budget);
                stable.map_err(|refusal| AssignError::Refused(refusal.of(device)))?;
            }
        }
        Ok(())
    }

    fn wait_for_one(
        &self,
        device: PciAddress,
        allowed: &[ServiceName],
        budget: &mut Budget,
    ) -> Result<(), Refusal> {
        let mut before = None;
        while let Ok(occupancy) = self.kernel.occupancy(device) {
            let is_stable = match &occupancy.onlined {
                Some(memory) => !memory.is_changing && before.as_ref() == Some(memory),
                None => !is_expected(&occupancy, allowed),
            };
            if is_stable {
                break;
            }
            // Two equal reads need one pause; only a longer wait is reported.
            if before.is_some() || occupancy.onlined.is_none() {
                let what = "waiting until the driver has added the GPU's memory to the host";
                report(device, what, 0.1, budget);
            }
            if !budget.pause() {
                // Memory that never came is no obstacle: nothing has to be removed from the host.
                return occupancy.onlined.as_ref().map_or(Ok(()), |memory| {
                    Err(unstable(memory, budget.limit.as_secs()))
                });
            }
            before = occupancy.onlined;
        }
        Ok(())
    }

    /// Waits until the host uses no memory of the device, after its services were stopped. Does not wait while a process
    /// holds the device: then [`inspect`](Self::inspect) names the process.
    ///
    /// # Errors
    /// The host uses the memory after the time limit; the refusal names the processes that have memory there.
    pub(super) fn wait_until_removed(
        &self,
        device: PciAddress,
        driver: &DriverName,
        budget: &mut Budget,
    ) -> Result<(), AssignError> {
        if !self.may_have_memory(device, driver)? {
            return Ok(());
        }
        while let Ok(occupancy) = self.kernel.occupancy(device) {
            let holders = &occupancy.holders;
            // With hidden processes a wait could be in vain, and `inspect` refuses that at once.
            let (Some(memory), 0) = (&occupancy.onlined, holders.hidden) else {
                break;
            };
            if holder::refuse(device, holders).is_err() {
                break;
            }
            let what = "waiting until the driver has removed the GPU's memory from the host";
            report(device, what, 0.3, budget);
            if !budget.pause() {
                let refusal = self.in_use(device, memory, budget.limit.as_secs());
                return Err(AssignError::Refused(refusal.of(device)));
            }
        }
        Ok(())
    }

    /// True for a device that is unbound from the driver that adds memory to the host.
    fn may_have_memory(
        &self,
        device: PciAddress,
        driver: &DriverName,
    ) -> Result<bool, AssignError> {
        let on = self.kernel.driver(device).ok().flatten();
        Ok(on.is_some_and(|on| can_add_memory(&on)) && !self.stays(device, driver)?)
    }

    /// Refuses a device whose memory the host did not release, with the processes that use the memory.
    fn in_use(&self, device: PciAddress, memory: &Onlined, seconds: u64) -> Refusal {
        let Some(node) = memory.node else {
            return super::onlined(memory);
        };
        let users = self.kernel.memory_users(node);
        let Ok(Holders { found, .. }) = users else {
            return super::onlined(memory);
        };
        let used = format!("its memory is NUMA node {node} of the host after {seconds} s");
        if found.is_empty() {
            let sentence =
                "no process has memory there; disable the GPU's persistence mode, then retry: {}";
            let hint = Hint::with(sentence, format!("nvidia-smi -i {device} -pm 0"));
            return Refusal::new(Code::BindMemoryOnlined, used, hint);
        }
        let reason = format!("{used}, used by {}", holder::names(&found));
        let hint = "end these processes, or move their memory to a node with processors \
            ('migratepages PID FROM TO' of numactl), then retry";
        Refusal::new(Code::BindMemoryOnlined, reason, hint)
    }
}

/// True if a service that is about to be stopped holds a GPU whose memory is not there yet: the driver is about to add it.
fn is_expected(occupancy: &Occupancy, allowed: &[ServiceName]) -> bool {
    let certain = occupancy.holders.found.iter().filter(|h| h.is_certain());
    let mut units = certain.filter_map(|holder| holder.unit.as_deref());
    occupancy.is_offline && units.any(|unit| allowed.iter().any(|name| name.as_str() == unit))
}

/// Reports a wait to the job, and once in the log.
fn report(device: PciAddress, what: &str, done: f64, budget: &Budget) {
    if budget.left == budget.limit {
        let seconds = budget.limit.as_secs();
        info!(variantd_device = %device, "'{device}': {what} (at most {seconds} s)");
    }
    progress::stage(what, done);
}

fn unstable(memory: &Onlined, seconds: u64) -> Refusal {
    let node = memory.node.map(|node| format!(" (NUMA node {node})"));
    let node = node.unwrap_or_default();
    let reason =
        format!("NVIDIA's driver still adds or removes its memory{node} after {seconds} s");
    let sentence = "see the driver's messages with {}, then retry";
    let hint = Hint::naming(sentence, "journalctl -k -g NVRM");
    Refusal::new(Code::BindMemoryOnlined, reason, hint)
}

#[cfg(test)]
mod tests;
