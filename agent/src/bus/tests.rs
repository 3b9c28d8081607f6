//! The bus objects over a pair of sockets, and the hook's operations, on a modelled kernel and a libvirt in memory.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hooks::call::Operation;
use hooks::protocol::{REFUSED, Results};
use kernel_glue::host::Host;
use kernel_glue::kernel::Kernel;
use kernel_glue::model::Model;
use nix::errno::Errno;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use zbus::{Connection, Guid, Variant, connection};

use super::*;
use crate::assign::Assigner;
use crate::context::Context;
use crate::fixture::{
    GPU, NIC, VARIANT, address, context_reading, definition, guest, host, hostdev, kernel_of,
    metric,
};
use crate::hook::Hook;
use crate::libvirt::DomainRef;
use crate::libvirt::fake::Fake;
use crate::record::Records;
use crate::reserve::Reservations;
use crate::worker::Worker;
use api::client::{Fault, ManagerProxy, next};
use domain::code::Code;
use planner::saved_plan::Findings;
use settings::config::Config;

mod attach;
mod authority;
mod device;
mod hotplug;
mod job;
mod manual;
mod method;
mod polkit;
mod reserve;
mod saved_plan;

struct Scene {
    client: Connection,
    hook: Hook,
    libvirt: Arc<Fake>,
    kernel: Arc<Model>,
    context: Arc<Context>,
    repairs: UnboundedReceiver<DomainRef>,
    _service: Connection,
    directory: tempfile::TempDir,
}

/// Objects on a modelled host, and their inputs.
struct Parts {
    manager: Manager,
    hook: Hook,
    libvirt: Arc<Fake>,
    kernel: Arc<Model>,
    context: Arc<Context>,
    repairs: UnboundedReceiver<DomainRef>,
    directory: tempfile::TempDir,
    /// How often the host was read.
    looks: Arc<AtomicUsize>,
}

fn parts() -> Parts {
    parts_of(&host())
}

/// The parts on a host whose devices appear, disappear and change their driver with the modelled kernel.
fn parts_of(whole: &Host) -> Parts {
    let (kernel, libvirt) = (kernel_of(whole), Arc::new(Fake::default()));
    let (model, whole) = (kernel.clone(), whole.clone());
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = looks.clone();
    let read = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        let mut host = whole.clone();
        host.devices.retain(|address, device| {
            let driver = model.driver(*address);
            device.driver = driver.as_ref().ok().cloned().flatten();
            driver.is_ok()
        });
        Ok(host)
    };
    let (directory, context) = context_reading(Box::new(read), Config::default());
    let records = Records::new(directory.path().to_owned());
    let assigner = Arc::new(Assigner::new(kernel.clone(), context.clone(), records));
    let (send, repairs) = unbounded_channel();
    let manager = Manager {
        worker: Worker::new(libvirt.clone(), context.clone(), assigner.clone()),
        assigner: assigner.clone(),
        context: context.clone(),
        reservations: Reservations::new(directory.path().join("reserved.d")),
        reload: Arc::new(Box::new(|| Err("'variantd.conf', line 1: no".into()))),
        authority: Authority::default(),
        jobs: Jobs::default(),
        lanes: Lanes::default(),
    };
    let hook = Hook {
        assigner,
        context: context.clone(),
        repairs: send,
        definitions: directory.path().join("definitions"),
    };
    Parts {
        manager,
        hook,
        libvirt,
        kernel,
        context,
        repairs,
        directory,
        looks,
    }
}

async fn scene() -> Scene {
    scene_of(parts()).await
}

async fn scene_of(parts: Parts) -> Scene {
    let sources = Sources {
        context: parts.context.clone(),
        assigner: parts.manager.assigner.clone(),
        reservations: parts.manager.reservations.clone(),
        run: parts.directory.path().join("run"),
    };
    let worker = parts.manager.worker.clone();
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    let service = Builder::unix_stream(ours).server(Guid::generate()).p2p();
    let client = connection::Builder::unix_stream(theirs).p2p().build();
    let service = serve(service, parts.manager);
    let (service, client) = tokio::join!(service.build(), client);
    let service = service.expect("service");
    let publisher = Publisher::start(service.clone(), sources).await;
    tokio::spawn(publisher.expect("devices").serve());
    tokio::spawn(announce(service.clone(), worker));
    Scene {
        client: client.expect("client"),
        hook: parts.hook,
        libvirt: parts.libvirt,
        kernel: parts.kernel,
        context: parts.context,
        repairs: parts.repairs,
        _service: service,
        directory: parts.directory,
    }
}

impl Scene {
    async fn manager(&self) -> ManagerProxy<'_> {
        let proxy = ManagerProxy::builder(&self.client);
        proxy.build().await.expect("proxy")
    }

    /// The hook's reply for an operation.
    async fn hook(&self, operation: &str, xml: &str) -> Result<Results, Fault> {
        let known = Operation::ALL
            .into_iter()
            .find(|known| known.word() == operation);
        let known = known.expect("an operation");
        let (hook, xml) = (self.hook.clone(), xml.to_owned());
        let reply = tokio::task::spawn_blocking(move || hook.run(known, &xml)).await;
        let reply = reply.expect("no panic");
        let sentence = reply.parameters.sentence();
        match reply.error.as_deref() {
            None => Ok(reply.parameters),
            Some(REFUSED) => Err(Fault::Refused(sentence.into())),
            Some(_) => Err(Fault::Failed(sentence.into())),
        }
    }

    fn complete(&self) -> String {
        let rewrite = self.context.look().rewrite(&definition(&guest(GPU)), false);
        rewrite.expect("a complete guest").text
    }

    fn driver(&self) -> String {
        let driver = self.kernel.driver(address(GPU)).expect("device");
        driver.expect("a driver").to_string()
    }
}

#[tokio::test]
async fn the_hook_takes_a_guest_through_its_life() {
    let scene = scene().await;
    let xml = scene.complete();
    for method in ["prepare", "start", "started", "reconnect"] {
        scene.hook(method, &xml).await.expect(method);
        assert_eq!(scene.driver(), VARIANT, "after {method}");
    }
    for method in ["stopped", "release"] {
        scene.hook(method, &xml).await.expect(method);
    }
    assert_eq!(scene.driver(), "nvidia");
}

#[tokio::test]
async fn a_start_of_an_incomplete_guest_is_refused_and_its_repair_queued() {
    let mut scene = scene().await;
    let fault = scene
        .hook("prepare", &guest(GPU))
        .await
        .expect_err("refused");
    let Fault::Refused(sentence) = fault else {
        unreachable!("{fault:?}");
    };
    assert!(sentence.contains("VD-"), "{sentence}");
    assert!(sentence.contains("start 'd0' again"), "{sentence}");
    assert!(!sentence.contains('\n'), "{sentence}");
    assert_eq!(scene.repairs.recv().await.expect("repair").name, "d0");
}

#[tokio::test]
async fn refusal_of_a_transient_guest_names_the_fix() {
    let mut scene = scene().await;
    let definitions = scene.directory.path().join("definitions");
    std::fs::create_dir(&definitions).expect("folder");
    let refused = async |scene: &Scene| {
        let fault = scene.hook("prepare", &guest(GPU)).await;
        words(fault.expect_err("refused"))
    };
    let sentence = refused(&scene).await;
    assert!(sentence.contains("'variantctl create FILE'"), "{sentence}");
    assert!(sentence.contains("PrepareXml"), "{sentence}");
    assert!(!sentence.contains("variantctl prepare"), "{sentence}");
    assert!(scene.repairs.try_recv().is_err(), "nothing to repair");
    std::fs::write(definitions.join("d0.xml"), "").expect("definition");
    let sentence = refused(&scene).await;
    assert!(sentence.contains("variantctl prepare"), "{sentence}");
}

#[tokio::test]
async fn prepare_xml_completes_a_transient_guest() {
    let scene = scene().await;
    let manager = scene.manager().await;
    let none = HashMap::new;
    let answer = async |xml: &str| {
        let answer = manager.prepare_xml(xml, none()).await;
        let (text, findings) = answer.expect("completed");
        let findings: Findings = serde_json::from_str(&findings).expect("findings");
        (text, findings)
    };
    let (text, findings) = answer(&guest(GPU)).await;
    assert!(findings.changed && findings.changes.len() > 3);
    assert_eq!(text, scene.complete());
    scene.hook("prepare", &text).await.expect("starts");
    let (again, findings) = answer(&text).await;
    assert_eq!((findings.changed, again), (false, text.clone()));
    let options = HashMap::from([("egm", false.into())]);
    let (text, _) = manager
        .prepare_xml(&text, options)
        .await
        .expect("completed");
    assert!(text.contains("egm='off'"), "{text}");
    let fault = manager.prepare_xml("<network/>", none()).await;
    let fault = words(fault.expect_err("no domain").into());
    assert!(fault.contains("VD-XML-004"), "{fault}");
    let admissions = |result| {
        let labels = format!("{{result=\"{result}\",subject=\"domain\"}}");
        metric(
            &scene.context,
            &format!("variantd_admissions_total{labels}"),
        )
    };
    let counts = ["completed", "unchanged", "refused", "failed"].map(admissions);
    assert_eq!(counts, [2.0, 1.0, 1.0, 0.0].map(Some));
    let refusals = "variantd_refusals_total{code=\"VD-XML-004\",source=\"bus\"}";
    assert_eq!(metric(&scene.context, refusals), Some(1.0));
}

/// Completed device and findings, or the refusal.
async fn attached(
    scene: &Scene,
    device: &str,
    flags: &[&str],
) -> Result<(String, Findings), Fault> {
    let manager = scene.manager().await;
    let options = flags.iter().map(|flag| (*flag, Variant::from(true)));
    let answer = manager
        .prepare_device("d0", device, options.collect())
        .await;
    let (text, findings) = answer.map_err(Fault::from)?;
    Ok((text, serde_json::from_str(&findings).expect("findings")))
}

fn refused_with(answer: Result<(String, Findings), Fault>) -> Code {
    match answer {
        Err(Fault::Refused(words)) => words.code.expect("a code"),
        other => unreachable!("{other:?}"),
    }
}

#[tokio::test]
async fn prepare_device_judges_the_definition_and_the_running_guest() {
    let scene = scene().await;
    let complete = scene.complete();
    let element = definition(&complete).domain().hostdevs[0]
        .element
        .span
        .clone();
    let device = &complete[element];
    let without = complete.replace(device, "");
    let domain = scene.libvirt.put(&without);
    // The guest does not run: without a flag the definition counts, and libvirt itself refuses 'live'.
    for flags in [&["config"][..], &[], &["live"], &["live", "config"]] {
        let (text, findings) = attached(&scene, device, flags).await.expect("complete");
        assert_eq!((&*text, findings.changed), (device, false), "{flags:?}");
    }
    for flags in [&["config"][..], &[], &["live", "config"]] {
        let (text, findings) = attached(&scene, &hostdev(GPU), flags)
            .await
            .expect("completed");
        assert!(text.contains(VARIANT), "{text}");
        let codes: Vec<_> = findings.changes.iter().map(|change| change.code).collect();
        assert_eq!(codes, [Code::DriverMissing], "{flags:?}");
    }
    let completed = "variantd_admissions_total{result=\"completed\",subject=\"device\"}";
    assert_eq!(metric(&scene.context, completed), Some(3.0));
    scene.libvirt.run(&without);
    for flags in [&["live"][..], &[], &["live", "config"]] {
        let answer = attached(&scene, device, flags).await;
        assert_eq!(refused_with(answer), Code::InitiatorsAtRunTime, "{flags:?}");
    }
    attached(&scene, device, &["config"])
        .await
        .expect("for the next start");
    assert_eq!(scene.libvirt.text(&domain), without, "nothing is changed");
}

#[tokio::test]
async fn prepare_device_returns_nothing_of_the_domain() {
    let scene = scene().await;
    let secret = "<graphics type='vnc' passwd='s3cret'/>";
    let guest = guest(GPU).replace("<devices>", &format!("<devices>{secret}"));
    scene.libvirt.put(&guest);
    scene.libvirt.hide("s3cret");
    let other = hostdev(NIC);
    let (text, findings) = attached(&scene, &other, &[]).await.expect("not covered");
    assert_eq!(text, other);
    assert!(findings.devices.is_empty() && findings.notes.is_empty());
    let fault = attached(&scene, &hostdev("0009:77:00.0"), &["config"]).await;
    let fault = words(fault.expect_err("missing"));
    assert!(
        fault.contains("VD-DEV-001") && !fault.contains("s3cret"),
        "{fault}"
    );
    let fault = attached(&scene, "</devices><a/><devices>", &[]).await;
    assert!(words(fault.expect_err("no device")).contains("VD-XML-001"));
    scene.libvirt.end(&scene.libvirt.put(&guest));
    let manager = scene.manager().await;
    let missing = manager
        .prepare_device("other", &other, HashMap::new())
        .await;
    let missing = Fault::from(missing.expect_err("no such domain"));
    assert!(matches!(missing, Fault::NotFound(_)), "{missing:?}");
}

#[tokio::test]
async fn a_restored_guest_is_completed_and_a_complete_one_returned_empty() {
    let scene = scene().await;
    let text = async |xml: &str| scene.hook("restore", xml).await.expect("rewritten").xml;
    assert_eq!(text(&guest(GPU)).await, Some(scene.complete()));
    assert_eq!(text(&scene.complete()).await, None);
}

#[tokio::test]
async fn a_definition_is_prepared_and_listed() {
    let scene = scene().await;
    let domain = scene.libvirt.put(&guest(GPU));
    let manager = scene.manager().await;
    let json = manager
        .wait("d0", 10_000, HashMap::new())
        .await
        .expect("wait");
    assert!(json.contains(r#""outcome":"completed""#), "{json}");
    let json = manager
        .prepare("d0", HashMap::new())
        .await
        .expect("prepare");
    assert!(json.contains(r#""outcome":"complete""#), "{json}");
    let domains = manager.list_domains(HashMap::new()).await.expect("list");
    let uuid = String::try_from(domains[0]["uuid"].clone()).expect("uuid");
    assert_eq!(uuid, domain.uuid.to_string());
    scene
        .hook("prepare", &scene.complete())
        .await
        .expect("start");
    let devices = manager.list_devices(HashMap::new()).await.expect("list");
    let holder = String::try_from(devices[0]["domain"].clone()).expect("domain");
    assert_eq!((devices.len(), holder.as_str()), (1, "d0"));
    assert!(!manager.version().await.expect("version").is_empty());
}

#[tokio::test]
async fn no_hook_waits_for_a_libvirt_that_is_slow_about_other_guests() {
    let scene = scene().await;
    let complete = scene.complete();
    // As many calls of libvirt as allowed, and one more.
    let others: Vec<String> = (0..5)
        .map(|number| {
            let xml = guest(GPU).replace("<name>d0<", &format!("<name>other{number}<"));
            xml.replace("9f6a11<", &format!("9f6a2{number}<"))
        })
        .collect();
    others.iter().for_each(|xml| drop(scene.libvirt.put(xml)));
    scene.libvirt.hold_defines(true);
    let manager = scene.manager().await;
    for number in 0..5 {
        let name = format!("other{number}");
        let job = manager.start_job("prepare", &name, HashMap::new()).await;
        job.expect("a job");
    }
    for method in ["prepare", "start", "started", "stopped", "release"] {
        let answer = scene.hook(method, &complete);
        let answer = tokio::time::timeout(Duration::from_secs(20), answer).await;
        answer.expect("in time").expect(method);
    }
    // The refusal only queues: its repair runs later.
    let refused = scene.hook("prepare", &others[0]);
    let refused = tokio::time::timeout(Duration::from_secs(20), refused).await;
    refused.expect("in time").expect_err("incomplete");
    scene.libvirt.hold_defines(false);
}

#[tokio::test]
async fn result_of_a_domain_is_signalled_once() {
    let scene = scene().await;
    scene.libvirt.put(&guest(GPU));
    let manager = scene.manager().await;
    let mut told = manager.receive_domain_changed().await.expect("signals");
    let outcomes = ["completed", "complete", "reverted"];
    manager
        .prepare("d0", HashMap::new())
        .await
        .expect("completed");
    manager
        .prepare("d0", HashMap::new())
        .await
        .expect("complete");
    manager
        .prepare("d0", HashMap::new())
        .await
        .expect("complete again");
    manager
        .revert("d0", HashMap::new())
        .await
        .expect("reverted");
    for wanted in outcomes {
        let signal = next(&mut told).await.expect("a signal");
        let signal = signal.args().expect("arguments");
        assert_eq!((*signal.name(), *signal.outcome()), ("d0", wanted));
        assert!(signal.details().is_empty());
    }
}

#[tokio::test]
async fn errors_come_by_name_with_one_sentence() {
    let scene = scene().await;
    let manager = scene.manager().await;
    let missing = manager.prepare("missing", HashMap::new()).await;
    let missing = Fault::from(missing.expect_err("no such domain"));
    assert!(matches!(missing, Fault::NotFound(ref text) if text.contains("'missing'")));
    let options = HashMap::from([("dry-run", Variant::from(true))]);
    let unknown = Fault::from(manager.reload(options).await.expect_err("unknown"));
    assert_eq!(unknown, Fault::Failed("unknown option 'dry-run'".into()));
    let reload = Fault::from(manager.reload(HashMap::new()).await.expect_err("no"));
    assert_eq!(reload, Fault::Failed("'variantd.conf', line 1: no".into()));
    let garbage = scene.hook("prepare", "<domain").await.expect_err("garbage");
    assert!(matches!(garbage, Fault::Refused(_)));
}

#[tokio::test]
async fn interrupted_device_is_recovered_by_its_address() {
    let scene = scene().await;
    let manager = scene.manager().await;
    let complete = scene
        .context
        .look()
        .rewrite(&definition(&guest(GPU)), false);
    let xml = complete.expect("complete").text;
    for number in 3..=5 {
        scene.kernel.fail_write(number, Errno::EIO);
    }
    let refused = scene.hook("prepare", &xml).await.expect_err("fails");
    assert!(matches!(refused, Fault::Failed(ref text) if text.contains("VD-BND-004")));
    let asked = |text| HashMap::from([("device", Variant::from(text))]);
    let recovered = manager.recover(asked(GPU)).await.expect("an answer");
    let rows: serde_json::Value = serde_json::from_str(&recovered).expect("JSON");
    let row = serde_json::json!([{"device": GPU, "domain": "d0", "sentence": null, "code": null, "note": null}]);
    assert_eq!(rows, row);
    let driver = scene.kernel.driver(address(GPU)).expect("device");
    assert_eq!(driver.map(String::from).as_deref(), Some("nvidia"));
    let garbage = manager.recover(asked("gpu0")).await;
    let garbage = Fault::from(garbage.expect_err("no address"));
    assert!(matches!(garbage, Fault::Failed(ref text) if text.contains("gpu0")));
}

/// The shipped contract; `cargo xtask regen contract` writes the served one.
#[tokio::test]
async fn contract_equals_the_served_interfaces() {
    let scene = scene().await;
    let mut served = String::from(HEAD);
    let manager = scene.manager().await;
    let job = manager.start_job("recover", "", HashMap::new()).await;
    let job = job.expect("a job");
    let device = object::path(address(GPU));
    for (path, name) in [
        (MANAGER, "org.variantd1.Manager"),
        (&*device, "org.variantd1.Device"),
        (job.as_str(), "org.variantd1.Job"),
    ] {
        served += &introspect(&scene.client, path, name).await;
    }
    served += "</node>\n";
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../packaging/dbus/org.variantd1.xml"
    );
    if std::env::var_os("VARIANTD_WRITE_CONTRACT").is_some() {
        std::fs::write(path, &served).expect("written");
    }
    let shipped = std::fs::read_to_string(path).expect("contract");
    assert_eq!(shipped, served);
}

const HEAD: &str = "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n  \
    \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n<node>\n  \
    <!-- An error's name ends with the code of its sentence, where it has one: org.variantd1.Error.Refused.VD_TOP_002.\n       \
    Methods that polkit is asked about, but StartJob, have the option `refusal` (b): an error with a code is then an answer, in JSON as the\n       \
    field `refusal` with `error` (the name without prefix and code), `code`, `device`, `path`, `reason`, `hint` and `command`. -->\n";

/// The interface's element as the service returns it.
async fn introspect(client: &Connection, path: &str, interface: &str) -> String {
    let standard = Some("org.freedesktop.DBus.Introspectable");
    let call = client.call_method(None::<&str>, path, standard, "Introspect", &());
    let xml: String = call
        .await
        .expect("reply")
        .body()
        .deserialize()
        .expect("XML");
    let start = xml.find(&format!("  <interface name=\"{interface}\">"));
    let rest = &xml[start.expect("the interface")..];
    let end = rest.find("</interface>").expect("its end") + "</interface>\n".len();
    rest[..end].to_owned()
}

fn words(fault: Fault) -> String {
    match fault {
        Fault::Refused(words) => words.text,
        other => unreachable!("{other:?}"),
    }
}
