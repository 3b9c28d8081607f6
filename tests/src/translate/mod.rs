//! Every golden definition through the real libvirt and QEMU of three Debian releases.
//!
//! Steps for each case and target, with the release's own programs:
//! 1. validate the definition against the RNG schema (`virt-xml-validate`)
//! 2. replace the parts that need hardware (`stand_in.rs`)
//! 3. `define --validate` and `domxml-to-native`; `daemon.rs` explains how this works without VFIO, and what it does not test
//! 4. search the arguments for each planned piece
//! 5. compare the arguments with `TARGET.argv`
//! 6. start QEMU with them, paused

pub mod argument;
pub mod case;
pub mod check;
pub mod daemon;
pub mod define;
pub mod definition;
pub mod found;
pub mod normal;
pub mod outcome;
pub mod piece;
pub mod record;
pub mod size;
pub mod stand_in;
pub mod start;
pub mod translation;

use std::thread::{self, ScopedJoinHandle};

use anyhow::{Context, Result, anyhow};

use self::case::{Case, Golden};
use self::daemon::Daemon;
use self::outcome::{Outcome, Tally};
use crate::lab::cache::Cache;
use crate::lab::debian::{self, Suite, Tree};

/// All releases of the golden cases.
pub const SUITES: [Suite; 3] = [Suite::Testing, Suite::Stable, Suite::Oldstable];

/// Translates the cases with these names (without names all) for these suites; returns whether all passed.
pub fn run(suites: &[Suite], names: &[String], update: bool, fresh: bool) -> Result<bool> {
    let cases = case::all(&case::folder(), names)?;
    let cache = Cache::open()?;
    let tree = |suite: &Suite| debian::translate_tree(&cache, *suite, fresh);
    let trees: Vec<Tree> = suites.iter().map(tree).collect::<Result<_>>()?;
    let tallies: Vec<Result<Tally>> = thread::scope(|scope| {
        let cases = &cases;
        let start = |tree| scope.spawn(move || translate(tree, cases, update));
        let threads: Vec<_> = trees.iter().map(start).collect();
        threads.into_iter().map(join).collect()
    });
    let mut sum = Tally::default();
    for tally in tallies {
        sum.join(tally?);
    }
    println!("{sum}");
    Ok(sum.is_good())
}

fn join(thread: ScopedJoinHandle<'_, Result<Tally>>) -> Result<Tally> {
    let joined = thread.join();
    joined.unwrap_or_else(|_| Err(anyhow!("a thread panicked: its words are above")))
}

/// All cases with the programs of one suite.
fn translate(tree: &Tree, cases: &[Case], update: bool) -> Result<Tally> {
    let target = tree.suite;
    let daemon =
        Daemon::start(tree).with_context(|| format!("cannot use libvirt of Debian {target}"))?;
    println!("{target}: {}", daemon.versions()?);
    let mut tally = Tally::default();
    for case in cases {
        if let Some(outcome) = outcome(&daemon, case, target, update) {
            println!("{} {target}: {outcome}", case.name);
            tally.add(&outcome);
        }
    }
    Ok(tally)
}

/// The outcome of a case; none if it does not exist for this target.
fn outcome(daemon: &Daemon, case: &Case, target: Suite, update: bool) -> Option<Outcome> {
    let golden = case.path(target, "argv");
    let tried = match case.golden(target) {
        Ok(Golden::Absent) => return None,
        Ok(Golden::Refusal) => {
            translation::no_arguments(&golden, update).map(|()| Outcome::Refused)
        }
        Ok(Golden::Definition(text)) => {
            translation::translate(daemon, &text, &golden, update).map(Outcome::Passed)
        }
        Err(error) => Err(error),
    };
    Some(weighed(tried, case, target))
}

/// The outcome, with the known faults of the case applied.
fn weighed(tried: Result<Outcome>, case: &Case, target: Suite) -> Outcome {
    match (tried, case.fault(target)) {
        (Ok(_), Some(fault)) if fault.is_certain => Outcome::Failed(anyhow!(
            "it passes, so '{}' is wrong: remove it",
            case.path(target, "fault").display()
        )),
        (Ok(outcome), _) => outcome,
        (Err(error), Some(fault)) => Outcome::Known(fault.text, error),
        (Err(error), None) => Outcome::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_fault_is_no_failure_until_it_is_gone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("writable");
        };
        write("case.toml", "targets = ['stable', 'testing']");
        write("stable.fault", "odd");
        let case = Case::read(folder.path()).expect("a case");
        let of = |tried, target| weighed(tried, &case, target);
        let passed = || Ok(Outcome::Refused);
        let failed = || Err(anyhow!("why"));
        assert!(matches!(of(failed(), Suite::Stable), Outcome::Known(..)));
        assert!(matches!(of(passed(), Suite::Stable), Outcome::Failed(_)));
        assert!(matches!(of(failed(), Suite::Testing), Outcome::Failed(_)));
        assert!(matches!(of(passed(), Suite::Testing), Outcome::Refused));
    }
}
