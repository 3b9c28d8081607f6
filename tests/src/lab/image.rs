//! The disk of the emulated host with its kernel and initial file systems: the tree, the driver and the lab's files, booted once.
//!
//! In that first boot libvirt probes QEMU, so that later boots find the result in libvirt's cache.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::architecture::Architecture;
use super::cache::{Cache, Key, remove};
use super::channel::{self, Job};
use super::command;
use super::debian::Tree;
use super::driver::Driver;
use super::initrd;
use super::machine::{Accelerator, Boot, Machine};
use super::progress::Step;
use super::size::Size;
use super::state::State;
use super::topology::Topology;

/// Files of the disk in addition to those in `host`.
const INPUTS: [&str; 7] = [
    "dump-init.sh",
    "host-init.sh",
    "l2-init.sh",
    "masked-units",
    "probe-init.sh",
    "qemu.conf",
    "removed-units",
];

/// Additional size for packages that tests install; the file is sparse.
const DISK: &str = "6G";

const WARM_UP: &str = "
set -e
systemctl start libvirtd
virsh -q capabilities >/dev/null
virsh -q domcapabilities --virttype kvm --machine MACHINE >/dev/null
virsh -q domcapabilities --virttype qemu --machine MACHINE >/dev/null
ls /var/cache/libvirt/qemu/capabilities/*.xml
systemctl stop libvirtd libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket virtlogd.socket virtlogd-admin.socket virtlogd
rm -rf /var/log/journal
sync
# remount read-only, then off: nothing is lost and nothing is waited for
echo u >/proc/sysrq-trigger
(sleep 1; echo o >/proc/sysrq-trigger) &
";

/// The folder of the lab's data files.
pub fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/lab")
}

/// Inputs of a disk.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The tree of QEMU.
    pub outer: &'a Tree,
    /// The tree of the host.
    pub tree: &'a Tree,
    /// The modules for its kernel.
    pub driver: &'a Driver,
    /// Its processor.
    pub architecture: Architecture,
}

/// Makes disk, kernel and initial file systems; `kind` distinguishes the kinds of labs.
pub fn build(cache: &Cache, parts: Parts<'_>, kind: &str) -> Result<PathBuf> {
    let Parts {
        outer,
        tree,
        driver,
        architecture,
    } = parts;
    let mut key = Key::new()
        .with(outer.artefact.as_os_str().as_encoded_bytes())
        .with(tree.artefact.as_os_str().as_encoded_bytes())
        .with(driver.artefact.as_os_str().as_encoded_bytes())
        .with(include_str!("image.rs"))
        .with(include_str!("initrd.rs"))
        .with_folder(&data().join("host"))?;
    for name in INPUTS {
        key = key.with(script(name)?);
    }
    cache.artefact(&format!("image-{}{kind}", tree.suite), key, |folder| {
        let step = Step::begin("making the disk of the emulated host");
        let root = folder.join("root");
        populate(parts, &root)?;
        boot_files(&root, folder)?;
        file_system(&root, &folder.join("disk.raw"))?;
        remove(&root)?;
        step.done();
        warm_up(outer, architecture, folder)
    })
}

fn script(name: &str) -> Result<String> {
    let path = data().join(name);
    fs::read_to_string(&path).with_context(|| format!("cannot read '{}'", path.display()))
}

fn populate(parts: Parts<'_>, root: &Path) -> Result<()> {
    let copy = |from: &Path, to: &Path| {
        command::run(
            Command::new("cp")
                .args(["-a", "--reflink=auto", "--no-preserve=ownership"])
                .arg(from)
                .arg(to),
        )
    };
    command::run(
        Command::new("cp")
            .args(["-a", "--reflink=auto"])
            .arg(parts.tree.root())
            .arg(root),
    )?;
    copy(&data().join("host/."), root)?;
    install(&parts.driver.modules()?, &parts.tree.kernel()?, root)?;
    initrd::depmod(&parts.outer.root(), root)?;
    configure(root)
}

fn install(modules: &[PathBuf], kernel: &str, root: &Path) -> Result<()> {
    let updates = root.join("lib/modules").join(kernel).join("updates");
    fs::create_dir_all(&updates).context("cannot create the folder for the driver")?;
    for module in modules {
        let name = module.file_name().unwrap_or_default();
        fs::copy(module, updates.join(name)).context("cannot install the driver")?;
    }
    Ok(())
}

fn configure(root: &Path) -> Result<()> {
    remove_units(root)?;
    let units = root.join("etc/systemd/system");
    let masked = script("masked-units")?;
    for unit in masked.lines() {
        link("/dev/null", &units.join(unit))?;
    }
    for (target, unit) in [("sysinit", "lab-agent"), ("multi-user", "lab-shell")] {
        let wants = units.join(format!("{target}.target.wants"));
        fs::create_dir_all(&wants).context("cannot enable a unit")?;
        link(
            &format!("../{unit}.service"),
            &wants.join(format!("{unit}.service")),
        )?;
    }
    let networks = root.join("etc/libvirt/qemu/networks/autostart");
    if networks.exists() {
        remove(&networks)?;
    }
    let extra = script("qemu.conf")?;
    OpenOptions::new()
        .append(true)
        .open(root.join("etc/libvirt/qemu.conf"))
        .and_then(|mut file| file.write_all(extra.as_bytes()))
        .context("cannot write libvirt's 'qemu.conf'")
}

/// Removes the packages' units that the file `removed-units` names, with the links that other units have to them, and all generators.
///
/// Each reload and each start of systemd reads every unit and runs every generator: in a host with all of them one reload takes 8 s
/// of processor time (systemd 261).
fn remove_units(root: &Path) -> Result<()> {
    let patterns = script("removed-units")?;
    let is_removed = |name: &str| patterns.lines().any(|pattern| matches(pattern, name));
    let packaged = root.join("usr/lib/systemd/system");
    for folder in [&packaged, &root.join("etc/systemd/system")] {
        let own = entries(folder)?;
        let wants = own.iter().filter(|path| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            matches!(extension, Some("wants" | "requires")) && path.is_dir()
        });
        let linked = wants
            .map(|path| entries(path))
            .collect::<Result<Vec<_>>>()?;
        for path in own.iter().chain(linked.iter().flatten()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if is_removed(&name) {
                remove(path)?;
            }
        }
    }
    remove(&root.join("usr/lib/systemd/system-generators"))
}

/// Whether a unit has this name; a pattern that ends in `*` has the beginning of the name.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect())
        .with_context(|| format!("cannot list '{}'", folder.display()))
}

fn link(target: &str, path: &Path) -> Result<()> {
    // the tree may have its own
    let _ = fs::remove_file(path);
    std::os::unix::fs::symlink(target, path)
        .with_context(|| format!("cannot link '{}'", path.display()))
}

fn boot_files(root: &Path, folder: &Path) -> Result<()> {
    let vmlinuz = kernel_file(root)?;
    fs::copy(&vmlinuz, folder.join("vmlinuz"))
        .with_context(|| format!("cannot copy '{}'", vmlinuz.display()))?;
    fs::copy(&vmlinuz, root.join("lab/vmlinuz")).context("cannot copy the guest's kernel")?;
    let host = initrd::build(
        root,
        &[
            "virtio_pci",
            "virtio_blk",
            "virtio_console",
            "crc32c_generic",
            "ext4",
        ],
        &script("host-init.sh")?,
    )?;
    initrd::write(&folder.join("initrd.cpio"), &host)?;
    let dump = initrd::build(root, &[], &script("dump-init.sh")?)?;
    initrd::write(&folder.join("dump.cpio"), &dump)?;
    let probe = initrd::build(root, &[], &script("probe-init.sh")?)?;
    initrd::write(&folder.join("probe.cpio"), &probe)?;
    let guest = initrd::build(root, &[], &script("l2-init.sh")?)?;
    initrd::write(&root.join("lab/l2-initrd.cpio"), &guest)
}

/// The kernel: a package's script copies it to /boot where such scripts run.
fn kernel_file(root: &Path) -> Result<PathBuf> {
    let version = super::debian::kernel(root)?;
    let installed = root.join("boot").join(format!("vmlinuz-{version}"));
    let packaged = root.join("lib/modules").join(&version).join("vmlinuz");
    Ok(if installed.exists() {
        installed
    } else {
        packaged
    })
}

fn file_system(root: &Path, disk: &Path) -> Result<()> {
    command::run(
        Command::new("mke2fs")
            .args([
                "-q",
                "-t",
                "ext4",
                "-O",
                "^has_journal,^metadata_csum",
                "-E",
                "lazy_itable_init=1,nodiscard",
            ])
            .arg("-d")
            .arg(root)
            .arg(disk)
            .arg(DISK),
    )
}

fn warm_up(outer: &Tree, architecture: Architecture, folder: &Path) -> Result<()> {
    let step = Step::begin("starting the emulated host once, so that libvirt's cache is filled");
    let state = State::new(&format!("warm-up{}", architecture.suffix()))?;
    state.create()?;
    let warmed = warm_up_in(&state, outer, architecture, folder);
    state.stop()?;
    if warmed.is_ok() {
        state.remove()?;
        step.done();
    }
    warmed.with_context(|| {
        format!(
            "the first start failed (console: '{}')",
            state.console().display()
        )
    })
}

fn warm_up_in(
    state: &State,
    outer: &Tree,
    architecture: Architecture,
    folder: &Path,
) -> Result<()> {
    let machine = Machine {
        tree: outer.clone(),
        topology: Topology::new(architecture, 0, Size::mebibytes(0)),
        accelerator: Accelerator::Tcg,
        gpu_arguments: Vec::new(),
        kernel_arguments: Vec::new(),
    };
    let boot = Boot {
        image: folder.to_path_buf(),
        acpi: None,
        initrd: "initrd.cpio",
        keep: true,
        paused: false,
    };
    let qemu = machine.start(state, &boot)?;
    channel::wait_for_agent(state, &qemu)?;
    let script = WARM_UP.replace("MACHINE", architecture.guest_machine());
    let (status, output) = Job::new(script)
        .deadline(Duration::from_secs(600))
        .collect(state)?;
    if status != 0 {
        bail!("libvirt does not work in the emulated host:\n{output}");
    }
    if !qemu.ends_within(Duration::from_secs(30)) {
        bail!("the emulated host does not power off");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_unit_leaves_no_link_and_the_others_stay() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let units = root.path().join("usr/lib/systemd/system");
        let wants = units.join("sockets.target.wants");
        let generators = root.path().join("usr/lib/systemd/system-generators");
        for folder in [&wants, &root.path().join("etc/systemd/system"), &generators] {
            fs::create_dir_all(folder).expect("writable");
        }
        for name in ["systemd-sysext.socket", "systemd-journald.socket"] {
            fs::write(units.join(name), "[Unit]\n").expect("writable");
            link(&format!("../{name}"), &wants.join(name)).expect("writable");
        }
        remove_units(root.path()).expect("removed");
        let left = |folder| {
            let mut paths = entries(folder).expect("a folder");
            paths.sort();
            paths
        };
        assert_eq!(left(&wants), [wants.join("systemd-journald.socket")]);
        let journal = units.join("systemd-journald.socket");
        assert_eq!(left(&units), [wants, journal]);
        assert!(!generators.exists());
    }

    #[test]
    fn a_pattern_is_a_name_or_its_beginning() {
        assert!(matches("e2scrub*", "e2scrub@.service") && matches("kexec.target", "kexec.target"));
        assert!(!matches("kexec", "kexec.target") && !matches("e2scrub*", "getty.target"));
    }
}
