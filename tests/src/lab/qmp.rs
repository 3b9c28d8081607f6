//! One command at a time over QEMU's machine protocol.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that is ready for commands.
pub struct Monitor {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Monitor {
    /// Connects and leaves negotiation mode.
    pub fn connect(socket: &Path) -> Result<Self> {
        let writer = UnixStream::connect(socket)
            .with_context(|| format!("cannot reach QEMU at '{}'", socket.display()))?;
        writer.set_read_timeout(Some(TIMEOUT))?;
        let reader = BufReader::new(writer.try_clone()?);
        let mut monitor = Self { writer, reader };
        monitor.read()?;
        monitor.execute("qmp_capabilities")?;
        Ok(monitor)
    }

    /// Runs a command of the human monitor and returns its output.
    pub fn human(&mut self, command: &str) -> Result<String> {
        let arguments = json!({ "command-line": command });
        let answer = self.call("human-monitor-command", arguments)?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    /// Runs a command without arguments.
    pub fn execute(&mut self, command: &str) -> Result<Value> {
        self.call(command, json!({}))
    }

    /// Runs a command with arguments.
    pub fn call(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        // one write: QEMU acts at the closing brace, and after 'quit' it does not read the rest
        line.push('\n');
        let sent = self.writer.write_all(line.as_bytes());
        sent.context("QEMU does not listen any more")?;
        loop {
            let answer = self.read()?;
            if let Some(error) = answer.get("error") {
                bail!(
                    "QEMU refuses '{command}': {}",
                    error["desc"].as_str().unwrap_or("no reason given")
                );
            }
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            // anything else is an event
        }
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        let length = self
            .reader
            .read_line(&mut line)
            .context("QEMU does not answer")?;
        if length == 0 {
            bail!("QEMU closed the connection");
        }
        serde_json::from_str(&line).context("QEMU answers with something that is not JSON")
    }
}
