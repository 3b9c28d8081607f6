//! The live kernel below a temporary directory with the layout of sysfs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

const GPU: &str = "0009:01:00.0";
const GPU_DIR: &str = "sys/devices/pci0009:00/0009:00:00.0/0009:01:00.0";

fn scene() -> (tempfile::TempDir, Live, PciAddress) {
    let dir = tempfile::tempdir().expect("scratch directory");
    let root = dir.path();
    put(root, &format!("{GPU_DIR}/driver_override"), "(null)\n");
    fs::create_dir_all(root.join(DEVICES)).expect("directory");
    let target = "../../../devices/pci0009:00/0009:00:00.0/0009:01:00.0";
    symlink(target, root.join(DEVICES).join(GPU)).expect("link");
    symlink(
        "../../../../kernel/iommu_groups/12",
        root.join(GPU_DIR).join("iommu_group"),
    )
    .expect("link");
    put(root, "sys/bus/pci/drivers/vfio-pci/bind", "");
    put(root, "sys/bus/pci/drivers/nvgrace_gpu_vfio_pci/bind", "");
    let live = Live::new(root.to_owned()).expect("root");
    (dir, live, GPU.parse().expect("address"))
}

fn put(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("parent")).expect("directory");
    fs::write(path, content).expect("file");
}

fn descriptor(root: &Path, process: u32, target: &str) {
    let dir = root.join(format!("proc/{process}/fd"));
    fs::create_dir_all(&dir).expect("directory");
    let number = fs::read_dir(&dir).expect("directory").count();
    symlink(target, dir.join(number.to_string())).expect("link");
}

#[test]
fn override_is_written_unchanged_and_cleared_with_a_newline() {
    let (dir, live, gpu) = scene();
    let file = dir.path().join(GPU_DIR).join("driver_override");
    live.write(&Attribute::Override(gpu), "nvgrace_gpu_vfio_pci")
        .expect("set");
    let set = fs::read_to_string(&file).expect("file");
    assert!(set.starts_with("nvgrace_gpu_vfio_pci"));
    fs::write(&file, "").expect("emptied");
    live.write(&Attribute::Override(gpu), "").expect("cleared");
    assert_eq!(fs::read_to_string(&file).expect("file"), "\n");
}

#[test]
fn write_refuses_an_attribute_that_is_a_link() {
    let (dir, live, _) = scene();
    put(dir.path(), "victim", "intact");
    let link = dir.path().join("sys/bus/pci/drivers/vfio-pci/unbind");
    symlink("../../../../../victim", link).expect("link");
    let driver: DriverName = "vfio-pci".parse().expect("name");
    assert_eq!(
        live.write(&Attribute::Unbind(driver), GPU),
        Err(Errno::ELOOP)
    );
    let victim = fs::read_to_string(dir.path().join("victim")).expect("victim");
    assert_eq!(victim, "intact");
}

#[test]
fn write_does_not_create_a_missing_attribute() {
    let (dir, live, _) = scene();
    assert_eq!(live.write(&Attribute::Probe, GPU), Err(Errno::ENOENT));
    assert!(!dir.path().join("sys/bus/pci/drivers_probe").exists());
}

#[test]
fn the_driver_is_what_the_link_names() {
    let (dir, live, gpu) = scene();
    assert_eq!(live.driver(gpu), Ok(None));
    let link = dir.path().join(GPU_DIR).join("driver");
    symlink("../../../../bus/pci/drivers/vfio-pci", link).expect("link");
    let driver = live.driver(gpu).expect("driver").expect("bound");
    assert_eq!(driver.as_str(), "vfio-pci");
}

#[test]
fn removed_device_has_no_driver_and_no_override() {
    let (_dir, live, _) = scene();
    let gone = "0000:00:00.0".parse().expect("address");
    assert_eq!(live.driver(gone), Err(Errno::ENODEV));
    assert_eq!(live.driver_override(gone), Err(Errno::ENODEV));
    assert_eq!(live.vfio_users(gone), Err(Errno::ENODEV));
}

#[test]
fn only_a_missing_name_means_that_a_device_or_driver_was_removed() {
    let (dir, live, gpu) = scene();
    let loops = |path: &str| {
        let path = dir.path().join(path);
        let _ = fs::remove_file(&path);
        symlink(path.file_name().expect("a name"), &path).expect("link");
    };
    // The kernel returns ELOOP here, as it returns EMFILE to a process without free descriptors.
    loops(&format!("{DEVICES}/{GPU}"));
    assert_eq!(live.driver(gpu), Err(Errno::ELOOP));
    assert_eq!(live.driver_override(gpu), Err(Errno::ELOOP));
    assert_eq!(live.vfio_users(gpu), Err(Errno::ELOOP));
    loops("sys/bus/pci/drivers/nvidia");
    assert_eq!(live.registered("nvidia"), Err(Errno::ELOOP));
    put(dir.path(), "sys/module/vfio/parameters/other", "");
    loops("sys/module/vfio/parameters/enable_unsafe_noiommu_mode");
    assert_eq!(live.is_unconfined(gpu), Err(Errno::ELOOP));
    let without_sysfs = tempfile::tempdir().expect("directory");
    let live = Live::new(without_sysfs.path().to_owned()).expect("root");
    assert_eq!(live.driver(gpu), Err(Errno::ENOENT));
}

/// A device that was bound in no-IOMMU mode has a group, too, and keeps it when the mode is switched off.
#[test]
fn a_group_of_no_iommu_mode_confines_nothing() {
    let (dir, live, gpu) = scene();
    let root = dir.path();
    let link = root.join(GPU_DIR).join("iommu_group");
    assert_eq!(live.is_unconfined(gpu), Ok(false));
    let switch = "sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
    put(root, switch, "Y\n");
    assert_eq!(live.is_unconfined(gpu), Ok(false), "it has an IOMMU");
    descriptor(root, 77, "/dev/vfio/noiommu-12");
    assert_eq!(live.vfio_users(gpu), Ok(Vec::new()));
    put(root, "sys/kernel/iommu_groups/12/name", "vfio-noiommu\n");
    put(root, switch, "N\n");
    assert_eq!(live.is_unconfined(gpu), Ok(true));
    assert_eq!(
        live.vfio_users(gpu),
        Ok(vec![77]),
        "its node has another name"
    );
    fs::remove_file(link).expect("a link");
    assert_eq!(live.is_unconfined(gpu), Ok(false), "VFIO refuses it");
    put(root, switch, "Y\n");
    assert_eq!(live.is_unconfined(gpu), Ok(true));
}

#[test]
fn a_module_is_listed_for_a_device_by_its_own_name_or_its_drivers() {
    let (dir, live, gpu) = scene();
    let modalias = "pci:v000010DEd00002342sv000010DEsd000016EBbc03sc02i00\n";
    put(dir.path(), &format!("{GPU_DIR}/modalias"), modalias);
    put(dir.path(), "proc/sys/kernel/osrelease", "7.2.0\n");
    let lists = |name: &str| live.lists(gpu, &name.parse().expect("name"));
    assert_eq!(lists("nvidia"), Ok(false), "there is no list");
    let aliases = "alias pci:v000010DEd*sv*sd*bc03sc02i00* nvidia\nalias pci:v*d*sv*sd*bc0Csc03i30* xhci_pci\n\
                   alias vfio_pci:v000010DEd00002342sv*sd*bc*sc*i* nvgrace_gpu_vfio_pci\nalias block-major-2-* floppy\n";
    put(dir.path(), "lib/modules/7.2.0/modules.alias", aliases);
    assert_eq!(lists("nvidia"), Ok(true));
    assert_eq!(lists("nvgrace-gpu-vfio-pci"), Ok(true));
    assert_eq!(lists("floppy"), Ok(false));
    assert_eq!(lists("xhci_hcd"), Ok(false));
    put(dir.path(), "sys/bus/pci/drivers/nv/bind", "");
    let link = dir.path().join("sys/bus/pci/drivers/nv/module");
    symlink("../../../../module/nvidia", link).expect("link");
    assert_eq!(lists("nv"), Ok(true));
    let other = "0000:00:00.0".parse().expect("address");
    let nvidia = "nvidia".parse().expect("name");
    assert_eq!(live.lists(other, &nvidia), Err(Errno::ENODEV));
}

#[test]
fn a_driver_is_found_by_its_name_or_its_modules_name() {
    let (dir, live, _) = scene();
    let found = |name| {
        let driver = live.registered(name).expect("looked up");
        driver.map(|driver| driver.to_string())
    };
    assert_eq!(found("vfio-pci").as_deref(), Some("vfio-pci"));
    assert_eq!(
        found("nvgrace-gpu-vfio-pci").as_deref(),
        Some("nvgrace_gpu_vfio_pci")
    );
    assert_eq!(found("vfio_pci"), None);
    let drivers = dir.path().join("sys/module/vfio_pci/drivers");
    fs::create_dir_all(&drivers).expect("directory");
    symlink(
        "../../../bus/pci/drivers/vfio-pci",
        drivers.join("pci:vfio-pci"),
    )
    .expect("link");
    assert_eq!(found("vfio_pci").as_deref(), Some("vfio-pci"));
    assert_eq!(found("../vfio-pci"), None);
}

#[test]
fn a_module_is_loaded_when_its_driver_is_not_registered() {
    let (_dir, live, _) = scene();
    let live = live.with_modprobe("/bin/false".into());
    assert_eq!(live.load_module("vfio-pci"), Ok(()));
    assert_eq!(live.load_module("mlx5_vfio_pci"), Err(Errno::EIO));
    let live = live.with_modprobe("/bin/true".into());
    assert_eq!(live.load_module("mlx5_vfio_pci"), Ok(()));
    let live = live.with_modprobe("/nowhere/modprobe".into());
    assert_eq!(live.load_module("mlx5_vfio_pci"), Err(Errno::ENOENT));
}

#[test]
fn invalid_module_name_is_not_passed_to_modprobe() {
    let (_dir, live, _) = scene();
    let live = live.with_modprobe("/bin/true".into());
    for name in ["", "a b", "../a", "a;b", "a.ko"] {
        assert_eq!(live.load_module(name), Err(Errno::EINVAL), "{name:?}");
    }
}

#[test]
fn a_missing_module_differs_from_one_that_fails() {
    let missing = b"modprobe: FATAL: Module x not found in directory /lib/modules/7";
    assert_eq!(verdict(false, missing), Err(Errno::ENOENT));
    let failing = b"modprobe: ERROR: could not insert 'x': Invalid argument";
    assert_eq!(verdict(false, failing), Err(Errno::EIO));
}

#[test]
fn process_with_the_group_or_device_open_is_a_user() {
    let (dir, live, gpu) = scene();
    fs::create_dir_all(dir.path().join(GPU_DIR).join("vfio-dev/vfio3")).expect("directory");
    for (process, target) in [
        (400, "/dev/vfio/12"),
        (30, "/dev/vfio/devices/vfio3"),
        (31, "/dev/vfio/12 (deleted)"),
        (5, "/dev/vfio/vfio"),
        (6, "/dev/vfio/1"),
        (7, "/dev/vfio/devices/vfio30"),
    ] {
        descriptor(dir.path(), process, "/dev/null");
        descriptor(dir.path(), process, target);
    }
    put(dir.path(), "proc/meminfo", "");
    fs::create_dir_all(dir.path().join("proc/8")).expect("a process that has just gone");
    assert_eq!(live.vfio_users(gpu), Ok(vec![30, 31, 400]));
}

#[test]
fn process_with_only_the_device_open_is_a_user() {
    let (dir, live, gpu) = scene();
    descriptor(dir.path(), 9, "anon_inode:[vfio-device]");
    assert_eq!(live.vfio_users(gpu), Ok(Vec::new()));
    let number = fs::read_dir(dir.path().join("proc/9/fd")).expect("descriptors");
    for number in number.flatten().map(|entry| entry.file_name()) {
        let path = format!("proc/9/fdinfo/{}", number.to_string_lossy());
        let text = format!("vfio-device-syspath: /sys/devices/{GPU}\n");
        put(dir.path(), &path, &text);
    }
    assert_eq!(live.vfio_users(gpu), Ok(vec![9]));
}

#[test]
fn hidden_process_counts_as_a_possible_user() {
    let (dir, live, gpu) = scene();
    put(dir.path(), "proc/9/fd", "no directory");
    assert_eq!(live.vfio_users(gpu), Err(Errno::ENOTDIR));
    descriptor(dir.path(), 10, "/dev/vfio/12");
    assert_eq!(live.vfio_users(gpu), Ok(vec![10]));
}

#[test]
fn the_unbind_lock_is_read_and_written_where_there_is_one() {
    let (dir, live, gpu) = scene();
    assert_eq!(live.unbind_lock(gpu), Ok(None));
    assert_eq!(
        live.write(&Attribute::UnbindLock(gpu), "1"),
        Err(Errno::ENOENT)
    );
    let file = format!("proc/driver/nvidia/gpus/{GPU}/unbindLock");
    put(dir.path(), &file, "0\n");
    assert_eq!(live.unbind_lock(gpu), Ok(Some(false)));
    live.write(&Attribute::UnbindLock(gpu), "1").expect("taken");
    assert_eq!(live.unbind_lock(gpu), Ok(Some(true)));
}
