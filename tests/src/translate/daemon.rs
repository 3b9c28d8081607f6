//! The libvirtd of a suite in private namespaces, without systemd, D-Bus or network. It does not change the host.
//!
//! The host needs no VFIO. Before libvirt translates a hostdev, it only checks for these, which exist in the namespaces:
//! - a file `/dev/vfio/vfio` and an entry in `/sys/kernel/iommu_groups`, on a tmpfs
//! - a file `/dev/iommu` in the tree
//! - 64 NUMA nodes
//!
//! So this tests the arguments that libvirt writes and QEMU reads, but not binding, VFIO, KVM or the device.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::lab::debian::Tree;
use crate::lab::process::wait_until;

/// At its first start libvirtd probes each QEMU.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A running libvirtd. Dropping it ends all processes of its namespaces.
pub struct Daemon {
    unshare: Child,
    root: PathBuf,
}

impl Daemon {
    /// Starts the libvirtd of this tree and waits until it answers.
    pub fn start(tree: &Tree) -> Result<Self> {
        let root = tree.root();
        let init = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/translate/init.sh");
        let unshare = Command::new("unshare")
            .args([
                "--mount",
                "--pid",
                "--net",
                "--ipc",
                "--fork",
                "--kill-child",
            ])
            .args(["--propagation", "private", "/bin/sh"])
            .args([init.as_path(), root.as_path()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run 'unshare'")?;
        let mut daemon = Self { unshare, root };
        daemon.wait()?;
        Ok(daemon)
    }

    fn wait(&mut self) -> Result<()> {
        let output = self.unshare.stdout.take().context("no standard output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        if line.trim() != "started" {
            bail!("the namespaces for libvirtd cannot be made");
        }
        let answers = || self.virsh(&["uri"]).is_ok();
        if !wait_until(TIMEOUT, answers) {
            let log = std::fs::read_to_string(self.path("/var/log/libvirtd.log"));
            bail!("libvirtd does not answer: {}", log.unwrap_or_default());
        }
        Ok(())
    }

    /// Runs a program in the daemon's namespaces to its end and returns its output.
    pub fn output(&self, program: &str, words: &[&str]) -> Result<String> {
        let mut command = self.command(program);
        let done = command.args(words).stdin(Stdio::null()).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if !done.status.success() {
            bail!(
                "'{program}' failed: '{}'",
                text(&[done.stderr, done.stdout].concat())
            );
        }
        Ok(text(&done.stdout))
    }

    /// A command in the daemon's namespaces, without this program's environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let pid = self.unshare.id();
        command
            .args(["--target", &pid.to_string(), "--mount", "--net", "--ipc"])
            .arg(format!("--pid=/proc/{pid}/ns/pid_for_children"))
            .args(["chroot".as_ref(), self.root.as_os_str()])
            .args([
                "env",
                "-i",
                "PATH=/usr/sbin:/usr/bin",
                "HOME=/root",
                "LC_ALL=C",
            ])
            .arg(program);
        command
    }

    /// Runs virsh and returns its output.
    pub fn virsh(&self, words: &[&str]) -> Result<String> {
        self.output("virsh", &[&["-q", "-c", "qemu:///system"], words].concat())
    }

    /// The versions of libvirt and QEMU, as text.
    pub fn versions(&self) -> Result<String> {
        let printed = self.virsh(&["version"])?;
        let of = |what: &str| printed.lines().find_map(|line| line.strip_prefix(what));
        let libvirt = of("Using library: ").context("virsh printed no version of libvirt")?;
        let qemu = of("Running hypervisor: ").context("virsh printed no version of QEMU")?;
        Ok(format!("{libvirt}, {qemu}"))
    }

    /// The path in this program's namespace of the daemon's file `inside`.
    pub fn path(&self, inside: &str) -> PathBuf {
        let seen = PathBuf::from(format!("/proc/{}/root", self.unshare.id()));
        let root = self.root.strip_prefix("/").unwrap_or(&self.root);
        seen.join(root).join(inside.trim_start_matches('/'))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // the first process exits at the end of its input, and the kernel then kills all others of the namespace
        drop(self.unshare.stdin.take());
        // wait cannot fail: no other code waits for this process
        let _ = self.unshare.wait();
    }
}
