//! Checks of a recipe beyond its schema: ranges, contradictions, unsupported combinations.

use super::schema::{
    AcpiTable, Atomics, BIND, Fallback, Guest, Initiators, Member, Need, Placement, Recipe, Smmu,
};
use crate::toml_text::Step::{self, Item, Key};

/// Smallest and largest distance between different nodes (10 is local, 255 unreachable: ACPI 6.5, 5.2.17).
const DISTANCES: std::ops::RangeInclusive<u8> = 11..=254;

/// Most initiators that one device can have beside the guest's own cell (MAX_NODES 128 in QEMU).
const CELLS: std::ops::RangeInclusive<usize> = 1..=64;

/// A fault of a recipe, with its place.
pub(super) struct Fault {
    /// The key; if the file does not have it, the table that lacks it.
    pub(super) place: Vec<Step>,
    /// The key, and what it must be.
    pub(super) reason: String,
}

fn at(place: impl Into<Vec<Step>>, reason: impl Into<String>) -> Fault {
    Fault {
        place: place.into(),
        reason: reason.into(),
    }
}

/// The first fault of a recipe.
pub(super) fn fault(recipe: &Recipe) -> Option<Fault> {
    name(&recipe.name)
        .or_else(|| bind_seconds(recipe.bind_seconds, &[Key("bind_seconds")]))
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

fn name(name: &str) -> Option<Fault> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let shaped = (1..=64).contains(&name.len()) && name.bytes().all(allowed);
    let reason = || format!("name '{name}' must be 1 to 64 lower-case letters, digits and hyphens");
    (!shaped).then(|| at([Key("name")], reason()))
}

fn bind_seconds(seconds: u64, place: &[Step]) -> Option<Fault> {
    let (least, most) = (BIND.start(), BIND.end());
    let reason = || format!("bind_seconds is {seconds}, it must be {least} to {most}");
    (!BIND.contains(&seconds)).then(|| at(place, reason()))
}

fn devices(recipe: &Recipe) -> Option<Fault> {
    if recipe.devices.is_empty() {
        return Some(at(
            [Key("device")],
            "it has no [[device]]: at least one is needed",
        ));
    }
    let mut members = recipe.devices.iter().enumerate();
    let is_again = |(place, member): &(usize, &Member)| {
        let mut before = recipe.devices[..*place].iter();
        before.any(|other| other.id == member.id && other.functions.overlap(member.functions))
    };
    let twice = members.find(is_again);
    let printed = |(place, member): (usize, &Member)| {
        let reason = format!("device '{}' is named twice: remove one", member.id);
        at([Key("device"), Item(place), Key("id")], reason)
    };
    let mut all = recipe.devices.iter().enumerate();
    twice.map(printed).or_else(|| {
        all.find_map(|(place, member)| bars(place, member).or_else(|| slow(place, member)))
    })
}

fn slow(place: usize, member: &Member) -> Option<Fault> {
    let place = [Key("device"), Item(place), Key("bind_seconds")];
    bind_seconds(member.bind_seconds?, &place)
}

/// BARs are powers of two (PCI Local Bus 3.0, 6.2.5.1).
fn bars(place: usize, member: &Member) -> Option<Fault> {
    let key = |key| [Key("device"), Item(place), Key(key)];
    let odd = member.bars_gib.iter().find(|gib| !gib.is_power_of_two());
    if let Some(gib) = odd {
        let id = member.id;
        let reason = format!("device '{id}' has {gib} in bars_gib, it must be a power of two");
        return Some(at(key("bars_gib"), reason));
    }
    let sum = member
        .bars_gib
        .iter()
        .fold(0_u64, |a, b| a.saturating_add(*b));
    (sum > member.window_gib).then(|| {
        let id = member.id;
        let reason =
            format!("device '{id}' has BARs of {sum} GiB, its window_gib must be at least that");
        at(key("window_gib"), reason)
    })
}

fn guests(recipe: &Recipe) -> Option<Fault> {
    if recipe.guests.is_empty() {
        let reason = "it has no [[guest]]: at least one arch and machine are needed";
        return Some(at([Key("guest")], reason));
    }
    let mut guests = recipe.guests.iter().enumerate();
    guests.find_map(|(place, one)| guest(place, one))
}

fn guest(place: usize, guest: &Guest) -> Option<Fault> {
    let key = |key| [Key("guest"), Item(place), Key(key)];
    if !is_machine(&guest.machine) {
        let reason = format!("guest machine '{}' must be 'virt' or 'q35'", guest.machine);
        return Some(at(key("machine"), reason));
    }
    let bits = guest
        .address_bits
        .filter(|bits| !(36..=52).contains(bits))?;
    let reason = format!("guest address_bits is {bits}, it must be 36 to 52");
    Some(at(key("address_bits"), reason))
}

fn placement(recipe: &Recipe) -> Option<Fault> {
    let Placement { switch, link, .. } = recipe.placement;
    let (key, reason) = if !recipe.own_root_port() && (link || switch) {
        (
            if link { "link" } else { "switch" },
            "placement.link and placement.switch need placement.own_root_port",
        )
    } else if switch && link {
        (
            "switch",
            "placement.switch excludes placement.link: QEMU's switch ports have no configurable link",
        )
    } else if switch && recipe.expander.is_some() {
        (
            "switch",
            "placement.switch excludes [expander]: the switch is on the guest's own root bus",
        )
    } else if switch && recipe.atomics.need == Need::Require {
        (
            "switch",
            "placement.switch contradicts atomics.need = \"require\": QEMU's switches route no AtomicOps",
        )
    } else {
        return None;
    };
    Some(at([Key("placement"), Key(key)], reason))
}

fn expander(recipe: &Recipe) -> Option<Fault> {
    if recipe.smmu.is_some() && recipe.expander.is_none() {
        let reason = "[smmu] needs [expander]: the SMMU is in front of the expander bus";
        return Some(at([Key("smmu")], reason));
    }
    let expander = recipe.expander.as_ref()?;
    if !recipe.placement.own_root_port {
        let reason =
            "[expander] needs placement.own_root_port: the root port is on the expander bus";
        return Some(at([Key("expander")], reason));
    }
    let machine = &expander.machine;
    let place = [Key("expander"), Key("machine")];
    if recipe.smmu.is_some() && machine != "virt" {
        let reason = format!("[smmu] is for machine 'virt', and expander.machine is '{machine}'");
        return Some(at(place, reason));
    }
    let reason = || format!("expander.machine '{machine}' must be 'virt' or 'q35'");
    (!is_machine(machine)).then(|| at(place, reason()))
}

/// The ranges of QEMU's `arm-smmuv3` (hw/arm/smmuv3.c, QEMU 11.1).
fn smmu(section: &Smmu) -> Option<Fault> {
    let Smmu { ssidsize, oas, .. } = section;
    let key = |key| [Key("smmu"), Key(key)];
    if *ssidsize > 20 {
        let reason = format!("smmu.ssidsize is {ssidsize}, it must be 0 to 20");
        return Some(at(key("ssidsize"), reason));
    }
    let reason = || format!("smmu.oas is {oas}, it must be 44 or 48");
    (!matches!(oas, 44 | 48)).then(|| at(key("oas"), reason()))
}

fn acpi_tables(recipe: &Recipe) -> Option<Fault> {
    let plain = |path: &str| path.starts_with('/') && !path.contains([' ', '\t', '\n', ',']);
    let mut tables = recipe.acpi_tables.iter().enumerate();
    let bad = |(_, table): &(usize, &AcpiTable)| !plain(&table.path);
    if let Some((place, table)) = tables.find(bad) {
        let reason = format!(
            "acpi_table.path '{}' must be an absolute path without blanks and commas",
            table.path
        );
        return Some(at([Key("acpi_table"), Item(place), Key("path")], reason));
    }
    let virt = recipe.guests.iter().any(|guest| guest.machine == "virt");
    let reason = "[[acpi_table]] excludes machine 'virt': QEMU has no -acpitable there";
    (virt && !recipe.acpi_tables.is_empty()).then(|| at([Key("acpi_table"), Item(0)], reason))
}

fn is_machine(family: &str) -> bool {
    matches!(family, "virt" | "q35")
}

fn initiators(section: &Initiators) -> Option<Fault> {
    if !CELLS.contains(&section.cells) {
        let reason = format!("initiators.cells is {}, it must be 1 to 64", section.cells);
        return Some(at([Key("initiators"), Key("cells")], reason));
    }
    let named = [
        ("raise_ten_to", Some(section.raise_ten_to)),
        ("lower_unreachable_to", Some(section.lower_unreachable_to)),
        ("cpu_distance", section.cpu_distance),
    ];
    let mut named = named
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)));
    let wrong = |(_, value): &(&str, u8)| !DISTANCES.contains(value);
    if let Some((key, value)) = named.find(wrong) {
        let place = [Key("initiators"), Key(key)];
        return Some(at(place, distance(key, value)));
    }
    let Fallback {
        same_device,
        other_device,
        cpu,
    } = section.fallback?;
    let fallback = [
        ("same_device", same_device),
        ("other_device", other_device),
        ("cpu", cpu),
    ];
    let (key, value) = fallback.into_iter().find(wrong)?;
    let place = [Key("initiators"), Key("fallback"), Key(key)];
    Some(at(place, distance(&format!("fallback.{key}"), value)))
}

fn distance(key: &str, value: u8) -> String {
    format!(
        "initiators.{key} is {value}, it must be 11 to 254: 10 is for a node itself, 255 is unreachable"
    )
}

fn window(recipe: &Recipe) -> Option<Fault> {
    let window = recipe.window.as_ref()?;
    let key = |key| [Key("window"), Key(key)];
    if !is_machine(&window.machine) {
        let reason = format!(
            "window.machine '{}' must be 'virt' or 'q35'",
            window.machine
        );
        return Some(at(key("machine"), reason));
    }
    let least = window.minimum_gib;
    let reason = || format!("window.minimum_gib is {least}, it must be a power of two up to 16384");
    (!least.is_power_of_two() || least > 16 << 10).then(|| at(key("minimum_gib"), reason()))
}

fn atomics(recipe: &Recipe) -> Option<Fault> {
    let Atomics {
        need,
        widths,
        otherwise,
        ..
    } = &recipe.atomics;
    let key = |key| [Key("atomics"), Key(key)];
    let unnamed = otherwise
        .iter()
        .position(|other| other.ids.is_empty() || other.means.trim().is_empty());
    if let Some(place) = unnamed {
        let place = [Key("atomics"), Key("otherwise"), Item(place)];
        return Some(at(place, "atomics.otherwise must name ids and means"));
    }
    if let Some(width) = widths.iter().find(|width| !matches!(width, 32 | 64 | 128)) {
        let reason =
            format!("atomics.widths has the unsupported width {width}: expected 32, 64 or 128");
        return Some(at(key("widths"), reason));
    }
    let reason = "atomics.widths is empty: at least one width is needed";
    let empty = *need != Need::Ignore && widths.is_empty();
    empty.then(|| at(key("widths"), reason))
}
