//! `variantctl reserve` and `unreserve`, and the reservations in `list`.

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use serde_json::{Value, json};

use super::bind::{self, quoted};
use super::domain::{ask, options};
use super::problem::Problem;
use super::{Cli, HostView, list::or_dash, output};
use agent::reserve::{Reservation, ReserveError};
use api::again::Effect;

/// A reservation, and why it is not in force on the host.
pub(super) struct Found {
    reservation: Option<Reservation>,
    sentence: Option<String>,
}

/// Reserves a device, and binds it now on request.
pub(super) fn reserve(
    device: PciAddress,
    driver: Option<&DriverName>,
    now: bool,
    cli: &Cli,
) -> Result<(), Problem> {
    let own = driver.map(|driver| ("driver", driver.as_str().into()));
    let options = options(own);
    let name = device.to_string();
    let report = ask(Effect::Changes, async |manager| {
        manager.reserve(&name, options.clone()).await
    })?;
    bind::tell(&report, cli.json, printed)?;
    match now {
        true => bind::bind(cli, device, driver, bind::How::default()),
        false => Ok(()),
    }
}

/// Ends a reservation, and releases the device now on request.
pub(super) fn unreserve(device: PciAddress, now: bool, as_json: bool) -> Result<(), Problem> {
    let name = device.to_string();
    let report = ask(Effect::Changes, async |manager| {
        manager.unreserve(&name, options([])).await
    })?;
    bind::tell(&report, as_json, ended)?;
    match now {
        true => bind::release(device, as_json),
        false => Ok(()),
    }
}

fn printed(report: &Value) -> String {
    let device = quoted(&report["device"]);
    match report["outcome"].as_str() {
        Some("already-so") => format!("{device} is already reserved\n"),
        _ => format!("{device} is reserved: it is bound at each boot\n"),
    }
}

fn ended(report: &Value) -> String {
    let device = quoted(&report["device"]);
    match report["outcome"].as_str() {
        Some("already-so") => format!("{device} was not reserved\n"),
        _ => format!("{device} is no longer reserved\n"),
    }
}

/// The reservations, each with the reason when it is not in force.
pub(super) fn found(host_view: &HostView) -> Vec<Found> {
    let all = host_view.reservations.all().into_iter();
    all.map(|one| Found::new(host_view, one)).collect()
}

impl Found {
    fn new(host_view: &HostView, one: Result<Reservation, ReserveError>) -> Self {
        match one {
            Ok(reservation) => Self {
                sentence: sentence(host_view, &reservation),
                reservation: Some(reservation),
            },
            Err(error) => Self {
                sentence: Some(error.to_string()),
                reservation: None,
            },
        }
    }
}

/// Why a reservation is not in force.
fn sentence(host_view: &HostView, reservation: &Reservation) -> Option<String> {
    let found = match reservation.device(&host_view.host) {
        Ok(found) => found,
        Err(refusal) => return Some(refusal.to_string()),
    };
    let recipe = host_view
        .recipes
        .for_device(found)
        .map(|recipe| &recipe.driver);
    let wanted = reservation.driver.as_ref().or(recipe);
    // The kernel may use a hyphen or an underscore.
    let name = |driver: &DriverName| driver.as_str().replace('-', "_");
    if wanted.is_some() && found.driver.as_ref().map(name) == wanted.map(name) {
        return None;
    }
    let device = found.address;
    let (on, wanted) = (or_dash(found.driver.as_ref()), or_dash(wanted));
    Some(format!(
        "'{device}' is reserved and on '{on}' instead of '{wanted}'; run 'variantctl bind {device}', or see \
         'journalctl -u variantd-reserve' for why it is not"
    ))
}

/// Prints the reserved devices, and the reservations that are not in force.
pub(super) fn tell(all: &[Found]) {
    let reserved = all.iter().filter_map(|one| one.reservation.as_ref());
    let reserved: Vec<String> = reserved.map(|one| one.device.to_string()).collect();
    if !reserved.is_empty() {
        output::say(&format!("reserved for guests: {}", reserved.join(", ")));
    }
    for sentence in all.iter().filter_map(|one| one.sentence.as_ref()) {
        output::say(&format!("warning: {sentence}"));
    }
}

/// The reservations as JSON.
pub(super) fn to_json(all: &[Found]) -> Value {
    let one = |one: &Found| json!({"reservation": one.reservation, "sentence": one.sentence});
    all.iter().map(one).collect()
}
