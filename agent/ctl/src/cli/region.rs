//! `--regions`: asks VFIO for the BARs that a guest would see. Opens the device, which resets it.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use kernel_glue::address::PciAddress;
use kernel_glue::host::Host;
use kernel_glue::region::{Region, Regions};
use serde_json::{Value, json};

use super::problem::Problem;
use super::{HostView, output};
use agent::region::{on_its_driver, refusal};
use agent::{probe, program, request};
use domain::Domain;
use domain::refusal::Refusal;
use planner::size::in_units;

/// The program that asks VFIO; a recorded host has no device to open.
pub(super) fn asking(host_view: &HostView) -> Result<PathBuf, Problem> {
    if host_view.root != Path::new("/") {
        let text =
            "a recorded host has no device to open; run this without --host, on the host itself";
        return Err(Problem::Failed(text.to_owned()));
    }
    program::find(request::PROGRAM).map_err(|error| Problem::Failed(error.to_string()))
}

/// Asks for one device, whatever VFIO driver it is on.
pub(super) fn ask(host_view: &HostView, device: PciAddress) -> Result<Regions, Problem> {
    let program = asking(host_view)?;
    let answer = probe::ask(&program, &host_view.root, device);
    answer.map_err(|error| refusal(device, &error).into())
}

/// The host; when `asked`, with VFIO's BARs of the definition's devices.
pub(super) fn host<'a>(
    host_view: &'a HostView,
    domain: &Domain,
    asked: bool,
) -> Result<Cow<'a, Host>, Problem> {
    match asked {
        true => ask_for(host_view, domain).map(Cow::Owned),
        false => Ok(Cow::Borrowed(&host_view.host)),
    }
}

/// Prints the devices that VFIO could not be asked about.
fn ask_for(host_view: &HostView, domain: &Domain) -> Result<Host, Problem> {
    let mut host = host_view.host.clone();
    for hostdev in &domain.hostdevs {
        let Some(device) = host.devices.get_mut(&hostdev.source) else {
            continue;
        };
        let Some(recipe) = host_view.recipes.for_device(device) else {
            continue;
        };
        let right: Result<(), Problem> = on_its_driver(device, recipe).map_err(Refusal::into);
        match right.and_then(|()| ask(host_view, device.address)) {
            Ok(regions) => device.regions = Some(regions),
            // The other devices can still be asked. Any other error, such as a missing helper program, is the same for all.
            Err(Problem::Refused(why)) => {
                output::say(&format!(
                    "note: {why}; the window is planned without VFIO's sizes"
                ));
            }
            Err(other) => return Err(other),
        }
    }
    Ok(host)
}

/// A row for each BAR.
pub(super) fn rows(regions: &Regions) -> Vec<Vec<String>> {
    let there = regions.iter().enumerate().filter(|(_, bar)| bar.size > 0);
    there
        .map(|(number, bar)| vec![format!("guest BAR {number}"), words(bar)])
        .collect()
}

pub(super) fn to_json(regions: &Regions) -> Value {
    let there = regions.iter().enumerate().filter(|(_, bar)| bar.size > 0);
    there
        .map(|(number, bar)| {
            json!({"bar": number, "size": bar.size, "mmap": bar.mmap,
                   "prefetchable_64bit": bar.is_64bit_prefetchable()})
        })
        .collect()
}

fn words(bar: &Region) -> String {
    // The low bits of a BAR: 0 is I/O, 2:1 are 10b for 64 bits, 3 is prefetchable (PCIe base specification 7.5.1.2.1).
    let kind = match bar.kind {
        Region::MEMORY_64_PREFETCH => "64-bit prefetchable",
        0x4 => "64-bit",
        0x8 => "32-bit prefetchable",
        kind if kind & 1 == 1 => "I/O ports",
        _ => "32-bit",
    };
    let mapped = if bar.mmap { "mapped" } else { "not mapped" };
    format!("{}, {kind}, {mapped}", in_units(bar.size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bar_has_a_row_in_the_largest_whole_unit() {
        let mut regions = Regions::default();
        for (number, size, kind) in [
            (0, 16 << 20, 0x4),
            (2, 1 << 30, 0xc),
            (4, 128 << 30, 0xc),
            (5, 32, 0x1),
        ] {
            let mmap = kind == 0xc;
            regions[number] = Region { size, mmap, kind };
        }
        let text = super::super::output::columns(&rows(&regions));
        let wanted = "guest BAR 0  16 MiB, 64-bit, not mapped\n\
                      guest BAR 2  1 GiB, 64-bit prefetchable, mapped\n\
                      guest BAR 4  128 GiB, 64-bit prefetchable, mapped\n\
                      guest BAR 5  32 bytes, I/O ports, not mapped\n";
        assert_eq!(text, wanted);
        let json = to_json(&regions);
        assert_eq!(json[1]["size"], 1_u64 << 30);
        assert_eq!(json[0]["prefetchable_64bit"], false);
    }
}
