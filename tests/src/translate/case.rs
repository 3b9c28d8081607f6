//! Golden cases: `data/case/NAME` holds `case.toml`, and per target the completed definition or the refusal, and known faults.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::Deserialize;

use crate::lab::debian::Suite;

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// The folder's name.
    pub name: String,
    folder: PathBuf,
    targets: Vec<Suite>,
    fault: Option<String>,
}

/// A known fault of a completed definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// In words.
    pub text: String,
    /// Whether this target certainly has it, so that its absence is a failure as well.
    pub is_certain: bool,
}

/// The content of a case for a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Golden {
    /// The completed definition.
    Definition(String),
    /// A refusal, without a definition to translate.
    Refusal,
    /// The case does not exist for this target.
    Absent,
}

/// `case.toml`; other keys are for the test that writes the definitions.
#[derive(Deserialize)]
struct Description {
    targets: Vec<String>,
    fault: Option<String>,
}

impl Case {
    /// Reads the folder of one case.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("case.toml");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read '{}'", path.display()))?;
        let description: Description =
            toml::from_str(&text).with_context(|| format!("cannot read '{}'", path.display()))?;
        let target = |name: &String| {
            Suite::from_str(name, false).map_err(|_| {
                anyhow::anyhow!("'{}' names the unknown target '{name}'", path.display())
            })
        };
        Ok(Self {
            name: folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            fault: description.fault,
            folder: folder.to_path_buf(),
            targets: description
                .targets
                .iter()
                .map(target)
                .collect::<Result<_>>()?,
        })
    }

    /// Its content for this target.
    pub fn golden(&self, target: Suite) -> Result<Golden> {
        if !self.targets.contains(&target) {
            return Ok(Golden::Absent);
        }
        let path = self.path(target, "xml");
        let refusal = self.path(target, "refusal");
        match (path.exists(), refusal.exists()) {
            (true, false) => {
                let text = fs::read_to_string(&path);
                Ok(Golden::Definition(text.with_context(|| {
                    format!("cannot read '{}'", path.display())
                })?))
            }
            (false, true) => Ok(Golden::Refusal),
            (true, true) => bail!(
                "'{}' and '{}' contradict each other: remove one",
                path.display(),
                refusal.display()
            ),
            (false, false) => bail!(
                "'{}' and '{}' do not exist: write the golden files first with 'cargo xtask regen golden'",
                path.display(),
                refusal.display()
            ),
        }
    }

    /// The text of `TARGET.fault`, or of `fault` in `case.toml`, which is about some target.
    pub fn fault(&self, target: Suite) -> Option<Fault> {
        let certain = fs::read_to_string(self.path(target, "fault")).ok();
        let is_certain = certain.is_some();
        let text = certain.map(|text| text.trim().to_owned());
        text.or_else(|| self.fault.clone())
            .map(|text| Fault { text, is_certain })
    }

    /// One of its files for a target.
    pub fn path(&self, target: Suite, ending: &str) -> PathBuf {
        self.folder.join(format!("{target}.{ending}"))
    }
}

/// The folder of the cases.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/case")
}

/// The cases of a folder with these names, or all; sorted by name.
pub fn all(folder: &Path, names: &[String]) -> Result<Vec<Case>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list '{}'", folder.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut folders: Vec<PathBuf> = paths.filter(|path| path.is_dir()).collect();
    folders.sort();
    let cases = folders.iter().map(|folder| Case::read(folder));
    let cases: Vec<Case> = cases.collect::<Result<_>>()?;
    for name in names {
        let known = cases.iter().any(|case| case.name == *name);
        ensure!(known, "'{}' has no case '{name}'", folder.display());
    }
    let is_wanted = |case: &Case| names.is_empty() || names.contains(&case.name);
    Ok(cases.into_iter().filter(is_wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(files: &[&str]) -> (tempfile::TempDir, Case) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let text = "title = 'x'\nhost = 'y'\ntargets = ['testing', 'stable']\n";
        fs::write(folder.path().join("case.toml"), text).expect("writable");
        for file in files {
            fs::write(folder.path().join(file), "<domain/>").expect("writable");
        }
        let case = Case::read(folder.path()).expect("a case");
        (folder, case)
    }

    #[test]
    fn a_target_has_a_definition_or_a_refusal() {
        let (_folder, case) = case(&["testing.xml", "stable.refusal"]);
        let golden = |suite| case.golden(suite).expect("readable");
        assert_eq!(
            golden(Suite::Testing),
            Golden::Definition("<domain/>".into())
        );
        assert_eq!(golden(Suite::Stable), Golden::Refusal);
        assert_eq!(golden(Suite::Oldstable), Golden::Absent);
    }

    #[test]
    fn neither_and_both_are_faults() {
        let (_folder, neither) = case(&[]);
        assert!(neither.golden(Suite::Stable).is_err());
        let (_folder, both) = case(&["stable.xml", "stable.refusal"]);
        assert!(both.golden(Suite::Stable).is_err());
    }

    #[test]
    fn a_fault_of_one_target_is_certain() {
        let (folder, case) = case(&["testing.xml", "stable.xml"]);
        fs::write(folder.path().join("stable.fault"), "odd\n").expect("writable");
        let odd = Fault {
            text: "odd".to_owned(),
            is_certain: true,
        };
        assert_eq!(case.fault(Suite::Stable), Some(odd));
        assert_eq!(case.fault(Suite::Testing), None);
    }

    #[test]
    fn an_unknown_target_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("case.toml"), "targets = ['sid']").expect("writable");
        let error = Case::read(folder.path()).expect_err("no such target");
        assert!(error.to_string().contains("'sid'"), "{error}");
    }

    #[test]
    fn cases_are_sorted_and_an_unknown_name_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["b", "a"] {
            let case = folder.path().join(name);
            fs::create_dir(&case).expect("writable");
            fs::write(case.join("case.toml"), "targets = []").expect("writable");
        }
        let names = |wanted: &[String]| -> Result<Vec<String>> {
            let cases = all(folder.path(), wanted)?;
            Ok(cases.into_iter().map(|case| case.name).collect())
        };
        assert_eq!(names(&[]).expect("listable"), ["a", "b"]);
        assert_eq!(names(&["b".to_owned()]).expect("listable"), ["b"]);
        let error = names(&["c".to_owned()]).expect_err("no such case");
        assert!(error.to_string().ends_with("has no case 'c'"), "{error}");
    }
}
