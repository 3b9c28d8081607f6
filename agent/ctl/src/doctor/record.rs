//! Checks of records: reservations must be in force, and no change of a device may be interrupted.

use kernel_glue::device::Device;

use super::check::Check;
use super::driver::module_name;
use super::scene::{Agent, Journal, Scene};
use agent::record::Phase;
use agent::record::{DeviceRecord, Manual};
use agent::reserve::Reservation;
use domain::code::Code;
use domain::hint::Hint;

pub(super) fn reservations(scene: &Scene) -> Vec<Check> {
    let fine = "reservations are in force";
    let all = match &scene.reservations {
        Ok(all) => all,
        Err(why) => return vec![Check::unavailable(Code::ReservedUnbound, fine, why)],
    };
    if all.is_empty() {
        return vec![Check::pass(Code::ReservedUnbound, "no device is reserved")];
    }
    all.iter().map(|one| reservation(scene, one)).collect()
}

fn reservation(scene: &Scene, one: &Result<Reservation, String>) -> Check {
    let one = match one {
        Ok(one) => one,
        Err(why) => {
            let hint = "fix or remove the file, or run 'variantctl reserve' for its device again";
            return Check::fail(Code::ReservedUnbound, why.clone(), hint);
        }
    };
    match one.device(&scene.host) {
        Ok(device) => in_force(scene, one, device),
        Err(refusal) => Check::refused(&refusal),
    }
}

fn in_force(scene: &Scene, one: &Reservation, device: &Device) -> Check {
    let recipe = scene
        .recipes
        .for_device(device)
        .map(|recipe| &recipe.driver);
    let Some(wanted) = one.driver.as_ref().or(recipe) else {
        let hint = Hint::run(format!("variantctl unreserve {}", one.device));
        let text = "it is reserved, and neither recipe nor reservation names a driver";
        return Check::fail(Code::DriverUnknown, text, hint).of(one.device);
    };
    let on = device.driver.as_ref();
    if on.map(module_name) == Some(module_name(wanted)) {
        return Check::pass(Code::ReservedUnbound, "its reservation is in force")
            .of(one.device)
            .with(format!("on {wanted}"));
    }
    let text = format!(
        "it is reserved for guests and on {} instead of '{wanted}'",
        on.map_or("no driver".to_owned(), |on| format!("'{on}'"))
    );
    let hint = Hint::run(format!("variantctl bind {}", one.device))
        .then(", or see 'journalctl -u variantd-reserve' for why it is not");
    Check::fail(Code::ReservedUnbound, text, hint).of(one.device)
}

/// Devices whose change failed or was interrupted, without an operation in progress.
pub(super) fn journal(scene: &Scene) -> Vec<Check> {
    let fine = "no change of a device was interrupted";
    let journal = match &scene.journal {
        Ok(journal) => journal,
        Err(why) => return vec![Check::unavailable(Code::BindDegraded, fine, why)],
    };
    let works = matches!(scene.agent, Ok(Agent::Answers(_)));
    let mut checks = unusable(journal);
    let records = &journal.records;
    checks.extend(records.iter().filter_map(|record| held(record, works)));
    let manual = records.iter().filter_map(|record| record.manual.as_ref());
    let undone = manual.filter(|one| Manual::is_unsettled(one));
    checks.extend(undone.map(|one| {
        incomplete(
            one.device.to_string(),
            "by the administrator or a reservation",
        )
    }));
    if checks.is_empty() {
        checks.push(Check::pass(Code::BindDegraded, fine));
    }
    checks
}

fn held(record: &DeviceRecord, works: bool) -> Option<Check> {
    let of = record.domain.as_ref()?;
    let is_left = match of.record.phase {
        Phase::Degraded => true,
        // An agent that answers may still be working on it.
        Phase::Binding | Phase::Releasing => !works,
        Phase::Bound => false,
    };
    let device = record.device.to_string();
    is_left.then(|| incomplete(device, &format!("for domain '{}'", of.domain.name)))
}

fn incomplete(device: String, what: &str) -> Check {
    let text = format!("a change of it {what} failed or was interrupted");
    let hint = Hint::run(format!("variantctl recover {device}"));
    Check::fail(Code::BindDegraded, text, hint).of(device)
}

fn unusable(journal: &Journal) -> Vec<Check> {
    let full = journal.unwritable.as_ref().map(|why| {
        Check::fail(
            Code::JournalFailed,
            format!("cannot write into '/run/variantd', so no device is assigned to a guest: {why}"),
            "free space or mount it writable ('df -h /run/variantd', 'df -i /run/variantd'); the agent then continues by itself",
        )
    });
    let check = |(path, why, newer): &(String, String, bool)| {
        let code = match newer {
            true => Code::JournalNewer,
            false => Code::JournalFailed,
        };
        let hint = match newer {
            true => "install the newer variantd again".to_owned(),
            false => format!("read it, check its devices, then run 'mv {path} {path}.damaged'"),
        };
        Check::fail(code, format!("'{path}' cannot be used: {why}"), hint)
    };
    full.into_iter()
        .chain(journal.unusable.iter().map(check))
        .collect()
}
