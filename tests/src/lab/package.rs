//! The project's own package: built for the emulated host's processor, and installed there.
//!
//! The tree of an aarch64 host has no package database, so the package is unpacked there and its service started by hand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::channel::Job;
use super::command;
use super::host::Lab;
use super::progress::Step;

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
/// What the agent links with, beside C's library.
const LIBRARIES: [&str; 3] = ["libvirt", "libvirt-qemu", "libvirt-lxc"];

const INSTALL: &str = "dpkg -i --force-confold /root/variantd.deb && systemctl daemon-reload && systemctl restart variantd.service";
const UNPACK: &str = "dpkg-deb -x /root/variantd.deb / && systemctl daemon-reload && systemctl reload dbus.service &&
    systemctl restart libvirtd.service variantd.service";

/// Builds the package and installs it in the emulated host; starts the service.
pub fn install(lab: &Lab) -> Result<()> {
    let is_foreign = lab.state().kind().iter().any(|word| word == "aarch64");
    let step = Step::begin("building the package");
    let output = tempdir()?;
    let built = match is_foreign {
        true => build_foreign(lab, &output),
        false => build(&mut packager(&output)),
    };
    let package = built.and_then(|()| only_package(&output));
    step.done();
    let step = Step::begin("installing the package in the emulated host");
    let installed = package.and_then(|package| lab.push(&package, "/root/variantd.deb"));
    super::cache::remove(&output)?;
    installed?;
    let script = if is_foreign { UNPACK } else { INSTALL };
    let (status, text) = Job::new(script).collect(lab.state())?;
    if status != 0 {
        bail!("cannot install the package in the emulated host:\n{text}");
    }
    step.done();
    Ok(())
}

fn packager(output: &Path) -> Command {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/build");
    let mut command = Command::new(program);
    command.arg(output);
    command
}

/// With libvirt's libraries from the emulated host, and a linker and Rust's library for its processor from here.
fn build_foreign(lab: &Lab, output: &Path) -> Result<()> {
    ensure_target()?;
    // always the same folder: cargo builds everything again when its flags change
    let libraries = lab.state().path("libraries");
    fs::create_dir_all(&libraries).context("cannot create a folder for libraries")?;
    for name in LIBRARIES {
        let inside = format!("/usr/lib/aarch64-linux-gnu/{name}.so.0");
        lab.pull(&inside, &libraries.join(format!("{name}.so")))?;
    }
    // what libvirt itself links with is not here
    let flags = format!(
        "-L {} -C link-arg=-Wl,--allow-shlib-undefined",
        libraries.display()
    );
    build(
        packager(output)
            .env("CARGO_BUILD_TARGET", TARGET)
            .env("PKG_CONFIG_ALLOW_CROSS", "1")
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER)
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", flags),
    )
}

fn ensure_target() -> Result<()> {
    let mut rustc = Command::new("rustc");
    let folder = command::output(rustc.args(["--print", "target-libdir", "--target", TARGET]))?;
    ensure!(
        Path::new(folder.trim()).is_dir(),
        "Rust here has no library for {TARGET}: run 'rustup target add {TARGET}', or leave the package out with --no-package"
    );
    Ok(())
}

fn build(packager: &mut Command) -> Result<()> {
    let name = packager.get_program().to_string_lossy().into_owned();
    let status = packager
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot run '{name}'"))?;
    if !status.success() {
        bail!("'{name}' failed ({status})");
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
