//! The command line: `variantctl`.

use std::process::ExitCode;

use agent::probe;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    match arguments.first().map(String::as_str) {
        Some(probe::ARGUMENT) => probe::run(&arguments[1..]),
        _ => agent::cli::main(),
    }
}
