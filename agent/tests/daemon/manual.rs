//! `variantctl bind`, `release` and `recover` with the real agent, on a recorded host: reads and refusals. Its files do
//! not act on writes; those are tested on the modelled kernel.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use agent::bind_limit::BindLimits;
use agent::child::InChild;
use kernel_glue::kernel::Kernel;
use kernel_glue::live::Live;
use nix::errno::Errno;
use tests::program;

use crate::scene::Scene;

const GPU: &str = "0009:01:00.0";

#[test]
fn a_dry_run_prints_the_writes_and_changes_nothing() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    let file = format!("host/sys/bus/pci/devices/{GPU}/driver_override");
    let before = fs::read_to_string(scene.path(&file)).expect("override");
    let printed = scene.says(&["bind", "--dry-run", "--driver", "vfio-pci", GPU]);
    let devices = format!("/sys/bus/pci/devices/{GPU}/driver_override");
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[0], format!("{devices} <- vfio-pci"));
    let last = lines.last().expect("a line");
    assert_eq!(
        *last,
        format!("/sys/bus/pci/drivers/vfio-pci/bind <- {GPU}")
    );
    let after = fs::read_to_string(scene.path(&file)).expect("override");
    assert_eq!(before, after);
    let printed = scene.says(&["recover"]);
    assert_eq!(printed, "no device has an interrupted change\n");
    let printed = scene.says(&["release", GPU]);
    assert!(printed.contains("was not bound by variantd"), "{printed}");
}

#[test]
fn each_mistake_has_its_exit_status() {
    let scene = Scene::new();
    assert_eq!(scene.fails(&["bind", GPU]).0, 4);
    let mut agent = scene.start();
    agent.says("serves");
    let (status, printed) = scene.fails(&["bind", "0000:00:1f.0"]);
    assert_eq!(status, 3, "{printed}");
    assert!(printed.contains("VD-DEV-001"), "{printed}");
    assert_eq!(scene.fails(&["bind", "gpu"]).0, 2);
    assert_eq!(scene.fails(&["bind", "--driver", "../x", GPU]).0, 2);
    // Neither its module nor that of another driver that is not for the device is loaded.
    let modprobe = scene.path("asked");
    let script = format!("#!/bin/sh\necho \"$@\" >> {}\nexit 1\n", modprobe.display());
    scene.program("host/usr/sbin/modprobe", &script);
    for driver in ["floppy", "sctp", "no_such"] {
        for verb in ["bind", "reserve"] {
            let (status, printed) = scene.fails(&[verb, "--driver", driver, GPU]);
            assert_eq!(status, 1, "{printed}");
            assert!(printed.contains("VD-BND-033"), "{printed}");
        }
        scene.write(
            &format!("reserved.d/{GPU}.toml"),
            &format!("device = \"{GPU}\"\nid = \"10de:2342\"\ndriver = \"{driver}\"\n"),
        );
        let (success, log) = crate::reserve::boot(&scene);
        assert!(!success && log.contains("VD-BND-033"), "{log}");
        assert!(!modprobe.exists());
    }
    let (status, printed) = scene.fails(&["bind", "--driver", "mlx5_vfio_pci", GPU]);
    assert_eq!(status, 1, "{printed}");
    assert!(printed.contains("VD-BND-001"), "{printed}");
    let asked = fs::read_to_string(modprobe).expect("asked");
    assert!(asked.contains("-- mlx5_vfio_pci"), "{asked}");
}

#[test]
fn a_module_that_hangs_is_given_up_and_not_asked_for_again_until_it_has_ended() {
    let scene = Scene::new();
    let asked = scene.path("asked");
    let script = format!(
        "#!/bin/sh\necho $$ >> {asked}\nwhile [ ! -e {asked}.end ]; do sleep 0.02; done\nexit 1\n",
        asked = asked.display()
    );
    scene.program("host/usr/sbin/modprobe", &script);
    let root = scene.path("host");
    let live = Live::new(root.clone()).expect("root");
    let program = env!("CARGO_BIN_EXE_variantd-child").into();
    let limits = Box::new(BindLimits::default);
    let kernel = InChild::new(live, root, program, limits).with_loading(Duration::from_millis(300));
    let count = || fs::read_to_string(&asked).map_or(0, |text| text.lines().count());
    let load = || kernel.load_module("vfio-pci");
    assert_eq!(load(), Err(Errno::ETIMEDOUT));
    assert_eq!(load(), Err(Errno::ETIMEDOUT));
    // On a busy host, the hanging program may start only after both calls have given up.
    let until = Instant::now() + Duration::from_secs(30);
    while count() == 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(count(), 1, "it is not asked for on top");
    fs::write(format!("{}.end", asked.display()), "").expect("the end");
    let until = Instant::now() + Duration::from_secs(30);
    // Each load may time out on a busy host, also one that follows a load in time.
    let mut last = load();
    while last == Err(Errno::ETIMEDOUT) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
        last = load();
    }
    assert_eq!(last, Err(Errno::EIO));
    assert!(count() > 1);
}

#[test]
fn only_the_agent_and_who_asks_libvirt_load_its_libraries() {
    let needs_libvirt = |program: &Path| {
        let bytes = fs::read(program).expect("a program");
        bytes.windows(11).any(|part| part == b"libvirt.so.")
    };
    assert!(needs_libvirt(env!("CARGO_BIN_EXE_variantd").as_ref()));
    assert!(needs_libvirt(&program::built("ctl", "variantd-libvirt")));
    assert!(!needs_libvirt(
        env!("CARGO_BIN_EXE_variantd-child").as_ref()
    ));
    assert!(!needs_libvirt(&program::built("ctl", "variantctl")));
}
