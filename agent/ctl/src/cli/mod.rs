//! The command line `variantctl`: verbs and exit statuses.
//!
//! Read verbs work without the agent, without libvirt and without root, and name the facts that they could not
//! read. Exit: 0 done or already done, 1 failed or a check failed, 2 usage, 3 not found, 4 agent not reachable.

mod atomics;
mod bind;
mod capacity;
mod completion;
mod config;
mod connect;
mod create;
mod defined;
mod device;
mod diff;
mod doctor;
mod domain;
mod dry_run;
mod egm;
mod example;
mod explain;
mod fleet;
mod hint;
mod input;
mod job;
mod layout;
mod list;
mod metrics;
mod monitor;
mod occupancy;
mod output;
mod plan;
mod problem;
mod progress;
mod recipe;
mod record;
mod region;
mod reserve;
mod snapshot;
mod stack;
mod summary;
mod table;
mod target;
mod topology;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};
use kernel_glue::address::PciAddress;
use kernel_glue::capacity::Capacity;
use kernel_glue::driver::DriverName;
use kernel_glue::host::Host;

use ::domain::code::Code;
use agent::reserve::Reservations;
use agent::snapshot::Snapshot;
use agent::stack::recorded::recorded;
use planner::recipe::Recipes;
use planner::stack::Stack;
use planner::target::Target;
use settings::config::{Config, ConfigError};

use capacity::Numa;
use problem::{Coded, Exit, Problem};
use progress::Progress;

/// Assign GPUs that need a VFIO variant driver to libvirt guests
#[derive(Debug, Parser)]
#[command(name = "variantctl", version, max_term_width = 100, mut_subcommands = example::add_to)]
pub struct Cli {
    /// Read a recorded host (DIR) or a snapshot (FILE) instead of this host; 'plan' takes several, or a DIR of snapshots
    #[arg(
        long,
        global = true,
        value_name = "DIR|FILE",
        default_value = "/",
        hide_default_value = true
    )]
    host: Vec<PathBuf>,
    /// Read recipes in DIR, which replace shipped ones of the same name
    #[arg(long, global = true, value_name = "DIR", default_value = planner::recipe::DIRECTORY, hide_default_value = true)]
    recipes: PathBuf,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the devices that a recipe covers
    List {
        /// List every PCI function
        #[arg(long)]
        all: bool,
    },
    /// Show one device: driver, group, node, initiators, path to its root port, and the processes that use it
    Show {
        /// PCI address: 0000:01:00.0, 01:00.0 or pci_0000_01_00_0
        #[arg(add = ArgValueCandidates::new(completion::devices))]
        device: PciAddress,
        /// Ask VFIO for the BARs that a guest would see; opens and so resets the device (root only)
        #[arg(long)]
        regions: bool,
    },
    /// Check host, devices, libvirt, domains and installation; changes nothing
    Doctor(doctor::Request),
    /// Draw the host: sockets, root ports, switches, devices, NUMA nodes; on request also a guest
    Topology(topology::Request),
    /// Show whether AtomicOps reach a device's guest: by width, on the host and in the guest, with the rule that fails
    Atomics(atomics::Request),
    /// Show a NUMA layout for a guest on this host: cells at its devices, pins, memory, huge pages, distances; changes nothing
    Layout(layout::Request),
    /// Show what a domain needs: the missing pieces with their reasons, and the guest's cells; --diff shows the lines
    Plan(Request),
    /// Complete a domain definition and print it; libvirt is not touched
    Rewrite(Definition),
    /// List, show or check recipes: what each family of guest drivers needs
    #[command(subcommand)]
    Recipe(RecipeVerb),
    /// Show or check the configuration: variantd.conf, its drop-ins and the shipped defaults
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Show how libvirt's clients use the transport variantd-connect, or make it the default of root's clients
    Connect(connect::Request),
    /// Show what the installed libvirt and QEMU can express, how it is known, and whether the two fit each other
    Stack(stack::Request),
    /// Explain a code such as VD-TOP-002, or list all of them
    Explain {
        /// The code
        code: Option<Code>,
    },
    /// Record this host below DIR, for use with --host; serial numbers are left out
    RecordHost {
        /// Directory to make; it must be empty or not exist
        dir: PathBuf,
    },
    /// Write the data of this host that planning reads as one JSON text, for use with --host and by other programs
    Snapshot(snapshot::Request),
    /// Complete a domain in libvirt now
    Prepare {
        /// Name or UUID of the domain
        #[arg(required_unless_present = "plan")]
        #[arg(add = ArgValueCandidates::new(completion::domains))]
        domain: Option<String>,
        /// Replace the guest address of a device when it contradicts the recipe
        #[arg(long, conflicts_with = "plan")]
        replace: bool,
        /// Set the domain's option for EGM: the GPUs' EGM regions are the guest's memory, or are not
        #[arg(long, value_enum, value_name = "WHETHER", conflicts_with = "plan")]
        egm: Option<Switch>,
        /// Set the domain's option for the NUMA layout: mirror the host nodes of its devices, or keep the definition's own
        #[arg(long, value_enum, value_name = "MODE", conflicts_with = "plan")]
        numa: Option<Numa>,
        /// Make exactly the edits that 'plan --json' put into FILE ('-' for standard input), or refuse
        /// because the definition, the host, the recipes or the versions changed since
        #[arg(long, value_name = "FILE")]
        plan: Option<PathBuf>,
    },
    /// Complete domain XML and create a transient guest of it, as 'virsh create' does
    Create(create::Request),
    /// Remove the added elements from a domain; the agent ignores it until it is prepared again
    Revert {
        /// Name or UUID of the domain
        #[arg(required_unless_present = "file", conflicts_with = "file")]
        #[arg(add = ArgValueCandidates::new(completion::domains))]
        domain: Option<String>,
        /// Revert domain XML in FILE ('-' for standard input) and print it; libvirt is not touched
        #[arg(long)]
        file: Option<PathBuf>,
    },
    /// Bind a device manually, without a guest
    Bind {
        /// PCI address
        #[arg(add = ArgValueCandidates::new(completion::devices))]
        device: PciAddress,
        /// The driver; by default the one that its recipe names
        #[arg(long)]
        driver: Option<DriverName>,
        /// Bind also the other devices of its IOMMU group that the host uses
        #[arg(long)]
        allow_group: bool,
        /// Print the writes instead, in order, each as 'path <- value'; works with --host, and without the agent
        #[arg(long)]
        dry_run: bool,
        /// Stop known services that use it, such as nvidia-persistenced, until it is released
        #[arg(long)]
        stop_services: bool,
    },
    /// Release a device that was bound manually
    Release {
        /// PCI address
        #[arg(add = ArgValueCandidates::new(completion::devices))]
        device: PciAddress,
    },
    /// Restore devices whose change was interrupted
    Recover {
        /// PCI address; by default every such device
        #[arg(add = ArgValueCandidates::new(completion::devices))]
        device: Option<PciAddress>,
    },
    /// Reserve a device for guests: it is bound at each boot, before another driver or process takes it
    Reserve {
        /// PCI address
        #[arg(add = ArgValueCandidates::new(completion::devices))]
        device: PciAddress,
        /// The driver; by default the one that its recipe names at that time
        #[arg(long)]
        driver: Option<DriverName>,
        /// Bind it now as well
        #[arg(long)]
        now: bool,
    },
    /// End a reservation
    Unreserve {
        /// PCI address
        #[arg(add = ArgValueCandidates::new(completion::devices))]
        device: PciAddress,
        /// Release it now as well
        #[arg(long)]
        now: bool,
    },
    /// Print a line for each change of devices, domains and jobs, until Ctrl-C
    Monitor,
    /// Print the agent's metrics in Prometheus' text format: devices, binds, releases, refusals, durations
    Metrics,
    /// Print completions for a shell, for packagers
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Wait until a domain is complete; exit with 1 and the reason when it is not
    Wait {
        /// Name or UUID of the domain
        #[arg(add = ArgValueCandidates::new(completion::domains))]
        domain: String,
        /// Seconds to wait
        #[arg(long, default_value_t = 10)]
        timeout: u64,
    },
}

#[derive(Debug, Subcommand)]
enum RecipeVerb {
    /// List the recipes in force
    List,
    /// Print one recipe as it is in force
    Show {
        /// Its name
        name: String,
        /// Print the shipped recipe, even when a file replaces it
        #[arg(long)]
        shipped: bool,
    },
    /// Check a file before you install it in the recipes' directory
    Check {
        /// The file
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Print every setting in force, with its file and line
    Show,
    /// Check all files and print every mistake
    Check,
}

/// A definition and its target.
#[derive(Debug, Args)]
struct Definition {
    /// File with domain XML; '-' reads standard input
    file: PathBuf,
    #[command(flatten)]
    wanted: PlanArguments,
}

/// The subject of a plan, and how to print the plan.
#[derive(Debug, Args)]
struct Request {
    /// File with domain XML ('-' for standard input), or name or UUID of a domain in libvirt
    #[arg(value_name = "FILE|DOMAIN", add = ArgValueCompleter::new(completion::files_and_domains))]
    subject: PathBuf,
    #[command(flatten)]
    wanted: PlanArguments,
    /// Print the unified diff with the reason for each part, for reading or patch(1), instead of a summary
    #[arg(long)]
    diff: bool,
    /// When to use colours
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: diff::Color,
    /// Print which of the hosts in FILE it fits; FILE has a snapshot or recorded host in each line ('-' for standard input)
    #[arg(long, value_name = "FILE")]
    hosts_from: Option<PathBuf>,
}

/// Options of a plan.
#[derive(Debug, Args)]
struct PlanArguments {
    /// What to write for: versions such as libvirt=12.8,qemu=11.1,arch=aarch64,machine=virt, a stack's name such as
    /// nvidia-10.1, or its file FILE.json
    #[arg(long, value_name = "TARGET", value_parser = target::parse)]
    target: Option<Target>,
    /// Replace the guest address of a device when it contradicts the recipe
    #[arg(long)]
    replace: bool,
    /// Set the domain's option for EGM: the GPUs' EGM regions are the guest's memory, or are not
    #[arg(long, value_enum, value_name = "WHETHER")]
    egm: Option<Switch>,
    /// Set the domain's option for the NUMA layout: mirror the host nodes of its devices, or keep the definition's own
    #[arg(long, value_enum, value_name = "MODE")]
    numa: Option<Numa>,
    /// Ask VFIO for the BARs of devices that are on their recipe's driver; opens and resets them (root only)
    #[arg(long)]
    regions: bool,
}

/// The value of an option of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

impl From<Switch> for bool {
    fn from(switch: Switch) -> Self {
        switch == Switch::On
    }
}

/// The data of every verb that reads a host.
struct HostView {
    root: PathBuf,
    host: Host,
    /// CPUs and huge pages in a snapshot that has them.
    capacity: Option<Capacity>,
    /// The pair of libvirt and QEMU in a snapshot.
    stack: Option<Stack>,
    recipes: Recipes,
    reservations: Reservations,
    json: bool,
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    // Before the parser, which would refuse the incomplete command line of a shell.
    completion::answer();
    let mut cli = Cli::parse();
    let named = hosts(std::env::args_os());
    if !named.is_empty() {
        cli.host = named;
    }
    if cli.json {
        progress::silence();
    }
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let problem = problem.for_host(cli.host());
            output::complain(&problem, cli.json);
            problem.exit()
        }
    }
}

/// All values of --host, before and behind the verb: clap keeps only those of one side of a global option.
fn hosts(words: impl Iterator<Item = OsString>) -> Vec<PathBuf> {
    let mut words = words.take_while(|word| word != "--");
    let mut hosts = Vec::new();
    while let Some(word) = words.next() {
        match word.as_bytes().strip_prefix(b"--host=") {
            Some(path) => hosts.push(OsStr::from_bytes(path).into()),
            None if word == "--host" => hosts.extend(words.next().map(PathBuf::from)),
            None => {}
        }
    }
    hosts
}

fn run(cli: &Cli) -> Result<(), Problem> {
    let many = match &cli.verb {
        Verb::Plan(request) if fleet::is_asked(cli, request) => return fleet::run(cli, request),
        _ => cli.host.len() > 1,
    };
    if many {
        let text = "only 'plan FILE' takes more than one host; pass one --host";
        return Err(Problem::Usage(text.to_owned()));
    }
    if let Some(verb) = cli.verb.by_the_agent()
        && !cli.is_own()
    {
        return Err(Problem::Usage(format!(
            "'{verb}' uses the agent of this host and the agent's recipes; leave out --host and --recipes, \
             or run it on that host"
        )));
    }
    match &cli.verb {
        Verb::List { all } => list::run(&host_view(cli)?, *all),
        Verb::Show { device, regions } => device::run(&host_view(cli)?, *device, *regions),
        Verb::Doctor(request) => doctor::run(cli, request),
        Verb::Topology(request) => topology::run(&host_view(cli)?, request),
        Verb::Atomics(request) => atomics::run(&host_view(cli)?, request),
        Verb::Layout(request) => layout::run(&host_view(cli)?, request),
        Verb::Plan(request) => plan::show(cli, request),
        Verb::Rewrite(definition) => plan::rewrite(&host_view(cli)?, definition),
        Verb::Recipe(RecipeVerb::List) => recipe::list(&recipes(cli)?, cli.json),
        Verb::Recipe(RecipeVerb::Show {
            name,
            shipped: true,
        }) => recipe::show(&shipped()?, name, cli.json),
        Verb::Recipe(RecipeVerb::Show { name, .. }) => recipe::show(&recipes(cli)?, name, cli.json),
        Verb::Recipe(RecipeVerb::Check { file }) => recipe::check(file, cli.json),
        Verb::Config(ConfigVerb::Show) => config::show(&configuration(cli), cli.json),
        Verb::Config(ConfigVerb::Check) => {
            config::check(&configuration(cli), &cli.recipes, cli.json)
        }
        Verb::Connect(request) => connect::run(cli.host(), request, cli.json),
        Verb::Stack(request) => stack::run(cli, request),
        Verb::Explain { code } => explain::run(*code, cli.json),
        Verb::RecordHost { dir } => record::run(cli.host(), &cli.recipes, dir, cli.json),
        Verb::Snapshot(request) => snapshot::run(&host_view(cli)?, request),
        Verb::Prepare {
            domain,
            plan: Some(plan),
            ..
        } => domain::apply(domain.as_deref(), plan, cli.json),
        Verb::Prepare {
            domain,
            replace,
            egm,
            numa,
            ..
        } => {
            let wanted = domain::Wanted {
                replace: *replace,
                egm: egm.map(bool::from),
                numa: numa.map(Into::into),
            };
            domain::prepare(domain.as_deref().unwrap_or_default(), wanted, cli.json)
        }
        Verb::Create(request) => create::run(request, cli.json),
        Verb::Revert {
            file: Some(file), ..
        } => plan::revert(file),
        Verb::Revert { domain, .. } => {
            domain::revert(domain.as_deref().unwrap_or_default(), cli.json)
        }
        Verb::Bind {
            device,
            driver,
            allow_group,
            dry_run,
            stop_services,
        } => {
            let how = bind::How {
                dry_run: *dry_run,
                allow_group: *allow_group,
                stop_services: *stop_services,
            };
            bind::bind(cli, *device, driver.as_ref(), how)
        }
        Verb::Release { device } => bind::release(*device, cli.json),
        Verb::Recover { device } => bind::recover(*device, cli.json),
        Verb::Reserve {
            device,
            driver,
            now,
        } => reserve::reserve(*device, driver.as_ref(), *now, cli),
        Verb::Unreserve { device, now } => reserve::unreserve(*device, *now, cli.json),
        Verb::Monitor => monitor::run(cli.json),
        Verb::Metrics => metrics::run(cli.json),
        Verb::Completions { shell } => completion::run(*shell),
        Verb::Wait { domain, timeout } => {
            domain::wait(domain, Duration::from_secs(*timeout), cli.json)
        }
    }
}

impl Verb {
    /// Its name, when the agent performs it.
    fn by_the_agent(&self) -> Option<&'static str> {
        Some(match self {
            Self::Prepare { .. } => "prepare",
            Self::Create(_) => "create",
            Self::Revert { file: None, .. } => "revert",
            Self::Bind { dry_run: false, .. } => "bind",
            Self::Release { .. } => "release",
            Self::Recover { .. } => "recover",
            Self::Reserve { .. } => "reserve",
            Self::Unreserve { .. } => "unreserve",
            Self::Monitor => "monitor",
            Self::Metrics => "metrics",
            Self::Wait { .. } => "wait",
            Self::List { .. }
            | Self::Show { .. }
            | Self::Doctor(_)
            | Self::Topology(_)
            | Self::Atomics(_)
            | Self::Layout(_)
            | Self::Plan(_)
            | Self::Rewrite(_)
            | Self::Recipe(_)
            | Self::Config(_)
            | Self::Connect(_)
            | Self::Stack(_)
            | Self::Explain { .. }
            | Self::RecordHost { .. }
            | Self::Snapshot(_)
            | Self::Revert { file: Some(_), .. }
            | Self::Bind { dry_run: true, .. }
            | Self::Completions { .. } => return None,
        })
    }
}

impl Cli {
    /// True for this host with its own recipes, which the agent also uses.
    fn is_own(&self) -> bool {
        self.host() == Path::new("/") && self.recipes == Path::new(planner::recipe::DIRECTORY)
    }

    /// The one host; the first of several.
    fn host(&self) -> &Path {
        self.host.first().map_or(Path::new("/"), PathBuf::as_path)
    }
}

fn host_view(cli: &Cli) -> Result<HostView, Problem> {
    let recipes = recipes(cli)?;
    if is_snapshot(cli.host()) {
        let snapshot = Snapshot::read(cli.host())?;
        return Ok(HostView {
            root: cli.host().to_owned(),
            host: snapshot.host,
            capacity: snapshot.capacity,
            stack: snapshot.target.pair(),
            recipes,
            reservations: Reservations::noted(snapshot.reservations),
            json: cli.json,
        });
    }
    let host = read_host(cli)?;
    Ok(HostView {
        root: cli.host().to_owned(),
        host,
        capacity: None,
        stack: recorded(cli.host())?,
        recipes,
        reservations: reservations(cli),
        json: cli.json,
    })
}

fn read_host(cli: &Cli) -> Result<Host, Problem> {
    let _progress = Progress::begin("reading the host");
    Host::read(cli.host()).map_err(|failure| Problem::Failed(failure.to_string()))
}

/// True for a snapshot; a host, recorded or not, is a directory.
fn is_snapshot(host: &Path) -> bool {
    host.is_file()
}

/// The reservations beside the recipes; a recorded host has its own.
fn reservations(cli: &Cli) -> Reservations {
    let recorded = cli.host() != Path::new("/");
    let directory = match recorded && cli.recipes == Path::new(planner::recipe::DIRECTORY) {
        true => cli.host().join("etc/variantd"),
        false => cli.recipes.with_file_name(""),
    };
    Reservations::new(directory.join(agent::reserve::DIRECTORY))
}

/// The configuration file beside the recipes.
fn configuration(cli: &Cli) -> PathBuf {
    cli.recipes.with_file_name("variantd.conf")
}

fn recipes(cli: &Cli) -> Result<Recipes, Problem> {
    let config = Config::read(&configuration(cli));
    let coded = |error: ConfigError| Coded::new(error.code(), error.to_string());
    let config = config.map_err(|error| Problem::Coded(Exit::Failed, coded(error)))?;
    let recipes = settings::recipes::load(&cli.recipes).and_then(|r| r.extended(&config.devices));
    recipes.map_err(recipe::problem)
}

fn shipped() -> Result<Recipes, Problem> {
    Recipes::shipped().map_err(|error| Problem::Failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn clap_accepts_the_definition_of_the_command_line() {
        Cli::command().debug_assert();
    }

    #[test]
    fn host_options_are_found_before_and_after_the_verb_but_not_after_the_end_of_options() {
        let words = "variantctl --host a plan --host=b --target x --host c -- --host d";
        let found = hosts(words.split(' ').map(OsString::from));
        assert_eq!(found, ["a", "b", "c"].map(PathBuf::from));
        assert!(hosts(["variantctl", "list"].map(OsString::from).into_iter()).is_empty());
    }
}
