//! The command line: `variantctl`.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
