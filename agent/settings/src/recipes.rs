//! Reads the recipes of a directory; they override the shipped ones.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use planner::recipe::{LoadError, MAX_FILES, Recipes, Sourced};
use planner::toml_text::MAX_BYTES;

use crate::file;

/// The shipped recipes, overridden by those of `directory`; a missing directory adds none.
///
/// # Errors
/// The first file that cannot be used; no recipe is skipped silently.
pub fn load(directory: &Path) -> Result<Recipes, LoadError> {
    let files = files(directory)?;
    let read = files.iter().map(|path| {
        // The open of a pipe would wait for a writer.
        match fs::metadata(path) {
            Ok(kind) if kind.is_file() => read(path),
            Ok(_) => Err(unreadable(path, file::irregular())),
            Err(source) => Err(unreadable(path, source)),
        }
    });
    Recipes::with(read.collect::<Result<_, _>>()?)
}

/// Reads one recipe file, whose name must be the recipe's.
///
/// # Errors
/// The file cannot be read or used.
pub fn read(path: &Path) -> Result<Sourced, LoadError> {
    let limit = u64::try_from(MAX_BYTES).map_or(u64::MAX, |max| max + 1);
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_string(&mut text))
        .map_err(|source| unreadable(path, source))?;
    Sourced::parse(path, text)
}

pub(crate) fn files(directory: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let failed = |source| unreadable(directory, source);
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            files.push(path);
        }
        // In the loop, so that a directory with any number of files is not read to its end.
        if files.len() > MAX_FILES {
            return Err(LoadError::TooMany(directory.display().to_string()));
        }
    }
    // `read_dir` has no order, and of several unusable files the error names the first.
    files.sort();
    Ok(files)
}

fn unreadable(path: &Path, source: io::Error) -> LoadError {
    LoadError::Read {
        path: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: &str = include_str!("../../recipes/nvidia-grace.toml");

    fn shipped() -> Recipes {
        Recipes::shipped().expect("recipes")
    }

    /// A directory with these recipe files.
    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("folder");
        for (name, text) in files {
            fs::write(dir.path().join(name), text).expect("file");
        }
        dir
    }

    fn refused(files: &[(&str, &str)]) -> String {
        load(directory(files).path())
            .expect_err("it must be refused")
            .to_string()
    }

    #[test]
    fn file_of_the_same_name_overrides_a_shipped_recipe() {
        let text = GRACE.replacen("cells = 8", "cells = 4", 1);
        let recipes = load(directory(&[("nvidia-grace.toml", &text)]).path()).expect("recipes");
        let grace = recipes
            .sourced()
            .find(|one| one.recipe.name == "nvidia-grace")
            .expect("grace");
        assert_eq!(grace.recipe.initiators.expect("initiators").cells, 4);
        assert!(grace.origin.ends_with("nvidia-grace.toml"));
        assert_eq!(recipes.iter().count(), shipped().iter().count());
    }

    #[test]
    fn a_pipe_among_the_recipes_is_refused_and_not_waited_for() {
        let dir = directory(&[]);
        let pipe = dir.path().join("x.toml");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("pipe");
        let text = load(dir.path()).expect_err("no recipe").to_string();
        assert!(
            text.contains("x.toml") && text.contains("not a regular file"),
            "{text}"
        );
    }

    #[test]
    fn file_of_another_name_adds_a_recipe() {
        let text = GRACE
            .replace("nvidia-grace", "rubin")
            .replace("10de:", "10df:");
        let recipes = load(directory(&[("rubin.toml", &text), ("rubin.toml.bak", "?")]).path())
            .expect("recipes");
        assert_eq!(recipes.iter().count(), 1 + shipped().iter().count());
        let missing = load(Path::new("/nonexistent/recipes.d")).expect("no directory");
        assert_eq!(missing, shipped());
    }

    #[test]
    fn load_fails_on_the_first_invalid_file() {
        let renamed = GRACE.replace("nvidia-grace", "rubin");
        assert!(
            refused(&[("other.toml", &renamed.replace("10de", "10df"))])
                .contains("must be 'rubin.toml'")
        );
        assert!(refused(&[("rubin.toml", &renamed)]).contains("remove it from one"));
        assert!(refused(&[("broken.toml", "name = ")]).contains("broken.toml"));
    }
}
