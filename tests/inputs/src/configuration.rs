//! Input of administrators and users: configuration, recipes and saved plans.

use planner::recipe::Recipe;
use planner::saved_plan::SavedPlan;
use planner::toml_text;
use settings::config::Config;

/// An error names a line of the text.
pub(crate) fn configuration(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(error) = toml_text::read::<Config>("variantd.conf", &text) {
        placed(error.line, &text);
    }
}

/// An error names a line of the text; settings are in the order of their lines, and the first of a name is found.
pub(crate) fn libvirt(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match settings::libvirt::parse(&text) {
        Err(malformed) => placed(malformed.line, &text),
        Ok(settings) => {
            assert!(settings.is_sorted_by_key(|setting| setting.line));
            for setting in &settings {
                placed(setting.line, &text);
                let found = settings::libvirt::find(&settings, &setting.name);
                assert!(found.is_some_and(|found| found.line <= setting.line));
            }
        }
    }
}

/// An error names a line of the text; an accepted recipe has a name.
pub(crate) fn recipe(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match Recipe::parse("fuzz.toml", &text) {
        Ok(recipe) => assert!(!recipe.name.is_empty(), "a recipe without a name"),
        Err(error) => placed(error.line, &text),
    }
}

/// The refusal of a plan has a bounded length.
pub(crate) fn saved_plan(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(refusal) = SavedPlan::parse(&text) {
        assert!(!refusal.reason.is_empty());
    }
}

fn placed(line: usize, text: &str) {
    let lines = 1 + text.matches('\n').count();
    assert!((1..=lines).contains(&line), "line {line} of {lines}");
}
