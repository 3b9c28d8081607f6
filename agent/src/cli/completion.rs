//! `variantctl completions SHELL`: the script that packages install.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::problem::Problem;
use super::{Cli, output};

pub(super) fn run(shell: Shell) -> Result<(), Problem> {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "variantctl", &mut script);
    output::text(&String::from_utf8_lossy(&script))
}
