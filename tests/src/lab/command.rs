//! Runs another program to its end and turns a failure into an error that holds the last lines of its output.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

const LAST_LINES: usize = 15;

/// Runs it; its output is only shown when it fails.
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs it and returns what it wrote to standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run '{name}'"))?;
    if !done.status.success() {
        bail!("'{name}' failed ({}):\n{}", done.status, last_words(&done));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// A command that runs in a mount namespace of its own: what it mounts goes when it ends.
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

fn last_words(done: &Output) -> String {
    let mut text = String::from_utf8_lossy(&done.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&done.stderr));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_program_and_its_last_words() {
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
