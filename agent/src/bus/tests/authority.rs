//! Authorization on a private bus with a polkit whose replies the test chooses.

use std::time::Instant;

use ::tests::bus::Bus;
use api::name::{MANAGER_INTERFACE, SERVICE};
use tokio::sync::Notify;

use super::polkit::{Polkit, PolkitAnswer};
use super::*;
use crate::prepare::Trigger;
use api::client::{JobProxy, Options};

pub(super) struct GuardedAgent {
    pub(super) client: Connection,
    _agent: Connection,
    asked: Arc<std::sync::Mutex<Vec<String>>>,
    askers: Arc<std::sync::Mutex<Vec<String>>>,
    cancelled: Arc<Notify>,
    kernel: Arc<Model>,
    worker: Arc<Worker>,
    pub(super) libvirt: Arc<Fake>,
    _directory: tempfile::TempDir,
    bus: Bus,
}

/// An agent that authorizes nothing by itself, and a polkit with this reply; `None` for no polkit.
pub(super) async fn guarded_agent(polkit_answer: Option<PolkitAnswer>) -> GuardedAgent {
    let bus = Bus::start().expect("bus");
    // Only a test of silence waits for the end of this time; on a busy machine an answer may take long.
    let deadline = match polkit_answer {
        Some(PolkitAnswer::Hangs) => Duration::from_millis(300),
        _ => Duration::from_secs(30),
    };
    let (asked, askers) = (Arc::default(), Arc::default());
    let (cancelled, gone) = (Arc::default(), Arc::new(Notify::new()));
    if let Some(polkit_answer) = polkit_answer {
        let polkit = Polkit {
            polkit_answer,
            asked: Arc::clone(&asked),
            askers: Arc::clone(&askers),
            cancelled: Arc::clone(&cancelled),
            gone: gone.clone(),
        };
        let builder =
            connection::Builder::address(bus.address()).name("org.freedesktop.PolicyKit1");
        let builder = builder.serve_at("/org/freedesktop/PolicyKit1/Authority", polkit);
        let polkit = builder.build().await.expect("polkit");
        tokio::spawn(async move {
            gone.notified().await;
            polkit.close().await.expect("closed");
        });
    }
    let mut parts = parts();
    let builder = connection::Builder::address(bus.address());
    parts.manager.authority = Authority {
        callers: Callers::on(builder).await.expect("bus"),
        root_passes: false,
        deadline,
        ..Authority::default()
    };
    let worker = parts.manager.worker.clone();
    let builder = connection::Builder::address(bus.address()).name(SERVICE);
    let agent = serve(builder, parts.manager).build().await;
    let client = connection::Builder::address(bus.address()).build().await;
    GuardedAgent {
        client: client.expect("client"),
        _agent: agent.expect("agent"),
        asked,
        askers,
        cancelled,
        kernel: parts.kernel,
        worker,
        libvirt: parts.libvirt,
        _directory: parts.directory,
        bus,
    }
}

impl GuardedAgent {
    async fn manager(&self) -> ManagerProxy<'_> {
        ManagerProxy::new(&self.client).await.expect("proxy")
    }

    /// Binds without allowing interaction.
    async fn bind_quietly(&self) -> Result<(), Fault> {
        let options: Options<'_> = HashMap::new();
        let (name, interface) = (Some(SERVICE), Some(MANAGER_INTERFACE));
        let body = (GPU, options);
        let call = self
            .client
            .call_method(name, MANAGER, interface, "Bind", &body);
        call.await.map(drop).map_err(Fault::from)
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("asked").clone()
    }

    fn is_bound(&self) -> bool {
        let driver = self.kernel.driver(address(GPU)).expect("device");
        driver.map(String::from).as_deref() == Some(VARIANT)
    }

    async fn is_refused(&self, words: &[&str]) {
        let fault = self.bind_quietly().await.expect_err("refused");
        let Fault::NotAuthorized(sentence) = fault else {
            unreachable!("{fault:?}");
        };
        for word in words {
            assert!(sentence.contains(word), "'{word}': {sentence}");
        }
        assert!(!self.is_bound() && self.kernel.writes().is_empty());
    }
}

/// Callers can fill the queue of the connection that serves them, and the bus then discards replies to it.
#[tokio::test]
async fn polkit_is_asked_on_a_connection_that_serves_no_calls() {
    let guarded_agent = guarded_agent(Some(PolkitAnswer::Allows)).await;
    guarded_agent.bind_quietly().await.expect("bound");
    let bus = zbus::fdo::DBusProxy::new(&guarded_agent.client).await;
    let name = SERVICE.try_into().expect("a name");
    let serving = bus.expect("bus").get_name_owner(name).await;
    let serving = serving.expect("an owner").to_string();
    let askers = guarded_agent.askers.lock().expect("askers").clone();
    assert_eq!(askers.len(), 1);
    assert_ne!(askers, [serving]);
}

#[tokio::test]
async fn a_caller_that_polkit_allows_is_admitted() {
    let guarded_agent = guarded_agent(Some(PolkitAnswer::Allows)).await;
    guarded_agent.bind_quietly().await.expect("bound");
    assert!(guarded_agent.is_bound());
    assert_eq!(
        guarded_agent.asked(),
        [format!("org.variantd1.bind {GPU} 0")]
    );
}

#[tokio::test]
async fn a_caller_that_polkit_denies_gets_the_action_and_how_to_get_it() {
    let guarded_agent = guarded_agent(Some(PolkitAnswer::Denies)).await;
    let words = [
        "polkit denies 'org.variantd1.bind'",
        "VD-AGT-006",
        "/etc/polkit-1/rules.d",
        "sudo",
    ];
    guarded_agent.is_refused(&words).await;
}

#[tokio::test]
async fn a_person_is_asked_only_where_the_caller_allows_it() {
    let guarded_agent = guarded_agent(Some(PolkitAnswer::Challenges)).await;
    guarded_agent
        .is_refused(&["requires a password for 'org.variantd1.bind'", "VD-AGT-006"])
        .await;
    guarded_agent
        .manager()
        .await
        .bind(GPU, Options::new())
        .await
        .expect("bound");
    assert!(guarded_agent.is_bound());
    let asked = [0, 0, 1].map(|flags| format!("org.variantd1.bind {GPU} {flags}"));
    assert_eq!(guarded_agent.asked(), asked);
}

#[tokio::test]
async fn a_question_that_was_closed_is_a_no() {
    let guarded_agent = guarded_agent(Some(PolkitAnswer::Dismissed)).await;
    guarded_agent
        .is_refused(&["dialog for 'org.variantd1.bind' was closed"])
        .await;
}

#[tokio::test]
async fn a_silent_polkit_is_a_no_in_time_and_its_question_is_taken_back() {
    let guarded_agent = guarded_agent(Some(PolkitAnswer::Hangs)).await;
    let begin = Instant::now();
    guarded_agent
        .is_refused(&["VD-AGT-007", "systemctl status polkit"])
        .await;
    // A hanging polkit does not get the timeout of a dialog, even if the caller allows interaction.
    let manager = guarded_agent.manager().await;
    let fault = manager.bind(GPU, Options::new()).await;
    let fault = Fault::from(fault.expect_err("refused"));
    assert!(matches!(fault, Fault::NotAuthorized(ref text) if text.contains("VD-AGT-007")));
    assert!(begin.elapsed() < Duration::from_secs(20));
    let cancelled = guarded_agent.cancelled.notified();
    tokio::time::timeout(Duration::from_secs(10), cancelled)
        .await
        .expect("taken back");
}

#[tokio::test]
async fn a_polkit_that_vanishes_is_a_no() {
    guarded_agent(Some(PolkitAnswer::Vanishes))
        .await
        .is_refused(&["VD-AGT-007"])
        .await;
}

#[tokio::test]
async fn without_polkit_everybody_looks_and_only_root_changes() {
    let guarded_agent = guarded_agent(None).await;
    guarded_agent.is_refused(&["only root", "VD-AGT-006"]).await;
    let manager = guarded_agent.manager().await;
    manager.list_devices(Options::new()).await.expect("a look");
    let plan = manager.plan("missing", Options::new()).await;
    assert!(matches!(
        Fault::from(plan.expect_err("no domain")),
        Fault::NotFound(_)
    ));
}

#[tokio::test]
async fn polkit_sees_the_canonical_device_and_a_domains_name_and_uuid() {
    let guarded_agent = guarded_agent(Some(PolkitAnswer::Denies)).await;
    let domain = guarded_agent.libvirt.put(&guest(GPU));
    let manager = guarded_agent.manager().await;
    let none = Options::new;
    let device = Options::from([("device", "9:1:0.0".into())]);
    manager
        .bind("pci_0009_01_00_0", none())
        .await
        .expect_err("no");
    manager.recover(device).await.expect_err("no");
    manager.recover(none()).await.expect_err("no");
    let uuid = domain.uuid.to_string();
    manager.prepare(&uuid, none()).await.expect_err("no");
    manager
        .start_job("release", "0009:01:00.0", none())
        .await
        .expect_err("no");
    manager
        .start_job("revert", "d0", none())
        .await
        .expect_err("no");
    let asked = [
        format!("org.variantd1.bind {GPU} 0"),
        format!("org.variantd1.recover {GPU} 0"),
        "org.variantd1.recover all 0".to_owned(),
        format!("org.variantd1.prepare d0 {uuid} 0"),
        format!("org.variantd1.bind {GPU} 0"),
        format!("org.variantd1.prepare d0 {uuid} 0"),
    ];
    assert_eq!(guarded_agent.asked(), asked);
}

#[tokio::test]
async fn invalid_name_is_refused_before_polkit() {
    let guarded_agent = guarded_agent(Some(PolkitAnswer::Challenges)).await;
    let manager = guarded_agent.manager().await;
    let none = Options::new;
    let long = "x".repeat(1 << 20);
    for name in [
        "d0\nPlease enter the password of root",
        "gpu0",
        "\u{9b}31m",
        &long,
    ] {
        for fault in [
            manager.bind(name, none()).await.map(drop),
            manager.release(name, none()).await.map(drop),
            manager.reserve(name, none()).await.map(drop),
            manager.unreserve(name, none()).await.map(drop),
            manager.prepare(name, none()).await.map(drop),
            manager.revert(name, none()).await.map(drop),
            manager.plan(name, none()).await.map(drop),
            manager.wait(name, 1000, none()).await.map(drop),
            manager
                .recover(Options::from([("device", name.into())]))
                .await
                .map(drop),
            manager.start_job("bind", name, none()).await.map(drop),
            manager.start_job("prepare", name, none()).await.map(drop),
        ] {
            let fault = fault.expect_err("no such thing").to_string();
            assert!(fault.len() < 400, "{} bytes", fault.len());
        }
    }
    assert_eq!(guarded_agent.asked(), [""; 0]);
}

#[tokio::test]
async fn a_job_asks_as_its_method_does_and_can_be_cancelled_meanwhile() {
    let guarded_agent = guarded_agent(Some(PolkitAnswer::AsksUser)).await;
    let manager = guarded_agent.manager().await;
    let path = manager
        .start_job("bind", GPU, Options::new())
        .await
        .expect("job");
    let job = JobProxy::builder(&guarded_agent.client)
        .path(path)
        .build()
        .await
        .expect("proxy");
    while guarded_agent.asked().len() < 3 {
        tokio::task::yield_now().await;
    }
    let asked = [0, 0, 1].map(|flags| format!("org.variantd1.bind {GPU} {flags}"));
    assert_eq!(guarded_agent.asked(), asked);
    job.cancel(Options::new()).await.expect("cancelled");
    assert!(!guarded_agent.is_bound());
}

#[tokio::test]
async fn a_job_that_was_granted_goes_on_when_its_caller_has_left() {
    let guarded_agent = guarded_agent(Some(PolkitAnswer::Allows)).await;
    let guest = connection::Builder::address(guarded_agent.bus.address())
        .build()
        .await;
    let guest = guest.expect("client");
    let manager = ManagerProxy::new(&guest).await.expect("proxy");
    let path = manager
        .start_job("bind", GPU, Options::new())
        .await
        .expect("job");
    drop(manager);
    guest.close().await.expect("closed");
    let job = JobProxy::builder(&guarded_agent.client).path(path);
    let job = job.cache_properties(zbus::proxy::CacheProperties::No);
    let job = job.build().await.expect("proxy");
    while ["waiting", "working"].contains(&&*job.state().await.expect("state")) {
        tokio::task::yield_now().await;
    }
    assert!(job.result().await.expect("result").contains("bound"));
    assert!(guarded_agent.is_bound());
    assert_eq!(
        guarded_agent.asked(),
        [format!("org.variantd1.bind {GPU} 0")]
    );
}

#[tokio::test]
async fn a_job_that_is_denied_is_not_started() {
    let guarded_agent = guarded_agent(Some(PolkitAnswer::Denies)).await;
    let manager = guarded_agent.manager().await;
    let fault = manager.start_job("recover", "", Options::new()).await;
    let fault = Fault::from(fault.expect_err("denied"));
    assert!(matches!(fault, Fault::NotAuthorized(ref text) if text.contains("recover")));
}

/// variantd-connect calls `Wait` at a start, and then `WaitPending` if polkit denies that.
#[tokio::test]
async fn user_who_may_only_plan_waits_for_a_pending_change() {
    let agent = guarded_agent(Some(PolkitAnswer::AllowsPlans)).await;
    let domain = agent.libvirt.put(&guest(GPU));
    agent.libvirt.hold_defines(true);
    let (worker, defined) = (agent.worker.clone(), domain.clone());
    let change = tokio::spawn(async move { worker.prepare(defined, Trigger::Define).await });
    let manager = agent.manager().await;
    let began = Instant::now();
    let fault = Fault::from(
        manager
            .wait("d0", 20_000, HashMap::new())
            .await
            .expect_err("denied"),
    );
    assert!(matches!(fault, Fault::NotAuthorized(_)), "{fault:?}");
    let pending = manager.wait_pending("d0", 200, HashMap::new()).await;
    let pending = Fault::from(pending.expect_err("the change is pending"));
    assert!(!matches!(pending, Fault::NotAuthorized(_)), "{pending:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
    agent.libvirt.hold_defines(false);
    let waited = manager.wait_pending("d0", 20_000, HashMap::new()).await;
    assert_eq!(waited.expect("no change is pending"), "true");
    change.await.expect("no panic").expect("completed");
    assert!(agent.libvirt.text(&domain).contains("variantd:prepared"));
    let about = format!("d0 {}", domain.uuid);
    let asked =
        ["prepare", "plan", "plan"].map(|action| format!("org.variantd1.{action} {about} 0"));
    assert_eq!(agent.asked(), asked);
}

/// The start is then forwarded, and libvirt's hook decides about it without polkit.
#[tokio::test]
async fn polkit_that_denies_or_does_not_answer_ends_both_waits_in_time() {
    for answer in [
        PolkitAnswer::Denies,
        PolkitAnswer::Hangs,
        PolkitAnswer::AsksUser,
    ] {
        let agent = guarded_agent(Some(answer)).await;
        agent.libvirt.put(&guest(GPU));
        let began = Instant::now();
        for method in ["Wait", "WaitPending"] {
            let options: Options<'_> = HashMap::new();
            let (name, interface) = (Some(SERVICE), Some(MANAGER_INTERFACE));
            let body = ("d0", 20_000_u32, options);
            // As the transport calls: without allowing interaction.
            let reply = agent
                .client
                .call_method(name, MANAGER, interface, method, &body)
                .await;
            let fault = Fault::from(reply.expect_err("denied"));
            assert!(
                matches!(fault, Fault::NotAuthorized(_)),
                "{method}: {fault:?}"
            );
        }
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}
