//! `variantctl bind`, `release` and `recover`: asks the agent, which alone changes the host.

use std::pin::pin;
use std::time::{Duration, Instant};

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::domain::{ask, options};
use super::problem::{Coded, Exit, Problem};
use super::{Cli, dry_run, output};
use api::again::Effect;

/// After this long it is said that the agent is waited for,
const FIRST_WORD: Duration = Duration::from_secs(2);
/// and after this long again.
const NEXT_WORD: Duration = Duration::from_secs(10);

/// What a bind is to do besides.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct How {
    pub(super) dry_run: bool,
    pub(super) allow_group: bool,
    pub(super) stop_services: bool,
}

/// Binds a device outside of any guest, or prints the writes that would.
///
/// A dry run needs no agent: for another host, other recipes, or where no agent answers, it is planned here.
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
            .filter(|(_, said)| *said)
            .map(|(key, _)| (key, true.into())),
    );
    if let Some(driver) = driver {
        options.insert("driver", driver.as_str().into());
    }
    let device = device.to_string();
    ask(Effect::Changes, async |manager| {
        let options = options.clone();
        patiently(&device, manager.bind(&device, options)).await
    })
}

/// Gives a device back that was bound outside of any guest.
pub(super) fn release(device: PciAddress, as_json: bool) -> Result<(), Problem> {
    let device = device.to_string();
    let report = ask(Effect::Changes, async |manager| {
        let release = manager.release(&device, options([]));
        patiently(&device, release).await
    })?;
    tell(&report, as_json, released)
}

/// Gives devices back that a change left half-way; fails when one could not be.
pub(super) fn recover(device: Option<PciAddress>, as_json: bool) -> Result<(), Problem> {
    let device = device.map(|device| device.to_string());
    let report = ask(Effect::Changes, async |manager| {
        let own = device.as_deref().map(|device| ("device", device.into()));
        manager.recover(options(own)).await
    })?;
    tell(&report, as_json, recovered)?;
    let mut rows = report.as_array().into_iter().flatten();
    let Some((row, sentence)) = rows.find_map(|row| Some((row, row["sentence"].as_str()?))) else {
        return Ok(());
    };
    let code = row["code"].as_str().and_then(|code| code.parse().ok());
    Err(match code {
        Some(code) => Problem::Coded(Exit::Failed, Coded::new(code, sentence)),
        None => Problem::Failed(sentence.to_owned()),
    })
}

/// Says on standard error that the agent has not answered yet.
async fn patiently<T>(device: &str, call: impl Future<Output = T>) -> T {
    let say = |waited: Duration| {
        let waited = waited.as_secs();
        output::say(&format!(
            "waiting for '{device}' ({waited} s); 'journalctl -u variantd' says what for"
        ));
    };
    meanwhile(call, [FIRST_WORD, NEXT_WORD], say).await
}

/// Says how long a call takes: for the first time after the first pause.
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

/// What went with the device.
fn along(report: &Value) -> impl Iterator<Item = &Value> {
    report["along"].as_array().into_iter().flatten()
}

fn bound_along(report: &Value) -> String {
    let line = |one: &Value| {
        format!(
            "{} goes along, on {}\n",
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

/// A module that is loaded is no write, so it is not among them.
fn note_module(report: &Value) {
    if let Some(module) = report["module"].as_str() {
        output::say(&format!("note: module '{module}' is loaded first"));
    }
}

/// Nor is what stands against it.
fn note_against(report: &Value) {
    for sentence in report["against"].as_array().into_iter().flatten() {
        output::say(&format!("in the way: {}", word(sentence)));
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
        Some("released") => format!("{device} is given back to {driver}\n{notes}"),
        _ => format!("{device} was not bound by variantd: it stays on {driver}\n"),
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
            format!("{device} is given back{}\n{}", left_by(row), note(row))
        })
        .collect();
    match report.as_array().is_none_or(Vec::is_empty) {
        true => "no device was left half-way\n".to_owned(),
        false => lines,
    }
}

fn left_by(row: &Value) -> String {
    let domain = row["domain"].as_str();
    domain.map_or(String::new(), |domain| {
        format!(": domain '{domain}' had left it")
    })
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
    fn a_dry_run_is_its_writes_and_nothing_else() {
        assert_eq!(bound(&answer("planned", Some("x"))), "a <- b\nc <- d\n");
    }

    #[tokio::test]
    async fn a_call_that_takes_long_is_told_of_until_it_is_answered() {
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
    fn what_was_done_and_what_was_so_already_differ() {
        let said = |outcome| bound(&answer(outcome, Some("vfio-pci")));
        assert_eq!(said("bound"), format!("'{GPU}' is on 'vfio-pci' now\n"));
        assert_eq!(
            said("already-so"),
            format!("'{GPU}' is on 'vfio-pci' already\n")
        );
        let released = released(&answer("released", None));
        assert_eq!(released, format!("'{GPU}' is given back to no driver\n"));
    }

    #[test]
    fn what_goes_along_is_said_and_in_a_dry_run_comes_first() {
        let with = |outcome: &str| {
            let mut report = answer(outcome, Some("vfio-pci"));
            let mut other = answer(outcome, Some("snd"));
            (other["device"], other["writes"]) = ("0009:01:00.1".into(), json!(["e <- f"]));
            report["along"] = json!([other]);
            report
        };
        assert_eq!(
            bound(&with("bound")),
            format!("'{GPU}' is on 'vfio-pci' now\n'0009:01:00.1' goes along, on 'snd'\n")
        );
        assert_eq!(bound(&with("planned")), "e <- f\na <- b\nc <- d\n");
        let said = released(&with("released"));
        assert!(
            said.ends_with("\n'0009:01:00.1' is given back to 'snd'\n"),
            "{said}"
        );
    }

    #[test]
    fn only_what_was_given_back_is_listed_as_such() {
        assert_eq!(recovered(&json!([])), "no device was left half-way\n");
        let rows = json!([
            {"device": GPU, "domain": "d0", "sentence": null, "note": null},
            {"device": "0009:02:00.0", "domain": null, "sentence": "no"},
        ]);
        let said = recovered(&rows);
        assert_eq!(
            said,
            format!("'{GPU}' is given back: domain 'd0' had left it\n")
        );
        let rows =
            json!([{"device": GPU, "domain": null, "sentence": null, "note": "without a driver"}]);
        assert_eq!(
            recovered(&rows),
            format!("'{GPU}' is given back\nnote: without a driver\n")
        );
    }
}
