//! `org.variantd1.Hook`: what libvirt's hook asks, while libvirt waits for it.
//!
//! Holds no libvirt handle and nothing that waits for one: a repair is only queued, and runs when
//! libvirt has let go of the domain.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;
use tracing::{debug, info, warn};
use zbus::message::Header;
use zbus::{OwnedVariant, interface};

use super::{BusError, Callers, blocking, caller};
use crate::assign::{AssignError, Assigner, reference};
use crate::journald;
use crate::libvirt::DomainRef;
use crate::refusal::Refusal;
use crate::site::Site;

/// Options that we do not know are libvirt's words, not wishes: they are not refused.
type Options = HashMap<String, OwnedVariant>;

/// The hook's object.
#[derive(Clone)]
pub struct Hook {
    /// Binds and gives back.
    pub assigner: Arc<Assigner>,
    /// The surroundings.
    pub site: Arc<Site>,
    /// Where incomplete definitions are queued.
    pub repairs: UnboundedSender<DomainRef>,
    /// Where libvirt keeps definitions, a file each.
    pub definitions: PathBuf,
    /// Who may call; nobody is asked about where there is no bus.
    pub callers: Callers,
}

#[interface(name = "org.variantd1.Hook")]
impl Hook {
    /// A guest is about to start: checks its definition and binds its devices.
    async fn prepare(
        &self,
        #[zbus(header)] header: Header<'_>,
        xml: String,
        options: Options,
    ) -> Result<(), BusError> {
        self.admit(&header, &options).await?;
        let text = xml.clone();
        match blocking(&self.assigner, move |assigner| assigner.prepare(&text)).await {
            Ok(()) => Ok(()),
            Err(AssignError::Incomplete(refusal)) => Err(self.repair(refusal, &xml).into()),
            Err(error) => Err(refused("start", &xml, error)),
        }
    }

    /// libvirt has done its own device work: checks that each device is on its driver.
    async fn start(
        &self,
        #[zbus(header)] header: Header<'_>,
        xml: String,
        options: Options,
    ) -> Result<(), BusError> {
        self.admit(&header, &options).await?;
        let text = xml.clone();
        let started = blocking(&self.assigner, move |assigner| assigner.start(&text)).await;
        started.map_err(|error| refused("start", &xml, error))
    }

    /// QEMU runs.
    async fn started(
        &self,
        #[zbus(header)] header: Header<'_>,
        xml: String,
        options: Options,
    ) -> Result<(), BusError> {
        self.admit(&header, &options).await?;
        let domain = reference(&xml)?;
        info!(variantd_domain = &*domain.name, "guest '{domain}' runs");
        Ok(())
    }

    /// QEMU is gone.
    async fn stopped(
        &self,
        #[zbus(header)] header: Header<'_>,
        xml: String,
        options: Options,
    ) -> Result<(), BusError> {
        self.admit(&header, &options).await?;
        let domain = reference(&xml)?;
        info!(variantd_domain = &*domain.name, "guest '{domain}' ended");
        Ok(())
    }

    /// Everything of the guest is released: gives its devices back.
    async fn release(
        &self,
        #[zbus(header)] header: Header<'_>,
        xml: String,
        options: Options,
    ) -> Result<(), BusError> {
        self.admit(&header, &options).await?;
        let uuid = reference(&xml)?.uuid;
        let released = blocking(&self.assigner, move |assigner| assigner.release(&uuid)).await;
        released.map_err(|error| refused("release", &xml, error))
    }

    /// libvirt found the guest running after its own restart.
    async fn reconnect(
        &self,
        #[zbus(header)] header: Header<'_>,
        xml: String,
        options: Options,
    ) -> Result<(), BusError> {
        self.admit(&header, &options).await?;
        let adopted = blocking(&self.assigner, move |assigner| assigner.adopt(&xml)).await;
        Ok(adopted?)
    }

    /// An incoming or restored guest: its completed XML, empty when nothing is missing.
    async fn rewrite(
        &self,
        #[zbus(header)] header: Header<'_>,
        xml: String,
        options: Options,
    ) -> Result<String, BusError> {
        self.admit(&header, &options).await?;
        let rewritten = blocking(&self.site, move |site| Ok(site.look().filter(&xml)?));
        rewritten.await
    }
}

impl Hook {
    /// Lets root pass. The options say what libvirt said: `domain`, `operation` and `extra`, its reason.
    async fn admit(&self, header: &Header<'_>, options: &Options) -> Result<(), BusError> {
        debug!("hook: {}", words(options));
        caller::require_root(&self.callers, header).await
    }

    /// Queues the completion of a definition; the refusal then says so.
    fn repair(&self, refusal: Refusal, xml: &str) -> Refusal {
        let Ok(domain) = reference(xml) else {
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
        if !self.site.rules().config.repair {
            return refusal;
        }
        let (variantd_domain, message_id) = (&*domain.name, journald::REFUSED);
        warn!(
            variantd_domain,
            message_id, "start of '{domain}' refused, its definition is to be completed: {refusal}"
        );
        let mend = format!(
            "{}, or start '{domain}' once more: it is being completed now",
            refusal.mend
        );
        if self.repairs.send(domain).is_err() {
            return refusal;
        }
        Refusal { mend, ..refusal }
    }
}

impl Hook {
    /// True when libvirt, which may not be asked now, keeps no definition: 'virsh create' or virDomainCreateXML made it.
    /// libvirt writes the file before a define returns.
    fn is_transient(&self, domain: &DomainRef) -> bool {
        let file = format!("{}.xml", domain.name);
        self.definitions.is_dir() && !self.definitions.join(file).exists()
    }
}

/// There is no definition to complete: whoever makes the guest has to have its XML completed before.
fn transient(refusal: Refusal) -> Refusal {
    let mend = "the guest has no definition that could be completed: create it with 'variantctl create FILE' in the \
                place of 'virsh create FILE', or complete its XML before with 'variantctl rewrite FILE' or \
                PrepareXml of org.variantd1";
    Refusal {
        mend: mend.to_owned(),
        ..refusal
    }
}

fn words(options: &Options) -> String {
    let word = |key: &str| {
        options
            .get(key)
            .and_then(|value| <&str>::try_from(value).ok())
    };
    let words = ["domain", "operation", "extra"].map(|key| word(key).unwrap_or("-"));
    words.join(" ")
}

fn refused(what: &str, xml: &str, error: AssignError) -> BusError {
    let domain = reference(xml).map_or("a domain".into(), |domain| domain.name);
    let (variantd_domain, message_id) = (&*domain, journald::REFUSED);
    warn!(variantd_domain, message_id, "{what} of '{domain}': {error}");
    error.into()
}
