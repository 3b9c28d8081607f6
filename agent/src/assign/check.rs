//! What must be true before a device is touched: nobody holds it, and its IOMMU group and state allow it.
//!
//! The assigner reads, the rest decides over what was read. Changes nothing.

mod group;
mod holder;

use kernel_glue::address::PciAddress;
use kernel_glue::device::Device;
use kernel_glue::driver::DriverName;
use kernel_glue::failure;
use kernel_glue::occupancy::{Occupancy, Onlined};
use nix::errno::Errno;

use super::{AssignError, Assigner};
use crate::code::Code;
use crate::domain::Domain;
use crate::libvirt::DomainRef;
use crate::plan::Planned;
use crate::refusal::Refusal;
use crate::view::View;

use group::Member;
pub(super) use group::{Consent, companion, in_the_way, is_vfio};

/// A device that is about to be assigned.
struct Subject<'a> {
    device: &'a Device,
    occupancy: &'a Occupancy,
    /// It is on its driver already, so nothing is unbound.
    stays: bool,
    /// A guest gets it, and its recipe wants it to be reset before.
    needs_reset: bool,
}

impl Assigner {
    /// Claims the devices for the domain and sees that nothing stands against taking them. They are claimed before,
    /// since only then nobody of our own has one open to ask for its regions.
    ///
    /// # Errors
    /// The refusal names what is in the way and the command that frees the device; the claim is as it was.
    pub(super) fn claim_free(
        &self,
        view: &View<'_>,
        domain: &DomainRef,
        devices: &[Planned],
    ) -> Result<(), AssignError> {
        if devices.is_empty() {
            return Ok(());
        }
        let before = self.journal.read(&domain.uuid)?;
        let claimed = self.claim(domain, devices);
        claimed.inspect_err(|_| self.left_over(&domain.uuid))?;
        let refused = devices
            .iter()
            .find_map(|planned| self.inspect(view, planned.address, &planned.driver).err());
        let Some(refusal) = refused else {
            return Ok(());
        };
        self.keep(domain, before.map_or(Vec::new(), |entry| entry.devices))?;
        Err(AssignError::Refused(refusal))
    }

    /// The planned devices with the rest of their IOMMU groups, as far as that is in the way. `given` is what goes to
    /// the same guest, planned or not.
    ///
    /// # Errors
    /// When the host uses the rest, and there is no consent to take it.
    pub(super) fn whole(
        &self,
        view: &View<'_>,
        given: &[PciAddress],
        mut planned: Vec<Planned>,
        consent: Consent,
    ) -> Result<Vec<Planned>, Refusal> {
        let host = view.host()?;
        for index in 0..planned.len() {
            let device = host.devices.get(&planned[index].address);
            let Some(number) = device.and_then(|device| device.iommu_group) else {
                continue;
            };
            let others = host
                .group(number)
                .filter(|other| !given.contains(&other.address));
            let members: Vec<Member<'_>> = others
                .filter(|other| !planned.iter().any(|one| one.address == other.address))
                .filter_map(|device| Member::read(&*self.kernel, device))
                .collect();
            planned.extend(group::companions(
                &planned[index],
                number,
                &members,
                consent,
            )?);
        }
        Ok(planned)
    }

    /// Sees that nothing stands against taking a device for a driver.
    ///
    /// # Errors
    /// The refusal names what is in the way and the command that frees the device.
    pub(super) fn inspect(
        &self,
        view: &View<'_>,
        address: PciAddress,
        driver: &DriverName,
    ) -> Result<(), Refusal> {
        let Some(device) = view.host()?.devices.get(&address) else {
            return Ok(());
        };
        let registered = self.kernel.registered(driver.as_str());
        let now = self.kernel.driver(device.address).map_err(unreadable)?;
        let occupancy = self.kernel.occupancy(device.address).map_err(unreadable)?;
        let recipe = view.rules.recipes.for_device(device);
        decide(&Subject {
            device,
            occupancy: &occupancy,
            stays: now.is_some() && now == registered,
            needs_reset: recipe.is_some_and(|recipe| recipe.needs_reset),
        })
        .map_err(|refusal| refusal.of(address))
    }
}

/// The host devices of a definition, whether a recipe covers them or not.
pub(super) fn sources(xml: &str) -> Result<Vec<PciAddress>, AssignError> {
    let domain = Domain::parse(xml).map_err(AssignError::Refused)?;
    let sources = domain.hostdevs.iter().map(|hostdev| hostdev.source);
    Ok(sources.collect())
}

fn decide(subject: &Subject<'_>) -> Result<(), Refusal> {
    let occupancy = subject.occupancy;
    holder::refuse(subject.device.address, &occupancy.holders)?;
    if !subject.stays {
        holder::refuse_hidden(&occupancy.holders)?;
        occupancy
            .onlined
            .as_ref()
            .map_or(Ok(()), |memory| Err(onlined(memory)))?;
        refuse_functions(subject)?;
    }
    refuse_without_reset(subject)
}

fn unreadable(errno: Errno) -> Refusal {
    let reason = format!("cannot see who holds it: {}", failure::describe(errno));
    Refusal::new(
        Code::BindHolderHidden,
        reason,
        "see that /proc and /sys are mounted",
    )
}

fn onlined(memory: &Onlined) -> Refusal {
    let whose = match memory.node {
        Some(node) => format!("its memory is NUMA node {node} of the host"),
        None => "its memory is in use as the host's own".to_owned(),
    };
    let reason = format!("{whose} (\"System RAM (NVIDIA)\" in /proc/iomem)");
    let mend = "end what has memory there and what keeps the GPU ready ('systemctl stop nvidia-persistenced'), until \
                'grep -c \"System RAM (NVIDIA)\" /proc/iomem' says 0";
    Refusal::new(Code::BindMemoryOnlined, reason, mend)
}

fn refuse_functions(subject: &Subject<'_>) -> Result<(), Refusal> {
    let count = subject.occupancy.virtual_functions;
    if count == 0 {
        return Ok(());
    }
    let reason =
        format!("it has virtual functions ({count}), and VFIO drivers take no such device");
    let file = format!(
        "/sys/bus/pci/devices/{}/sriov_numvfs",
        subject.device.address
    );
    let mend = format!("remove them when nobody uses them: 'echo 0 > {file}'");
    Err(Refusal::new(Code::DeviceHasFunctions, reason, mend))
}

fn refuse_without_reset(subject: &Subject<'_>) -> Result<(), Refusal> {
    if !subject.needs_reset || !subject.device.reset_methods.is_empty() {
        return Ok(());
    }
    let file = format!(
        "/sys/bus/pci/devices/{}/reset_method",
        subject.device.address
    );
    let reason =
        "the kernel has no way to reset it, so what one guest leaves in it reaches the next";
    let mend = format!(
        "if '{file}' is there, 'echo default > {file}'; if all its guests may see each other's data, \
         'needs_reset = false' in its recipe"
    );
    Err(Refusal::new(Code::ResetMissing, reason, mend))
}

#[cfg(test)]
mod tests;
