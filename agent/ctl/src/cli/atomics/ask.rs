//! `--ask-vfio`: what VFIO itself says, in a disposable child.

use kernel_glue::atomics::Widths;

use super::super::HostView;
use super::super::problem::Problem;
use super::super::region::asking;
use super::Request;
use agent::probe;
use agent::region::refusal;
use domain::code::Code;
use domain::refusal::Refusal;

/// The widths that VFIO names; `None` when nobody wants to know.
pub(super) fn vfio(host_view: &HostView, request: &Request) -> Result<Option<Widths>, Problem> {
    let Some(device) = request.device.filter(|_| request.ask_vfio) else {
        return Ok(None);
    };
    let program = asking(host_view)?;
    eprintln!(
        "note: asking opens '{device}', which resets it, and lets it send AtomicOps until it is closed again"
    );
    let answer = probe::ask_atomics(&program, &host_view.root, device);
    answer.map(Some).map_err(|error| {
        let refusal = refusal(device, &error);
        let code = match refusal.code {
            Code::RegionsUnknown => Code::AtomicsVfio,
            other => other,
        };
        Refusal { code, ..refusal }.into()
    })
}
