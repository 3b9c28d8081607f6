//! The command line: `variantctl`.

fn main() -> std::process::ExitCode {
    agent::cli::main()
}
