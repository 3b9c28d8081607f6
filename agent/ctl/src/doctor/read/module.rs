//! The modules of drivers: their index entries, their files, and the lines that block them.
//!
//! Follows modprobe.d(5), modules.dep(5) and kernel-parameters.txt (`module_blacklist`, `modprobe.blacklist`).

use std::collections::{BTreeMap, BTreeSet};

use kernel_glue::host::Host;

use super::super::scene::{Blocked, Boot, Module};
use kernel_glue::record::Content;
use planner::recipe::Recipes;

use super::super::driver::module_name;
use super::super::egm;
use super::Look;
use super::fact::Facts;

/// modprobe's configuration directories, the one with the highest precedence first (libkmod/libkmod.c, default_config_paths).
const CONFIGURATION: [&str; 5] = [
    "etc/modprobe.d",
    "run/modprobe.d",
    "usr/local/lib/modprobe.d",
    "usr/lib/modprobe.d",
    "lib/modprobe.d",
];
/// Bytes of `modules.dep`: some 600 KiB.
const MAX_INDEX: usize = 8 << 20;
/// Directories below a kernel's modules that are searched for a file without an index entry.
const MAX_FOLDERS: usize = 4096;

/// The modules that checks are about: those of the drivers for devices that recipes cover, and that of EGM.
pub(super) fn names(host: &Host, recipes: &Recipes) -> BTreeSet<String> {
    let covered = recipes.covered(host);
    let drivers = covered.map(|(_, recipe)| module_name(&recipe.driver));
    drivers.chain([egm::MODULE.to_owned()]).collect()
}

/// The modules by name; empty for a recording without an index.
pub(super) fn read(
    look: &Look,
    host: &Host,
    boot: &Boot,
    names: BTreeSet<String>,
) -> BTreeMap<String, Module> {
    let Some(release) = &host.kernel_release else {
        return BTreeMap::new();
    };
    let base = format!("lib/modules/{release}");
    let dep = format!("{base}/modules.dep");
    let index = text(look, &dep);
    if !look.root.has(&dep) && look.absent(&dep).is_err() {
        return BTreeMap::new();
    }
    let built_in = text(look, &format!("{base}/modules.builtin"));
    let lines = configuration(look);
    let one = |name: String| {
        let module = module(look, &base, &index, &built_in, &name);
        let blocked = blocked(&lines, &name).or_else(|| on_command_line(boot, &name));
        (name, Module { blocked, ..module })
    };
    names.into_iter().map(one).collect()
}

/// What a recording keeps: of the indexes the lines of these modules, their files without content, and of modprobe's
/// configuration the lines that block them, at their places.
pub(super) fn record(facts: &mut Facts<'_>, host: &Host, names: BTreeSet<String>) {
    let Some(release) = &host.kernel_release else {
        return;
    };
    let base = format!("lib/modules/{release}");
    let dep = format!("{base}/modules.dep");
    let own = |line: &&str| {
        let path = line.split_once(':').map_or(*line, |(path, _)| path);
        names.iter().any(|name| is_module(path, name))
    };
    let lines = |content: &[u8]| {
        let text = String::from_utf8_lossy(content);
        let own = text.lines().filter(own);
        // Without the names of other modules that these need.
        let kept = own.map(|line| match line.split_once(':') {
            Some((path, _)) => format!("{path}:\n"),
            None => format!("{line}\n"),
        });
        kept.collect::<String>()
    };
    facts.file(&dep, &dep, MAX_INDEX, lines);
    facts.file(&format!("{base}/modules.builtin"), &dep, MAX_INDEX, lines);
    let look = facts.look;
    let (index, built_in) = (
        text(look, &dep),
        text(look, &format!("{base}/modules.builtin")),
    );
    for name in &names {
        if let Some(file) = module(look, &base, &index, &built_in, name).file {
            facts.presence(&format!("{base}/{file}"), &dep);
        }
    }
    for path in configurations(look) {
        let text = look.root.text(&path).unwrap_or_default();
        let kept = text.lines().map(|line| {
            // The other lines stay as empty ones, so that the line numbers in messages are those of the host.
            let is_read = names.iter().any(|name| blocks(line.trim(), name));
            format!("{}\n", if is_read { line } else { "" })
        });
        let kept: String = kept.collect();
        if !kept.trim().is_empty() {
            facts.push(&path, Content::File(kept.into()));
        }
    }
}

fn module(look: &Look, base: &str, index: &str, built_in: &str, name: &str) -> Module {
    let indexed = index
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, _)| path)
        .find(|path| is_module(path, name));
    let there = indexed.filter(|path| look.root.has(&format!("{base}/{path}")));
    let built_in = built_in.lines().any(|path| is_module(path, name));
    // The check of EGM needs only the index: a walk through all modules at each run takes longer than all other reads.
    let search = || match built_in || name == egm::MODULE {
        true => None,
        false => found(look, base, name),
    };
    Module {
        built_in,
        indexed: indexed.map(str::to_owned),
        file: there.map(str::to_owned).or_else(search),
        blocked: None,
    }
}

/// A file of the module below `base`, also without an index entry.
fn found(look: &Look, base: &str, name: &str) -> Option<String> {
    let mut folders = vec![String::new()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        seen += 1;
        let entries = look
            .root
            .list(format!("{base}/{folder}").trim_end_matches('/'));
        for entry in entries.unwrap_or_default() {
            let path = format!("{folder}{entry}");
            if is_module(&path, name) {
                return Some(path);
            }
            // Build trees of headers are large, and hold no modules.
            let folder = !entry.contains('.') && !matches!(entry.as_str(), "build" | "source");
            if folder && seen < MAX_FOLDERS {
                folders.push(format!("{path}/"));
            }
        }
    }
    None
}

/// True for the file of a module: `.../nvgrace-gpu-vfio-pci.ko.xz` is `nvgrace_gpu_vfio_pci`.
fn is_module(path: &str, name: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or_default();
    let (stem, end) = file.split_once(".ko").unwrap_or((file, "-"));
    matches!(end, "" | ".xz" | ".zst" | ".gz") && stem.replace('-', "_") == name
}

/// The files of modprobe's configuration. A file hides those of its name in later directories, also an empty one.
fn configurations(look: &Look) -> Vec<String> {
    let mut names = BTreeSet::new();
    let mut files = Vec::new();
    for dir in CONFIGURATION {
        let listed = look.root.list(dir).unwrap_or_default().into_iter();
        for name in listed.filter(|name| name.ends_with(".conf")) {
            let path = format!("{dir}/{name}");
            files.extend(names.insert(name).then_some(path));
        }
    }
    files
}

/// The lines of modprobe's configuration, each with its file and number.
fn configuration(look: &Look) -> Vec<(String, usize, String)> {
    let mut lines = Vec::new();
    for file in configurations(look) {
        let text = look.root.text(&file).unwrap_or_default();
        let numbered = text.lines().enumerate();
        lines.extend(
            numbered.map(|(at, line)| (format!("/{file}"), at + 1, line.trim().to_owned())),
        );
    }
    lines
}

/// The line that blocks a module.
fn blocked(lines: &[(String, usize, String)], name: &str) -> Option<Blocked> {
    let (file, number, line) = lines.iter().find(|(_, _, line)| blocks(line, name))?;
    Some(Blocked {
        file: file.clone(),
        line: line.clone(),
        number: Some(*number),
    })
}

/// True for a line that blocks a module: libvirt respects `blacklist` (`modprobe -b`), and every program `install`.
fn blocks(line: &str, name: &str) -> bool {
    let mut words = line.split_whitespace();
    let (verb, module) = (words.next(), words.next().unwrap_or_default());
    let command = words.next().unwrap_or_default();
    let ends = [
        "/bin/false",
        "/bin/true",
        "/usr/bin/false",
        "/usr/bin/true",
        "false",
        "true",
    ];
    module.replace('-', "_") == name
        && (verb == Some("blacklist") || verb == Some("install") && ends.contains(&command))
}

fn on_command_line(boot: &Boot, name: &str) -> Option<Blocked> {
    let line = boot.command_line.as_deref().unwrap_or_default();
    let blocks = |word: &&str| {
        let (key, modules) = word.split_once('=').unwrap_or((word, ""));
        matches!(key, "module_blacklist" | "modprobe.blacklist")
            && modules
                .split(',')
                .any(|module| module.replace('-', "_") == name)
    };
    let word = line.split_whitespace().find(blocks)?;
    Some(Blocked {
        file: "the kernel's command line".to_owned(),
        line: word.to_owned(),
        number: None,
    })
}

fn text(look: &Look, path: &str) -> String {
    let bytes = look.root.bytes(path, MAX_INDEX).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel_glue::sysfs::Root;
    use std::fs;

    fn is_blocked(text: &str) -> bool {
        let lines = [("/etc/modprobe.d/x.conf".to_owned(), 3, text.to_owned())];
        blocked(&lines, "nvgrace_gpu_vfio_pci").is_some()
    }

    #[test]
    fn module_file_matches_with_any_dashes_and_compression() {
        for file in [
            "kernel/x/nvgrace-gpu-vfio-pci.ko",
            "updates/nvgrace_gpu_vfio_pci.ko.xz",
        ] {
            assert!(is_module(file, "nvgrace_gpu_vfio_pci"), "{file}");
        }
        for file in [
            "a/nvgrace-gpu-vfio-pci.kompost",
            "nvgrace-gpu-vfio-pci",
            "a/vfio-pci.ko",
        ] {
            assert!(!is_module(file, "nvgrace_gpu_vfio_pci"), "{file}");
        }
    }

    #[test]
    fn a_file_of_modprobe_hides_those_of_its_name_in_later_directories() {
        let directory = tempfile::tempdir().expect("directory");
        let files = [
            ("etc/modprobe.d/gpu.conf", ""),
            (
                "usr/lib/modprobe.d/gpu.conf",
                "blacklist nvgrace_gpu_vfio_pci",
            ),
            ("usr/local/lib/modprobe.d/own.conf", "blacklist nvgrace_egm"),
            ("lib/modprobe.d/own.conf", "blacklist vfio_pci"),
        ];
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            fs::write(path, text).expect("file");
        }
        let root = Root::new(directory.path().to_owned()).expect("root");
        let lines = configuration(&Look::new(root, true));
        let own = "/usr/local/lib/modprobe.d/own.conf".to_owned();
        assert_eq!(lines, [(own, 1, "blacklist nvgrace_egm".to_owned())]);
    }

    #[test]
    fn a_blacklist_and_an_empty_install_line_block_a_module() {
        assert!(is_blocked("blacklist nvgrace-gpu-vfio-pci"));
        assert!(is_blocked("install nvgrace_gpu_vfio_pci /bin/false"));
        assert!(!is_blocked(
            "install nvgrace_gpu_vfio_pci /sbin/modprobe vfio-pci"
        ));
        assert!(!is_blocked("# blacklist nvgrace_gpu_vfio_pci"));
        assert!(!is_blocked("blacklist nouveau"));
    }
}
