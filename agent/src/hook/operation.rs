//! The work of each operation of libvirt's hook, while libvirt waits for it.
//!
//! Has no libvirt handle and does not wait for one: a repair is only queued, and runs after libvirt has unlocked the
//! domain.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hooks::call::Operation;
use hooks::protocol::{FAILED, MethodReply, REFUSED, Results};
use tokio::sync::mpsc::UnboundedSender;
use tracing::{info, warn};

use super::connection::failed;
use crate::assign::{AssignError, Assigner, reference};
use crate::context::Context;
use crate::journald;
use crate::libvirt::DomainRef;
use crate::timeouts;
use domain::refusal::Refusal;
use domain::{Definition, Domain};

/// The context of the operations.
#[derive(Clone)]
pub struct Hook {
    /// Binds and releases.
    pub assigner: Arc<Assigner>,
    /// The context.
    pub context: Arc<Context>,
    /// Where incomplete definitions are queued.
    pub repairs: UnboundedSender<DomainRef>,
    /// The directory of libvirt's definitions, one file each.
    pub definitions: PathBuf,
}

impl Hook {
    /// The time limit of an operation.
    pub(super) fn limit(&self) -> Duration {
        timeouts::of_start(&self.context.rules())
    }

    /// Performs `operation` for the domain with this definition; blocks until it is done.
    pub(crate) fn run(&self, operation: Operation, xml: &str) -> MethodReply {
        let definition = match Definition::parse(xml) {
            Ok(definition) => definition,
            Err(refusal) => return unreadable(operation, refusal),
        };
        let domain = definition.domain();
        let done = match operation {
            Operation::Prepare => self.prepare(&definition),
            Operation::Start => told("start", domain, self.assigner.start(domain)),
            Operation::Started => log(domain, "runs"),
            // Nothing is released here: `release` comes after libvirt's own cleanup (docs/hooks.rst).
            Operation::Stopped => log(domain, "ended"),
            Operation::Release => told("release", domain, self.release(domain)),
            Operation::Reconnect => self.assigner.adopt(domain),
            // The two operations whose output libvirt reads (docs/hooks.rst).
            Operation::Migrate | Operation::Restore => return self.rewrite(&definition),
        };
        done.map_or_else(|error| problem(&error), |()| MethodReply::default())
    }

    /// A guest is about to start: checks its definition and binds its devices.
    fn prepare(&self, definition: &Definition) -> Result<(), AssignError> {
        let domain = definition.domain();
        match self.assigner.prepare(definition) {
            Err(AssignError::Incomplete(refusal)) => {
                Err(AssignError::Incomplete(self.repair(refusal, domain)))
            }
            done => told("start", domain, done),
        }
    }

    /// Everything of the guest is released: releases its devices.
    fn release(&self, domain: &Domain) -> Result<(), AssignError> {
        self.assigner.release(&reference(domain)?.uuid)
    }

    /// An incoming or restored guest: returns its completed definition, if it is incomplete.
    fn rewrite(&self, definition: &Definition) -> MethodReply {
        match self.context.look().filter(definition) {
            Ok(completed) => MethodReply {
                parameters: Results {
                    // Empty output means "unchanged" to libvirt.
                    xml: Some(completed).filter(|completed| !completed.is_empty()),
                    ..Results::default()
                },
                ..MethodReply::default()
            },
            Err(refusal) => problem(&AssignError::Refused(refusal)),
        }
    }

    /// Queues the completion of a definition, and says so in the refusal.
    fn repair(&self, refusal: Refusal, domain: &Domain) -> Refusal {
        let Ok(domain) = reference(domain) else {
            return refusal;
        };
        if self.is_transient(&domain) {
            warn!(
                variantd_domain = &*domain.name,
                message_id = journald::REFUSED,
                "start of '{domain}', which has no definition, refused: {refusal}"
            );
            return transient(refusal);
        }
        if !self.context.rules().config.repair {
            return refusal;
        }
        let (variantd_domain, message_id) = (&*domain.name, journald::REFUSED);
        warn!(
            variantd_domain,
            message_id, "start of '{domain}' refused, its definition is being completed: {refusal}"
        );
        let again = format!(", or start '{domain}' again: its definition is being completed now");
        let hint = refusal.hint.clone().then(&again);
        // The agent ends: then the hint must not promise a repair.
        if self.repairs.send(domain).is_err() {
            return refusal;
        }
        Refusal { hint, ..refusal }
    }

    /// True if libvirt, which must not be called now, has no definition: 'virsh create' or virDomainCreateXML made the
    /// guest. libvirt writes the file before a define returns.
    fn is_transient(&self, domain: &DomainRef) -> bool {
        let file = format!("{}.xml", domain.name);
        // Without the directory nothing is known: the guest counts as defined, and the repair finds out.
        self.definitions.is_dir() && !self.definitions.join(file).exists()
    }
}

/// There is no definition to complete: the caller that creates the guest must complete its XML before.
fn transient(refusal: Refusal) -> Refusal {
    let hint = "a transient guest has no definition to complete: use 'variantctl create FILE', or complete its \
        XML with 'variantctl rewrite FILE' or PrepareXml of org.variantd1";
    Refusal {
        hint: hint.into(),
        ..refusal
    }
}

/// The reply to a text that is not a definition.
fn unreadable(operation: Operation, refusal: Refusal) -> MethodReply {
    let error = AssignError::Refused(refusal);
    let what = match operation {
        Operation::Prepare | Operation::Start => "start",
        Operation::Release => "release",
        _ => return problem(&error),
    };
    warn!(
        message_id = journald::REFUSED,
        "{what} of a domain: {error}"
    );
    problem(&error)
}

/// Logs why an operation was refused.
fn told(what: &str, domain: &Domain, done: Result<(), AssignError>) -> Result<(), AssignError> {
    if let Err(error) = &done {
        let domain = &domain.name;
        let (variantd_domain, message_id) = (&**domain, journald::REFUSED);
        warn!(variantd_domain, message_id, "{what} of '{domain}': {error}");
    }
    done
}

/// Only logs that a guest started or ended.
fn log(domain: &Domain, what: &str) -> Result<(), AssignError> {
    let domain = reference(domain)?;
    info!(variantd_domain = &*domain.name, "guest '{domain}' {what}");
    Ok(())
}

/// The error's fields.
fn problem(error: &AssignError) -> MethodReply {
    let (name, refusal) = match error {
        AssignError::Refused(refusal) | AssignError::Incomplete(refusal) => (REFUSED, refusal),
        AssignError::Failed(refusal) => (FAILED, refusal),
    };
    let fields = Results {
        code: Some(refusal.code.to_string()),
        message: Some(refusal.message()),
        hint: Some(refusal.hint.to_string()),
        command: refusal.hint.command().map(str::to_owned),
        ..Results::default()
    };
    failed(name, fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::code::Code;

    #[test]
    fn error_of_an_incomplete_domain_has_a_command() {
        let refusal = Refusal::new(Code::MarkMissing, "it lacks", "run it");
        let refusal = refusal.by(["variantctl", "prepare", "d0"]);
        let failure = problem(&AssignError::Incomplete(refusal.clone()));
        let command = failure.parameters.command.as_deref();
        assert_eq!(command, Some("variantctl prepare d0"));
        let failure = problem(&AssignError::Incomplete(transient(refusal)));
        assert_eq!(
            failure.parameters.command, None,
            "'prepare' would not find it"
        );
    }

    #[test]
    fn the_fields_of_an_error_make_the_sentence_that_it_is_elsewhere() {
        let refusal = Refusal::new(Code::BindInUse, "held by 'x'", "end what holds it");
        let device = "0009:01:00.0".parse().expect("address");
        for refusal in [refusal.clone(), refusal.of(device)] {
            let sentence = refusal.to_string();
            let failure = problem(&AssignError::Failed(refusal.clone()));
            assert_eq!(failure.parameters.sentence(), sentence);
            assert_eq!(failure.error.as_deref(), Some(FAILED));
            let refused = problem(&AssignError::Incomplete(refusal));
            assert_eq!(refused.parameters.sentence(), sentence);
            assert_eq!(refused.error.as_deref(), Some(REFUSED));
        }
    }
}
