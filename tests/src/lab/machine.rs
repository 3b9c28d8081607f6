//! The outer QEMU: its command line, and its start from a tree of Debian packages in a private mount namespace.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::architecture::Architecture;
use super::command;
use super::debian::Tree;
use super::packages;
use super::process::{Process, wait_until};
use super::state::State;
use super::topology::{GpuSlot, Topology, words};

/// Kernel arguments that save time under emulation. `no_timer_check`: on a busy machine the kernel's check of the timer fails and
/// the kernel panics; under a known hypervisor the kernel skips this check (arch/x86/kernel/apic/io_apic.c).
const KERNEL_ARGUMENTS: &str = "rw quiet mitigations=off nokaslr audit=0 selinux=0 apparmor=0 lsm=capability \
    random.trust_cpu=on cryptomgr.notests systemd.show_status=0 systemd.ssh_auto=no nowatchdog no_timer_check panic=-1";

/// Enters the tree: read-only, with devices, and with the lab's folders at /lab/run, /lab/image and, for the disk of packages, /mnt.
const ENTER: &str = r#"
root=$1 run=$2 image=$3 mode=$4 packages=$5
shift 5
mount --bind "$root" "$root"
mount -o "remount,bind,ro" "$root"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount --bind /var/tmp "$root/var/tmp"
mount --bind "$run" "$root/lab/run"
mount --bind "$image" "$root/lab/image"
mount -o "remount,bind,$mode" "$root/lab/image"
[ -z "$packages" ] || mount --bind "$packages" "$root/mnt"
exec setsid chroot "$root" "$@"
"#;

const SOCKET_TIMEOUT: Duration = Duration::from_secs(10);

/// The accelerator of the emulated processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// TCG, which works everywhere.
    Tcg,
    /// KVM.
    Kvm,
}

/// What to boot.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Folder with `vmlinuz`, `initrd.cpio` and an optional `disk.raw`.
    pub image: PathBuf,
    /// Folder with `early.cpio`; none before the tables are known.
    pub acpi: Option<PathBuf>,
    /// Name of the initial file system in the image folder.
    pub initrd: &'static str,
    /// Whether writes to the disk are kept.
    pub keep: bool,
    /// Whether to wait for `cont`.
    pub paused: bool,
}

/// The machine to start.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The tree of QEMU.
    pub tree: Tree,
    /// Its topology.
    pub topology: Topology,
    /// Its accelerator.
    pub accelerator: Accelerator,
    /// More arguments for each GPU server.
    pub gpu_arguments: Vec<String>,
    /// Additional kernel arguments.
    pub kernel_arguments: Vec<String>,
}

impl Machine {
    /// The part of the command line that the firmware's tables depend on.
    pub fn hardware(&self) -> Vec<String> {
        let mut arguments = words(self.processor());
        arguments.extend(words("-nodefaults -no-user-config -display none"));
        arguments.extend(
            self.topology
                .arguments(|gpu| format!("/lab/run/{}", socket(gpu))),
        );
        arguments.extend(words(
            "-device virtio-serial-pci,id=serial,bus=pcie.0,addr=0x1e \
             -chardev socket,id=jobs,path=/lab/run/jobs.sock,server=on,wait=off -device virtconsole,chardev=jobs \
             -chardev socket,id=shell,path=/lab/run/shell.sock,server=on,wait=off -device virtconsole,chardev=shell \
             -fsdev local,id=share,path=/lab/run/share,security_model=none \
             -device virtio-9p-pci,fsdev=share,mount_tag=share,bus=pcie.0,addr=0x1c",
        ));
        arguments
    }

    /// Accelerator, machine type, processor and IOMMU.
    ///
    /// On x86-64 without processor features that cost much under emulation: with SMAP each copy from or to a program uses another TLB,
    /// and the kernel copies and clears memory one byte at a time where string instructions are said to be fast (ERMS, FSRM).
    fn processor(&self) -> &'static str {
        match (self.topology.architecture, self.accelerator) {
            (Architecture::X86_64, Accelerator::Tcg) => {
                "-accel tcg,thread=multi,tb-size=1024 -machine q35,kernel-irqchip=split \
                 -cpu max,-erms,-fsrm,-fsrs,-fsrc,-fzrm,-la57,-pks,-pku,-smap,-smep,-umip \
                 -device intel-iommu,intremap=on,caching-mode=on,aw-bits=48"
            }
            (Architecture::X86_64, Accelerator::Kvm) => {
                "-accel kvm -machine q35,kernel-irqchip=split -cpu host \
                 -device intel-iommu,intremap=on,caching-mode=on,aw-bits=48"
            }
            (Architecture::Aarch64, _) => {
                "-accel tcg,thread=multi,tb-size=1024 -cpu max,pauth-impdef=on \
                 -machine virt,virtualization=on,iommu=smmuv3,gic-version=3 \
                 -bios /usr/share/qemu-efi-aarch64/QEMU_EFI.fd"
            }
        }
    }

    /// Starts the GPU servers and QEMU; both are recorded in `state`.
    pub fn start(&self, state: &State, boot: &Boot) -> Result<Process> {
        for gpu in &self.topology.gpus {
            self.serve(state, gpu)?;
        }
        let log = File::create(state.path("qemu.log")).context("cannot create the log of QEMU")?;
        let packages = state.packages();
        let mut child = command::in_namespace(ENTER)
            .arg(self.tree.root())
            .arg(state.folder())
            .arg(&boot.image)
            .arg(if boot.keep { "rw" } else { "ro" })
            .arg(packages.as_deref().unwrap_or(Path::new("")))
            .arg(self.topology.architecture.qemu())
            .args(self.hardware())
            .args(self.software(boot, packages.is_some()))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start QEMU")?;
        let process = Process::find(child.id())?;
        process.record(&state.path("qemu.pid"))?;
        let monitor = state.path("monitor.sock");
        let is_there = wait_until(SOCKET_TIMEOUT, || {
            monitor.exists() || !matches!(child.try_wait(), Ok(None))
        });
        if !is_there || !monitor.exists() {
            bail!(
                "QEMU does not start: {}",
                last_lines(&state.path("qemu.log"))
            );
        }
        Ok(process)
    }

    fn software(&self, boot: &Boot, has_packages: bool) -> Vec<String> {
        let architecture = self.topology.architecture;
        let initrd = match boot.acpi {
            Some(_) => "/lab/run/initrd.cpio".to_owned(),
            None => format!("/lab/image/{}", boot.initrd),
        };
        let mut arguments = words(&format!(
            "-kernel /lab/image/vmlinuz -initrd {initrd} -serial file:/lab/run/console.log -no-reboot \
         -qmp unix:/lab/run/monitor.sock,server=on,wait=off"
        ));
        arguments.push("-append".into());
        let own = match architecture {
            Architecture::X86_64 => "intel_iommu=on tsc=reliable",
            Architecture::Aarch64 => "",
        };
        let console = architecture.console();
        let line = words(&format!("{KERNEL_ARGUMENTS} console={console} {own}"));
        arguments.push(command_line(line, &self.kernel_arguments));
        if boot.image.join("disk.raw").exists() {
            let snapshot = if boot.keep { "off" } else { "on" };
            arguments.extend(words(&format!(
            "-drive file=/lab/image/disk.raw,if=none,id=disk,format=raw,snapshot={snapshot},cache=unsafe \
             -device virtio-blk-pci,drive=disk,bus=pcie.0,addr=0x1d,multifunction=on"
        )));
        }
        if has_packages {
            // behind the host's disk, which must stay the first one
            arguments.extend(words(&format!(
                "-drive file=/mnt/{},if=none,id=packages,format=raw,readonly=on \
                 -device virtio-blk-pci,drive=packages,bus=pcie.0,addr=0x1d.1",
                packages::DISK
            )));
        }
        if boot.paused {
            arguments.push("-S".into());
        }
        arguments
    }

    fn serve(&self, state: &State, gpu: &GpuSlot) -> Result<()> {
        let name = format!("gpu{}", gpu.index);
        let socket = state.path(&socket(gpu));
        let log =
            File::create(state.path(&format!("{name}.log"))).context("cannot create a log")?;
        let mut child = Command::new("setsid")
            .arg(server()?)
            .arg("--socket")
            .arg(&socket)
            .arg("--control")
            .arg(state.share().join("gpu").join(gpu.index.to_string()))
            .arg(format!(
                "--serial={:x}",
                0x48b0_2d00_1234_5600 + u64::from(gpu.index)
            ))
            .args(&self.gpu_arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start 'lab-gpu'")?;
        Process::find(child.id())?.record(&state.path(&format!("{name}.pid")))?;
        let is_there = wait_until(SOCKET_TIMEOUT, || {
            socket.exists() || !matches!(child.try_wait(), Ok(None))
        });
        if !is_there || !socket.exists() {
            bail!(
                "'lab-gpu' does not start: {}",
                last_lines(&state.path(&format!("{name}.log")))
            );
        }
        Ok(())
    }
}

/// Whether the QEMU of a tree has a vfio-user client.
pub fn has_vfio_user(tree: &Tree, architecture: Architecture) -> Result<bool> {
    let list = command::output(Command::new("chroot").arg(tree.root()).args([
        architecture.qemu(),
        "-device",
        "help",
    ]))?;
    Ok(list.contains("\"vfio-user-pci\""))
}

/// The last lines of a log, for an error.
pub fn last_lines(log: &Path) -> String {
    // QEMU repeats this line thousands of times while a guest maps its memory
    let noise = |line: &&str| !line.contains("iommu map to non memory area");
    let text = fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(noise).collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// The kernel's command line: an additional argument replaces an argument of the lab with the same name. Repeated `audit=` would not:
/// the kernel disables auditing for good at `audit=0` (kernel/audit.c, audit_enable).
fn command_line(mut own: Vec<String>, additional: &[String]) -> String {
    let name = |argument: &str| argument.split('=').next().unwrap_or("").to_owned();
    let replaced: Vec<String> = additional.iter().map(|argument| name(argument)).collect();
    own.retain(|argument| !replaced.contains(&name(argument)));
    own.extend(additional.iter().cloned());
    own.join(" ")
}

fn socket(gpu: &GpuSlot) -> String {
    format!("gpu{}.sock", gpu.index)
}

/// `lab-gpu` lies beside the program that runs.
fn server() -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    Ok(program.with_file_name("lab-gpu"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_additional_kernel_argument_replaces_that_of_the_lab() {
        let own = || words("rw audit=0 lsm=capability console=ttyS0");
        let line = |additional: &[&str]| {
            let additional: Vec<String> = additional.iter().map(|&one| one.to_owned()).collect();
            command_line(own(), &additional)
        };
        assert_eq!(line(&[]), "rw audit=0 lsm=capability console=ttyS0");
        assert_eq!(
            line(&["audit=1", "lsm=selinux"]),
            "rw console=ttyS0 audit=1 lsm=selinux"
        );
        assert_eq!(
            line(&["quiet", "audit_backlog_limit=9"]),
            "rw audit=0 lsm=capability console=ttyS0 quiet audit_backlog_limit=9"
        );
    }
}
