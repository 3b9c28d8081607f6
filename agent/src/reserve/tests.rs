//! Reservations in a directory, applied on a modelled kernel.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use kernel_glue::kernel::{Attribute, Kernel};
use kernel_glue::model::Model;
use nix::errno::Errno;

use super::*;
use crate::context::Context;
use crate::fixture::{
    GPU, NIC, VARIANT, address, context, definition, driver, guest, host, kernel,
};
use crate::record::Records;
use settings::config::Config;

struct Scene {
    kernel: Arc<Model>,
    assigner: Assigner,
    context: Arc<Context>,
    reservations: Reservations,
    directory: tempfile::TempDir,
}

fn scene() -> Scene {
    let (directory, context) = context(Config::default());
    let kernel = kernel();
    let records = Records::new(directory.path().to_owned());
    Scene {
        assigner: Assigner::new(kernel.clone(), context.clone(), records),
        kernel,
        context,
        reservations: Reservations::new(directory.path().join(DIRECTORY)),
        directory,
    }
}

impl Scene {
    fn reserve(&self, at: &str, driver: Option<DriverName>) -> Result<&'static str, ReserveError> {
        let reserved = self
            .reservations
            .reserve(&self.assigner, address(at), driver);
        reserved.map(|reserved| reserved.outcome)
    }

    /// Writes a file below the directory.
    fn write(&self, name: &str, text: &str) {
        let path = self.directory.path().join(DIRECTORY).join(name);
        file::replace(&path, text, 0o644).expect("written");
    }

    fn apply(&self) -> usize {
        apply(&self.assigner, &host(), self.reservations.all())
    }

    fn driver(&self, at: &str) -> String {
        let driver = self.kernel.driver(address(at)).expect("device");
        driver.expect("a driver").to_string()
    }
}

fn file_of(at: &str, id: &str) -> String {
    format!("device = \"{at}\"\nid = \"{id}\"\n")
}

#[test]
fn reserved_device_is_bound_at_each_boot_until_unreserve() {
    let scene = scene();
    assert_eq!(scene.reserve(GPU, None).expect("reserved"), "reserved");
    assert_eq!(scene.reserve(GPU, None).expect("again"), "already-so");
    assert_eq!(scene.driver(GPU), "nvidia");
    assert_eq!(scene.apply(), 0);
    assert_eq!(scene.driver(GPU), VARIANT);
    let writes = scene.kernel.writes().len();
    assert_eq!(scene.apply(), 0);
    assert_eq!(scene.kernel.writes().len(), writes);
    let ended = scene.reservations.unreserve(address(GPU)).expect("ended");
    assert_eq!(ended.outcome, "unreserved");
    let again = scene.reservations.unreserve(address(GPU)).expect("again");
    assert_eq!(again.outcome, "already-so");
    assert!(scene.reservations.all().is_empty());
}

#[test]
fn the_record_of_a_device_names_its_owner() {
    for (is_reserved, owner) in [(true, "reservation"), (false, "admin")] {
        let scene = scene();
        match is_reserved {
            true => {
                scene.reserve(GPU, None).expect("reserved");
                assert_eq!(scene.apply(), 0);
            }
            false => drop(
                scene
                    .assigner
                    .bind_manually(address(GPU), None)
                    .expect("bound"),
            ),
        }
        let path = scene.directory.path().join(format!("records/{GPU}.json"));
        let text = fs::read_to_string(path).expect("a record");
        assert!(text.contains(&format!("\"owner\": \"{owner}\"")), "{text}");
        scene
            .assigner
            .release_manually(address(GPU))
            .expect("released");
        assert_eq!(scene.driver(GPU), "nvidia");
    }
}

#[test]
fn the_same_files_give_the_same_answer_after_each_reboot() {
    let scenes = [scene(), scene()];
    let answers = scenes.map(|scene| {
        scene.reserve(GPU, None).expect("reserved");
        assert_eq!(scene.apply(), 0);
        scene.kernel.writes()
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].len(), 3);
}

#[test]
fn recover_continues_after_a_failed_device() {
    let scene = scene();
    scene.kernel.add_driver(driver("vfio-pci"), []);
    scene.kernel.fail_probe(driver("vfio-pci"), Errno::EIO);
    let other = Some(driver("vfio-pci"));
    scene.reserve(NIC, other).expect("reserved");
    scene.reserve(GPU, None).expect("reserved");
    scene.write("broken.toml", "devise = 1\n");
    assert_eq!(scene.apply(), 2);
    assert_eq!(scene.driver(GPU), VARIANT);
    assert_eq!(scene.driver(NIC), "mlx5_core");
}

#[test]
fn reservation_refuses_another_device_at_its_address() {
    let scene = scene();
    let text = file_of(NIC, "10de:2342");
    scene.write(&format!("{NIC}.toml"), &text);
    assert_eq!(scene.apply(), 1);
    assert!(scene.kernel.writes().is_empty());
    let moved = scene.reservations.all().remove(0).expect("read");
    let printed = moved.device(&host()).expect_err("moved").to_string();
    assert!(
        printed.contains("the device at this address is 15b3:1023"),
        "{printed}"
    );
    assert!(
        printed.contains(&format!("10de:2342 is at '{GPU}'")),
        "{printed}"
    );
    assert!(printed.contains("VD-BND-021"), "{printed}");
    let gone = Reservation {
        device: address("0000:00:1f.0"),
        ..moved
    };
    let printed = gone.device(&host()).expect_err("gone").to_string();
    assert!(printed.contains("VD-DEV-001"), "{printed}");
    assert!(
        printed.contains("variantctl unreserve 0000:00:1f.0"),
        "{printed}"
    );
}

#[test]
fn a_device_that_a_guest_has_counts_as_reserved() {
    let scene = scene();
    scene.reserve(GPU, None).expect("reserved");
    let complete = scene
        .context
        .look()
        .rewrite(&definition(&guest(GPU)), false);
    let complete = complete.expect("a complete guest").text;
    scene
        .assigner
        .prepare(&definition(&complete))
        .expect("start");
    let writes = scene.kernel.writes().len();
    assert_eq!(scene.apply(), 0);
    assert_eq!(scene.kernel.writes().len(), writes);
}

#[test]
fn reserve_refuses_a_missing_device_and_an_unknown_driver() {
    let scene = scene();
    let printed = |at| scene.reserve(at, None).expect_err("refused").to_string();
    assert!(printed("0000:00:1f.0").contains("VD-DEV-001"));
    assert!(printed(NIC).contains("VD-BND-022"));
    assert!(scene.reservations.all().is_empty());
}

#[test]
fn invalid_reservation_is_reported_with_its_position() {
    let scene = scene();
    let printed = |name: &str, text: &str| {
        scene.write(name, text);
        let mut all = scene.reservations.all();
        fs::remove_file(scene.directory.path().join(DIRECTORY).join(name)).expect("removed");
        all.remove(0).expect_err("a mistake").to_string()
    };
    let name = format!("{GPU}.toml");
    let key = printed(&name, &(file_of(GPU, "10de:2342") + "drivers = \"x\"\n"));
    assert!(
        key.contains("line 3: unknown key 'drivers'; did you mean 'driver'?"),
        "{key}"
    );
    let id = printed(&name, &file_of(GPU, "2342"));
    assert!(id.contains("line 2") && id.contains("10de:2342"), "{id}");
    let lacks = printed(&name, &format!("device = \"{GPU}\"\n"));
    assert!(lacks.contains("missing field `id`"), "{lacks}");
    let other = printed("gpu.toml", &file_of(GPU, "10de:2342"));
    assert!(other.contains(&format!("must be '{GPU}.toml'")), "{other}");
}

#[test]
fn prepare_keeps_the_driver_of_the_user() {
    let scene = scene();
    scene
        .reserve(GPU, Some(driver("vfio-pci")))
        .expect("reserved");
    let kept = scene.reservations.all().remove(0).expect("read");
    assert_eq!(kept.driver, Some(driver("vfio-pci")));
    assert_eq!(kept.id.to_string(), "10de:2342");
}

/// Lines of a unit of the package that begin with `key`.
fn unit(name: &str, key: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/systemd");
    let text = fs::read_to_string(Path::new(folder).join(name)).expect("the unit");
    let lines = text.lines().filter(|line| line.starts_with(key));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn reserve_unit_runs_before_other_drivers_load() {
    let unit = |key| unit("variantd-reserve.service", key);
    assert_eq!(
        unit("ExecStart"),
        "ExecStart=/usr/sbin/variantd --reserve\n"
    );
    assert_eq!(unit("After"), "After=systemd-modules-load.service\n");
    for other in ["nvidia-persistenced", "virtqemud", "libvirtd", "variantd"] {
        assert!(
            unit("Before").contains(&format!("{other}.service")),
            "{other}"
        );
    }
}

#[test]
fn both_units_are_confined_alike() {
    for key in ["NoNew", "Protect", "Lock", "Memory", "SystemCall"] {
        let agents = unit("variantd.service", key);
        assert!(!agents.is_empty(), "{key}");
        assert_eq!(unit("variantd-reserve.service", key), agents);
    }
}

#[test]
fn reserve_unit_has_no_capability_that_the_agent_lacks_and_only_the_journals_kind_of_socket() {
    let words = |name| unit(name, "CapabilityBoundingSet");
    let (agents, own) = (words("variantd.service"), words("variantd-reserve.service"));
    let (_, own) = own.trim().split_once('=').expect("capabilities");
    assert!(!own.is_empty());
    assert!(own.split(' ').all(|word| agents.contains(word)), "{own}");
    let families = unit("variantd-reserve.service", "RestrictAddressFamilies");
    assert_eq!(families, "RestrictAddressFamilies=AF_UNIX\n");
}

/// A machine whose GPU has no driver yet, as at boot before udev loads modules.
fn without_driver() -> Scene {
    let scene = scene();
    let unbind = Attribute::Unbind(driver("nvidia"));
    scene.kernel.write(&unbind, GPU).expect("unbound");
    scene
}

fn claimed(scene: &Scene) -> Result<Option<DriverName>, ReserveError> {
    let all = scene.reservations.all();
    claim(&scene.assigner, &host(), all, address(GPU))
}

#[test]
fn reserved_device_is_claimed_bound_and_released_without_an_override() {
    let scene = without_driver();
    assert_eq!(claimed(&scene).expect("not reserved"), None);
    scene.reserve(GPU, None).expect("reserved");
    let wanted = claimed(&scene).expect("claimed").expect("a driver");
    assert_eq!(wanted.as_str(), VARIANT);
    let name = Attribute::Override(address(GPU));
    scene
        .kernel
        .write(&name, VARIANT)
        .expect("as the rule does");
    assert_eq!(claimed(&scene).expect("claimed already"), None);
    assert_eq!(scene.apply(), 0);
    assert_eq!(scene.driver(GPU), VARIANT);
    let released = scene.assigner.release_manually(address(GPU));
    released.expect("released");
    let text = scene.kernel.driver_override(address(GPU));
    assert_eq!(scene.kernel.driver(address(GPU)).expect("device"), None);
    assert_eq!(text.expect("device"), None);
}

/// Longer than one pause of a wait.
const LATER: Duration = Duration::from_millis(300);

#[test]
fn claim_and_bind_wait_for_each_other() {
    let scene = without_driver();
    scene.reserve(GPU, None).expect("reserved");
    let records = Records::new(scene.directory.path().to_owned());
    let while_locked = |work: &mut dyn FnMut()| {
        let lock = records.lock(address(GPU)).expect("lock").expect("free");
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(LATER);
                drop(lock);
            });
            work();
        });
    };
    while_locked(&mut || assert_eq!(scene.apply(), 0));
    assert_eq!(scene.driver(GPU), VARIANT);
    while_locked(&mut || assert_eq!(claimed(&scene).expect("bound by then"), None));
}

#[test]
fn bind_waits_until_the_rule_has_written_the_override_of_a_claim() {
    let scene = without_driver();
    let before = scene.kernel.writes().len();
    scene.reserve(GPU, None).expect("reserved");
    claimed(&scene).expect("claimed").expect("a driver");
    let not_in_force = thread::scope(|scope| {
        let unit = scope.spawn(|| scene.apply());
        thread::sleep(LATER);
        assert_eq!(scene.kernel.writes().len(), before);
        let name = Attribute::Override(address(GPU));
        scene
            .kernel
            .write(&name, VARIANT)
            .expect("as the rule does");
        unit.join().expect("the unit")
    });
    assert_eq!(not_in_force, 0);
    assert_eq!(scene.driver(GPU), VARIANT);
    let released = scene.assigner.release_manually(address(GPU));
    released.expect("released");
    let text = scene.kernel.driver_override(address(GPU));
    assert_eq!(text.expect("device"), None);
}

#[test]
fn claim_skips_a_bound_device_and_refuses_another_id() {
    let scene = scene();
    scene.reserve(GPU, None).expect("reserved");
    assert_eq!(claimed(&scene).expect("on a driver"), None);
    let scene = without_driver();
    scene.write(&format!("{GPU}.toml"), &file_of(GPU, "10de:0001"));
    let error = claimed(&scene).expect_err("another device").to_string();
    assert!(error.contains("VD-BND-021"), "{error}");
}
