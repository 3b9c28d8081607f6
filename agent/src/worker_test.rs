//! The libvirt half on a libvirt in memory.

use std::time::{Duration, Instant};

use kernel_glue::model::Model;
use kernel_glue::region::{Region, Regions};
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::timeout;

use super::*;
use crate::fixture::{
    GPU, NIC, UUID, VARIANT, address, context, context_of, definition, driver, guest, host_on,
    kernel, metric,
};
use crate::libvirt::Capabilities;
use crate::libvirt::fake::{Fake, Translate};
use crate::record::Records;
use crate::stack::known::KnownStack;
use domain::code::Code;
use planner::from_libvirt::Networks;
use planner::target::Versions;
use settings::config::Config;

struct Scene {
    libvirt: Arc<Fake>,
    assigner: Arc<Assigner>,
    worker: Arc<Worker>,
    _directory: tempfile::TempDir,
}

fn scene() -> Scene {
    scene_of(context(Config::default()))
}

/// With an emulator, so that the installed programs are asked; libvirt answers its part with `translate`.
fn scene_with_emulator(translate: Translate) -> Scene {
    let (directory, mut context) = context(Config::default());
    std::fs::write(directory.path().join("qemu"), "").expect("written");
    let known = KnownStack::load(
        directory.path().to_owned(),
        directory.path().join("stack.json"),
    );
    Arc::get_mut(&mut context).expect("one owner").known_stack = known;
    let scene = scene_of((directory, context));
    scene.libvirt.can(Capabilities {
        emulator: Some("/qemu".to_owned()),
        ..Capabilities::default()
    });
    scene.libvirt.translates(translate);
    scene
}

fn scene_of((directory, context): (tempfile::TempDir, Arc<Context>)) -> Scene {
    let records = Records::new(directory.path().to_owned());
    let assigner = Arc::new(Assigner::new(kernel(), context.clone(), records));
    let libvirt = Arc::new(Fake::default());
    Scene {
        worker: Worker::new(libvirt.clone(), context, assigner.clone()),
        libvirt,
        assigner,
        _directory: directory,
    }
}

impl Scene {
    /// The metric of preparations with this trigger and outcome.
    fn preparations(&self, trigger: &str, outcome: &str) -> Option<f64> {
        let labels = format!("{{outcome=\"{outcome}\",trigger=\"{trigger}\"}}");
        let series = format!("variantd_preparations_total{labels}");
        metric(&self.worker.context, &series)
    }

    /// Serves the events, and waits until no change of the domains that they queued is pending.
    async fn serve(&self, events: Vec<Event>, repairs: Vec<DomainRef>) {
        let (event, receive) = unbounded_channel();
        let (repair, receive_repair) = unbounded_channel();
        events
            .into_iter()
            .for_each(|e| event.send(e).expect("send"));
        repairs
            .into_iter()
            .for_each(|d| repair.send(d).expect("send"));
        drop((event, repair));
        self.worker.clone().serve(receive, receive_repair).await;
        let metrics = tokio::runtime::Handle::current().metrics();
        while metrics.num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn own_events_do_not_repeat_a_define_that_libvirt_drops() {
    let scene = scene();
    let domain = scene.libvirt.put(&guest(GPU));
    scene.libvirt.drop_on_define("<acpi nodeset='1-8'/>", "");
    let (send, receive) = unbounded_channel();
    let (_repair, repairs) = unbounded_channel();
    scene.libvirt.tell(send.clone());
    send.send(Event::Defined(domain)).expect("send");
    let served = scene.worker.clone().serve(receive, repairs);
    assert!(timeout(Duration::from_secs(1), served).await.is_err());
    assert_eq!(scene.libvirt.defines(), 1);
    let [report] = &scene.worker.reports()[..] else {
        unreachable!("one domain");
    };
    assert_eq!(report.code.as_deref(), Some("VD-XML-006"));
    let series = "variantd_refusals_total{code=\"VD-XML-006\",source=\"event\"}";
    assert!(metric(&scene.worker.context, series).is_some_and(|count| count >= 1.0));
}

#[tokio::test]
async fn preparations_are_counted_by_trigger_and_outcome() {
    let scene = scene();
    let domain = scene.libvirt.put(&guest(GPU));
    let count = |trigger, outcome| scene.preparations(trigger, outcome);
    scene.serve(vec![], vec![domain.clone()]).await;
    assert_eq!(count("repair", "completed"), Some(1.0));
    let event = Event::Defined(domain.clone());
    scene.serve(vec![event], vec![]).await;
    assert_eq!(count("define", "complete"), Some(1.0));
    let reverted = scene.worker.prepare(domain.clone(), Trigger::Revert).await;
    reverted.expect("reverted");
    assert_eq!(count("revert", "reverted"), Some(1.0));
    let prepared = scene.worker.prepare(domain, Trigger::REQUEST).await;
    prepared.expect("completed");
    assert_eq!(count("request", "completed"), Some(1.0));
}

#[tokio::test]
async fn the_connection_to_libvirt_is_a_metric() {
    let scene = scene();
    let connected = || metric(&scene.worker.context, "variantd_libvirt_connected");
    assert_eq!(connected(), Some(0.0));
    let event = Event::Connected(Versions::NEWEST_TESTED);
    scene.worker.react(event);
    assert_eq!(connected(), Some(1.0));
    scene.worker.react(Event::Disconnected);
    assert_eq!(connected(), Some(0.0));
}

#[tokio::test]
async fn a_definition_is_completed_as_soon_as_it_is_seen() {
    let scene = scene();
    let domain = scene.libvirt.put(&guest(GPU));
    let seen = || Event::Defined(domain.clone());
    scene.serve(vec![seen(), seen(), seen()], vec![]).await;
    assert!(scene.libvirt.text(&domain).contains("urn:variantd:1"));
    assert_eq!(scene.libvirt.defines(), 1);
    assert_eq!(scene.worker.reports().len(), 1);
    scene.serve(vec![Event::Undefined(domain)], vec![]).await;
    assert!(scene.worker.reports().is_empty());
}

/// As `WaitPending` waits.
async fn wait_pending(scene: &Scene, domain: &DomainRef) {
    let mut waiter = scene.worker.waiter(&domain.uuid);
    while waiter.idle().await && lacks(scene, domain).await {
        waiter.changed().await;
    }
}

async fn lacks(scene: &Scene, domain: &DomainRef) -> bool {
    scene.worker.lacks(domain.clone()).await.expect("libvirt")
}

#[tokio::test]
async fn waiter_waits_for_a_change_that_is_under_way() {
    let scene = scene();
    let domain = scene.libvirt.put(&guest(GPU));
    assert!(lacks(&scene, &domain).await);
    scene.libvirt.hold_defines(true);
    scene.worker.queue(domain.clone(), Trigger::Define);
    let wait = wait_pending(&scene, &domain);
    tokio::pin!(wait);
    // Longer than an event may take.
    assert!(timeout(EVENT * 2, &mut wait).await.is_err(), "under way");
    scene.libvirt.hold_defines(false);
    timeout(Duration::from_secs(20), wait)
        .await
        .expect("the end");
    assert!(!lacks(&scene, &domain).await);
    assert_eq!(scene.libvirt.defines(), 1);
}

#[tokio::test]
async fn waiter_waits_for_an_event_only_if_the_definition_is_incomplete() {
    let scene = scene();
    let other = scene.libvirt.put(&guest(NIC));
    let began = Instant::now();
    wait_pending(&scene, &other).await;
    assert!(began.elapsed() < EVENT);
    let domain = scene.libvirt.put(&guest(GPU));
    let began = Instant::now();
    wait_pending(&scene, &domain).await;
    assert!(began.elapsed() >= EVENT);
    assert_eq!(scene.libvirt.defines(), 0, "it only waits");
}

#[tokio::test]
async fn definitions_before_the_connection_are_completed() {
    let scene = scene();
    let domain = scene.libvirt.put(&guest(GPU));
    let connected = Event::Connected(Versions::NEWEST_TESTED);
    scene.serve(vec![connected], vec![]).await;
    assert!(scene.libvirt.text(&domain).contains("urn:variantd:1"));
}

/// Other guests do not wait for programs that do not answer.
#[tokio::test]
async fn guests_are_planned_and_started_while_the_stack_is_asked() {
    static ASKED: AtomicBool = AtomicBool::new(false);
    static ANSWERS: AtomicBool = AtomicBool::new(false);
    let scene = scene_with_emulator(|_| {
        ASKED.store(true, Ordering::SeqCst);
        while !ANSWERS.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(String::new())
    });
    let (libvirt, worker) = (&scene.libvirt, &scene.worker);
    let asking = tokio::spawn(worker.clone().catch_up(Versions::NEWEST_TESTED));
    while !ASKED.load(Ordering::SeqCst) {
        sleep(Duration::from_millis(5)).await;
    }
    let prepared = worker.prepare(libvirt.put(&guest(GPU)), Trigger::Repair);
    let report = timeout(Duration::from_secs(2), prepared).await;
    let report = report.expect("no wait").expect("a plan");
    assert_eq!(report.outcome, Outcome::Completed);
    let unrelated = guest(GPU)
        .replace("<hostdev", "<x")
        .replace("</hostdev", "</x");
    let prepared = worker.prepare(libvirt.put(&unrelated), Trigger::Repair);
    let report = timeout(Duration::from_secs(2), prepared).await;
    assert_eq!(
        report.expect("no wait").expect("a report").outcome,
        Outcome::Foreign
    );
    let context = &worker.context;
    let complete = context.look().rewrite(&definition(&guest(GPU)), false);
    let begun = Instant::now();
    scene
        .assigner
        .prepare(&definition(&complete.expect("complete").text))
        .expect("bound");
    assert!(begun.elapsed() < Duration::from_secs(2) && !asking.is_finished());
    asking.abort();
    ANSWERS.store(true, Ordering::SeqCst);
}

#[tokio::test]
async fn definitions_are_planned_again_when_the_installed_programs_answer_late() {
    let scene = scene_with_emulator(|_| Err(String::new()));
    scene.libvirt.put(&guest(GPU));
    // A call of an earlier round has not returned.
    let round = scene.worker.context.known_stack.begin();
    let asking = tokio::spawn(scene.worker.clone().catch_up(Versions::NEWEST_TESTED));
    let planned = |outcome| scene.preparations("define", outcome).unwrap_or_default();
    let within = async |such: &dyn Fn() -> bool| {
        let end = Instant::now() + Duration::from_secs(20);
        while !such() {
            assert!(Instant::now() < end, "too late");
            sleep(Duration::from_millis(5)).await;
        }
    };
    within(&|| planned("completed") == 1.0).await;
    assert_eq!(planned("complete"), 0.0);
    drop(round);
    within(&|| planned("complete") + planned("completed") == 2.0).await;
    asking.abort();
}

#[tokio::test]
async fn a_running_guest_is_adopted_and_an_ended_one_is_removed() {
    let scene = scene();
    let domain = scene.libvirt.run(&guest(GPU));
    let connected = || vec![Event::Connected(Versions::NEWEST_TESTED)];
    scene.serve(connected(), vec![]).await;
    assert_eq!(scene.assigner.held().len(), 1);
    scene.libvirt.end(&domain);
    scene.assigner.release(&domain.uuid).expect("release");
    scene.serve(connected(), vec![]).await;
    assert!(scene.assigner.held().is_empty());
}

#[tokio::test]
async fn missed_release_is_done_on_the_stop_event() {
    // The second time its end was missed, too.
    for is_seen in [true, false] {
        let scene = scene();
        let complete = scene
            .worker
            .context
            .look()
            .rewrite(&definition(&guest(GPU)), false);
        let complete = complete.expect("complete").text;
        scene
            .assigner
            .prepare(&definition(&complete))
            .expect("bound");
        let domain = scene.libvirt.run(&complete);
        let event = || match is_seen {
            true => Event::Stopped(domain.clone()),
            false => Event::Connected(Versions::NEWEST_TESTED),
        };
        // It was started again, and the event is late.
        scene.serve(vec![event()], vec![]).await;
        assert_eq!(scene.assigner.held().len(), 1);
        scene.libvirt.end(&domain);
        scene.serve(vec![event()], vec![]).await;
        assert!(scene.assigner.held().is_empty());
    }
}

#[tokio::test]
async fn a_guest_that_ended_while_it_was_adopted_holds_nothing() {
    let scene = scene();
    let complete = scene
        .worker
        .context
        .look()
        .rewrite(&definition(&guest(GPU)), false);
    let complete = complete.expect("complete").text;
    scene
        .assigner
        .adopt(definition(&complete).domain())
        .expect("adopted");
    assert_eq!(scene.assigner.held().len(), 1);
    let connected = Event::Connected(Versions::NEWEST_TESTED);
    scene.serve(vec![connected], vec![]).await;
    assert!(scene.assigner.held().is_empty());
}

#[tokio::test]
async fn a_device_that_leaves_a_guest_goes_back_and_leaves_no_initiator_behind() {
    // The second time the event was missed.
    for is_seen in [true, false] {
        let scene = scene();
        let complete = scene
            .worker
            .context
            .look()
            .rewrite(&definition(&guest(GPU)), false);
        let complete = complete.expect("complete").text;
        scene
            .assigner
            .prepare(&definition(&complete))
            .expect("bound");
        let domain = scene.libvirt.unplug(&guest(NIC), &["gi0", "gi1"]);
        let event = match is_seen {
            true => Event::Unplugged(domain.clone()),
            false => Event::Connected(Versions::NEWEST_TESTED),
        };
        scene.serve(vec![event], vec![]).await;
        assert!(scene.assigner.held().is_empty());
        let left = scene.libvirt.stale_initiators(&domain.uuid);
        assert_eq!(left, Ok(vec![]));
    }
}

#[tokio::test]
async fn refusal_is_stored_for_later_calls() {
    let scene = scene();
    let broken = guest(GPU).replace(
        "arch='aarch64' machine='virt'",
        "arch='ppc64' machine='pseries'",
    );
    let domain = scene.libvirt.put(&broken);
    scene
        .serve(vec![Event::Defined(domain.clone())], vec![])
        .await;
    let reports = scene.worker.reports();
    assert_eq!(reports[0].outcome, Outcome::Refused);
    assert!(reports[0].sentence.is_some() && reports[0].code.is_some());
    assert_eq!(scene.libvirt.text(&domain), broken);
}

#[tokio::test]
async fn repair_completes_a_definition_that_the_policy_skipped() {
    let scene = scene();
    let domain = scene.libvirt.put(&guest(GPU));
    scene.serve(vec![], vec![domain.clone()]).await;
    assert!(scene.libvirt.text(&domain).contains("urn:variantd:1"));
}

#[tokio::test]
async fn other_guests_leave_no_report() {
    let scene = scene();
    let domain = scene.libvirt.put(&guest(NIC));
    scene.serve(vec![Event::Defined(domain)], vec![]).await;
    assert!(scene.worker.reports().is_empty());
    let missing = scene.worker.find("missing".into()).await.expect_err("none");
    assert!(matches!(missing, PrepareError::NotFound(_)));
}

#[tokio::test]
async fn a_request_asks_vfio_and_a_definition_does_not() {
    let there = host_on(VARIANT);
    let kernel = Arc::new(Model::from_host(&there));
    let mut regions = Regions::default();
    regions[4].size = 128 << 30;
    regions[4].kind = Region::MEMORY_64_PREFETCH;
    kernel.set_regions(address(GPU), driver(VARIANT), regions);
    let (directory, context) = context_of(there, Config::default());
    let records = Records::new(directory.path().to_owned());
    let assigner = Arc::new(Assigner::new(kernel.clone(), context.clone(), records));
    let libvirt = Arc::new(Fake::default());
    let worker = Worker::new(libvirt.clone(), context, assigner);
    let domain = libvirt.put(&guest(GPU));
    let prepare = async |trigger| worker.prepare(domain.clone(), trigger).await.expect("ok");
    prepare(Trigger::Define).await;
    let gib = |gib: u64| format!("<pcihole64 unit='KiB'>{}</pcihole64>", gib << 20);
    assert!(libvirt.text(&domain).contains(&gib(1024)), "by the table");
    assert_eq!(kernel.opens(), 0);
    prepare(Trigger::REQUEST).await;
    assert!(libvirt.text(&domain).contains(&gib(512)), "by VFIO");
    assert_eq!(kernel.opens(), 1);
    prepare(Trigger::Define).await;
    assert!(libvirt.text(&domain).contains(&gib(512)), "still by VFIO");
    assert_eq!((kernel.opens(), libvirt.defines()), (1, 2));
}

#[tokio::test]
async fn reading_callers_do_not_delay_others() {
    let scene = scene();
    let domain = scene.libvirt.put(&guest(GPU));
    scene.libvirt.close_to_looks(true);
    let look = || {
        let (worker, domain) = (scene.worker.clone(), domain.clone());
        tokio::spawn(async move { worker.propose(domain, Options::default()).await })
    };
    let looks: Vec<_> = (0..=AT_ONCE).map(|_| look()).collect();
    while scene.libvirt.looking() == 0 {
        tokio::task::yield_now().await;
    }
    // More calls than read slots: the waiting ones had their turn.
    let mut served = 0;
    for _ in 0..3 * AT_ONCE {
        let found = timeout(Duration::from_secs(3), scene.worker.find("d0".into()));
        served += usize::from(found.await.is_ok());
    }
    scene.libvirt.close_to_looks(false);
    assert_eq!(served, 3 * AT_ONCE, "calls wait for those who look");
    for look in looks {
        assert!(look.await.expect("no panic").is_ok());
    }
}

#[tokio::test]
async fn networks_are_read_on_connection_and_when_one_changes() {
    let scene = scene();
    let known_versions = || {
        let networks = scene.worker.context.networks.now().expect("learned");
        networks.pool("p").map(|pool| pool.devices().len())
    };
    scene
        .serve(vec![Event::Connected(Versions::NEWEST_TESTED)], Vec::new())
        .await;
    assert_eq!(known_versions(), None);
    let pool = "<network><forward mode='hostdev'><address domain='2' bus='1' slot='0' function='0'/></forward></network>";
    let networks = Networks::new([("p".to_owned(), pool)]);
    scene.libvirt.has_networks(networks);
    scene.serve(vec![Event::Networks], Vec::new()).await;
    assert_eq!(known_versions(), Some(1));
}

#[tokio::test]
async fn a_burst_of_network_events_leads_to_a_bounded_number_of_questions() {
    // 100 networks that are defined, started, stopped and undefined.
    const EVENTS: u32 = 400;
    let scene = scene();
    scene.serve(vec![Event::Networks; 400], Vec::new()).await;
    let at_once = scene.libvirt.asked_for_networks();
    assert!((1..=2).contains(&at_once), "{at_once} questions");
    // The same sequentially, for several pauses, and a change at the end.
    let (event, receive) = unbounded_channel();
    let (repair, repairs) = unbounded_channel();
    let served = tokio::spawn(scene.worker.clone().serve(receive, repairs));
    let began = Instant::now();
    for _ in 0..EVENTS {
        event.send(Event::Networks).expect("send");
        sleep(Duration::from_millis(1)).await;
    }
    let pool = "<network><forward mode='hostdev'><address bus='1' slot='0' function='0'/></forward></network>";
    let last = Networks::new([("p".to_owned(), pool)]);
    scene.libvirt.has_networks(last.clone());
    event.send(Event::Networks).expect("send");
    sleep(3 * PAUSE).await;
    let asked = scene.libvirt.asked_for_networks() - at_once;
    let pauses = usize::try_from(began.elapsed().as_millis() / PAUSE.as_millis()).expect("few");
    assert!(
        (2..=pauses + 2).contains(&asked),
        "{asked} questions in {pauses} pauses"
    );
    println!("{EVENTS} events at once: {at_once} questions; within {pauses} pauses: {asked}");
    assert_eq!(scene.worker.context.networks.now().as_deref(), Some(&last));
    drop((event, repair));
    served.await.expect("served");
}

/// The guest with this device, with a name and UUID of its own.
fn numbered(number: usize, device: &str) -> String {
    let named = guest(device).replace("<name>d0<", &format!("<name>d{number}<"));
    named.replace(UUID, &format!("{}{number:04x}", &UUID[..UUID.len() - 4]))
}

impl Scene {
    /// Defines the guest and serves the event; returns the number of definitions that were read, and the notes about shared devices.
    async fn complete(&self, number: usize) -> (usize, Vec<String>) {
        let before = self.libvirt.reads();
        let domain = self.libvirt.put(&numbered(number, GPU));
        self.serve(vec![Event::Defined(domain.clone())], vec![])
            .await;
        let reports = self.worker.reports();
        let report = reports.iter().find(|report| report.domain == domain.name);
        let notes = report.expect("a report").notes.iter();
        let shared = notes.filter(|note| note.code == Code::DeviceShared.as_str());
        let texts = shared.map(|note| note.text.clone()).collect();
        (self.libvirt.reads() - before, texts)
    }
}

#[tokio::test]
async fn a_completed_definition_names_others_with_its_device_and_does_not_read_them() {
    let scene = scene();
    scene.libvirt.put(&guest(NIC));
    let (first, notes) = scene.complete(1).await;
    assert_eq!(notes, [""; 0]);
    let alone = "domain 'd1' also assigns it: only one of the two can run";
    assert_eq!(scene.complete(2).await, (first, vec![alone.to_owned()]));
    let (reads, notes) = scene.complete(3).await;
    assert_eq!(
        notes,
        ["domains 'd1', 'd2' also assign it: only one can run at a time"]
    );
    for number in 4..40 {
        scene.complete(number).await;
    }
    let (later, notes) = scene.complete(40).await;
    assert_eq!(
        (reads, later),
        (first, first),
        "as many definitions are read as for the first"
    );
    assert_eq!(
        notes,
        ["domains 'd1', 'd10', 'd11' and 36 more also assign it: only one can run at a time"]
    );
}

#[tokio::test]
async fn a_removed_or_changed_definition_shares_no_device() {
    let scene = scene();
    let first = scene.libvirt.put(&numbered(1, GPU));
    let second = scene.libvirt.put(&numbered(2, GPU));
    let both = [&first, &second].map(|domain| Event::Defined(domain.clone()));
    scene.serve(both.into(), vec![]).await;
    scene.libvirt.undefine(&first.uuid).expect("removed");
    scene.libvirt.put(&numbered(2, NIC));
    let events = vec![Event::Undefined(first), Event::Defined(second)];
    scene.serve(events, vec![]).await;
    assert_eq!(scene.complete(3).await.1, [""; 0]);
    // One that was defined again after it was removed still counts.
    let again = scene.libvirt.put(&numbered(4, GPU));
    let events = vec![Event::Undefined(again.clone()), Event::Defined(again)];
    scene.serve(events, vec![]).await;
    assert_eq!(scene.complete(5).await.1.len(), 1);
}

#[tokio::test]
async fn after_a_connection_only_the_definitions_of_then_count() {
    let scene = scene();
    scene.complete(1).await;
    let gone = scene.libvirt.put(&numbered(1, GPU));
    scene.libvirt.undefine(&gone.uuid).expect("removed");
    scene.libvirt.put(&numbered(2, GPU));
    let event = Event::Connected(Versions::NEWEST_TESTED);
    scene.serve(vec![event], vec![]).await;
    let (_, notes) = scene.complete(3).await;
    assert_eq!(
        notes,
        ["domain 'd2' also assigns it: only one of the two can run"]
    );
}
