//! States after a cut, by the calls before it.

use std::path::{Path, PathBuf};

use super::*;

const ROOT: &str = "/d";

fn path(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

fn open(name: &str) -> Call {
    Call::Open {
        path: path(name),
        creates: true,
        truncates: true,
        is_exclusive: false,
    }
}

fn write(name: &str, text: &str) -> Call {
    Call::Write {
        path: path(name),
        at: Some(0),
        bytes: text.into(),
    }
}

fn sync(name: &str) -> Call {
    Call::Sync { path: path(name) }
}

fn rename(from: &str, to: &str) -> Call {
    Call::Rename {
        from: path(from),
        to: path(to),
    }
}

/// The states after these calls, each as `NAME=CONTENT`, with zeros as `0`.
fn cuts(before: &[(&str, &str)], calls: &[Call]) -> BTreeSet<String> {
    let file = |(name, text): &(&str, &str)| (PathBuf::from(name), Node::File((*text).into()));
    let tree = before.iter().map(file).collect();
    let mut disk = Disk::new(Path::new(ROOT), &tree, &|_| true);
    calls.iter().for_each(|call| disk.apply(call));
    let cuts = disk.cuts().into_iter();
    cuts.map(|tree| {
        let shown = tree.iter().map(|(path, node)| match node {
            Node::Directory => format!("{}/", path.display()),
            Node::File(bytes) => {
                let text = String::from_utf8_lossy(bytes).replace('\0', "0");
                format!("{}={text}", path.display())
            }
        });
        shown.collect::<Vec<_>>().join(" ")
    })
    .collect()
}

fn set(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}

#[test]
fn cut_leaves_the_old_or_the_new_text_of_a_durable_replacement() {
    let calls = [
        open("a.new"),
        write("a.new", "new!"),
        sync("a.new"),
        rename("a.new", "a"),
    ];
    let old_or_new = ["a=old", "a=old a.new=new!", "a=new!"];
    assert_eq!(cuts(&[("a", "old")], &calls), set(&old_or_new));
    let synced = [&calls[..], &[sync("")]].concat();
    assert_eq!(cuts(&[("a", "old")], &synced), set(&["a=new!"]));
}

#[test]
fn cut_leaves_parts_of_a_text_that_is_renamed_before_its_sync() {
    let calls = [
        open("a.new"),
        write("a.new", "new!"),
        rename("a.new", "a"),
        sync(""),
    ];
    let parts = ["a=", "a=ne", "a=0000", "a=new!"];
    assert_eq!(cuts(&[("a", "old")], &calls), set(&parts));
}

#[test]
fn cut_leaves_old_new_and_partial_content_of_a_file_written_in_place() {
    let calls = [open("a"), write("a", "new!")];
    let parts = ["a=old", "a=", "a=ne", "a=0000", "a=new!"];
    assert_eq!(cuts(&[("a", "old")], &calls), set(&parts));
}

#[test]
fn cut_undoes_a_removal_until_the_directory_is_synced() {
    let removal = Call::Remove { path: path("a") };
    let before = [("a", "old")];
    assert_eq!(
        cuts(&before, std::slice::from_ref(&removal)),
        set(&["a=old", ""])
    );
    assert_eq!(cuts(&before, &[removal, sync("")]), set(&[""]));
}

#[test]
fn cut_loses_a_new_directory_with_its_synced_file() {
    let make = Call::MakeDirectory { path: path("d") };
    let calls = [
        make,
        open("d/a"),
        write("d/a", "new!"),
        sync("d/a"),
        sync("d"),
    ];
    assert_eq!(cuts(&[], &calls), set(&["", "d/ d/a=new!"]));
    assert_eq!(
        cuts(&[], &[&calls[..], &[sync("")]].concat()),
        set(&["d/ d/a=new!"])
    );
}
