//! `variantctl` escapes control characters of a definition on a terminal.

use std::fs;

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
