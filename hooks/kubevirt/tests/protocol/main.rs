//! The real sidecar, spoken to as virt-launcher speaks: it looks into the socket directory, asks who is there, takes the
//! newest version that both know and calls `OnDefineDomain`, each with its time limit.

mod golden;
mod launcher;
mod scene;
mod shim;

use launcher::Launcher;
use scene::{GB200, Scene, VMI, domain};

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
    for part in ["VD-KVT-005", "VD-MEM-002", "KubeVirt has written"] {
        assert!(small.message().contains(part), "{}", small.message());
    }
    let said = scene.said();
    assert!(said.contains("VD-KVT-004"), "{said}");
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
