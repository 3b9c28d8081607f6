//! What is counted, where it happens: assignments on the modelled kernel, and the text.

use std::collections::BTreeSet;

use nix::errno::Errno;

use super::*;
use crate::fixture::{
    GPU, UUID, VARIANT, address, assigner, context, definition, driver, guest, kernel, metric,
};
use settings::config::Config;

const BINDS: &str = "variantd_binds_total";
const RELEASES: &str = "variantd_releases_total";

#[test]
fn binds_and_releases_are_counted_by_owner_and_result() {
    let (directory, context) = context(Config::default());
    let kernel = kernel();
    let assigner = assigner(kernel.clone(), &context, &directory);
    let total = |name: &str, owner: &str, result: &str| {
        let series = format!("{name}{{owner=\"{owner}\",result=\"{result}\"}}");
        metric(&context, &series)
    };
    let timed = |name: &str, owner: &str| {
        let series = format!("variantd_{name}_duration_seconds_count{{owner=\"{owner}\"}}");
        metric(&context, &series)
    };
    assert_eq!(total(BINDS, "guest", "done"), Some(0.0), "from the start");
    let complete = context.look().rewrite(&definition(&guest(GPU)), false);
    let complete = definition(&complete.expect("a complete guest").text);
    assigner.prepare(&complete).expect("bound");
    assert_eq!(total(BINDS, "guest", "done"), Some(1.0));
    assigner.prepare(&complete).expect("bound already");
    assert_eq!(total(BINDS, "guest", "unchanged"), Some(1.0));
    assert_eq!(timed("bind", "guest"), Some(2.0));
    assigner
        .release(&UUID.parse().expect("uuid"))
        .expect("released");
    assert_eq!(total(RELEASES, "guest", "done"), Some(1.0));
    assert_eq!(timed("release", "guest"), Some(1.0));

    let bind = || assigner.bind_manually(address(GPU), None);
    kernel.fail_probe(driver(VARIANT), Errno::ETIME);
    bind().expect_err("its probe fails");
    assert_eq!(total(BINDS, "manual", "failed"), Some(1.0));
    assert_eq!(total(BINDS, "manual", "done"), Some(0.0));
    kernel.add_driver(driver("vfio-pci"), []);
    let reserved = assigner.bind_reserved(address(GPU), Some(driver("vfio-pci")));
    reserved.expect("bound");
    assert_eq!(total(BINDS, "reservation", "done"), Some(1.0));
    let released = assigner.release_manually(address(GPU));
    released.expect("released");
    assert_eq!(total(RELEASES, "reservation", "done"), Some(1.0));
    assert_eq!(total(RELEASES, "guest", "done"), Some(1.0));
}

#[test]
fn devices_are_counted_by_state_driver_and_owner_and_are_absent_while_unknown() {
    let metrics = Metrics::default();
    let device = |state, driver, owner| Labels {
        state,
        driver,
        owner,
        degraded: state == "degraded",
    };
    let shows = |line: &str| metrics.text(None).lines().any(|one| one == line);
    assert!(!shows("variantd_degraded_devices 0"), "not read yet");
    let bound = device("bound", "x-vfio", "guest");
    metrics.devices([bound, bound, device("free", "", "none")].into_iter());
    let two = "variantd_devices{driver=\"x-vfio\",owner=\"guest\",state=\"bound\"} 2";
    assert!(shows(two));
    assert!(shows("variantd_degraded_devices 0"));
    metrics.devices([device("degraded", "x-vfio", "manual")].into_iter());
    assert!(!shows(two));
    assert!(shows("variantd_degraded_devices 1"));
    metrics.no_devices();
    let text = metrics.text(None);
    assert!(!text.contains("_devices"), "{text}");
}

#[test]
fn labels_of_drivers_are_limited_in_number() {
    let metrics = Metrics::default();
    let names: Vec<String> = (0..100).map(|number| format!("driver-{number}")).collect();
    let devices = names.iter().map(|name| Labels {
        state: "free",
        driver: name,
        owner: "host",
        degraded: false,
    });
    metrics.devices(devices);
    let text = metrics.text(None);
    let series = text
        .lines()
        .filter(|line| line.starts_with("variantd_devices{"));
    assert_eq!(series.count(), DRIVERS + 1);
    let rest = format!(
        "variantd_devices{{driver=\"other\",owner=\"host\",state=\"free\"}} {}",
        100 - DRIVERS
    );
    assert!(text.contains(&rest), "{text}");
}

#[test]
fn refusals_and_failures_are_two_families() {
    let metrics = Metrics::default();
    metrics.refused(Source::Bus, Kind::NotAuthorized, Code::NotAuthorized);
    metrics.refused(Source::Event, Kind::Refused, Code::XmlLoop);
    metrics.refused(Source::Hook, Kind::Failed, Code::BindStuck);
    let text = metrics.text(None);
    for (family, code, source) in [
        ("refusals", Code::NotAuthorized, "bus"),
        ("refusals", Code::XmlLoop, "event"),
        ("failures", Code::BindStuck, "hook"),
    ] {
        let series = format!("variantd_{family}_total{{code=\"{code}\",source=\"{source}\"}} 1");
        assert!(text.contains(&series), "{text}");
    }
}

#[test]
fn text_has_the_versions_and_the_time() {
    let before = now();
    let (_directory, context) = context(Config::default());
    let versions = Versions::NEWEST_TESTED;
    let stack = format!(
        "variantd_stack_info{{libvirt=\"{}\",qemu=\"{}\"}}",
        versions.libvirt, versions.qemu
    );
    assert_eq!(metric(&context, &stack), Some(1.0));
    let version = format!(
        "variantd_build_info{{version=\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(metric(&context, &version), Some(1.0));
    for name in [
        "variantd_start_time_seconds",
        "variantd_metrics_timestamp_seconds",
    ] {
        let at = metric(&context, name).expect(name);
        assert!(
            (before as f64..=now() as f64).contains(&at),
            "{name} is {at}"
        );
    }
    assert!(!Metrics::default().text(None).contains("stack_info"));
}

/// The rows `name | type | labels | meaning` of the document's tables.
fn documented() -> Vec<Described> {
    let text = include_str!("../../../packaging/doc/monitoring.md");
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, labels, help] = cells[..] else {
            return None;
        };
        let name = name.trim_matches('`').to_owned();
        let kind = ["gauge", "counter", "histogram"];
        let kind = kind.into_iter().find(|one| *one == cells[1])?;
        let labels = labels.split(", ").filter(|label| !label.is_empty());
        let labels = labels.map(|label| label.trim_matches('`').to_owned());
        Some(Described {
            name,
            kind,
            labels: labels.collect(),
            help: help.to_owned(),
        })
    };
    text.lines().filter_map(row).collect()
}

#[test]
fn the_document_lists_each_family_with_its_type_labels_and_meaning() {
    let mut documented = documented();
    let mut real = Metrics::default().families().to_vec();
    for list in [&mut documented, &mut real] {
        list.sort_by(|a, b| a.name.cmp(&b.name));
    }
    assert_eq!(documented, real);
}

/// Names of metrics in an expression or another text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|one: char| !(one.is_ascii_alphanumeric() || one == '_'));
    let own = words.filter(|word| word.starts_with("variantd_"));
    own.map(str::to_owned).collect()
}

#[test]
fn rules_and_dashboard_use_only_families_that_exist() {
    let families: BTreeSet<String> = Metrics::default()
        .families()
        .iter()
        .map(|family| family.name.clone())
        .collect();
    let base = |name: &String| {
        let histogram = ["_bucket", "_sum", "_count"];
        let cut = histogram.iter().find_map(|end| name.strip_suffix(end));
        cut.unwrap_or(name).to_owned()
    };
    for text in [
        include_str!("../../../packaging/monitoring/variantd.rules.yml"),
        include_str!("../../../packaging/monitoring/variantd.dashboard.json"),
    ] {
        let used: BTreeSet<String> = names(text).iter().map(base).collect();
        assert!(!used.is_empty());
        let unknown: Vec<_> = used.difference(&families).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
