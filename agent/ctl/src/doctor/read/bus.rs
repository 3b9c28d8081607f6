//! Calls the agent on the bus. A name without an owner is not called, because that would start the agent.

use std::time::Duration;

use tokio::time::timeout;
use zbus::Connection;
use zbus::fdo::DBusProxy;

use super::super::definition::codes;
use super::super::scene::{Agent, Guest, Seen, Unavailable};
use super::Look;
use api::again::{Effect, again};
use api::client::{Fault, ManagerProxy, Options};
use api::name::SERVICE;
use api::refused;
use domain::refusal::Refusal;
use planner::saved_plan::SavedPlan;

const PROGRAM: &str = "usr/sbin/variantd";
/// The timeout: a plan waits for libvirt, and libvirt for every start in progress.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks the agent for its version and its plan for each definition.
pub(super) fn agent(look: &Look, domains: &mut [Guest]) -> Seen<Agent> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Unavailable::because(error.to_string()))?;
    let late = Unavailable::because(format!("it did not answer within {} s", TIMEOUT.as_secs()));
    let asked = runtime.block_on(async { timeout(TIMEOUT, ask(domains)).await });
    Ok(match asked.map_err(|_| late)? {
        Agent::Stopped if !look.root.has(PROGRAM) => Agent::NotInstalled,
        found => found,
    })
}

async fn ask(domains: &mut [Guest]) -> Agent {
    let bus = match Connection::system().await {
        Ok(bus) => bus,
        Err(error) => return Agent::NoBus(error.to_string()),
    };
    match is_owned(&bus).await {
        Ok(true) => {}
        Ok(false) => return Agent::Stopped,
        Err(error) => return Agent::NoBus(error.to_string()),
    }
    match answers(&bus, domains).await {
        Ok(version) => Agent::Answers(version),
        Err(error) => match Fault::from(error) {
            Fault::NotAuthorized(why) => Agent::Denied(why.text),
            _ => Agent::Stopped,
        },
    }
}

async fn is_owned(bus: &Connection) -> zbus::Result<bool> {
    let name = SERVICE.try_into()?;
    Ok(DBusProxy::new(bus).await?.name_has_owner(name).await?)
}

async fn answers(bus: &Connection, domains: &mut [Guest]) -> zbus::Result<String> {
    let manager = ManagerProxy::new(bus).await?;
    let version = again(Effect::Reads, async || manager.version().await).await?;
    for domain in domains {
        domain.planned = planned(&manager, &domain.name).await;
    }
    Ok(version)
}

/// `None` when the agent does not answer; then this program plans itself.
async fn planned(
    manager: &ManagerProxy<'_>,
    domain: &str,
) -> Option<Result<Vec<domain::code::Code>, Refusal>> {
    let options = Options::from([("refusal", true.into())]);
    let answer = manager.plan(domain, options).await.ok()?;
    match refused::read(&answer) {
        Some((_, refusal)) => Some(Err(refusal)),
        None => Some(Ok(codes(&SavedPlan::parse(&answer).ok()?))),
    }
}
