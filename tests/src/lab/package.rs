//! The project's own package: built for the emulated host's processor, and installed there.
//!
//! The tree of an aarch64 host was unpacked without a package database, so it gets an empty one, and dpkg does not check the
//! dependencies. The scripts of the package run there as on any host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::architecture::Architecture;
use super::cache::{Cache, Key};
use super::channel::Job;
use super::command;
use super::host::Lab;
use super::progress::Step;

/// Installs the package, unless this very package is installed and no file of it has changed: the tree has no documents and no manual
/// pages (`EXCLUDED` in `debian.rs`). The scripts of the package start the agent.
const INSTALL: &str = r#"
if cmp -s /root/variantd-built.deb /root/variantd.deb &&
    [ "$(dpkg-query -W -f '${db:Status-Status}' variantd)" = installed ] && ! dpkg --verify variantd | grep -vq '^missing .* /usr/share/\(doc\|man\)/'; then
    rm /root/variantd-built.deb
else
    mv /root/variantd-built.deb /root/variantd.deb
    dpkg -i --force-confold /root/variantd.deb || exit 1
fi
systemctl --quiet is-active variantd.service
"#;
const INSTALL_ALONE: &str = "mv /root/variantd-built.deb /root/variantd.deb && mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates /var/lib/dpkg/triggers && touch /var/lib/dpkg/status &&
    dpkg -i --force-depends --force-confold /root/variantd.deb && systemctl daemon-reload && systemctl reload dbus.service &&
    systemctl restart libvirtd.service variantd.service";

/// Installs the package in the emulated host and starts the service. The package is `file`; without one it is built.
pub fn install(lab: &Lab, file: Option<&Path>) -> Result<()> {
    push(lab, file, "/root/variantd-built.deb")?;
    let step = Step::begin("installing the package in the emulated host");
    let script = if is_foreign(lab) {
        INSTALL_ALONE
    } else {
        INSTALL
    };
    let (status, text) = Job::new(script).collect(lab.state())?;
    if status != 0 {
        bail!("cannot install the package in the emulated host:\n{text}");
    }
    step.done();
    Ok(())
}

/// Copies the package into the emulated host, to `/root/variantd.deb`. The package is `file`; without one it is built.
pub fn deliver(lab: &Lab, file: Option<&Path>) -> Result<()> {
    push(lab, file, "/root/variantd.deb")
}

fn push(lab: &Lab, file: Option<&Path>, to: &str) -> Result<()> {
    match file {
        Some(file) => lab.push(file, to),
        None => build_and_push(lab, architecture(lab), to),
    }
}

/// Builds the package of the page in Cockpit and copies it into the emulated host, to `/root/cockpit-variantd.deb`.
pub fn deliver_page(lab: &Lab) -> Result<()> {
    build_and_push(lab, "all", "/root/cockpit-variantd.deb")
}

/// Builds the package of a commit as its own `packaging/build` does, and leaves `package.deb` in the folder.
const BUILD_COMMIT: &str = r#"
repository=$1 commit=$2 folder=$3
mkdir "$folder/source" "$folder/out"
git -C "$repository" archive "$commit" | tar -x -C "$folder/source"
# 'packaging/build' of a commit builds for this machine, without the settings of this one's programs
CARGO_TARGET_DIR=$folder/target "$folder/source/packaging/build" "$folder/out" >&2
mv "$folder"/out/*.deb "$folder/package.deb"
rm -rf "$folder/source" "$folder/out" "$folder/target"
"#;

/// Copies the packages of these commits into the emulated host, to `/root/variantd-COMMIT.deb`.
pub fn deliver_commits(lab: &Lab, commits: &[String]) -> Result<()> {
    for commit in commits {
        let folder = of_commit(&Cache::open()?, commit)?;
        let to = format!("/root/variantd-{commit}.deb");
        lab.push(&folder.join("package.deb"), &to)?;
    }
    Ok(())
}

/// The folder with the package of a commit of this repository.
fn of_commit(cache: &Cache, commit: &str) -> Result<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    require_commit(&repository, commit)?;
    let key = Key::new().with(commit).with(BUILD_COMMIT);
    cache.artefact(&format!("package-{commit}"), key, |folder| {
        let step = Step::begin(format!("building the package of commit {commit}"));
        let mut build = Command::new("bash");
        build.args(["-euo", "pipefail", "-c", BUILD_COMMIT, "lab"]);
        build.env("DPKG_DEB_COMPRESSOR_TYPE", "none");
        command::run(build.arg(&repository).arg(commit).arg(folder))
            .with_context(|| format!("cannot build the package of commit {commit}"))?;
        step.done();
        Ok(())
    })
}

fn require_commit(repository: &Path, commit: &str) -> Result<()> {
    let is_hash = commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    let found = Command::new("git")
        .arg("-C")
        .arg(repository)
        .args(["cat-file", "-e", &format!("{commit}^{{commit}}")])
        .stderr(Stdio::null())
        .status();
    if !is_hash || !found.context("cannot run 'git'")?.success() {
        bail!(
            "no commit '{commit}' in '{}': get the whole history with 'git fetch --unshallow'",
            repository.display()
        );
    }
    Ok(())
}

fn is_foreign(lab: &Lab) -> bool {
    lab.state().kind().iter().any(|word| word == "aarch64")
}

/// The emulated host's, by Debian's name.
fn architecture(lab: &Lab) -> &'static str {
    let architecture = match is_foreign(lab) {
        true => Architecture::Aarch64,
        false => Architecture::X86_64,
    };
    architecture.debian()
}

fn build_and_push(lab: &Lab, architecture: &str, to: &str) -> Result<()> {
    let step = Step::begin(format!("building the package for {architecture}"));
    let output = tempdir()?;
    let built = build(architecture, &output);
    let package = built.and_then(|()| only_package(&output));
    step.done();
    let pushed = package.and_then(|package| lab.push(&package, to));
    super::cache::remove(&output)?;
    pushed
}

fn build(architecture: &str, output: &Path) -> Result<()> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/build");
    let status = Command::new(&program)
        .args(["--arch", architecture])
        .arg(output)
        // xz costs more than the rest of an installation under emulation, and scenarios install the package many times (dpkg-deb(1)).
        .env("DPKG_DEB_COMPRESSOR_TYPE", "none")
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot run '{}'", program.display()))?;
    if !status.success() {
        bail!("'{}' failed ({status})", program.display());
    }
    Ok(())
}

fn only_package(folder: &Path) -> Result<PathBuf> {
    let mut packages: Vec<PathBuf> = fs::read_dir(folder)
        .with_context(|| format!("cannot list '{}'", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    match (packages.pop(), packages.len()) {
        (Some(package), 0) => Ok(package),
        (None, _) => bail!("'packaging/build' made no .deb"),
        _ => bail!("'packaging/build' made more than one .deb"),
    }
}

fn tempdir() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("variantd-lab-package-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create '{}'", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_without_the_commit_is_named_with_the_way_out() {
        let clone = tempfile::tempdir().expect("a temporary folder");
        let git = |arguments: &[&str]| {
            let mut git = Command::new("git");
            let git = git.arg("-C").arg(clone.path()).args(arguments);
            git.output().expect("git runs").status.success()
        };
        assert!(git(&["init", "-q"]));
        for commit in ["7a80747", "--all", "main"] {
            let error = require_commit(clone.path(), commit).expect_err("no such commit");
            assert!(
                error.to_string().contains("git fetch --unshallow"),
                "{error}"
            );
        }
    }

    #[test]
    fn exactly_one_package_is_expected() {
        let folder_with = |names: &[&str]| {
            let folder = tempfile::tempdir().expect("a temporary folder");
            for name in names {
                fs::write(folder.path().join(name), "").expect("writable");
            }
            folder
        };
        assert!(only_package(folder_with(&[]).path()).is_err());
        assert!(only_package(folder_with(&["a.deb", "b"]).path()).is_ok());
        assert!(only_package(folder_with(&["a.deb", "b.deb"]).path()).is_err());
    }
}
