//! Before an older version is installed: refuses it for state that it cannot use, and writes the records in its form.
//!
//! ```text
//! check   (the agent may run)   every obstacle is named; nothing changes
//! convert (the agent has ended) check again -> the older files -> the records are removed
//! ```
//!
//! The package's scripts call both. Variantd 0.1 does not know the records by device: it would leave the devices of running guests on
//! their drivers, and with a newer key in its configuration it does not start.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

use crate::instance::{Instance, InstanceError};
use crate::record::peek::{self, Peeked};
use crate::record::{DeviceRecord, MigrateBackError, NoOlderForm, Records, older_form};
use domain::code::Code;
use domain::hint::Hint;
use domain::refusal::Refusal;
use settings::newer_keys;

/// The first version with the records of this one.
const RECORDS_SINCE: [u32; 2] = [0, 2];
/// Longer than any version of a package.
const MAX_VERSION: usize = 64;

/// The version of a package that is about to be installed, such as `0.1.0` or Debian's `1:0.1.0-2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageVersion {
    text: String,
    /// Major and minor number.
    numbers: [u32; 2],
}

/// The text is not a version.
#[derive(Clone, Debug, Error)]
#[error("'{0}' is not a version such as 0.1.0")]
pub struct VersionError(String);

impl FromStr for PackageVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let error = || VersionError(text.chars().take(MAX_VERSION).collect());
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".+~:-^_".contains(c);
        if text.len() > MAX_VERSION || !text.chars().all(is_plain) {
            return Err(error());
        }
        let upstream = text.split_once(':').map_or(text, |(_, rest)| rest);
        let mut words = upstream.split(|c: char| !c.is_ascii_digit());
        let mut number = || words.next()?.parse().ok();
        let numbers: Option<[u32; 2]> = number().zip(number()).map(Into::into);
        Ok(Self {
            text: text.to_owned(),
            numbers: numbers.ok_or_else(error)?,
        })
    }
}

impl fmt::Display for PackageVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PackageVersion {
    /// True if that version reads the records by domain, of version 1.
    #[must_use]
    pub fn is_older(&self) -> bool {
        self.numbers < RECORDS_SINCE
    }
}

/// The records stay as they are.
#[derive(Debug, Error)]
pub enum DowngradeError {
    /// The version cannot use the state; one refusal for each obstacle.
    #[error("{} obstacles prevent the downgrade", .0.len())]
    Refused(Vec<Refusal>),
    /// The agent runs.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// A file cannot be read, written or removed.
    #[error(transparent)]
    Failed(#[from] MigrateBackError),
}

/// What `version` cannot use: records below `run`, and the files around `config`. Changes nothing.
#[must_use]
pub fn obstacles(run: &Path, config: &Path, version: &PackageVersion) -> Vec<Refusal> {
    if !version.is_older() {
        return Vec::new();
    }
    let mut found = of_records(run);
    match newer_keys::find(config) {
        Ok(keys) => found.extend(keys.iter().map(|key| {
            let reason = format!(
                "'{}', line {}: variantd {version} does not know '{}'",
                key.file, key.line, key.key
            );
            let hint = Hint::from("remove it before the downgrade");
            Refusal::new(Code::Downgrade, reason, hint)
        })),
        Err(why) => {
            let hint = Hint::with("correct it, see", "variantctl config check");
            found.push(Refusal::new(Code::Downgrade, why.to_string(), hint));
        }
    }
    found
}

/// Writes the records below `run` in the form that `version` reads; returns how many there were.
///
/// # Errors
/// As [`DowngradeError`]; the records are complete then, in the new form or in both.
pub fn convert(
    run: PathBuf,
    config: &Path,
    version: &PackageVersion,
) -> Result<usize, DowngradeError> {
    if !version.is_older() {
        return Ok(0);
    }
    let _instance = Instance::hold(&run)?;
    let obstacles = obstacles(&run, config, version);
    if !obstacles.is_empty() {
        return Err(DowngradeError::Refused(obstacles));
    }
    Ok(Records::new(run).migrate_back()?)
}

fn of_records(run: &Path) -> Vec<Refusal> {
    let unusable = |reason: String| {
        let hint = Hint::from("keep this version until the guest with that device has ended");
        Refusal::new(Code::Downgrade, reason, hint)
    };
    let all = match peek::all(run) {
        Ok(all) => all,
        Err(why) => return vec![unusable(format!("cannot list '{}': {why}", run.display()))],
    };
    let (mut found, mut good) = (Vec::new(), Vec::new());
    for (path, peeked) in all {
        match peeked {
            Peeked::Good(records) => good.extend(records),
            Peeked::Damaged(why) => {
                found.push(unusable(format!("record '{path}' is damaged: {why}")))
            }
            Peeked::Newer(version) => found.push(unusable(format!(
                "record '{path}' has version {version}, which a newer variantd wrote"
            ))),
            Peeked::Hidden(why) => {
                found.push(unusable(format!("cannot read record '{path}': {why}")));
            }
        }
    }
    // Each record alone, so that all obstacles are named at once.
    let without_form: Vec<Refusal> = good.iter().filter_map(refusal_of).collect();
    match without_form.is_empty() {
        true => found.extend(older_form(&good).err().map(|why| of_form(&why))),
        false => found.extend(without_form),
    }
    found
}

fn refusal_of(record: &DeviceRecord) -> Option<Refusal> {
    older_form(std::slice::from_ref(record))
        .err()
        .map(|why| of_form(&why))
}

fn of_form(why: &NoOlderForm) -> Refusal {
    match why {
        NoOlderForm::Guest { device, guest } => {
            let reason =
                format!("it is bound for KubeVirt's guest '{guest}', which 0.1 never releases");
            let hint = Hint::from("delete that guest before the downgrade");
            Refusal::new(Code::Downgrade, reason, hint).of(*device)
        }
        NoOlderForm::Size { .. } => {
            let hint = Hint::from("shut down that guest before the downgrade");
            Refusal::new(Code::Downgrade, why.to_string(), hint)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::fixture::{GPU, UUID, VARIANT};

    fn version(text: &str) -> PackageVersion {
        text.parse().expect("a version")
    }

    #[test]
    fn versions_of_packages_are_compared_by_their_first_two_numbers() {
        for (text, is_older) in [
            ("0.1.0", true),
            ("1:0.1.9-2+deb13u1", true),
            ("0.1", true),
            ("0.2.0", false),
            ("0.2.0~rc1-1", false),
            ("0.10.0", false),
            ("1.0.0", false),
        ] {
            assert_eq!(version(text).is_older(), is_older, "{text}");
        }
        let long = "0.1.".repeat(20);
        for wrong in [
            "",
            "0",
            "v0.1",
            "0.x",
            "0.1 0",
            "0.1\n",
            "99999999999.1",
            &long,
        ] {
            assert!(wrong.parse::<PackageVersion>().is_err(), "{wrong:?}");
        }
    }

    /// A run directory with this record of `GPU`, and a configuration beside it.
    fn scene(record: &str, config: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("run/records")).expect("a folder");
        let path = folder.path().join(format!("run/records/{GPU}.json"));
        fs::write(path, record).expect("written");
        fs::write(folder.path().join("variantd.conf"), config).expect("written");
        folder
    }

    fn bound(extra: &str) -> String {
        format!(
            r#"{{"version":2,"device":"{GPU}","owner":"admin","target":"{VARIANT}","before":{{"driver":"nvidia","driver_override":null}},"phase":"bound"{extra}}}"#
        )
    }

    fn convert_in(folder: &Path, to: &str) -> Result<usize, DowngradeError> {
        convert(
            folder.join("run"),
            &folder.join("variantd.conf"),
            &version(to),
        )
    }

    #[test]
    fn state_that_0_1_cannot_use_is_refused_and_stays() {
        let guest = format!(r#","guest":{{"uuid":"{UUID}","name":"vm"}}"#);
        let newer = bound("").replace(r#""version":2"#, r#""version":3"#);
        for (record, config, part) in [
            (bound(&guest), "", "KubeVirt's guest 'vm'"),
            (newer, "", "has version 3"),
            ("{".to_owned(), "", "is damaged"),
            (
                bound(""),
                "[[device]]\nfunctions = \"any\"\n",
                "'device.functions'",
            ),
            (bound(""), "repair =\n", "line 1"),
        ] {
            let folder = scene(&record, config);
            let Err(DowngradeError::Refused(refusals)) = convert_in(folder.path(), "0.1.0") else {
                unreachable!("not refused: {record} {config}");
            };
            let text = refusals[0].to_string();
            assert!(refusals.len() == 1 && text.contains(part), "{refusals:?}");
            assert!(text.contains("(VD-AGT-013); "), "{text}");
            let path = folder.path().join(format!("run/records/{GPU}.json"));
            assert_eq!(fs::read_to_string(path).expect("the record"), record);
            assert!(!folder.path().join("run/bound").exists());
            assert_eq!(convert_in(folder.path(), "0.2.1").ok(), Some(0));
        }
    }

    #[test]
    fn records_become_files_of_0_1() {
        let folder = scene(&bound(""), "repair = true\n");
        assert_eq!(convert_in(folder.path(), "0.1.0").ok(), Some(1));
        assert!(
            !folder
                .path()
                .join(format!("run/records/{GPU}.json"))
                .exists()
        );
        let text = fs::read_to_string(folder.path().join(format!("run/bound/{GPU}.json")));
        assert!(text.expect("the older file").contains(r#""done": true"#));
        assert_eq!(
            convert_in(folder.path(), "0.1.0").ok(),
            Some(1),
            "again, from the older files"
        );
    }

    #[test]
    fn a_running_agent_is_named() {
        let folder = scene(&bound(""), "");
        let _agent = Instance::hold(&folder.path().join("run")).expect("free");
        let error = convert_in(folder.path(), "0.1.0").expect_err("it runs");
        assert!(matches!(error, DowngradeError::Instance(_)), "{error}");
    }
}
