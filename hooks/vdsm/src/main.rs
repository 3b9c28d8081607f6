//! VDSM's hook before_vm_start and before_vm_migrate_destination: completes the domain that VDSM is about to create.
//!
//! The package links this program in `/usr/libexec/vdsm/hooks/before_vm_start/`. `VARIANTD_RUN_DIR` replaces
//! `/run/variantd` (tests).

use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let file = env::var_os(vdsm::FILE).map(PathBuf::from);
    let run = env::var_os("VARIANTD_RUN_DIR").map_or("/run/variantd".into(), PathBuf::from);
    let ask = |xml: &str| ask::complete(xml, vdsm::LIMIT);
    let outcome = vdsm::run(file.as_deref(), &run, ask);
    if let Some(sentence) = outcome.sentence {
        // Not `eprintln!`: it panics when standard error is closed or full, and the status would be another one.
        let _ = writeln!(io::stderr(), "{sentence}");
    }
    ExitCode::from(outcome.status)
}
