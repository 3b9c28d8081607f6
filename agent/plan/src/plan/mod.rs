//! The plan: what a domain needs for its devices, as edits of its XML. Pure.
//!
//! No I/O, no clock, no environment: the same host, domain, recipes and versions give the same plan. A plan without changes
//! means that the definition is complete.

mod advice;
pub(crate) mod alias;
mod aperture;
pub(crate) mod association;
mod atomics;
mod bar;
mod beside;
pub mod binding;
pub mod bus_number;
pub(crate) mod cells;
pub mod command_line;
mod controller;
mod digest;
mod distance;
pub(crate) mod driver;
pub(crate) mod egm;
pub(crate) mod expander;
pub(crate) mod fragment;
pub mod function;
mod given;
mod layout;
pub(crate) mod link;
pub mod locality;
mod locked;
mod mapping;
pub(crate) mod mark;
pub(crate) mod numa;
pub(crate) mod option;
pub(crate) mod pair;
mod part;
pub(crate) mod placement;
mod qemu;
mod rule;
pub(crate) mod smmu;
mod switch;
pub(crate) mod table;
mod target;
mod unchecked;
mod virsh;
pub(crate) mod width;
pub(crate) mod window;

use std::collections::{BTreeMap, BTreeSet};

use kernel_glue::address::PciAddress;
use kernel_glue::capacity::Capacity;
use kernel_glue::device::Device;
use kernel_glue::driver::DriverName;
use kernel_glue::host::Host;
use kernel_glue::numa::{NumaNode, RangeList};

use crate::from_libvirt::{FromLibvirt, NOTHING};
use crate::other_guest::Other;
use crate::recipe::{Prepare, Recipe, Recipes};
use crate::target::{Target, Versions};
use domain::code::{Code, Severity};
use domain::edit::Edit;
use domain::hint::Hint;
use domain::refusal::Refusal;
use domain::{Added, Domain, Hostdev, NumaMode};
use part::Part;
use placement::Placed;

/// What a plan is made against.
#[derive(Clone, Copy, Debug)]
pub struct PlanInput<'a> {
    /// The host that will run the domain.
    pub host: &'a Host,
    /// The recipes in force.
    pub recipes: &'a Recipes,
    /// What the definition is for.
    pub target: Target,
    /// Replace a guest address that contradicts the recipe, instead of refusing.
    pub replace: bool,
    /// Sets the domain's option `egm`; `None` leaves it as it is.
    pub egm: Option<bool>,
    /// The NUMA layout that the caller asks for, and the facts for one.
    pub numa: NumaInput<'a>,
    /// A user asked: recipes with `prepare = "on-request"` apply as well.
    pub asked: bool,
    /// libvirt formatted the XML, so libvirt may have chosen a guest address. Such an address is moved to an expander bus
    /// when the device is planned for the first time. In user-written XML the address is the user's choice and is kept.
    pub formatted: bool,
    /// libvirt's networks and defaults.
    pub libvirt: &'a FromLibvirt,
}

impl<'a> PlanInput<'a> {
    /// The input for user-written XML, for the newest tested versions.
    #[must_use]
    pub fn newest(host: &'a Host, recipes: &'a Recipes) -> Self {
        Self {
            host,
            recipes,
            target: Versions::NEWEST_TESTED.into(),
            replace: false,
            egm: None,
            numa: NumaInput::default(),
            asked: true,
            formatted: false,
            libvirt: &NOTHING,
        }
    }
}

/// What a NUMA layout is computed from, besides the host and the domain.
#[derive(Clone, Copy, Debug, Default)]
pub struct NumaInput<'a> {
    /// Sets the domain's option `numa`; `None` leaves it as it is.
    pub wanted: Option<NumaMode>,
    /// CPUs and huge pages of the host, and what other guests hold of them; `None` if they are not known. A layout that is in
    /// the definition is then kept as it is.
    pub facts: Option<NumaFacts<'a>>,
}

/// What guests can have of a host.
#[derive(Clone, Copy, Debug)]
pub struct NumaFacts<'a> {
    /// CPUs and huge pages.
    pub capacity: &'a Capacity,
    /// All other guests, defined and running.
    pub others: &'a [Other],
}

/// What a domain needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The domain's name.
    pub domain: String,
    /// The devices that have a recipe, in address order.
    pub devices: Vec<Planned>,
    /// What is missing, in the order of the XML.
    pub changes: Vec<Change>,
    /// Codes of changes that a start needs only because a recipe has `need = "require"`.
    pub required: BTreeSet<Code>,
    /// What the user should know.
    pub notes: Vec<Note>,
    /// Why the guest must not start, where no change of the definition can fix it.
    pub unmet: Option<Refusal>,
    /// Pieces added to the domain, for its mark.
    pub added: Added,
    /// Pieces added to each device, for its mark.
    pub added_for: BTreeMap<PciAddress, Added>,
    /// The previous XML of guest addresses that are replaced, for the mark.
    pub replaced: BTreeMap<PciAddress, String>,
    /// The previous XML of aliases that are replaced, for the mark.
    pub aliases: BTreeMap<PciAddress, String>,
    /// Distances of an initiator in the definition that differ from the host's. They are kept.
    pub differing: Vec<Differing>,
    /// Fingerprint of the plan's inputs: equal for the same recipes, host and versions. Empty without devices.
    pub digest: String,
}

/// A distance of a definition that differs from the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Differing {
    /// The cell that has the distance.
    pub from: u32,
    /// The other cell.
    pub to: u32,
    /// The value in the definition.
    pub have: u8,
    /// The value that the plan would write: the host's, for the nodes of the two cells.
    pub want: u8,
}

/// A device of the domain that has a recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The host device.
    pub address: PciAddress,
    /// The recipe's name.
    pub recipe: String,
    /// The vendor's name of the device.
    pub label: String,
    /// The driver to bind, as the recipe spells it.
    pub driver: DriverName,
    /// Guest cells that are its generic initiators.
    pub cells: RangeList,
    /// The host nodes of these cells, in cell order.
    pub host_nodes: Vec<NumaNode>,
}

/// One thing that is missing, and the edits that add it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The stable code.
    pub code: Code,
    /// The device it is for; `None` when for the domain.
    pub device: Option<PciAddress>,
    /// The element, as an XPath.
    pub path: String,
    /// Why it is needed.
    pub reason: String,
    /// The edits.
    pub edits: Vec<Edit>,
}

/// A note: information without a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The stable code.
    pub code: Code,
    /// The device it is about, if any.
    pub device: Option<PciAddress>,
    /// The sentence.
    pub text: String,
}

impl Note {
    /// A note about no device.
    #[must_use]
    pub fn new(code: Code, text: String) -> Self {
        Self {
            code,
            device: None,
            text,
        }
    }
}

/// A hostdev of the domain with its host device and recipe.
#[derive(Clone, Copy, Debug)]
struct Assigned<'a> {
    hostdev: &'a Hostdev,
    device: &'a Device,
    recipe: &'a Recipe,
}

impl Plan {
    /// The first change that a start needs. Other changes are preferred only, or are for the mark.
    #[must_use]
    pub fn lacking(&self) -> Option<&Change> {
        let optional = [
            Code::MarkMissing,
            Code::DriverMissing,
            Code::SmmuMissing,
            Code::IommufdMissing,
            Code::LinkMissing,
            Code::EgmMissing,
            Code::GuestNoExpander,
        ];
        let needed = |change: &&Change| {
            !optional.contains(&change.code) || self.required.contains(&change.code)
        };
        self.changes.iter().find(needed)
    }

    /// All edits of all changes.
    pub fn edits(&self) -> impl Iterator<Item = &Edit> {
        self.changes.iter().flat_map(|change| &change.edits)
    }
}

/// The fingerprint of a plan's inputs, computed without the plan.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The plan's digest.
    pub(crate) digest: String,
    /// How many devices it covers.
    devices: usize,
}

/// The origin of the plan that [`plan`] would make.
///
/// # Errors
/// A refusal where the host does not show what a recipe needs.
pub(crate) fn origin(input: &PlanInput<'_>, domain: &Domain) -> Result<Origin, Refusal> {
    let assigned = assigned(input, domain)?;
    let nodes = assigned.iter().map(|one| host_nodes(input, one));
    let nodes: Vec<Vec<NumaNode>> = nodes.collect::<Result<_, _>>()?;
    let nodes: Vec<&[NumaNode]> = nodes.iter().map(Vec::as_slice).collect();
    let digest = match assigned.is_empty() {
        true => String::new(),
        false => digest::digest(input, &assigned, &nodes),
    };
    let devices = assigned.len();
    Ok(Origin { digest, devices })
}

/// Plans what `domain` needs.
///
/// # Errors
/// A refusal where the domain contradicts a recipe, the host does not show what a recipe needs, or the versions cannot
/// express it.
pub fn plan(input: &PlanInput<'_>, domain: &Domain) -> Result<Plan, Refusal> {
    plan_from(input, domain, None)
}

/// Plans for a comparison with other plans: without a mark and its fingerprint.
///
/// # Errors
/// As [`plan`].
pub(crate) fn plan_unmarked(input: &PlanInput<'_>, domain: &Domain) -> Result<Plan, Refusal> {
    plan_with(input, domain, Marking::Left)
}

/// Whether a plan has a mark.
#[derive(Clone, Copy)]
enum Marking<'a> {
    Left,
    /// With its fingerprint, which may be known.
    Marked(Option<&'a Origin>),
}

/// Plans with a known origin. The origin may be of the same domain with a mark, which can make more devices count: it is used
/// only if the number of devices agrees.
pub(crate) fn plan_from(
    input: &PlanInput<'_>,
    domain: &Domain,
    origin: Option<&Origin>,
) -> Result<Plan, Refusal> {
    plan_with(input, domain, Marking::Marked(origin))
}

fn plan_with(
    input: &PlanInput<'_>,
    domain: &Domain,
    marking: Marking<'_>,
) -> Result<Plan, Refusal> {
    let domain = &*target::settled(input, domain)?;
    let assigned = assigned(input, domain)?;
    let mut part = function::plan(input, domain, &assigned);
    part.add(unchecked::plan(input, domain, !assigned.is_empty()));
    if assigned.is_empty() {
        return Ok(part.into_plan(domain.name.clone(), String::new()));
    }
    part.add(target::check(input, domain, &assigned)?);
    rule::check(input, domain, &assigned)?;
    let given = given::Initiators::of(domain, &assigned)?;
    let (pieces, placed) = pieces(input, domain, &assigned, &given)?;
    part.add(pieces);
    part.add(given.notes(domain));
    part.add(atomics::plan(input, domain, &assigned, &placed));
    part.add(advice::plan(input, domain, &assigned));
    part.add(mapping::plan(input, domain, &assigned));
    part.add(Part::of_notes(locality::notes(&input.into(), domain)));
    let digest = match marking {
        Marking::Left => String::new(),
        Marking::Marked(origin) => {
            let digest = digest_of(input, &assigned, &part.devices, origin);
            mark(domain, &given, &mut part, &digest);
            digest
        }
    };
    part.changes
        .sort_by_key(|change| change.edits.first().map(|edit| edit.span.start));
    let plan = part.into_plan(domain.name.clone(), digest);
    debug_assert!(
        plan.notes
            .iter()
            .all(|note| note.code.severity() <= Severity::Warning)
    );
    debug_assert!(
        plan.changes
            .iter()
            .all(|change| is_addition(input, change.code))
    );
    Ok(plan)
}

/// The digest of a plan of these devices.
fn digest_of(
    input: &PlanInput<'_>,
    assigned: &[Assigned<'_>],
    devices: &[Planned],
    origin: Option<&Origin>,
) -> String {
    let known = origin.filter(|origin| origin.devices == assigned.len());
    let digest = known.map_or_else(
        || planned_digest(input, assigned, devices),
        |origin| origin.digest.clone(),
    );
    debug_assert_eq!(digest, planned_digest(input, assigned, devices));
    digest
}

/// Adds the mark, unless the user gave everything and nothing is left to do.
fn mark(domain: &Domain, given: &given::Initiators, part: &mut Part, digest: &str) {
    let all_given = (part.devices.iter()).all(|one| given.nodes(one.address).is_some());
    let left_alone = all_given && domain.mark.is_none() && part.changes.is_empty();
    if !left_alone {
        let mark = mark::plan(domain, part, digest);
        part.add(mark);
    }
}

fn planned_digest(input: &PlanInput<'_>, assigned: &[Assigned<'_>], devices: &[Planned]) -> String {
    let devices = devices.iter();
    let nodes: Vec<&[NumaNode]> = devices.map(|one| one.host_nodes.as_slice()).collect();
    digest::digest(input, assigned, &nodes)
}

/// True for a code of something that was missing; with `replace` also for an address that breaks a rule.
fn is_addition(input: &PlanInput<'_>, code: Code) -> bool {
    code.severity() == Severity::Missing || input.replace || code == Code::GuestNoExpander
}

/// What the devices need, piece by piece, and where they are placed.
fn pieces(
    input: &PlanInput<'_>,
    domain: &Domain,
    all: &[Assigned<'_>],
    given: &given::Initiators,
) -> Result<(Part, Placed), Refusal> {
    let is_given = |one: &&Assigned<'_>| given.nodes(one.hostdev.source).is_some();
    let (own, assigned): (Vec<&Assigned<'_>>, Vec<&Assigned<'_>>) = all.iter().partition(is_given);
    let assigned: &[Assigned<'_>] = &assigned.into_iter().copied().collect::<Vec<_>>();
    let mut part = Part::default();
    for one in own {
        placement::check(domain, one)?;
        let nodes = given.nodes(one.hostdev.source).cloned().unwrap_or_default();
        let host_nodes = host_nodes(input, one).unwrap_or_default();
        part.devices.push(numa::planned(one, nodes, host_nodes));
    }
    let unnamed = driver::unnamed(input, domain, assigned)?;
    let (placement, placed) = placement::plan(input, domain, assigned)?;
    let (egm, has_egm) = egm::plan(input, domain, assigned)?;
    let memory = smmu::Memory::of(domain, has_egm);
    let (smmu, through) = smmu::plan(input, domain, assigned, &placed.behind, memory)?;
    part.add(placement);
    part.add(smmu);
    part.add(driver::plan(assigned, &unnamed, &through));
    part.add(link::plan(input, domain, assigned, &placed));
    part.add(window::plan(input, domain, all, &placed)?);
    part.add(table::plan(input, domain, assigned));
    part.add(numa::plan(input, domain, assigned)?);
    part.add(egm);
    part.devices.sort_by_key(|device| device.address);
    // The arguments of all pieces are one element, in the order of the pieces.
    let arguments = std::mem::take(&mut part.arguments);
    part.add(arguments.write(domain)?);
    Ok((part, placed))
}

/// The changes that move devices of the domain to root ports of their own, even where their recipes mirror switches.
///
/// # Errors
/// A refusal when the host has no such device, or the guest has no bus number for a port.
pub fn placed(
    input: &PlanInput<'_>,
    domain: &Domain,
    devices: &[PciAddress],
) -> Result<Vec<Change>, Refusal> {
    atomics::placed(input, domain, devices)
}

/// Checks the EGM memory of a domain whose devices are bound. While they were not, the kernel showed no region, and a plan
/// could only note that sizes and paths were not compared.
///
/// # Errors
/// A refusal with a code VD-EGM-*; it is [`Code::EgmLeftOut`] while the kernel does not show a region.
pub fn check_bound_egm(input: &PlanInput<'_>, domain: &Domain) -> Result<(), Refusal> {
    if domain.platform.egm.is_empty() {
        return Ok(());
    }
    let domain = &*target::settled(input, domain)?;
    let mut assigned = assigned(input, domain)?;
    let given = given::Initiators::of(domain, &assigned)?;
    assigned.retain(|one| given.nodes(one.hostdev.source).is_none());
    egm::check_bound(input, domain, &assigned)
}

/// The host nodes that are generic initiators of a device with a recipe, in cell order.
///
/// # Errors
/// A refusal when the host does not show which nodes they are.
pub fn initiators(input: &PlanInput<'_>, device: &Device) -> Result<Vec<NumaNode>, Refusal> {
    let recipe = input.recipes.for_device(device);
    let rules = recipe.and_then(|recipe| recipe.initiators);
    rules.map_or(Ok(Vec::new()), |rules| {
        association::nodes(input, device, rules.cells)
    })
}

fn host_nodes(input: &PlanInput<'_>, one: &Assigned<'_>) -> Result<Vec<NumaNode>, Refusal> {
    one.recipe.initiators.map_or(Ok(Vec::new()), |rules| {
        association::nodes(input, one.device, rules.cells)
    })
}

/// The hostdevs that have a recipe, sorted by address. Empty for a guest of Xen, LXC or another hypervisor.
fn assigned<'a>(input: &PlanInput<'a>, domain: &'a Domain) -> Result<Vec<Assigned<'a>>, Refusal> {
    let mut assigned: Vec<Assigned<'a>> = Vec::new();
    if !domain.platform.is_qemu() {
        return Ok(assigned);
    }
    let mut hostdevs: Vec<&Hostdev> = domain.hostdevs.iter().collect();
    hostdevs.sort_by_key(|hostdev| hostdev.source);
    for hostdev in hostdevs {
        let device = host_device(input.host, hostdev.source)?;
        let Some(recipe) = input.recipes.for_device(device) else {
            continue;
        };
        if !(input.asked || recipe.prepare == Prepare::OnDefine || domain.is_marked(hostdev.source))
        {
            continue;
        }
        assigned.push(Assigned {
            hostdev,
            device,
            recipe,
        });
    }
    Ok(assigned)
}

/// The recipes of a domain's devices.
///
/// # Errors
/// The host does not have one of its devices.
pub(crate) fn recipes<'a>(
    input: &PlanInput<'a>,
    domain: &'a Domain,
) -> Result<Vec<&'a Recipe>, Refusal> {
    let assigned = assigned(input, domain)?;
    Ok(assigned.into_iter().map(|one| one.recipe).collect())
}

pub(crate) fn host_device(host: &Host, address: PciAddress) -> Result<&Device, Refusal> {
    host.devices.get(&address).ok_or_else(|| {
        let reason = "the definition assigns it, but this host has no such PCI device";
        Refusal::new(
            Code::DeviceMissing,
            reason,
            Hint::run("variantctl list").then(" to see the devices of this host"),
        )
        .of(address)
        .at("/domain/devices/hostdev/source/address")
    })
}

#[cfg(test)]
mod atomics_test;
#[cfg(test)]
mod controller_test;
#[cfg(test)]
mod egm_test;
#[cfg(test)]
mod link_test;
#[cfg(test)]
mod pair_test;
#[cfg(test)]
mod placement_test;
#[cfg(test)]
mod rule_test;
#[cfg(test)]
mod smmu_test;
#[cfg(test)]
mod switch_test;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod window_test;
