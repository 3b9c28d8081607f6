//! What the form of a recipe does not rule out: values out of range, contradictions, the impossible.

use super::schema::{Atomics, BIND, Fallback, Initiators, Member, Need, Placement, Recipe, Smmu};

/// Smallest and largest distance between different nodes (10 is local, 255 unreachable: ACPI 6.5, 5.2.17).
const DISTANCES: std::ops::RangeInclusive<u8> = 11..=254;

/// Most initiators that one device can have beside the guest's own cell (MAX_NODES 128 in QEMU).
const CELLS: std::ops::RangeInclusive<usize> = 1..=64;

/// The first thing that is wrong with a recipe: the key, and what it must be.
pub(super) fn fault(recipe: &Recipe) -> Option<String> {
    name(&recipe.name)
        .or_else(|| bind_seconds(recipe.bind_seconds))
        .or_else(|| devices(recipe))
        .or_else(|| guests(recipe))
        .or_else(|| recipe.initiators.as_ref().and_then(initiators))
        .or_else(|| placement(recipe))
        .or_else(|| expander(recipe))
        .or_else(|| recipe.smmu.as_ref().and_then(smmu))
        .or_else(|| window(recipe))
        .or_else(|| acpi_tables(recipe))
        .or_else(|| atomics(recipe))
}

fn name(name: &str) -> Option<String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let shaped = (1..=64).contains(&name.len()) && name.bytes().all(allowed);
    (!shaped)
        .then(|| format!("name '{name}' must be 1 to 64 lower-case letters, digits and hyphens"))
}

fn bind_seconds(seconds: u64) -> Option<String> {
    let (least, most) = (BIND.start(), BIND.end());
    (!BIND.contains(&seconds))
        .then(|| format!("bind_seconds is {seconds}, it must be {least} to {most}"))
}

fn devices(recipe: &Recipe) -> Option<String> {
    if recipe.devices.is_empty() {
        return Some("it names no [[device]]: name at least one".to_owned());
    }
    let mut members = recipe.devices.iter().enumerate();
    let is_again = |(place, member): &(usize, &Member)| {
        let mut before = recipe.devices[..*place].iter();
        before.any(|other| other.id == member.id && other.functions.overlap(member.functions))
    };
    let twice = members.find(is_again);
    twice
        .map(|(_, member)| format!("device '{}' is named twice: remove one", member.id))
        .or_else(|| recipe.devices.iter().find_map(bars))
}

/// BARs are powers of two (PCI Local Bus 3.0, 6.2.5.1).
fn bars(member: &Member) -> Option<String> {
    let odd = member.bars_gib.iter().find(|gib| !gib.is_power_of_two());
    if let Some(gib) = odd {
        let id = member.id;
        return Some(format!(
            "device '{id}' has {gib} in bars_gib, it must be a power of two"
        ));
    }
    let sum = member
        .bars_gib
        .iter()
        .fold(0_u64, |a, b| a.saturating_add(*b));
    (sum > member.window_gib).then(|| {
        format!(
            "device '{}' has BARs of {sum} GiB, its window_gib must be at least that",
            member.id
        )
    })
}

fn guests(recipe: &Recipe) -> Option<String> {
    if recipe.guests.is_empty() {
        return Some("it names no [[guest]]: name at least one arch and machine".to_owned());
    }
    let strange = recipe
        .guests
        .iter()
        .find(|guest| !is_machine(&guest.machine));
    let width = |bits: &u32| !(36..=52).contains(bits);
    let wide = recipe.guests.iter().filter_map(|guest| guest.address_bits);
    strange
        .map(|guest| format!("guest machine '{}' must be 'virt' or 'q35'", guest.machine))
        .or_else(|| {
            let bits = wide.into_iter().find(width)?;
            Some(format!("guest address_bits is {bits}, it must be 36 to 52"))
        })
}

fn placement(recipe: &Recipe) -> Option<String> {
    let Placement { switch, link, .. } = recipe.placement;
    let fault = if !recipe.own_root_port() && (link || switch) {
        "placement.link and placement.switch need placement.own_root_port, at which they are"
    } else if switch && link {
        "placement.switch excludes placement.link: QEMU's switch ports have no link of their own"
    } else if switch && recipe.expander.is_some() {
        "placement.switch goes on the guest's own root bus: it excludes [expander]"
    } else if switch && recipe.atomics.need == Need::Require {
        "placement.switch contradicts atomics.need = \"require\": QEMU's switches route no AtomicOps"
    } else {
        return None;
    };
    Some(fault.to_owned())
}

fn expander(recipe: &Recipe) -> Option<String> {
    if recipe.smmu.is_some() && recipe.expander.is_none() {
        return Some("[smmu] needs an [expander], in front of which it is put".to_owned());
    }
    let expander = recipe.expander.as_ref()?;
    if !recipe.placement.own_root_port {
        return Some("[expander] needs placement.own_root_port, which goes on it".to_owned());
    }
    let machine = &expander.machine;
    if recipe.smmu.is_some() && machine != "virt" {
        return Some(format!(
            "[smmu] is for machine 'virt', and expander.machine is '{machine}'"
        ));
    }
    (!is_machine(machine)).then(|| format!("expander.machine '{machine}' must be 'virt' or 'q35'"))
}

/// The ranges of QEMU's `arm-smmuv3` (hw/arm/smmuv3.c, QEMU 11.1).
fn smmu(section: &Smmu) -> Option<String> {
    if section.ssidsize > 20 {
        return Some(format!(
            "smmu.ssidsize is {}, it must be 0 to 20",
            section.ssidsize
        ));
    }
    (!matches!(section.oas, 44 | 48))
        .then(|| format!("smmu.oas is {}, it must be 44 or 48", section.oas))
}

fn acpi_tables(recipe: &Recipe) -> Option<String> {
    let plain = |path: &str| path.starts_with('/') && !path.contains([' ', '\t', '\n', ',']);
    let bad = recipe.acpi_tables.iter().find(|t| !plain(&t.path));
    if let Some(table) = bad {
        return Some(format!(
            "acpi_table.path '{}' must be an absolute path without blanks and commas",
            table.path
        ));
    }
    let virt = recipe.guests.iter().any(|guest| guest.machine == "virt");
    (virt && !recipe.acpi_tables.is_empty()).then(|| {
        "[[acpi_table]] cannot be given to a guest with machine 'virt': QEMU has no -acpitable there"
            .to_owned()
    })
}

fn is_machine(family: &str) -> bool {
    matches!(family, "virt" | "q35")
}

fn initiators(section: &Initiators) -> Option<String> {
    if !CELLS.contains(&section.cells) {
        return Some(format!(
            "initiators.cells is {}, it must be 1 to 64",
            section.cells
        ));
    }
    let fallback = section.fallback.map(
        |Fallback {
             same_device,
             other_device,
             cpu,
         }| {
            [
                ("fallback.same_device", same_device),
                ("fallback.other_device", other_device),
                ("fallback.cpu", cpu),
            ]
        },
    );
    let named = [
        ("raise_ten_to", Some(section.raise_ten_to)),
        ("cpu_distance", section.cpu_distance),
    ];
    let named = named
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)));
    let wrong = named
        .chain(fallback.into_iter().flatten())
        .find(|(_, value)| !DISTANCES.contains(value));
    wrong.map(|(key, value)| format!("initiators.{key} is {value}, it must be 11 to 254: 10 is for a node itself, 255 is unreachable"))
}

fn window(recipe: &Recipe) -> Option<String> {
    let window = recipe.window.as_ref()?;
    if !is_machine(&window.machine) {
        return Some(format!(
            "window.machine '{}' must be 'virt' or 'q35'",
            window.machine
        ));
    }
    let power = window.minimum_gib.is_power_of_two() && window.minimum_gib <= 16 << 10;
    (!power).then(|| {
        format!(
            "window.minimum_gib is {}, it must be a power of two up to 16384",
            window.minimum_gib
        )
    })
}

fn atomics(recipe: &Recipe) -> Option<String> {
    let Atomics {
        need,
        widths,
        otherwise,
        ..
    } = &recipe.atomics;
    if otherwise
        .iter()
        .any(|other| other.ids.is_empty() || other.means.trim().is_empty())
    {
        return Some("atomics.otherwise must name ids and means".to_owned());
    }
    if let Some(width) = widths.iter().find(|width| !matches!(width, 32 | 64 | 128)) {
        return Some(format!(
            "atomics.widths names {width}, there are 32, 64 and 128"
        ));
    }
    let empty = *need != Need::Ignore && widths.is_empty();
    empty.then(|| "atomics.widths is empty: name the widths that are needed".to_owned())
}
