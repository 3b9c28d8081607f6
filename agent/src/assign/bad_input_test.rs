//! A fault of a host or a record gives its own domain a clear error, and does not affect other domains.

use std::fs;

use kernel_glue::config::{Config as ConfigSpace, ConfigError};
use kernel_glue::host::Host;
use kernel_glue::kernel::Kernel;
use kernel_glue::model::Model;

use super::fault_fixture::Fault;
use super::trial_fixture::*;
use super::*;
use crate::fixture::{
    self, GPU, UUID, VARIANT, address, context, context_of, definition, driver, guest,
};
use settings::config::Config as Configuration;

const OTHER: &str = "70700b9e-3c1e-4b3a-9a39-0d0c7b9f6a11";

fn other() -> DomainRef {
    DomainRef {
        uuid: OTHER.parse().expect("uuid"),
        name: "d1".into(),
    }
}

/// Two GPUs; the first has the fault, and the second is for another domain.
fn trial(faults: &[(usize, Fault)]) -> (tempfile::TempDir, Trial) {
    let (directory, context) = context(Configuration::default());
    (directory, Trial::new(&context, TWO, faults))
}

impl Trial {
    fn refused(&self) -> String {
        let error = self.agent.bind(&domain(), &planned(ONE), || Ok(()));
        error.expect_err("it must not be bound").to_string()
    }

    fn entry(&self) -> std::path::PathBuf {
        let records = self.directory.path().join("records");
        fs::create_dir_all(&records).expect("directory");
        records.join(format!("{}.json", GPU0.0))
    }

    /// The other domain gets its device and releases it.
    fn check_the_rest_works(&self) {
        let mine = planned(&TWO[1..]);
        self.agent
            .bind(&other(), &mine, || Ok(()))
            .expect("the other domain");
        assert_eq!(self.state(&GPU1).driver, Some(driver(VARIANT)));
        self.agent.release(&other().uuid).expect("released");
        assert_eq!(self.state(&GPU1), before(&GPU1));
    }

    fn check_untouched(&self) {
        assert_eq!(self.state(&GPU0), before(&GPU0));
        assert_eq!(self.journalled(&GPU0), None);
        self.check_the_rest_works();
    }
}

#[test]
fn recover_reports_a_removed_device() {
    let (_site, trial) = trial(&[]);
    trial.machine.model.remove_device(address(GPU0.0));
    let text = trial.refused();
    assert!(
        text.starts_with("cannot read the driver of '0009:01:00.0': no such device"),
        "{text}"
    );
    trial.check_the_rest_works();
}

#[test]
fn removed_device_loses_its_entry() {
    let mut points = 0;
    for point in 1.. {
        let (_site, trial) = trial(&[(point, Fault::Vanishes)]);
        let bound = trial
            .agent
            .bind(&domain(), &planned(TWO), || Ok(()))
            .is_ok();
        if trial.machine.ahead() > 0 {
            assert!(bound);
            break;
        }
        points += 1;
        trial
            .agent
            .release(&domain().uuid)
            .expect("nothing left to do");
        let next = agent(&trial.life, &trial.context, &trial.directory);
        next.resume();
        next.recover(&[]);
        assert!(next.held().is_empty(), "at {point}");
        for line in TWO {
            let state = Before::read(&trial.machine.model, address(line.0));
            assert!(state.is_err() || state == Ok(before(line)), "at {point}");
        }
    }
    assert!(points > 6, "{points}");
}

fn dead_host() -> Host {
    let mut host = fixture::host();
    let gpu = host.devices.get_mut(&address(GPU)).expect("GPU");
    gpu.config = ConfigSpace::Unreadable(ConfigError::AllOnes);
    host
}

#[test]
fn prepare_refuses_a_device_whose_config_space_is_all_ones() {
    let (directory, context) = context_of(dead_host(), Configuration::default());
    let kernel = fixture::kernel();
    let records = Records::new(directory.path().to_owned());
    let assigner = Assigner::new(kernel.clone(), context.clone(), records);
    let complete = context
        .look()
        .rewrite(&definition(&guest(GPU)), false)
        .expect("complete");
    let text = assigner
        .prepare(&definition(&complete.text))
        .expect_err("dead")
        .to_string();
    assert!(
        text.contains("does not answer") && text.contains("VD-BND-012"),
        "{text}"
    );
    assert!(kernel.writes().is_empty() && assigner.held().is_empty());
}

#[test]
fn bind_reports_a_driver_without_a_module() {
    let (_site, trial) = trial(&[]);
    let mut devices = planned(ONE);
    devices[0].driver = driver("no-such-vfio-pci");
    let text = trial
        .agent
        .bind(&domain(), &devices, || Ok(()))
        .expect_err("no driver");
    let text = text.to_string();
    assert!(
        text.contains("'no-such-vfio-pci'") && text.contains("no module of this kernel"),
        "{text}"
    );
    assert!(
        text.ends_with("run a kernel that has the driver, or name another one"),
        "{text}"
    );
    trial.check_untouched();
}

#[test]
fn release_without_a_policy_driver_restores_the_previous_one() {
    let (_directory, context) = context(Configuration {
        release: "no-such-driver".to_owned().try_into().expect("policy"),
        ..Configuration::default()
    });
    let trial = Trial::new(&context, ONE, &[]);
    assert!(trial.start());
    trial.agent.release(&domain().uuid).expect("released");
    assert_eq!(trial.state(&GPU0), before(&GPU0));
    assert_eq!(trial.journalled(&GPU0), None);
}

#[test]
fn a_record_of_a_newer_version_holds_its_device_and_nothing_else() {
    let (_site, mut trial) = trial(&[]);
    let device = GPU0.0;
    let newer = format!(
        r#"{{"version":3,"device":"{device}","owner":{{"domain":{{"uuid":"{UUID}","name":"d0"}}}},"more":1}}"#
    );
    fs::write(trial.entry(), &newer).expect("newer");
    trial.recover(&[]);
    assert!(
        trial.refused().contains("has version 3"),
        "{}",
        trial.refused()
    );
    assert!(trial.refused().contains("VD-BND-011"));
    let taken = trial
        .agent
        .bind(&other(), &planned(ONE), || Ok(()))
        .expect_err("held");
    assert!(
        taken.to_string().contains("assigned to domain 'd0'"),
        "{taken}"
    );
    assert_eq!(fs::read_to_string(trial.entry()).expect("kept"), newer);
    trial.check_untouched();
}

#[test]
fn truncated_record_does_not_block_other_domains() {
    let (_site, mut trial) = trial(&[]);
    fs::write(trial.entry(), "{\"version\":2,\"device\":\"00").expect("half");
    trial.recover(&[]);
    trial.check_untouched();
    assert!(trial.start());
    assert!(trial.is_bound(&GPU0));
}

#[test]
fn full_run_directory_refuses_binds_and_allows_releases() {
    // The first point loads the module.
    let (_site, trial) = trial(&[(2, Fault::Fails)]);
    let text = trial.refused();
    assert!(
        text.contains("No space left on device") && text.contains("VD-BND-010"),
        "{text}"
    );
    assert!(text.contains("free space there"), "{text}");
    assert!(
        trial.machine.model.writes().len() == 1,
        "only the fixture's own"
    );
    trial.check_untouched();
}

#[test]
fn failed_journal_write_is_reported_and_changes_nothing() {
    for (fault, reason) in [
        (Fault::Fails, "No space left on device"),
        (Fault::Denied, "Permission denied"),
        (Fault::ReadOnly, "Read-only file system"),
    ] {
        let mut refused = 0;
        for point in 2.. {
            let (_site, trial) = trial(&[(point, fault)]);
            let bound = trial.agent.bind(&domain(), &planned(ONE), || Ok(()));
            if trial.machine.ahead() > 0 {
                break;
            }
            let text = bound.map_or_else(|error| error.to_string(), |()| String::new());
            if text.contains("VD-BND-010") {
                assert!(
                    text.contains(reason) && text.contains("free space"),
                    "{text}"
                );
                refused += 1;
            }
            trial.check_untouched();
        }
        assert_eq!(refused, 2, "{fault:?}: before the bind and after it");
    }
}

#[test]
fn record_that_is_not_a_file_affects_only_its_device() {
    type Place = fn(&std::path::Path) -> std::io::Result<()>;
    let cases: [(Place, bool); 3] = [
        (|path| fs::create_dir(path), false),
        (
            |path| std::os::unix::fs::symlink("/etc/passwd", path),
            false,
        ),
        (|path| fs::write(path, vec![b' '; 1 << 20]), true),
    ];
    for (place, is_set_aside) in cases {
        let (_site, mut trial) = trial(&[]);
        place(&trial.entry()).expect("in the way");
        trial.recover(&[]);
        assert_eq!(
            trial.entry().with_extension("damaged").exists(),
            is_set_aside
        );
        if !is_set_aside {
            let text = trial.refused();
            assert!(
                text.contains("VD-BND-010") && text.contains(GPU0.0),
                "{text}"
            );
        }
        trial.check_untouched();
    }
}

#[test]
fn a_release_needs_no_room_in_the_run_directory() {
    let bound = trial(&[]).1;
    assert!(bound.start());
    let intent = bound.machine.point() + 1;
    let (_site, trial) = trial(&[(intent, Fault::Fails)]);
    assert!(trial.start());
    trial.agent.release(&domain().uuid).expect("released");
    assert_eq!(trial.machine.ahead(), 0);
    trial.check_untouched();
}

#[test]
fn a_records_directory_that_cannot_be_made_is_named() {
    let (_site, trial) = trial(&[]);
    let path = trial.directory.path().join("records");
    fs::write(&path, "in the way").expect("a file");
    let records = Records::new(trial.directory.path().to_owned());
    let kernel = Arc::new(trial.life.clone());
    let agent = Assigner::new(kernel, trial.context.clone(), records);
    let error = agent
        .bind(&domain(), &planned(ONE), || Ok(()))
        .expect_err("no records");
    assert!(
        error.to_string().contains(&path.display().to_string()),
        "{error}"
    );
    assert_eq!(trial.state(&GPU0), before(&GPU0));
}

#[test]
fn missing_permission_is_reported_without_changes() {
    let denied: Vec<_> = (2..9).map(|point| (point, Fault::Denied)).collect();
    let (_site, trial) = trial(&denied[1..]);
    let text = trial.refused();
    assert!(text.contains("only root may do this (EACCES)"), "{text}");
    assert_eq!(trial.state(&GPU0), before(&GPU0));
    trial.machine.heal();
    trial.check_the_rest_works();
    let model: &Model = &trial.machine.model;
    assert_eq!(model.driver(address(GPU0.0)), Ok(GPU0.2.map(driver)));
}
