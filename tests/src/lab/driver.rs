//! The real `nvgrace_gpu_vfio_pci`, built unmodified from Debian's kernel source for the kernel of a tree.
//!
//! Debian's kernels lack this driver, and also iommufd with VFIO's character devices. With iommufd all of VFIO is built, because
//! iommufd changes its structures. Built-in parts of the kernel (nested translation of the SMMU, MSI pages for iommufd) stay as
//! Debian built them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::architecture::Architecture;
use super::cache::{Cache, Key, remove};
use super::command;
use super::debian::{self, Tree};
use super::progress::{Step, say};

/// File name of the module.
pub const MODULE: &str = "nvgrace-gpu-vfio-pci.ko";

const SOURCE: &str = "drivers/vfio/pci/nvgrace-gpu";

const ENTER: &str = r#"
root=$1 version=$2
shift 2
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mkdir -p "$root/tmp/module"
cd "$root/tmp/module"
"#;

const DRIVER: &str = r#"
chroot "$root" sh -c 'exec tar -xJf /usr/src/linux-source-*.tar.xz -C /tmp/module --strip-components=5 \
    --wildcards "*/drivers/vfio/pci/nvgrace-gpu/*"' 2>"$root/tmp/tar.log" || {
    # an older kernel has no such driver
    grep "Not found in archive" "$root/tmp/tar.log" && exit 0
    cat "$root/tmp/tar.log" >&2
    exit 1
}
chroot "$root" make -C "/lib/modules/$version/build" M=/tmp/module "$@" CONFIG_NVGRACE_GPU_VFIO_PCI=m modules
"#;

/// iommufd needs two built-in parts that Debian's kernel lacks: its `driver.c`, and spans of an interval tree.
const IOMMUFD: &str = r#"
chroot "$root" sh -c 'exec tar -xJf /usr/src/linux-source-*.tar.xz -C /tmp/module --strip-components=2 \
    --wildcards "*/drivers/vfio/*" "*/drivers/iommu/iommufd/*" "*/drivers/iommu/*.h" "*/lib/interval_tree.c"'
mv iommu/iommufd iommu/*.h .
{
    printf '#include <linux/%s.h>\n' interval_tree module
    sed -n '/^#ifdef CONFIG_INTERVAL_TREE_SPAN_ITER/,/^#endif/p' interval_tree.c
} >iommufd/span.c
rm -r iommu interval_tree.c
echo 'iommufd-y += driver.o span.o' >>iommufd/Makefile
defines=
for name in IOMMUFD_MODULE IOMMUFD_DRIVER_CORE INTERVAL_TREE_SPAN_ITER VFIO_DEVICE_CDEV; do
    defines="$defines -DCONFIG_$name=1"
done
printf 'obj-m += iommufd/ vfio/\nsubdir-ccflags-y :=%s\n' "$defines" >Makefile
off=$(grep -rhoE 'config [A-Z0-9_]*(VFIO_PCI|VFIO_MDEV|VFIO_FSL_MC|VFIO_PLATFORM_BASE|VFIO_CDX)$' vfio --include=Kconfig |
    sed -n '/ VFIO_PCI$/d; s/config \(.*\)/CONFIG_\1=n/p')
chroot "$root" make -j2 -C "/lib/modules/$version/build" M=/tmp/module "$@" $off CONFIG_IOMMUFD=m \
    CONFIG_IOMMUFD_DRIVER_CORE= CONFIG_VFIO_DEVICE_CDEV=y CONFIG_NVGRACE_GPU_VFIO_PCI=m modules
find vfio iommufd -name '*.ko' -exec cp {} . \;
"#;

/// The set of modules to build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Modules {
    /// The driver, for the kernel's own VFIO.
    #[default]
    Driver,
    /// All of VFIO with character devices, iommufd, and the driver.
    Iommufd,
}

impl Modules {
    /// Suffix of the families of artefacts.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Driver => "",
            Self::Iommufd => "-iommufd",
        }
    }

    fn script(self) -> String {
        let build = match self {
            Self::Driver => DRIVER,
            Self::Iommufd => IOMMUFD,
        };
        format!("{ENTER}{build}")
    }
}

/// The built modules, or the result that this kernel's source lacks the driver.
#[derive(Clone, Debug)]
pub struct Driver {
    /// The artefact.
    pub artefact: PathBuf,
}

impl Driver {
    /// The built modules; none if the kernel's source lacks the driver.
    pub fn modules(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.artefact)
            .with_context(|| format!("cannot list '{}'", self.artefact.display()))?;
        let mut modules: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        modules.sort();
        Ok(modules)
    }
}

/// Builds the modules for the kernel of `tree`.
pub fn build(
    cache: &Cache,
    tree: &Tree,
    architecture: Architecture,
    modules: Modules,
) -> Result<Driver> {
    let key = Key::new()
        .with(tree.artefact.as_os_str().as_encoded_bytes())
        .with(debian::build_inputs(tree.suite, architecture))
        .with(modules.script());
    let family = format!(
        "driver-{}{}{}",
        tree.suite,
        architecture.suffix(),
        modules.suffix()
    );
    let artefact = cache.artefact(&family, key, |folder| {
        let step = Step::begin(match modules {
            Modules::Driver => "building the kernel's nvgrace_gpu_vfio_pci",
            Modules::Iommufd => "building the kernel's vfio, iommufd and nvgrace_gpu_vfio_pci",
        });
        make(tree, architecture, modules, folder)?;
        step.done();
        Ok(())
    })?;
    let driver = Driver { artefact };
    if driver.modules()?.is_empty() {
        say(&format!(
            "the kernel of Debian {} has no nvgrace_gpu_vfio_pci: GPUs can only go to vfio-pci there",
            tree.suite
        ));
    }
    Ok(driver)
}

fn make(tree: &Tree, architecture: Architecture, modules: Modules, folder: &Path) -> Result<()> {
    let root = folder.join("build");
    debian::build_tree(tree.suite, architecture, &root)?;
    let version = tree.kernel()?;
    ensure_same_kernel(&version, &root)?;
    let cross: &[&str] = match architecture {
        Architecture::X86_64 => &[],
        Architecture::Aarch64 => &["ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-"],
    };
    command::run(
        command::in_namespace(&modules.script())
            .arg(&root)
            .arg(&version)
            .args(cross),
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
    let names: Vec<_> = fs::read_dir(built)
        .with_context(|| format!("cannot list '{}'", built.display()))?
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    if !names.iter().any(|name| name == MODULE) {
        bail!("'{}' was not built", built.join(MODULE).display());
    }
    for name in names {
        if Path::new(&name)
            .extension()
            .is_some_and(|extension| extension == "ko")
        {
            fs::copy(built.join(&name), folder.join(&name)).context("cannot keep a module")?;
        }
    }
    Ok(())
}
