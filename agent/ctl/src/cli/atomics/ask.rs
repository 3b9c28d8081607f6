//! `--ask-vfio`: VFIO's own answer, from a child process.

use kernel_glue::atomics::Widths;

use super::super::problem::Problem;
use super::super::region::asking;
use super::super::{HostView, output};
use super::Request;
use agent::probe;
use agent::region::refusal;
use domain::code::Code;
use domain::refusal::Refusal;

/// The widths that VFIO names; `None` without `--ask-vfio`.
pub(super) fn vfio(host_view: &HostView, request: &Request) -> Result<Option<Widths>, Problem> {
    let Some(device) = request.device.filter(|_| request.ask_vfio) else {
        return Ok(None);
    };
    let program = asking(host_view)?;
    output::say(&format!(
        "note: asking VFIO opens and so resets '{device}', and enables its AtomicOp requests until it is closed"
    ));
    let answer = probe::ask_atomics(&program, &host_view.root, device);
    answer.map(Some).map_err(|error| {
        let refusal = refusal(device, &error);
        // The helper's refusals are shared with `--regions`, whose code explains BARs.
        let code = match refusal.code {
            Code::RegionsUnknown => Code::AtomicsVfio,
            other => other,
        };
        Refusal { code, ..refusal }.into()
    })
}
