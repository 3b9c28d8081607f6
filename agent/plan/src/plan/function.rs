//! Notes on virtual functions that no recipe covers, and on physical functions with enabled virtual functions (VFIO refuses them).

use super::{Assigned, Note, Part, PlanInput};
use crate::atomics;
use domain::code::Code;
use domain::{Domain, Hostdev};

/// The notes on virtual functions.
pub(super) fn plan(input: &PlanInput<'_>, domain: &Domain, assigned: &[Assigned<'_>]) -> Part {
    let enabled = assigned.iter().filter_map(|one| enabled(input, one));
    let over = domain.hostdevs.iter();
    let over = over.filter_map(|hostdev| passed_over(input, hostdev));
    let mut notes: Vec<Note> = enabled.chain(over).collect();
    notes.sort_by_key(|note| note.device);
    Part::of_notes(notes)
}

fn enabled(input: &PlanInput<'_>, one: &Assigned<'_>) -> Option<Note> {
    let count = input.host.virtual_functions(one.device.address).count();
    (count > 0).then(|| Note {
        code: Code::FunctionsEnabled,
        device: Some(one.device.address),
        text: atomics::functions_enabled(one.device, count),
    })
}

/// A virtual function with the id of a physical one, such as an NVIDIA vGPU, stays on its vendor's driver.
fn passed_over(input: &PlanInput<'_>, hostdev: &Hostdev) -> Option<Note> {
    let device = input.host.devices.get(&hostdev.source)?;
    let recipe = &input.recipes.passing_over(device)?.name;
    let driver = device.driver.as_ref();
    let stays = match driver {
        Some(driver) if hostdev.managed => format!(
            "libvirt takes it from its driver '{driver}' (managed='yes'); a vGPU needs managed='no'"
        ),
        Some(driver) => format!("it stays on its driver '{driver}'"),
        None => "it stays without a driver".to_owned(),
    };
    Some(Note {
        code: Code::FunctionUncovered,
        device: Some(hostdev.source),
        text: format!(
            "it is a virtual function, and recipe '{recipe}' covers only physical functions with its id: {stays}"
        ),
    })
}
