//! `variantctl bind`, `release` and `recover`: asks the agent, which alone changes the host.

use std::pin::pin;
use std::time::{Duration, Instant};

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::domain::{ask, options};
use super::problem::{Coded, Exit, Problem};
use super::{Cli, dry_run, job, output, progress};
use api::again::Effect;
use api::client::{ManagerProxy, Options};

/// The time until the first message about a waiting call,
const FIRST_WORD: Duration = Duration::from_secs(2);
/// and until each further one.
const NEXT_WORD: Duration = Duration::from_secs(10);

/// Options of a bind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct How {
    pub(super) dry_run: bool,
    pub(super) allow_group: bool,
    pub(super) stop_services: bool,
}

/// Binds a device manually, or prints the writes of the bind.
///
/// A dry run needs no agent: for another host or other recipes, and without an agent, this process plans it.
pub(super) fn bind(
    cli: &Cli,
    device: PciAddress,
    driver: Option<&DriverName>,
    how: How,
) -> Result<(), Problem> {
    let here = || dry_run::plan(cli, device, driver.cloned(), how.allow_group);
    let report = match how.dry_run {
        true if !cli.is_own() => here()?,
        true => match ask_to_bind(device, driver, how) {
            Err(why) if why.is_unreachable() => {
                output::say(&format!("note: planned without the agent: {why}"));
                here()?
            }
            answer => answer?,
        },
        false => ask_to_bind(device, driver, how)?,
    };
    tell(&report, cli.json, bound)
}

fn ask_to_bind(
    device: PciAddress,
    driver: Option<&DriverName>,
    how: How,
) -> Result<Value, Problem> {
    let mut options = options([("dry-run", how.dry_run.into())]);
    let consents = [
        ("allow-group", how.allow_group),
        ("stop-services", how.stop_services),
    ];
    options.extend(
        consents
            .into_iter()
            .filter(|(_, printed)| *printed)
            .map(|(key, _)| (key, true.into())),
    );
    if let Some(driver) = driver {
        options.insert("driver", driver.as_str().into());
    }
    let device = device.to_string();
    let call = async |manager: &ManagerProxy<'_>, options: Options<'_>| {
        patiently(&device, manager.bind(&device, options)).await
    };
    match how.dry_run {
        true => ask(Effect::Changes, async |manager| {
            call(manager, options.clone()).await
        }),
        false => job::ask("bind", &device, &options, call),
    }
}

/// Releases a device that was bound manually.
pub(super) fn release(device: PciAddress, as_json: bool) -> Result<(), Problem> {
    let device = device.to_string();
    let call = async |manager: &ManagerProxy<'_>, options: Options<'_>| {
        patiently(&device, manager.release(&device, options)).await
    };
    let report = job::ask("release", &device, &options([]), call)?;
    tell(&report, as_json, released)
}

/// Restores devices whose change was interrupted; fails when one could not be restored.
pub(super) fn recover(device: Option<PciAddress>, as_json: bool) -> Result<(), Problem> {
    let device = device.map(|device| device.to_string());
    let subject = device.as_deref().unwrap_or_default();
    let report = job::ask(
        "recover",
        subject,
        &options([]),
        async |manager, options| {
            let own = device.as_deref().map(|device| ("device", device.into()));
            manager
                .recover(options.into_iter().chain(own).collect())
                .await
        },
    )?;
    tell(&report, as_json, recovered)?;
    let mut rows = report.as_array().into_iter().flatten();
    let Some((row, sentence)) = rows.find_map(|row| Some((row, row["sentence"].as_str()?))) else {
        return Ok(());
    };
    // The report is printed in full; the first device that was not restored gives the code and the exit status.
    let code = row["code"].as_str().and_then(|code| code.parse().ok());
    Err(match code {
        Some(code) => Problem::Coded(Exit::Failed, Coded::new(code, sentence)),
        None => Problem::Failed(sentence.to_owned()),
    })
}

/// Prints on standard error that the agent has not answered yet, unless there is another form of progress, or none is wanted.
async fn patiently<T>(device: &str, call: impl Future<Output = T>) -> T {
    if progress::is_silent() || progress::is_shown() {
        return call.await;
    }
    let say = |waited: Duration| {
        let waited = waited.as_secs();
        output::say(&format!(
            "waiting for '{device}' ({waited} s); see 'journalctl -u variantd' for the reason"
        ));
    };
    meanwhile(call, [FIRST_WORD, NEXT_WORD], say).await
}

/// Reports the duration of a call after each pause.
async fn meanwhile<T>(
    call: impl Future<Output = T>,
    [first, next]: [Duration; 2],
    say: impl Fn(Duration),
) -> T {
    let mut call = pin!(call);
    let begun = Instant::now();
    let mut pause = first;
    loop {
        match timeout(pause, &mut call).await {
            Ok(answer) => return answer,
            Err(_) => say(begun.elapsed()),
        }
        pause = next;
    }
}

pub(super) fn tell(
    report: &Value,
    as_json: bool,
    words: fn(&Value) -> String,
) -> Result<(), Problem> {
    match as_json {
        true => output::object(json!({"report": report})),
        false => output::text(&words(report)),
    }
}

fn bound(report: &Value) -> String {
    let on = format!("{} is on {}", quoted(&report["device"]), driver(report));
    match report["outcome"].as_str() {
        Some("planned") => {
            let whole = || along(report).chain([report]);
            whole().for_each(note_module);
            whole().for_each(note_against);
            whole().flat_map(writes).collect()
        }
        Some("already-so") => format!("{on} already\n{}", bound_along(report)),
        _ => format!("{on} now\n{}", bound_along(report)),
    }
}

/// The devices that were bound together with the device.
fn along(report: &Value) -> impl Iterator<Item = &Value> {
    report["along"].as_array().into_iter().flatten()
}

fn bound_along(report: &Value) -> String {
    let line = |one: &Value| {
        format!(
            "{} is bound with it, to {}\n",
            quoted(&one["device"]),
            driver(one)
        )
    };
    along(report).map(line).collect()
}

fn writes(report: &Value) -> impl Iterator<Item = String> {
    let writes = report["writes"].as_array().into_iter().flatten();
    writes.map(|write| format!("{}\n", word(write)))
}

/// The modules to load, which are not writes.
fn note_module(report: &Value) {
    if let Some(module) = report["module"].as_str() {
        output::say(&format!("note: module '{module}' is loaded first"));
    }
}

/// The obstacles.
fn note_against(report: &Value) {
    for sentence in report["against"].as_array().into_iter().flatten() {
        output::say(&format!("obstacle: {}", word(sentence)));
    }
}

fn released(report: &Value) -> String {
    let whole = [report].into_iter().chain(along(report));
    whole.map(released_one).collect()
}

fn released_one(report: &Value) -> String {
    let (device, driver) = (quoted(&report["device"]), driver(report));
    let notes = report["against"].as_array().into_iter().flatten();
    let notes: String = notes
        .map(|note| format!("note: {}\n", word(note)))
        .collect();
    match report["outcome"].as_str() {
        Some("released") => format!("{device} is released to {driver}\n{notes}"),
        _ => format!("{device} was not bound by variantd and stays on {driver}\n"),
    }
}

fn recovered(report: &Value) -> String {
    let rows = report.as_array().into_iter().flatten();
    let given_back = rows.filter(|row| row["sentence"].is_null());
    let note = |row: &Value| {
        row["note"]
            .as_str()
            .map_or(String::new(), |note| format!("note: {note}\n"))
    };
    let lines: String = given_back
        .map(|row| {
            let device = quoted(&row["device"]);
            format!("{device} is restored{}\n{}", left_by(row), note(row))
        })
        .collect();
    match report.as_array().is_none_or(Vec::is_empty) {
        true => "no device has an interrupted change\n".to_owned(),
        false => lines,
    }
}

fn left_by(row: &Value) -> String {
    let domain = row["domain"].as_str();
    domain.map_or(String::new(), |domain| format!(" after domain '{domain}'"))
}

fn driver(report: &Value) -> String {
    let driver = report["driver"].as_str();
    driver.map_or("no driver".to_owned(), |driver| format!("'{driver}'"))
}

pub(super) fn quoted(value: &Value) -> String {
    format!("'{}'", word(value))
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPU: &str = "0009:01:00.0";

    fn answer(outcome: &str, driver: Option<&str>) -> Value {
        json!({"device": GPU, "driver": driver, "outcome": outcome, "module": null, "writes": ["a <- b", "c <- d"]})
    }

    #[test]
    fn a_dry_run_prints_only_its_writes() {
        assert_eq!(bound(&answer("planned", Some("x"))), "a <- b\nc <- d\n");
    }

    #[tokio::test]
    async fn a_long_call_is_reported_until_its_answer() {
        let count = std::cell::Cell::new(0);
        let call = async {
            while count.get() < 3 {
                tokio::task::yield_now().await;
            }
            7
        };
        let pauses = [Duration::from_millis(20), Duration::from_millis(1)];
        let answer = meanwhile(call, pauses, |_| count.set(count.get() + 1)).await;
        assert_eq!((answer, count.get()), (7, 3));
        let quick = meanwhile(async { 8 }, pauses, |_| unreachable!("it was answered")).await;
        assert_eq!(quick, 8);
    }

    #[test]
    fn reserve_distinguishes_done_from_already_done() {
        let printed = |outcome| bound(&answer(outcome, Some("vfio-pci")));
        assert_eq!(printed("bound"), format!("'{GPU}' is on 'vfio-pci' now\n"));
        assert_eq!(
            printed("already-so"),
            format!("'{GPU}' is on 'vfio-pci' already\n")
        );
        let released = released(&answer("released", None));
        assert_eq!(released, format!("'{GPU}' is released to no driver\n"));
    }

    #[test]
    fn bind_prints_companions_first_in_a_dry_run() {
        let with = |outcome: &str| {
            let mut report = answer(outcome, Some("vfio-pci"));
            let mut other = answer(outcome, Some("snd"));
            (other["device"], other["writes"]) = ("0009:01:00.1".into(), json!(["e <- f"]));
            report["along"] = json!([other]);
            report
        };
        assert_eq!(
            bound(&with("bound")),
            format!("'{GPU}' is on 'vfio-pci' now\n'0009:01:00.1' is bound with it, to 'snd'\n")
        );
        assert_eq!(bound(&with("planned")), "e <- f\na <- b\nc <- d\n");
        let printed = released(&with("released"));
        assert!(
            printed.ends_with("\n'0009:01:00.1' is released to 'snd'\n"),
            "{printed}"
        );
    }

    #[test]
    fn release_lists_only_restored_devices() {
        assert_eq!(
            recovered(&json!([])),
            "no device has an interrupted change\n"
        );
        let rows = json!([
            {"device": GPU, "domain": "d0", "sentence": null, "note": null},
            {"device": "0009:02:00.0", "domain": null, "sentence": "no"},
        ]);
        let printed = recovered(&rows);
        assert_eq!(printed, format!("'{GPU}' is restored after domain 'd0'\n"));
        let rows =
            json!([{"device": GPU, "domain": null, "sentence": null, "note": "without a driver"}]);
        assert_eq!(
            recovered(&rows),
            format!("'{GPU}' is restored\nnote: without a driver\n")
        );
    }
}
