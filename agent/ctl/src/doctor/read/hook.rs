//! libvirt's qemu hook as it is installed: `hooks/qemu` and what is in `hooks/qemu.d` (docs/hooks.rst).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::scene::{Hook, Seen, Trouble};
use super::Look;

const HOOKS: &str = "etc/libvirt/hooks";
const OWN: &str = "etc/libvirt/hooks/qemu.d/variantd";
/// The hook updates the time of this file at each call by libvirt.
const CALLED: &str = "run/variantd/called";
const PROGRAM: &str = "variantd-hook";
const INSTALLED: &str = "usr/sbin/variantd-hook";

pub(super) fn read(look: &Look) -> Seen<Hook> {
    look.absent("etc/libvirt")?;
    let all = installed(look);
    let own = all.iter().find(|(path, _)| is_ours(look, path));
    let own = own.map_or(OWN, |(path, _)| path.as_str());
    let (state, program) = state(look, own);
    // libvirt decides once for all qemu hooks, so an older one makes it call this one as well (virHookInitialize, virHookCall).
    let runnable = all.iter().filter_map(|(_, since)| *since);
    Ok(Hook {
        path: format!("/{own}"),
        state,
        program,
        since: runnable.min(),
        called: modified(&place(look, CALLED)),
    })
}

/// Every qemu hook, with the time since when libvirt can run it.
fn installed(look: &Look) -> Vec<(String, Option<SystemTime>)> {
    let names = look
        .root
        .list(&format!("{HOOKS}/qemu.d"))
        .unwrap_or_default();
    let paths = names
        .into_iter()
        .map(|name| format!("{HOOKS}/qemu.d/{name}"));
    let single = Some(format!("{HOOKS}/qemu")).filter(|path| look.root.has(path));
    let timed = |path: String| {
        let since = runnable(look, &path);
        (path, since)
    };
    single.into_iter().chain(paths).map(timed).collect()
}

fn runnable(look: &Look, path: &str) -> Option<SystemTime> {
    let target = fs::metadata(place(look, &target(look, path)?)).ok()?;
    // The time of the link: the program of the package can be older than the link that makes it a hook.
    let entry = fs::symlink_metadata(place(look, path)).ok()?;
    let executable = target.is_file() && target.permissions().mode() & 0o111 != 0;
    executable.then(|| born(&entry))
}

/// The time of its creation, or of its last change when the file system does not record the creation.
fn born(entry: &fs::Metadata) -> SystemTime {
    let changed = Duration::from_secs(u64::try_from(entry.ctime()).unwrap_or_default());
    entry.created().unwrap_or(UNIX_EPOCH + changed)
}

fn is_ours(look: &Look, path: &str) -> bool {
    target(look, path).is_some_and(|target| target.rsplit('/').next() == Some(PROGRAM))
}

/// The state of the hook's file, and its program.
fn state(look: &Look, path: &str) -> (Trouble, Option<String>) {
    let Ok(entry) = fs::symlink_metadata(place(look, path)) else {
        let program = look.root.has(INSTALLED).then(|| format!("/{INSTALLED}"));
        return (Trouble::Missing, program);
    };
    let target = target(look, path).unwrap_or_default();
    let shown = format!("/{target}");
    let file = place(look, &target);
    let Ok(program) = fs::metadata(&file) else {
        return (Trouble::Dangling(shown), None);
    };
    // A file instead of a link can be a copy of the program; other hooks are mostly scripts.
    let ours = is_ours(look, path) || (!entry.is_symlink() && is_binary(&file));
    let state = match () {
        () if !ours => Trouble::Other(shown.clone()),
        () if program.permissions().mode() & 0o111 == 0 => Trouble::NotExecutable(shown.clone()),
        () => Trouble::None,
    };
    (state, Some(shown))
}

/// The end of one link, below the root; a path of a file is its own.
fn target(look: &Look, path: &str) -> Option<String> {
    let Ok(text) = look.root.link(path) else {
        return look.root.has(path).then(|| path.to_owned());
    };
    match text.strip_prefix('/') {
        Some(absolute) => Some(absolute.to_owned()),
        None => Some(
            Path::new(path)
                .with_file_name(text)
                .to_string_lossy()
                .into_owned(),
        ),
    }
}

fn is_binary(file: &Path) -> bool {
    let mut head = [0; 4];
    let read =
        fs::File::open(file).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut head));
    read.is_ok() && head == *b"\x7fELF"
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

fn place(look: &Look, path: &str) -> PathBuf {
    look.root.path().join(path)
}
