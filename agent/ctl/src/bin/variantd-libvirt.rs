//! What `variantctl` asks of libvirt, in a process of its own: all else it does needs none of libvirt's libraries.

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
        Question::Names { uri } => to_vec(&libvirt::names(&uri)),
        Question::Create { uri, xml, paused } => to_vec(&libvirt::create(&uri, &xml, paused)),
    })
}
