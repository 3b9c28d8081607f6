//! Checks before a device is opened, below a temporary directory with the layout of sysfs.
//!
//! Plain files replace VFIO's nodes: each test ends at the first ioctl, which they refuse.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::firmware::TABLES;
use crate::live::Live;

const GPU: &str = "0009:01:00.0";
const GPU_DIR: &str = "sys/devices/pci0009:00/0009:01:00.0";
const NO_VFIO: &str = "not a typewriter";

struct Scene {
    root: tempfile::TempDir,
    live: Live,
    gpu: PciAddress,
}

/// A Grace GPU on `driver` in group 12, not open, with firmware that names its memory.
fn scene(driver: &str) -> Scene {
    let root = tempfile::tempdir().expect("scratch directory");
    let path = root.path();
    for (file, content) in [("vendor", "0x10de\n"), ("device", "0x2342\n")] {
        put(path, &format!("{GPU_DIR}/{file}"), content);
    }
    put(path, "sys/kernel/iommu_groups/12/type", "DMA\n");
    link(
        path,
        &format!("{DEVICES}/{GPU}"),
        "../../../devices/pci0009:00/0009:01:00.0",
    );
    link(
        path,
        &format!("{GPU_DIR}/iommu_group"),
        "../../../kernel/iommu_groups/12",
    );
    link(
        path,
        &format!("{GPU_DIR}/driver"),
        &format!("../../../bus/pci/drivers/{driver}"),
    );
    put(
        path,
        &format!("{TABLES}/SSDT2"),
        "..\rnvidia,gpu-mem-size\0..",
    );
    for file in ["dev/vfio/vfio", "dev/vfio/12", "proc/1/fd/none"] {
        put(path, file, "");
    }
    fs::create_dir_all(path.join(GPU_DIR).join("vfio-dev/vfio0")).expect("directory");
    let live = Live::new(path.to_owned()).expect("root");
    let gpu = GPU.parse().expect("address");
    Scene { root, live, gpu }
}

fn put(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("parent")).expect("directory");
    fs::write(path, content).expect("file");
}

fn link(root: &Path, path: &str, target: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("parent")).expect("directory");
    symlink(target, path).expect("link");
}

impl Scene {
    fn path(&self) -> &Path {
        self.root.path()
    }

    fn error(&self) -> RegionError {
        self.live.regions(self.gpu).expect_err("no device to open")
    }

    fn remove(&self, path: &str) {
        let path = self.path().join(path);
        if path.is_dir() {
            fs::remove_dir_all(path).expect("removed");
        } else {
            fs::remove_file(path).expect("removed");
        }
    }
}

#[test]
fn a_device_on_no_vfio_driver_is_not_opened() {
    let scene = scene("nvidia");
    scene.remove(&format!("{GPU_DIR}/vfio-dev"));
    let text = scene.error().to_string();
    assert_eq!(
        text,
        "it is bound to 'nvidia'; only a VFIO driver reports regions"
    );
    scene.remove(&format!("{GPU_DIR}/driver"));
    assert_eq!(scene.error(), RegionError::NotVfio(None));
}

#[test]
fn atomics_query_does_the_same_checks_before_the_open() {
    let scene = scene(NVGRACE);
    link(scene.path(), "proc/4711/fd/9", "/dev/vfio/12");
    let in_use = scene.live.atomics(scene.gpu);
    assert_eq!(in_use, Err(RegionError::InUse(vec![4711])));
    scene.remove("proc/4711/fd/9");
    let opened = scene.live.atomics(scene.gpu).expect_err("no device");
    assert!(opened.to_string().contains(NO_VFIO), "{opened}");
}

#[test]
fn regions_of_a_removed_device_report_enodev() {
    let scene = scene(NVGRACE);
    scene.remove(&format!("{DEVICES}/{GPU}"));
    let text = scene.error().to_string();
    assert!(
        text.contains("the driver of '0009:01:00.0': no such device"),
        "{text}"
    );
}

#[test]
fn regions_report_the_users_before_the_open() {
    let scene = scene(NVGRACE);
    link(scene.path(), "proc/4711/fd/9", "/dev/vfio/12");
    scene.remove("dev");
    assert_eq!(scene.error(), RegionError::InUse(vec![4711]));
}

#[test]
fn a_grace_gpu_is_not_opened_where_the_firmware_names_no_memory() {
    let scene = scene(NVGRACE);
    put(
        scene.path(),
        &format!("{TABLES}/SSDT2"),
        "nvidia,gpu-mem-siz",
    );
    assert_eq!(scene.error(), RegionError::MemoryUnnamed);
    put(
        scene.path(),
        &format!("{TABLES}/dynamic/SSDT9"),
        "nvidia,gpu-mem-size\0",
    );
    assert!(scene.error().to_string().contains(NO_VFIO));
}

#[test]
fn firmware_memory_is_unknown_if_tables_are_unreadable() {
    let scene = scene(NVGRACE);
    let root = || Root::new(scene.path().to_owned()).expect("root");
    assert_eq!(names_memory(&root()), Some(true));
    scene.remove(TABLES);
    assert_eq!(names_memory(&root()), None);
    put(scene.path(), &format!("{TABLES}/DSDT"), "no such property");
    assert_eq!(names_memory(&root()), Some(false));
    put(
        scene.path(),
        &format!("{TABLES}/SSDT1/below"),
        "a directory",
    );
    assert_eq!(names_memory(&root()), None);
}

#[test]
fn device_of_another_driver_is_opened_without_firmware_memory() {
    let scene = scene("vfio-pci");
    scene.remove(TABLES);
    assert!(scene.error().to_string().contains(NO_VFIO));
}

#[test]
fn without_iommufd_the_group_is_opened() {
    let scene = scene(NVGRACE);
    let text = scene.error().to_string();
    assert!(
        text.contains("'/dev/vfio/12'") && text.contains(NO_VFIO),
        "{text}"
    );
}

#[test]
fn with_iommufd_the_character_device_is_opened() {
    let scene = scene(NVGRACE);
    put(
        scene.path(),
        &format!("{GPU_DIR}/vfio-dev/vfio0/dev"),
        "511:0\n",
    );
    put(scene.path(), "dev/vfio/devices/vfio0", "");
    assert!(
        scene.error().to_string().contains("'/dev/vfio/12'"),
        "no /dev/iommu"
    );
    put(scene.path(), "dev/iommu", "");
    let text = scene.error().to_string();
    assert!(
        text.contains("'/dev/vfio/devices/vfio0'") && text.contains(NO_VFIO),
        "{text}"
    );
}

#[test]
fn a_group_without_an_iommu_is_not_opened() {
    let scene = scene(NVGRACE);
    put(
        scene.path(),
        "sys/kernel/iommu_groups/12/name",
        "vfio-noiommu\n",
    );
    assert_eq!(scene.error(), RegionError::NoIommu);
    scene.remove(&format!("{GPU_DIR}/iommu_group"));
    assert_eq!(scene.error(), RegionError::NoIommu);
}

#[test]
fn driver_without_memory_region_has_fallen_back() {
    let scene = scene(NVGRACE);
    let line = |size: u64| match size {
        0 => "0x0 0x0 0x0\n".to_owned(),
        _ => format!(
            "0x{:x} 0x{:x} 0x14220c\n",
            1_u64 << 40,
            (1_u64 << 40) + size - 1
        ),
    };
    let own = [16 << 20, 0, 64 << 20, 0, 32 << 20, 0];
    let text: String = own.into_iter().map(line).collect();
    put(scene.path(), &format!("{GPU_DIR}/resource"), &text);
    let shown = |size| {
        let mut regions = Regions::default();
        regions[MEMORY].size = size;
        let root = Root::new(scene.path().to_owned()).expect("root");
        has_fallen_back(&root, scene.gpu, &regions)
    };
    assert_eq!(shown(32 << 20), Ok(true));
    assert_eq!(shown(128 << 30), Ok(false));
}

#[test]
fn error_is_unchanged_after_a_pipe() {
    for error in [
        RegionError::InUse(vec![1, 2]),
        RegionError::NotVfio("vfio-pci".parse().ok()),
        RegionError::kernel("open 'x'", Errno::ENOTTY),
        RegionError::Busy,
    ] {
        let sent: Result<Regions, RegionError> = Err(error);
        let text = serde_json::to_string(&sent).expect("text");
        assert_eq!(
            serde_json::from_str::<Result<Regions, RegionError>>(&text).ok(),
            Some(sent)
        );
    }
}
