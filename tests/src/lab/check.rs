//! Runs the project's scenarios in the emulated host.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::channel::{Job, TIMED_OUT};
use super::command;
use super::host::Lab;
use super::image::data;
use super::programs;
use super::progress::{Step, say};

/// The folder of scenarios in the emulated host.
pub(super) const INSIDE: &str = "/root/scenario";
const LIBRARY: &str = "lib.sh";
/// Libraries that scenarios preload: one kills the agent at a chosen step, one makes libvirt write as a vendor's build.
const PRELOADED: [&str; 2] = ["step", "vendor"];
/// Prefix of a result line, which is shown also when the scenario passes.
const RESULT: &str = "= ";
/// A line at which the emulated host reboots; the scenario continues with the lines below.
const REBOOT: &str = "# reboot";
/// Begins the line of a scenario's head with the Debian packages that it needs.
const PACKAGES: &str = "# packages: ";
/// Begins the line with kernel arguments of the emulated host.
const KERNEL: &str = "# kernel: ";
/// Begins the line with commits of this repository; their packages are built and copied into the emulated host.
const COMMIT: &str = "# commit: ";
/// A line in a scenario's head: the package of the page in Cockpit is built and copied into the emulated host.
const PAGE: &str = "# page";
/// Begins the line with crates of this repository, whose program and test `protocol` are copied into the scenarios' folder.
const CRATES: &str = "# crates: ";
const TIMEOUT: Duration = Duration::from_secs(60);

/// The scenarios' folder in the source tree.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenario")
}

/// Which scenarios run.
pub struct Choice<'a> {
    /// Names as `tests/lab check` takes them; all scenarios when empty.
    pub names: &'a [String],
    /// Variables for the scenarios.
    pub settings: &'a [Setting],
    /// An existing folder that several runs share: each scenario runs in the one that creates its file there first.
    pub shared: Option<&'a Path>,
}

/// A variable for the scenarios, such as `ROUNDS=100`.
#[derive(Clone, Debug)]
pub struct Setting {
    name: String,
    value: String,
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| format!("'{text}' is not NAME=VALUE, for example ROUNDS=100"))?;
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name || name == "PART" || value.contains(['\'', '\n']) {
            return Err(format!(
                "'{text}' cannot be a variable: use letters, digits and '_', not PART, and no quote in the value"
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "export {}='{}'", self.name, self.value)
    }
}

impl Choice<'_> {
    /// Takes the scenario, if no other run that shares the folder has taken it.
    fn take(&self, scenario: &str) -> Result<bool> {
        let Some(folder) = self.shared else {
            return Ok(true);
        };
        let file = folder.join(scenario);
        match fs::File::create_new(&file) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot create '{}'", file.display())),
        }
    }
}

/// Runs the chosen scenarios and prints a line for each; says whether all passed.
/// `restart` gives a fresh lab, for when the emulated processors have come to a stop: QEMU's emulation of nested
/// guests does that once in a while, and it says nothing about what is tested.
pub fn run(
    mut lab: Lab,
    choice: &Choice<'_>,
    deadline: Duration,
    restart: impl Fn() -> Result<Lab>,
) -> Result<bool> {
    let mut scenarios = chosen(&folder(), choice.names, &lab.state().kind())?;
    if choice.shared.is_some() {
        sort_by_deadline(&folder(), choice.settings, &mut scenarios);
    }
    let programs = programs::build(&crates(choice.names)?)?;
    push_all(&lab, &programs)?;
    let (mut ran, mut failures) = (0, Vec::new());
    for scenario in &scenarios {
        if !choice.take(scenario)? {
            continue;
        }
        ran += 1;
        let mut outcome = run_one(&lab, scenario, choice.settings, deadline)?;
        if outcome.status != 0 && !lab.answers() {
            say_where(lab.keep_registers());
            say(&format!(
                "the emulated host hangs: '{scenario}' runs again in a fresh one"
            ));
            lab = restart()?;
            push_all(&lab, &programs)?;
            outcome = run_one(&lab, scenario, choice.settings, deadline)?;
        }
        if outcome.status != 0 {
            // Before what it printed, whose last line says why it failed.
            outcome.output.insert_str(0, &journal(&lab));
        }
        outcome.print(scenario)?;
        failures.extend(outcome.failure().map(|why| format!("{scenario}: {why}")));
    }
    println!("{} passed, {} failed", ran - failures.len(), failures.len());
    for failure in &failures {
        println!("  {failure}");
    }
    Ok(failures.is_empty())
}

/// The Debian packages that these scenarios need in addition (`# packages: NAME...` in their heads); without names none, as such
/// scenarios run only by name.
pub fn packages(names: &[String]) -> Result<Vec<String>> {
    listed(&folder(), names, PACKAGES)
}

/// The commits whose packages these scenarios need (`# commit: COMMIT` in their heads); without names none.
pub fn commits(names: &[String]) -> Result<Vec<String>> {
    listed(&folder(), names, COMMIT)
}

/// Whether these scenarios need the package of the page in Cockpit (`# page` in their heads); without names none does.
pub fn needs_page(names: &[String]) -> Result<bool> {
    is_listed(&folder(), names, PAGE)
}

/// The crates whose programs these scenarios need (`# crates: NAME...` in their heads); without names none.
pub fn crates(names: &[String]) -> Result<Vec<String>> {
    listed(&folder(), names, CRATES)
}

/// The kernel arguments that these scenarios need in addition (`# kernel: ARGUMENT...` in their heads); without names none.
pub fn kernel_arguments(names: &[String]) -> Result<Vec<String>> {
    listed(&folder(), names, KERNEL)
}

/// Whether one of these scenarios has such a line.
fn is_listed(folder: &Path, names: &[String], line: &str) -> Result<bool> {
    if names.is_empty() {
        return Ok(false);
    }
    let mut names = named(folder, names)?.into_iter();
    Ok(names.any(|name| has_line(&text(folder, &name), line)))
}

/// The words of such lines in the heads of these scenarios.
fn listed(folder: &Path, names: &[String], prefix: &str) -> Result<Vec<String>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let heads: Vec<String> = named(folder, names)?
        .iter()
        .map(|name| text(folder, name))
        .collect();
    let listed = heads
        .iter()
        .flat_map(|text| text.lines().filter_map(|line| line.strip_prefix(prefix)));
    let unique: BTreeSet<&str> = listed.flat_map(str::split_whitespace).collect();
    Ok(unique.into_iter().map(str::to_owned).collect())
}

/// Copies the scenarios and these programs into the emulated host.
fn push_all(lab: &Lab, programs: &[PathBuf]) -> Result<()> {
    push(lab)?;
    for program in programs {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        lab.push(program, &format!("{INSIDE}/{name}"))?;
    }
    Ok(())
}

/// Copies the scenarios into the emulated host.
pub(super) fn push(lab: &Lab) -> Result<()> {
    lab.run(&format!("rm -rf {INSIDE}"), TIMEOUT)?;
    lab.push(&folder(), INSIDE)?;
    lab.push(
        &data().with_file_name("writes"),
        &format!("{INSIDE}/writes"),
    )?;
    if lab.state().kind().iter().any(|word| word == "x86_64") {
        for name in PRELOADED {
            push_library(lab, name)?;
        }
    }
    Ok(())
}

/// Builds a library for the emulated host.
fn push_library(lab: &Lab, name: &str) -> Result<()> {
    let library = lab.state().path(&format!("{name}.so"));
    let mut compiler = Command::new("gcc");
    compiler.args([
        "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o",
    ]);
    command::run(compiler.arg(&library).arg(data().join(format!("{name}.c"))))?;
    lab.push(&library, &format!("{INSIDE}/{name}.so"))
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

/// The result of one scenario.
struct Outcome {
    status: i32,
    output: String,
    time: Duration,
    /// Of the lab's processes and this one.
    processor_time: Duration,
}

impl Outcome {
    fn print(&self, scenario: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let word = if self.status == 0 { "ok" } else { "FAILED" };
        writeln!(
            out,
            "{word:6}  {scenario}  {:.1} s  CPU {:.1} s",
            self.time.as_secs_f32(),
            self.processor_time.as_secs_f32()
        )?;
        let failed = self.status != 0;
        let shown = |line: &&str| failed || line.starts_with(RESULT);
        for line in self.output.lines().filter(shown) {
            writeln!(out, "    | {line}")?;
        }
        if let Some(failure) = self.failure() {
            writeln!(out, "    | {failure}")?;
        }
        Ok(())
    }

    /// Why the scenario failed: its last line and how it ended. `None` if it passed.
    fn failure(&self) -> Option<String> {
        let ended = match self.status {
            0 => return None,
            TIMED_OUT => "ran past its deadline".to_owned(),
            status => format!("ended with status {status}"),
        };
        Some(match self.output.lines().last() {
            Some(last) => format!("{last} ({ended})"),
            None => ended,
        })
    }
}

fn run_one(lab: &Lab, scenario: &str, settings: &[Setting], deadline: Duration) -> Result<Outcome> {
    let began = Instant::now();
    let time_before = lab.state().processor_time();
    let step = Step::begin(format!("scenario '{scenario}'"));
    let text = text(&folder(), scenario);
    let deadline = own_deadline(&text, settings).unwrap_or(deadline);
    let (mut status, mut output) = (0, String::new());
    for part in 1..=parts(&text) {
        // a host that hangs before it accepts the job counts as a failed scenario, too
        let run = run_part(lab, scenario, part, settings, deadline);
        let (ended, printed) = run.unwrap_or_else(|error| (1, format!("{error:#}\n")));
        output.push_str(&printed);
        status = ended;
        if status != 0 {
            break;
        }
    }
    step.end();
    Ok(Outcome {
        status,
        output,
        time: began.elapsed(),
        processor_time: lab.state().processor_time().saturating_sub(time_before),
    })
}

/// The warnings of variantd's units since the emulated host began, one a line.
fn journal(lab: &Lab) -> String {
    let script = "journalctl --boot --quiet --no-pager --priority warning --output short-monotonic --unit 'variantd*' | tail -n 40";
    match Job::new(script).deadline(TIMEOUT).collect(lab.state()) {
        Ok((_, printed)) => printed,
        Err(error) => format!("the journal cannot be read: {error:#}\n"),
    }
}

/// The number of reboots plus one.
fn parts(text: &str) -> usize {
    text.lines().filter(|line| *line == REBOOT).count() + 1
}

/// Runs the part with this number, after a reboot unless it is the first. Line numbers in each part are those of the file.
fn run_part(
    lab: &Lab,
    scenario: &str,
    part: usize,
    settings: &[Setting],
    deadline: Duration,
) -> Result<(i32, String)> {
    if part > 1 {
        lab.reboot()?;
    }
    let settings: String = settings.iter().map(Setting::to_string).collect();
    let script = format!(
        "export PART={part}\n{settings}cd {INSIDE}\n\
         awk -v wanted=$PART '/^{REBOOT}$/ {{ part++ }} {{ print part + 1 == wanted ? $0 : \"\" }}' {scenario}.sh >part.sh\n\
         exec bash -eu -c '[ ! -e {LIBRARY} ] || . ./{LIBRARY}; . ./part.sh'"
    );
    Job::new(script).deadline(deadline).collect(lab.state())
}

/// The deadline in a scenario's head, from a line such as `# deadline: 1800` or `# deadline: 900 + 40 ROUNDS`: seconds, and seconds
/// for each unit of a setting, if that is given.
fn own_deadline(text: &str, settings: &[Setting]) -> Option<Duration> {
    let mut lines = text.lines();
    let printed = lines.find_map(|line| line.strip_prefix("# deadline: "))?;
    let (seconds, more) = printed.split_once(" + ").unwrap_or((printed, "0 -"));
    let (each, name) = more.split_once(' ')?;
    let (seconds, each): (u64, u64) = (seconds.trim().parse().ok()?, each.parse().ok()?);
    let setting = settings.iter().rfind(|setting| setting.name == name.trim());
    let count: u64 = setting
        .and_then(|setting| setting.value.parse().ok())
        .unwrap_or(0);
    let all = seconds.saturating_add(each.saturating_mul(count));
    Some(Duration::from_secs(all))
}

/// Sorts the longest first, so that runs that share them end at about the same time.
fn sort_by_deadline(folder: &Path, settings: &[Setting], scenarios: &mut [String]) {
    let deadline =
        |scenario: &String| own_deadline(&text(folder, scenario), settings).unwrap_or_default();
    scenarios.sort_by_cached_key(|scenario| Reverse(deadline(scenario)));
}

/// Whether a scenario runs only by name: it has a line `# by name`.
fn is_by_name(text: &str) -> bool {
    has_line(text, "# by name")
}

fn has_line(text: &str, line: &str) -> bool {
    text.lines().any(|one| one == line)
}

/// Whether a scenario runs in a lab of this kind: the lab has all keywords of its line `# on: WORD...`. Without such a line it
/// needs an x86-64 lab.
fn fits(text: &str, kind: &[String]) -> bool {
    let printed = text.lines().find_map(|line| line.strip_prefix("# on: "));
    printed
        .unwrap_or("x86_64")
        .split_whitespace()
        .all(|word| kind.iter().any(|one| one == word))
}

/// Names of the scenarios in the folder that fit this kind of lab, in lexical order, without `.sh`.
fn chosen(folder: &Path, names: &[String], kind: &[String]) -> Result<Vec<String>> {
    let mut all = named(folder, names)?;
    all.retain(|name| {
        let text = text(folder, name);
        fits(&text, kind) && (!names.is_empty() || !is_by_name(&text))
    });
    if all.is_empty() {
        bail!(
            "no scenario in '{}' has such a name and runs in a lab of kind '{}'",
            folder.display(),
            kind.join(" ")
        );
    }
    Ok(all)
}

/// The scenarios with these names in lexical order, or all. A name that matches no scenario selects those that contain it.
fn named(folder: &Path, names: &[String]) -> Result<Vec<String>> {
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
    let exists: Vec<bool> = names.iter().map(|wanted| all.contains(wanted)).collect();
    let is_chosen = |name: &String| {
        let mut wanted = names.iter().zip(&exists);
        wanted.any(|(wanted, &exists)| match exists {
            true => name == wanted,
            false => name.contains(wanted.as_str()),
        })
    };
    all.retain(|name| names.is_empty() || is_chosen(name));
    Ok(all)
}

/// The text of a scenario; empty if it cannot be read.
fn text(folder: &Path, scenario: &str) -> String {
    fs::read_to_string(folder.join(format!("{scenario}.sh"))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn x86() -> Vec<String> {
        vec!["x86_64".to_owned()]
    }

    #[test]
    fn a_scenario_runs_only_in_labs_with_its_keywords() {
        let kind = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(fits("true\n", &kind("x86_64 iommufd")));
        assert!(!fits("true\n", &kind("aarch64")));
        assert!(!fits("# on: aarch64 iommufd\n", &kind("aarch64")));
        assert!(fits("# on: iommufd\n", &kind("aarch64 iommufd")));
        let four = "# on: x86_64 gpus=4\n";
        assert!(fits(four, &kind("x86_64 gpus=4")) && !fits(four, &kind("x86_64 gpus=2")));
    }

    #[test]
    fn a_failure_names_the_last_line_and_how_the_scenario_ended() {
        let failure = |status, output: &str| {
            let output = output.to_owned();
            let time = Duration::ZERO;
            Outcome {
                status,
                output,
                time,
                processor_time: time,
            }
            .failure()
        };
        assert_eq!(failure(0, "fine\n"), None);
        let printed = failure(1, "note: one\nfailed: bind\n");
        assert_eq!(
            printed.as_deref(),
            Some("failed: bind (ended with status 1)")
        );
        let silent = failure(TIMED_OUT, "");
        assert_eq!(silent.as_deref(), Some("ran past its deadline"));
    }

    #[test]
    fn runs_that_share_a_folder_take_each_scenario_once() {
        let folder = folder_with(&[]);
        let choice = |shared| Choice {
            names: &[],
            settings: &[],
            shared,
        };
        let (one, other) = (choice(Some(folder.path())), choice(Some(folder.path())));
        assert!(one.take("start").expect("writable"));
        assert!(!other.take("start").expect("writable"));
        assert!(other.take("define").expect("writable"));
        assert!(choice(None).take("start").expect("no folder"));
        assert!(choice(Some(Path::new("/nowhere"))).take("start").is_err());
    }

    fn folder_with(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in names {
            fs::write(folder.path().join(name), "").expect("writable");
        }
        folder
    }

    #[test]
    fn scenarios_run_in_lexical_order_without_their_library() {
        let folder = folder_with(&["start.sh", "lib.sh", "define.sh", "notes.txt"]);
        assert_eq!(
            chosen(folder.path(), &[], &x86()).expect("some"),
            ["define", "start"]
        );
    }

    #[test]
    fn a_scenario_may_have_its_own_deadline() {
        let seconds = |text: &str, settings: &[&str]| {
            let settings = settings.iter().map(|setting| setting.parse());
            let settings: Vec<Setting> = settings.collect::<Result<_, _>>().expect("settings");
            own_deadline(text, &settings).map(|deadline| deadline.as_secs())
        };
        assert_eq!(
            seconds("# it\n# deadline: 1800\n", &["ROUNDS=100"]),
            Some(1800)
        );
        assert_eq!(seconds("true\n", &[]), None);
        let each = "# deadline: 900 + 40 ROUNDS\ntrue\n";
        for (settings, wanted) in [
            (&[][..], 900),
            (&["MINUTES=9"], 900),
            (&["ROUNDS=100"], 4900),
            (&["ROUNDS=100", "ROUNDS=2"], 980),
            (&["ROUNDS=many"], 900),
            (&["ROUNDS=18446744073709551615"], u64::MAX),
        ] {
            assert_eq!(seconds(each, settings), Some(wanted), "{settings:?}");
        }
        for wrong in [
            "# deadline: soon",
            "# deadline: 9 + x ROUNDS",
            "# deadline: 9 + 40",
        ] {
            assert_eq!(seconds(wrong, &[]), None, "{wrong}");
        }
    }

    #[test]
    fn each_scenario_has_a_deadline_that_can_be_read_and_grows_with_a_variable_of_its_own() {
        for name in named(&folder(), &[]).expect("the scenarios") {
            let text = text(&folder(), &name);
            let Some(line) = text.lines().find(|line| line.starts_with("# deadline")) else {
                continue;
            };
            assert!(own_deadline(&text, &[]).is_some(), "{name}: {line}");
            if let Some((_, more)) = line.split_once(" + ") {
                let (_, variable) = more.split_once(' ').expect("a variable");
                assert!(text.contains(&format!("${{{variable}:-")), "{name}: {line}");
            }
        }
    }

    #[test]
    fn shared_scenarios_are_sorted_by_their_deadlines() {
        let folder = folder_with(&["a.sh"]);
        fs::write(folder.path().join("b.sh"), "# deadline: 900\n").expect("writable");
        fs::write(folder.path().join("c.sh"), "# deadline: 600\n").expect("writable");
        let mut scenarios = ["a", "b", "c"].map(str::to_owned);
        sort_by_deadline(folder.path(), &[], &mut scenarios);
        assert_eq!(scenarios, ["b", "c", "a"]);
    }

    #[test]
    fn a_scenario_by_name_is_left_out_of_all() {
        let folder = folder_with(&["start.sh"]);
        fs::write(folder.path().join("managed.sh"), "# by name\ntrue\n").expect("writable");
        let all = chosen(folder.path(), &[], &x86()).expect("some");
        let named = chosen(folder.path(), &["managed".into()], &x86()).expect("some");
        assert_eq!(
            (all, named),
            (vec!["start".to_owned()], vec!["managed".to_owned()])
        );
    }

    #[test]
    fn packages_are_those_of_the_named_scenarios() {
        let folder = folder_with(&["start.sh"]);
        fs::write(
            folder.path().join("nova.sh"),
            "# packages: b a\n# packages: b\ntrue\n",
        )
        .expect("writable");
        let packages = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            listed(folder.path(), &names, PACKAGES).expect("readable")
        };
        assert_eq!(packages(&["nova", "start"]), ["a", "b"]);
        assert!(packages(&["start"]).is_empty() && packages(&[]).is_empty());
    }

    #[test]
    fn the_page_is_built_for_scenarios_that_name_it() {
        let folder = folder_with(&["start.sh"]);
        fs::write(folder.path().join("cockpit.sh"), "# page\ntrue\n").expect("writable");
        let is = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            is_listed(folder.path(), &names, PAGE).expect("readable")
        };
        assert!(is(&["start", "cockpit"]));
        assert!(!is(&["start"]) && !is(&[]));
    }

    #[test]
    fn a_setting_is_a_variable_of_the_shell() {
        let parsed = |text: &str| {
            text.parse::<Setting>()
                .map(|setting| setting.to_string())
                .ok()
        };
        assert_eq!(
            parsed("ROUNDS=100").as_deref(),
            Some("export ROUNDS='100'\n")
        );
        assert_eq!(parsed("A_1=x y").as_deref(), Some("export A_1='x y'\n"));
        for text in [
            "ROUNDS", "=1", "1A=1", "a-b=1", "A=it's", "A=1\n2", "PART=2",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn a_scenario_has_one_part_more_than_reboots() {
        assert_eq!(parts("true\n"), 1);
        assert_eq!(parts("true\n# reboot\nfalse\n# rebooted\n"), 2);
    }

    #[test]
    fn a_whole_name_chooses_one_scenario_and_a_part_all_that_have_it() {
        let folder = folder_with(&["doctor.sh", "doctor-made.sh", "define.sh"]);
        let chosen_by = |name: &str| chosen(folder.path(), &[name.into()], &x86()).ok();
        assert_eq!(chosen_by("doctor"), Some(vec!["doctor".to_owned()]));
        let both = vec!["doctor".to_owned(), "doctor-made".to_owned()];
        assert_eq!(chosen_by("doct"), Some(both));
        assert_eq!(chosen_by("x"), None);
    }
}
