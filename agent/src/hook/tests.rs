//! A connection to the hook's socket without a daemon: progress during the work, and peers that disconnect or do not
//! read.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use hooks::protocol::{MethodReply, PROGRESS, REFUSED};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::Hook;
use super::connection::{Budget, FIRST, serve};
use crate::assign::Assigner;
use crate::context::Context;
use crate::fixture::{GPU, Written, context, definition, guest, kernel, metric};
use crate::record::Records;
use settings::config::Config;

const LIMIT: Duration = Duration::from_secs(20);

struct Scene {
    assigner: Arc<Assigner>,
    context: Arc<Context>,
    xml: String,
    served: JoinHandle<std::io::Result<()>>,
    peer: UnixStream,
    _directory: tempfile::TempDir,
}

fn scene() -> Scene {
    let (directory, context) = context(Config::default());
    let records = Records::new(directory.path().to_owned());
    let assigner = Arc::new(Assigner::new(kernel(), context.clone(), records));
    let complete = context.look().rewrite(&definition(&guest(GPU)), false);
    let (repairs, _) = unbounded_channel();
    let hook = Arc::new(Hook {
        assigner: assigner.clone(),
        context: context.clone(),
        repairs,
        definitions: directory.path().join("definitions"),
    });
    let (mut ours, peer) = UnixStream::pair().expect("sockets");
    let served = tokio::spawn(async move { serve(&mut ours, &hook, &Budget::default()).await });
    Scene {
        assigner,
        context,
        xml: complete.expect("a complete guest").text,
        served,
        peer,
        _directory: directory,
    }
}

fn call(xml: &str) -> Vec<u8> {
    let call = serde_json::json!({"method": "org.variantd1.Hook.Run", "more": true,
        "parameters": {"domain": "d0", "operation": "prepare", "xml": xml}});
    hooks::protocol::encoded(&call).expect("JSON")
}

async fn reply(peer: &mut UnixStream) -> MethodReply {
    let mut text = Vec::new();
    loop {
        match peer.read_u8().await.expect("a reply") {
            0 => return serde_json::from_slice(&text).expect("JSON"),
            byte => text.push(byte),
        }
    }
}

/// The reply that ends a call.
async fn last(peer: &mut UnixStream) -> MethodReply {
    let last = async {
        loop {
            let reply = reply(peer).await;
            if !reply.continues {
                return reply;
            }
        }
    };
    timeout(LIMIT, last).await.expect("in time")
}

/// Holds all devices, so that a start waits, until the sender is dropped.
async fn held(assigner: Arc<Assigner>) -> (Sender<()>, JoinHandle<()>) {
    let (release, released) = std::sync::mpsc::channel();
    let (begun, begin) = tokio::sync::oneshot::channel();
    let holder = tokio::task::spawn_blocking(move || {
        let _held = assigner.hold_claims();
        begun.send(()).expect("waited for");
        let _ = released.recv();
    });
    begin.await.expect("held");
    (release, holder)
}

#[tokio::test]
async fn a_start_that_waits_sends_progress_until_its_reply() {
    let mut scene = scene();
    let (release, holder) = held(scene.assigner.clone()).await;
    scene.peer.write_all(&call(&scene.xml)).await.expect("sent");
    // The first comes after a moment, the others every few seconds.
    for _ in 0..3 {
        let progress = timeout(PROGRESS * 2, reply(&mut scene.peer)).await;
        let progress = progress.expect("in time");
        assert!(progress.continues && progress.error.is_none());
    }
    drop(release);
    holder.await.expect("released");
    assert_eq!(last(&mut scene.peer).await, MethodReply::default());
    let series = "variantd_hook_duration_seconds_sum{operation=\"prepare\",result=\"allowed\"}";
    let seconds = metric(&scene.context, series).expect("counted");
    assert!(
        seconds >= PROGRESS.as_secs_f64(),
        "libvirt waited: {seconds}"
    );
}

#[tokio::test]
async fn a_start_that_waits_long_is_logged_with_its_stage() {
    let log = Written::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt().with_writer(move || writer.clone());
    let _log = tracing::subscriber::set_default(lines.finish());
    let mut scene = scene();
    let (_release, _holder) = held(scene.assigner.clone()).await;
    scene.peer.write_all(&call(&scene.xml)).await.expect("sent");
    let seen = async {
        loop {
            reply(&mut scene.peer).await;
            let text = log.text();
            if text.contains(" s in libvirt's hook (prepare): ") {
                return text;
            }
        }
    };
    let text = timeout(2 * LIMIT, seen).await.expect("a line");
    assert!(text.contains("guest 'd0' waits for 15 s"), "{text}");
}

#[tokio::test]
async fn a_call_that_is_answered_soon_has_no_progress() {
    let mut scene = scene();
    let sent = Instant::now();
    scene.peer.write_all(&call(&scene.xml)).await.expect("sent");
    let first = reply(&mut scene.peer).await;
    // On a busy machine the work may take longer.
    assert!(!first.continues || sent.elapsed() >= FIRST, "{first:?}");
}

#[tokio::test]
async fn a_guest_that_is_not_complete_is_refused_with_the_command_that_completes_it() {
    let mut scene = scene();
    scene
        .peer
        .write_all(&call(&guest(GPU)))
        .await
        .expect("sent");
    let refused = last(&mut scene.peer).await;
    assert_eq!(refused.error.as_deref(), Some(REFUSED));
    let fields = refused.parameters;
    assert_eq!(fields.command.as_deref(), Some("variantctl prepare d0"));
    let hint = fields.hint.expect("a hint");
    assert!(hint.contains("'variantctl prepare d0'"), "{hint}");
    let series = "variantd_hook_duration_seconds_count{operation=\"prepare\",result=\"refused\"}";
    assert_eq!(metric(&scene.context, series), Some(1.0));
    let code = fields.code.expect("a code");
    let series = format!("variantd_refusals_total{{code=\"{code}\",source=\"hook\"}}");
    assert_eq!(metric(&scene.context, &series), Some(1.0));
}

#[tokio::test]
async fn silent_peer_is_disconnected() {
    for half in [&b""[..], b"{\"method\":"] {
        let mut scene = scene();
        scene.peer.write_all(half).await.expect("sent");
        let served = timeout(LIMIT, scene.served).await;
        let ended = served.expect("in time").expect("no panic");
        assert_eq!(ended.is_ok(), half.is_empty());
    }
}

#[tokio::test]
async fn a_peer_that_sends_single_bytes_slowly_is_disconnected() {
    let mut scene = scene();
    let drip = async {
        while scene.peer.write_all(b"{").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let ended = async { (&mut scene.served).await.expect("no panic") };
    tokio::select! {
        () = drip => {}
        ended = timeout(LIMIT + LIMIT, ended) => {
            ended.expect("in time").expect_err("a limit");
        }
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_disconnected() {
    let mut scene = scene();
    let xml = "x".repeat(1 << 20);
    let call =
        br#"{"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":""#;
    let call = [call, xml.as_bytes(), b"\"}}\0"].concat();
    scene.peer.write_all(&call).await.expect("sent");
    let served = timeout(LIMIT, scene.served).await;
    served
        .expect("in time")
        .expect("no panic")
        .expect_err("a limit");
}
