//! What the form of a recipe does not rule out: values out of range, contradictions, the impossible.

use super::schema::{Atomics, Fallback, Initiators, Need, Recipe};

/// Smallest and largest distance between different nodes (10 is local, 255 unreachable: ACPI 6.5, 5.2.17).
const DISTANCES: std::ops::RangeInclusive<u8> = 11..=254;

/// Most initiators that one device can have beside the guest's own cell (MAX_NODES 128 in QEMU).
const CELLS: std::ops::RangeInclusive<usize> = 1..=64;

/// The first thing that is wrong with a recipe: the key, and what it must be.
pub(super) fn fault(recipe: &Recipe) -> Option<String> {
    name(&recipe.name)
        .or_else(|| devices(recipe))
        .or_else(|| guests(recipe))
        .or_else(|| recipe.initiators.as_ref().and_then(initiators))
        .or_else(|| window(recipe))
        .or_else(|| atomics(recipe))
}

fn name(name: &str) -> Option<String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let shaped = (1..=64).contains(&name.len()) && name.bytes().all(allowed);
    (!shaped)
        .then(|| format!("name '{name}' must be 1 to 64 lower-case letters, digits and hyphens"))
}

fn devices(recipe: &Recipe) -> Option<String> {
    if recipe.devices.is_empty() {
        return Some("it names no [[device]]: name at least one".to_owned());
    }
    let mut ids: Vec<_> = recipe.devices.iter().map(|member| member.id).collect();
    ids.sort_unstable();
    let twice = ids.windows(2).find(|pair| pair[0] == pair[1]);
    twice.map(|pair| format!("device '{}' is named twice: remove one", pair[0]))
}

fn guests(recipe: &Recipe) -> Option<String> {
    if recipe.guests.is_empty() {
        return Some("it names no [[guest]]: name at least one arch and machine".to_owned());
    }
    let strange = recipe
        .guests
        .iter()
        .find(|guest| !is_machine(&guest.machine));
    strange.map(|guest| format!("guest machine '{}' must be 'virt' or 'q35'", guest.machine))
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
    let Atomics { need, widths, .. } = &recipe.atomics;
    if let Some(width) = widths.iter().find(|width| !matches!(width, 32 | 64 | 128)) {
        return Some(format!(
            "atomics.widths names {width}, there are 32, 64 and 128"
        ));
    }
    let empty = *need != Need::Ignore && widths.is_empty();
    empty.then(|| "atomics.widths is empty: name the widths that are needed".to_owned())
}
