//! Trees of Debian packages, made by mmdebstrap from an archive's suite.
//!
//! There is no version here: the lab runs the versions of the suite.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::architecture::Architecture;
use super::cache::{Cache, Key, remove};
use super::command;
use super::progress::{Step, say};

/// The time for which a read of the archive's Release file is valid.
const RELEASE_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Packages of the emulated host.
pub(super) const HOST_PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "dbus",
    "polkitd",
    "kmod",
    "udev",
    "libvirt-daemon-system",
    "libvirt-clients",
    "libxml2-utils",
    "qemu-system-x86",
    "linux-image-amd64",
    "pciutils",
    "iproute2",
    "busybox-static",
    "procps",
    "gzip",
];

/// Packages to build the module. They are only unpacked, so the list includes essential packages.
const BUILD_PACKAGES: &[&str] = &[
    "linux-source",
    "make",
    "base-files",
    "bash",
    "coreutils",
    "dash",
    "diffutils",
    "findutils",
    "gawk",
    "grep",
    "libc-bin",
    "perl-base",
    "sed",
    "tar",
    "xz-utils",
];

/// Packages to translate and start the golden definitions: no kernel, and also firmware and QEMU for Arm.
const TRANSLATE_PACKAGES: &[&str] = &[
    "libvirt-daemon-system",
    "libvirt-clients",
    "libxml2-utils",
    "qemu-system-x86",
    "qemu-system-arm",
    "qemu-efi-aarch64",
    "ovmf",
];

/// QEMUs that no definition uses; libvirt would probe each of them.
const UNUSED_QEMUS: &[&str] = &["qemu-system-arm", "qemu-system-i386"];

/// Excluded from every tree, because the lab does not need it.
const EXCLUDED: &[&str] = &[
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
];

/// Version of `prepare`: increase it with each change there.
const PREPARED: &str = "1";

/// A suite of Debian's archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// The next release.
    #[default]
    Testing,
    /// The present release.
    Stable,
    /// The release before.
    Oldstable,
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Testing => "testing",
            Self::Stable => "stable",
            Self::Oldstable => "oldstable",
        })
    }
}

/// A tree of installed packages in the cache.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The artefact.
    pub artefact: PathBuf,
    /// The suite it came from.
    pub suite: Suite,
}

impl Tree {
    /// Its root folder.
    pub fn root(&self) -> PathBuf {
        self.artefact.join("root")
    }

    /// The version of its kernel.
    pub fn kernel(&self) -> Result<String> {
        kernel(&self.root())
    }
}

/// The tree of the emulated host; `fresh` checks the archive again.
pub fn host_tree(cache: &Cache, suite: Suite, fresh: bool) -> Result<Tree> {
    let release = release(cache, suite, fresh)?;
    let key = Key::new()
        .with(arguments(suite, "minbase", HOST_PACKAGES).join("\n"))
        .with(PREPARED)
        .with(&release);
    let artefact = cache.artefact(&format!("host-{suite}"), key, |folder| {
        let step = Step::begin(format!("installing Debian {suite} into a folder"));
        bootstrap(suite, "minbase", HOST_PACKAGES, &folder.join("root"))?;
        prepare(&folder.join("root"))?;
        step.done();
        Ok(())
    })?;
    Ok(Tree { artefact, suite })
}

/// The tree that translates golden definitions; `fresh` checks the archive again.
pub fn translate_tree(cache: &Cache, suite: Suite, fresh: bool) -> Result<Tree> {
    let release = release(cache, suite, fresh)?;
    let key = Key::new()
        .with(arguments(suite, "minbase", TRANSLATE_PACKAGES).join("\n"))
        .with(UNUSED_QEMUS.join("\n"))
        .with(&release);
    let artefact = cache.artefact(&format!("translate-{suite}"), key, |folder| {
        let step = Step::begin(format!(
            "installing libvirt and QEMU of Debian {suite} into a folder"
        ));
        let root = folder.join("root");
        bootstrap(suite, "minbase", TRANSLATE_PACKAGES, &root)?;
        for unused in UNUSED_QEMUS {
            remove(&root.join("usr/bin").join(unused))?;
        }
        remove(&root.join("var/cache/apt/archives"))?;
        step.done();
        Ok(())
    })?;
    Ok(Tree { artefact, suite })
}

/// Inputs of `build_tree` in addition to the archive.
pub fn build_inputs(suite: Suite, architecture: Architecture) -> String {
    build_arguments(suite, architecture).join("\n")
}

/// Unpacks kernel source, headers and a compiler for the kernel of this processor into `root`.
pub fn build_tree(suite: Suite, architecture: Architecture, root: &Path) -> Result<()> {
    run(suite, &build_arguments(suite, architecture), root)?;
    // an alternative, so it is made by a script that has not run
    let awk = root.join("usr/bin/awk");
    if !awk.exists() {
        std::os::unix::fs::symlink("gawk", &awk).context("cannot link 'awk'")?;
    }
    Ok(())
}

/// The headers for aarch64, with the programs of this machine's own. In Debian 13 they depend on aarch64's compiler, which cannot be
/// installed beside the cross compiler, so they are unpacked without what they depend on.
const FOREIGN_HEADERS: &str = r#"
set -eu
export APT_CONFIG=$MMDEBSTRAP_APT_CONFIG
headers=$(apt-cache depends linux-headers-arm64:arm64 | sed -n "s/^ *Depends: \(linux-headers-.*-arm64\).*/\1/p")
version=${headers#linux-headers-}
version=${version%-arm64}
folder=$(mktemp -d)
cd "$folder"
apt-get -qq download "$headers:arm64" "linux-headers-$version-common" "linux-kbuild-$version"
for file in *.deb; do dpkg-deb -x "$file" "$1"; done
rm -r "$folder"
"#;

fn build_arguments(suite: Suite, architecture: Architecture) -> Vec<String> {
    let own: &[&str] = match architecture {
        Architecture::X86_64 => &["linux-headers-amd64", "gcc"],
        // the last two are needed by the headers' programs
        Architecture::Aarch64 => &["gcc-aarch64-linux-gnu", "libelf1t64", "pahole"],
    };
    let packages: Vec<&str> = own.iter().chain(BUILD_PACKAGES).copied().collect();
    let mut arguments = unpacking(suite, &architectures(architecture), &packages);
    if architecture == Architecture::Aarch64 {
        arguments.insert(0, format!("--extract-hook={FOREIGN_HEADERS}"));
    }
    arguments
}

/// Those of the packages with which a program for this one is built.
fn architectures(architecture: Architecture) -> Vec<Architecture> {
    match architecture {
        Architecture::X86_64 => vec![architecture],
        Architecture::Aarch64 => vec![Architecture::X86_64, architecture],
    }
}

/// Unpacks packages and their dependencies into `root`, without running their scripts.
pub(super) fn unpack(
    suite: Suite,
    architectures: &[Architecture],
    packages: &[String],
    root: &Path,
) -> Result<()> {
    run(suite, &unpacking(suite, architectures, packages), root)
}

fn unpacking(
    suite: Suite,
    architectures: &[Architecture],
    packages: &[impl AsRef<str>],
) -> Vec<String> {
    let mut wanted = arguments(suite, "extract", packages);
    let names: Vec<&str> = architectures.iter().map(|one| one.debian()).collect();
    wanted.insert(0, format!("--architectures={}", names.join(",")));
    wanted
}

/// The only kernel version below `root`.
pub fn kernel(root: &Path) -> Result<String> {
    let folder = root.join("lib/modules");
    let mut versions: Vec<String> = fs::read_dir(&folder)
        .with_context(|| format!("cannot list '{}'", folder.display()))?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    match (versions.pop(), versions.pop()) {
        (Some(version), None) => Ok(version),
        (None, _) => bail!("'{}' holds no kernel", folder.display()),
        (Some(one), Some(two)) => {
            bail!("'{}' holds two kernels: {one} and {two}", folder.display())
        }
    }
}

/// Refuses a text that is not a name of a Debian package (Debian Policy 5.6.1).
pub fn check_names(packages: &[String]) -> Result<()> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    let is_name = |name: &&String| {
        name.len() > 1 && !name.starts_with(['+', '-', '.']) && name.chars().all(is_part)
    };
    match packages.iter().find(|name| !is_name(name)) {
        Some(name) => bail!("'{name}' is not the name of a Debian package"),
        None => Ok(()),
    }
}

/// The archive of the packages: from the environment, else from apt's sources for Debian.
fn mirror() -> Result<String> {
    if let Ok(mirror) = std::env::var("VARIANTD_LAB_MIRROR") {
        return Ok(mirror);
    }
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", "$(LABEL) $(REPO_URI)"]);
    let listed = command::output(apt.arg("Created-By: Packages"))?;
    let debian = listed.lines().find_map(|line| line.strip_prefix("Debian "));
    let mirror = debian.context(
        "apt knows no archive of Debian: run 'apt-get update', or name one in VARIANTD_LAB_MIRROR",
    )?;
    Ok(mirror.trim_end_matches('/').to_owned())
}

/// Arguments of mmdebstrap without the folder and the mirror.
fn arguments(suite: Suite, variant: &str, packages: &[impl AsRef<str>]) -> Vec<String> {
    let mut arguments = vec![
        "--mode=root".to_owned(),
        "--quiet".to_owned(),
        format!("--variant={variant}"),
        // the Release file of a frozen mirror has expired
        "--aptopt=Acquire::Check-Valid-Until \"false\"".to_owned(),
        "--aptopt=Acquire::Languages \"none\"".to_owned(),
        "--aptopt=Acquire::Retries \"3\"".to_owned(),
        format!("--include={}", joined(packages)),
    ];
    let excluded = EXCLUDED.iter();
    arguments.extend(excluded.map(|path| format!("--dpkgopt=path-exclude={path}")));
    arguments.push(suite.to_string());
    arguments
}

pub(super) fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn joined(names: &[impl AsRef<str>]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    names.join(",")
}

fn bootstrap(suite: Suite, variant: &str, packages: &[&str], root: &Path) -> Result<()> {
    run(suite, &arguments(suite, variant, packages), root)
}

fn run(suite: Suite, arguments: &[String], root: &Path) -> Result<()> {
    let mirror = mirror()?;
    let mut mmdebstrap = Command::new("unshare");
    mmdebstrap
        .args(["--mount", "--propagation", "private", "mmdebstrap"])
        .args(arguments)
        .arg(root)
        .arg(&mirror)
        // The lab uses no initrd of a tree, and it takes longer than the kernel's other files (initramfs-tools'
        // postinst.d hook).
        .env("INITRD", "No");
    command::run(&mut mmdebstrap)
        .with_context(|| format!("cannot make a tree of Debian {suite} from '{mirror}'"))
}

/// Creates the paths where a QEMU that runs from this tree finds its files, and removes unneeded files.
pub(super) fn prepare(root: &Path) -> Result<()> {
    for folder in ["lab/run", "lab/image"] {
        fs::create_dir_all(root.join(folder))
            .with_context(|| format!("cannot create '{folder}'"))?;
    }
    remove(&root.join("var/cache/apt/archives"))?;
    for entry in fs::read_dir(root.join("boot"))
        .context("cannot list '/boot'")?
        .flatten()
    {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with("initrd.img")
        {
            fs::remove_file(entry.path())
                .context("cannot remove the initrd that the lab does not use")?;
        }
    }
    Ok(())
}

/// The date of the suite's Release file; looked up at most once a week unless `fresh`.
pub(super) fn release(cache: &Cache, suite: Suite, fresh: bool) -> Result<String> {
    let note = cache.folder().join(format!("release-{suite}"));
    let known = fs::read_to_string(&note).ok();
    if let Some(known) = known.clone().filter(|_| !fresh && is_recent(&note)) {
        return Ok(known);
    }
    match fetch_release(suite) {
        Ok(date) => {
            fs::write(&note, &date)
                .with_context(|| format!("cannot write '{}'", note.display()))?;
            Ok(date)
        }
        Err(error) => match known {
            Some(known) => {
                say(&format!("using the cached Debian {suite}: {error:#}"));
                Ok(known)
            }
            None => Err(error),
        },
    }
}

fn is_recent(path: &Path) -> bool {
    fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .ok()
        .and_then(|time| SystemTime::now().duration_since(time).ok())
        .is_some_and(|age| age < RELEASE_LIFE)
}

fn fetch_release(suite: Suite) -> Result<String> {
    let url = format!("{}/dists/{suite}/InRelease", mirror()?);
    // apt's own downloader honours the machine's proxy settings and is always there
    let text = download(&url).with_context(|| format!("cannot reach '{url}'"))?;
    date_of(&text).with_context(|| format!("'{url}' has no Date line"))
}

/// By apt's own downloader: it is always there and honours the machine's proxy settings.
fn download(url: &str) -> Result<String> {
    let target = std::env::temp_dir().join(format!("variantd-lab-release-{}", std::process::id()));
    let fetched = command::run(
        Command::new("/usr/lib/apt/apt-helper")
            .args(["-o", "Acquire::Retries=3", "download-file", url])
            .arg(&target),
    );
    let text = fetched.and_then(|()| Ok(fs::read_to_string(&target)?));
    // absent when the download failed
    let _ = fs::remove_file(&target);
    text
}

fn date_of(release: &str) -> Option<String> {
    let line = release
        .lines()
        .find_map(|line| line.strip_prefix("Date: "))?;
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_not_a_package() {
        let check = |name: &str| check_names(&[name.to_owned()]).is_ok();
        assert!(check("python3-nova") && check("libstdc++6"));
        assert!(!check("-oDebug=1") && !check("a b") && !check(""));
    }

    #[test]
    fn the_date_of_a_release_is_its_date_line() {
        let text = "Suite: testing\nDate: Fri, 30 Oct 2026 08:08:01 UTC\nValid-Until: x\n";
        assert_eq!(
            date_of(text).as_deref(),
            Some("Fri, 30 Oct 2026 08:08:01 UTC")
        );
        assert_eq!(date_of("nothing"), None);
    }
}
