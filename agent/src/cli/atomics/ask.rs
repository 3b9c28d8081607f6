//! `--ask-vfio`: what VFIO itself says, in a disposable child.

use std::env;
use std::path::Path;

use kernel_glue::atomics::Widths;

use super::super::View;
use super::super::problem::Problem;
use super::Request;
use crate::code::Code;
use crate::probe;
use crate::refusal::Refusal;
use crate::region::refusal;

/// The widths that VFIO names; `None` when nobody wants to know.
pub(super) fn vfio(view: &View, request: &Request) -> Result<Option<Widths>, Problem> {
    let Some(device) = request.device.filter(|_| request.ask_vfio) else {
        return Ok(None);
    };
    if view.root != Path::new("/") {
        let text =
            "a recorded host has no device to open; run this without --host, on the host itself";
        return Err(Problem::Failed(text.to_owned()));
    }
    let program = env::current_exe();
    let program =
        program.map_err(|error| Problem::Failed(format!("cannot find this program: {error}")))?;
    eprintln!(
        "note: asking opens '{device}', which resets it, and lets it send AtomicOps until it is closed again"
    );
    let answer = probe::ask_atomics(&program, &view.root, device);
    answer.map(Some).map_err(|error| {
        let refusal = refusal(device, &error);
        let code = match refusal.code {
            Code::RegionsUnknown => Code::AtomicsVfio,
            other => other,
        };
        Refusal { code, ..refusal }.into()
    })
}
