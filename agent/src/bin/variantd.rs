//! The agent: completes definitions, binds and releases devices, serves `org.variantd1`.

use std::io::{self, Write};
use std::panic;
use std::path::PathBuf;
use std::process::ExitCode;

use agent::bus;
use agent::daemon::{self, Daemon, Places, StartError};
use agent::downgrade::{self, DowngradeError, PackageVersion};
use agent::log;
use anyhow::Context;
use api::name::SERVICE;
use clap::Parser;
use kernel_glue::address::PciAddress;
use settings::config;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info};

/// Exit status of an agent that finds another agent running.
const SECOND: u8 = 5;

/// Assigns GPUs that need a VFIO variant driver to libvirt guests.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file.
    #[arg(long, default_value = config::PATH)]
    config: PathBuf,
    /// Directory for state that a reboot may remove.
    #[arg(long, default_value = "/run/variantd")]
    run_dir: PathBuf,
    /// Directory for state that must survive a reboot.
    #[arg(long, default_value = daemon::STATE)]
    state_dir: PathBuf,
    /// libvirt's connection URI.
    #[arg(long, default_value = "qemu:///system")]
    connect: String,
    /// Bind the reserved devices and exit: variantd-reserve.service runs this at boot.
    #[arg(long)]
    reserve: bool,
    /// Claim a device that has just appeared if it is reserved, and print the driver for its driver_override: the udev
    /// rule runs this.
    #[arg(long, value_name = "DEVICE", conflicts_with = "reserve")]
    reserved: Option<PciAddress>,
    /// Write the records in the form that this older version reads, and exit; the agent must have ended. The package's scripts run
    /// this before they install it.
    #[arg(long, value_name = "VERSION", conflicts_with_all = ["reserve", "reserved"])]
    downgrade: Option<PackageVersion>,
    /// With --downgrade: only print what that version cannot use. The agent may run.
    #[arg(long, requires = "downgrade")]
    check: bool,
    /// Directory that contains the host's sys and proc.
    #[arg(long, default_value = "/", hide = true)]
    root: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log::begin();
    if let Some(device) = arguments.reserved {
        return reserved(&arguments.into(), device);
    }
    if let Some(version) = arguments.downgrade.clone() {
        let is_check = arguments.check;
        return downgrade(&arguments.into(), &version, is_check);
    }
    if arguments.reserve {
        return reserve(&arguments.into());
    }
    let served = match runtime() {
        Ok(runtime) => {
            let served = runtime.block_on(serve(arguments.into()));
            // A thread that waits for the kernel or libvirt must not delay the exit.
            runtime.shutdown_background();
            served
        }
        Err(error) => Err(error),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            match error.downcast_ref::<StartError>() {
                Some(error) if error.is_second() => ExitCode::from(SECOND),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// tokio panics if it cannot create the descriptors for signals (tokio 1.54, signal/unix.rs): returns an error instead.
fn runtime() -> anyhow::Result<Runtime> {
    let hook = panic::take_hook();
    // The panic is turned into an error below; its usual message would only confuse.
    panic::set_hook(Box::new(|_| {}));
    let built = panic::catch_unwind(|| {
        // Threads of the pool run at lower priority than this loop, which must read the bus as fast as clients send.
        let mut builder = Builder::new_current_thread();
        builder
            .on_thread_start(bus::lower_priority)
            .enable_all()
            .build()
    });
    panic::set_hook(hook);
    match built {
        Ok(runtime) => Ok(runtime.context("cannot start the task runtime")?),
        Err(why) => {
            let why = why.downcast_ref::<String>().map_or("", String::as_str);
            anyhow::bail!("cannot handle signals: {why}")
        }
    }
}

/// Fails if a reservation is not in force; the others are.
fn reserve(places: &Places) -> ExitCode {
    match daemon::reserve(places) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            error!(
                "cannot apply the reservations: {:#}",
                anyhow::Error::from(error)
            );
            ExitCode::FAILURE
        }
    }
}

/// Fails if the version cannot use the state; the records then stay as they are.
fn downgrade(places: &Places, version: &PackageVersion, is_check: bool) -> ExitCode {
    let done = match is_check {
        true => match downgrade::obstacles(&places.run, &places.config, version) {
            found if found.is_empty() => Ok(0),
            found => Err(DowngradeError::Refused(found)),
        },
        false => downgrade::convert(places.run.clone(), &places.config, version),
    };
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(records) => {
            println!("variantd: {records} devices are recorded in the form of variantd {version}");
            ExitCode::SUCCESS
        }
        Err(DowngradeError::Refused(refusals)) => {
            for refusal in refusals {
                let _ = writeln!(io::stderr(), "variantd: {refusal}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            let _ = writeln!(
                io::stderr(),
                "variantd: cannot write the records for variantd {version}: {error}"
            );
            match error {
                DowngradeError::Instance(_) => ExitCode::from(SECOND),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Fails if the device must not be touched.
fn reserved(places: &Places, device: PciAddress) -> ExitCode {
    match daemon::reserved(places, device) {
        Ok(Some(driver)) => {
            println!("{driver}");
            ExitCode::SUCCESS
        }
        Ok(None) => ExitCode::FAILURE,
        Err(error) => {
            error!("cannot claim '{device}': {:#}", anyhow::Error::from(error));
            ExitCode::FAILURE
        }
    }
}

async fn serve(places: Places) -> anyhow::Result<()> {
    // Before the start: a signal during the start is then kept, and does not end the process in the middle of a change.
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut agent = daemon::start(&places).await?;
    info!("variantd {} serves", env!("CARGO_PKG_VERSION"));
    let ended = until_end(&mut agent, [&mut hangup, &mut terminate, &mut interrupt]).await;
    agent.metrics.end().await;
    ended?;
    agent.supervisor.stopping();
    info!("variantd ends; guests and devices are not changed");
    Ok(())
}

/// Serves until a signal, or until nothing needs the agent.
async fn until_end(
    agent: &mut Daemon,
    [hangup, terminate, interrupt]: [&mut Signal; 3],
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            () = agent.idle.reached() => {
                info!("exiting, because nothing needs variantd ('idle_exit' in variantd.conf)");
                // From now on a call starts a new agent.
                if let Some(socket) = &agent.socket {
                    // First the hook's socket, then the name: a call that comes in between finds either this agent or systemd's activation.
                    socket.close().await;
                }
                bus::release(&agent.manager, SERVICE).await?;
                return Ok(());
            }
            name = agent.lost.name() => anyhow::bail!("another process has taken the name '{name}' \
                on the system bus"),
            () = agent.manager.closed() => anyhow::bail!("the connection to the system bus is closed"),
            _ = hangup.recv() => {
                if let Err(reason) = (agent.reload)() {
                    error!("cannot reload: {reason}");
                }
            }
        }
    }
}

impl From<Arguments> for Places {
    fn from(arguments: Arguments) -> Self {
        Self {
            config: arguments.config,
            run: arguments.run_dir,
            state: arguments.state_dir,
            root: arguments.root,
            uri: arguments.connect,
        }
    }
}
