//! Import cycles between the top-level modules of a crate, read from `crate::` paths outside of tests.
//!
//! A cycle is a set of modules of which each uses each other, directly or through others. tests/xtask/known-cycles has the
//! sets that there are today; a set that is no part of one of them is a finding, so that they can only shrink.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Which modules a module uses.
pub(crate) type Uses = BTreeMap<String, BTreeSet<String>>;

/// Reads what the modules of a crate use. `files` are paths below its `src`, with their texts.
pub(crate) fn uses<'a>(files: impl Iterator<Item = (&'a Path, &'a str)>) -> Uses {
    let mut uses = Uses::new();
    for (path, text) in files.filter(|(path, _)| !is_test(path)) {
        if let Some(module) = module(path) {
            let named = named(text);
            uses.entry(module).or_default().extend(named);
        }
    }
    let modules: BTreeSet<String> = uses.keys().cloned().collect();
    for (module, used) in &mut uses {
        used.retain(|name| name != module && modules.contains(name));
    }
    uses
}

/// The sets of modules that use each other, largest first.
pub(crate) fn cycles(uses: &Uses) -> Vec<BTreeSet<String>> {
    let reach: BTreeMap<&String, BTreeSet<&String>> = uses
        .keys()
        .map(|module| (module, reachable(uses, module)))
        .collect();
    let mut cycles = BTreeSet::new();
    for (module, reached) in &reach {
        let both = reached
            .iter()
            .filter(|other| reach[**other].contains(*module));
        let cycle: BTreeSet<String> = both.map(|&name| name.clone()).collect();
        if cycle.len() > 1 {
            cycles.insert(cycle);
        }
    }
    let mut cycles: Vec<_> = cycles.into_iter().collect();
    cycles.sort_by_key(|cycle| std::cmp::Reverse(cycle.len()));
    cycles
}

fn reachable<'a>(uses: &'a Uses, from: &'a String) -> BTreeSet<&'a String> {
    let mut found = BTreeSet::new();
    let mut left = vec![from];
    while let Some(module) = left.pop() {
        for used in uses.get(module).into_iter().flatten() {
            if found.insert(used) {
                left.push(used);
            }
        }
    }
    found
}

fn is_test(path: &Path) -> bool {
    let name = path.to_string_lossy();
    let ends = ["_test.rs", "tests.rs", "testing.rs", "fixture.rs"];
    ends.iter().any(|end| name.ends_with(end)) || name.contains("/tests/")
}

/// The top-level module of a file; the crate's roots and programs have none.
fn module(path: &Path) -> Option<String> {
    let mut parts = path.iter().map(|part| part.to_string_lossy());
    let first = parts.next()?;
    match (&*first, parts.next()) {
        ("bin", _) | ("lib.rs" | "main.rs", None) => None,
        (file, None) => file.strip_suffix(".rs").map(str::to_owned),
        (folder, Some(_)) => Some(folder.to_owned()),
    }
}

/// The first names of all `crate::` paths before the file's tests.
fn named(text: &str) -> BTreeSet<String> {
    let code = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    let code: String = code
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .flat_map(|line| [line, "\n"])
        .collect();
    let after = code
        .match_indices("crate::")
        .map(|(at, path)| &code[at + path.len()..]);
    after.flat_map(first_names).collect()
}

/// `a::b` is a; `{a::{b, c}, d}` is a and d.
fn first_names(path: &str) -> Vec<String> {
    let Some(list) = path.strip_prefix('{') else {
        return vec![identifier(path)];
    };
    let (mut names, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, letter) in list.char_indices() {
        match letter {
            '{' => depth += 1,
            ',' if depth == 0 => {
                names.push(identifier(&list[start..at]));
                start = at + 1;
            }
            '}' if depth == 0 => {
                names.push(identifier(&list[start..at]));
                break;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

fn identifier(path: &str) -> String {
    let path = path.trim_start();
    path.chars()
        .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let uses = uses(files.iter().map(|(path, text)| (Path::new(*path), *text)));
        let cycles = cycles(&uses).into_iter();
        cycles.map(|cycle| cycle.into_iter().collect()).collect()
    }

    #[test]
    fn modules_that_use_each_other_are_a_cycle() {
        let files = [
            ("a.rs", "use crate::{b::{x, y}, other};\n"),
            ("b/mod.rs", "fn f() { crate::c::g() }\n"),
            ("c.rs", "use crate::a::z;\n"),
            ("d.rs", "use crate::a;\n"),
        ];
        assert_eq!(of(&files), [["a", "b", "c"]]);
    }

    #[test]
    fn comments_tests_and_a_module_itself_are_not_uses() {
        let files = [
            (
                "a.rs",
                "// crate::b\nuse crate::a::x;\n#[cfg(test)]\nmod tests { use crate::b; }\n",
            ),
            ("b.rs", "use crate::a;\n"),
            ("a/tests.rs", "use crate::b;\n"),
        ];
        assert!(of(&files).is_empty());
    }
}
