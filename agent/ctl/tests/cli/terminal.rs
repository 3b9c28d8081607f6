//! What `variantctl` prints where: control characters of a definition are escaped, and a stream that cannot be written is no success.

use std::fs;
use std::process::{Command, Stdio};

use crate::{data, host, variantctl};

/// C1, DEL, an override of direction: XML 1.0 allows them all.
const BAD: [char; 3] = ['\u{9b}', '\u{7f}', '\u{202e}'];

/// A definition whose name has them.
fn definition() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("directory");
    let text = fs::read_to_string(data("golden/gh200.xml")).expect("a definition");
    let (start, end) = (
        text.find("<name>").expect("a name"),
        text.find("</name>").expect("its end"),
    );
    let bad: String = BAD.iter().collect();
    let text = format!("{}<name>d{bad}31m{}", &text[..start], &text[end..]);
    let path = directory.path().join("guest.xml");
    fs::write(&path, text).expect("definition");
    let path = path.to_str().expect("a path").to_owned();
    (directory, path)
}

#[test]
fn no_verb_prints_control_characters_of_a_definition() {
    let (_directory, file) = definition();
    let verbs: [&[&str]; 6] = [
        &["topology", "--file", &file],
        &["topology", "--file", &file, "--json"],
        &["atomics", "--file", &file],
        &["atomics", "--file", &file, "--json"],
        &["plan", "--json", &file],
        &["plan", "--target", "libvirt=9.0,qemu=7.2", &file],
    ];
    let mut named = false;
    for verb in verbs {
        let output = variantctl(&host("gh200-1gpu"), verb);
        for text in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(text);
            assert!(!text.contains(BAD), "{verb:?}: {text:?}");
            named |= text.contains("9b");
        }
        if verb.contains(&"--json") {
            let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
            assert!(json.is_object());
        }
    }
    assert!(named, "none prints the name, so that nothing was shown");
}

#[test]
fn data_for_programs_is_not_escaped() {
    let (_directory, file) = definition();
    let output = variantctl(&host("gh200-1gpu"), &["rewrite", &file]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(BAD.iter().all(|bad| text.contains(*bad)), "{text}");
}

/// A stream to which every write fails.
fn full() -> Stdio {
    let file = fs::OpenOptions::new().write(true).open("/dev/full");
    file.expect("/dev/full").into()
}

fn with_streams(arguments: &[&str], streams: impl Fn(&mut Command)) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_variantctl"));
    command
        .current_dir(data("golden"))
        .args(["--recipes", "/nonexistent", "--host"])
        .arg(host("gh200-1gpu"))
        .args(arguments);
    streams(&mut command);
    command.output().expect("variantctl runs")
}

#[test]
fn a_definition_without_a_line_end_that_cannot_be_written_is_an_error() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("guest.xml");
    fs::write(&path, "<domain type='kvm'><name>d</name></domain>").expect("definition");
    let path = path.to_str().expect("a path");
    let output = with_streams(&["revert", "--file", path], |command| {
        command.stdout(full());
    });
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("cannot write to standard output"), "{text}");
}

#[test]
fn the_exit_status_does_not_depend_on_standard_error() {
    let verbs: [(&[&str], i32); 4] = [
        (&["plan", "gh200.xml"], 0),
        (&["atomics", "--file", "gh200.xml"], 0),
        (&["show", "0000:00:1f.7"], 3),
        (&["--json", "show", "0000:00:1f.7"], 3),
    ];
    for (verb, status) in verbs {
        let printed = with_streams(verb, |_| {});
        assert!(
            !printed.stderr.is_empty(),
            "{verb:?} prints a note or an error"
        );
        assert_eq!(printed.status.code(), Some(status), "{verb:?}");
        let output = with_streams(verb, |command| {
            command.stderr(full());
        });
        assert_eq!(output.status.code(), Some(status), "{verb:?}");
        assert_eq!(output.stdout, printed.stdout, "{verb:?}");
    }
}
