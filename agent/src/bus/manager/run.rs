//! A method of `Manager` as a job: the same call, answered later.

use api::name::MANAGER;
use zbus::message::{Header, Message};
use zbus::{OwnedVariant, Variant};

use super::{Manager, Operation, Options};
use crate::bus::about::About;
use crate::bus::{BusError, device};

/// The call of a job, with the sender and flags of the call that started it.
pub(super) struct Deferred {
    pub(super) operation: Operation,
    pub(super) name: String,
    pub(super) options: Options,
    message: Message,
}

impl Deferred {
    pub(super) fn new(
        header: &Header<'_>,
        operation: Operation,
        about: &About,
        options: Options,
    ) -> Result<Self, BusError> {
        let call = Message::method_call(MANAGER, operation.method().name);
        let call = call.with_flags(header.primary().flags());
        let call = match header.sender() {
            Some(sender) => call.sender(sender.clone()),
            None => call,
        };
        Ok(Self {
            operation,
            name: name(about),
            options,
            message: call.build(&())?,
        })
    }
}

/// The name by which the method finds the job's subject.
fn name(about: &About) -> String {
    match about {
        About::Nothing | About::AllDevices => String::new(),
        About::Device(device) => device.to_string(),
        About::Domain(domain) => domain.uuid.to_string(),
    }
}

impl Manager {
    /// Resolves the job's subject from the name that its caller gave.
    pub(super) async fn about(
        &self,
        header: &Header<'_>,
        operation: Operation,
        name: String,
    ) -> Result<About, BusError> {
        Ok(match operation {
            Operation::Prepare | Operation::Revert => {
                About::Domain(self.domain(header, name).await?)
            }
            Operation::Recover if name.is_empty() => About::AllDevices,
            Operation::Bind | Operation::Release | Operation::Recover => {
                About::Device(device::address(name)?)
            }
        })
    }

    /// Runs the method, including polkit's check, which may take until a user has answered.
    pub(super) async fn run(&self, call: Deferred) -> Result<String, BusError> {
        let header = call.message.header();
        let (name, mut options) = (call.name, call.options);
        match call.operation {
            Operation::Prepare => self.prepare(header, name, options).await,
            Operation::Revert => self.revert(header, name, options).await,
            Operation::Bind => self.bind(header, name, options).await,
            Operation::Release => self.release(header, name, options).await,
            Operation::Recover => {
                if !name.is_empty() {
                    let name = OwnedVariant::try_from(Variant::from(name));
                    options.insert("device".into(), name?);
                }
                self.recover(header, options).await
            }
        }
    }
}
