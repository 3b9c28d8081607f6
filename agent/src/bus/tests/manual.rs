//! `Bind`, `Release` and `Recover` over the bus.

use kernel_glue::model::Write;
use nix::errno::Errno;
use serde_json::Value;

use super::*;
use crate::fixture::NIC;
use api::client::Options;

async fn printed(reply: impl Future<Output = zbus::Result<String>>) -> Result<Value, Fault> {
    let text = reply.await.map_err(Fault::from)?;
    Ok(serde_json::from_str(&text).expect("JSON"))
}

#[tokio::test]
async fn dry_run_lists_the_writes_of_the_bind() {
    let scene = scene().await;
    let manager = scene.manager().await;
    let dry = Options::from([("dry-run", Variant::from(true))]);
    let plan = printed(manager.bind(GPU, dry)).await.expect("plan");
    assert_eq!(plan["outcome"], "planned");
    assert!(scene.kernel.writes().is_empty());
    let bound = printed(manager.bind("pci_0009_01_00_0", Options::new())).await;
    let bound = bound.expect("bound");
    assert_eq!(
        (&bound["outcome"], scene.driver().as_str()),
        (&"bound".into(), VARIANT)
    );
    let recorded: Value = scene.kernel.writes().iter().map(Write::to_string).collect();
    assert_eq!((&plan["writes"], &bound["writes"]), (&recorded, &recorded));
    let released = printed(manager.release(GPU, Options::new())).await;
    assert_eq!(released.expect("released")["outcome"], "released");
    assert_eq!(scene.driver(), "nvidia");
}

#[tokio::test]
async fn bind_and_release_refuse_a_device_of_a_guest() {
    let scene = scene().await;
    scene
        .hook("prepare", &scene.complete())
        .await
        .expect("start");
    let manager = scene.manager().await;
    for reply in [
        printed(manager.bind(GPU, Options::new())).await,
        printed(manager.release(GPU, Options::new())).await,
    ] {
        let fault = reply.expect_err("refused");
        assert!(
            matches!(&fault, Fault::Refused(text) if text.contains("VD-DEV-003")),
            "{fault:?}"
        );
    }
    assert_eq!(scene.driver(), VARIANT);
}

#[tokio::test]
async fn recover_completes_a_failed_bind() {
    let scene = scene().await;
    let manager = scene.manager().await;
    let none = printed(manager.recover(Options::new())).await;
    assert_eq!(none.expect("nothing"), Value::Array(Vec::new()));
    scene.kernel.fail_write(3, Errno::EIO);
    scene.kernel.fail_write(4, Errno::EIO);
    let fault = printed(manager.bind(GPU, Options::new())).await;
    assert!(matches!(fault, Err(Fault::Failed(text)) if text.contains("VD-BND-004")));
    let other = Options::from([("device", Variant::from(NIC))]);
    let other = printed(manager.recover(other)).await;
    assert_eq!(other.expect("nothing"), Value::Array(Vec::new()));
    let recovered = printed(manager.recover(Options::new()))
        .await
        .expect("recovered");
    assert_eq!(recovered[0]["device"], GPU);
    assert_eq!(recovered[0]["sentence"], Value::Null);
    assert_eq!(scene.driver(), "nvidia");
}

#[tokio::test]
async fn invalid_options_are_refused() {
    let scene = scene().await;
    let manager = scene.manager().await;
    let bind = async |device: &str, key: &'static str, value: Variant<'static>| {
        let fault = printed(manager.bind(device, Options::from([(key, value)]))).await;
        fault.expect_err("a mistake")
    };
    let fault = bind("0000:00:1f.0", "dry-run", true.into()).await;
    assert!(matches!(fault, Fault::NotFound(text) if text.contains("VD-DEV-001")));
    for (device, key, value, part) in [
        ("gpu", "dry-run", Variant::from(true), "'gpu'"),
        (GPU, "dry-run", Variant::from("yes"), "not true or false"),
        (GPU, "driver", Variant::from(1), "not a text"),
        (
            GPU,
            "driver",
            Variant::from("../x"),
            "'../x' is not a driver name",
        ),
        (GPU, "force", Variant::from(true), "unknown option 'force'"),
    ] {
        let fault = bind(device, key, value).await;
        assert!(
            matches!(&fault, Fault::Failed(text) if text.contains(part)),
            "{fault:?}"
        );
    }
    assert!(scene.kernel.writes().is_empty());
}
