//! The command line: `variantctl`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ctl::cli::main()
}
