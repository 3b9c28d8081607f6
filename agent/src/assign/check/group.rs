//! The other functions of a device's IOMMU group: which of them block VFIO, and which are bound with the device by
//! consent.
//!
//! VFIO accepts a group only if none of its members is bound to a driver that does DMA for the host (EPERM). Bridges,
//! unbound devices and drivers without DMA are harmless. Follows drivers/iommu/iommu.c.

use kernel_glue::address::PciAddress;
use kernel_glue::device::Device;
use kernel_glue::driver::DriverName;
use kernel_glue::host::Host;
use nix::errno::Errno;

use super::unreadable;
use crate::assign::SharedKernel;
use domain::code::Code;
use domain::hint::Hint;
use domain::refusal::Refusal;
use planner::plan::Planned;

/// The driver for the other functions.
const VFIO: &str = "vfio-pci";
/// Drivers with `driver_managed_dma` that are not named after VFIO (Linux 7.2).
const HARMLESS: [&str; 2] = ["pci-stub", "pcieport"];
/// Base classes that a host may depend on: mass storage and network.
const VITAL: [(u32, &str); 2] = [(0x01, "storage"), (0x02, "network")];

/// Consent to take functions of a group that the host uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::assign) enum Consent {
    /// Given.
    Given,
    /// A guest starts, and the configuration does not allow it.
    NotConfigured,
    /// An administrator binds, without the option.
    NotSaid,
}

impl Consent {
    /// For a guest that starts.
    pub(in crate::assign) fn configured(allow_group: bool) -> Self {
        match allow_group {
            true => Self::Given,
            false => Self::NotConfigured,
        }
    }

    /// For an administrator's bind.
    pub(in crate::assign) fn printed(allow_group: bool) -> Self {
        match allow_group {
            true => Self::Given,
            false => Self::NotSaid,
        }
    }
}

/// A member of the group that does DMA for the host.
pub(super) struct Member<'a> {
    device: &'a Device,
    driver: DriverName,
}

impl<'a> Member<'a> {
    /// The device, if it blocks VFIO: not a bridge, and bound to such a driver at present. An NVSwitch (class 0680) has
    /// a bridge class and is not a bridge.
    ///
    /// # Errors
    /// Its driver cannot be read; a device that was removed meanwhile does not block VFIO.
    pub(super) fn read(kernel: &SharedKernel, device: &'a Device) -> Result<Option<Self>, Refusal> {
        match kernel.driver(device.address) {
            Ok(driver) => Ok(driver.and_then(|driver| Self::on(device, driver))),
            Err(Errno::ENODEV) => Ok(None),
            Err(errno) => Err(unreadable(errno).of(device.address)),
        }
    }

    fn on(device: &'a Device, driver: DriverName) -> Option<Self> {
        // 0600 host bridge, 0604 PCI bridge: `pcieport` has `driver_managed_dma`, and a host bridge usually has no driver.
        if matches!(device.class >> 8, 0x0600 | 0x0604) {
            return None;
        }
        (!leaves_dma_alone(driver.as_str())).then_some(Self { device, driver })
    }

    fn text(&self) -> String {
        let (device, class) = (self.device, self.device.class >> 8);
        format!(
            "'{}' (class {class:04x}, driver '{}')",
            device.address, self.driver
        )
    }

    fn vital(&self) -> Option<&'static str> {
        let named = VITAL
            .iter()
            .find(|(base, _)| *base == self.device.class >> 16);
        named.map(|(_, name)| *name)
    }
}

/// Whether the host uses a device in a way that blocks VFIO from its group.
///
/// # Errors
/// Its driver cannot be read.
pub(in crate::assign) fn in_the_way(
    kernel: &SharedKernel,
    device: &Device,
) -> Result<bool, Refusal> {
    Ok(Member::read(kernel, device)?.is_some())
}

/// The members that are bound with `leader`: none, or all with consent.
pub(super) fn companions(
    leader: &Planned,
    group: u32,
    members: &[Member<'_>],
    consent: Consent,
) -> Result<Vec<Planned>, Refusal> {
    if members.is_empty() {
        return Ok(Vec::new());
    }
    if consent != Consent::Given {
        return Err(refusal(leader.address, group, members, consent));
    }
    // Taking the disk of the root file system, or the network that the administrator uses, ends the host's service.
    if let Some((member, what)) = members.iter().find_map(|one| Some((one, one.vital()?))) {
        return Err(vital(leader, group, member, what));
    }
    let label = || format!("rest of IOMMU group {group}");
    let companion = |member: &Member<'_>| companion(leader, member.device.address, label());
    Ok(members.iter().filter_map(companion).collect())
}

/// Refuses a device whose group has functions that the host uses, from a host that was read.
pub fn refuse(host: &Host, device: &Device, group: u32) -> Result<(), Refusal> {
    let others = host
        .group(group)
        .filter(|one| one.address != device.address);
    let members: Vec<Member<'_>> = others
        .filter_map(|one| Member::on(one, one.driver.clone()?))
        .collect();
    match members.is_empty() {
        true => Ok(()),
        false => Err(refusal(
            device.address,
            group,
            &members,
            Consent::NotConfigured,
        )),
    }
}

/// A function that is bound with `leader`.
pub(in crate::assign) fn companion(
    leader: &Planned,
    address: PciAddress,
    label: String,
) -> Option<Planned> {
    Some(Planned {
        address,
        recipe: leader.recipe.clone(),
        label,
        driver: VFIO.parse().ok()?,
        cells: Default::default(),
        host_nodes: Vec::new(),
    })
}

fn refusal(leader: PciAddress, group: u32, members: &[Member<'_>], consent: Consent) -> Refusal {
    let names: Vec<String> = members.iter().map(Member::text).collect();
    let reason = format!(
        "its IOMMU group {group} has functions that the host uses: {}",
        names.join(", ")
    );
    let each = members
        .iter()
        .map(|member| Hint::with("{}", unbind(member)));
    let commands = each.reduce(Hint::and).unwrap_or_default();
    let hint = match consent {
        Consent::NotSaid => commands.after("run ").then(&format!(
            ", or bind the whole group with 'variantctl bind {leader} --allow-group'"
        )),
        _ => commands
            .after("assign them to the same guest, run ")
            .then(", or assign the whole group with 'allow_group = true' in variantd.conf"),
    };
    Refusal::new(Code::BindGroup, reason, hint).of(leader)
}

/// Consent to a group does not include devices that the host depends on.
fn vital(leader: &Planned, group: u32, member: &Member<'_>, what: &str) -> Refusal {
    let reason = format!(
        "its IOMMU group {group} has {what} of the host: {}",
        member.text()
    );
    let hint = format!(
        "make sure that the host does not need it, then run '{}'",
        unbind(member)
    );
    Refusal::new(Code::BindGroup, reason, hint).of(leader.address)
}

fn unbind(member: &Member<'_>) -> String {
    let (device, driver) = (member.device.address, &member.driver);
    format!("echo {device} > /sys/bus/pci/drivers/{driver}/unbind")
}

/// VFIO drivers are named `vfio-pci`, `..._vfio_pci` or `...-vfio-pci`.
pub(in crate::assign) fn is_vfio(driver: &str) -> bool {
    driver.replace('-', "_").ends_with("vfio_pci")
}

fn leaves_dma_alone(driver: &str) -> bool {
    is_vfio(driver) || HARMLESS.contains(&driver)
}
