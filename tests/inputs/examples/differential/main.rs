//! Compares the values that variantd reads from a definition with libvirt's: `differential FOLDER KNOWN`.
//!
//! `tests/lab define` writes FOLDER. Each value in NAME.given.xml must have the same value in NAME.dumped.xml; values that
//! libvirt adds are ignored. Definitions named `spelling-*` must be refused by both or by neither. KNOWN lists differences
//! that have a reason, as `NAME<tab>VALUE<tab>REASON`.

mod tally;
mod value;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use domain::Domain;

use tally::Tally;
use value::Both;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let (Some(folder), Some(known)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: differential FOLDER KNOWN");
        return ExitCode::from(2);
    };
    let mut tally = Tally::new(&fs::read_to_string(&known).expect("the list of known differences"));
    for name in names(&folder) {
        compare(&folder, &name, &mut tally);
    }
    tally.print();
    ExitCode::from(u8::from(!tally.is_good()))
}

fn names(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).expect("the folder");
    let names = files.map(|file| file.expect("a file").file_name().into_string());
    let mut names: Vec<String> = names
        .filter_map(|name| Some(name.expect("a name").strip_suffix(".given.xml")?.to_owned()))
        .collect();
    names.sort();
    names
}

fn compare(folder: &Path, name: &str, tally: &mut Tally) {
    let read = |kind: &str| content(&folder.join(format!("{name}.{kind}")));
    let given = Domain::parse(&read("given.xml").expect("a given definition"));
    tally.begin(name);
    let Some(dumped) = read("dumped.xml") else {
        let printed = read("refused").expect("what libvirt said");
        let printed = printed.trim();
        if name.starts_with("spelling-") && given.is_ok() {
            tally.difference("refusal", &format!("only libvirt refuses: {printed}"));
        }
        return tally.refused(printed);
    };
    tally.taken();
    match (given, Domain::parse(&dumped)) {
        (Ok(given), Ok(dumped)) => Both::new(&given, &dumped).domain(tally),
        (Err(refusal), _) => {
            tally.difference("refusal", &format!("only variantd refuses: {refusal}"));
        }
        (_, Err(refusal)) => tally.difference("refusal", &format!("libvirt's own text: {refusal}")),
    }
}

/// The content of a file, if it exists.
fn content(file: &Path) -> Option<String> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        content => Some(content.expect("a file of text")),
    }
}
