//! `variantctl bind --dry-run` without the agent: the writes of a bind, planned from what the read verbs read.

use std::path::Path;

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::live::Live;
use serde_json::Value;

use super::problem::{Exit, Problem};
use super::{Cli, configuration, is_snapshot, view};
use agent::assign::{AssignError, Onlooker, Wish};
use agent::site::Rules;
use domain::code::Code;
use settings::config::Config;

/// Where the agent of this host keeps what guests hold.
const RUN: &str = "/run/variantd";

/// The answer that the agent would give, as JSON.
pub(super) fn plan(
    cli: &Cli,
    device: PciAddress,
    driver: Option<DriverName>,
    allow_group: bool,
) -> Result<Value, Problem> {
    let (view, here) = (view(cli)?, cli.host() == Path::new("/"));
    let files = match is_snapshot(cli.host()) {
        true => None,
        false => Some(Live::new(cli.host().to_owned()).map_err(failed)?),
    };
    let onlooker = Onlooker {
        host: view.host,
        files,
        run: here.then(|| RUN.into()),
    };
    let rules = Rules {
        recipes: view.recipes,
        config: Config::read(&configuration(cli)).map_err(failed)?,
    };
    let wish = Wish {
        driver,
        allow_group,
        stop_services: false,
    };
    let planned = onlooker.plan(rules, device, wish).map_err(problem)?;
    serde_json::to_value(planned).map_err(failed)
}

fn problem(error: AssignError) -> Problem {
    match error {
        AssignError::Refused(refusal) if refusal.code == Code::DeviceMissing => {
            Problem::Coded(Exit::NotFound, refusal.into())
        }
        AssignError::Refused(refusal)
        | AssignError::Incomplete(refusal)
        | AssignError::Failed(refusal) => Problem::Refused(refusal),
    }
}

fn failed(error: impl std::fmt::Display) -> Problem {
    Problem::Failed(error.to_string())
}
