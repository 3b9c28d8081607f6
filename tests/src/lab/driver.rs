//! The real `nvgrace_gpu_vfio_pci`, built unmodified from Debian's kernel source for the kernel of a tree.
//!
//! Debian's own kernels for x86-64 leave this driver out; its code does not depend on the architecture.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::cache::{Cache, Key, remove};
use super::command;
use super::debian::{self, Tree};
use super::progress::{Step, say};

/// File name of the module.
pub const MODULE: &str = "nvgrace-gpu-vfio-pci.ko";

const SOURCE: &str = "drivers/vfio/pci/nvgrace-gpu";

const BUILD: &str = r#"
root=$1 version=$2 source=$3
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mkdir -p "$root/tmp/module"
cd "$root/tmp/module"
chroot "$root" sh -c 'exec tar -xJf /usr/src/linux-source-*.tar.xz -C /tmp/module --strip-components=5 \
    --wildcards "*/$0/*"' "$source" 2>"$root/tmp/tar.log" || {
    # an older kernel has no such driver
    grep "Not found in archive" "$root/tmp/tar.log" && exit 0
    cat "$root/tmp/tar.log" >&2
    exit 1
}
chroot "$root" make -C "/lib/modules/$version/build" M=/tmp/module CONFIG_NVGRACE_GPU_VFIO_PCI=m modules
"#;

/// The built driver, or the knowledge that this kernel has none.
#[derive(Clone, Debug)]
pub struct Driver {
    /// The artefact.
    pub artefact: PathBuf,
}

impl Driver {
    /// The module, if the kernel's source has it.
    pub fn module(&self) -> Option<PathBuf> {
        let path = self.artefact.join(MODULE);
        path.is_file().then_some(path)
    }
}

/// Builds the driver for the kernel of `tree`.
pub fn build(cache: &Cache, tree: &Tree) -> Result<Driver> {
    let key = Key::new()
        .with(tree.artefact.as_os_str().as_encoded_bytes())
        .with(debian::build_inputs(tree.suite))
        .with(BUILD);
    let artefact = cache.artefact(&format!("driver-{}", tree.suite), key, |folder| {
        let step = Step::begin("building the kernel's nvgrace_gpu_vfio_pci");
        make(tree, folder)?;
        step.done();
        Ok(())
    })?;
    let driver = Driver { artefact };
    if driver.module().is_none() {
        say(&format!(
            "the kernel of Debian {} has no nvgrace_gpu_vfio_pci: GPUs can only go to vfio-pci there",
            tree.suite
        ));
    }
    Ok(driver)
}

fn make(tree: &Tree, folder: &Path) -> Result<()> {
    let root = folder.join("build");
    debian::build_tree(tree.suite, &root)?;
    let version = tree.kernel()?;
    ensure_same_kernel(&version, &root)?;
    command::run(
        command::in_namespace(BUILD)
            .arg(&root)
            .arg(&version)
            .arg(SOURCE),
    )
    .with_context(|| format!("cannot build '{SOURCE}' for kernel {version}"))?;
    keep(&root.join("tmp/module"), folder)?;
    remove(&root)
}

fn ensure_same_kernel(version: &str, root: &Path) -> Result<()> {
    let headers = debian::kernel(root)?;
    ensure!(
        headers == version,
        "the archive now has headers for kernel {headers}, the lab's tree has kernel {version}: run 'tests/lab up --fresh'"
    );
    Ok(())
}

fn keep(built: &Path, folder: &Path) -> Result<()> {
    if !built.join("main.c").exists() {
        return Ok(());
    }
    let module = built.join(MODULE);
    if !module.exists() {
        bail!("'{}' was not built", module.display());
    }
    fs::copy(&module, folder.join(MODULE)).context("cannot keep the module")?;
    Ok(())
}
