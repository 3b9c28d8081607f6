//! Starts QEMU with EDK2 and test devices instead of GPUs in the windows of `tests/data/windows.toml`, and reads the addresses that
//! firmware gave to their BARs.
//!
//! A test device is one slot with a `pci-testdev` per BAR: firmware places all BARs of a port, independent of their function.
//! It does not test how a guest's kernel moves the BARs later.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::lab::cache::Cache;
use crate::lab::debian::{self, Suite};
use crate::lab::process::wait_until;
use crate::lab::qmp::Monitor;

const TABLE: &str = "data/windows.toml";
const EMULATOR: &str = "/usr/bin/qemu-system-aarch64";
const FIRMWARE: &str = "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd";

/// Without a disk firmware stops here, after it has assigned all addresses.
const READY: &str = "BdsDxe";
const TIMEOUT: Duration = Duration::from_secs(180);

/// The address of config space of `virt` (VIRT_HIGH_PCIE_ECAM, hw/arm/virt.c) with up to 255 GiB of memory.
const ECAM: u64 = 0x40_1000_0000;

/// The BAR of a `pci-testdev` with the given size (hw/misc/pci-testdev.c).
const BAR: u64 = 0x18;

/// The smallest window that QEMU accepts, in GiB.
const LEAST: u64 = 512;

#[derive(Deserialize)]
struct Table {
    kind: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    name: String,
    bars_mib: Vec<u64>,
    window_gib: Vec<u64>,
}

/// Tries this number of GPUs of each kind (all numbers without a count); returns whether each window is right.
pub fn run(counts: &[usize]) -> Result<bool> {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE);
    let table: Table = toml::from_str(&fs::read_to_string(table)?)?;
    let tree = debian::translate_tree(&Cache::open()?, Suite::Testing, false)?;
    let root = tree.root();
    let mut right = true;
    println!("kind   GPUs  expanders  window GiB  placed  in half");
    for kind in &table.kind {
        for (count, window) in (1..).zip(&kind.window_gib) {
            if !counts.is_empty() && !counts.contains(&count) {
                continue;
            }
            for expanders in [true, false] {
                let tried = |gib| Machine::start(&root, kind, count, expanders, gib)?.placed();
                let whole = tried(*window)?;
                let half = (window / 2 >= LEAST)
                    .then(|| tried(window / 2))
                    .transpose()?;
                let all = count * kind.bars_mib.len();
                right &= whole == all && half.is_none_or(|half| half < all);
                let half = half.map_or("-".to_owned(), |half| format!("{half}/{all}"));
                let placed = format!("{whole}/{all}");
                let (name, yes) = (&kind.name, if expanders { "yes" } else { "no" });
                println!("{name:<6} {count:>4}  {yes:<9} {window:>11} {placed:>7}  {half:>7}");
            }
        }
    }
    Ok(right)
}

/// A QEMU whose firmware has run.
struct Machine {
    qemu: Child,
    monitor: Option<Monitor>,
    socket: PathBuf,
}

impl Machine {
    fn start(root: &Path, kind: &Kind, count: usize, expanders: bool, gib: u64) -> Result<Self> {
        let inside = format!("/tmp/variantd-windows-{}.qmp", std::process::id());
        let socket = root.join(inside.trim_start_matches('/'));
        let console = tempfile::NamedTempFile::new()?;
        let qemu = Command::new("chroot")
            .arg(root)
            .args(["setpriv", "--pdeathsig", "KILL", EMULATOR])
            .args([
                "-machine",
                &format!("virt,gic-version=3,highmem-mmio-size={gib}G"),
            ])
            .args([
                "-cpu",
                "neoverse-n2",
                "-m",
                "512",
                "-nodefaults",
                "-display",
                "none",
            ])
            .args(["-bios", FIRMWARE, "-serial", "stdio"])
            .args(["-qmp", &format!("unix:{inside},server=on,wait=off")])
            .args(devices(kind, count, expanders))
            .stdin(Stdio::null())
            .stdout(console.reopen()?)
            .stderr(console.reopen()?)
            .spawn()
            .context("cannot run QEMU")?;
        let mut machine = Self {
            qemu,
            monitor: None,
            socket,
        };
        let printed = || fs::read(console.path()).unwrap_or_default();
        let text = || String::from_utf8_lossy(&printed()).into_owned();
        let mut ended = false;
        wait_until(TIMEOUT, || {
            ended = !matches!(machine.qemu.try_wait(), Ok(None));
            ended || text().contains(READY)
        });
        ensure!(
            !ended && text().contains(READY),
            "firmware does not get through: {}",
            text().trim()
        );
        machine.monitor = Some(connect(&machine.socket)?);
        Ok(machine)
    }

    /// The number of BARs with an address within the window of their port.
    fn placed(mut self) -> Result<usize> {
        let mut monitor = self.monitor.take().context("no monitor")?;
        let buses = monitor.execute("query-pci")?;
        let mut placed = 0;
        for bridge in bridges(&buses) {
            let range = &bridge["bus"]["prefetchable_range"];
            let (base, limit) = (number(&range["base"])?, number(&range["limit"])?);
            for function in bridge["devices"].as_array().into_iter().flatten() {
                let at = address(&mut monitor, function)?;
                placed += usize::from(at >= 1 << 32 && (base..limit).contains(&at));
            }
        }
        Ok(placed)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        let _ = fs::remove_file(&self.socket);
    }
}

/// Arguments for test devices, each on a root port, and for a small device on the guest's root bus.
fn devices(kind: &Kind, count: usize, expanders: bool) -> Vec<String> {
    let mut devices = vec![
        "pcie-root-port,id=others,bus=pcie.0,chassis=99".to_owned(),
        "pci-testdev,bus=others,membar=1M".to_owned(),
    ];
    for gpu in 0..count {
        let mut bus = "pcie.0".to_owned();
        if expanders {
            let number = 254 - 2 * gpu;
            bus = format!("pxb{gpu}");
            devices.push(format!("pxb-pcie,id={bus},bus=pcie.0,bus_nr={number}"));
        }
        let chassis = gpu + 1;
        devices.push(format!(
            "pcie-root-port,id=rp{gpu},bus={bus},chassis={chassis}"
        ));
        let functions = kind.bars_mib.iter().enumerate();
        devices.extend(functions.map(|(function, mib)| {
            format!("pci-testdev,bus=rp{gpu},addr=0.{function},multifunction=on,membar={mib}M")
        }));
    }
    let pairs = devices.into_iter();
    pairs
        .flat_map(|device| ["-device".to_owned(), device])
        .collect()
}

/// The ports of test devices, on all root buses.
fn bridges(buses: &Value) -> impl Iterator<Item = &Value> {
    let devices = buses.as_array().into_iter().flatten();
    let devices = devices.flat_map(|bus| bus["devices"].as_array().into_iter().flatten());
    let ports = devices.filter(|device| {
        let name = device["qdev_id"].as_str().unwrap_or_default();
        name.starts_with("rp")
    });
    ports.map(|device| &device["pci_bridge"])
}

/// The address in the BAR's registers. Memory decoding is off without a driver, so QEMU does not report an address.
fn address(monitor: &mut Monitor, function: &Value) -> Result<u64> {
    let of = |name: &str| number(&function[name]);
    let offset = (of("bus")? << 20) | (of("slot")? << 15) | (of("function")? << 12) | BAR;
    let text = monitor.human(&format!("xp /2wx {:#x}", ECAM + offset))?;
    let words = text.split_once(':').map(|(_, words)| words);
    let words = words.unwrap_or_default().split_whitespace();
    let words: Option<Vec<u64>> = words
        .map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok())
        .collect();
    match words.as_deref() {
        Some([low, high]) => Ok((high << 32) | (low & !0xf)),
        _ => Err(anyhow!("QEMU shows no config space, but '{}'", text.trim())),
    }
}

fn number(value: &Value) -> Result<u64> {
    value
        .as_u64()
        .with_context(|| format!("'{value}' is not a number"))
}

/// Connects through the folder's descriptor, because the path can be too long for a socket address.
fn connect(socket: &Path) -> Result<Monitor> {
    let folder = File::open(socket.parent().context("a socket without a folder")?)?;
    let name = socket.file_name().context("a socket without a name")?;
    Monitor::connect(&PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))
}
