//! Each cell of the table in variantd-hook(8): what a fault means for a guest, by the real hook.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::fault::{Fault, Faulty, Full, Way};
use super::libvirt::HOOK;
use super::scene::{MARKED, Scene, Told, UNMARKED};

const MANUAL: &str = include_str!("../../../packaging/man/variantd-hook.8.md");
const VETOING: [&str; 4] = [
    "prepare begin",
    "start begin",
    "migrate begin",
    "restore begin",
];
const OTHERS: [&str; 4] = [
    "started begin",
    "stopped end",
    "release end",
    "reconnect begin",
];

/// A row of the table.
struct Row {
    fault: &'static str,
    marked: bool,
    vetoing: &'static str,
    others: &'static str,
}

fn rows() -> Vec<Row> {
    let lines = MANUAL.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = lines.map(|line| line.trim_end_matches('|').split('|').map(str::trim));
    let rows = cells.map(|mut cells| {
        let mut next = || cells.next().expect("four cells");
        let (fault, guest, vetoing, others) = (next(), next(), next(), next());
        assert!(
            ["guest", "with the mark", "without"].contains(&guest),
            "{guest}"
        );
        let marked = guest == "with the mark";
        Row {
            fault,
            marked,
            vetoing,
            others,
        }
    });
    rows.skip(1).collect()
}

#[test]
fn the_table_has_each_fault_for_each_guest_once() {
    let rows = rows();
    let cells: BTreeSet<_> = rows.iter().map(|row| (row.fault, row.marked)).collect();
    let faults = Fault::ALL.map(Fault::name);
    let wanted = faults
        .iter()
        .flat_map(|fault| [(*fault, false), (*fault, true)]);
    assert_eq!(cells, wanted.collect());
    assert_eq!(cells.len(), rows.len());
}

/// All operations of all faults at once: those of a fault that hangs take their whole time.
#[tokio::test]
async fn a_fault_does_to_a_guest_what_the_manual_says() {
    let mut runs = tokio::task::JoinSet::new();
    for way in [Way::Bus, Way::Socket] {
        for row in rows() {
            let fault = Fault::ALL
                .into_iter()
                .find(|fault| fault.name() == row.fault);
            runs.spawn(each_operation(fault.expect("a fault"), way, row));
        }
    }
    let mut wrong = Vec::new();
    while let Some(found) = runs.join_next().await {
        wrong.extend(found.expect("a row"));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What is not as the row says.
async fn each_operation(fault: Fault, way: Way, row: Row) -> Vec<String> {
    let xml = fault.bend(if row.marked { MARKED } else { UNMARKED });
    let wanted = VETOING.map(|word| (word, row.vetoing)).into_iter();
    let wanted = wanted.chain(OTHERS.map(|word| (word, row.others)));
    let mut scene = Faulty::with(fault, way).await;
    let (mut runs, mut scenes) = (tokio::task::JoinSet::new(), Vec::new());
    for (operation, expected) in wanted {
        // An agent ends once.
        if fault == Fault::Crashed {
            scenes.push(std::mem::replace(
                &mut scene,
                Faulty::with(fault, way).await,
            ));
        }
        let (call, xml) = (scene.call(operation), xml.clone());
        runs.spawn_blocking(move || (operation, expected, call.run(&xml)));
    }
    let mut wrong = Vec::new();
    while let Some(run) = runs.join_next().await {
        let (operation, expected, told) = run.expect("a run");
        let told = match fault {
            Fault::NoMemory => without_allocators_words(told),
            _ => told,
        };
        if let Some(why) = differs(&told, expected) {
            let guest = if row.marked {
                "with the mark"
            } else {
                "without"
            };
            wrong.push(format!(
                "{}, {way:?}, {guest}, {operation}: {why} in {told:?}",
                row.fault
            ));
        }
    }
    wrong
}

/// Rust says on lines of its own which allocation failed.
fn without_allocators_words(told: Told) -> Told {
    let said = told.said.lines().last().unwrap_or_default().to_owned();
    Told { said, ..told }
}

fn differs(told: &Told, expected: &str) -> Option<String> {
    let (status, code) = expected.split_once(' ').unwrap_or((expected, ""));
    if told.status.to_string() != status {
        return Some(format!("status {status} is expected"));
    }
    if told.took > Duration::from_secs(30) {
        return Some("it takes longer than its deadline".into());
    }
    // libvirt shows one sentence, and reads what is on standard output as the guest's new XML.
    let said = if code.is_empty() {
        told.said.is_empty()
    } else {
        told.said.contains(code)
    };
    let one_line = !told.said.contains('\n');
    (!said || !one_line || !told.xml.is_empty()).then(|| format!("'{code}' is expected"))
}

#[tokio::test]
async fn a_call_for_which_the_bus_has_no_room_is_made_again() {
    let scene = Scene::start();
    let refusals = Arc::new(AtomicUsize::new(3));
    let full = Full {
        refusals: refusals.clone(),
    };
    let _agent = scene.serve(HOOK, full).await;
    let call = scene.call("prepare begin -");
    let told = tokio::task::spawn_blocking(move || call.run(UNMARKED)).await;
    let told = told.expect("a run");
    assert_eq!((told.status, &*told.said), (0, ""));
    assert_eq!(refusals.load(Ordering::Relaxed), 0);
}

#[test]
fn each_refusal_has_a_code_that_is_explained() {
    let rows = rows();
    let refusing: BTreeSet<_> = rows
        .iter()
        .filter_map(|row| row.vetoing.strip_prefix("1 "))
        .collect();
    let explained = include_str!("../../../packaging/man/variantd.codes.7.md");
    for code in refusing {
        assert!(
            explained.contains(code),
            "variantd.codes(7) does not explain {code}"
        );
    }
}
