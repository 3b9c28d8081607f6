//! The shipped recipes, overriding them, and the errors of invalid ones.

use super::*;

const GRACE: &str = include_str!("../../../recipes/nvidia-grace.toml");

fn shipped() -> Recipes {
    Recipes::shipped().expect("shipped recipes")
}

fn printed(text: &str) -> String {
    Recipe::parse("mine.toml", text)
        .expect_err("it must be refused")
        .to_string()
}

#[test]
fn the_shipped_recipes_read_and_grace_covers_the_kernel_ids() {
    let recipes = shipped();
    let names: Vec<&str> = recipes.iter().map(|recipe| recipe.name.as_str()).collect();
    assert_eq!(
        names,
        ["amd-instinct", "mlx5", "nvidia-grace", "nvidia-x86"]
    );
    for id in [
        "10de:2342",
        "10de:2345",
        "10de:2348",
        "10de:2941",
        "10de:31c2",
        "10de:307f",
    ] {
        let id = id.parse().expect("id");
        let owner = recipes
            .iter()
            .find(|recipe| recipe.names(id))
            .expect("a recipe");
        assert_eq!(owner.name, "nvidia-grace", "{id}");
    }
}

#[test]
fn an_unknown_key_is_named_with_file_line_and_the_nearest() {
    let text = GRACE.replace("raise_ten_to", "raise_tem_to");
    let line = 1 + text
        .lines()
        .position(|line| line.starts_with("raise_tem_to"))
        .expect("there");
    let expected = format!(
        "'mine.toml', line {line}: unknown key 'raise_tem_to'; did you mean 'raise_ten_to'?"
    );
    assert_eq!(printed(&text), expected);
}

#[test]
fn a_value_out_of_range_is_named_with_range_and_line() {
    let cases = [
        (
            "cells = 8",
            "cells = 0",
            "initiators.cells is 0, it must be 1 to 64",
        ),
        ("cells = 8", "cells = 65", "1 to 64"),
        (
            "raise_ten_to = 11",
            "raise_ten_to = 10",
            "initiators.raise_ten_to is 10, it must be 11 to 254",
        ),
        (
            "lower_unreachable_to = 11",
            "lower_unreachable_to = 255",
            "initiators.lower_unreachable_to is 255",
        ),
        (
            "raise_ten_to = 11",
            "raise_ten_to = 11\ncpu_distance = 255",
            "initiators.cpu_distance is 255",
        ),
        ("minimum_gib = 512", "minimum_gib = 500", "power of two"),
        (
            "prepare = \"on-define\"",
            "prepare = \"on-define\"\nbind_seconds = 601",
            "bind_seconds is 601, it must be 10 to 600",
        ),
        (
            "name = \"nvidia-grace\"",
            "name = \"../x\"",
            "lower-case letters",
        ),
        ("id = \"10de:2345\"", "id = \"10de:2342\"", "named twice"),
        ("[256, 1]", "[200, 1]", "has 200 in bars_gib"),
        ("[512, 512]", "[512, 1024]", "window_gib must be at least"),
        (
            "bind_seconds = 270",
            "bind_seconds = 9",
            "bind_seconds is 9, it must be 10 to 600",
        ),
        (
            "[placement]",
            "[atomics]\nneed = \"require\"\n[placement]",
            "atomics.widths is empty",
        ),
        (
            "[placement]",
            "[atomics]\nwidths = [16]\n[placement]",
            "atomics.widths has the unsupported width 16: expected 32, 64 or 128",
        ),
        (
            "ids = [\"10de:2342\", \"10de:2345\", \"10de:2348\", \"10de:2941\", \"10de:31c2\", \"10de:307f\"]",
            "ids = []",
            "atomics.otherwise must name ids and means",
        ),
    ];
    for (from, to, part) in cases {
        let text = GRACE.replacen(from, to, 1);
        assert_ne!(text, GRACE, "{from}");
        let printed = printed(&text);
        assert!(
            printed.starts_with("'mine.toml', line ") && printed.contains(part),
            "{to}: {printed}"
        );
    }
}

#[test]
fn a_wrong_value_is_named_with_its_own_line() {
    let cases = [
        ("[initiators]\n", "cells = 0\n", "cells = 8\n"),
        ("[expander]\n", "machine = \"pc\"\n", "machine = \"virt\"\n"),
        ("[window]\n", "machine = \"pc\"\n", "machine = \"virt\"\n"),
    ];
    for (section, wrong, right) in cases {
        let at = GRACE.find(section).expect(section);
        let text = GRACE[..at].to_owned() + &GRACE[at..].replacen(right, wrong, 1);
        let line = text[at..].find(wrong).map(|found| at + found);
        let line = 1 + text[..line.expect(wrong)].matches('\n').count();
        let printed = printed(&text);
        assert!(
            printed.starts_with(&format!("'mine.toml', line {line}: ")),
            "{printed}"
        );
    }
    let twice = GRACE.replacen("id = \"10de:2345\"", "id = \"10de:2342\"", 1);
    let second = twice
        .match_indices("id = \"10de:2342\"")
        .nth(1)
        .expect("two")
        .0;
    let line = 1 + twice[..second].matches('\n').count();
    assert!(printed(&twice).starts_with(&format!("'mine.toml', line {line}: ")));
}

#[test]
fn a_bind_has_10_to_600_seconds_and_40_by_default() {
    let parsed = |value: &str| {
        let text = GRACE.replacen(
            "[[device]]",
            &format!("bind_seconds = {value}\n[[device]]"),
            1,
        );
        Recipe::parse("mine.toml", &text).map_err(|error| error.to_string())
    };
    let line = 1 + GRACE
        .lines()
        .position(|line| line == "[[device]]")
        .expect("a device");
    for value in ["9", "601"] {
        let expected =
            format!("'mine.toml', line {line}: bind_seconds is {value}, it must be 10 to 600");
        assert_eq!(parsed(value).expect_err(value), expected);
    }
    for value in ["-40", "\"40\"", "40.5"] {
        let printed = parsed(value).expect_err(value);
        assert!(
            printed.starts_with(&format!("'mine.toml', line {line}: ")),
            "{printed}"
        );
    }
    for (value, seconds) in [("10", 10), ("256", 256), ("600", 600)] {
        assert_eq!(parsed(value).expect(value).bind_seconds, seconds);
    }
    let unsaid = Recipe::parse("mine.toml", GRACE).expect("shipped");
    assert_eq!(unsaid.bind_seconds, 40);
}

#[test]
fn an_entry_is_for_physical_functions_by_default() {
    let mut physical = crate::fixture::device("0000:d5:00.0", "10de:2335", "nvidia");
    let mut function = crate::fixture::device("0000:d5:00.4", "10de:2335", "nvidia");
    function.physical_function = Some(physical.address);
    let covered = |recipes: &Recipes, device: &Device| {
        let recipe = recipes.for_device(device);
        recipe.map(|recipe| recipe.name.clone())
    };
    let recipes = shipped();
    assert_eq!(covered(&recipes, &physical).as_deref(), Some("nvidia-x86"));
    assert_eq!(covered(&recipes, &function), None);
    let passed = recipes.passing_over(&function).map(|recipe| &*recipe.name);
    assert_eq!(passed, Some("nvidia-x86"));
    let extra: Extra =
        toml::from_str("id = \"10de:2335\"\nrecipe = \"mlx5\"\nfunctions = \"virtual\"")
            .expect("extra");
    let both = shipped()
        .extended(std::slice::from_ref(&extra))
        .expect("another kind of function");
    assert_eq!(covered(&both, &function).as_deref(), Some("mlx5"));
    assert_eq!(covered(&both, &physical).as_deref(), Some("nvidia-x86"));
    let any = Extra {
        functions: Functions::Any,
        ..extra
    };
    assert!(
        shipped().extended(&[any]).is_err(),
        "one device in two recipes"
    );
    physical.id = "1002:74b9".parse().expect("id");
    assert_eq!(
        covered(&recipes, &physical).as_deref(),
        Some("amd-instinct")
    );
    let printed = printed(&GRACE.replacen("label =", "functions = \"vf\"\nlabel =", 1));
    assert!(
        printed.contains("physical") && printed.contains("virtual"),
        "{printed}"
    );
}
