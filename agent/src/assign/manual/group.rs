//! A device and the functions that are bound with it: those of its IOMMU group, and its own other functions.
//!
//! ```text
//! bind:    consent -> companions' memory is stable -> companions are free -> companions, one after another -> the device
//!                                                                            on failure: restore companions, last one first
//! release: the device -> companions        recover: companions of a device that is not bound, too
//! ```
//!
//! Companions stay locked until the device is bound, and their records name it.

use kernel_glue::address::PciAddress;
use kernel_glue::device::Device;
use kernel_glue::driver::DriverName;
use kernel_glue::rebind::RebindError;
use nix::errno::Errno;
use serde::Serialize;
use tracing::warn;

use super::{Answer, Asker, AssignError, Assigner, BindOptions, BindOutcome, ManualBind};
use crate::assign::bind;
use crate::assign::check::{Budget, Consent, companion, in_the_way, is_vfio};
use crate::assignment;
use crate::host_view::HostView;
use crate::record::{DeviceLock, Manual, Purpose};
use crate::service::ServiceName;
use domain::code::Code;
use domain::refusal::Refusal;
use planner::plan::Planned;

/// Classes of the other functions of a GPU: audio, USB, and the controller of USB-C.
const BESIDE: [u32; 3] = [0x0403, 0x0c03, 0x0c80];

/// The reply for a device and its companions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupAnswer {
    /// The device.
    #[serde(flatten)]
    pub device: Answer,
    /// The companions.
    pub along: Vec<Answer>,
}

/// A companion that is about to be bound.
struct Companion {
    manual_bind: ManualBind,
    /// Held until the device itself is bound.
    _lock: DeviceLock,
}

impl Assigner {
    /// Binds a device outside of any guest, and with consent the functions of its IOMMU group that the host uses.
    ///
    /// # Errors
    /// The same refusals as at a guest's start: the host uses other functions of the group without consent, or a
    /// service that may not be stopped, or does not end, holds the device. After a failure the previous states are
    /// restored unless the code says otherwise.
    pub fn bind_group_manually(
        &self,
        device: PciAddress,
        bind_options: BindOptions,
    ) -> Result<GroupAnswer, AssignError> {
        let services = self.may_stop(&bind_options);
        self.bind_group(Asker::Admin, device, bind_options, &services)
    }

    /// The same for any asker; `services` may be stopped.
    pub(super) fn bind_group(
        &self,
        asker: Asker<'_>,
        device: PciAddress,
        bind_options: BindOptions,
        services: &[ServiceName],
    ) -> Result<GroupAnswer, AssignError> {
        let companions = self.companions(device, &bind_options)?;
        let planned = companions.iter().map(|one| (one.address, &one.driver));
        self.wait_until_stable(planned, services)?;
        let driver = bind_options.driver;
        self.undisturbed(|| self.bind_whole(asker, device, driver, &companions, services))
    }

    /// Binds the companions and then the device; stops the services that hold one of them.
    fn bind_whole(
        &self,
        asker: Asker<'_>,
        device: PciAddress,
        driver: Option<DriverName>,
        companions: &[Planned],
        services: &[ServiceName],
    ) -> Result<GroupAnswer, AssignError> {
        let companions = self.free(device, companions, services)?;
        let (mut along, mut taken) = (Vec::new(), Vec::new());
        for companion in &companions {
            along.push(companion.manual_bind.answer(BindOutcome::Bound, None));
            let record = self.take(&companion.manual_bind);
            let record = record.inspect_err(|_| self.restore_drivers(&taken))?;
            taken.push((&companion.manual_bind, record));
        }
        let bound = self.bind_from_holders(asker, device, driver, services);
        let device = bound.inspect_err(|_| self.restore_drivers(&taken))?;
        Ok(GroupAnswer { device, along })
    }

    /// The writes that [`bind_group_manually`](Self::bind_group_manually) would make, and the obstacles, including
    /// those of the group.
    ///
    /// # Errors
    /// As [`plan_manual_bind`](Self::plan_manual_bind).
    pub fn plan_manual_group(
        &self,
        device: PciAddress,
        bind_options: BindOptions,
    ) -> Result<GroupAnswer, AssignError> {
        let plan = |device, driver| self.plan_manual_bind(device, driver);
        self.plan_group(device, bind_options, plan)
    }

    /// The same without a lock, when the agent does not run.
    pub(super) fn plan_group_unlocked(
        &self,
        device: PciAddress,
        bind_options: BindOptions,
    ) -> Result<GroupAnswer, AssignError> {
        let plan = |device, driver| self.plan_unlocked(device, driver);
        self.plan_group(device, bind_options, plan)
    }

    fn plan_group(
        &self,
        device: PciAddress,
        bind_options: BindOptions,
        plan: impl Fn(PciAddress, Option<DriverName>) -> Result<Answer, AssignError>,
    ) -> Result<GroupAnswer, AssignError> {
        let (companions, in_the_way) = match self.companions(device, &bind_options) {
            Ok(companions) => (companions, None),
            Err(AssignError::Refused(refusal)) if refusal.code == Code::BindGroup => {
                (Vec::new(), Some(refusal.to_string()))
            }
            Err(error) => return Err(error),
        };
        let planned = companions
            .into_iter()
            .map(|companion| plan(companion.address, Some(companion.driver)));
        let along = planned.collect::<Result<_, _>>()?;
        let mut device = plan(device, bind_options.driver)?;
        device.obstacles.extend(in_the_way);
        Ok(GroupAnswer { device, along })
    }

    /// Releases a device that was bound outside of any guest, and its companions.
    ///
    /// # Errors
    /// A refusal while a guest has the device; devices that could not be released stay recorded, so that the caller can
    /// retry.
    pub fn release_group_manually(&self, device: PciAddress) -> Result<GroupAnswer, AssignError> {
        if let Some(leader) = self
            .records
            .manual(device)?
            .and_then(|record| record.purpose.leader)
        {
            self.refuse_held(leader)?;
        }
        let answer = self.release_manually(device)?;
        let is_along = |purpose: &Purpose| purpose.leader == Some(device);
        let companions = self.records.bound_for(is_along)?.into_iter();
        // After the device: a companion on its host driver would make the group not viable while the device is still on VFIO.
        let released = companions.map(|companion| self.release_manually(companion));
        // Each device is tried, regardless of failures of the others.
        let released: Vec<_> = released.collect();
        let along = released.into_iter().collect::<Result<_, _>>()?;
        Ok(GroupAnswer {
            device: answer,
            along,
        })
    }

    /// True if a companion was left behind: its leader is not bound.
    pub(super) fn is_stray(&self, record: &Manual) -> Result<bool, AssignError> {
        let Some(leader) = record.purpose.leader else {
            return Ok(false);
        };
        if let Some(leader) = self.records.manual(leader)? {
            return Ok(leader.is_unsettled());
        }
        let driver = match self.kernel.driver(leader) {
            // An unplugged leader cannot use its companions any more.
            Err(Errno::ENODEV) => None,
            Err(errno) => {
                let device = leader;
                return Err(RebindError::Unreadable { device, errno }.into());
            }
            Ok(driver) => driver,
        };
        Ok(!driver.is_some_and(|driver| is_vfio(driver.as_str())))
    }

    /// The companions of a device that is bound to a VFIO driver.
    fn companions(
        &self,
        device: PciAddress,
        bind_options: &BindOptions,
    ) -> Result<Vec<Planned>, AssignError> {
        let driver = self.wanted(device, bind_options.driver.clone())?;
        if !is_vfio(driver.as_str()) {
            return Ok(Vec::new());
        }
        let host_view = self.context.look();
        let consent =
            Consent::printed(bind_options.allow_group || host_view.rules.config.allow_group);
        let planned = vec![leader(device, driver)];
        let whole = self.whole(&host_view, &[device], planned, consent);
        // `whole` has the device itself at index 0; see `split_off` below.
        let mut whole = whole.map_err(AssignError::Refused)?;
        if consent == Consent::Given {
            let beside = self
                .beside(&host_view, &whole)
                .map_err(AssignError::Refused)?;
            whole.extend(beside);
        }
        Ok(whole.split_off(1))
    }

    /// The device's own other functions that the host uses and that have their own IOMMU groups.
    fn beside(
        &self,
        host_view: &HostView<'_>,
        planned: &[Planned],
    ) -> Result<Vec<Planned>, Refusal> {
        let leader = &planned[0];
        let known = |one: &Device| planned.iter().any(|other| other.address == one.address);
        let functions = host_view.host()?.devices.values().filter(|one| {
            one.address.same_slot(leader.address) && BESIDE.contains(&(one.class >> 8))
        });
        let label = || format!("function of '{}'", leader.address);
        let mut used = Vec::new();
        for one in functions.filter(|one| !known(one)) {
            if in_the_way(&*self.kernel, one)? {
                used.extend(companion(leader, one.address, label()));
            }
        }
        Ok(used)
    }

    /// Locks the companions, after taking each from the services that hold it, and from the host, which may use its memory.
    fn free(
        &self,
        leader: PciAddress,
        companions: &[Planned],
        services: &[ServiceName],
    ) -> Result<Vec<Companion>, AssignError> {
        let host_view = self.context.look();
        let mut budget = Budget::new(self.memory_timeout);
        let free = companions.iter().map(|planned| {
            let _lock = self.lock_for_admin(planned.address)?;
            self.settle_manual(planned.address)?;
            let to = bind::resolve(&*self.kernel, planned.address, &planned.driver)?;
            let manual_bind = self.manual_bind(planned.address, to)?;
            let (address, driver) = (planned.address, &planned.driver);
            self.take_from_holders(&host_view, address, driver, services, &mut budget)?;
            let purpose = Purpose {
                leader: Some(leader),
                guest: None,
            };
            Ok(Companion {
                manual_bind: ManualBind {
                    purpose,
                    ..manual_bind
                },
                _lock,
            })
        });
        free.collect()
    }

    /// The services that may be stopped.
    fn may_stop(&self, bind_options: &BindOptions) -> Vec<ServiceName> {
        match bind_options.stop_services {
            true => {
                let named = self.context.rules().config.stop_services.clone();
                ServiceName::known().chain(named).collect()
            }
            false => Vec::new(),
        }
    }

    /// Restores the companions' states before this bind, the last one first.
    fn restore_drivers(&self, taken: &[(&ManualBind, assignment::Record)]) {
        for (manual_bind, record) in taken.iter().rev() {
            if let Err(error) = self.cancel(manual_bind, record) {
                warn!("cannot release '{}': {error}", manual_bind.rebind.device);
            }
        }
    }
}

fn leader(address: PciAddress, driver: DriverName) -> Planned {
    Planned {
        address,
        recipe: String::new(),
        label: String::new(),
        driver,
        cells: Default::default(),
        host_nodes: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
