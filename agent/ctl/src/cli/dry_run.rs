//! `variantctl bind --dry-run` without the agent: plans the writes of a bind from the data of the read verbs.

use std::path::Path;

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::live::Live;
use serde_json::Value;

use super::problem::{Exit, Problem};
use super::{Cli, configuration, host_view, is_snapshot};
use agent::assign::{AssignError, BindOptions, Onlooker};
use agent::context::Rules;
use domain::code::Code;
use settings::config::Config;

/// The agent's run directory, which has the records of devices in use.
const RUN: &str = "/run/variantd";

/// The answer that the agent would give, as JSON.
pub(super) fn plan(
    cli: &Cli,
    device: PciAddress,
    driver: Option<DriverName>,
    allow_group: bool,
) -> Result<Value, Problem> {
    let (host_view, here) = (host_view(cli)?, cli.host() == Path::new("/"));
    let files = match is_snapshot(cli.host()) {
        true => None,
        false => Some(Live::new(cli.host().to_owned()).map_err(failed)?),
    };
    let onlooker = Onlooker {
        host: host_view.host,
        files,
        // The records of this host say nothing about another one.
        run: here.then(|| RUN.into()),
    };
    let rules = Rules {
        recipes: host_view.recipes,
        config: Config::read(&configuration(cli)).map_err(failed)?,
    };
    let wanted = BindOptions {
        driver,
        allow_group,
        stop_services: false,
    };
    let planned = onlooker.plan(rules, device, wanted).map_err(problem)?;
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
