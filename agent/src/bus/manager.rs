//! `org.variantd1.Manager`: domains and devices for people and programs.

use std::collections::HashMap;
use std::sync::Arc;

use kernel_glue::address::PciAddress;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedObjectPath, Variant, interface};

use super::about::{self, About};
use super::call::{Call, Options};
use super::job::{Operation, Subject};
use super::{Authority, BusError, Jobs, Lanes, blocking, caller, device};
use crate::assign::{Assigner, BindOptions};
use crate::context::Context;
use crate::libvirt::DomainRef;
use crate::metrics::Xml;
use crate::prepare::{AttachDevice, Trigger};
use crate::reserve::Reservations;
use crate::worker::Worker;
use api::report::Report;
use domain::refusal::Refusal;
use planner::json;
use planner::saved_plan::{Findings, SavedPlan};
use planner::summary::Summary;

use run::Deferred;

mod run;

type Row = HashMap<&'static str, Variant<'static>>;

/// Reads configuration and recipes again and publishes the devices they cover.
pub type Reload = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The manager's object.
#[derive(Clone)]
pub struct Manager {
    /// The libvirt half of the agent.
    pub worker: Arc<Worker>,
    /// The assignments.
    pub assigner: Arc<Assigner>,
    /// The context.
    pub context: Arc<Context>,
    /// The reservations.
    pub reservations: Reservations,
    /// What `Reload` does.
    pub reload: Arc<Reload>,
    /// Authorization.
    pub authority: Authority,
    /// The turns for planning.
    pub lanes: Lanes,
    /// Calls as jobs.
    pub jobs: Jobs,
}

impl Manager {
    /// The domain that the caller names. Only root does not wait for its turn, because any user may ask.
    pub(super) async fn domain(
        &self,
        header: &Header<'_>,
        text: String,
    ) -> Result<DomainRef, BusError> {
        about::name(&text)?;
        let user = self.authority.callers.user(header).await?;
        match user.is_none_or(caller::is_root) {
            true => Ok(self.worker.find(text).await?),
            false => Ok(self.lanes.within(user, self.worker.find(text)).await?),
        }
    }
}

#[interface(name = "org.variantd1.Manager")]
impl Manager {
    /// The domains with a device of a recipe, each with name, uuid, outcome and, if it has one, sentence and code.
    async fn list_domains(
        &self,
        #[zbus(header)] header: Header<'_>,
        options: Options,
    ) -> Result<Vec<Row>, BusError> {
        let call = Call::new(self, &header, options)?;
        call.admit(&About::Nothing).await?;
        Ok(self.worker.reports().into_iter().map(domain_row).collect())
    }

    /// The host devices that a recipe covers, each with address, id, recipe, driver and, if it is assigned, domain.
    async fn list_devices(
        &self,
        #[zbus(header)] header: Header<'_>,
        options: Options,
    ) -> Result<Vec<Row>, BusError> {
        let call = Call::new(self, &header, options)?;
        call.admit(&About::Nothing).await?;
        let held = self.assigner.held();
        let rows = blocking(&self.context, device_rows).await?;
        let rows = rows.into_iter().map(|(address, mut row)| {
            let holder = held.iter().find(|(_, entry)| entry.held(address).is_some());
            if let Some((domain, _)) = holder {
                row.insert("domain", domain.name.clone().into());
            }
            row
        });
        Ok(rows.collect())
    }

    /// Returns what a domain's definition needs, as JSON: reasons, hunks of a diff, edits, and the inputs of the plan.
    /// Changes nothing. Option `replace` (b): replace a guest address that contradicts the recipe. Option `egm` (b): set
    /// the domain's option for EGM to on or off. Option `numa` (s): set the domain's option for the NUMA layout to
    /// `mirror` or `keep`, variantd.recipe(5).
    async fn plan(
        &self,
        #[zbus(header)] header: Header<'_>,
        domain: String,
        options: Options,
    ) -> Result<String, BusError> {
        let call = Call::new(self, &header, options)?;
        let planned = call.json(async {
            let domain = call.domain(domain).await?;
            call.admit(&About::Domain(domain.clone())).await?;
            let saved_plan = self.worker.propose(domain, call.plan_options()?);
            call.costly(saved_plan).await
        });
        planned.await
    }

    /// Completes the XML of a guest that has no definition, or none yet, for virDomainCreateXML or virDomainDefineXML;
    /// `findings` lists the added elements and the notes as JSON. Changes nothing. Options `replace` (b), `egm` (b) and
    /// `numa` (s) as for `Plan`.
    #[zbus(out_args("completed", "findings"))]
    async fn prepare_xml(
        &self,
        #[zbus(header)] header: Header<'_>,
        xml: String,
        options: Options,
    ) -> Result<(String, String), BusError> {
        let call = Call::new(self, &header, options)?;
        let planned = async {
            call.admit(&About::Nothing).await?;
            let saved_plan = self.worker.propose_text(xml, call.plan_options()?);
            let saved_plan = call.costly(saved_plan).await?;
            let findings = json::text(&saved_plan.findings());
            Ok((saved_plan.changed, (saved_plan.text, findings)))
        };
        let planned = call.counted(Xml::Domain, planned);
        call.answer(planned, |refusal| (String::new(), refusal))
            .await
    }

    /// Completes the XML of a device that is to be attached to a domain, for virDomainAttachDeviceFlags; `findings` lists the
    /// added elements and the notes as JSON. An attach adds one element, so the rest of the definition is completed
    /// before the next start, and a running guest is refused a device that needs more. Changes nothing. Options `live` (b)
    /// and `config` (b): what the attach changes, as libvirt's flags; without both it is the running guest, or the
    /// definition of a guest that does not run.
    #[zbus(out_args("completed", "findings"))]
    async fn prepare_device(
        &self,
        #[zbus(header)] header: Header<'_>,
        domain: String,
        xml: String,
        options: Options,
    ) -> Result<(String, String), BusError> {
        let call = Call::new(self, &header, options)?;
        let judged = async {
            let domain = call.domain(domain).await?;
            call.admit(&About::Domain(domain.clone())).await?;
            let device = AttachDevice {
                xml,
                live: call.flag("live"),
                config: call.flag("config"),
            };
            let attached = self.worker.attach(domain.clone(), device);
            let attached = call.costly(attached).await?;
            let findings = Findings::of_attached(&domain.name, &attached);
            let text = attached.device.text().to_owned();
            Ok((findings.changed, (text, json::text(&findings))))
        };
        let judged = call.counted(Xml::Device, judged);
        call.answer(judged, |refusal| (String::new(), refusal))
            .await
    }

    /// Completes a domain's definition and returns the added elements as JSON. Options `replace` (b), `egm` (b) and
    /// `numa` (s) as for `Plan`. Option `plan` (s), without these: make exactly the edits that `Plan` returned, or
    /// refuse if the definition, host, recipes or versions changed since. Option `summary` (b): the JSON also has what
    /// was done as `variantctl prepare` prints it, a form that may change.
    async fn prepare(
        &self,
        #[zbus(header)] header: Header<'_>,
        domain: String,
        options: Options,
    ) -> Result<String, BusError> {
        let mut call = Call::new(self, &header, options)?;
        let plan = call.take_text("plan");
        let prepared = call.json(async {
            let domain = call.domain(domain).await?;
            call.admit(&About::Domain(domain.clone())).await?;
            let saved = plan.map(|text| saved(&call, text)).transpose()?;
            Ok(match saved {
                Some(saved) => {
                    let summary = call.flag("summary");
                    let summary = summary.then(|| json::value(&Summary::of(&saved)));
                    let report = self.worker.apply(domain, saved).await?;
                    Report { summary, ..report }
                }
                None => {
                    let trigger = Trigger::Request(call.plan_options()?);
                    self.worker.prepare(domain, trigger).await?
                }
            })
        });
        prepared.await
    }

    /// Removes the elements that were added to a domain's definition and returns the outcome as JSON; the agent then ignores
    /// the domain until a caller calls `Prepare`. Option `summary` (b): the JSON also has what was removed as
    /// `variantctl revert` prints it, a form that may change.
    async fn revert(
        &self,
        #[zbus(header)] header: Header<'_>,
        domain: String,
        options: Options,
    ) -> Result<String, BusError> {
        let call = Call::new(self, &header, options)?;
        let reverted = call.json(async {
            let domain = call.domain(domain).await?;
            call.admit(&About::Domain(domain.clone())).await?;
            let report = self.worker.prepare(domain, Trigger::Revert).await?;
            let summary = report.summary.filter(|_| call.flag("summary"));
            Ok(Report { summary, ..report })
        });
        reverted.await
    }

    /// Waits until no change of a domain's definition is pending, as scripts need between define and start; returns the
    /// same as `Prepare`, but makes only the changes that the define itself causes.
    async fn wait(
        &self,
        #[zbus(header)] header: Header<'_>,
        domain: String,
        timeout_ms: u32,
        options: Options,
    ) -> Result<String, BusError> {
        let call = Call::new(self, &header, options)?;
        let waited = call.json(async {
            let (domain, limit) = call.waiting(domain, timeout_ms).await?;
            let prepared = self.worker.prepare(domain, Trigger::Define);
            Ok(limit.within(prepared).await??)
        });
        waited.await
    }

    /// Waits until the agent has no change of a domain's definition pending, and returns whether the definition is complete
    /// (`true`, `false`) as JSON. Unlike `Wait` it makes no change, so users may call it who may only plan.
    async fn wait_pending(
        &self,
        #[zbus(header)] header: Header<'_>,
        domain: String,
        timeout_ms: u32,
        options: Options,
    ) -> Result<String, BusError> {
        let call = Call::new(self, &header, options)?;
        let waited = call.json(async {
            let (domain, limit) = call.waiting(domain, timeout_ms).await?;
            let work = async {
                let mut waiter = self.worker.waiter(&domain.uuid);
                loop {
                    let may_come = waiter.idle().await;
                    let lacks = call.costly(self.worker.lacks(domain.clone())).await?;
                    if !lacks || !may_come {
                        return Ok::<_, BusError>(!lacks);
                    }
                    waiter.changed().await;
                }
            };
            limit.within(work).await?
        });
        waited.await
    }

    /// Binds a device outside of any guest and returns the writes as JSON. Option `driver` (s): the driver, by default
    /// the one that its recipe names. Option `dry-run` (b): only return the writes. Option `allow-group` (b): also bind
    /// the functions of its IOMMU group that the host uses. Option `stop-services` (b): stop services that are known to
    /// hold GPUs while they hold it.
    async fn bind(
        &self,
        #[zbus(header)] header: Header<'_>,
        device: String,
        options: Options,
    ) -> Result<String, BusError> {
        let call = Call::new(self, &header, options)?;
        let bound = call.json(async {
            let (address, bind_options) = (device::address(&device)?, bind_options(&call)?);
            let dry = call.flag("dry-run");
            call.admit(&About::Device(address)).await?;
            let bound = blocking(&self.assigner, move |assigner| match dry {
                true => assigner.plan_manual_group(address, bind_options),
                false => assigner.bind_group_manually(address, bind_options),
            });
            bound.await.map_err(device::error)
        });
        bound.await
    }

    /// Releases a device that `Bind` or a reservation bound, with its companions, and returns the result as JSON.
    async fn release(
        &self,
        #[zbus(header)] header: Header<'_>,
        device: String,
        options: Options,
    ) -> Result<String, BusError> {
        let call = Call::new(self, &header, options)?;
        let released = call.json(async {
            let address = device::address(&device)?;
            call.admit(&About::Device(address)).await?;
            let released = blocking(&self.assigner, move |a| a.release_group_manually(address));
            released.await.map_err(device::error)
        });
        released.await
    }

    /// Binds the devices of a guest whose libvirt is not this host's, such as KubeVirt's, before it starts, and returns the
    /// writes as JSON. The UUID and name are recorded until `ReleaseGuest`. A device without a recipe stays as it is, and
    /// so does a device that is bound already. If one device cannot be bound, none is.
    async fn bind_guest(
        &self,
        #[zbus(header)] header: Header<'_>,
        uuid: String,
        name: String,
        devices: Vec<String>,
        options: Options,
    ) -> Result<String, BusError> {
        let call = Call::new(self, &header, options)?;
        let bound = call.json(async {
            let (guest, devices) = (device::guest(&uuid, &name)?, device::addresses(&devices)?);
            call.admit(&About::Domain(guest.clone())).await?;
            let bound = blocking(&self.assigner, move |a| a.bind_guest(&guest, &devices));
            bound.await.map_err(device::error)
        });
        bound.await
    }

    /// Releases the devices that `BindGuest` bound for the guest with this UUID, after it has ended, and returns the result
    /// as JSON. Waits up to 10 s for its QEMU to close them.
    async fn release_guest(
        &self,
        #[zbus(header)] header: Header<'_>,
        uuid: String,
        options: Options,
    ) -> Result<String, BusError> {
        let call = Call::new(self, &header, options)?;
        let released = call.json(async {
            let guest = device::guest(&uuid, &uuid)?;
            call.admit(&About::Domain(guest.clone())).await?;
            let released = blocking(&self.assigner, move |a| a.release_guest(&guest.uuid));
            released.await.map_err(device::error)
        });
        released.await
    }

    /// Releases every device whose change was interrupted and that no running guest has, and lists them in JSON, each
    /// with the reason if that failed. Option `device` (s): only this one.
    async fn recover(
        &self,
        #[zbus(header)] header: Header<'_>,
        options: Options,
    ) -> Result<String, BusError> {
        let call = Call::new(self, &header, options)?;
        let recovered = call.json(async {
            let wanted = call.text("device").map(device::address).transpose()?;
            let about = wanted.map_or(About::AllDevices, About::Device);
            call.admit(&about).await?;
            let recovered = self.worker.recover(wanted).await;
            recovered.map_err(|why| BusError::failed(why.to_string()))
        });
        recovered.await
    }

    /// Reserves a device for guests: from the next boot on it is bound before another driver can bind it. Returns JSON,
    /// and binds nothing now. Option `driver` (s): as for `Bind`.
    async fn reserve(
        &self,
        #[zbus(header)] header: Header<'_>,
        device: String,
        options: Options,
    ) -> Result<String, BusError> {
        let call = Call::new(self, &header, options)?;
        let reserved = call.json(async {
            let (address, driver) = (device::address(&device)?, device::driver(&call)?);
            call.admit(&About::Device(address)).await?;
            let reservations = self.reservations.clone();
            let reserved = blocking(&self.assigner, move |assigner| {
                reservations.reserve(assigner, address, driver)
            });
            let reserved = reserved.await;
            self.assigner.notifier().notify();
            Ok(reserved?)
        });
        reserved.await
    }

    /// Ends a device's reservation and returns JSON; the device keeps its driver.
    async fn unreserve(
        &self,
        #[zbus(header)] header: Header<'_>,
        device: String,
        options: Options,
    ) -> Result<String, BusError> {
        let call = Call::new(self, &header, options)?;
        let ended = call.json(async {
            let address = device::address(&device)?;
            call.admit(&About::Device(address)).await?;
            let ended = self.reservations.unreserve(address);
            self.assigner.notifier().notify();
            Ok(ended?)
        });
        ended.await
    }

    /// Returns the agent's metrics as Prometheus' text format 0.0.4: what the agent counts, and the devices by state,
    /// driver and owner. The same text is in `metrics.prom` in the run directory.
    #[zbus(out_args("metrics"))]
    async fn metrics(
        &self,
        #[zbus(header)] header: Header<'_>,
        options: Options,
    ) -> Result<String, BusError> {
        let call = Call::new(self, &header, options)?;
        call.admit(&About::Nothing).await?;
        Ok(blocking(&self.context, Context::metrics_text).await)
    }

    /// Reads configuration and recipes again.
    async fn reload(
        &self,
        #[zbus(header)] header: Header<'_>,
        options: Options,
    ) -> Result<(), BusError> {
        let call = Call::new(self, &header, options)?;
        call.admit(&About::Nothing).await?;
        let reloaded = blocking(&self.reload, |reload| reload()).await;
        reloaded.map_err(BusError::failed)
    }

    /// Starts a method as a job, for callers that do not want to wait: returns the path of an object of
    /// `org.variantd1.Job` at once. Operation: `prepare`, `revert`, `bind`, `release` or `recover`. Subject: the
    /// method's domain or device; empty for all devices of `recover`. The options are the method's, without `refusal`.
    /// Subscribe to the job's signals, then read `State`: it may have ended before. A caller has at most 8 unfinished
    /// jobs. A job continues when its caller disconnects, unless polkit still has to ask a user for it.
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
        let method = operation.method();
        method.check_in_job(&options)?;
        let action = method.action(|key| options.contains_key(key));
        let action = action.ok_or_else(|| BusError::failed("it cannot be a job"))?;
        let authority = self.authority.foresee(&header, action, &about);
        let authority = authority.await?;
        let call = Deferred::new(&header, operation, &about, options)?;
        let subject = Subject {
            operation,
            about,
            owner,
            callers: self.authority.callers.clone(),
        };
        let manager = Self {
            authority,
            ..self.clone()
        };
        let work = async move { manager.run(call).await };
        self.jobs.start(connection, &header, subject, work).await
    }

    /// The result of a domain: the outcome as in `ListDomains`, or `foreign` if it no longer has a device of a recipe;
    /// details have sentence and code, if there is one.
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

fn device_rows(context: &Context) -> Result<Vec<(PciAddress, Row)>, Refusal> {
    let (host, rules) = (context.host()?, context.rules());
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

/// Parses the options of `Bind`.
fn bind_options(call: &Call<'_>) -> Result<BindOptions, BusError> {
    Ok(BindOptions {
        driver: device::driver(call)?,
        allow_group: call.flag("allow-group"),
        stop_services: call.flag("stop-services"),
    })
}

/// The saved plan among the options.
fn saved(call: &Call<'_>, text: String) -> Result<SavedPlan, BusError> {
    if let Some(key) = ["replace", "egm", "numa"]
        .into_iter()
        .find(|key| call.has(key))
    {
        return Err(BusError::failed(format!(
            "option 'plan' excludes '{key}': the plan contains that choice"
        )));
    }
    Ok(SavedPlan::parse(&text)?)
}
