//! Trees of Debian packages for another processor than this machine's: unpacked, since their scripts cannot run here.
//!
//! The results of those scripts (users, enabled units, alternatives, folders below /var) are copied from the configured tree of
//! the same suite for this machine. It has the same packages, and these results do not depend on the processor.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::architecture::Architecture;
use super::cache::{Cache, Key};
use super::command;
use super::debian::{self, HOST_PACKAGES, Tree};
use super::progress::Step;

/// Packages that the archive marks as essential; unpacking does not add them by itself.
const ESSENTIAL: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "bsdutils",
    "coreutils",
    "dash",
    "debianutils",
    "diffutils",
    "dpkg",
    "findutils",
    "grep",
    "hostname",
    "init-system-helpers",
    "libc-bin",
    "login.defs",
    "mawk",
    "mount",
    "ncurses-base",
    "ncurses-bin",
    "passwd",
    "perl-base",
    "sed",
    "sysvinit-utils",
    "tar",
    "util-linux",
];

/// The QEMU that emulates the host, its firmware, and the tools that prepare the disk.
const OUTER_PACKAGES: &[&str] = &[
    "base-files",
    "coreutils",
    "bash",
    "kmod",
    "libc-bin",
    // kmod needs it for compressed modules, and skips them without an error if it is missing
    "liblzma5",
    "qemu-efi-aarch64",
    "qemu-system-arm",
];

/// Version of `adopt` and `complete`: increase it with each change there.
const PREPARED: &str = "1";

const ADOPT: &str = r#"
model=$1 root=$2
# folders where the configured tree has links
rmdir "$root/var/run" "$root/var/lock" 2>/dev/null || true
tar -C "$model" -c --exclude=etc/ld.so.cache --exclude=var/cache --exclude=var/lib/apt --exclude=var/lib/dpkg \
    etc home media mnt opt root srv var | tar -C "$root" -x --skip-old-files --keep-directory-symlink
(cd "$model" && find usr -type l -lname '/etc/alternatives/*' -print0) | while IFS= read -r -d '' link; do
    [ -e "$root/$link" ] || [ -L "$root/$link" ] || cp -a "$model/$link" "$root/$link"
done
"#;

/// The tree of a host with another processor; `model` is the configured tree of the same suite.
pub fn host_tree(cache: &Cache, model: &Tree, architecture: Architecture) -> Result<Tree> {
    let suite = model.suite;
    let packages = host_packages(architecture);
    let key = Key::new()
        .with(packages.join("\n"))
        .with(ADOPT)
        .with(PREPARED)
        .with(model.artefact.as_os_str().as_encoded_bytes());
    let family = format!("host-{suite}{}", architecture.suffix());
    let artefact = cache.artefact(&family, key, |folder| {
        let step = Step::begin(format!(
            "unpacking Debian {suite} for {architecture} into a folder"
        ));
        let root = folder.join("root");
        debian::unpack(suite, &[architecture], &packages, &root)?;
        adopt(model, &root)?;
        debian::prepare(&root)?;
        step.done();
        Ok(())
    })?;
    Ok(Tree { artefact, suite })
}

/// The tree with the emulator of another processor, of the same suite as `model`.
pub fn outer_tree(cache: &Cache, model: &Tree, architecture: Architecture) -> Result<Tree> {
    let suite = model.suite;
    let packages = debian::owned(OUTER_PACKAGES);
    let key = Key::new()
        .with(packages.join("\n"))
        .with(PREPARED)
        .with(model.artefact.as_os_str().as_encoded_bytes());
    let family = format!("outer-{suite}{}", architecture.suffix());
    let artefact = cache.artefact(&family, key, |folder| {
        let step = Step::begin(format!("unpacking the emulator of {architecture}"));
        let root = folder.join("root");
        debian::unpack(suite, &[Architecture::X86_64], &packages, &root)?;
        complete(&root)?;
        debian::prepare(&root)?;
        step.done();
        Ok(())
    })?;
    Ok(Tree { artefact, suite })
}

fn host_packages(architecture: Architecture) -> Vec<String> {
    let common = HOST_PACKAGES
        .iter()
        .filter(|name| !matches!(**name, "qemu-system-x86" | "linux-image-amd64"));
    let own = ["qemu-system-arm", "qemu-efi-aarch64"];
    let mut packages: Vec<String> = common
        .chain(ESSENTIAL)
        .chain(&own)
        .map(|&name| name.to_owned())
        .collect();
    packages.push(format!("linux-image-{}", architecture.debian()));
    packages
}

fn adopt(model: &Tree, root: &Path) -> Result<()> {
    command::run(
        Command::new("bash")
            .args(["-euo", "pipefail", "-c", ADOPT, "adopt"])
            .arg(model.root())
            .arg(root),
    )
    .context("cannot configure the tree after that of this machine's own processor")
}

/// Folders that mmdebstrap makes only in trees it configures.
fn complete(root: &Path) -> Result<()> {
    for folder in ["boot", "mnt", "proc", "run", "sys", "var/tmp"] {
        fs::create_dir_all(root.join(folder))
            .with_context(|| format!("cannot create '{folder}'"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_another_processor_has_its_own_kernel_and_emulator() {
        let packages = host_packages(Architecture::Aarch64);
        for name in ["linux-image-arm64", "qemu-system-arm", "bash", "systemd"] {
            assert!(packages.iter().any(|package| package == name), "{name}");
        }
        for name in ["linux-image-amd64", "qemu-system-x86"] {
            assert!(!packages.iter().any(|package| package == name), "{name}");
        }
    }
}
