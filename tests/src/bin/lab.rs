//! `lab`: starts, uses and stops the emulated Grace host.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use tests::lab::architecture::Architecture;
use tests::lab::cache::Cache;
use tests::lab::debian::Suite;
use tests::lab::driver::Modules;
use tests::lab::machine::Accelerator;
use tests::lab::progress::say;
use tests::lab::settings::SMALLEST_GPU_MEMORY;
use tests::lab::size::Size;
use tests::lab::{Lab, Settings, check, emulator, package, shell, state, trace, walk};
use tests::{translate, windows};

#[derive(Parser)]
#[command(
    name = "tests/lab",
    about = "An emulated Grace host: real kernel, driver, libvirt and QEMU, synthetic GPUs",
    after_help = "The cache is in $VARIANTD_LAB_CACHE, else /var/cache/variantd-lab. Debian's archive is $VARIANTD_LAB_MIRROR, else apt's."
)]
struct Arguments {
    /// Name of the lab, to run several
    #[arg(long, global = true, default_value = "default")]
    name: String,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start it; the first time this builds it from Debian's packages
    Up(Options),
    /// Run a bash script in it; starts it if necessary
    Run {
        /// Stop the script after this many seconds, with status 124
        #[arg(long, default_value_t = 300)]
        timeout: u64,
        /// The script's text instead of a file
        #[arg(short = 'c', long, value_name = "TEXT")]
        command: Option<String>,
        /// The script's file ('-' for standard input)
        #[arg(required_unless_present = "command", conflicts_with = "command")]
        script: Option<PathBuf>,
    },
    /// Open a shell in it; starts it if necessary
    Shell,
    /// Copy a file or folder into it
    Push {
        /// Here
        from: PathBuf,
        /// There
        to: String,
    },
    /// Copy a file or folder out of it
    Pull {
        /// There
        from: String,
        /// Here
        to: PathBuf,
    },
    /// Set AtomicOp bits (DEVCAP2 bits 6 to 9) of an emulated port or device
    Atomics {
        /// 'slot=N' or a PCI address of the emulated host
        selector: String,
        /// Hexadecimal, for example 380; '40+blocked' also blocks egress
        bits: String,
    },
    /// Set when a synthetic GPU is ready after a reset
    Gpu {
        /// 0, 1, ...
        index: u32,
        /// 'ready', 'never', milliseconds, or '3000 asked': counted from the first read after the reset
        readiness: String,
    },
    /// Stop it
    Down,
    /// List the labs
    Status,
    /// Run the commands of a new user, and compare them with packaging/doc/first-hour.md
    Demo {
        #[command(flatten)]
        options: Options,
        /// Write packaging/doc/first-hour.md instead of comparing
        #[arg(long)]
        write: bool,
        /// This package of 'packaging/build' instead of one that is built now
        #[arg(long, value_name = "FILE")]
        package: Option<PathBuf>,
    },
    /// Translate golden definitions with the real libvirt and QEMU of Debian's releases
    Translate {
        /// Only this suite; may be repeated
        #[arg(long, value_enum)]
        suite: Vec<Suite>,
        /// Write the golden arguments instead of comparing
        #[arg(long)]
        update: bool,
        /// Check Debian's archive even if the cache is recent
        #[arg(long)]
        fresh: bool,
        /// Only these cases (folders of tests/data/case)
        names: Vec<String>,
    },
    /// Record what the libvirt and QEMU of Debian's releases tell about themselves (tests/data/stack), or compare it
    Stacks {
        /// Only this suite; may be repeated
        #[arg(long, value_enum)]
        suite: Vec<Suite>,
        /// Write the texts instead of comparing; then run 'cargo xtask regen stacks'
        #[arg(long)]
        update: bool,
        /// Check Debian's archive even if the cache is recent
        #[arg(long)]
        fresh: bool,
    },
    /// Compare the planned MMIO windows with QEMU and EDK2 (one start takes about 10 s)
    Windows {
        /// Only this number of GPUs of each kind; 1 to 8
        counts: Vec<usize>,
    },
    /// Print the path of an emulator that runs single programs for aarch64 (tests/arm64)
    Emulator {
        /// Look at Debian's archive even if the cache is recent
        #[arg(long)]
        fresh: bool,
    },
    /// Define each file of a folder with the real libvirt and write what libvirt formats (tests/differential)
    Define {
        /// The suite of libvirt
        #[arg(long, value_enum, default_value_t)]
        suite: Suite,
        /// Definitions, as *.xml
        from: PathBuf,
        /// An existing folder for the XML that libvirt formats
        to: PathBuf,
    },
    /// Install the package and run the scenarios
    Check {
        #[command(flatten)]
        options: Options,
        /// Do not build and install the package
        #[arg(long)]
        no_package: bool,
        /// Install this package of 'packaging/build' instead of one that is built now
        #[arg(long, value_name = "FILE", conflicts_with = "no_package")]
        package: Option<PathBuf>,
        /// Deadline of each scenario in seconds, unless its head has another ('# deadline: N')
        #[arg(long, default_value_t = 300)]
        timeout: u64,
        /// An existing folder that several runs share: a scenario runs in the one that takes it first
        #[arg(long, value_name = "FOLDER")]
        share: Option<PathBuf>,
        /// A variable for the scenarios, for example --set ROUNDS=100; may be repeated
        #[arg(long, value_name = "NAME=VALUE")]
        set: Vec<check::Setting>,
        /// Print the system calls of variantd's units at the end, and fail if a sandbox denied one; in a lab of its own
        #[arg(long)]
        trace: bool,
        /// Only these scenarios; a name that matches none selects those that contain it
        names: Vec<String>,
    },
}

#[derive(Args)]
struct Options {
    /// Check Debian's archive even if the cache is recent
    #[arg(long)]
    fresh: bool,
    /// Suite of the emulated host
    #[arg(long, value_enum, default_value_t)]
    suite: Suite,
    /// Processor of the emulated host
    #[arg(long, value_enum, default_value_t)]
    arch: Architecture,
    /// Build iommufd and VFIO's character devices for its kernel; Debian's kernel lacks them
    #[arg(long)]
    iommufd: bool,
    /// Number of synthetic GPUs: 0 to 4 [default: 2], on aarch64 0 or 1 [default: 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=4))]
    gpus: Option<u32>,
    /// Memory of each synthetic GPU, with M or G; the start of a guest maps all of it
    #[arg(long, default_value_t = SMALLEST_GPU_MEMORY)]
    gpu_memory: Size,
    /// Order of the firmware's initiator entries; with 'unsorted' node ids differ from proximity domains
    #[arg(long, value_enum, default_value_t)]
    srat: Order,
    /// AtomicOp bits of a port: SLOT=HEX (GPU ports are slots 1 to 4, others 11 to 16)
    #[arg(long, value_parser = slot_bits)]
    atomics: Vec<(u16, u32)>,
    /// An additional argument for the GPU servers, for example --gpu-argument=--cxl
    #[arg(long, allow_hyphen_values = true)]
    gpu_argument: Vec<String>,
    /// An additional kernel argument, for example intel_iommu=off
    #[arg(long)]
    kernel_argument: Vec<String>,
    /// Accelerator of the emulated processors
    #[arg(long, value_enum, default_value_t)]
    accelerator: Choice,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Order {
    #[default]
    Sorted,
    Unsorted,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Choice {
    /// KVM if a trial succeeds, else TCG
    #[default]
    Auto,
    Tcg,
    Kvm,
}

impl Options {
    fn settings(&self) -> Settings {
        Settings {
            architecture: self.arch,
            modules: match self.iommufd {
                true => Modules::Iommufd,
                false => Modules::Driver,
            },
            suite: self.suite,
            fresh: self.fresh,
            gpus: self.gpus,
            gpu_memory: self.gpu_memory,
            sorted_srat: self.srat == Order::Sorted,
            atomics: self.atomics.clone(),
            gpu_arguments: self.gpu_argument.clone(),
            kernel_arguments: self.kernel_argument.clone(),
            packages: Vec::new(),
            accelerator: match self.accelerator {
                Choice::Auto => None,
                Choice::Tcg => Some(Accelerator::Tcg),
                Choice::Kvm => Some(Accelerator::Kvm),
            },
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match act(&arguments) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(arguments: &Arguments) -> Result<u8> {
    let name = arguments.name.as_str();
    match &arguments.verb {
        Verb::Up(options) => up(name, options),
        Verb::Run {
            timeout,
            command,
            script,
        } => {
            let text = text_of(command.as_deref(), script.as_ref())?;
            started(name)?
                .run(&text, Duration::from_secs(*timeout))
                .map(status)
        }
        Verb::Shell => shell::attach(started(name)?.state()).map(|()| 0),
        Verb::Push { from, to } => running(name)?.push(from, to).map(|()| 0),
        Verb::Pull { from, to } => running(name)?.pull(from, to).map(|()| 0),
        Verb::Atomics { selector, bits } => outside(name, &["atomics", selector, bits]),
        Verb::Gpu { index, readiness } => outside(name, &["gpu", &index.to_string(), readiness]),
        Verb::Down => down(name),
        Verb::Status => Ok(show_status()),
        Verb::Demo {
            options,
            write,
            package,
        } => demo(name, options, *write, package.as_deref()),
        Verb::Translate {
            suite,
            update,
            fresh,
            names,
        } => {
            let passed = translate::run(chosen(suite), names, *update, *fresh)?;
            Ok(u8::from(!passed))
        }
        Verb::Stacks {
            suite,
            update,
            fresh,
        } => {
            let same = translate::record::run(chosen(suite), *update, *fresh)?;
            Ok(u8::from(!same))
        }
        Verb::Windows { counts } => Ok(u8::from(!windows::run(counts)?)),
        Verb::Emulator { fresh } => {
            let path = emulator::user_emulator(&Cache::open()?, *fresh)?;
            println!("{}", path.display());
            Ok(0)
        }
        Verb::Define { suite, from, to } => translate::define::run(*suite, from, to).map(|()| 0),
        Verb::Check {
            options,
            no_package,
            package,
            timeout,
            share,
            set,
            trace: is_traced,
            names,
        } => {
            let mut settings = Settings {
                packages: check::packages(names)?,
                ..options.settings()
            };
            settings
                .kernel_arguments
                .extend(check::kernel_arguments(names)?);
            if *is_traced {
                ensure!(
                    options.arch == Architecture::X86_64,
                    "--trace has the numbers of x86-64's system calls: leave out --arch"
                );
                let own = trace::KERNEL_ARGUMENTS.map(str::to_owned);
                settings.kernel_arguments.extend(own);
            }
            let commits = check::commits(names)?;
            let needs_page = check::needs_page(names)?;
            let ready = || -> Result<Lab> {
                let (lab, _) = Lab::up(name, &settings)?;
                if !no_package {
                    package::install(&lab, package.as_deref())?;
                }
                package::deliver_commits(&lab, &commits)?;
                if needs_page {
                    package::deliver_page(&lab)?;
                }
                if *is_traced {
                    trace::begin(&lab)?;
                }
                Ok(lab)
            };
            let restart = || Lab::down(name).and_then(|_| ready());
            let deadline = Duration::from_secs(*timeout);
            let choice = check::Choice {
                names,
                settings: set,
                shared: share.as_deref(),
            };
            let passed = check::run(ready()?, &choice, deadline, restart)?;
            let is_clean = !is_traced || show_trace(&running(name)?)?;
            Ok(u8::from(!(passed && is_clean)))
        }
    }
}

/// Prints the system calls of variantd's units; says whether none was denied.
fn show_trace(lab: &Lab) -> Result<bool> {
    let trace = trace::end(lab)?;
    print!("{trace}");
    Ok(!trace.has_denied())
}

/// These suites; without any, all of the golden cases.
fn chosen(suites: &[Suite]) -> &[Suite] {
    match suites.is_empty() {
        true => &translate::SUITES,
        false => suites,
    }
}

fn up(name: &str, options: &Options) -> Result<u8> {
    let (lab, is_new) = Lab::up(name, &options.settings())?;
    if !is_new {
        say(&format!("lab '{name}' is up already"));
    }
    say(&format!("console: '{}'", lab.state().console().display()));
    Ok(0)
}

fn down(name: &str) -> Result<u8> {
    match Lab::down(name)? {
        0 => say(&format!("lab '{name}' was not up")),
        _ => say(&format!("lab '{name}' is down")),
    }
    Ok(0)
}

fn demo(name: &str, options: &Options, write: bool, package: Option<&Path>) -> Result<u8> {
    let (lab, _) = Lab::up(name, &options.settings())?;
    // the walk installs it
    package::deliver(&lab, package)?;
    let walk = walk::take(&lab, Duration::from_secs(900))?;
    match write {
        true => walk.write().map(|()| 0),
        false => walk.compare().map(|same| u8::from(!same)),
    }
}

fn started(name: &str) -> Result<Lab> {
    Ok(Lab::up(name, &Settings::default())?.0)
}

fn running(name: &str) -> Result<Lab> {
    Lab::find(name)?.with_context(|| format!("lab '{name}' is not up: run 'tests/lab up'"))
}

fn outside(name: &str, words: &[&str]) -> Result<u8> {
    if words.iter().any(|word| word.contains(['\'', '\n'])) {
        bail!("quotes are not part of any argument");
    }
    let script = format!("/lab/outside '{}'", words.join("' '"));
    running(name)?
        .run(&script, Duration::from_secs(60))
        .map(status)
}

fn show_status() -> u8 {
    let labs = state::all();
    if labs.is_empty() {
        println!("no lab");
    }
    for lab in labs {
        let word = if lab.is_up() { "up" } else { "not up" };
        let pid = lab
            .qemu()
            .map_or(String::new(), |qemu| format!(", pid {}", qemu.pid()));
        println!(
            "{}: {word}{pid}, console '{}'",
            lab.name(),
            lab.console().display()
        );
    }
    0
}

fn text_of(command: Option<&str>, script: Option<&PathBuf>) -> Result<String> {
    match (command, script) {
        (Some(text), _) => Ok(text.to_owned()),
        (None, Some(path)) if path.as_os_str() == "-" => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("cannot read standard input")?;
            Ok(text)
        }
        (None, Some(path)) => std::fs::read_to_string(path)
            .with_context(|| format!("cannot read '{}'", path.display())),
        (None, None) => bail!("no script"),
    }
}

fn slot_bits(text: &str) -> Result<(u16, u32), String> {
    let wrong = || format!("'{text}' is not SLOT=HEX, for example 11=380");
    let (slot, bits) = text.split_once('=').ok_or_else(wrong)?;
    let slot = slot.parse().map_err(|_| wrong())?;
    let bits = u32::from_str_radix(bits.trim_start_matches("0x"), 16).map_err(|_| wrong())?;
    Ok((slot, bits))
}

/// Exit statuses of scripts are 0 to 255; any other value is a failure.
fn status(status: i32) -> u8 {
    u8::try_from(status).unwrap_or(1)
}
