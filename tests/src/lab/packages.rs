//! A disk with packages that only some scenarios need, such as Nova: what an installation adds to `/usr`, `/etc` and `/var/lib` of the
//! host's tree.
//!
//! A scenario names them in its head (`# packages: NAME...`). The emulated host finds the file system by its label, and `with_packages`
//! of `scenario/lib.sh` mounts it at `/mnt`, and its `usr` below `/usr`, for one command. The host's own disk stays as it is.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::cache::{Cache, Key, remove};
use super::command;
use super::debian::{self, Tree};
use super::progress::Step;

/// The file in the artefact.
pub const DISK: &str = "packages.raw";

/// Installs the packages above the tree, which stays unchanged. The folder that an overlay writes to is the difference.
const INSTALL: &str = r#"
tree=$1 folder=$2
shift 2
mkdir "$folder/upper" "$folder/work" "$folder/root"
mount -t overlay overlay -o "lowerdir=$tree,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
mount -t proc proc "$folder/root/proc"
mount --rbind /dev "$folder/root/dev"
cp -L /etc/resolv.conf "$folder/root/etc/resolv.conf"
# no package may start a service of this machine
printf '#!/bin/sh\nexit 101\n' >"$folder/root/usr/sbin/policy-rc.d"
chmod 755 "$folder/root/usr/sbin/policy-rc.d"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
chroot "$folder/root" apt-get -qq -o Acquire::Retries=3 -o Acquire::Languages=none update
chroot "$folder/root" apt-get -qq -y -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 --no-install-recommends install "$@"
rm "$folder/root/usr/sbin/policy-rc.d"
"#;

/// Makes the file system of the added files, with a quarter more space than they have, and removes all else. Devices are the overlay's
/// marks of removed files. An attribute is its mark of a folder that it made, which would hide the host's own files in that folder.
const WRITE: &str = r#"
cd "$1"
mkdir -p disk/var
mv upper/usr disk/usr
for part in etc var/lib; do [ ! -d "upper/$part" ] || mv "upper/$part" "disk/$part"; done
rm -rf disk/usr/share/doc disk/usr/share/locale disk/usr/share/man disk/etc/resolv.conf disk/var/lib/apt disk/var/lib/dpkg
find disk -type c -delete
mke2fs -q -t ext4 -E no_copy_xattrs -L packages -O ^has_journal,^metadata_csum -d disk packages.raw "$(($(du -sk disk | cut -f1) * 5 / 4 + 16384))k"
"#;

/// The disk for this host; `packages` are names of Debian packages.
pub fn build(cache: &Cache, tree: &Tree, packages: &[String]) -> Result<PathBuf> {
    let key = Key::new()
        .with(tree.artefact.as_os_str().as_encoded_bytes())
        .with(INSTALL)
        .with(WRITE)
        .with(packages.join(" "));
    cache.artefact(&format!("packages-{}", tree.suite), key, |folder| {
        let step = Step::begin(format!(
            "installing {} of Debian {} for a scenario",
            packages.join(", "),
            tree.suite
        ));
        debian::check_names(packages)?;
        command::run(
            command::in_namespace(INSTALL)
                .arg(tree.root())
                .arg(folder)
                .args(packages),
        )
        .context("cannot install the packages of a scenario")?;
        command::run(
            Command::new("bash")
                .args(["-euc", WRITE, "lab"])
                .arg(folder),
        )?;
        for part in ["upper", "work", "root", "disk"] {
            remove(&folder.join(part))?;
        }
        step.done();
        Ok(())
    })
}
