//! Initial file systems: busybox, the needed modules, and a script.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::command;
use super::cpio::Archive;

const APPLETS: &[&str] = &[
    "awk",
    "base64",
    "basename",
    "cat",
    "cut",
    "dd",
    "dmesg",
    "echo",
    "grep",
    "head",
    "insmod",
    "ln",
    "ls",
    "mkdir",
    "mount",
    "od",
    "poweroff",
    "readlink",
    "sed",
    "sh",
    "sleep",
    "switch_root",
    "tr",
    "umount",
];

/// Older kernels need it for ext4 and declare only a soft dependency; newer ones have it built in.
const OPTIONAL: &str = "crc32c_generic";

/// An initial file system that loads `modules` of the kernel below `root`, in order, and then runs `script`.
pub fn build(root: &Path, modules: &[&str], script: &str) -> Result<Vec<u8>> {
    let mut archive = skeleton(root)?;
    let mut init = String::from(
        "#!/bin/sh\nmount -t devtmpfs dev /dev\nmount -t proc proc /proc\nmount -t sysfs sys /sys\n",
    );
    for path in with_dependencies(root, modules)? {
        let name = plain_name(&path);
        archive.file(&format!("lib/{name}.ko"), &load(&path)?);
        init.push_str(&format!("insmod /lib/{name}.ko\n"));
    }
    init.push_str(script);
    archive.program("init", init.as_bytes());
    Ok(archive.finish())
}

fn skeleton(root: &Path) -> Result<Archive> {
    let busybox = root.join("usr/bin/busybox");
    let program =
        fs::read(&busybox).with_context(|| format!("cannot read '{}'", busybox.display()))?;
    let mut archive = Archive::new();
    for folder in ["bin", "dev", "lib", "mnt", "proc", "sys", "tmp"] {
        archive.folder(folder);
    }
    archive.program("bin/busybox", &program);
    for applet in APPLETS {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    Ok(archive)
}

/// Files of these modules and of their dependencies, each after its dependencies; built-in ones have no file.
fn with_dependencies(root: &Path, modules: &[&str]) -> Result<Vec<PathBuf>> {
    let folder = root.join("lib/modules").join(super::debian::kernel(root)?);
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read '{}'", path.display()))
    };
    let dependencies = read("modules.dep")?;
    let builtin: HashSet<String> = read("modules.builtin")?
        .lines()
        .map(|line| plain_name(Path::new(line)))
        .collect();
    let mut order: Vec<PathBuf> = Vec::new();
    for module in modules {
        match line_of(&dependencies, module) {
            Some(line) => order.extend(files(line)),
            None if builtin.contains(*module) || *module == OPTIONAL => {}
            None => bail!("the kernel has no module '{module}'"),
        }
    }
    let mut seen = HashSet::new();
    order.retain(|path| seen.insert(path.clone()));
    Ok(order.iter().map(|path| folder.join(path)).collect())
}

fn line_of<'a>(dependencies: &'a str, module: &str) -> Option<&'a str> {
    dependencies.lines().find(|line| {
        let file = line.split(':').next().unwrap_or_default();
        plain_name(Path::new(file)) == module
    })
}

/// Files of one line of modules.dep, dependencies first. The line lists the module, then its nearest dependencies first.
fn files(line: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = line
        .split([':', ' '])
        .filter(|part| !part.is_empty())
        .map(PathBuf::from)
        .collect();
    files.reverse();
    files
}

/// `kernel/fs/9p/9p.ko.xz` is module `9p`.
fn plain_name(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = file.split(".ko").next().unwrap_or_default();
    stem.replace('-', "_")
}

fn load(path: &Path) -> Result<Vec<u8>> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => unpacked("xz", path),
        Some("zst") => unpacked("zstd", path),
        _ => fs::read(path).with_context(|| format!("cannot read '{}'", path.display())),
    }
}

fn unpacked(program: &str, path: &Path) -> Result<Vec<u8>> {
    let done = Command::new(program)
        .arg("-dc")
        .arg(path)
        .output()
        .with_context(|| format!("cannot run '{program}'"))?;
    if !done.status.success() {
        bail!("'{program}' cannot unpack '{}'", path.display());
    }
    Ok(done.stdout)
}

/// Writes an initial file system to a file.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write '{}'", path.display()))
}

/// Runs depmod for the modules below `root`; the program comes from `tools`, which may be a tree of another processor.
pub fn depmod(tools: &Path, root: &Path) -> Result<()> {
    let version = super::debian::kernel(root)?;
    let script = r#"mount --bind "$2" "$1/mnt" && exec chroot "$1" depmod -b /mnt "$3""#;
    command::run(
        command::in_namespace(script)
            .arg(tools)
            .arg(root)
            .arg(&version),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_come_before_what_needs_them() {
        let line = "kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/lib/crc16.ko.xz";
        let names: Vec<String> = files(line).iter().map(|path| plain_name(path)).collect();
        assert_eq!(names, ["crc16", "jbd2", "ext4"]);
    }

    #[test]
    fn a_module_is_found_under_either_spelling() {
        let list = "kernel/a/virtio-blk.ko:\nkernel/b/x.ko.xz: kernel/a/virtio-blk.ko\n";
        assert!(line_of(list, "virtio_blk").is_some());
        assert!(line_of(list, "y").is_none());
    }
}
