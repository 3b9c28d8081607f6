//! `variantctl completions SHELL`: the script that packages install. It calls this program at each TAB, which offers
//! devices and domains.
//!
//! Devices are completed in libvirt's form, because shells split words at a colon.

use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory;
use clap::builder::StyledStr;
use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter};
use clap_complete::env::{CompleteEnv, Shells};
use domain::printable::is_control;
use kernel_glue::device::Device;
use kernel_glue::host::Host;

use super::problem::Problem;
use super::{Cli, output};
use crate::inquiry;
use planner::recipe::Recipes;

const PROGRAM: &str = "variantctl";
/// The environment variable of the script's question.
const VARIABLE: &str = "COMPLETE";
const URI: &str = "qemu:///system";
/// The time limit for libvirt after TAB.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Answers a script's question and ends the process; returns for any other call.
pub(super) fn answer() {
    CompleteEnv::with_factory(Cli::command)
        .var(VARIABLE)
        .completer(PROGRAM)
        .complete();
}

pub(super) fn run(shell: clap_complete::Shell) -> Result<(), Problem> {
    let shells = Shells::builtins();
    let name = shell.to_string();
    let shell = shells
        .completer(&name)
        .expect("one for each name of a shell");
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)
        .map_err(|why| Problem::Failed(format!("cannot write a script for '{name}': {why}")))?;
    output::text(&String::from_utf8_lossy(&script))
}

/// Devices that a recipe covers, each with its driver; all devices when there is none.
pub(super) fn devices() -> Vec<CompletionCandidate> {
    // An error message would be printed into the line that the user types, so nothing is offered instead.
    let Ok(host) = Host::read(&root()) else {
        return Vec::new();
    };
    let recipes = settings::recipes::load(planner::recipe::DIRECTORY.as_ref())
        // An unusable file of the administrator does not prevent completion.
        .or_else(|_| Recipes::shipped());
    let covered = recipes.iter().flat_map(|recipes| recipes.covered(&host));
    let found: Vec<&Device> = covered.map(|(device, _)| device).collect();
    match found.is_empty() {
        true => host.devices.values().map(device).collect(),
        false => found.into_iter().map(device).collect(),
    }
}

/// Every domain in libvirt.
pub(super) fn domains() -> Vec<CompletionCandidate> {
    let uri = env::var("LIBVIRT_DEFAULT_URI").unwrap_or_else(|_| URI.to_owned());
    let names = inquiry::names(&uri, TIMEOUT).unwrap_or_default();
    // A shell prints the names to the terminal, so a name with control characters is not offered.
    let safe = |name: &String| !name.chars().any(is_control);
    let names = names.into_iter().filter(safe);
    names.map(CompletionCandidate::new).collect()
}

/// Files, and every domain in libvirt.
pub(super) fn files_and_domains(begun: &OsStr) -> Vec<CompletionCandidate> {
    let begun_so = begun.to_string_lossy();
    let mut all = domains();
    // clap compares the candidates of an `ArgValueCandidates` with the word, and not those of an `ArgValueCompleter`.
    all.retain(|one| one.get_value().to_string_lossy().starts_with(&*begun_so));
    all.extend(PathCompleter::file().complete(begun));
    all
}

fn device(device: &Device) -> CompletionCandidate {
    let name = device.address.to_string().replace([':', '.'], "_");
    let driver = device.driver.as_ref();
    let driver = driver.map_or("no driver", kernel_glue::driver::DriverName::as_str);
    let help = format!("{} on {driver}", device.id);
    CompletionCandidate::new(format!("pci_{name}")).help(Some(StyledStr::from(help)))
}

/// The value of --host on the completed command line.
fn root() -> PathBuf {
    // A script passes the words of that line behind "--".
    let words = env::args_os().skip_while(|word| word != "--").skip(1);
    let named = super::hosts(words).into_iter().next();
    named.unwrap_or_else(|| PathBuf::from("/"))
}
