//! Sends a signal on D-Bus for each result of a domain.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tracing::debug;
use zbus::Connection;
use zbus::object_server::SignalEmitter;

use super::Manager;
use crate::worker::Worker;
use api::name::MANAGER;
use api::report::Report;

/// Sends the worker's reports until the connection ends.
pub async fn announce(connection: Connection, worker: Arc<Worker>) {
    let mut reports = worker.watch();
    loop {
        match reports.recv().await {
            Ok(report) => {
                if let Err(error) = say(&connection, report).await {
                    debug!("cannot send the signal of a domain: {error}");
                }
            }
            // Clients get missed reports from 'ListDomains'.
            Err(RecvError::Lagged(missed)) => debug!(
                "{missed} reports of domains were not sent as signals, because the bus was too slow"
            ),
            Err(RecvError::Closed) => return,
        }
    }
}

async fn say(connection: &Connection, report: Report) -> zbus::Result<()> {
    let emitter = SignalEmitter::new(connection, MANAGER)?;
    let details = [("sentence", report.sentence), ("code", report.code)];
    let details = details
        .into_iter()
        .filter_map(|(key, text)| Some((key, text?.into())));
    let details: HashMap<_, _> = details.collect();
    let (name, uuid, outcome) = (&report.domain, &report.uuid, report.outcome.as_str());
    Manager::domain_changed(&emitter, name, uuid, outcome, details).await
}
