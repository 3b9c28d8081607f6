//! Properties of rewriting, over generated hosts, definitions, styles and targets.
//!
//! `PROPTEST_CASES=5000 cargo test -p agent --test property` searches further than the default.

mod domain;
mod edited;
mod expander;
mod host;
mod scene;
mod xml;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use ::domain::Domain;
use ::domain::edit::{self, Edit};
use ::domain::refusal::Refusal;
use planner::plan::{Change, Plan};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use scene::{Outcome, Scene, Target, every_scene, same, scenes, with_device};

fn revert(text: &str) -> Result<String, Refusal> {
    planner::revert::revert(&text.parse()?)
}

/// The part of a change that does not depend on its position in the text.
fn essence(change: &Change) -> String {
    let device = change.device.map(|device| device.to_string());
    format!(
        "{} {device:?} {} {}",
        change.code, change.path, change.reason
    )
}

fn changes(plan: &Plan) -> BTreeSet<String> {
    plan.changes.iter().map(essence).collect()
}

fn notes(plan: &Plan) -> BTreeSet<&str> {
    plan.notes.iter().map(|note| note.text.as_str()).collect()
}

/// The outcome of a property about definitions that are not refused.
fn unless_refused(
    rewrite: Result<planner::rewrite::Rewrite, Refusal>,
    property: impl FnOnce(planner::rewrite::Rewrite) -> Result<(), TestCaseError>,
) -> Result<Outcome, TestCaseError> {
    match rewrite {
        Ok(rewrite) => {
            let idle = rewrite.plan.devices.is_empty();
            property(rewrite)?;
            Ok(if idle {
                Outcome::Idle
            } else {
                Outcome::Planned
            })
        }
        Err(refusal) => Ok(Outcome::Refused(refusal.code.as_str())),
    }
}

#[test]
fn egm_memory_is_planned_in_many_scenes_and_adds_up_to_the_cells() {
    let with_egm = Cell::new(0);
    every_scene(|scene, target| {
        unless_refused(scene.rewrite(&scene.text(), target), |with| {
            let domain = Domain::parse(&with.text).expect("a definition");
            let mut sums: BTreeMap<u32, u64> = BTreeMap::new();
            for memory in &domain.platform.egm {
                *sums.entry(memory.cell.expect("a cell")).or_default() += memory.kib;
            }
            for (cell, sum) in &sums {
                prop_assert_eq!(domain.cell(*cell).expect("the cell").memory_kib, *sum);
            }
            with_egm.set(with_egm.get() + u32::from(!sums.is_empty()));
            prop_assert!(sums.is_empty() || target == Target::Vendor);
            Ok(())
        })
    });
    assert!(with_egm.get() >= 5, "{}", with_egm.get());
}

#[test]
fn rewriting_twice_is_rewriting_once() {
    every_scene(|scene: &Scene, target: Target| {
        unless_refused(scene.rewrite(&scene.text(), target), |once| {
            let twice = scene.rewrite(&once.text, target);
            let twice = twice.map_err(|refusal| TestCaseError::fail(refusal.to_string()))?;
            prop_assert_eq!(twice.plan.changes, []);
            same(&once.text, &twice.text)
        })
    });
}

/// Excludes aliases from libvirt: see the ignored test of them.
#[test]
fn revert_after_rewrite_is_the_identity() {
    every_scene(|scene, target| {
        let text = scene.without_given_aliases().text();
        unless_refused(scene.rewrite(&text, target), |with| {
            let back = revert(&with.text);
            let back = back.map_err(|refusal| TestCaseError::fail(refusal.to_string()))?;
            same(&text, &back)
        })
    });
}

#[test]
fn an_alias_that_libvirt_gave_comes_back() {
    every_scene(|scene, target| {
        let text = scene.text();
        unless_refused(scene.rewrite(&text, target), |with| {
            same(&text, &revert(&with.text).expect("reverted"))
        })
    });
}

/// Reverts the edits, by their positions in the text after them.
fn undone(after: &str, edits: &[Edit]) -> Option<String> {
    let mut edits: Vec<&Edit> = edits.iter().collect();
    edits.sort_by_key(|edit| (edit.span.start, edit.span.end));
    let (mut out, mut at, mut read) = (String::new(), 0, 0);
    for edit in edits {
        let kept = after.get(at..at + (edit.span.start - read))?;
        out.push_str(kept);
        at += kept.len();
        after.get(at..)?.strip_prefix(edit.text.as_str())?;
        at += edit.text.len();
        read = edit.span.end;
        out.push_str(&"\0".repeat(edit.span.len()));
    }
    out.push_str(after.get(at..)?);
    Some(out)
}

/// What an edit may remove: the end of a tag that gets content, and an alias from libvirt.
fn may_go(old: &str) -> bool {
    let old = old.trim();
    old.is_empty() || old == "/>" || (old.starts_with("<alias") && old.contains("hostdev"))
}

#[test]
fn untouched_bytes_stay() {
    every_scene(|scene, target| {
        let text = scene.text();
        unless_refused(scene.rewrite(&text, target), |with| {
            let edits: Vec<Edit> = with.plan.edits().cloned().collect();
            for edit in &edits {
                let old = &text[edit.span.clone()];
                prop_assert!(may_go(old), "{:?} is taken away", old);
            }
            let mut expected = text.clone().into_bytes();
            edits
                .iter()
                .for_each(|edit| expected[edit.span.clone()].fill(0));
            let rest = undone(&with.text, &edits).map(String::into_bytes);
            prop_assert!(rest == Some(expected), "bytes outside the edits changed");
            Ok(())
        })
    });
}

#[test]
fn a_domain_without_a_recipes_device_comes_back_byte_for_byte() {
    every_scene(|scene, target| {
        let text = scene.without_recipes().text();
        let rewrite = scene.rewrite(&text, target);
        let rewrite = rewrite.map_err(|refusal| TestCaseError::fail(refusal.to_string()))?;
        same(&text, &rewrite.text)?;
        Ok(Outcome::Planned)
    });
}

/// Plans a definition in two orders; `refusal` returns the part of a refusal that must be equal.
fn in_any_order(
    scene: &Scene,
    target: Target,
    refusal: fn(Refusal) -> Refusal,
) -> Result<Outcome, TestCaseError> {
    let one = scene.rewrite(&scene.text(), target);
    let other = scene.rewrite(&scene.shuffled(), target);
    match (one, other) {
        (Ok(one), Ok(other)) => {
            prop_assert_eq!(&one.plan.devices, &other.plan.devices);
            prop_assert_eq!(changes(&one.plan), changes(&other.plan));
            prop_assert_eq!(&one.plan.added_for, &other.plan.added_for);
            prop_assert_eq!(notes(&one.plan), notes(&other.plan));
            Ok(Outcome::Planned)
        }
        (Err(one), Err(other)) => {
            let code = one.code.as_str();
            prop_assert_eq!(refusal(one), refusal(other));
            Ok(Outcome::Refused(code))
        }
        (one, other) => Err(TestCaseError::fail(format!("{one:?}\nbut {other:?}"))),
    }
}

/// Excludes which of several devices a refusal names: see the ignored test of it.
#[test]
fn the_order_of_devices_and_attributes_does_not_count() {
    let without_device = |refusal| Refusal {
        device: None,
        ..refusal
    };
    every_scene(|scene, target| in_any_order(scene, target, without_device));
}

#[test]
fn a_refusal_names_the_same_device_in_any_order() {
    every_scene(|scene, target| in_any_order(scene, target, |refusal| refusal));
}

#[test]
fn rewrite_is_well_formed_and_matches_the_plan() {
    every_scene(|scene, target| {
        unless_refused(scene.rewrite(&scene.text(), target), |with| {
            let domain = Domain::parse(&with.text);
            let domain = domain.map_err(|refusal| TestCaseError::fail(refusal.to_string()))?;
            let mark = domain.mark.iter().flat_map(|mark| &mark.devices);
            let marked = mark.map(|marked| (marked.address, marked.cells.clone()));
            let planned = with.plan.devices.iter();
            let planned = planned.map(|one| (one.address, one.cells.clone()));
            prop_assert!(marked.eq(planned));
            for device in &with.plan.devices {
                let mut hostdevs = domain.hostdevs.iter();
                let hostdev = hostdevs.find(|one| one.source == device.address);
                let at = hostdev.and_then(|one| one.address).expect("address").at;
                let port = domain.controller(at.bus().into()).expect("controller");
                prop_assert_eq!((at.device(), at.function()), (0, 0));
                prop_assert_eq!(port.model.as_str(), "pcie-root-port");
                prop_assert_eq!(domain.devices_on(at.bus().into()), 1);
            }
            Ok(())
        })
    });
}

#[test]
fn every_gpu_gets_its_own_nodes_and_their_distances() {
    every_scene(|scene, target| {
        let scene = scene.with_table();
        unless_refused(scene.rewrite(&scene.text(), target), |with| {
            let owners = scene.shape.owners();
            let mut bound = Vec::new();
            for device in &with.plan.devices {
                let own = owners
                    .iter()
                    .find(|one| one.gpu && one.address == device.address);
                let own: Vec<u32> = own.map_or(Vec::new(), |own| own.nodes.clone().collect());
                let planned: Vec<u32> = device.host_nodes.iter().map(|n| (*n).into()).collect();
                prop_assert_eq!(&planned, &own);
                bound.extend(device.cells.iter().zip(own));
            }
            let distances =
                planner::fixture::distances(&Domain::parse(&with.text).expect("domain"));
            for ((a, x), (b, y)) in bound.iter().flat_map(|a| bound.iter().map(move |b| (a, b))) {
                let host = scene.shape.distance(&owners, *x, *y);
                let host = if a == b { 10 } else { host.max(11) };
                let planned = distances.get(&(*a, *b)).copied();
                prop_assert!(
                    planned.unwrap_or(10) == host,
                    "{a} to {b}: {planned:?}, {host}"
                );
            }
            Ok(())
        })
    });
}

/// The mark's digest also depends on the host's nodes.
fn without_digest(text: &str) -> String {
    let Some((before, rest)) = text.split_once(" digest='") else {
        return text.to_owned();
    };
    let (_, after) = rest.split_once('\'').expect("the end of an attribute");
    format!("{before}{after}")
}

/// Without SRAT another group of the socket is correct, too, if distances do not distinguish them.
#[test]
fn without_the_table_the_distances_are_the_same_or_there_is_a_refusal() {
    scenes(35, |scene, target| {
        let (with, without) = (scene.with_table(), scene.without_table());
        let told = with.rewrite(&with.text(), target);
        unless_refused(without.rewrite(&without.text(), target), |guessed| {
            let told = told.map_err(|refusal| TestCaseError::fail(refusal.to_string()))?;
            same(&without_digest(&told.text), &without_digest(&guessed.text))
        })
    });
}

/// A user's edit of a prepared definition, before and after.
fn changed_manually(
    scene: &Scene,
    target: Target,
    prepared: &str,
    expected: &str,
) -> Result<(), TestCaseError> {
    let again = scene.rewrite(prepared, target);
    let again = again.map_err(|refusal| TestCaseError::fail(refusal.to_string()))?;
    let twice = scene.rewrite(&again.text, target);
    let twice = twice.map_err(|refusal| TestCaseError::fail(refusal.to_string()))?;
    same(&again.text, &twice.text)?;
    let back = revert(&again.text);
    let back = back.map_err(|refusal| TestCaseError::fail(refusal.to_string()))?;
    same(expected, &back)
}

#[test]
fn a_device_that_is_added_later_is_completed_and_taken_back_as_well() {
    every_scene(|scene, target| {
        let scene = scene.without_given_aliases();
        let Some((part, hostdev)) = scene.before_the_last() else {
            return Ok(Outcome::Planned);
        };
        unless_refused(scene.rewrite(&part, target), |with| {
            let whole = with_device(&part, &hostdev);
            if scene.rewrite(&whole, target).is_err() {
                return Ok(());
            }
            let grown = with_device(&with.text, &hostdev);
            changed_manually(&scene, target, &grown, &whole)
        })
    });
}

#[test]
fn a_device_that_is_taken_out_later_leaves_nothing() {
    every_scene(|scene, target| {
        let scene = scene.without_given_aliases();
        let Some((part, hostdev)) = scene.before_the_last() else {
            return Ok(Outcome::Planned);
        };
        let whole = with_device(&part, &hostdev);
        unless_refused(scene.rewrite(&whole, target), |with| {
            let domain = Domain::parse(&with.text).expect("definition");
            let last = domain.hostdevs.last().expect("hostdev").element.remove();
            let less = edit::apply(&with.text, &[last]).expect("one edit");
            changed_manually(&scene, target, &less, &part)
        })
    });
}

/// Prepares for one target, then for another.
fn moved(from: Target, to: Target) {
    every_scene(|scene, target| {
        let scene = scene.without_given_aliases();
        let text = scene.text();
        match scene.rewrite(&text, from) {
            Ok(old) if target == to && scene.rewrite(&text, to).is_ok() => {
                changed_manually(&scene, to, &old.text, &text).map(|()| Outcome::Planned)
            }
            _ => Ok(Outcome::Planned),
        }
    });
}

#[test]
fn a_definition_moves_to_a_newer_libvirt() {
    moved(Target::Stable, Target::Testing);
}

#[test]
fn a_definition_moves_to_an_older_libvirt() {
    moved(Target::Testing, Target::Stable);
}
