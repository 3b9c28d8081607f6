//! A recipe that requires AtomicOps refuses a start.

use kernel_glue::host::Host;

use super::*;
use crate::fixture::{UUID, context_of, definition, kernel_of};
use settings::config::Config;

const GUEST: &str = include_str!("../../../tests/data/golden/atomics.xml");

/// The result of preparing a completed guest with this device, on the modelled host where AtomicOps end.
fn prepared(device: &str, change: impl Fn(&mut Host)) -> Result<(), AssignError> {
    let mut host = Host::read(&testing::hosts::directory("atomics")).expect("a modelled host");
    change(&mut host);
    let kernel = kernel_of(&host);
    let (directory, context) = context_of(host, Config::default());
    let records = Records::new(directory.path().to_owned());
    let text = GUEST
        .replace("bus='0x03'", &format!("bus='0x{device}'"))
        .replace("<memory", &format!("<uuid>{UUID}</uuid>\n  <memory"));
    let complete = context
        .look()
        .rewrite(&definition(&text), false)
        .expect("a complete guest");
    Assigner::new(kernel, context, records).prepare(&definition(&complete.text))
}

#[test]
fn a_start_is_refused_where_required_atomics_do_not_reach_the_guest() {
    for (device, rule) in [
        ("04", "VD-ATM-005"),
        ("23", "VD-ATM-006"),
        ("41", "VD-ATM-004"),
    ] {
        let error = prepared(device, |_| {}).expect_err("it does not reach the guest");
        assert!(
            matches!(error, AssignError::Refused(_)),
            "no repair fixes it"
        );
        let printed = error.to_string();
        let words = ["VD-ATM-021", rule, "variantctl atomics"];
        assert!(words.iter().all(|word| printed.contains(word)), "{printed}");
    }
    prepared("03", |_| {}).expect("AtomicOps reach it");
}

#[test]
fn start_is_not_refused_for_unknown_atomics() {
    let hide = |host: &mut Host| {
        for device in host.devices.values_mut() {
            device.config = kernel_glue::config::Config::Unreadable(ConfigError::Short(64));
        }
    };
    prepared("04", hide).expect("not visible is not unsupported");
}
