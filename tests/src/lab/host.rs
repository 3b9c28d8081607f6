//! One emulated host from start to stop.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::architecture::Architecture;
use super::cache::Cache;
use super::channel::{self, Job};
use super::config_edit::{Atomics, Memory, Selector};
use super::debian::{self, Suite, Tree};
use super::driver;
use super::foreign;
use super::image::{self, Parts};
use super::machine::{Accelerator, Boot, Machine, has_vfio_user, last_lines};
use super::packages;
use super::process::Process;
use super::progress::{Step, say};
use super::qmp::Monitor;
use super::settings::Settings;
use super::state::State;
use super::tables;
use super::topology::{PORT_ATOMICS, Topology};

const CHECKPOINT: &str = "until virsh -q list --all >/dev/null 2>&1; do sleep 0.2; done";

/// A running lab.
#[derive(Clone, Debug)]
pub struct Lab {
    state: State,
}

impl Lab {
    /// The lab of this name, if it runs.
    pub fn find(name: &str) -> Result<Option<Self>> {
        let state = State::new(name)?;
        Ok(state.is_up().then_some(Self { state }))
    }

    /// The lab of this name, and whether this call started it.
    pub fn up(name: &str, settings: &Settings) -> Result<(Self, bool)> {
        let state = State::new(name)?;
        let _lock = state.lock()?;
        if state.is_up() {
            return Ok((Self { state }, false));
        }
        state.stop()?;
        let began = Instant::now();
        let lab = Self { state };
        if let Err(error) = lab.start(settings) {
            lab.state.stop()?;
            say(&format!(
                "logs are kept in '{}'",
                lab.state.folder().display()
            ));
            return Err(error);
        }
        say(&format!(
            "lab '{name}' is up after {:.1} s",
            began.elapsed().as_secs_f32()
        ));
        Ok((lab, true))
    }

    /// Stops it, removes its folder, and returns the number of stopped processes.
    pub fn down(name: &str) -> Result<usize> {
        let state = State::new(name)?;
        let _lock = state.lock()?;
        let stopped = state.stop()?;
        state.remove()?;
        Ok(stopped)
    }

    /// Its paths.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Runs a script in it with its output on standard output, and returns the exit status.
    pub fn run(&self, script: &str, deadline: Duration) -> Result<i32> {
        Job::new(script)
            .deadline(deadline)
            .run(&self.state, &mut std::io::stdout().lock())
    }

    /// Whether it still runs jobs.
    pub fn answers(&self) -> bool {
        let job = Job::new("true").deadline(Duration::from_secs(20));
        matches!(job.collect(&self.state), Ok((0, _)))
    }

    /// Reboots it with its own command, as an operator would; the disk is kept.
    pub fn reboot(&self) -> Result<()> {
        let step = Step::begin("the emulated host starts again");
        let qemu = self.state.qemu().context("the lab is not up")?;
        let mut monitor = Monitor::connect(&self.state.path("monitor.sock"))?;
        channel::forget_agent(&self.state)?;
        monitor.call("set-action", json!({ "reboot": "reset" }))?;
        Job::new("systemctl reboot --no-block").collect(&self.state)?;
        channel::wait_for_agent(&self.state, &qemu)?;
        // a panic is to end it again
        monitor.call("set-action", json!({ "reboot": "shutdown" }))?;
        self.wait_for_libvirt()?;
        step.done();
        Ok(())
    }

    /// Writes the state of the emulated processors beside the lab's folder, to analyse a host that hangs.
    pub fn keep_registers(&self) -> Result<PathBuf> {
        let mut monitor = Monitor::connect(&self.state.path("monitor.sock"))?;
        let mut text = String::new();
        for command in ["info registers -a", "info lapic 0", "info lapic 1"] {
            text.push_str(&monitor.human(command)?);
        }
        let file = self.state.folder().with_extension("hang");
        fs::write(&file, text).with_context(|| format!("cannot write '{}'", file.display()))?;
        Ok(file)
    }

    /// Copies a file or folder into it.
    pub fn push(&self, from: &Path, to: &str) -> Result<()> {
        self.transfer(
            |parcel| copy(from, parcel),
            |parcel| format!("cp -rL {parcel} {}", quoted(to)),
        )
    }

    /// Copies a file or folder out of it.
    pub fn pull(&self, from: &str, to: &Path) -> Result<()> {
        let parcel = self.state.share().join("parcel");
        self.transfer(
            |_| Ok(()),
            |inside| format!("cp -rL {} {inside}", quoted(from)),
        )?;
        copy(&parcel, to)?;
        super::cache::remove(&parcel)
    }

    /// Sets the AtomicOp bits of the emulated port with this slot number.
    pub fn set_atomics(&self, slot: u16, bits: u32) -> Result<u32> {
        let qemu = self.state.qemu().context("the lab is not up")?;
        Memory::open(qemu.pid())?.set_atomics(&Selector::Slot(slot), open(bits))
    }

    fn transfer(
        &self,
        prepare: impl FnOnce(&Path) -> Result<()>,
        script: impl FnOnce(&str) -> String,
    ) -> Result<()> {
        let parcel = self.state.share().join("parcel");
        super::cache::remove(&parcel)?;
        prepare(&parcel)?;
        let (status, output) = Job::new(script("/share/parcel")).collect(&self.state)?;
        if status != 0 {
            bail!("cannot copy: {}", output.trim());
        }
        Ok(())
    }

    fn start(&self, settings: &Settings) -> Result<()> {
        settings.check()?;
        let cache = Cache::open()?;
        let (machine, image) = prepare(&cache, settings)?;
        let acpi = tables::build(&cache, &machine, &image, settings.sorted_srat)?;
        let packages = packages_disk(&cache, settings)?;
        self.state.create()?;
        let mut used: Vec<&Path> = vec![&machine.tree.artefact, &image, &acpi];
        if let Some(disk) = &packages {
            self.state.set_packages(disk)?;
            used.push(disk);
        }
        self.note(&used)?;
        let gpus = machine.topology.gpus.len();
        self.state.set_kind(
            settings.architecture,
            settings.modules,
            gpus,
            &settings.kernel_arguments,
        )?;
        join(
            &[&acpi.join("early.cpio"), &image.join("initrd.cpio")],
            &self.state.path("initrd.cpio"),
        )?;
        let boot = Boot {
            image,
            acpi: Some(acpi),
            initrd: "initrd.cpio",
            keep: false,
            paused: true,
        };
        let step = Step::begin("starting the emulated host");
        let qemu = machine.start(&self.state, &boot)?;
        // QMP sends its greeting once all devices exist
        let mut monitor =
            Monitor::connect(&self.state.path("monitor.sock")).with_context(|| {
                format!(
                    "QEMU does not start: {}",
                    last_lines(&self.state.path("qemu.log"))
                )
            })?;
        self.set_port_atomics(&qemu, &machine.topology, settings)?;
        monitor.execute("cont")?;
        channel::wait_for_agent(&self.state, &qemu)?;
        self.wait_for_libvirt()?;
        fs::write(self.state.path("ready"), "").context("cannot note that the lab is up")?;
        step.done();
        Ok(())
    }

    fn note(&self, artefacts: &[&Path]) -> Result<()> {
        let text: String = artefacts
            .iter()
            .map(|path| format!("{}\n", path.display()))
            .collect();
        fs::write(self.state.path("artefacts"), text).context("cannot note what the lab uses")
    }

    fn set_port_atomics(
        &self,
        qemu: &Process,
        topology: &Topology,
        settings: &Settings,
    ) -> Result<()> {
        let memory = Memory::open(qemu.pid())?;
        let own = topology.gpus.iter().map(|gpu| (gpu.slot, PORT_ATOMICS));
        for (slot, bits) in own.chain(settings.atomics.iter().copied()) {
            memory
                .set_atomics(&Selector::Slot(slot), open(bits))
                .with_context(|| format!("cannot set AtomicOp bits of slot {slot}"))?;
        }
        Ok(())
    }

    fn wait_for_libvirt(&self) -> Result<()> {
        let job = Job::new(CHECKPOINT).deadline(Duration::from_secs(120));
        let (status, output) = job.collect(&self.state)?;
        if status != 0 {
            bail!(
                "libvirt does not answer in the emulated host: {}\nend of its console:\n{}",
                output.trim(),
                last_lines(&self.state.console())
            );
        }
        Ok(())
    }
}

/// Bits of a port that blocks nothing.
fn open(bits: u32) -> Atomics {
    Atomics {
        bits,
        egress_blocked: false,
    }
}

/// Makes the artefacts, or takes them from the cache.
fn prepare(cache: &Cache, settings: &Settings) -> Result<(Machine, PathBuf)> {
    let architecture = settings.architecture;
    let (outer, tree) = trees(cache, settings)?;
    let driver = driver::build(cache, &tree, architecture, settings.modules)?;
    let parts = Parts {
        outer: &outer,
        tree: &tree,
        driver: &driver,
        architecture,
    };
    let kind = format!("{}{}", architecture.suffix(), settings.modules.suffix());
    let image = image::build(cache, parts, &kind)?;
    let gpus = possible_gpus(&outer, settings)?;
    let mut machine = Machine {
        tree: outer,
        topology: Topology::new(architecture, gpus, settings.gpu_memory),
        accelerator: Accelerator::Tcg,
        gpu_arguments: settings.gpu_arguments.clone(),
        kernel_arguments: settings.kernel_arguments.clone(),
    };
    machine.accelerator = match settings.accelerator {
        Some(accelerator) => accelerator,
        None if architecture != Architecture::X86_64 => Accelerator::Tcg,
        None if tables::kvm_works(cache, &machine, &image)? => Accelerator::Kvm,
        None => Accelerator::Tcg,
    };
    Ok((machine, image))
}

/// The disk with the packages of the settings, if there are any.
fn packages_disk(cache: &Cache, settings: &Settings) -> Result<Option<PathBuf>> {
    if settings.packages.is_empty() {
        return Ok(None);
    }
    let (_, tree) = trees(cache, settings)?;
    packages::build(cache, &tree, &settings.packages).map(Some)
}

/// The tree of QEMU, and the tree of the host.
fn trees(cache: &Cache, settings: &Settings) -> Result<(Tree, Tree)> {
    if settings.architecture != Architecture::X86_64 {
        let newest = debian::host_tree(cache, Suite::Testing, settings.fresh)?;
        let outer = foreign::outer_tree(cache, &newest, settings.architecture)?;
        let model = match settings.suite {
            Suite::Testing => newest,
            suite => debian::host_tree(cache, suite, settings.fresh)?,
        };
        let tree = foreign::host_tree(cache, &model, settings.architecture)?;
        return Ok((outer, tree));
    }
    let outer = outer_tree(cache, settings.fresh)?;
    // testing was tried for the outer tree; after a failure it is not tried again
    let tree = match settings.suite {
        suite if suite == outer.suite || suite == Suite::Testing => outer.clone(),
        suite => debian::host_tree(cache, suite, settings.fresh)?,
    };
    Ok((outer, tree))
}

fn possible_gpus(outer: &Tree, settings: &Settings) -> Result<u32> {
    let wanted = settings.gpu_count()?;
    if wanted == 0 || has_vfio_user(outer, settings.architecture)? {
        return Ok(wanted);
    }
    say(&format!(
        "QEMU of Debian {} has no vfio-user-pci: the lab has no synthetic GPU",
        outer.suite
    ));
    Ok(0)
}

/// The suite of QEMU: testing, or stable if testing is not available.
fn outer_tree(cache: &Cache, fresh: bool) -> Result<Tree> {
    debian::host_tree(cache, Suite::Testing, fresh).or_else(|error| {
        say(&format!("Debian testing cannot be used: {error:#}"));
        say("going on with Debian stable: its QEMU cannot have the synthetic GPUs, so only plain devices remain");
        debian::host_tree(cache, Suite::Stable, fresh)
    })
}

fn join(parts: &[&Path], whole: &Path) -> Result<()> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend(fs::read(part).with_context(|| format!("cannot read '{}'", part.display()))?);
    }
    fs::write(whole, bytes).with_context(|| format!("cannot write '{}'", whole.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    super::command::run(
        std::process::Command::new("cp")
            .arg("-rLT")
            .arg(from)
            .arg(to),
    )
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
