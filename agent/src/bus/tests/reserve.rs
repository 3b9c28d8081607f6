//! `Reserve` and `Unreserve` over the bus.

use super::*;
use api::client::Options;

#[tokio::test]
async fn a_reservation_is_a_file_and_binds_nothing() {
    let scene = scene().await;
    let manager = scene.manager().await;
    let options = Options::from([("driver", Variant::from("vfio-pci"))]);
    let printed = manager.reserve(GPU, options).await.expect("reserved");
    assert!(printed.contains(r#""outcome":"reserved""#), "{printed}");
    let path = scene
        .directory
        .path()
        .join(format!("reserved.d/{GPU}.toml"));
    let text = std::fs::read_to_string(&path).expect("the file");
    assert!(
        text.contains("id = \"10de:2342\"\ndriver = \"vfio-pci\"\n"),
        "{text}"
    );
    assert!(scene.kernel.writes().is_empty());
    let printed = manager.unreserve(GPU, Options::new()).await.expect("ended");
    assert!(printed.contains(r#""outcome":"unreserved""#), "{printed}");
    assert!(!path.exists());
}

#[tokio::test]
async fn reserve_reports_its_error() {
    let scene = scene().await;
    let manager = scene.manager().await;
    let missing = manager.reserve("0000:00:1f.0", Options::new()).await;
    let missing = Fault::from(missing.expect_err("not there"));
    assert!(matches!(missing, Fault::NotFound(text) if text.contains("VD-DEV-001")));
    let blocked = scene.directory.path().join("reserved.d");
    std::fs::write(blocked, "no directory").expect("written");
    let failed = manager.reserve(GPU, Options::new()).await;
    let failed = Fault::from(failed.expect_err("no directory"));
    assert!(
        matches!(&failed, Fault::Failed(text) if text.contains("cannot write reservation")),
        "{failed:?}"
    );
}
