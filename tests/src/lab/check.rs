//! Runs the project's scenarios in the emulated host, with the project's own package installed there.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::channel::{Job, TIMED_OUT};
use super::host::Lab;
use super::progress::{Step, say};

/// Where scenarios lie in the emulated host.
const INSIDE: &str = "/root/scenario";
const LIBRARY: &str = "lib.sh";
/// How a scenario begins a line that is shown when it passes, too.
const RESULT: &str = "= ";
const PATIENCE: Duration = Duration::from_secs(60);

/// The scenarios' folder in the source tree.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenario")
}

/// Builds the package and installs it in the emulated host; starts the service.
pub fn install(lab: &Lab) -> Result<()> {
    let step = Step::begin("building the package");
    let output = tempdir()?;
    let package = build(&output);
    let package = package.and_then(|()| only_package(&output));
    step.done();
    let step = Step::begin("installing the package in the emulated host");
    let installed = package.and_then(|package| lab.push(&package, "/root/variantd.deb"));
    super::cache::remove(&output)?;
    installed?;
    let script = "dpkg -i /root/variantd.deb && systemctl daemon-reload && systemctl restart variantd.service";
    let (status, text) = Job::new(script).collect(lab.state())?;
    if status != 0 {
        bail!("cannot install the package in the emulated host:\n{text}");
    }
    step.done();
    Ok(())
}

/// Runs the chosen scenarios (all when none is named) and prints a line for each; says whether all passed.
/// `restart` gives a fresh lab, for when the emulated processors have come to a stop: QEMU's emulation of nested
/// guests does that once in a while, and it says nothing about what is tested.
pub fn run(
    mut lab: Lab,
    names: &[String],
    deadline: Duration,
    restart: impl Fn() -> Result<Lab>,
) -> Result<bool> {
    let scenarios = chosen(&folder(), names)?;
    push(&lab)?;
    let mut failed = 0;
    for scenario in &scenarios {
        let mut outcome = run_one(&lab, scenario, deadline)?;
        if outcome.status != 0 && !lab.answers() {
            say_where(lab.keep_registers());
            say(&format!(
                "the emulated host hangs: '{scenario}' runs again in a fresh one"
            ));
            lab = restart()?;
            push(&lab)?;
            outcome = run_one(&lab, scenario, deadline)?;
        }
        outcome.print(scenario)?;
        failed += usize::from(outcome.status != 0);
    }
    println!("{} passed, {failed} failed", scenarios.len() - failed);
    Ok(failed == 0)
}

/// Shows the tour.
pub fn demo(lab: &Lab, deadline: Duration) -> Result<i32> {
    push(lab)?;
    lab.run(&format!("cd {INSIDE}/demo && exec bash tour.sh"), deadline)
}

fn push(lab: &Lab) -> Result<()> {
    lab.run(&format!("rm -rf {INSIDE}"), PATIENCE)?;
    lab.push(&folder(), INSIDE)
}

fn say_where(registers: Result<PathBuf>) {
    match registers {
        Ok(file) => say(&format!(
            "registers of the processors: '{}'",
            file.display()
        )),
        Err(error) => say(&format!("no registers of the processors: {error:#}")),
    }
}

/// How one scenario went.
struct Outcome {
    status: i32,
    output: String,
    time: Duration,
}

impl Outcome {
    fn print(&self, scenario: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let word = if self.status == 0 { "ok" } else { "FAILED" };
        writeln!(
            out,
            "{word:6}  {scenario}  {:.1} s",
            self.time.as_secs_f32()
        )?;
        let failed = self.status != 0;
        let shown = |line: &&str| failed || line.starts_with(RESULT);
        for line in self.output.lines().filter(shown) {
            writeln!(out, "    | {line}")?;
        }
        if failed {
            writeln!(out, "    | {}", self.reason())?;
        }
        Ok(())
    }

    fn reason(&self) -> String {
        match self.status {
            TIMED_OUT => "ran past its deadline".to_owned(),
            status => format!("ended with status {status}"),
        }
    }
}

fn run_one(lab: &Lab, scenario: &str, deadline: Duration) -> Result<Outcome> {
    let began = Instant::now();
    let script = format!(
        "cd {INSIDE} && exec bash -eu -c '[ ! -e {LIBRARY} ] || . ./{LIBRARY}; . ./{scenario}.sh'"
    );
    let step = Step::begin(format!("scenario '{scenario}'"));
    let text = fs::read_to_string(folder().join(format!("{scenario}.sh"))).unwrap_or_default();
    let deadline = own_deadline(&text).unwrap_or(deadline);
    let run = Job::new(script).deadline(deadline).collect(lab.state());
    step.end();
    // a host that hangs before it takes the job counts as a failed scenario, too
    let (status, output) = run.unwrap_or_else(|error| (1, format!("{error:#}\n")));
    Ok(Outcome {
        status,
        output,
        time: began.elapsed(),
    })
}

/// What a scenario says of itself in a line such as `# deadline: 1800`, in seconds.
fn own_deadline(text: &str) -> Option<Duration> {
    let said = text
        .lines()
        .find_map(|line| line.strip_prefix("# deadline: "));
    said.and_then(|seconds| seconds.trim().parse().ok())
        .map(Duration::from_secs)
}

/// Names of the scenarios in the folder, in lexical order, without `.sh`.
fn chosen(folder: &Path, names: &[String]) -> Result<Vec<String>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list '{}'", folder.display()))?;
    let mut all: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().is_file() && entry.file_name() != LIBRARY)
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_suffix(".sh")
                .map(str::to_owned)
        })
        .collect();
    all.sort();
    let is_wanted = |name: &String| {
        names.is_empty()
            || names
                .iter()
                .any(|part| name.contains(part.trim_end_matches(".sh")))
    };
    all.retain(is_wanted);
    if all.is_empty() {
        bail!("no scenario in '{}' fits", folder.display());
    }
    Ok(all)
}

fn build(output: &Path) -> Result<()> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/build");
    let status = Command::new(&program)
        .arg(output)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot run '{}'", program.display()))?;
    if !status.success() {
        bail!("'{}' failed ({status})", program.display());
    }
    Ok(())
}

fn only_package(folder: &Path) -> Result<PathBuf> {
    let mut packages: Vec<PathBuf> = fs::read_dir(folder)
        .with_context(|| format!("cannot list '{}'", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    match (packages.pop(), packages.len()) {
        (Some(package), 0) => Ok(package),
        (None, _) => bail!("'packaging/build' made no .deb"),
        _ => bail!("'packaging/build' made more than one .deb"),
    }
}

fn tempdir() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("variantd-lab-package-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create '{}'", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in names {
            fs::write(folder.path().join(name), "").expect("writable");
        }
        folder
    }

    #[test]
    fn scenarios_run_in_lexical_order_without_their_library() {
        let folder = folder_with(&["20-b.sh", "lib.sh", "10-a.sh", "notes.txt"]);
        assert_eq!(chosen(folder.path(), &[]).expect("some"), ["10-a", "20-b"]);
    }

    #[test]
    fn a_scenario_may_say_its_own_deadline() {
        assert_eq!(
            own_deadline("# it\n# deadline: 1800\n"),
            Some(Duration::from_secs(1800))
        );
        assert_eq!(own_deadline("true\n"), None);
    }

    #[test]
    fn a_part_of_a_name_chooses() {
        let folder = folder_with(&["20-b.sh", "10-a.sh"]);
        assert_eq!(
            chosen(folder.path(), &["20".into()]).expect("some"),
            ["20-b"]
        );
        assert!(chosen(folder.path(), &["x".into()]).is_err());
    }

    #[test]
    fn exactly_one_package_is_expected() {
        assert!(only_package(folder_with(&[]).path()).is_err());
        assert!(only_package(folder_with(&["a.deb", "b"]).path()).is_ok());
        assert!(only_package(folder_with(&["a.deb", "b.deb"]).path()).is_err());
    }
}
