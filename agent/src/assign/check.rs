//! The conditions before a device is changed: no process holds it, and its IOMMU group and state allow it.
//!
//! The assigner reads; the other functions decide from what was read. Changes nothing.

mod egm;
mod group;
mod holder;
mod memory;
mod onlined;

use kernel_glue::address::PciAddress;
use kernel_glue::device::Device;
use kernel_glue::driver::DriverName;
use kernel_glue::failure;
use kernel_glue::occupancy::{Occupancy, Onlined};
use nix::errno::Errno;

use super::{AssignError, Assigner};
use crate::host_view::HostView;
use crate::libvirt::DomainRef;
use crate::record::Held;
use crate::service::ServiceName;
use domain::code::Code;
use domain::hint::Hint;
use domain::refusal::Refusal;
use planner::plan::Planned;

use group::Member;
pub use group::refuse as refuse_group;
pub(super) use group::{Consent, companion, in_the_way, is_vfio};
pub use holder::{guest_of, refuse as refuse_holders};
pub(super) use onlined::Budget;
pub(crate) use onlined::WAIT;

/// A device that is about to be assigned.
struct Subject<'a> {
    device: &'a Device,
    occupancy: &'a Occupancy,
    /// It is already bound to its driver, so nothing is unbound.
    stays: bool,
    /// A guest gets it, and its recipe requires a reset before.
    needs_reset: bool,
}

impl Assigner {
    /// Claims the devices for the domain and checks that they can be bound. The claim comes first, because after it the
    /// agent itself does not have a device open for a region query. Returns all devices that the domain holds.
    ///
    /// # Errors
    /// The refusal names the obstacle and the command that frees the device; the claim is unchanged.
    pub(super) fn claim_free(
        &self,
        host_view: &HostView<'_>,
        domain: &DomainRef,
        devices: &[Planned],
    ) -> Result<Vec<Held>, AssignError> {
        if devices.is_empty() {
            return Ok(Vec::new());
        }
        // A guest that starts again may own some of these devices; a refusal must not take them away.
        let before = self.records.entry(&domain.uuid)?;
        let claimed = self.claim(domain, devices);
        let held = claimed.inspect_err(|_| self.left_over(&domain.uuid))?;
        let allowed = &host_view.rules.config.stop_services;
        let mut budget = Budget::new(self.memory_timeout);
        let refused = devices.iter().find_map(|planned| {
            let Planned {
                address, driver, ..
            } = planned;
            self.take_from_holders(host_view, *address, driver, allowed, &mut budget)
                .err()
        });
        let Some(error) = refused else {
            return Ok(held);
        };
        self.keep(domain, before.map_or(Vec::new(), |entry| entry.devices))?;
        Err(error)
    }

    /// Stops the services of `allowed` that hold a device, waits until the host uses none of its memory, and checks for other
    /// obstacles.
    ///
    /// # Errors
    /// As [`inspect`](Self::inspect), [`stop_services`](Self::stop_services) and
    /// [`wait_until_removed`](Self::wait_until_removed).
    pub(super) fn take_from_holders(
        &self,
        host_view: &HostView<'_>,
        address: PciAddress,
        driver: &DriverName,
        allowed: &[ServiceName],
        budget: &mut Budget,
    ) -> Result<(), AssignError> {
        self.stop_services(address, driver, allowed)?;
        self.wait_until_removed(address, driver, budget)?;
        let free = self.inspect(host_view, address, driver);
        free.map_err(AssignError::Refused)
    }

    /// The planned devices with the functions of their IOMMU groups that block VFIO. `given` are the devices of the
    /// same guest, planned or not.
    ///
    /// # Errors
    /// The host uses the other functions, and there is no consent to take them.
    pub(super) fn whole(
        &self,
        host_view: &HostView<'_>,
        given: &[PciAddress],
        mut planned: Vec<Planned>,
        consent: Consent,
    ) -> Result<Vec<Planned>, Refusal> {
        let host = host_view.host()?;
        // By index, because the loop appends; the range was fixed before, so added companions are not searched for companions.
        for index in 0..planned.len() {
            let device = host.devices.get(&planned[index].address);
            // Without a group there is no IOMMU, and `unconfined` decides.
            let Some(number) = device.and_then(|device| device.iommu_group) else {
                continue;
            };
            let others = host
                .group(number)
                .filter(|other| !given.contains(&other.address));
            let members = others
                .filter(|other| !planned.iter().any(|one| one.address == other.address))
                .filter_map(|device| Member::read(&*self.kernel, device).transpose())
                .collect::<Result<Vec<Member<'_>>, Refusal>>()?;
            planned.extend(group::companions(
                &planned[index],
                number,
                &members,
                consent,
            )?);
        }
        Ok(planned)
    }

    /// Checks that a device can be bound to a driver.
    ///
    /// # Errors
    /// The refusal names the obstacle and the command that frees the device.
    pub(super) fn inspect(
        &self,
        host_view: &HostView<'_>,
        address: PciAddress,
        driver: &DriverName,
    ) -> Result<(), Refusal> {
        let obstacles = self.obstacles(host_view, address, driver)?;
        obstacles.into_iter().next().map_or(Ok(()), Err)
    }

    /// All obstacles against binding a device to a driver, the most serious first.
    ///
    /// # Errors
    /// The obstacles cannot be read.
    pub(super) fn obstacles(
        &self,
        host_view: &HostView<'_>,
        address: PciAddress,
        driver: &DriverName,
    ) -> Result<Vec<Refusal>, Refusal> {
        let Some(device) = host_view.host()?.devices.get(&address) else {
            return Ok(Vec::new());
        };
        let registered = self.kernel.registered(driver.as_str());
        let registered = registered.map_err(unreadable)?;
        let now = self.kernel.driver(device.address).map_err(unreadable)?;
        let occupancy = self.kernel.occupancy(device.address).map_err(unreadable)?;
        let recipe = host_view.rules.recipes.for_device(device);
        // The variant driver binds without these firmware properties, too, and then works as plain vfio-pci (nvgrace-gpu, main.c).
        let unnamed = (!self.kernel.names_memory(driver)).then(|| memory::unnamed(driver));
        let others = decide(&Subject {
            device,
            occupancy: &occupancy,
            stays: now.is_some() && now == registered,
            needs_reset: recipe.is_some_and(|recipe| recipe.needs_reset),
        });
        let unconfined = self.kernel.is_unconfined(address).map_err(unreadable)?;
        let unconfined = unconfined.then(self::unconfined);
        let all = unconfined.into_iter().chain(unnamed).chain(others);
        Ok(all.map(|refusal| refusal.of(address)).collect())
    }
}

fn decide(subject: &Subject<'_>) -> Vec<Refusal> {
    let occupancy = subject.occupancy;
    let held = holder::refuse(subject.device.address, &occupancy.holders);
    // The order is that of the messages: a process that holds the device comes first, because its end may remove the rest.
    let mut all = vec![held.err()];
    // A device that keeps its driver is not unbound, so other users of that driver do not matter.
    if !subject.stays {
        all.push(holder::refuse_hidden(&occupancy.holders).err());
        all.push(occupancy.onlined.as_ref().map(onlined));
        let functions = refuse_functions(subject.device.address, occupancy.virtual_functions);
        all.push(functions.err());
    }
    all.push(refuse_without_reset(subject.device, subject.needs_reset).err());
    all.into_iter().flatten().collect()
}

fn unreadable(errno: Errno) -> Refusal {
    let reason = format!(
        "cannot read which processes hold it: {}",
        failure::describe(errno)
    );
    Refusal::new(
        Code::BindHolderHidden,
        reason,
        "check that /proc and /sys are mounted",
    )
}

/// Refuses a device whose memory the host uses.
pub fn onlined(memory: &Onlined) -> Refusal {
    let whose = match memory.node {
        Some(node) => format!("its memory is NUMA node {node} of the host"),
        None => "the host uses its memory as system memory".to_owned(),
    };
    let reason = format!("{whose} (\"System RAM (NVIDIA)\" in /proc/iomem)");
    let sentence = "stop the processes that use that memory and the services that hold the GPU \
        ({}) until 'grep -c \"System RAM (NVIDIA)\" /proc/iomem' says 0";
    let hint = Hint::with(sentence, "systemctl stop nvidia-persistenced");
    Refusal::new(Code::BindMemoryOnlined, reason, hint)
}

/// Refuses a device that has virtual functions at present.
pub fn refuse_functions(device: PciAddress, count: u32) -> Result<(), Refusal> {
    if count == 0 {
        return Ok(());
    }
    let reason =
        format!("it has {count} virtual functions, and VFIO drivers do not accept such a device");
    let file = format!("/sys/bus/pci/devices/{device}/sriov_numvfs");
    let hint = Hint::with(
        "disable them when no guest uses them: {}",
        format!("echo 0 > {file}"),
    );
    Err(Refusal::new(Code::DeviceHasFunctions, reason, hint))
}

/// The refusal of a device that VFIO would give out without an IOMMU. Outside its no-IOMMU mode VFIO itself refuses such a device, and
/// `doctor` reports why.
fn unconfined() -> Refusal {
    let reason = "no IOMMU confines it, and VFIO gives it out in its no-IOMMU mode: its guest could reach all of the \
        host's memory";
    let sentence = "enable the IOMMU ({}), and disable that mode: 'echo N > \
        /sys/module/vfio/parameters/enable_unsafe_noiommu_mode'";
    let hint = Hint::naming(sentence, "variantctl doctor --only VD-DOC-001");
    Refusal::new(Code::DeviceUnconfined, reason, hint)
}

/// Refuses a device that the kernel cannot reset, if its recipe requires a reset.
pub fn refuse_without_reset(device: &Device, needs_reset: bool) -> Result<(), Refusal> {
    if !needs_reset || !device.reset_methods.is_empty() {
        return Ok(());
    }
    let file = format!("/sys/bus/pci/devices/{}/reset_method", device.address);
    let reason = "the kernel has no reset method for it, so data of one guest could reach the next";
    let hint = Hint::with("{}", format!("echo default > {file}"))
        .after(&format!("if '{file}' exists, "))
        .then("; if its guests may see each other's data, set 'needs_reset = false' in its recipe");
    Err(Refusal::new(Code::ResetMissing, reason, hint))
}

#[cfg(test)]
mod tests;
