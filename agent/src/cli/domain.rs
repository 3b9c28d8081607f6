//! `variantctl prepare` and `wait`: asks the agent.

use std::time::Duration;

use super::problem::Problem;

pub(super) fn prepare(_domain: &str, _replace: bool, _as_json: bool) -> Result<(), Problem> {
    Err(Problem::Unreachable(
        "the agent does not answer; start it with 'systemctl start variantd'".to_owned(),
    ))
}

pub(super) fn wait(_domain: &str, _timeout: Duration) -> Result<(), Problem> {
    Err(Problem::Unreachable(
        "the agent does not answer; start it with 'systemctl start variantd'".to_owned(),
    ))
}
