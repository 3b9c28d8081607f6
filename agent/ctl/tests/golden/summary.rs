//! `variantctl plan` without `--diff`: one screen for each guest.

use super::case::{self, Case};
use super::{Completed, completed, stdout};

/// Lines of a screen that a plan of up to four devices fits on, with its notes.
const SCREEN: usize = 40;

fn case(name: &str) -> Case {
    let mut cases = case::all().into_iter();
    cases.find(|case| case.name == name).expect("a case")
}

/// What a user sees.
fn screen(case: &Case, target: &str) -> String {
    let output = case.run(target, &["plan"], None);
    stdout(&output) + &super::stderr(&output)
}

macro_rules! golden {
    ($name:ident, $case:literal, $target:literal) => {
        #[test]
        fn $name() {
            let text = screen(&case($case), $target);
            insta::with_settings!({snapshot_path => case::data("golden"), prepend_module_to_snapshot => false, omit_expression => true}, {
                insta::assert_snapshot!(stringify!($name), text);
            });
        }
    };
}

golden!(plan_one_gpu, "gh200", "testing");
golden!(plan_two_gpus, "gb200-third-and-fourth", "testing");
golden!(plan_four_gpus, "gb200-all", "testing");
golden!(plan_four_gpus_mirrored, "gb200-mirror", "testing");
golden!(plan_four_gpus_as_arguments, "gb200-all", "stable");
golden!(plan_eight_gpus, "q35-h100-all", "testing");

#[test]
fn a_plan_of_up_to_four_devices_fits_on_a_screen() {
    let small = |one: &&Completed| one.plan["devices"].as_array().is_some_and(|d| d.len() <= 4);
    let mut seen = [0; 5];
    for one in completed().iter().filter(small) {
        let screen = screen(&one.case, &one.target);
        let lines = screen.lines().count();
        assert!(lines < SCREEN, "{}: {lines} lines\n{screen}", one.name());
        seen[one.plan["devices"].as_array().map_or(0, Vec::len)] += 1;
    }
    assert!(seen[1] > 5 && seen[2] > 5 && seen[4] > 2, "{seen:?}");
}

/// Each line of the diff is counted for one piece, except those of options and of elements of an older plan.
#[test]
fn lines_of_the_pieces_are_those_of_the_diff() {
    for one in completed() {
        let summary = one.case.run(&one.target, &["plan"], None);
        let summary = stdout(&summary);
        let rows = summary.lines().skip(2).take_while(|line| !line.is_empty());
        let count = |sign: char| -> usize {
            let words = rows.clone().flat_map(|row| row.split("  ").next());
            let words = words.flat_map(str::split_whitespace);
            words
                .filter_map(|word| word.strip_prefix(sign)?.parse::<usize>().ok())
                .sum()
        };
        let mut diff = [0, 0];
        let lines = one.plan["hunks"].as_array().into_iter().flatten();
        for line in lines.flat_map(|hunk| hunk["lines"].as_array().expect("lines")) {
            match line.as_str().and_then(|line| line.chars().next()) {
                Some('+') => diff[0] += 1,
                Some('-') => diff[1] += 1,
                _ => {}
            }
        }
        assert_eq!([count('+'), count('-')], diff, "{}\n{summary}", one.name());
    }
}
