//! A layout as a piece of a definition: whether it is missing, the edits that write it with its record, and those that remove it.
//!
//! It is written before all other pieces, because cells of initiators, distances and expander buses depend on the guest's cells, and
//! removed after them. It has a record and a fingerprint of its own: other guests and free pages are not part of the fingerprint,
//! so that a layout stays while they change.

use kernel_glue::address::PciAddress;
use kernel_glue::host::Host;
use kernel_glue::numa::{NumaNode, RangeList};

use super::{Layout, LayoutInput, layout, node, xml};
use crate::fingerprint::Fingerprint;
use crate::json;
use crate::plan::fragment::Fragment;
use crate::plan::{self, Change, Note, NumaInput, PlanInput};
use crate::recipe::{Recipe, Recipes};
use domain::code::Code;
use domain::edit::Edit;
use domain::hint::Hint;
use domain::refusal::Refusal;
use domain::{Domain, LAYOUT_NAMESPACE, NumaMode, RecordedCell, Written};

/// The layout of a definition against its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is as it must be: the user's own, or a current one that variantd wrote.
    Kept,
    /// There is none, or one for another guest or host.
    Missing,
    /// There is none, and it cannot be computed without the host's facts.
    Unknown,
    /// variantd wrote one, and the options do not ask for it any more.
    Unwanted,
}

/// A layout that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Laid {
    /// The edits of the definition without layout and other pieces.
    pub(crate) edits: Vec<Edit>,
    /// What is missing; its edits are not among those of the plan, which apply to the definition with the layout.
    pub(crate) change: Change,
    /// What the user should know.
    pub(crate) notes: Vec<Note>,
}

/// Whether a definition has the layout that its options, the caller or its recipes ask for.
pub(crate) fn state(input: &PlanInput<'_>, domain: &Domain) -> Result<State, Refusal> {
    let is_asked = is_asked(input, domain)?;
    let Some(record) = &domain.layout else {
        let is_known = input.numa.facts.is_some() || input.numa.wanted.is_some();
        return Ok(match (is_asked, is_known) {
            (false, _) => State::Kept,
            (true, true) => State::Missing,
            (true, false) => State::Unknown,
        });
    };
    let current = || {
        let numa = LayoutInput::of(input);
        numa.is_none_or(|numa| record.digest == digest(&numa, domain) && record.is_intact)
    };
    Ok(match is_asked {
        false => State::Unwanted,
        true if current() => State::Kept,
        true => State::Missing,
    })
}

/// True if the caller, the domain's options or a recipe of its devices ask for a layout. No other function decides it.
///
/// # Errors
/// As [`plan::recipes`].
fn is_asked(input: &PlanInput<'_>, domain: &Domain) -> Result<bool, Refusal> {
    if !may_be_asked(input.recipes, input.numa.wanted, domain) {
        return Ok(false);
    }
    let recipes = plan::recipes(input, domain)?;
    let default = recipes.iter().any(|recipe| by_recipe(recipe));
    Ok(match input.numa.wanted.or(domain.options.numa) {
        _ if recipes.is_empty() => false,
        Some(mode) => mode == NumaMode::Mirror,
        // The recipe's default does not contradict the user.
        None => default && (domain.layout.is_some() || xml::is_free(domain)),
    })
}

/// False if no layout is asked for on any host: neither by the caller or the domain's options, nor by any recipe.
fn may_be_asked(recipes: &Recipes, wanted: Option<NumaMode>, domain: &Domain) -> bool {
    match wanted.or(domain.options.numa) {
        _ if domain.hostdevs.is_empty() => false,
        Some(mode) => mode == NumaMode::Mirror,
        None => recipes.iter().any(by_recipe),
    }
}

/// True if a plan for a domain on this host reads [`plan::NumaFacts`]: it has a layout, or the caller, its options or a recipe of its
/// devices ask for one. A saved plan depends on the facts in the same case.
#[must_use]
pub fn needs_facts(
    host: &Host,
    recipes: &Recipes,
    wanted: Option<NumaMode>,
    domain: &Domain,
) -> bool {
    let newest = PlanInput::newest(host, recipes);
    let numa = NumaInput {
        wanted,
        facts: None,
    };
    let input = PlanInput { numa, ..newest };
    let has_devices = !domain.hostdevs.is_empty();
    // A domain whose device is missing is refused by the plan itself.
    has_devices && (domain.layout.is_some() || is_asked(&input, domain).unwrap_or(true))
}

/// As [`needs_facts`], before a host is read: true if it is true on some host.
#[must_use]
pub fn may_need_facts(recipes: &Recipes, wanted: Option<NumaMode>, domain: &Domain) -> bool {
    let has_devices = !domain.hostdevs.is_empty();
    has_devices && (domain.layout.is_some() || may_be_asked(recipes, wanted, domain))
}

fn by_recipe(recipe: &Recipe) -> bool {
    (recipe.numa).is_some_and(|numa| numa.default == NumaMode::Mirror)
}

/// The layout of a definition that has none of variantd's.
///
/// # Errors
/// As [`layout`] and [`xml::edits`], and [`Code::LayoutUnknown`].
pub(crate) fn written(input: &PlanInput<'_>, domain: &Domain) -> Result<Laid, Refusal> {
    let numa = LayoutInput::of(input).ok_or_else(unknown)?;
    let layout = layout(&numa, domain)?;
    let mut edits = xml::edits(&layout, domain)?;
    edits.push(record(&layout, domain, &digest(&numa, domain)));
    let mut notes = layout.notes.clone();
    // Those of the definition with the layout are the plan's.
    notes.retain(|note| note.code != Code::LocalityWrong);
    Ok(Laid {
        edits,
        change: change(&layout),
        notes,
    })
}

/// Removes a layout: every element that is as it was written, with its parent if that was added or empty before.
pub(crate) fn undo(domain: &Domain) -> Vec<Edit> {
    let Some(record) = &domain.layout else {
        return Vec::new();
    };
    let has = |names: &[String], name: &str| names.iter().any(|one| one == name);
    let mut edits = Vec::new();
    for parent in &record.parents {
        let is_empty = !parent.ours.is_empty() && parent.children == parent.ours.len();
        if is_empty && has(&record.opened, parent.name) {
            edits.push(parent.element.collapse());
        } else if is_empty && parent.is_bare && has(&record.added, parent.name) {
            edits.push(parent.element.remove());
        } else {
            edits.extend(parent.ours.iter().map(|element| element.remove()));
        }
    }
    let alone = domain.metadata.as_ref().filter(|_| domain.metadata_is_ours);
    edits.push(match alone {
        Some(metadata) if has(&record.added, "metadata") => metadata.remove(),
        Some(metadata) if has(&record.opened, "metadata") => metadata.collapse(),
        _ => record.element.remove(),
    });
    edits
}

/// Tells the user that a plan without facts leaves the layout out.
pub(crate) fn left_out() -> Note {
    let text = "the host's CPUs and huge pages are not known here, so the NUMA layout that the domain's options or a recipe ask \
        for is left out";
    Note::new(Code::LayoutLeftOut, text.to_owned())
}

fn unknown() -> Refusal {
    let reason = "the host's CPUs, cores and huge pages are not known here, so its NUMA layout cannot be mirrored";
    let hint = Hint::run("variantctl record-host")
        .then(" on the host and plan with the recorded host, or prepare the domain there");
    Refusal::new(Code::LayoutUnknown, reason, hint)
}

/// What a layout depends on. Sizes of memory and free pages are left out: they change between two starts of a host.
fn digest(input: &LayoutInput<'_>, domain: &Domain) -> String {
    let devices: Vec<(PciAddress, NumaNode)> = node::devices(input, domain).0;
    let nodes = input.host.numa.nodes.iter();
    let nodes: Vec<(NumaNode, &RangeList, &[u8])> = nodes
        .map(|node| (node.id, &node.cpus, node.distances.as_slice()))
        .collect();
    let capacity = input.capacity;
    let guest = (domain.vcpus, domain.tuning.iothreads, devices);
    let host = (nodes, &capacity.online, &capacity.cores);
    Fingerprint::of(&json::text(&(guest, host))).short()
}

fn change(layout: &Layout) -> Change {
    let cell = |cell: &super::LayoutCell| {
        format!(
            "cell {} on node {} (CPUs {})",
            cell.id,
            cell.node,
            cell.cpus()
        )
    };
    let cells: Vec<String> = layout.cells.iter().map(cell).collect();
    Change {
        code: Code::LayoutMissing,
        device: None,
        path: "/domain/cpu/numa".to_owned(),
        reason: format!(
            "the NUMA layout of the host nodes of the guest's devices: {}",
            cells.join(", ")
        ),
        edits: Vec::new(),
    }
}

/// Writes the record into `<metadata>`.
fn record(layout: &Layout, domain: &Domain, digest: &str) -> Edit {
    let metadata = ("metadata", domain.metadata.as_ref());
    let parents = xml::parents(domain).into_iter().chain([metadata]);
    let (mut added, mut opened) = (Vec::new(), Vec::new());
    for (name, element) in parents {
        match element {
            None => added.push(name),
            Some(element) if element.is_self_closed() => opened.push(name),
            Some(_) => {}
        }
    }
    let cells = layout.cells.iter().map(|cell| RecordedCell {
        vcpus: cell.vcpus(),
        memory_kib: cell.memory_kib,
        node: cell.node.into(),
    });
    let distances = layout.cells.iter().map(|cell| cell.distances.clone());
    let written = Written {
        cells: cells.collect(),
        pins: layout
            .cells
            .iter()
            .flat_map(|cell| cell.pins.clone())
            .collect(),
        emulator: layout.emulator.clone(),
        iothreads: layout.iothreads,
        page_kib: layout.page_kib,
        topology: layout.topology.values(),
        distances: distances.filter(|row| !row.is_empty()).collect(),
    };
    let mut element = Fragment::new("variantd:layout")
        .with("xmlns:variantd", LAYOUT_NAMESPACE)
        .with("digest", digest);
    for (name, value) in written.attributes() {
        element = element.with(name, value);
    }
    let element = element
        .with_some("added", added.join(" "))
        .with_some("opened", opened.join(" "));
    match &domain.metadata {
        Some(metadata) => metadata.append(&element.print()),
        None => {
            let metadata = Fragment::new("metadata").child(element);
            domain.heading.insert_after(&metadata.print())
        }
    }
}
