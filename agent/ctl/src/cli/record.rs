//! `variantctl record-host DIR`: records a host for use with `--host`.

use std::path::Path;

use kernel_glue::record;
use serde_json::json;

use super::output;
use super::problem::Problem;

pub(super) fn run(root: &Path, dir: &Path, as_json: bool) -> Result<(), Problem> {
    let recorded =
        record::record(root, dir).map_err(|failure| Problem::Failed(failure.to_string()))?;
    output::gaps(&recorded.gaps);
    if as_json {
        let gaps = output::gaps_json(&recorded.gaps);
        return output::object(
            json!({"directory": dir, "files": recorded.files, "links": recorded.links, "gaps": gaps}),
        );
    }
    output::text(&format!(
        "recorded {} files and {} links below '{}'\n",
        recorded.files,
        recorded.links,
        dir.display()
    ))
}
