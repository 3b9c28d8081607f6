//! Completes definitions: reads, plans, defines, reads back.
//!
//! ```text
//! read -> relevant? -> plan -> changed? -> tried before? -> read again -> same? -> define -> read back -> verify
//!                                no: complete   yes: refuse      no: start over (replace.rs)
//! ```
//!
//! Its own define causes the event that it reacts to; the second round finds nothing to change, or that it was tried.

use std::sync::Arc;
use std::time::Instant;

use tracing::debug;

use crate::attempt;
use crate::context::Context;
use crate::failure::{PrepareError, failed, found};
use crate::host_view::{HostView, Interest};
use crate::libvirt::{Capabilities, DomainRef, Libvirt};
use crate::progress;
use crate::replace::{Written, replace};
use crate::report;
use api::report::{Outcome, Report};
use domain::code::Code;
use domain::hint::{Hint, line};
use domain::lost_elements::lost_elements;
use domain::refusal::Refusal;
use domain::{Attachment, Definition, Domain, NumaMode};
use planner::attach::{Affects, Attached};
use planner::fingerprint::Fingerprint;
use planner::plan::Note;
use planner::revert::{removed, revert};
use planner::rewrite::Rewrite;
use planner::saved_plan::SavedPlan;
use settings::config::Policy;

/// How often another client may edit the definition between our two reads.
const ATTEMPTS: usize = 5;

/// Why a domain is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// It was defined, or the agent started.
    Define,
    /// Its start was refused because it is incomplete.
    Repair,
    /// A caller requested the revert.
    Revert,
    /// A caller requested it.
    Request(Options),
}

/// What a caller asks of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Replace a guest address that contradicts the recipe.
    pub replace: bool,
    /// Set the domain's option for EGM.
    pub egm: Option<bool>,
    /// Set the domain's option for the NUMA layout.
    pub numa: Option<NumaMode>,
    /// Summarize in the report what was done.
    pub summary: bool,
}

impl Options {
    /// Those of a saved plan.
    pub(crate) fn of(saved: &SavedPlan) -> Self {
        let basis = &saved.basis;
        Self {
            replace: basis.replace,
            egm: basis.egm,
            numa: basis.numa,
            summary: false,
        }
    }
}

/// A device for virDomainAttachDeviceFlags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachDevice {
    /// Its XML.
    pub xml: String,
    /// `VIR_DOMAIN_AFFECT_LIVE`. Without this and `config`: the running guest, or the definition of one that does not run.
    pub live: bool,
    /// `VIR_DOMAIN_AFFECT_CONFIG`.
    pub config: bool,
}

impl Trigger {
    /// A request without options.
    #[cfg(test)]
    pub(crate) const REQUEST: Self = Self::Request(Options {
        replace: false,
        egm: None,
        numa: None,
        summary: false,
    });

    /// The keyword in the metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Define => "define",
            Self::Repair => "repair",
            Self::Revert => "revert",
            Self::Request(_) => "request",
        }
    }

    fn options(self) -> Option<Options> {
        match self {
            Self::Request(options) => Some(options),
            Self::Define | Self::Repair | Self::Revert => None,
        }
    }
}

/// Completes definitions through libvirt.
#[derive(Clone)]
pub struct Preparer {
    libvirt: Arc<dyn Libvirt>,
    context: Arc<Context>,
}

impl Preparer {
    /// A preparer of the domains that `libvirt` has.
    #[must_use]
    pub fn new(libvirt: Arc<dyn Libvirt>, context: Arc<Context>) -> Self {
        Self { libvirt, context }
    }

    /// Completes a domain's definition; blocks for as long as libvirt does. One call per domain at a time.
    ///
    /// # Errors
    /// A refusal, including one that names elements that libvirt dropped; or libvirt's error.
    pub fn prepare(&self, domain: &DomainRef, trigger: Trigger) -> Result<Report, PrepareError> {
        if trigger == Trigger::Revert {
            return self.revert(domain);
        }
        let asked = trigger.options().is_some();
        let options = trigger.options().unwrap_or_default();
        for _ in 0..ATTEMPTS {
            if asked {
                self.context.opted_out.remove(&domain.uuid);
                self.context.attempts.forget(&domain.uuid);
            }
            // Also one that has opted out is read: its devices are in the notes of others.
            let before = self.read(domain);
            if !asked && self.context.opted_out.has(&domain.uuid) {
                return Ok(report::of(domain, Outcome::OnRequest));
            }
            let before = before?;
            let mut host_view = self.context.look();
            if let Some(mut outcome) = wait_for_request(&host_view, before.domain(), trigger)? {
                if outcome == Outcome::OnRequest && self.is_complete(&mut host_view, &before) {
                    outcome = Outcome::Complete;
                }
                return Ok(report::of(domain, outcome));
            }
            progress::stage("planning what the definition needs", 0.3);
            let capabilities = self.inform(&mut host_view, before.domain(), options)?;
            let rewrite = host_view.rewrite(&before, options.replace)?;
            let summary = options.summary.then(|| report::summary(&before, &rewrite));
            if rewrite.text == before.text() {
                let report = report::of_plan(domain, Outcome::Complete, &rewrite.plan);
                return Ok(Report { summary, ..report });
            }
            let attempt = self.fingerprint(before.text(), &rewrite.text);
            if !asked {
                let attempts = &self.context.attempts;
                attempts.begin(domain, attempt, Instant::now())?;
            }
            let defined = self.define(&host_view, domain, &before, &rewrite, &capabilities)?;
            if let Some(report) = defined {
                return Ok(Report { summary, ..report });
            }
        }
        Err(raced(domain).into())
    }

    /// Plans a domain's definition as callers that may only read see it; changes nothing.
    ///
    /// # Errors
    /// A refusal, or libvirt's error.
    pub fn propose(&self, domain: &DomainRef, options: Options) -> Result<SavedPlan, PrepareError> {
        let shown = self.public(domain)?;
        let (mut host_view, _) = self.look(shown.domain());
        self.take(&mut host_view, shown.domain(), options)?;
        Ok(host_view.propose(&shown, options.replace)?)
    }

    /// Plans a text that libvirt has not formatted: the XML of a transient guest.
    ///
    /// # Errors
    /// A refusal.
    pub fn propose_text(&self, xml: String, options: Options) -> Result<SavedPlan, PrepareError> {
        let definition = Definition::parse(xml)?;
        let (mut host_view, _) = self.look(definition.domain());
        host_view.formatted = false;
        self.take(&mut host_view, definition.domain(), options)?;
        Ok(host_view.propose(&definition, options.replace)?)
    }

    /// True if [`Trigger::Define`] would change the definition, as callers that may only read see it; false for one that cannot be
    /// completed, and for a domain without a definition.
    ///
    /// # Errors
    /// libvirt's error, or a refusal to read the definition.
    pub fn lacks(&self, domain: &DomainRef) -> Result<bool, PrepareError> {
        let text = self.libvirt.public_xml(&domain.uuid);
        let text = text.map_err(|why| failed(domain, why))?;
        let Some(text) = text.filter(|_| !self.context.opted_out.has(&domain.uuid)) else {
            return Ok(false);
        };
        let shown = Definition::parse(text)?;
        let mut host_view = self.context.look();
        if wait_for_request(&host_view, shown.domain(), Trigger::Define)?.is_some() {
            return Ok(false);
        }
        self.inform(&mut host_view, shown.domain(), Options::default())?;
        let rewrite = host_view.rewrite(&shown, false);
        Ok(rewrite.is_ok_and(|rewrite| rewrite.text != shown.text()))
    }

    /// Judges a device that is to be attached to a domain, and completes it; changes nothing. What libvirt refuses by itself is not
    /// judged: a device for a running guest that does not run, or for a definition that does not exist.
    ///
    /// # Errors
    /// A refusal, or libvirt's error.
    pub fn attach(
        &self,
        domain: &DomainRef,
        device: AttachDevice,
    ) -> Result<Attached, PrepareError> {
        let mut attached = Attached::unchanged(Attachment::parse(device.xml)?);
        let is_current = !device.live && !device.config;
        let mut live = None;
        if device.live || is_current {
            let xml = self.libvirt.live_xml(&domain.uuid);
            live = xml.map_err(|why| failed(domain, why))?;
        }
        let mut config = None;
        if device.config || (is_current && live.is_none()) {
            let xml = self.libvirt.public_xml(&domain.uuid);
            config = xml.map_err(|why| failed(domain, why))?;
        }
        for (text, affects) in [(config, Affects::Config), (live, Affects::Live)] {
            let Some(text) = text else { continue };
            let definition = Definition::parse(text)?;
            let joined = attached.device.join(&definition)?;
            let (host_view, _) = self.look(joined.definition.domain());
            let next = host_view.attach(&definition, attached.device.clone(), affects)?;
            attached = attached.then(next);
        }
        Ok(attached)
    }

    /// Makes exactly the edits of a saved plan; blocks for as long as libvirt does. One call per domain at a time.
    ///
    /// # Errors
    /// A refusal if the plan differs from the present one; or as [`Self::prepare`].
    pub fn apply(&self, domain: &DomainRef, saved: &SavedPlan) -> Result<Report, PrepareError> {
        let before = self.read(domain)?;
        let shown = self.public(domain)?;
        let (mut host_view, capabilities) = self.look(before.domain());
        self.take(&mut host_view, before.domain(), Options::of(saved))?;
        host_view.check(&shown, saved)?;
        // The same edits, in the text with the secrets.
        let rewrite = host_view.rewrite(&before, saved.basis.replace)?;
        if !saved.adds_the_same(&rewrite) {
            return Err(saved.stale("the definition").into());
        }
        if rewrite.plan.devices.is_empty() {
            return Ok(report::of(domain, Outcome::Foreign));
        }
        self.context.opted_out.remove(&domain.uuid);
        if rewrite.text == before.text() {
            let plan = &rewrite.plan;
            return Ok(report::of_plan(domain, Outcome::Complete, plan));
        }
        self.context.attempts.forget(&domain.uuid);
        let defined = self.define(&host_view, domain, &before, &rewrite, &capabilities)?;
        defined.ok_or_else(|| saved.stale("the definition").into())
    }

    /// Removes the elements that were added to a domain's definition, and opts the domain out until a request.
    fn revert(&self, domain: &DomainRef) -> Result<Report, PrepareError> {
        for _ in 0..ATTEMPTS {
            let before = self.read(domain)?;
            let after = revert(&before)?;
            let removed = planner::json::value(&removed(&before, &after));
            // Our own define causes an event, which must find the domain opted out.
            self.context.opted_out.insert(&domain.uuid);
            let before = before.text();
            if after != before
                && let Written::Changed = replace(&*self.libvirt, domain, before, &after)?
            {
                continue;
            }
            return Ok(Report {
                summary: Some(removed),
                ..report::of(domain, Outcome::Reverted)
            });
        }
        Err(raced(domain).into())
    }

    /// Writes a completed definition over `before`; `None` if another client changed that.
    fn define(
        &self,
        host_view: &HostView<'_>,
        domain: &DomainRef,
        before: &Definition,
        rewrite: &Rewrite,
        capabilities: &Capabilities,
    ) -> Result<Option<Report>, PrepareError> {
        progress::stage("defining the completed domain", 0.6);
        let written = replace(&*self.libvirt, domain, before.text(), &rewrite.text)?;
        let Written::Kept(read, note) = written else {
            return Ok(None);
        };
        progress::stage("reading back the definition", 0.8);
        let read = Definition::parse(read);
        let readable = read.as_ref().map_err(Clone::clone);
        if let Err(why) = readable.and_then(|read| kept(host_view, &rewrite.text, read)) {
            let why = why.into();
            let tried = self.fingerprint(before.text(), &rewrite.text);
            self.note_failed(host_view, domain, tried, read.ok().as_ref(), &why);
            return Err(why);
        }
        let mut plan = rewrite.plan.clone();
        let shared = (self.context.assigned).notes(domain, &plan, &host_view.libvirt);
        plan.notes.extend(shared);
        plan.notes.extend(emulator(before.domain(), capabilities));
        plan.notes.extend(note);
        Ok(Some(report::of_plan(domain, Outcome::Completed, &plan)))
    }

    /// Neither this attempt nor the one that its own event would cause is repeated.
    fn note_failed(
        &self,
        host_view: &HostView<'_>,
        domain: &DomainRef,
        tried: Fingerprint,
        read: Option<&Definition>,
        why: &PrepareError,
    ) {
        let next = |read: &Definition| {
            let next = host_view.rewrite(read, false).ok()?;
            Some(self.fingerprint(read.text(), &next.text))
        };
        let attempts = [Some(tried), read.and_then(next)];
        let attempts = attempts.into_iter().flatten();
        self.context.attempts.failed(&domain.uuid, attempts, why);
    }

    fn fingerprint(&self, before: &str, wanted: &str) -> Fingerprint {
        attempt::fingerprint(before, wanted, self.context.known_versions.versions().ok())
    }

    /// A view of the context, with the capabilities of this kind of guest.
    fn look(&self, domain: &Domain) -> (HostView<'_>, Capabilities) {
        let mut host_view = self.context.look();
        let capabilities = self.ask(&mut host_view, domain);
        (host_view, capabilities)
    }

    /// Whether an earlier request has completed the definition, and a request now would change nothing.
    fn is_complete(&self, host_view: &mut HostView<'_>, definition: &Definition) -> bool {
        let domain = definition.domain();
        if domain.mark.is_none() {
            return false;
        }
        let informed = self.inform(host_view, domain, Options::default());
        let rewrite = informed.and_then(|_| host_view.rewrite(definition, false));
        rewrite.is_ok_and(|rewrite| rewrite.text == definition.text())
    }

    /// Gives a view all that a rewrite needs: [`Self::ask`], then [`Self::take`].
    fn inform(
        &self,
        host_view: &mut HostView<'_>,
        domain: &Domain,
        options: Options,
    ) -> Result<Capabilities, Refusal> {
        let capabilities = self.ask(host_view, domain);
        self.take(host_view, domain, options)?;
        Ok(capabilities)
    }

    /// Adds libvirt's answers to a view. Only for a relevant domain, because libvirt may start QEMU for them.
    fn ask(&self, host_view: &mut HostView<'_>, domain: &Domain) -> Capabilities {
        if !domain.networks.is_empty() {
            ask_for_networks(&self.context, &*self.libvirt);
        }
        let has_devices = !domain.hostdevs.is_empty();
        let printed = has_devices.then(|| self.libvirt.capabilities(domain).ok());
        let capabilities = printed.flatten().unwrap_or_default();
        host_view.iommufd = capabilities.iommufd;
        host_view.libvirt = capabilities.with(self.context.networks.now());
        host_view.formatted = true;
        capabilities
    }

    /// Sets the options of a caller, and reads the facts that they need.
    fn take(
        &self,
        host_view: &mut HostView<'_>,
        domain: &Domain,
        options: Options,
    ) -> Result<(), Refusal> {
        host_view.egm = options.egm;
        host_view.numa = options.numa;
        host_view.read_facts(domain, || guests(&*self.libvirt))
    }

    fn read(&self, domain: &DomainRef) -> Result<Definition, PrepareError> {
        let text = found(domain, self.libvirt.inactive_xml(&domain.uuid))?;
        let definition = Definition::parse(text)?;
        (self.context.assigned).learn(&domain.uuid, definition.domain());
        Ok(definition)
    }

    fn public(&self, domain: &DomainRef) -> Result<Definition, PrepareError> {
        let text = found(domain, self.libvirt.public_xml(&domain.uuid))?;
        Ok(Definition::parse(text)?)
    }
}

/// Queries libvirt's networks with host devices, and stores the answer for the hook, which must not call libvirt.
pub(crate) fn ask_for_networks(context: &Context, libvirt: &dyn Libvirt) {
    match libvirt.networks() {
        Ok(networks) => context.networks.learn(networks),
        Err(why) => debug!("cannot list libvirt's networks: {why}"),
    }
}

/// All guests: the running ones as they run, the others as they are defined. A text that cannot be read or parsed is left out.
fn guests(libvirt: &dyn Libvirt) -> Vec<Domain> {
    let running = libvirt.running().unwrap_or_default();
    let is_running = |one: &DomainRef| running.iter().any(|(domain, _)| domain.uuid == one.uuid);
    let defined = libvirt.defined().unwrap_or_default().into_iter();
    let defined = defined.filter(|one| !is_running(one));
    let defined = defined.filter_map(|one| libvirt.public_xml(&one.uuid).ok()?);
    let texts: Vec<String> = defined.collect();
    let texts = running.iter().map(|(_, text)| text).chain(&texts);
    texts.filter_map(|text| Domain::parse(text).ok()).collect()
}

/// A note if the definition names another QEMU than the one whose version is known.
fn emulator(domain: &Domain, capabilities: &Capabilities) -> Option<Note> {
    let named = domain.platform.emulator.as_ref()?;
    let known = capabilities
        .emulator
        .as_ref()
        .filter(|known| *known != named)?;
    Some(Note {
        code: Code::TargetEmulator,
        device: None,
        text: format!("<emulator> is '{named}', but the plan is for the version of '{known}'"),
    })
}

/// Why nothing must be done now; `None` if something must be done.
fn wait_for_request(
    host_view: &HostView<'_>,
    domain: &Domain,
    trigger: Trigger,
) -> Result<Option<Outcome>, PrepareError> {
    let asked = trigger != Trigger::Define;
    let policy = host_view.rules.config.prepare;
    Ok(match host_view.interest(domain)? {
        Interest::None => Some(Outcome::Foreign),
        Interest::OnDefine if asked || policy == Policy::OnDefine => None,
        Interest::OnRequest if asked => None,
        Interest::OnDefine | Interest::OnRequest => Some(Outcome::OnRequest),
    })
}

fn raced(domain: &DomainRef) -> Refusal {
    let reason = format!("the definition of '{domain}' kept changing");
    let hint = Hint::run(line(["variantctl", "prepare", &domain.name]))
        .then(" when no other client edits it");
    Refusal::new(Code::XmlRaced, reason, hint)
}

/// Checks that libvirt has kept a definition as it was written.
fn kept(host_view: &HostView<'_>, written: &str, read: &Definition) -> Result<(), Refusal> {
    let lost = lost_elements(written, read.text());
    if !lost.is_empty() {
        return Err(dropped_refusal(&lost));
    }
    host_view.verify(read).map(drop)
}

fn dropped_refusal(lost: &[String]) -> Refusal {
    let reason = format!("libvirt dropped {} of the definition", lost.join(", "));
    let hint = "use a newer libvirt; 'variantctl plan' names the version";
    Refusal::new(Code::XmlDropped, reason, hint).at(lost[0].clone())
}

#[cfg(test)]
#[path = "prepare_test.rs"]
mod test;
