//! Completions: the scripts in their shells where those are there, and the questions that each script asks in any case.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use super::{host, stdout, variantctl};

/// A shell in which `variantctl` is the program under test, and libvirt its test driver.
fn shell(name: &str, text: &str) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_variantctl"));
    let folder = program.parent().expect("a folder").display();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(name);
    command
        .args(["-c", text])
        .env("PATH", format!("{folder}:{path}"))
        .env("LIBVIRT_DEFAULT_URI", "test:///default");
    command
}

fn script(shell: &str) -> String {
    stdout(&variantctl(&host("lab"), &["completions", shell]))
}

/// They are installed from there, so that the package for another processor has them too.
#[test]
fn packaged_scripts_equal_the_output_of_variantctl() {
    for shell in ["bash", "fish", "zsh"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../packaging/completions")
            .join(format!("variantctl.{shell}"));
        let printed = script(shell);
        if std::env::var_os("VARIANTD_WRITE_COMPLETIONS").is_some() {
            fs::write(&file, &printed).expect("written");
        }
        let packaged = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            packaged == printed,
            "'{}' is stale: run 'cargo xtask regen completions'",
            file.display()
        );
    }
}

/// What bash offers for the last of the words.
fn offered(words: &[&str]) -> Vec<String> {
    let line = words.iter().map(|word| format!("'{word}'"));
    let line = line.collect::<Vec<_>>().join(" ");
    let last = words.last().expect("a word");
    let ask = format!(
        "COMP_WORDS=({line}); COMP_CWORD={}; COMP_TYPE=9\n\
         _clap_complete_variantctl variantctl '{last}'\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.len() - 1
    );
    let text = format!("{}\ncompopt() {{ :; }}\n{ask}", script("bash"));
    lines(&shell("bash", &text).output().expect("bash runs"))
}

fn lines(output: &Output) -> Vec<String> {
    let text = stdout(output);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

/// What a script of `kind` asks, as it asks it.
fn asked(kind: &str, words: &[impl AsRef<OsStr>]) -> Vec<String> {
    let mut command = shell("env", "");
    let output = Command::new(env!("CARGO_BIN_EXE_variantctl"))
        .envs(
            command
                .env("COMPLETE", kind)
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
        .env("_CLAP_IFS", "\n")
        .arg("--")
        .args(words)
        .output()
        .expect("variantctl runs");
    lines(&output)
}

#[test]
fn bash_completes_verbs_options_devices_and_domains() {
    let verbs = offered(&["variantctl", "re"]);
    let wanted = [
        "rewrite",
        "recipe",
        "record-host",
        "revert",
        "release",
        "recover",
        "reserve",
    ];
    for verb in wanted {
        assert!(verbs.iter().any(|one| one == verb), "{verb}: {verbs:?}");
    }
    assert_eq!(verbs.len(), wanted.len(), "{verbs:?}");
    let root = host("gb200-4gpu").display().to_string();
    let devices = offered(&["variantctl", "--host", &root, "show", "pci_0018"]);
    assert_eq!(devices, ["pci_0018_01_00_0"]);
    assert_eq!(offered(&["variantctl", "wait", "te"]), ["test"]);
    // A domain, and a folder of this crate.
    let either = offered(&["variantctl", "plan", "tes"]);
    assert_eq!(either, ["test", "tests/"]);
    assert_eq!(
        offered(&["variantctl", "bind", "--stop"]),
        ["--stop-services"]
    );
}

#[test]
fn zsh_and_fish_show_the_driver_of_each_device() {
    let root = host("gb200-4gpu").display().to_string();
    for kind in ["zsh", "fish"] {
        let devices = asked(kind, &["variantctl", "--host", &root, "show", ""]);
        let gpus = |line: &&String| line.starts_with("pci_0018_01_00_0");
        let gpu = devices.iter().rfind(gpus).expect("the GPU");
        assert!(gpu.contains("10de:2941 on "), "{kind}: {gpu}");
        assert!(
            asked(kind, &["variantctl", "revert", ""])
                .iter()
                .any(|one| one == "test")
        );
    }
}

#[test]
fn devices_of_a_host_are_completed_below_a_path_that_is_not_utf8() {
    let directory = tempfile::tempdir().expect("folder");
    let root = directory.path().join(OsStr::from_bytes(b"h\xff"));
    symlink(host("gb200-4gpu"), &root).expect("link");
    let words = ["variantctl", "--host", "", "show", "pci_0018"].map(OsStr::new);
    let words = words.map(|word| match word.is_empty() {
        true => root.as_os_str(),
        false => word,
    });
    let devices = asked("zsh", &words);
    assert_eq!(devices.len(), 1, "{devices:?}");
    assert!(devices[0].starts_with("pci_0018_01_00_0"), "{devices:?}");
}

/// `tests/run` installs all three; a shell that is not there reads no script here.
#[test]
fn each_script_is_read_by_its_shell() {
    for (name, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let text = script(name);
        assert!(
            text.contains("COMPLETE") && text.contains("variantctl"),
            "{text}"
        );
        let directory = tempfile::tempdir().expect("folder");
        let file = directory.path().join("script");
        std::fs::write(&file, text).expect("written");
        match Command::new(name).arg(check).arg(&file).status() {
            Ok(status) => assert!(status.success(), "{name}"),
            Err(why) => assert_eq!(why.kind(), std::io::ErrorKind::NotFound, "{name}: {why}"),
        }
    }
}
