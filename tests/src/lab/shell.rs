//! Bridges the terminal to the shell on the emulated host's second virtual console.

use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::read;

use super::channel::Job;
use super::progress::say;
use super::state::State;

/// Control and `]`: disconnects, and the shell keeps running.
const LEAVE: u8 = 0x1d;
/// The line that `/lab/shell` prints when its bash has ended.
const ENDED: &[u8] = b"\x1b]lab-shell-ended\x07";

/// Connects the terminal to the shell until it ends, or until Ctrl-].
pub fn attach(state: &State) -> Result<()> {
    ensure!(
        std::io::stdin().is_terminal(),
        "a shell needs a terminal; 'tests/lab run' takes scripts"
    );
    let socket = state.path("shell.sock");
    let stream = UnixStream::connect(&socket)
        .with_context(|| format!("cannot reach the shell at '{}'", socket.display()))?;
    say("a shell in the emulated host; 'exit' ends it, Ctrl-] leaves it");
    fit_window(state)?;
    let _raw = RawTerminal::enter()?;
    // the prompt was printed before this connection
    (&stream)
        .write_all(b"\n")
        .context("the shell does not listen")?;
    bridge(stream)
}

fn fit_window(state: &State) -> Result<()> {
    // stty asks the terminal that is its standard input
    let size = Command::new("stty")
        .arg("size")
        .stdin(std::process::Stdio::inherit())
        .output();
    let text = size
        .map(|done| String::from_utf8_lossy(&done.stdout).into_owned())
        .unwrap_or_default();
    if let [rows, columns] = text.split_whitespace().collect::<Vec<_>>()[..] {
        let script = format!("stty -F /dev/hvc1 rows {rows} cols {columns}");
        Job::new(script)
            .deadline(Duration::from_secs(20))
            .collect(state)?;
    }
    Ok(())
}

fn bridge(stream: UnixStream) -> Result<()> {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    let terminal = std::io::stdin();
    loop {
        let mut sources = [
            PollFd::new(stream.as_fd(), PollFlags::POLLIN),
            PollFd::new(terminal.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut sources, PollTimeout::NONE).context("cannot wait for input")?;
        let [host_spoke, user_typed] = sources.map(|source| source.any().unwrap_or(false));
        if host_spoke {
            let length = (&stream)
                .read(&mut buffer)
                .context("the emulated host is gone")?;
            if length == 0 || show(&buffer[..length], &mut seen)? {
                return Ok(());
            }
        }
        if user_typed {
            // not through the standard library's buffer, which poll cannot see
            let length = read(&terminal, &mut buffer).context("cannot read the terminal")?;
            if length == 0 || buffer[..length].contains(&LEAVE) {
                return Ok(());
            }
            (&stream)
                .write_all(&buffer[..length])
                .context("the emulated host is gone")?;
        }
    }
}

/// Prints the shell's output; returns true once the shell has ended.
fn show(bytes: &[u8], seen: &mut Vec<u8>) -> Result<bool> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .context("cannot write to the terminal")?;
    seen.extend_from_slice(bytes);
    let has_ended = seen.windows(ENDED.len()).any(|window| window == ENDED);
    let keep = seen.len().saturating_sub(ENDED.len());
    seen.drain(..keep);
    Ok(has_ended)
}

/// Restores the terminal when it is dropped.
struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    fn enter() -> Result<Self> {
        let terminal = std::io::stdin();
        let before = tcgetattr(&terminal).context("cannot read the terminal's settings")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&terminal, SetArg::TCSANOW, &raw)
            .context("cannot change the terminal's settings")?;
        Ok(Self { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // a failure to restore the terminal has no remedy here
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.before);
        eprintln!();
    }
}
