//! The devices' objects exist from the start, and are updated after every change.

use api::name::{DEVICE_INTERFACE, SERVICE};
use tokio::time::timeout;
use zbus::fdo::{ObjectManagerProxy, PropertiesProxy};

use super::*;
use crate::fixture::NIC;
use api::client::{DeviceProxy, Options};

async fn device<'a>(scene: &'a Scene, at: &str) -> DeviceProxy<'a> {
    let proxy = DeviceProxy::builder(&scene.client).path(object::path(address(at)));
    let proxy = proxy.cache_properties(zbus::proxy::CacheProperties::No);
    proxy.build().await.expect("proxy")
}

/// Waits for a state of the device, by its signals.
async fn until(scene: &Scene, at: &str, wanted: &str) -> DeviceProxy<'static> {
    let path = object::path(address(at));
    let properties = PropertiesProxy::builder(&scene.client)
        .path(&*path)
        .destination(SERVICE);
    let properties = properties.build().await.expect("proxy");
    let mut changes = properties
        .receive_properties_changed()
        .await
        .expect("signals");
    let device = DeviceProxy::builder(&scene.client).path(path);
    let device = device.cache_properties(zbus::proxy::CacheProperties::No);
    let device: DeviceProxy<'static> = device.build().await.expect("proxy");
    let reached = async {
        while device.state().await.expect("state") != wanted {
            next(&mut changes).await.expect("a change");
        }
    };
    let reached = timeout(Duration::from_secs(10), reached).await;
    reached.unwrap_or_else(|_| unreachable!("'{at}' is not '{wanted}'"));
    device
}

#[tokio::test]
async fn each_device_with_a_recipe_is_an_object_that_the_object_manager_lists() {
    let scene = scene().await;
    let objects = ObjectManagerProxy::builder(&scene.client);
    let objects = objects.path(MANAGER).destination(SERVICE);
    let objects = objects.build().await.expect("proxy");
    let all = objects.get_managed_objects().await.expect("objects");
    let path = "/org/variantd1/device/0009_01_00_0";
    let gpu = &all[&zbus::OwnedObjectPath::try_from(path).expect("path")];
    let gpu = &gpu[&zbus::names::OwnedInterfaceName::try_from(DEVICE_INTERFACE).expect("name")];
    let text = |key: &str| String::try_from(gpu[key].clone()).expect(key);
    assert_eq!(
        (text("Address"), text("Id")),
        (GPU.into(), "10de:2342".into())
    );
    assert_eq!(
        (text("Recipe"), text("Driver")),
        ("nvidia-grace".into(), "nvidia".into())
    );
    assert_eq!(
        (text("State"), text("Domain")),
        ("free".into(), String::new())
    );
    assert_eq!(i32::try_from(gpu["NumaNode"].clone()), Ok(0));
    assert_eq!(i32::try_from(gpu["Group"].clone()), Ok(-1));
    assert_eq!(
        all.keys().filter(|path| path.contains("/device/")).count(),
        1
    );
}

#[tokio::test]
async fn device_object_shows_the_state_for_a_guest() {
    let scene = scene().await;
    let xml = scene.complete();
    scene.hook("prepare", &xml).await.expect("prepared");
    let gpu = until(&scene, GPU, "bound").await;
    assert_eq!(gpu.domain().await.expect("domain"), "d0");
    assert_eq!(gpu.driver().await.expect("driver"), VARIANT);
    assert_eq!(gpu.previous_driver().await.expect("driver"), "nvidia");
    let series = |state, driver, owner| {
        format!("variantd_devices{{driver=\"{driver}\",owner=\"{owner}\",state=\"{state}\"}} 1")
    };
    let metrics = async || {
        let manager = scene.manager().await;
        manager.metrics(Options::new()).await.expect("metrics")
    };
    let bound = series("bound", VARIANT, "guest");
    let text = metrics().await;
    assert!(text.contains(&bound), "{text}");
    scene.hook("release", &xml).await.expect("released");
    let gpu = until(&scene, GPU, "free").await;
    assert_eq!(gpu.domain().await.expect("domain"), "");
    assert_eq!(gpu.driver().await.expect("driver"), "nvidia");
    let text = metrics().await;
    assert!(text.contains(&series("free", "nvidia", "host")), "{text}");
    assert!(!text.contains(&bound), "{text}");
}

#[tokio::test]
async fn device_object_shows_manual_binds_and_reservations() {
    let scene = scene().await;
    let manager = scene.manager().await;
    manager
        .reserve(GPU, Options::new())
        .await
        .expect("reserved");
    let gpu = until(&scene, GPU, "reserved").await;
    manager.bind(GPU, Options::new()).await.expect("bound");
    until(&scene, GPU, "bound").await;
    let manual =
        format!("variantd_devices{{driver=\"{VARIANT}\",owner=\"manual\",state=\"bound\"}}");
    assert_eq!(metric(&scene.context, &manual), Some(1.0));
    assert!(gpu.reserved().await.expect("reserved"));
    manager
        .unreserve(GPU, Options::new())
        .await
        .expect("unreserved");
    manager
        .release(GPU, Options::new())
        .await
        .expect("released");
    until(&scene, GPU, "free").await;
}

#[tokio::test]
async fn interrupted_device_is_degraded() {
    let scene = scene().await;
    for number in 3..=5 {
        scene.kernel.fail_write(number, Errno::EIO);
    }
    let bind = scene.manager().await.bind(GPU, Options::new()).await;
    bind.expect_err("the host says no");
    until(&scene, GPU, "degraded").await;
    let degraded = metric(&scene.context, "variantd_degraded_devices");
    assert_eq!(degraded, Some(1.0));
}

#[tokio::test]
async fn a_device_without_recipe_comes_when_it_is_bound_and_goes_when_it_is_released() {
    let scene = scene().await;
    let manager = scene.manager().await;
    scene
        .kernel
        .add_driver("vfio-pci".parse().expect("driver"), []);
    let options = || Options::from([("driver", Variant::from("vfio-pci"))]);
    let objects = ObjectManagerProxy::builder(&scene.client);
    let objects = objects.path(MANAGER).destination(SERVICE);
    let objects = objects.build().await.expect("proxy");
    let mut come = objects.receive_interfaces_added().await.expect("signals");
    let mut gone = objects.receive_interfaces_removed().await.expect("signals");
    manager.bind(NIC, options()).await.expect("bound");
    next(&mut come).await.expect("an object");
    until(&scene, NIC, "bound").await;
    assert!(device(&scene, NIC).await.address().await.is_ok());
    manager
        .release(NIC, Options::new())
        .await
        .expect("released");
    let gone = timeout(Duration::from_secs(10), next(&mut gone)).await;
    let gone = gone.expect("in time").expect("a signal");
    let path = gone.args().expect("arguments").object_path().to_string();
    assert_eq!(path, object::path(address(NIC)));
}
