//! Host devices that must use iommufd: those behind an accelerated SMMUv3, and those whose recipe asks for it.

use std::collections::{BTreeMap, BTreeSet};

use kernel_glue::address::PciAddress;

use super::left_out;
use crate::plan::fragment::Fragment;
use crate::plan::rule::is_behind;
use crate::plan::virsh;
use crate::plan::{Assigned, Change, Part, PlanInput};
use crate::recipe::Need;
use crate::stack::Feature;
use domain::code::Code;
use domain::edit::Edit;
use domain::refusal::Refusal;
use domain::{Domain, Hostdev, Mark, Piece};

/// The inputs of the decision.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) input: &'a PlanInput<'a>,
    pub(super) domain: &'a Domain,
    pub(super) assigned: &'a [Assigned<'a>],
    /// The expander bus of each device that is on one.
    pub(super) behind: &'a BTreeMap<PciAddress, u32>,
    /// Controllers with an accelerated SMMUv3, existing or planned; `None` for an SMMUv3 of the whole machine.
    pub(super) accelerated: &'a [Option<u32>],
}

/// Plans `<iommufd>` of the domain; else returns the devices that need `iommufd='yes'` on their hostdev.
pub(super) fn plan(scene: &Scene<'_>) -> Result<(Part, BTreeSet<PciAddress>), Refusal> {
    let (mut part, mut through) = (Part::default(), BTreeSet::new());
    let mut noted = false;
    for one in scene.assigned {
        let asks = one.recipe.iommufd != Need::Ignore;
        let is_done = scene.domain.goes_through_iommufd(one.hostdev);
        let is_wanted = asks || !scene.accelerated.is_empty();
        if is_done || !is_wanted {
            continue;
        }
        match lacking(scene.input, scene.domain, one.hostdev) {
            None => {
                if one.recipe.iommufd == Need::Require {
                    part.required.insert(Code::IommufdMissing);
                }
                through.insert(one.hostdev.source);
            }
            Some(lack) if scene.must(one.hostdev) => {
                return Err(contradiction(scene.domain, one.hostdev, &lack));
            }
            Some(lack) if asks && !noted => {
                let need = one.recipe.iommufd;
                let note = left_out(one, Code::IommufdLeftOut, "iommufd", need, lack)?;
                part.notes.push(note);
                noted = true;
            }
            Some(_) => {}
        }
    }
    if scene.others()? {
        part.changes.push(enable(scene.domain));
        part.added.insert(Piece::Iommufd);
        // `<iommufd>` of the domain covers all hostdevs: none needs the attribute of its own as well.
        through.clear();
    }
    Ok((part, through))
}

/// Removes `<iommufd>` of the domain.
pub(crate) fn undo(domain: &Domain, mark: &Mark) -> Option<Edit> {
    let iommufd = domain.platform.iommufd.as_ref();
    let iommufd = iommufd.filter(|_| mark.added.has(&Piece::Iommufd))?;
    Some(iommufd.element.remove())
}

impl Scene<'_> {
    /// True for a hostdev that the guest has behind an accelerated SMMUv3.
    fn must(&self, hostdev: &Hostdev) -> bool {
        self.accelerated.iter().any(|bus| {
            bus.is_none_or(|bus| {
                let planned = self.behind.get(&hostdev.source) == Some(&bus);
                planned || is_behind(self.domain, hostdev, bus)
            })
        })
    }

    /// Whether hostdevs without a recipe need iommufd as well: then `<iommufd>` of the domain is needed.
    fn others(&self) -> Result<bool, Refusal> {
        let is_planned = |hostdev: &Hostdev| {
            let mut sources = self.assigned.iter().map(|one| one.hostdev.source);
            sources.any(|source| source == hostdev.source)
        };
        let mut others = self.domain.hostdevs.iter().filter(|hostdev| {
            !is_planned(hostdev) && self.must(hostdev) && !self.domain.goes_through_iommufd(hostdev)
        });
        let Some(first) = others.next() else {
            return Ok(false);
        };
        // A hostdev with `iommufd='no'` is named first: it fails under every libvirt.
        let off = others.find(|hostdev| is_off(hostdev)).unwrap_or(first);
        let stack = &self.input.target.stack;
        if let Some(lack) = lacking(self.input, self.domain, off) {
            return Err(contradiction(self.domain, off, &lack));
        }
        if stack.has(Feature::DomainIommufd) {
            return Ok(true);
        }
        let (libvirt, need) = (stack.libvirt, Feature::DomainIommufd.first());
        let lack = format!("libvirt {libvirt} has no <iommufd> for all of a domain, {need} has");
        let what = "set <driver iommufd='yes'/> on its <hostdev>, or remove the <iommu>";
        Err(refusal(self.domain, off, &lack, what))
    }
}

/// True when the hostdev's own `<driver>` has `iommufd='no'`.
pub(super) fn is_off(hostdev: &Hostdev) -> bool {
    let driver = hostdev.driver.as_ref();
    driver.and_then(|driver| driver.iommufd) == Some(false)
}

/// Why a host device of the guest cannot use iommufd.
pub(super) fn lacking(input: &PlanInput<'_>, domain: &Domain, hostdev: &Hostdev) -> Option<String> {
    let stack = &input.target.stack;
    let iommufd = domain.platform.iommufd.as_ref();
    if !stack.has(Feature::HostdevIommufd) {
        Some(format!(
            "libvirt {} has no iommufd for host devices, {} has",
            stack.libvirt,
            Feature::HostdevIommufd.first()
        ))
    } else if !input.host.iommufd {
        let hint =
            "'modprobe iommufd' or a kernel built with CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV";
        Some(format!("the host has no /dev/iommu: it needs {hint}"))
    } else if input.target.iommufd == Some(false) {
        Some(
            "libvirt reports that this guest cannot use iommufd ('virsh domcapabilities')"
                .to_owned(),
        )
    } else if is_off(hostdev) {
        let device = hostdev.source;
        Some(format!(
            "the hostdev of '{device}' has <driver iommufd='no'/>"
        ))
    } else if !domain.goes_through_iommufd(hostdev) && iommufd.is_some() {
        Some("the definition has <iommufd enabled='no'/>".to_owned())
    } else {
        None
    }
}

fn enable(domain: &Domain) -> Change {
    let iommufd = Fragment::new("iommufd").with("enabled", "yes").print();
    Change {
        code: Code::IommufdMissing,
        device: None,
        path: "/domain/iommufd".to_owned(),
        reason: "host devices go through iommufd: an accelerated SMMUv3 nests only there"
            .to_owned(),
        edits: vec![domain.heading.insert_after(&iommufd)],
    }
}

/// An accelerated SMMUv3 without iommufd: libvirt accepts it, but QEMU does not start.
fn contradiction(domain: &Domain, hostdev: &Hostdev, lack: &str) -> Refusal {
    refusal(domain, hostdev, lack, "correct that, or remove the <iommu>")
}

fn refusal(domain: &Domain, hostdev: &Hostdev, lack: &str, what: &str) -> Refusal {
    let reason =
        format!("it is behind an <iommu> that has accel='on', which needs iommufd: {lack}");
    let hint = virsh::edit(domain, what);
    Refusal::new(Code::IommufdLeftOut, reason, hint)
        .of(hostdev.source)
        .at("/domain/devices/iommu")
}
