//! The configuration files and their precedence.
//!
//! ```text
//! /usr/lib/variantd/variantd.conf  <  /usr/lib/variantd/variantd.conf.d/*.conf
//!   <  /etc/variantd/variantd.conf  <  /etc/variantd/variantd.conf.d/*.conf      (the last one wins)
//! ```
//!
//! A drop-in of `/etc` replaces one of `/usr/lib` with the same name, as in systemd; an empty one, or a link to
//! `/dev/null`, disables it. Devices are added up; a later one replaces an earlier one with the same id.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use planner::toml_text::{self, TomlError};
use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::{Config, ConfigError, PATH};
use crate::file;

/// The file of the distribution.
const VENDOR: &str = "/usr/lib/variantd/variantd.conf";

/// The locations of the files.
#[derive(Clone, Debug)]
pub struct Files {
    vendor: Option<PathBuf>,
    admin: PathBuf,
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

/// The configuration, and the origin of each part.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// The existing files, lowest precedence first.
    pub files: Vec<PathBuf>,
    /// The merged configuration.
    pub config: Config,
    /// The line of each key that is set.
    pub origins: BTreeMap<String, Origin>,
    /// The same for each device, in configuration order.
    pub devices: Vec<BTreeMap<String, Origin>>,
}

/// Values and their lines, merged so far.
#[derive(Default)]
struct Merged {
    table: Table,
    origins: BTreeMap<String, Origin>,
    devices: Vec<BTreeMap<String, Origin>>,
}

impl Files {
    /// The files that belong to `admin`; the vendor's files too if `admin` is the default path.
    #[must_use]
    pub fn around(admin: &Path) -> Self {
        // An agent with a file of its own, such as one of a test, does not depend on what the host's package has installed.
        let vendor = (admin == Path::new(PATH)).then(|| PathBuf::from(VENDOR));
        Self {
            vendor,
            admin: admin.to_owned(),
        }
    }

    /// The existing files, lowest precedence first.
    pub(crate) fn found(&self) -> Result<Vec<PathBuf>, ConfigError> {
        let own = drop_ins(&self.admin)?;
        let names: BTreeSet<OsString> = own.iter().filter_map(|path| name(path)).collect();
        let mut found = Vec::new();
        if let Some(vendor) = &self.vendor {
            found.push(vendor.clone());
            let masked = |path: &PathBuf| name(path).is_some_and(|name| names.contains(&name));
            found.extend(drop_ins(vendor)?.into_iter().filter(|path| !masked(path)));
        }
        found.push(self.admin.clone());
        found.extend(own);
        Ok(found)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl Layers {
    /// Reads all files; no file means the defaults.
    ///
    /// # Errors
    /// Each error, with file, line and the nearest key.
    pub fn read(files: &Files) -> Result<Self, Vec<ConfigError>> {
        let found = files.found().map_err(|error| vec![error])?;
        let (mut merged, mut layers, mut errors) = (Merged::default(), Self::default(), Vec::new());
        // A file with a mistake does not end the loop: `config check` prints every mistake at once.
        for path in found {
            match read(&path) {
                Ok(Some(text)) => match merged.add(&path.display().to_string(), &text) {
                    Ok(()) => layers.files.push(path),
                    Err(error) => errors.push(error.into()),
                },
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        layers.config = merged.config().map_err(|error| vec![error.into()])?;
        (layers.origins, layers.devices) = (merged.origins, merged.devices);
        Ok(layers)
    }
}

impl Merged {
    /// Merges the text of `file` into the values.
    fn add(&mut self, file: &str, text: &str) -> Result<(), TomlError> {
        // As `Config` only for the error with its line. The values are merged as tables, because a `Config` also has the defaults of
        // absent keys, which would replace an earlier file's values.
        toml_text::read::<Config>(file, text)?;
        let (table, lines): (Table, _) = (toml_text::read(file, text)?, DeTable::parse(text));
        // The text was parsed before, so it is TOML.
        let lines = lines.map(toml::Spanned::into_inner).unwrap_or_default();
        let origin = |at: usize| Origin {
            file: file.to_owned(),
            line: toml_text::line(text, at),
        };
        for (key, place) in &lines {
            let Some(value) = table.get(&**key.get_ref()) else {
                continue;
            };
            match (place.get_ref(), value) {
                (DeValue::Array(places), Value::Array(values))
                    if key.get_ref() == Config::DEVICE =>
                {
                    for (place, value) in places.iter().zip(values) {
                        self.add_device(value.clone(), keys(place.get_ref(), &origin));
                    }
                }
                _ => {
                    let key = key.get_ref().to_string();
                    self.origins.insert(key.clone(), origin(place.span().start));
                    self.table.insert(key, value.clone());
                }
            }
        }
        Ok(())
    }

    fn add_device(&mut self, device: Value, origins: BTreeMap<String, Origin>) {
        let empty = || Value::Array(Vec::new());
        let all = self.table.entry(Config::DEVICE).or_insert_with(empty);
        let Value::Array(all) = all else { return };
        match all
            .iter()
            .position(|other| other.get("id") == device.get("id"))
        {
            Some(index) => (all[index], self.devices[index]) = (device, origins),
            None => {
                all.push(device);
                self.devices.push(origins);
            }
        }
    }

    fn config(&self) -> Result<Config, TomlError> {
        // Each file alone was a valid `Config`, and merged values have no line, so line 1 stands for all files.
        let config = Config::deserialize(Value::Table(self.table.clone()));
        config.map_err(|error| TomlError {
            file: PATH.to_owned(),
            line: 1,
            reason: error.message().to_owned(),
        })
    }
}

fn keys(place: &DeValue<'_>, origin: &impl Fn(usize) -> Origin) -> BTreeMap<String, Origin> {
    let DeValue::Table(table) = place else {
        return BTreeMap::new();
    };
    let line = |key: &toml::Spanned<_>| origin(key.span().start);
    let lines = table
        .keys()
        .map(|key| (key.get_ref().to_string(), line(key)));
    lines.collect()
}

fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    match file::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(failed(path, why)),
    }
}

/// The drop-ins of a file, by name.
fn drop_ins(file: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut directory = file.as_os_str().to_owned();
    directory.push(".d");
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(why) => return Err(failed(Path::new(&directory), why)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let paths: io::Result<Vec<PathBuf>> = paths.collect();
    let mut paths = paths.map_err(|why| failed(Path::new(&directory), why))?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "conf"));
    // The last file wins, and `read_dir` has no order.
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> Option<OsString> {
    path.file_name().map(ToOwned::to_owned)
}

fn failed(path: &Path, why: io::Error) -> ConfigError {
    ConfigError::Read {
        file: path.display().to_string(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Policy, Release};

    struct Scene(tempfile::TempDir);

    impl Scene {
        fn new(texts: &[(&str, &str)]) -> Self {
            let directory = tempfile::tempdir().expect("directory");
            for (name, text) in texts {
                let path = directory.path().join(name);
                fs::create_dir_all(path.parent().expect("parent")).expect("directory");
                fs::write(path, text).expect("written");
            }
            Self(directory)
        }

        fn read(&self) -> Result<Layers, Vec<ConfigError>> {
            Layers::read(&Files {
                vendor: Some(self.0.path().join("usr/v.conf")),
                admin: self.0.path().join("etc/v.conf"),
            })
        }

        fn origin(&self, origin: &Origin) -> String {
            let path = format!("{}/", self.0.path().display());
            origin.to_string().replace(&path, "")
        }
    }

    #[test]
    fn the_last_of_the_files_wins_and_its_line_is_known() {
        let scene = Scene::new(&[
            (
                "usr/v.conf",
                "prepare = \"on-request\"\nrelease = \"keep\"\n",
            ),
            ("usr/v.conf.d/50-a.conf", "repair = false\n"),
            ("etc/v.conf", "# mine\n\nrelease = \"previous\"\n"),
            ("etc/v.conf.d/10-b.conf", "allow_group = true\n"),
            ("etc/v.conf.d/20-c.conf", "allow_group = false\n"),
            ("etc/v.conf.d/README", "no TOML"),
        ]);
        let layers = scene.read().expect("read");
        let config = &layers.config;
        assert_eq!((config.prepare, config.repair), (Policy::OnRequest, false));
        assert_eq!(
            (&config.release, config.allow_group),
            (&Release::Previous, false)
        );
        let printed = |key: &str| scene.origin(&layers.origins[key]);
        assert_eq!(printed("prepare"), "usr/v.conf:1");
        assert_eq!(printed("repair"), "usr/v.conf.d/50-a.conf:1");
        assert_eq!(printed("release"), "etc/v.conf:3");
        assert_eq!(printed("allow_group"), "etc/v.conf.d/20-c.conf:1");
        assert_eq!(layers.files.len(), 5);
    }

    #[test]
    fn drop_in_of_etc_replaces_a_vendor_drop_in_of_the_same_name() {
        let vendor = ("usr/v.conf.d/50-a.conf", "repair = false\n");
        let scene = Scene::new(&[vendor, ("etc/v.conf.d/50-a.conf", "")]);
        assert!(scene.read().expect("read").config.repair);
        let scene = Scene::new(&[vendor, ("etc/v.conf.d/60-a.conf", "")]);
        assert!(!scene.read().expect("read").config.repair);
    }

    #[test]
    fn devices_add_up_and_a_later_one_replaces_that_of_its_id() {
        let device = |id: &str, window: u64| {
            format!("[[device]]\nid = \"{id}\"\nrecipe = \"x\"\nwindow_gib = {window}\n")
        };
        let (one, two) = (device("10de:0001", 1), device("10de:0002", 2));
        let scene = Scene::new(&[
            ("usr/v.conf", &(one + &two)),
            ("etc/v.conf", &format!("\n{}", device("10de:0001", 3))),
        ]);
        let layers = scene.read().expect("read");
        let windows = layers.config.devices.iter().map(|device| device.window_gib);
        assert_eq!(windows.collect::<Vec<_>>(), [3, 2]);
        let line = |index: usize, key: &str| scene.origin(&layers.devices[index][key]);
        assert_eq!(line(0, "window_gib"), "etc/v.conf:5");
        assert_eq!(line(1, "id"), "usr/v.conf:6");
    }

    #[test]
    fn read_reports_every_error() {
        let scene = Scene::new(&[
            ("usr/v.conf", "repair = 1\n"),
            ("etc/v.conf", "\nprepair = true\n"),
        ]);
        let errors = scene.read().expect_err("mistakes");
        let printed: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(printed.len(), 2);
        assert!(printed[0].contains("usr/v.conf', line 1"), "{printed:?}");
        assert!(
            printed[1].contains("etc/v.conf', line 2: unknown key 'prepair'"),
            "{printed:?}"
        );
        assert!(
            printed.iter().all(|text| text.contains("VD-CFG-001")),
            "{printed:?}"
        );
    }

    #[test]
    fn no_file_means_the_defaults() {
        let layers = Scene::new(&[]).read().expect("read");
        assert_eq!(layers.config, Config::default());
        assert!(layers.files.is_empty() && layers.origins.is_empty());
    }
}
