//! What `record-host` stores for the checks, besides what planning reads: each file reduced to what the checks use of it.
//!
//! Nothing about processes, guests and the agent is stored: it changes all the time, and names more than the host.

use std::path::Path;

use kernel_glue::failure::Failure;
use kernel_glue::firmware;
use kernel_glue::host::Host;
use kernel_glue::record::{Content, Fact};
use kernel_glue::sysfs::Root;

use super::{Look, POLICIES, WANTS, absence, boot, grace, module, policy, settings};

/// The facts of the host below `root`; `recipes` is the directory of the administrator's recipes.
///
/// # Errors
/// `root` is not a host.
pub(crate) fn facts(root: &Path, recipes: &Path) -> Result<Vec<Fact>, Failure> {
    let host = Host::read(root)?;
    let (recipes, ..) = settings(recipes);
    let look = Look::new(Root::new(root.to_owned())?, root == Path::new("/"));
    let mut facts = Facts {
        look: &look,
        all: Vec::new(),
    };
    boot::record(&mut facts);
    grace::record(&mut facts);
    module::record(&mut facts, &host, module::names(&host, &recipes));
    memory_named(&mut facts);
    installation(&mut facts);
    Ok(facts.all)
}

/// Facts in the order in which they were read.
pub(super) struct Facts<'a> {
    pub(super) look: &'a Look,
    all: Vec<Fact>,
}

impl Facts<'_> {
    /// Adds the part of a file of at most `cap` bytes that `part` keeps.
    pub(super) fn file<T: Into<Vec<u8>>>(
        &mut self,
        path: &str,
        sign: &str,
        cap: usize,
        part: impl FnOnce(&[u8]) -> T,
    ) {
        match self.look.root.bytes(path, cap) {
            Ok(content) => self.push(path, Content::File(part(&content).into())),
            Err(failure) => self.unread(path, sign, &failure),
        }
    }

    /// Adds a file as it is.
    pub(super) fn whole(&mut self, path: &str, sign: &str, cap: usize) {
        self.file(path, sign, cap, <[u8]>::to_vec);
    }

    /// Adds a file of which only the existence counts.
    pub(super) fn presence(&mut self, path: &str, sign: &str) {
        match self.look.root.exists(path) {
            Ok(true) => self.push(path, Content::File(Vec::new())),
            Ok(false) => self.missing(path, sign),
            Err(failure) => self.unread(path, sign, &failure),
        }
    }

    /// Adds a directory without its entries.
    pub(super) fn directory(&mut self, path: &str) {
        match self.look.root.exists(path) {
            Ok(true) => self.push(path, Content::Directory),
            Ok(false) => self.missing(path, path),
            Err(failure) => self.unread(path, path, &failure),
        }
    }

    pub(super) fn push(&mut self, path: &str, content: Content) {
        let path = path.to_owned();
        self.all.push(Fact { path, content });
    }

    fn unread(&mut self, path: &str, sign: &str, failure: &Failure) {
        match failure.is_absent() {
            true => self.missing(path, sign),
            false => self.push(path, Content::Unread(failure.reason())),
        }
    }

    /// A path that does not exist. For a path that a recording does not have, it is not known whether it existed.
    pub(super) fn missing(&mut self, path: &str, sign: &str) {
        let reason = match self.look.missing(path, sign) {
            Ok(()) => absence(),
            Err(_) => match self.look.reason(path) {
                Some(unavailable) => unavailable.why,
                None => return,
            },
        };
        self.push(path, Content::Unread(reason));
    }
}

fn memory_named(facts: &mut Facts<'_>) {
    let known = facts.look.reason(firmware::TABLES);
    let mut unread = known.map(|unavailable| unavailable.why);
    for (path, kept) in firmware::kept(&facts.look.root) {
        match kept {
            Ok(content) => facts.push(&path, Content::File(content)),
            Err(failure) => drop(unread.get_or_insert(failure.reason())),
        }
    }
    // One line for all tables: whether memory is named is unknown only if none that can be read has the property.
    if let Some(reason) = unread {
        facts.push(firmware::TABLES, Content::Unread(reason));
    }
}

/// The bus policy, and which of the units are enabled.
fn installation(facts: &mut Facts<'_>) {
    let look = facts.look;
    let is_there = |path: &&str| look.root.has(path);
    match (POLICIES.into_iter().find(is_there), policy(look)) {
        (Some(path), _) => facts.presence(path, path),
        (None, Ok(_)) => facts.push(POLICIES[0], Content::Unread(absence())),
        (None, Err(_)) => facts.missing(POLICIES[0], POLICIES[0]),
    }
    facts.directory(WANTS);
    let units = look.root.list(WANTS).unwrap_or_default();
    for unit in units.iter().filter(|unit| unit.starts_with("variantd")) {
        facts.push(&format!("{WANTS}/{unit}"), Content::File(Vec::new()));
    }
}
