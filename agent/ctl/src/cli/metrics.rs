//! `variantctl metrics`: prints the agent's metrics.

use api::again::Effect;
use api::client::Options;
use serde_json::json;

use super::domain::answer;
use super::output;
use super::problem::Problem;

/// Prints the metrics as the agent returns them; as JSON they are one field.
pub(super) fn run(as_json: bool) -> Result<(), Problem> {
    let text = answer(Effect::Reads, async |manager| {
        manager.metrics(Options::new()).await
    })?;
    match as_json {
        true => output::object(json!({"metrics": text})),
        false => output::data(&text),
    }
}
