//! Each cell of the table in variantd-hook(8): the effect of a fault on a guest, with the real hook.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use super::fault::{Fault, Faulty, Form};
use super::scene::{MARKED, Told, UNMARKED};

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
fn table_lists_each_fault_for_each_guest_once() {
    let rows = rows();
    let cells: BTreeSet<_> = rows.iter().map(|row| (row.fault, row.marked)).collect();
    let faults = Fault::ALL.map(Fault::name);
    let wanted = faults
        .iter()
        .flat_map(|fault| [(*fault, false), (*fault, true)]);
    assert_eq!(cells, wanted.collect());
    assert_eq!(cells.len(), rows.len());
}

/// Runs all operations of all faults in parallel, because a hanging fault takes its whole timeout.
#[test]
fn each_fault_has_the_effect_of_the_manual() {
    let rows = rows();
    let wrong: Vec<String> = thread::scope(|scope| {
        let runs: Vec<_> = [Form::Early, Form::Late]
            .into_iter()
            .flat_map(|form| rows.iter().map(move |row| (form, row)))
            .map(|(form, row)| {
                let mut faults = Fault::ALL.into_iter();
                let fault = faults.find(|fault| fault.name() == row.fault);
                let fault = fault.expect("a fault");
                scope.spawn(move || each_operation(fault, form, row))
            })
            .collect();
        let found = runs.into_iter().map(|run| run.join().expect("a row"));
        found.flatten().collect()
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The differences to the row.
fn each_operation(fault: Fault, form: Form, row: &Row) -> Vec<String> {
    let xml = fault.bend(if row.marked { MARKED } else { UNMARKED });
    let wanted = VETOING.map(|word| (word, row.vetoing)).into_iter();
    let wanted = wanted.chain(OTHERS.map(|word| (word, row.others)));
    let scene = Faulty::with(fault, form);
    let guest = if row.marked {
        "with the mark"
    } else {
        "without"
    };
    thread::scope(|scope| {
        let (scene, xml) = (&scene, &xml);
        let runs: Vec<_> = wanted
            .map(|(operation, expected)| {
                let run = scope.spawn(move || scene.call(operation).run(xml));
                (operation, expected, run)
            })
            .collect();
        let wrong = runs.into_iter().filter_map(|(operation, expected, run)| {
            let told = match fault {
                Fault::NoMemory => without_allocators_words(run.join().expect("a run")),
                _ => run.join().expect("a run"),
            };
            let why = differs(&told, expected)?;
            let name = row.fault;
            Some(format!(
                "{name}, {form:?}, {guest}, {operation}: {why} in {told:?}"
            ))
        });
        wrong.collect()
    })
}

/// Rust prints extra lines about a failed allocation.
fn without_allocators_words(told: Told) -> Told {
    let printed = told.printed.lines().last().unwrap_or_default().to_owned();
    Told { printed, ..told }
}

fn differs(told: &Told, expected: &str) -> Option<String> {
    let (status, code) = expected.split_once(' ').unwrap_or((expected, ""));
    if told.status.to_string() != status {
        return Some(format!("status {status} is expected"));
    }
    if told.took > Duration::from_secs(30) {
        return Some("it takes longer than its deadline".into());
    }
    // libvirt shows one sentence, and takes standard output as the guest's new XML.
    let printed = if code.is_empty() {
        told.printed.is_empty()
    } else {
        told.printed.contains(code)
    };
    let one_line = !told.printed.contains('\n');
    (!printed || !one_line || !told.xml.is_empty()).then(|| format!("'{code}' is expected"))
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
