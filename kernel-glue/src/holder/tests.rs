//! Holders below a temporary directory with the layout of `/proc` and sysfs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::reader::tests::{GPU_DIR, host};

const GPU: &str = "0009:01:00.0";
const DRIVER: &str = "sys/bus/pci/drivers/nvidia";

fn put(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("parent")).expect("directory");
    fs::write(path, content).expect("file");
}

/// A process with these descriptors, from 3 on.
fn process(root: &Path, id: u32, command: &str, cgroup: &str, targets: &[&str]) {
    put(root, &format!("proc/{id}/cmdline"), command);
    put(root, &format!("proc/{id}/comm"), "short\n");
    put(
        root,
        &format!("proc/{id}/cgroup"),
        &format!("0::{cgroup}\n"),
    );
    put(root, &format!("proc/{id}/maps"), "");
    symlink("/usr/bin/program", root.join(format!("proc/{id}/exe"))).expect("link");
    let dir = root.join(format!("proc/{id}/fd"));
    fs::create_dir_all(&dir).expect("directory");
    for (number, target) in (3..).zip(targets) {
        symlink(target, dir.join(number.to_string())).expect("link");
    }
}

/// A GPU on `nvidia` with minor 2, and another GPU on the same driver.
fn scene() -> tempfile::TempDir {
    let dir = host();
    let information = "Model: \t\t GH200\nDevice Minor: \t 2\nGPU Excluded:\t No\n";
    let gpu = "proc/driver/nvidia/gpus/0009:01:00.0";
    put(dir.path(), &format!("{gpu}/information"), information);
    for device in [GPU, "0019:01:00.0", "new_id"] {
        put(dir.path(), &format!("{DRIVER}/{device}"), "");
    }
    dir
}

fn holders(dir: &Path) -> Holders {
    let root = Root::new(dir.to_owned()).expect("root");
    Holders::read(&root, GPU.parse().expect("address")).expect("holders")
}

fn sentences(dir: &Path) -> Vec<String> {
    holders(dir).found.iter().map(Holder::to_string).collect()
}

#[test]
fn a_service_is_named_with_its_process_unit_and_descriptor() {
    let dir = scene();
    let command = "/usr/bin/nvidia-persistenced\0--user\0nvpd\0";
    let unit = "/system.slice/nvidia-persistenced.service";
    process(
        dir.path(),
        2211,
        command,
        unit,
        &["/dev/null", "/dev/nvidia2"],
    );
    process(
        dir.path(),
        7,
        "/sbin/init\0",
        "/init.scope",
        &["/dev/nvidia1", "socket:[12]"],
    );
    assert_eq!(
        sentences(dir.path()),
        ["nvidia-persistenced (pid 2211, nvidia-persistenced.service, '/dev/nvidia2' as fd 4)"]
    );
}

#[test]
fn a_guest_is_found_by_group_and_by_device_node_also_when_they_were_removed() {
    let dir = scene();
    fs::create_dir_all(dir.path().join(GPU_DIR).join("vfio-dev/vfio4")).expect("directory");
    let scope = "/machine.slice/machine-qemu\\x2d1\\x2dd0.scope/libvirt/emulator";
    let held = [
        "/dev/vfio/7 (deleted)",
        "/dev/vfio/devices/vfio4",
        "/dev/vfio/vfio",
    ];
    process(
        dir.path(),
        9,
        "/usr/bin/qemu-system-aarch64\0-name\0",
        scope,
        &held,
    );
    let found = holders(dir.path()).found;
    let paths: Vec<&str> = found[0]
        .nodes
        .iter()
        .map(|node| node.path.as_str())
        .collect();
    assert_eq!(paths, ["/dev/vfio/7", "/dev/vfio/devices/vfio4"]);
    let unit = found[0].unit.as_deref();
    assert_eq!(unit, Some("machine-qemu\\x2d1\\x2dd0.scope"));
}

#[test]
fn device_open_after_its_group_was_closed_is_held() {
    let dir = scene();
    for (id, device) in [(5, GPU), (6, "0019:01:00.0")] {
        process(dir.path(), id, "dpdk\0", "/", &["anon_inode:[vfio-device]"]);
        let text = format!("pos:\t0\nvfio-device-syspath: /sys/devices/pci0009:00/{device}\n");
        put(dir.path(), &format!("proc/{id}/fdinfo/3"), &text);
    }
    process(dir.path(), 7, "old\0", "/", &["anon_inode:[vfio-device]"]);
    let printed = ["dpdk (pid 5, 'anon_inode:[vfio-device]' as fd 3)"];
    assert_eq!(sentences(dir.path()), printed);
}

#[test]
fn a_node_that_is_only_mapped_is_held() {
    let dir = scene();
    process(dir.path(), 5, "/opt/a.out\0", "/", &[]);
    let maps = "7f00-7f01 r--p 00000000 08:01 12 /usr/lib/libc.so\n\
                7f02-7f03 rw-s 00000000 00:05 99                         /dev/nvidia2\n\
                7f04-7f05 rw-s 00000000 00:05 99                         /dev/nvidia2\n";
    put(dir.path(), "proc/5/maps", maps);
    assert_eq!(
        sentences(dir.path()),
        ["a.out (pid 5, '/dev/nvidia2' mapped)"]
    );
}

#[test]
fn a_node_of_all_gpus_is_certain_only_where_there_is_one() {
    let dir = scene();
    process(
        dir.path(),
        5,
        "cuda\0",
        "/",
        &["/dev/nvidia-uvm", "/dev/nvidia-caps/nvidia-cap1"],
    );
    assert!(!holders(dir.path()).found[0].is_certain());
    fs::remove_file(dir.path().join(DRIVER).join("0019:01:00.0")).expect("removed");
    assert!(holders(dir.path()).found[0].is_certain());
    let link = dir.path().join(GPU_DIR).join("driver");
    fs::remove_file(&link).expect("removed");
    symlink("../../../../bus/pci/drivers/vfio-pci", link).expect("link");
    assert!(holders(dir.path()).found.is_empty(), "on another driver");
}

#[test]
fn drm_nodes_and_the_compute_node_of_amdgpu_are_held() {
    let dir = scene();
    let gpu = dir.path().join(GPU_DIR);
    fs::create_dir_all(gpu.join("drm/renderD128")).expect("directory");
    fs::remove_file(gpu.join("driver")).expect("removed");
    symlink("../../../../bus/pci/drivers/amdgpu", gpu.join("driver")).expect("link");
    process(
        dir.path(),
        5,
        "Xorg\0",
        "/",
        &["/dev/dri/renderD129", "/dev/dri/renderD128"],
    );
    process(dir.path(), 6, "rocm-smi\0", "/", &["/dev/kfd"]);
    assert_eq!(
        sentences(dir.path()),
        [
            "Xorg (pid 5, '/dev/dri/renderD128' as fd 4)",
            "rocm-smi (pid 6, '/dev/kfd' as fd 3)"
        ]
    );
}

#[test]
fn a_process_that_ended_is_no_error_and_one_that_is_hidden_is_counted() {
    let dir = scene();
    fs::create_dir_all(dir.path().join("proc/5")).expect("a process without files");
    put(dir.path(), "proc/6/fd", "no directory");
    symlink("/usr/bin/program", dir.path().join("proc/6/exe")).expect("link");
    let holders = holders(dir.path());
    assert_eq!(
        (holders.found.len(), holders.hidden, holders.seen),
        (0, 1, 2)
    );
}

#[test]
fn mappings_are_searched_only_for_nodes_that_can_be_mapped() {
    let dir = scene();
    let driver = dir.path().join(GPU_DIR).join("driver");
    fs::remove_file(&driver).expect("on nvidia before");
    symlink("../../bus/pci/drivers/vfio-pci", &driver).expect("link");
    let map = |node: &str| {
        process(dir.path(), 5, "vmm\0", "/", &["/dev/null"]);
        let line = format!("7f00-7f01 rw-s 0 00:05 9 {node}\n");
        put(dir.path(), "proc/5/maps", &line);
        let found = sentences(dir.path());
        fs::remove_dir_all(dir.path().join("proc/5")).expect("gone");
        found
    };
    assert_eq!(map("/dev/vfio/7"), [""; 0]);
    fs::create_dir_all(dir.path().join(GPU_DIR).join("vfio-dev/vfio4")).expect("directory");
    let node = "/dev/vfio/devices/vfio4";
    assert_eq!(map(node), [format!("vmm (pid 5, '{node}' mapped)")]);
}

#[test]
fn a_recorded_host_shows_no_process_at_all() {
    assert_eq!(holders(scene().path()), Holders::default());
}

#[test]
fn names_are_bounded_and_printable() {
    let dir = scene();
    let long = format!("/x/{}\u{1b}[31m", "a".repeat(500));
    process(
        dir.path(),
        5,
        &long,
        "/system.slice/\u{1b}.service",
        &["/dev/nvidia2"],
    );
    process(
        dir.path(),
        6,
        "",
        "/user.slice/user-0.slice/session-2.scope/x.service",
        &["/dev/nvidia2"],
    );
    let found = holders(dir.path()).found;
    assert_eq!(found[0].command, "a".repeat(64));
    assert_eq!(found[0].unit, None);
    assert_eq!(
        (found[1].command.as_str(), found[1].unit.as_deref()),
        ("short", Some("session-2.scope"))
    );
}

#[test]
fn an_old_cgroup_hierarchy_names_the_unit_too() {
    let dir = scene();
    process(dir.path(), 5, "a\0", "/", &["/dev/nvidia2"]);
    let text = "12:pids:/x.service\n1:name=systemd:/system.slice/a.service\n0::/\n";
    put(dir.path(), "proc/5/cgroup", text);
    assert_eq!(
        holders(dir.path()).found[0].unit.as_deref(),
        Some("a.service")
    );
}

#[test]
fn the_kernels_own_proc_shows_what_this_process_has_open_and_mapped() {
    let root = Root::new("/".into()).expect("root");
    let id = std::process::id();
    let found = |path: &Path| {
        let nodes = Nodes::of(&[path.to_string_lossy().into_owned()]);
        process::holder(&root, id, &nodes).expect("own process")
    };
    let file = tempfile::NamedTempFile::new().expect("file");
    let holder = found(file.path()).expect("it is open");
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
    assert_eq!(
        holder.nodes[0].descriptor.map(i64::from),
        Some(descriptor.into())
    );
    let program = std::env::current_exe().expect("program");
    let holder = found(&program).expect("it is mapped");
    assert_eq!((holder.process, holder.nodes[0].descriptor), (id, None));
    let name = program.file_name().expect("name").to_string_lossy();
    assert!(name.starts_with(&holder.command), "{}", holder.command);
    assert_eq!(found(Path::new("/dev/vfio/4096")), None);
}

#[test]
fn processes_with_memory_of_a_node_are_found_by_their_numa_maps() {
    let dir = host();
    let maps = [
        (11, "7f0 default anon=3 N0=2 N4=1 kernelpagesize_kB=64\n"),
        (12, "7f0 default anon=3 N0=2 N40=1 kernelpagesize_kB=64\n"),
        (13, "7f0 default file=/tmp/\\040N4=1 mapped=1 N0=1\n"),
        (14, "7f0 default N0=1\n7f1 bind:4 anon=512 N4=512\n"),
    ];
    for (id, text) in maps {
        let cgroup = "/system.slice/train.service";
        process(dir.path(), id, "/usr/bin/python3\0train\0", cgroup, &[]);
        put(dir.path(), &format!("proc/{id}/numa_maps"), text);
    }
    let cgroup = "/system.slice/other.service";
    process(dir.path(), 15, "/usr/bin/other\0", cgroup, &[]);
    let root = Root::new(dir.path().to_owned()).expect("root");
    let users = Holders::of_memory(&root, 4.try_into().expect("node")).expect("users");
    let names: Vec<String> = users.found.iter().map(Holder::to_string).collect();
    let train = |id: u32| format!("python3 (pid {id}, train.service)");
    assert_eq!(names, [train(11), train(14)]);
    assert_eq!(
        (users.seen, users.hidden),
        (5, 0),
        "a process without the file has ended"
    );
}
