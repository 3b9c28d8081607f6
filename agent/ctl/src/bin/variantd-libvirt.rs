//! The helper process in which `variantctl` calls libvirt, so that `variantctl` itself does not load libvirt's libraries.

use std::process::ExitCode;

use agent::{helper, libvirt};
use ctl::inquiry::{PROGRAM, Question};
use serde_json::to_vec;

fn main() -> ExitCode {
    helper::serve(PROGRAM, |question| match question {
        Question::Look { uri, devices } => to_vec(&libvirt::look(&uri, &devices)),
        Question::Definition { uri, name, device } => {
            to_vec(&libvirt::definition(&uri, &name, device))
        }
        Question::Definitions { uri } => to_vec(&libvirt::definitions(&uri)),
        Question::Names { uri } => to_vec(&libvirt::names(&uri)),
        Question::Create { uri, xml, paused } => to_vec(&libvirt::create(&uri, &xml, paused)),
    })
}
