//! A device for a running guest, while another guest, an administrator or a reservation has it.

use super::*;
use crate::context::Rules;
use planner::recipe::Recipes;

/// A recipe for the NIC of the modelled host, which needs nothing but its driver.
const PLAIN: &str = "prepare = 'on-define'\nname = 'plain'\ntitle = 'plain'\ndriver = 'nvgrace_gpu_vfio_pci'\n\
    [[device]]\nid = '15b3:1023'\nlabel = 'an adapter'\n[[guest]]\narch = 'aarch64'\nmachine = 'virt'\n";
const OTHER: &str = "6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a22";

/// A scene with that recipe, and a running guest without the device but with a free root port.
async fn running() -> Scene {
    let scene = scene().await;
    let config = scene.context.rules().config.clone();
    let recipes = Recipes::of(&[PLAIN]);
    scene.context.reload(Rules { recipes, config });
    let port = "<controller type='pci' index='1' model='pcie-root-port'/>";
    let xml = guest(NIC).replace(&hostdev(NIC), port);
    scene.libvirt.put(&xml);
    scene.libvirt.run(&xml);
    scene
}

async fn live(scene: &Scene) -> Result<(String, Findings), Fault> {
    attached(scene, &hostdev(NIC), &["live"]).await
}

#[tokio::test]
async fn device_of_another_running_guest_is_refused_until_that_has_ended() {
    let scene = running().await;
    let other = guest(NIC).replace("<name>d0", "<name>other");
    let other = other.replace(crate::fixture::UUID, OTHER);
    let rewrite = scene.context.look().rewrite(&definition(&other), false);
    let other = rewrite.expect("complete").text;
    scene.hook("prepare", &other).await.expect("it starts");
    for flags in [&["live"][..], &[], &["live", "config"]] {
        let fault = attached(&scene, &hostdev(NIC), flags).await;
        let fault = fault.expect_err("another guest has it");
        assert!(words_of(&fault).contains("'other'"), "{fault:?}");
        assert_eq!(refused_with(Err(fault)), Code::DeviceTaken, "{flags:?}");
    }
    let next = attached(&scene, &hostdev(NIC), &["config"]).await;
    assert!(next.expect("for the next start").0.contains(VARIANT));
    scene.hook("release", &other).await.expect("it ends");
    assert!(live(&scene).await.expect("free").0.contains(VARIANT));
}

#[tokio::test]
async fn bound_or_reserved_device_is_attached_and_one_of_a_foreign_guest_while_that_has_it_is_not()
{
    let scene = running().await;
    let manager = scene.manager().await;
    let none = HashMap::new;
    manager.reserve(NIC, none()).await.expect("reserved");
    live(&scene).await.expect("a reservation is for any guest");
    manager.bind(NIC, none()).await.expect("bound");
    live(&scene).await.expect("an administrator has bound it");
    manager.release(NIC, none()).await.expect("released");
    let bound = manager.bind_guest(OTHER, "vmi", &[NIC], none());
    bound.await.expect("bound for another guest");
    live(&scene).await.expect("that guest has not opened it");
    scene.kernel.set_users(address(NIC), &[4711]);
    let fault = live(&scene).await.expect_err("its QEMU has it open");
    assert!(words_of(&fault).contains("'vmi'"), "{fault:?}");
    assert_eq!(refused_with(Err(fault)), Code::DeviceTaken);
}

#[tokio::test]
async fn device_without_a_free_port_of_the_running_guest_is_refused() {
    let scene = running().await;
    let domain = crate::fixture::UUID.parse().expect("a UUID");
    let (name, uuid) = ("d0".to_owned(), domain);
    scene.libvirt.end(&DomainRef { name, uuid });
    let disk = "<controller type='pci' index='1' model='pcie-root-port'/><disk type='file'><source file='/a'/>\
                <target dev='vda' bus='virtio'/><address type='pci' domain='0' bus='1' slot='0' function='0'/></disk>";
    scene.libvirt.run(&guest(NIC).replace(&hostdev(NIC), disk));
    let refused = refused_with(live(&scene).await);
    assert_eq!(refused, Code::AtomicsGuestNoPort);
}

fn words_of(fault: &Fault) -> String {
    match fault {
        Fault::Refused(words) => words.text.clone(),
        other => unreachable!("{other:?}"),
    }
}
