//! Runs another program to its end and turns a failure into an error with the program's last lines of output.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

const LAST_LINES: usize = 15;

/// Runs it; only a failure shows its output.
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs it and returns its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run '{name}'"))?;
    if !done.status.success() {
        bail!("'{name}' failed ({}):\n{}", done.status, last_lines(&done));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// A command in a private mount namespace: its mounts end with it.
pub fn in_namespace(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "/bin/sh",
        "-euc",
        script,
        "lab",
    ]);
    command
}

fn last_lines(done: &Output) -> String {
    let mut text = String::from_utf8_lossy(&done.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&done.stderr));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_program_and_its_last_output() {
        let error = run(Command::new("sh").args(["-c", "echo first; echo why >&2; exit 3"]))
            .expect_err("the script fails");
        let text = error.to_string();
        assert!(
            text.contains("'sh' failed") && text.contains("why"),
            "{text}"
        );
    }

    #[test]
    fn output_is_what_was_written() {
        let text = output(Command::new("echo").arg("hello")).expect("echo works");
        assert_eq!(text, "hello\n");
    }
}
