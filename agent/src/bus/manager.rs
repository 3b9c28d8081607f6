//! `org.variantd1.Manager`: domains and devices for people and programs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel_glue::address::PciAddress;
use tokio::time::timeout;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedObjectPath, OwnedVariant, Variant, interface};

use super::about::{self, About};
use super::authority::Action;
use super::job::{Operation, Subject};
use super::{Authority, BusError, Jobs, Lanes, blocking, caller, device};
use crate::assign::{Assigner, Wish};
use crate::failure::PrepareError;
use crate::json;
use crate::libvirt::DomainRef;
use crate::prepare::Trigger;
use crate::proposal::Proposal;
use crate::refusal::Refusal;
use crate::reserve::Reservations;
use crate::site::Site;
use crate::worker::{RecoverError, Worker};
use api::refused;
use api::report::Report;

use run::Call;

mod run;

pub(super) type Options = HashMap<String, OwnedVariant>;
type Row = HashMap<&'static str, Variant<'static>>;

/// Reads configuration and recipes again and publishes the devices they cover.
pub type Reload = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The manager's object.
#[derive(Clone)]
pub struct Manager {
    /// The libvirt half.
    pub worker: Arc<Worker>,
    /// What is bound.
    pub assigner: Arc<Assigner>,
    /// The surroundings.
    pub site: Arc<Site>,
    /// What is reserved for guests.
    pub reservations: Reservations,
    /// What `Reload` does.
    pub reload: Arc<Reload>,
    /// Who may do what.
    pub authority: Authority,
    /// Whose turn it is to plan.
    pub lanes: Lanes,
    /// Calls that are answered later.
    pub jobs: Jobs,
}

impl Manager {
    async fn admit(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        action: Action,
        about: &About,
    ) -> Result<(), BusError> {
        let admitted = self.authority.admit(connection, header, action, about);
        admitted.await
    }

    /// The domain that a caller names. Only root does not wait for its turn: everybody may ask.
    async fn domain(&self, header: &Header<'_>, text: String) -> Result<DomainRef, BusError> {
        about::name(&text)?;
        let user = self.authority.callers.user(header).await?;
        match user.is_none_or(caller::is_root) {
            true => Ok(self.worker.find(text).await?),
            false => Ok(self.lanes.within(user, self.worker.find(text)).await?),
        }
    }

    /// Does what everybody may ask for, and what costs much, once it is the caller's turn.
    async fn in_turn<T, E>(
        &self,
        header: &Header<'_>,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, BusError>
    where
        BusError: From<E>,
    {
        let user = self.authority.callers.user(header).await?;
        Ok(self.lanes.within(user, work).await?)
    }
}

#[interface(name = "org.variantd1.Manager")]
impl Manager {
    /// The domains that are ours, each with name, uuid, outcome and, if it has one, sentence and
    /// code.
    async fn list_domains(&self, options: Options) -> Result<Vec<Row>, BusError> {
        known(&options, &[])?;
        Ok(self.worker.reports().into_iter().map(domain_row).collect())
    }

    /// The host devices that a recipe covers, each with address, id, recipe, driver and, while one
    /// holds it, domain.
    async fn list_devices(&self, options: Options) -> Result<Vec<Row>, BusError> {
        known(&options, &[])?;
        let held = self.assigner.held();
        let rows = blocking(&self.site, device_rows).await?;
        let rows = rows.into_iter().map(|(address, mut row)| {
            let holder = held.iter().find(|(_, entry)| entry.held(address).is_some());
            if let Some((domain, _)) = holder {
                row.insert("domain", domain.name.clone().into());
            }
            row
        });
        Ok(rows.collect())
    }

    /// What a domain's definition needs, as JSON: reasons, hunks of a diff, edits, and what they were
    /// made from. Changes nothing. Option `replace` (b): replace a guest address that contradicts the
    /// recipe. Option `refusal` (b): answer a refusal as JSON too, as the field `refusal` with `code`, `device`,
    /// `path`, `reason`, `hint` and `command`, in the place of an error.
    async fn plan(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        domain: String,
        options: Options,
    ) -> Result<String, BusError> {
        known(&options, &["replace", "refusal"])?;
        let replace = flag(&options, "replace")?;
        let answers_refusal = flag(&options, "refusal")?;
        let domain = self.domain(&header, domain).await?;
        let (action, about) = (Action::Plan, About::Domain(domain.clone()));
        self.admit(connection, &header, action, &about).await?;
        let planned = self.in_turn(&header, async {
            match self.worker.propose(domain, replace).await {
                Ok(proposal) => Ok(json::text(&proposal)),
                Err(PrepareError::Refused(refusal)) if answers_refusal => {
                    Ok(refused::write(&refusal))
                }
                Err(error) => Err(error),
            }
        });
        planned.await
    }

    /// Completes the XML of a guest that has no definition, or none yet, for virDomainCreateXML or virDomainDefineXML;
    /// `findings` says as JSON what was added and what is to be known. Changes nothing. Option `replace` (b) as for
    /// `Plan`.
    #[zbus(out_args("completed", "findings"))]
    async fn prepare_xml(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        xml: String,
        options: Options,
    ) -> Result<(String, String), BusError> {
        known(&options, &["replace"])?;
        let replace = flag(&options, "replace")?;
        self.admit(connection, &header, Action::Plan, &About::Nothing)
            .await?;
        let planned = self.in_turn(&header, self.worker.propose_text(xml, replace));
        let proposal = planned.await?;
        let findings = json::text(&proposal.findings());
        Ok((proposal.text, findings))
    }

    /// Completes a domain's definition and says in JSON what was added. Option `replace` (b):
    /// replace a guest address that contradicts the recipe. Option `plan` (s), alone: make exactly the
    /// edits of what `Plan` said, or refuse when the definition, host, recipes or versions changed since.
    async fn prepare(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        domain: String,
        options: Options,
    ) -> Result<String, BusError> {
        known(&options, &["replace", "plan"])?;
        let replace = flag(&options, "replace")?;
        let domain = self.domain(&header, domain).await?;
        let (action, about) = (Action::Prepare, About::Domain(domain.clone()));
        self.admit(connection, &header, action, &about).await?;
        let saved = saved(&options)?;
        drop(options);
        Ok(json::text(&match saved {
            Some(saved) => self.worker.apply(domain, saved).await?,
            None => {
                let trigger = Trigger::Request { replace };
                self.worker.prepare(domain, trigger).await?
            }
        }))
    }

    /// Takes back what was added to a domain's definition and says so in JSON; it is left alone
    /// until somebody calls `Prepare`.
    async fn revert(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        domain: String,
        options: Options,
    ) -> Result<String, BusError> {
        known(&options, &[])?;
        let domain = self.domain(&header, domain).await?;
        let (action, about) = (Action::Prepare, About::Domain(domain.clone()));
        self.admit(connection, &header, action, &about).await?;
        let report = self.worker.prepare(domain, Trigger::Revert);
        Ok(json::text(&report.await?))
    }

    /// Waits until a domain's definition is at rest, as scripts need between define and start;
    /// says the same as `Prepare`, but does only what a definition does by itself.
    async fn wait(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        domain: String,
        timeout_ms: u32,
        options: Options,
    ) -> Result<String, BusError> {
        known(&options, &[])?;
        let limit = Duration::from_millis(timeout_ms.into());
        about::name(&domain)?;
        let late = format!("domain '{domain}' is not at rest after {timeout_ms} ms; wait longer");
        let late = |_| BusError::TimedOut(late.clone());
        let began = Instant::now();
        let found = timeout(limit, self.domain(&header, domain)).await;
        let domain = found.map_err(late)??;
        let left = limit.saturating_sub(began.elapsed());
        let (action, about) = (Action::Prepare, About::Domain(domain.clone()));
        self.admit(connection, &header, action, &about).await?;
        let done = timeout(left, self.worker.prepare(domain, Trigger::Define)).await;
        Ok(json::text(&done.map_err(late)??))
    }

    /// Binds a device outside of any guest and says in JSON what was written. Option `driver` (s):
    /// the driver, by default the one that its recipe names. Option `dry-run` (b): say it only. Option
    /// `allow-group` (b): bind what the host uses of its IOMMU group along with it. Option
    /// `stop-services` (b): stop services that are known to hold GPUs, while they hold it.
    async fn bind(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        device: String,
        options: Options,
    ) -> Result<String, BusError> {
        known(
            &options,
            &["driver", "dry-run", "allow-group", "stop-services"],
        )?;
        let (address, wish) = (device::address(&device)?, wish(&options)?);
        let dry = flag(&options, "dry-run")?;
        let (action, about) = (binding(&options), About::Device(address));
        self.admit(connection, &header, action, &about).await?;
        let bound = blocking(&self.assigner, move |assigner| match dry {
            true => assigner.plan_group_by_hand(address, wish),
            false => assigner.bind_group_by_hand(address, wish),
        });
        Ok(json::text(&bound.await.map_err(device::error)?))
    }

    /// Gives a device back that `Bind` or a reservation bound, with what was bound along with it, and says so in JSON.
    async fn release(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        device: String,
        options: Options,
    ) -> Result<String, BusError> {
        known(&options, &[])?;
        let address = device::address(&device)?;
        let (action, about) = (Action::Bind, About::Device(address));
        self.admit(connection, &header, action, &about).await?;
        let released = blocking(&self.assigner, move |a| a.release_group_by_hand(address));
        Ok(json::text(&released.await.map_err(device::error)?))
    }

    /// Gives back every device that a change left half-way and no running guest has, and lists them in
    /// JSON, each with the reason where it could not be. Option `device` (s): only this one.
    async fn recover(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        options: Options,
    ) -> Result<String, BusError> {
        known(&options, &["device"])?;
        let wanted = device::text(&options, "device")?;
        let wanted = wanted.map(device::address).transpose()?;
        let about = wanted.map_or(About::AllDevices, About::Device);
        let action = Action::Recover;
        self.admit(connection, &header, action, &about).await?;
        let recovered = self.worker.recover(wanted).await;
        let unknown = |why: RecoverError| BusError::Failed(why.to_string());
        Ok(json::text(&recovered.map_err(unknown)?))
    }

    /// Reserves a device for guests: from the next boot on it is bound before anything else takes it.
    /// Says so in JSON, and binds nothing now. Option `driver` (s): as for `Bind`.
    async fn reserve(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        device: String,
        options: Options,
    ) -> Result<String, BusError> {
        known(&options, &["driver"])?;
        let (address, driver) = (device::address(&device)?, device::driver(&options)?);
        let (action, about) = (Action::Bind, About::Device(address));
        self.admit(connection, &header, action, &about).await?;
        let reservations = self.reservations.clone();
        let reserved = blocking(&self.assigner, move |assigner| {
            reservations.reserve(assigner, address, driver)
        });
        let reserved = reserved.await;
        self.assigner.bell().ring();
        Ok(json::text(&reserved?))
    }

    /// Ends a device's reservation and says so in JSON; it stays bound as it is now.
    async fn unreserve(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        device: String,
        options: Options,
    ) -> Result<String, BusError> {
        known(&options, &[])?;
        let address = device::address(&device)?;
        let (action, about) = (Action::Bind, About::Device(address));
        self.admit(connection, &header, action, &about).await?;
        let ended = self.reservations.unreserve(address);
        self.assigner.bell().ring();
        Ok(json::text(&ended?))
    }

    /// Reads configuration and recipes again.
    async fn reload(
        &self,
        #[zbus(header)] header: Header<'_>,
        options: Options,
    ) -> Result<(), BusError> {
        caller::require_root(&self.authority.callers, &header).await?;
        known(&options, &[])?;
        let reloaded = blocking(&self.reload, |reload| reload()).await;
        reloaded.map_err(BusError::Failed)
    }

    /// Calls a method as a job, for whoever does not want to wait for it: returns the path of an object of
    /// `org.variantd1.Job` at once. Operation: `prepare`, `revert`, `bind`, `release` or `recover`. Subject:
    /// the method's domain or device; empty for all devices of `recover`. The options are the method's.
    /// Subscribe to the job's signals, then read `State`: it may have ended before. A caller has at most 8
    /// jobs under way. A job goes on when its caller leaves, unless polkit still has to ask somebody for it.
    #[zbus(out_args("job"))]
    async fn start_job(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        operation: String,
        subject: String,
        options: Options,
    ) -> Result<OwnedObjectPath, BusError> {
        let operation = Operation::parse(&operation)?;
        let owner = self.authority.callers.user(&header).await?;
        let about = self.about(&header, operation, subject).await?;
        let action = operation.action(&options);
        let authority = self.authority.foresee(connection, &header, action, &about);
        let authority = authority.await?;
        let call = Call::new(&header, operation, &about, options)?;
        let subject = Subject {
            operation,
            about,
            owner,
            callers: self.authority.callers.clone(),
        };
        let (manager, bus) = (self.clone(), connection.clone());
        let manager = Self {
            authority,
            ..manager
        };
        let work = async move { manager.run(&bus, call).await };
        self.jobs.start(connection, &header, subject, work).await
    }

    /// What came of a domain: the outcome as in `ListDomains`, or `foreign` once it is our business no more;
    /// details have sentence and code, if it has one.
    #[zbus(signal)]
    pub(super) async fn domain_changed(
        emitter: &SignalEmitter<'_>,
        name: &str,
        uuid: &str,
        outcome: &str,
        details: HashMap<&str, Variant<'_>>,
    ) -> zbus::Result<()>;

    /// The agent's version.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}

fn domain_row(report: Report) -> Row {
    let mut row = Row::from([
        ("name", report.domain.into()),
        ("uuid", report.uuid.into()),
        ("outcome", report.outcome.as_str().into()),
    ]);
    let optional = [("sentence", report.sentence), ("code", report.code)];
    for (key, value) in optional {
        value.map(|value| row.insert(key, value.into()));
    }
    row
}

fn device_rows(site: &Site) -> Result<Vec<(PciAddress, Row)>, Refusal> {
    let (host, rules) = (site.host()?, site.rules());
    let rows = host.devices.values().filter_map(|device| {
        let recipe = rules.recipes.for_device(device)?;
        let driver = device
            .driver
            .as_ref()
            .map_or(String::new(), ToString::to_string);
        let row = Row::from([
            ("address", device.address.to_string().into()),
            ("id", device.id.to_string().into()),
            ("recipe", recipe.name.clone().into()),
            ("driver", driver.into()),
        ]);
        Some((device.address, row))
    });
    Ok(rows.collect())
}

/// The options that take a device from whoever uses it ask for more.
fn binding(options: &Options) -> Action {
    let takes = ["stop-services", "allow-group"];
    match takes.iter().any(|key| options.contains_key(*key)) {
        true => Action::BindInUse,
        false => Action::Bind,
    }
}

/// What `Bind`'s options ask for.
fn wish(options: &Options) -> Result<Wish, BusError> {
    Ok(Wish {
        driver: device::driver(options)?,
        allow_group: flag(options, "allow-group")?,
        stop_services: flag(options, "stop-services")?,
    })
}

/// An option that we do not know could mean anything, so it is refused.
pub(super) fn known(options: &Options, keys: &[&str]) -> Result<(), BusError> {
    match options.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => Err(BusError::Failed(format!(
            "unknown option '{}'",
            about::shown(key)
        ))),
        None => Ok(()),
    }
}

fn flag(options: &Options, key: &str) -> Result<bool, BusError> {
    let value = options.get(key).map(bool::try_from).transpose();
    let wrong = |_| BusError::Failed(format!("option '{key}' is not true or false"));
    Ok(value.map_err(wrong)?.unwrap_or(false))
}

/// The saved plan among the options.
fn saved(options: &Options) -> Result<Option<Proposal>, BusError> {
    let Some(value) = options.get("plan") else {
        return Ok(None);
    };
    if options.contains_key("replace") {
        let sentence =
            "option 'plan' excludes 'replace': the plan says whether addresses are replaced";
        return Err(BusError::Failed(sentence.into()));
    }
    let text = <&str>::try_from(value);
    let text = text.map_err(|_| BusError::Failed("option 'plan' is not a text".into()))?;
    Ok(Some(Proposal::parse(text)?))
}
