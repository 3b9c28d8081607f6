//! The real sidecar with a client that acts as virt-launcher: it lists the socket directory, calls `Info`, takes the newest
//! common version and calls `OnDefineDomain`, each with its time limit.

mod golden;
mod launcher;
mod node;
mod plugin;
mod scene;
mod shim;

use launcher::Launcher;
use scene::{GB200, Scene, VMI, domain, program, round_trip, unmarked};

const GRACE: [&str; 1] = ["0009:01:00.0"];
const FOUR: [&str; 4] = GB200;

#[tokio::test]
async fn virt_launcher_finds_it_and_takes_the_newest_version() {
    let scene = Scene::of_host("gh200-1gpu");
    let launcher = Launcher::find(&scene.sockets()).await;
    assert_eq!(launcher.name, "variantd");
    assert_eq!(launcher.points, ["OnDefineDomain"]);
    assert_eq!(launcher.version, "v1alpha3");
    assert_eq!(launcher.versions, ["v1alpha3", "v1alpha2", "v1alpha1"]);
}

#[tokio::test]
async fn one_gpu_and_four_are_completed_and_three_defines_give_one_text() {
    for (host, devices, cells) in [("gh200-1gpu", &GRACE[..], 8), ("gb200-4gpu", &FOUR, 32)] {
        let scene = Scene::of_host(host);
        let launcher = Launcher::find(&scene.sockets()).await;
        let before = domain(devices);
        let first = launcher.define(&before).await.expect("completed");
        assert_eq!(first.matches("memory='0'").count(), cells, "{first}");
        assert_eq!(first.matches("<acpi nodeset=").count(), devices.len());
        for _ in 0..2 {
            let again = launcher.define(&before).await.expect("completed");
            assert_eq!(again, first, "the same define gives the same text");
            let twice = launcher.define(&first).await.expect("complete");
            assert_eq!(twice, first, "what was completed comes out as it went in");
        }
    }
}

#[tokio::test]
async fn every_version_gives_the_same() {
    let scene = Scene::of_host("gh200-1gpu");
    let mut launcher = Launcher::find(&scene.sockets()).await;
    let mut texts = Vec::new();
    for version in ["v1alpha1", "v1alpha2", "v1alpha3"] {
        launcher.version = version.to_owned();
        texts.push(launcher.define(&domain(&GRACE)).await.expect(version));
    }
    assert!(texts[0].contains("urn:variantd:1"));
    assert!(texts.iter().all(|text| *text == texts[0]));
}

#[tokio::test]
async fn a_guest_without_our_devices_is_not_touched_and_needs_no_snapshot() {
    let scene = Scene::without_snapshot();
    let launcher = Launcher::find(&scene.sockets()).await;
    let plain = domain(&[]);
    assert_eq!(launcher.define(&plain).await.expect("passed"), plain);
    let fault = launcher.define(&domain(&GRACE)).await.expect_err("refused");
    assert_eq!(fault.code(), tonic::Code::Unavailable);
    for part in ["VD-KVT-001", "VD-HST-001", "DaemonSet"] {
        assert!(fault.message().contains(part), "{}", fault.message());
    }
}

#[tokio::test]
async fn a_refusal_carries_code_and_message() {
    let scene = Scene::of_host("gh200-1gpu");
    let launcher = Launcher::find(&scene.sockets()).await;
    let other = launcher.define(&domain(&["0019:01:00.0"])).await;
    let other = other.expect_err("no such device");
    assert_eq!(other.code(), tonic::Code::FailedPrecondition);
    assert!(
        other.message().contains("VD-DEV-001"),
        "{}",
        other.message()
    );
    let broken = launcher.define("<domain").await.expect_err("no XML");
    assert_eq!(broken.code(), tonic::Code::InvalidArgument);
    assert!(broken.message().contains("VD-XML-"), "{}", broken.message());
    let vmi = launcher.define_for(&domain(&GRACE), "[]").await;
    let vmi = vmi.expect_err("no VMI");
    assert_eq!(vmi.code(), tonic::Code::InvalidArgument);
    assert!(vmi.message().contains("VD-KVT-002"), "{}", vmi.message());
}

#[tokio::test]
async fn what_kubevirt_did_is_kept_and_completed_or_contradicted_with_both_values() {
    let scene = Scene::of_host("gh200-1gpu");
    let launcher = Launcher::find(&scene.sockets()).await;
    let window = |kib: &str| {
        domain(&GRACE).replace(
            r#"<controller type="pci" index="0" model="pcie-root"></controller>"#,
            &format!(
                "<controller type='pci' index='0' model='pcie-root'><pcihole64 unit='KiB'>{kib}</pcihole64></controller>"
            ),
        )
    };
    let kept = launcher.define(&window("1073741824")).await.expect("kept");
    assert_eq!(kept.matches("<pcihole64").count(), 1);
    assert!(kept.contains("<pcihole64 unit='KiB'>1073741824</pcihole64>"));
    let small = launcher.define(&window("1048576")).await;
    let small = small.expect_err("too small");
    for part in ["VD-KVT-005", "VD-MEM-002", "KubeVirt wrote"] {
        assert!(small.message().contains(part), "{}", small.message());
    }
    let printed = scene.printed();
    assert!(printed.contains("VD-KVT-004"), "{printed}");
}

/// KubeVirt counts initiators from the host's first GPU, so the second socket's GPUs get distances of the first socket's.
#[tokio::test]
async fn distances_of_other_nodes_than_the_guests_are_refused_with_both_values() {
    let scene = Scene::of_host("gb200-4gpu");
    let launcher = Launcher::find(&scene.sockets()).await;
    let own = launcher.define(&domain(&GB200)).await.expect("completed");
    let own = unmarked(&own);
    launcher.define(&own).await.expect("they are the host's");
    // Cell 18 is the first initiator of 0018:01:00.0, which is far from cell 0.
    let (right, wrong) = (
        "<sibling id='18' value='120'/>",
        "<sibling id='18' value='80'/>",
    );
    assert!(own.contains(right), "{own}");
    let fault = launcher.define(&own.replacen(right, wrong, 1)).await;
    let fault = fault.expect_err("another distance");
    assert_eq!(fault.code(), tonic::Code::FailedPrecondition);
    for part in [
        "VD-KVT-005",
        "distance 80 from cell 0 to cell 18",
        "the host has 120",
    ] {
        assert!(fault.message().contains(part), "{}", fault.message());
    }
    // Without initiators of KubeVirt's a distance is the user's choice, as everywhere.
    let cpus = domain(&GB200);
    launcher.define(&cpus).await.expect("completed");
}

/// Without guestMappingPassthrough KubeVirt places no memory; with dedicated CPUs it pins processors.
#[tokio::test]
async fn distances_are_compared_by_pins_and_unknown_for_an_unbound_cell() {
    let scene = Scene::of_host("gb200-4gpu");
    let launcher = Launcher::find(&scene.sockets()).await;
    let own = launcher.define(&domain(&GB200)).await.expect("completed");
    let without = |text: &str, names: &[&str]| -> String {
        let stays = |line: &&str| !names.iter().any(|name| line.contains(name));
        text.split_inclusive('\n').filter(stays).collect()
    };
    let wrong = unmarked(&own).replacen(
        "<sibling id='18' value='120'/>",
        "<sibling id='18' value='80'/>",
        1,
    );
    let pinned = without(&wrong, &["<memnode", "<memory mode"]);
    let fault = launcher
        .define(&pinned)
        .await
        .expect_err("another distance");
    let printed = fault.message();
    assert!(
        printed.contains("VD-KVT-005") && printed.contains("the host has 120"),
        "{printed}"
    );
    let unbound = without(&pinned, &["<vcpupin"]);
    launcher.define(&unbound).await.expect("not comparable");
    let printed = scene.printed();
    assert!(
        printed.contains("VD-NUM-008") && printed.contains("cannot be compared"),
        "{printed}"
    );
}

#[tokio::test]
async fn what_kubevirts_round_trip_drops_is_added_again() {
    let scene = Scene::of_host("gb200-4gpu");
    let launcher = Launcher::find(&scene.sockets()).await;
    let completed = launcher.define(&domain(&GB200)).await.expect("completed");
    let tripped = round_trip(&completed);
    assert!(tripped.contains("<driver></driver>") && !tripped.contains("urn:variantd:1"));
    let again = launcher.define(&tripped).await.expect("completed again");
    for piece in ["model='nvgrace_gpu_vfio_pci'", "urn:variantd:1"] {
        let count = |text: &str| text.matches(piece).count();
        assert_eq!(count(&again), count(&completed), "{piece}: {again}");
    }
    assert_eq!(launcher.define(&again).await.expect("complete"), again);
    let printed = scene.printed();
    for part in [
        "VD-KVT-006",
        "driver name and model of <hostdev>",
        "metadata of variantd",
    ] {
        assert!(printed.contains(part), "{printed}");
    }
    assert!(!printed.contains("accel"), "it is kept: {printed}");
}

#[tokio::test]
async fn kubevirts_own_window_is_kept_for_its_own_libvirt() {
    let scene = Scene::of_target("gh200-1gpu", "libvirt=12.5,qemu=10.1");
    let launcher = Launcher::find(&scene.sockets()).await;
    let own = domain(&GRACE).replace(
        r#"<controller type="pci" index="0" model="pcie-root"></controller>"#,
        "<controller type='pci' index='0' model='pcie-root'><pcihole64 unit='KiB'>1073741824</pcihole64></controller>",
    );
    assert!(own.contains("<pcihole64"), "{own}");
    let kept = launcher.define(&own).await.expect("kept");
    assert!(kept.contains("<pcihole64 unit='KiB'>1073741824</pcihole64>"));
    assert!(!kept.contains("highmem-mmio-size"), "{kept}");
}

#[tokio::test]
async fn two_sidecars_of_one_pod_have_a_socket_each_and_a_dead_one_is_replaced() {
    let scene = Scene::of_host("gh200-1gpu");
    let (first, second) = (
        scene.sockets().join("variantd.sock"),
        scene.sockets().join("variantd-2.sock"),
    );
    Launcher::find(&scene.sockets()).await;
    let start = || {
        let mut other = program(scene.path());
        other.arg("--socket-dir").arg(scene.sockets());
        other
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("another sidecar")
    };
    let answers = async |socket: &std::path::Path| {
        while tokio::net::UnixStream::connect(socket).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    let mut other = start();
    answers(&second).await;
    answers(&first).await;
    other.kill().expect("killed");
    other.wait().expect("ended");
    assert!(second.exists(), "a killed one leaves its socket");
    let mut other = start();
    answers(&second).await;
    assert!(!scene.sockets().join("variantd-3.sock").exists());
    other.kill().expect("killed");
    other.wait().expect("ended");
}

#[tokio::test]
async fn sixty_six_cells_go_through_the_server() {
    let (scene, devices) = Scene::of_eight();
    let launcher = Launcher::find(&scene.sockets()).await;
    let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
    let text = launcher.define(&domain(&devices)).await.expect("completed");
    assert_eq!(text.matches("<cell id=").count(), 66);
    assert!(text.len() > 128 << 10, "{} bytes", text.len());
    assert_eq!(launcher.define(&text).await.expect("complete"), text);
    assert!(VMI.contains("VirtualMachineInstance"));
}
