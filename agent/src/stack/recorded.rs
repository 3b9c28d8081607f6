//! The pair of libvirt and QEMU of a recorded host, and the one that the agent of a host found.

use std::io;
use std::path::Path;

use super::known::{self, KnownStack};
use crate::known_versions::KnownVersions;
use domain::code::Code;
use domain::refusal::Refusal;
use planner::stack::Stack;
use settings::file;

/// File name in the directory of a recorded host.
pub const FILE: &str = "recorded-stack.json";

/// The pair that ran the guests of the host that is recorded below `root`; `None` if it was not recorded.
///
/// # Errors
/// The file cannot be read, or is not a stack.
pub fn recorded(root: &Path) -> Result<Option<Stack>, Refusal> {
    let path = root.join(FILE);
    let unusable = |why: String| {
        let reason = format!("cannot use '{}': {why}", path.display());
        let hint = "record the host again, or remove this file and name the pair with '--target'";
        Refusal::new(Code::SnapshotUnreadable, reason, hint)
    };
    let text = match file::read_up_to(Stack::MAX_BYTES as u64, &path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|why| unusable(why.to_string()))?,
    };
    let stack = Stack::parse(text.as_bytes()).map_err(|why| unusable(why.to_string()))?;
    Ok(Some(stack))
}

/// The pair of the host below `root`, as its agent with the state directory `state` found it, or by the versions that libvirt
/// reported last.
#[must_use]
pub fn of_agent(root: &Path, state: &str) -> Option<Stack> {
    let state = root.join(state.trim_start_matches('/'));
    let versions = KnownVersions::load(state.join("versions"))
        .versions()
        .ok()?;
    let known = KnownStack::load(root.to_owned(), state.join(known::FILE));
    Some(known.stack(versions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn with(text: &str) -> Result<Option<Stack>, Refusal> {
        let root = tempfile::tempdir().expect("a folder");
        fs::write(root.path().join(FILE), text).expect("written");
        recorded(root.path())
    }

    #[test]
    fn a_recorded_stack_is_read() {
        let stack = Stack::named("nvidia-10.1").expect("a stack");
        assert_eq!(with(&planner::json::text(&stack)), Ok(Some(stack)));
        let none = tempfile::tempdir().expect("a folder");
        assert_eq!(recorded(none.path()), Ok(None));
    }

    #[test]
    fn a_damaged_stack_is_refused_with_its_file() {
        for text in ["", "{}", "[1", &"x".repeat(Stack::MAX_BYTES + 1)] {
            let refusal = with(text).expect_err("damaged");
            assert_eq!(refusal.code, Code::SnapshotUnreadable);
            assert!(refusal.reason.contains(FILE), "{refusal}");
        }
    }

    #[test]
    fn the_agents_pair_needs_its_versions() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(of_agent(root.path(), "/state"), None);
        let state = root.path().join("state");
        fs::create_dir_all(&state).expect("a folder");
        fs::write(state.join("versions"), "libvirt=10.0.0,qemu=8.2.2\n").expect("written");
        let versions = "libvirt=10.0,qemu=8.2.2".parse().expect("versions");
        assert_eq!(
            of_agent(root.path(), "/state"),
            Some(Stack::assumed(versions))
        );
    }
}
