//! `lab-gpu`: serves one synthetic GPU to one client (the lab's QEMU) and exits when the client disconnects.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use tests::gpu::readiness::Delay;
use tests::gpu::{Gpu, Identity, Readiness};
use vfio_user::Server;

#[derive(Parser)]
#[command(about = "A synthetic Grace GPU as a vfio-user server")]
struct Arguments {
    /// Socket to listen on; it must not exist
    #[arg(long)]
    socket: PathBuf,
    /// PCI device id
    #[arg(long, default_value = "2342", value_parser = hex16)]
    device: u16,
    /// PCI subsystem device id
    #[arg(long, default_value = "16eb", value_parser = hex16)]
    subdevice: u16,
    /// Device serial number
    #[arg(long, default_value = "48b02d0012345678", value_parser = hex64)]
    serial: u64,
    /// AtomicOp bits of Device Capabilities 2
    #[arg(long, default_value = "380", value_parser = hex32)]
    atomics: u32,
    /// Report memory and link as ready this many milliseconds after a reset
    #[arg(long, default_value_t = 0)]
    ready_ms: u64,
    /// Never report memory and link as ready
    #[arg(long, conflicts_with = "ready_ms")]
    never_ready: bool,
    /// File that overrides readiness while it exists: 'never', milliseconds, or these and 'asked'
    #[arg(long)]
    control: Option<PathBuf>,
    /// Add NVIDIA's capability for MIG with cached memory
    #[arg(long)]
    mig_fixed: bool,
    /// Add the CXL device capability, from which the driver then reads readiness
    #[arg(long)]
    cxl: bool,
    /// Print each access
    #[arg(long, short)]
    verbose: bool,
}

fn main() -> ExitCode {
    match serve(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab-gpu: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> Result<()> {
    let delay = match arguments.never_ready {
        true => Delay::Never,
        false => Delay::After(Duration::from_millis(arguments.ready_ms)),
    };
    let readiness = Readiness::new(delay, arguments.control.clone());
    let mut gpu = Gpu::new(&identity(arguments), readiness, arguments.verbose);
    let place = || format!("cannot listen on '{}'", arguments.socket.display());
    let made = arguments.socket.with_extension("new");
    let server = Server::new(&made, true, Gpu::interrupts(), Gpu::regions()).with_context(place)?;
    // 'bind' creates the file before it listens: the name that the lab waits for appears with a listener.
    fs::rename(&made, &arguments.socket).with_context(place)?;
    server.run(&mut gpu).context("cannot serve the client")
}

fn identity(arguments: &Arguments) -> Identity {
    Identity {
        device: arguments.device,
        subdevice: arguments.subdevice,
        serial: arguments.serial,
        atomics: arguments.atomics,
        mig_fixed: arguments.mig_fixed,
        cxl: arguments.cxl,
        ..Identity::default()
    }
}

fn digits(text: &str) -> &str {
    text.strip_prefix("0x").unwrap_or(text)
}

fn hex16(text: &str) -> Result<u16, std::num::ParseIntError> {
    u16::from_str_radix(digits(text), 16)
}

fn hex32(text: &str) -> Result<u32, std::num::ParseIntError> {
    u32::from_str_radix(digits(text), 16)
}

fn hex64(text: &str) -> Result<u64, std::num::ParseIntError> {
    u64::from_str_radix(digits(text), 16)
}
