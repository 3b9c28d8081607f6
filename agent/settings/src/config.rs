//! The agent's configuration: `/etc/variantd/variantd.conf` and its drop-ins, TOML; every key has a default.

use std::io;
use std::path::Path;

use domain::code::Code;
use kernel_glue::driver::{DriverName, DriverNameError};
use planner::recipe::Extra;
use planner::toml_text::TomlError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::service::ServiceName;

pub use layer::{Files, Layers, Origin};
pub use mode::{Mode, ModeError};

mod layer;
mod mode;

/// The default path; an argument can name another.
pub const PATH: &str = "/etc/variantd/variantd.conf";

/// The settings of the administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// When definitions are completed; a recipe can override it.
    pub prepare: Policy,
    /// Whether an incomplete definition is completed after its start was refused.
    pub repair: bool,
    /// The driver of a device after its guest ended.
    pub release: Release,
    /// The check after a device was bound for a guest.
    pub verify: Verify,
    /// Whether the other functions of a device's IOMMU group are taken from the host with it.
    pub allow_group: bool,
    /// Services that a guest's start stops if they hold its device.
    pub stop_services: Vec<ServiceName>,
    /// Permissions of the host snapshot that the agent publishes.
    pub snapshot_mode: Mode,
    /// Seconds after which an idle agent exits; 0 for never.
    pub idle_exit: u64,
    /// Devices added to a recipe.
    #[serde(rename = "device")]
    pub devices: Vec<Extra>,
}

/// When definitions are completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// At define, if the recipe allows it.
    OnDefine,
    /// Only on request.
    OnRequest,
}

/// The driver of a device after its guest ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Release {
    /// The driver and driver_override that it had before.
    Previous,
    /// The driver that it had in the guest.
    Keep,
    /// This driver.
    Driver(DriverName),
}

/// The check after a device was bound for a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// The device is bound to its driver.
    Driver,
    /// VFIO also reports its memory: the device is opened, which resets it, and closed.
    Regions,
}

impl TryFrom<String> for Release {
    type Error = DriverNameError;

    fn try_from(text: String) -> Result<Self, DriverNameError> {
        Ok(match text.as_str() {
            "previous" => Self::Previous,
            "keep" => Self::Keep,
            _ => Self::Driver(text.parse()?),
        })
    }
}

impl From<Release> for String {
    fn from(release: Release) -> Self {
        match release {
            Release::Previous => "previous".to_owned(),
            Release::Keep => "keep".to_owned(),
            Release::Driver(driver) => driver.to_string(),
        }
    }
}

/// The file cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read '{file}': {why} ({code}); make it readable for root", code = self.code())]
    Read {
        /// The file.
        file: String,
        /// The error.
        why: io::Error,
    },
    /// A key or value is invalid.
    #[error("{0} ({code})", code = self.code())]
    Meaning(#[from] TomlError),
}

impl ConfigError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Read { .. } => Code::ConfigUnreadable,
            Self::Meaning(_) => Code::ConfigMistake,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            prepare: Policy::OnDefine,
            repair: true,
            release: Release::Previous,
            verify: Verify::Driver,
            allow_group: false,
            stop_services: Vec::new(),
            snapshot_mode: Mode::default(),
            idle_exit: 0,
            devices: Vec::new(),
        }
    }
}

impl Config {
    /// The key whose values are added to those of earlier files.
    pub const DEVICE: &str = "device";

    /// Reads a file, its drop-ins and the vendor's files; missing files mean the defaults.
    ///
    /// # Errors
    /// Names file, line and the nearest key of the first error.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        match Layers::read(&Files::around(file)) {
            Ok(layers) => Ok(layers.config),
            // `Layers::read` fails with at least one error.
            Err(errors) => errors.into_iter().next().map_or(Ok(Self::default()), Err),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use planner::toml_text;

    fn parse(file: &str, text: &str) -> Result<Config, ConfigError> {
        Ok(toml_text::read(file, text)?)
    }

    #[test]
    fn an_empty_file_and_a_missing_one_mean_the_defaults() {
        let default = Config::default();
        assert_eq!(parse("f", "").expect("empty"), default);
        let missing = Path::new("/nonexistent/variantd.conf");
        assert_eq!(Config::read(missing).expect("missing"), default);
    }

    #[test]
    fn each_key_is_read() {
        let text = "# mine\nprepare = \"on-request\"\nrepair = false\nallow_group = true\n";
        let config = parse("f", text).expect("configuration");
        assert_eq!(config.prepare, Policy::OnRequest);
        assert!(!config.repair && config.allow_group);
    }

    #[test]
    fn verify_defaults_to_the_driver() {
        let read = |word: &str| parse("f", &format!("verify = {word:?}\n"));
        assert_eq!(read("regions").expect("regions").verify, Verify::Regions);
        assert_eq!(read("driver").expect("driver").verify, Verify::Driver);
        assert!(
            read("all")
                .expect_err("no such")
                .to_string()
                .contains("line 1")
        );
    }

    #[test]
    fn release_policy_is_previous_keep_or_a_driver() {
        let release = |text: &str| parse("f", &format!("release = {text:?}\n"));
        let read = |text: &str| release(text).expect("configuration").release;
        assert_eq!(read("previous"), Release::Previous);
        assert_eq!(read("keep"), Release::Keep);
        let driver = "vfio-pci".parse().expect("driver");
        assert_eq!(read("vfio-pci"), Release::Driver(driver));
        let error = release("a/b").expect_err("a path").to_string();
        assert!(error.contains("line 1") && error.contains("a/b"), "{error}");
    }

    #[test]
    fn stop_services_refuses_libvirt() {
        let read = |name: &str| parse("f", &format!("stop_services = [{name:?}]\n"));
        let config = read("nvidia-imex.service").expect("configuration");
        assert_eq!(config.stop_services[0].as_str(), "nvidia-imex.service");
        for name in ["virtqemud.service", "nvidia-imex", "session-1.scope"] {
            let error = read(name).expect_err("not stopped").to_string();
            assert!(error.contains("line 1") && error.contains(name), "{error}");
        }
    }

    #[test]
    fn a_snapshot_is_never_for_others_to_write() {
        let read = |mode: &str| parse("f", &format!("snapshot_mode = {mode:?}\n"));
        assert_eq!(read("0600").expect("a mode").snapshot_mode.bits(), 0o600);
        for mode in ["0666", "0755", "644", "none"] {
            let error = read(mode).expect_err("no such").to_string();
            assert!(
                error.contains("line 1") && error.contains("0640"),
                "{error}"
            );
        }
    }

    #[test]
    fn devices_for_a_recipe_are_read() {
        let text = "[[device]]\nid = \"10de:3041\"\nrecipe = \"nvidia-grace\"\nwindow_gib = 1024\n";
        let config = parse("f", text).expect("configuration");
        assert_eq!(config.devices[0].window_gib, 1024);
        let wrong = parse("f", &text.replace("10de:", "10de"));
        assert!(wrong.expect_err("no id").to_string().contains("line 2"));
    }

    #[test]
    fn unknown_key_is_reported_with_line_and_nearest_key() {
        let error = parse("v.conf", "repair = true\nprepair = true\n");
        let text = error.expect_err("unknown key").to_string();
        assert_eq!(
            text,
            "'v.conf', line 2: unknown key 'prepair'; did you mean 'repair'? (VD-CFG-001)"
        );
    }

    #[test]
    fn a_wrong_value_is_named_with_its_line() {
        let error = parse("v.conf", "\nprepare = \"always\"\n");
        let text = error.expect_err("wrong value").to_string();
        assert!(
            text.contains("line 2") && text.contains("on-define"),
            "{text}"
        );
    }

    #[test]
    fn the_shipped_file_means_the_defaults() {
        let shipped = include_str!("../../../packaging/variantd.conf");
        let config = parse("variantd.conf", shipped).expect("shipped file");
        assert_eq!(config, Config::default());
    }
}
