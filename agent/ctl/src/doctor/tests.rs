//! Each check as it passes, warns, fails and is unknown.

use std::sync::Arc;

use kernel_glue::config::{Config, ConfigError};
use kernel_glue::holder::Holders;
use kernel_glue::host::Gap;
use kernel_glue::occupancy::{Occupancy, Onlined};
use kernel_glue::rebind::Before;

use super::check::{Check, Verdict};
use super::read::{self, Places};
use super::scene::{
    Agent, Blocked, Daemon, Hook, Journal, Libvirt, Memory, Module, Scene, Trouble, Unavailable,
    Vendor,
};
use super::testing::{
    answers, asking_for_egm, at, bad, check, definition, holder, hook, module, ready, variant,
    with_companion, with_gpu,
};
use super::{Length, examine, next, text};
use crate::fixture::{GPU, NIC, UUID, VARIANT, address, driver, guest};
use agent::libvirt::DomainRef;
use agent::record::{DeviceRecord, OfDomain};
use agent::record::{Owner, Phase, Record};
use agent::reserve::Reservation;
use domain::code::Code;
use domain::hint::Hint;
use domain::refusal::Refusal;
use planner::from_libvirt::{FromLibvirt, Networks};
use planner::stack::{Feature, How, Stack, Value, ValueType};
use planner::target::Versions;

pub(super) type Spoil = fn(&mut Scene);

fn spoiled(spoil: Spoil) -> Scene {
    let mut scene = ready();
    spoil(&mut scene);
    scene
}

fn gpu(scene: &mut Scene, change: impl FnOnce(&mut kernel_glue::device::Device)) {
    change(scene.host.devices.get_mut(&address(GPU)).expect("gpu"));
}

fn variant_module(scene: &mut Scene) -> &mut Module {
    scene.modules.get_mut(VARIANT).expect("module")
}

fn occupied(scene: &mut Scene, occupancy: Occupancy) {
    scene.occupancy.insert(address(GPU), Ok(occupancy));
}

fn held_by(scene: &mut Scene, command: &str, unit: Option<&str>) {
    let holders = Holders {
        found: vec![holder(command, unit)],
        ..Holders::default()
    };
    occupied(
        scene,
        Occupancy {
            holders,
            ..Occupancy::default()
        },
    );
}

fn daemon(scene: &mut Scene) -> &mut Daemon {
    let daemon = scene.daemon.as_mut().expect("seen");
    daemon.as_mut().expect("running")
}

fn installed(scene: &mut Scene) -> &mut Hook {
    scene.hook.as_mut().expect("seen")
}

fn memory(scene: &mut Scene) -> &mut Memory {
    scene.boot.memory.as_mut().expect("seen")
}

fn journal(scene: &mut Scene) -> &mut Journal {
    scene.journal.as_mut().expect("seen")
}

fn silent(scene: &mut Scene, unit: Option<&str>) {
    scene.libvirt = Ok(Libvirt::Silent {
        unit: unit.map(str::to_owned),
        why: "Failed to connect socket".into(),
    });
}

fn failing(scene: &mut Scene, why: &str) {
    scene.libvirt = Ok(Libvirt::Failed {
        unit: Some("virtqemud".into()),
        why: why.into(),
    });
}

fn reserved(scene: &mut Scene, id: &str) {
    scene.reservations = Ok(vec![Ok(Reservation {
        device: address(GPU),
        id: id.parse().expect("id"),
        driver: None,
    })]);
}

fn journalled(scene: &mut Scene, phase: Phase) {
    let domain = DomainRef {
        uuid: UUID.parse().expect("uuid"),
        name: "d0".into(),
    };
    let record = Record {
        owner: Owner::Domain,
        target: driver(VARIANT),
        before: None,
        phase,
        replaces: None,
    };
    let domain = Some(OfDomain { domain, record });
    journal(scene).records.push(DeviceRecord {
        domain,
        ..DeviceRecord::new(address(GPU))
    });
}

#[test]
fn a_ready_host_passes_every_check_and_the_next_step_is_define() {
    let scene = ready();
    assert_eq!(bad(&scene), []);
    assert_eq!(next(&scene, &examine(&scene)), "virsh define guest.xml");
    insta::assert_snapshot!("ready", text(&examine(&scene), Length::Usual));
    assert_eq!(text(&examine(&scene), Length::Quiet), "");
}

/// A change of a ready host, the code that must fail for it, and the hint.
#[rustfmt::skip]
pub(super) const FAILURES: &[(Spoil, Code, &str)] = &[
    (|s| gpu(s, |gpu| gpu.iommu_group = None), Code::IommuOff, "'intel_iommu=on'"),
    (|s| { gpu(s, |gpu| gpu.iommu_group = None); s.boot.vendor = Vendor::Amd }, Code::IommuOff, "AMD-Vi"),
    (|s| { gpu(s, |gpu| gpu.iommu_group = None); s.boot.vendor = Vendor::Arm }, Code::IommuOff, "IORT"),
    (|s| { gpu(s, |gpu| gpu.iommu_group = None); s.boot.command_line = Ok("quiet intel_iommu=off".into()) },
     Code::IommuOff, "remove 'intel_iommu=off'"),
    (|s| daemon(s).can_lock = Ok(false), Code::LockLimit, "LimitMEMLOCK"),
    (|s| gpu(s, |gpu| gpu.config = Config::Unreadable(ConfigError::AllOnes)), Code::BindSilent, "boot the host again"),
    (|s| { s.host.variants.clear(); variant_module(s).file = None }, Code::ModuleMissing, "CONFIG_NVGRACE_GPU_VFIO_PCI"),
    (|s| { s.host.variants.clear(); *variant_module(s) = Module { indexed: None, ..module() } },
     Code::ModuleMissing, "'depmod -a'"),
    (|s| variant_module(s).file = None, Code::ModuleFile, "'depmod -a'"),
    (|s| variant_module(s).file = Some("extra/nvgrace-gpu-vfio-pci.ko".into()), Code::ModuleFile, "'depmod -a'"),
    (|s| variant_module(s).blocked = Some(Blocked { file: "/etc/modprobe.d/x.conf".into(), line: "blacklist x".into(), number: Some(3) }),
     Code::ModuleBlocked, "'sed -i 3s/^/#/ /etc/modprobe.d/x.conf'"),
    (|s| variant_module(s).blocked = Some(Blocked { file: "the command line".into(), line: "module_blacklist=x".into(), number: None }),
     Code::ModuleBlocked, "remove 'module_blacklist=x'"),
    (|s| s.memory_named = Ok(false), Code::MemoryNotShown, "start no guest with it"),
    (|s| held_by(s, "nvidia-persistenced", None), Code::BindHeld, "'systemctl stop nvidia-persistenced.service'"),
    (|s| held_by(s, "train", None), Code::BindHeld, "'kill 41'"),
    (|s| occupied(s, Occupancy { virtual_functions: 2, ..Occupancy::default() }), Code::DeviceHasFunctions, "'echo 0 > /sys"),
    (|s| occupied(s, Occupancy { onlined: Some(Onlined { node: None, ranges: 1, is_changing: false }), ..Occupancy::default() }),
     Code::BindMemoryOnlined, "'systemctl stop nvidia-persistenced'"),
    (|s| *s = with_companion(ready()), Code::BindGroup, "'echo 0002:01:00.0 > /sys/bus/pci/drivers/mlx5_core/unbind'"),
    (|s| gpu(s, |gpu| gpu.reset_methods.clear()), Code::ResetMissing, "'echo default > /sys/bus/pci/devices/0009:01:00.0/reset_method'"),
    (|s| gpu(s, |gpu| { gpu.bars[2].size = 1 << 36; gpu.bars[2].flags = 0x2000_0000 }), Code::BarUnset, "Above 4G"),
    (|s| s.host.numa.nodes.truncate(5), Code::InitiatorsUnknown, ""),
    (|s| silent(s, Some("libvirtd")), Code::LibvirtSilent, "'systemctl start libvirtd'"),
    (|s| silent(s, None), Code::LibvirtSilent, "'apt-get install libvirt-daemon-system'"),
    (|s| s.libvirt = Ok(Libvirt::Unasked { why: "'/usr/libexec/variantd/variantd-libvirt' is not there".into(), unloaded: false }), Code::LibvirtSilent,
     "'apt-get install --reinstall variantd'"),
    (|s| s.libvirt = Ok(Libvirt::Unasked { why: "'variantd-libvirt' exited without a reply: libvirt.so.0: cannot open".into(), unloaded: true }),
     Code::LibvirtSilent, "'apt-get install libvirt0'"),
    (|s| failing(s, "no connection driver available for qemu:///system"), Code::LibvirtSilent, "QEMU driver"),
    (|s| failing(s, "internal error: no"), Code::LibvirtSilent, "'journalctl -u virtqemud'"),
    (|s| s.libvirt = Ok(Libvirt::Answers { versions: old(), domains: Vec::new() }), Code::TargetOld, "QEMU 9.0"),
    (|s| s.libvirt = Ok(answers(vec![definition()])), Code::DefinitionLacks, "'variantctl prepare d0'"),
    (|s| s.libvirt = Ok(answers(vec![drifted()])), Code::MarkOld, "'variantctl prepare d0'"),
    (|s| s.libvirt = Ok(answers(vec![refused()])), Code::GuestFunction, "'variantctl prepare --replace d0'"),
    (|s| { s.libvirt = Ok(answers(vec![definition()])); memory(s).total = 1024 }, Code::GuestMemory, "'virsh edit d0'"),
    (|s| { let mut d = definition(); d.definition = guest(GPU).replace("<vcpu>", "<memoryBacking><hugepages/></memoryBacking><vcpu>").parse();
           s.libvirt = Ok(answers(vec![d])) }, Code::GuestMemory, "'echo 2056 > /proc/sys/vm/nr_hugepages'"),
    (|s| { s.modules.insert("nvgrace_egm".into(), Module::default()); s.libvirt = Ok(answers(vec![asking_for_egm()])) }, Code::EgmAbsent, "linux-nvidia"),
    (|s| s.settings = Err("'variantd.conf', line 2: unknown key".into()), Code::SettingsUnusable, "fix the named line"),
    (|s| installed(s).state = Trouble::Missing, Code::HookMissing, "&& ln -sfn /usr/sbin/variantd-hook"),
    (|s| { let hook = installed(s); hook.state = Trouble::Missing; hook.program = None }, Code::HookMissing, "install the variantd package"),
    (|s| installed(s).state = Trouble::Dangling("/x".into()), Code::HookMissing, "install the variantd package again"),
    (|s| installed(s).state = Trouble::NotExecutable("/usr/sbin/variantd-hook".into()),
     Code::HookNotExecutable, "'chmod 755 /usr/sbin/variantd-hook && systemctl restart libvirtd'"),
    (|s| installed(s).state = Trouble::Other("/opt/x".into()), Code::HookOther, "to another name"),
    (|s| installed(s).since = Some(at(1001)), Code::HookNotCalled, "'systemctl restart libvirtd'"),
    (|s| { let hook = installed(s); hook.since = Some(at(1001)); hook.called = Some(at(999)) },
     Code::HookNotCalled, "'systemctl restart libvirtd'"),
    (|s| installed(s).program = Some("/opt/variantd-hook".into()), Code::HookConfined, "'ln -sfn /usr/sbin/variantd-hook"),
    (|s| s.agent = Ok(Agent::Stopped), Code::AgentUnreachable, "'systemctl start variantd'"),
    (|s| s.agent = Ok(Agent::NotInstalled), Code::AgentUnreachable, "install the variantd package"),
    (|s| s.agent = Ok(Agent::NoBus("x".into())), Code::AgentUnreachable, "'systemctl start dbus'"),
    (|s| s.agent = Ok(Agent::Denied("x".into())), Code::PolicyMissing, "'systemctl reload dbus'"),
    (|s| s.policy = Ok(false), Code::PolicyMissing, "'systemctl reload dbus'"),
    (|s| reserved(s, "10de:2342"), Code::ReservedUnbound, "'variantctl bind 0009:01:00.0'"),
    (|s| reserved(s, "10de:2941"), Code::ReservedOther, "'variantctl unreserve 0009:01:00.0'"),
    (|s| s.reservations = Ok(vec![Err("'x.toml', line 1".into())]), Code::ReservedUnbound, "fix or remove the file"),
    (|s| { reserved(s, "10de:2342"); s.enabled = Ok(vec!["variantd".into()]) }, Code::UnitDisabled, "'systemctl enable variantd-reserve'"),
    (|s| journalled(s, Phase::Degraded), Code::BindDegraded, "'variantctl recover 0009:01:00.0'"),
    (|s| { journalled(s, Phase::Binding); s.agent = Ok(Agent::Stopped) }, Code::BindDegraded, "'variantctl recover 0009:01:00.0'"),
    (|s| journal(s).records.push(record()), Code::BindDegraded, "'variantctl recover 0009:01:00.0'"),
    (|s| journal(s).unwritable = Some("its file system is full".into()), Code::JournalFailed, "'df -h /run/variantd'"),
    (|s| journal(s).unusable.push(("/run/x.json".into(), "damaged".into(), false)), Code::JournalFailed, "'mv /run/x.json"),
    (|s| journal(s).unusable.push(("/run/x.json".into(), "newer".into(), true)), Code::JournalNewer, "install the newer"),
];

#[test]
fn checks_of_the_host_and_its_devices_name_the_files_of_their_facts() {
    let all = examine(&ready());
    let of_files = all.iter().filter(|check| {
        // Reservations are records of the agent, and one fault of a reset is known from its source.
        let is_other = matches!(check.code, Code::ReservedUnbound | Code::ResetFault);
        check.group <= super::Group::Devices && !is_other
    });
    let unnamed: Vec<Code> = of_files
        .clone()
        .filter(|check| check.read_from.is_empty())
        .map(|check| check.code)
        .collect();
    assert_eq!(unnamed, []);
    let paths: Vec<&str> = of_files
        .flat_map(|check| check.read_from.iter().map(String::as_str))
        .collect();
    assert!(paths.iter().all(|path| path.starts_with('/')), "{paths:?}");
    for path in [
        "/proc/77/limits",
        "/sys/bus/pci/devices/0009:01:00.0/driver_override",
        "/lib/modules/7.2.12/modules.alias",
    ] {
        assert!(paths.contains(&path), "{path} is not in {paths:?}");
    }
}

/// An Arm host on which the agent asked this pair.
fn paired(scene: &mut Scene, versions: &str, change: impl FnOnce(&mut Stack)) {
    let mut stack = Stack::assumed(versions.parse().expect("versions"));
    change(&mut stack);
    scene.boot.vendor = Vendor::Arm;
    scene.stack = Some(stack);
    scene.libvirt = Ok(Libvirt::Answers {
        versions: stack.versions(),
        domains: Vec::new(),
    });
}

/// The check of the pair by its name, on an Arm host without libvirt.
fn named(name: &str) -> Check {
    let mut scene = ready();
    scene.boot.vendor = Vendor::Arm;
    scene.libvirt = hidden();
    scene.stack = Some(Stack::named(name).expect("a stack"));
    check(&scene, Code::TargetOld)
}

#[test]
fn stack_check_names_lacking_features_with_package_versions() {
    let ubuntu = named("ubuntu-24.04");
    assert_eq!(ubuntu.verdict, Verdict::Fail);
    assert_eq!(
        ubuntu.text,
        "no guest can have a GPU of this host: libvirt 10.0.0-2ubuntu8.19 has no accelerated SMMUv3, iommufd; \
         QEMU 1:8.2.2+ds-0ubuntu1.18 has no generic initiators, 64-bit MMIO window above 512 GiB, accelerated SMMUv3, \
         iommufd"
    );
    let hint = ubuntu.hint.expect("a hint");
    assert!(hint.as_str().contains("libvirt 11.9.0+nvidia4"), "{hint}");
    let certified = named("nvidia-10.1");
    assert_eq!(certified.verdict, Verdict::Pass, "{certified:?}");
    let detail = certified.detail.expect("a detail");
    assert!(
        detail.ends_with("answers assumed by version, not asked"),
        "{detail}"
    );
    // The pair that was asked before an upgrade does not count.
    let mut scene = ready();
    paired(&mut scene, "libvirt=12.8,qemu=11.1", |_| {});
    scene.stack = Stack::named("ubuntu-24.04").ok();
    assert_eq!(check(&scene, Code::TargetOld).verdict, Verdict::Pass);
}

/// Ubuntu 24.04's own packages on a GB300, as a recorded host: kernel 6.8.0, QEMU 8.2.2, libvirt 10.0.0.
#[test]
fn gb300_with_ubuntu_24_04_names_the_packages_to_install() {
    let hosts = testing::hosts::modelled();
    let mut machine = { hosts }
        .find(|one| one.name == "gb300-4gpu")
        .expect("a host");
    machine.release = "6.8.0-138-generic";
    let mut tree = machine.tree();
    let put = |tree: &mut testing::hosts::tree::Tree, path: &str, text: String| {
        tree.insert(path.to_owned(), testing::hosts::tree::line(text));
    };
    let modules = "lib/modules/6.8.0-138-generic";
    let vfio = "alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci".to_owned();
    put(&mut tree, &format!("{modules}/modules.alias"), vfio);
    put(&mut tree, &format!("{modules}/modules.dep"), String::new());
    put(
        &mut tree,
        "proc/cpuinfo",
        "CPU implementer\t: 0x41".to_owned(),
    );
    let stack = Stack::named("ubuntu-24.04").expect("a stack");
    put(
        &mut tree,
        "recorded-stack.json",
        planner::json::text(&stack),
    );
    let root = tempfile::tempdir().expect("a folder");
    let root = root.path().join("host");
    testing::hosts::tree::write(&root, &tree).expect("written");
    let stack = agent::stack::recorded::recorded(&root).expect("a stack");
    let places = Places {
        recipes: root.join("etc/variantd/recipes.d"),
        reservations: agent::reserve::Reservations::noted(Vec::new()),
        host: None,
        capacity: None,
        stack,
        root,
    };
    let scene = read::scene(places, &|_| {}).expect("a host");
    insta::assert_snapshot!("gb300_ubuntu_24_04", text(&examine(&scene), Length::Quiet));
}

fn old() -> Versions {
    "libvirt=9.0,qemu=7.2".parse().expect("versions")
}

fn trixie() -> Versions {
    "libvirt=11.3,qemu=10.0".parse().expect("versions")
}

fn record() -> DeviceRecord {
    let before = Before {
        driver: None,
        driver_override: None,
    };
    crate::fixture::interrupted(address(GPU), driver(VARIANT), before)
}

fn drifted() -> super::scene::Guest {
    super::scene::Guest {
        planned: Some(Ok(vec![Code::MarkOld, Code::CellsMissing])),
        ..definition()
    }
}

fn refused() -> super::scene::Guest {
    let refusal = Refusal::new(
        Code::GuestFunction,
        "its guest address is function 1",
        Hint::run("variantctl prepare --replace d0"),
    );
    super::scene::Guest {
        planned: Some(Err(refusal.of(address(GPU)))),
        ..definition()
    }
}

#[test]
fn each_failure_has_its_code_and_a_hint() {
    for (index, (spoil, code, words)) in FAILURES.iter().enumerate() {
        let failed = check(&spoiled(*spoil), *code);
        let hint = failed.hint.clone().unwrap_or_default();
        assert_eq!(failed.verdict, Verdict::Fail, "{index}: {failed:?}");
        assert!(hint.as_str().contains(words), "{index}: {failed:?}");
    }
}

#[test]
fn screen_of_each_failure_equals_the_snapshot() {
    let screens = FAILURES.iter().map(|(spoil, ..)| {
        let scene = spoiled(*spoil);
        let checks = examine(&scene);
        format!(
            "{}next: {}\n",
            text(&checks, Length::Quiet),
            next(&scene, &checks)
        )
    });
    insta::assert_snapshot!("failures", screens.collect::<Vec<_>>().join("\n"));
}

/// What spoils a ready host without being in a guest's way.
#[rustfmt::skip]
const WARNINGS: &[(Spoil, Code, &str)] = &[
    (|s| s.boot.no_iommu = Ok(true), Code::IommuNone, "'echo N > /sys/module/vfio/"),
    (|s| s.boot.unsafe_interrupts = Ok(true), Code::InterruptsUnsafe, "'echo N > /sys/module/vfio_iommu_type1/"),
    (|s| s.boot.command_line = Ok("pcie_acs_override=downstream".into()), Code::AcsOverride, "remove 'pcie_acs_override=downstream'"),
    (|s| { s.host.devices.remove(&address(GPU)); }, Code::NothingCovered, "variantctl list --all"),
    (|s| s.host.variants = vec![variant("v000010DEd00002941sv*sd*bc*sc*i*", VARIANT)], Code::ModuleMissing, "install a kernel"),
    (|s| gpu(s, |gpu| { gpu.driver = None; gpu.driver_override = Some("nvidia-open".into()) }), Code::OverrideStray, "driver_override'"),
    (|s| { gpu(s, |gpu| gpu.numa_node = None); s.host.numa.nodes[1].cpus = (72..144).collect() }, Code::NodeUnknown, "_PXM"),
    (|s| gpu(s, |gpu| { gpu.driver = Some(driver(VARIANT)); gpu.driver_override = None }), Code::DynamicId,
     "'echo 10de 2342 > /sys/bus/pci/drivers/nvgrace_gpu_vfio_pci/remove_id'"),
    (|s| gpu(s, |gpu| gpu.id = "1002:74a1".parse().expect("id")), Code::ResetFault, "source: github.com/amd"),
    (|s| { s.boot.vendor = Vendor::Arm; s.libvirt = Ok(Libvirt::Answers { versions: trixie(), domains: Vec::new() }) },
     Code::TargetOld, "newer versions"),
    (|s| paired(s, "libvirt=12.8,qemu=11.1", |stack| {
        let bool_ = Value::Type(ValueType::Bool);
        stack.set(Feature::QemuSmmuAtsType, bool_, How::Asked).expect("an answer");
     }), Code::SmmuPair, "one vendor and age"),
    (|s| s.agent = Ok(Agent::Answers("0.0.9".into())), Code::AgentVersion, "'systemctl restart variantd'"),
    (|s| s.enabled = Ok(Vec::new()), Code::UnitDisabled, "'systemctl enable variantd'"),
];

#[test]
fn each_warning_has_its_code_and_a_hint() {
    for (index, (spoil, code, words)) in WARNINGS.iter().enumerate() {
        let warned = check(&spoiled(*spoil), *code);
        let hint = warned.hint.clone().unwrap_or_default();
        assert_eq!(warned.verdict, Verdict::Warn, "{index}: {warned:?}");
        assert!(hint.as_str().contains(words), "{index}: {warned:?}");
    }
}

fn hidden<T>() -> Result<T, Unavailable> {
    Err(Unavailable::to_others("run it as root"))
}

/// What cannot be seen of a ready host.
#[rustfmt::skip]
const HIDDEN: &[(Spoil, Code)] = &[
    (|s| s.boot.no_iommu = hidden(), Code::IommuNone),
    (|s| s.boot.unsafe_interrupts = hidden(), Code::InterruptsUnsafe),
    (|s| s.boot.command_line = hidden(), Code::AcsOverride),
    (|s| s.daemon = hidden(), Code::LockLimit),
    (|s| s.daemon = Ok(None), Code::HookNotCalled),
    (|s| gpu(s, |gpu| gpu.config = Config::Unreadable(ConfigError::Io("permission denied".into()))), Code::BindSilent),
    (|s| { s.host.variants.clear(); s.host.gaps = vec![gap("/lib/modules/7.2.12/modules.alias")] }, Code::ModuleMissing),
    (|s| s.modules.clear(), Code::ModuleFile),
    (|s| s.modules.clear(), Code::ModuleBlocked),
    (|s| s.memory_named = hidden(), Code::MemoryNotShown),
    (|s| { s.occupancy.insert(address(GPU), hidden()); }, Code::BindHeld),
    (|s| occupied(s, Occupancy { holders: Holders { hidden: 3, seen: 9, ..Holders::default() }, ..Occupancy::default() }), Code::BindHeld),
    (|s| gpu(s, |gpu| gpu.iommu_group = None), Code::BindGroup),
    (|s| { s.host.numa.nodes.truncate(5); s.host.gaps = vec![gap("/sys/firmware/acpi/tables/SRAT")] }, Code::InitiatorsUnknown),
    (|s| s.libvirt = hidden(), Code::LibvirtSilent),
    (|s| s.libvirt = hidden(), Code::DefinitionLacks),
    (|s| { s.libvirt = Ok(answers(vec![definition()])); s.boot.memory = hidden() }, Code::GuestMemory),
    (|s| s.hook = hidden(), Code::HookMissing),
    (|s| s.agent = hidden(), Code::AgentUnreachable),
    (|s| s.policy = hidden(), Code::PolicyMissing),
    (|s| s.enabled = hidden(), Code::UnitDisabled),
    (|s| s.journal = hidden(), Code::BindDegraded),
    (|s| s.reservations = hidden(), Code::ReservedUnbound),
];

fn gap(path: &str) -> Gap {
    Gap {
        path: path.into(),
        reason: "permission denied".into(),
    }
}

#[test]
fn unavailable_fact_is_neither_passed_nor_failed() {
    for (index, (spoil, code)) in HIDDEN.iter().enumerate() {
        let scene = spoiled(*spoil);
        let unavailable = check(&scene, *code);
        assert_eq!(
            unavailable.verdict,
            Verdict::Unavailable,
            "{index}: {unavailable:?}"
        );
        assert!(unavailable.hint.is_some(), "{index}: {unavailable:?}");
    }
}

#[test]
fn a_device_held_by_a_guest_passes_the_check() {
    let unit = "machine-qemu\\x2d1\\x2dred.scope";
    let scene = spoiled(|scene| {
        held_by(
            scene,
            "qemu-system-x86",
            Some("machine-qemu\\x2d1\\x2dred.scope"),
        )
    });
    assert_eq!(bad(&scene), [], "{unit}");
    assert_eq!(check(&scene, Code::BindHeld).detail.as_deref(), Some("red"));
}

#[test]
fn holder_check_passes_for_a_running_guest_with_any_scope_name() {
    let mut scene = spoiled(|scene| held_by(scene, "qemu-system-x86", None));
    // The definition need not name the device: it may have been attached since the start, or chosen from a pool.
    let running = super::scene::Guest {
        active: true,
        definition: guest(NIC).parse(),
        has: vec![address(GPU)],
        planned: Some(Ok(Vec::new())),
        ..definition()
    };
    scene.libvirt = Ok(answers(vec![running]));
    assert_eq!(bad(&scene), []);
    assert_eq!(check(&scene, Code::BindHeld).detail.as_deref(), Some("d0"));
}

#[test]
fn doctor_counts_pool_devices_without_the_agent() {
    const POOL: &str = "<network><forward mode='hostdev'><address type='pci' domain='2' bus='1' slot='0' function='0'/></forward></network>";
    const DEVICES: &str = "<interface type='network'><source network='p'/></interface><iommu model='virtio'/>\n  </devices>";
    // More than the guest's 4 GiB, and less than two devices lock behind a vIOMMU.
    const LIMIT: &str = "<memtune><hard_limit unit='GiB'>6</hard_limit></memtune>\n  <vcpu>";
    let xml = guest(GPU).replace("  </devices>", DEVICES);
    let networks = Networks::new([("p".to_owned(), POOL)]);
    let with = |networks: Option<Networks>| {
        let guest = super::scene::Guest {
            definition: xml.replace("<vcpu>", LIMIT).parse(),
            libvirt: FromLibvirt {
                networks: networks.map(Arc::new),
                ..FromLibvirt::default()
            },
            ..definition()
        };
        let mut scene = ready();
        scene.libvirt = Ok(answers(vec![guest]));
        scene
    };
    let failed = check(&with(Some(networks)), Code::HardLimit);
    assert_eq!(failed.verdict, Verdict::Fail, "{failed:?}");
    assert!(failed.text.contains("each of 2 host devices"), "{failed:?}");
    assert_eq!(check(&with(None), Code::HardLimit).verdict, Verdict::Pass);
}

#[test]
fn a_hook_call_after_the_daemons_start_proves_that_the_hook_is_used() {
    let mut scene = ready();
    scene.hook = Ok(super::scene::Hook {
        since: Some(at(2000)),
        called: Some(at(1500)),
        ..hook()
    });
    assert_eq!(bad(&scene), []);
}

#[test]
fn a_running_change_of_the_agent_is_not_a_failure() {
    assert_eq!(bad(&spoiled(|scene| journalled(scene, Phase::Binding))), []);
    assert_eq!(bad(&spoiled(|scene| journalled(scene, Phase::Bound))), []);
}

#[test]
fn a_reservation_in_force_passes_with_either_spelling_of_the_driver() {
    let mut scene = with_gpu(ready(), |gpu| {
        gpu.driver = Some(driver("nvgrace-gpu-vfio-pci"));
        gpu.driver_override = Some("nvgrace-gpu-vfio-pci".into());
    });
    reserved(&mut scene, "10de:2342");
    assert_eq!(bad(&scene), []);
}

#[test]
fn next_names_the_agent_and_libvirt_before_devices() {
    let scene = spoiled(|scene| {
        scene.libvirt = Ok(answers(vec![definition()]));
        scene.agent = Ok(Agent::Stopped);
    });
    assert_eq!(next(&scene, &examine(&scene)), "systemctl start variantd");
}

#[test]
fn every_code_of_a_check_is_explained_by_a_page() {
    let all = FAILURES.iter().chain(WARNINGS).map(|(_, code, _)| code);
    for code in all {
        assert!(code.explanation().contains("Source: "), "{code}");
    }
}

/// A scene on the modelled host with switches, and a guest with these devices of it.
fn with_devices(devices: &[&str]) -> Scene {
    let host = kernel_glue::host::Host::read(&testing::hosts::directory("hgx-switched"));
    let hostdevs: String = devices
        .iter()
        .map(|at| planner::fixture::hostdev(at))
        .collect();
    let one = super::scene::Guest {
        definition: guest(devices[0])
            .replace(&planner::fixture::hostdev(devices[0]), &hostdevs)
            .parse(),
        ..definition()
    };
    Scene {
        host: host.expect("modelled host"),
        libvirt: Ok(answers(vec![one])),
        ..ready()
    }
}

/// The checks of the route between devices of a guest: verdict, detail and hint.
fn peers(scene: &Scene) -> Vec<(Verdict, String, String)> {
    let checks = examine(scene).into_iter();
    let checks = checks.filter(|check| check.code == Code::PeersRedirected);
    let hint = |hint: Option<Hint>| hint.map(|hint| hint.to_string()).unwrap_or_default();
    checks
        .map(|check| {
            (
                check.verdict,
                check.detail.unwrap_or_default(),
                hint(check.hint),
            )
        })
        .collect()
}

#[test]
fn adapters_that_reach_gpus_of_their_switch_directly_pass() {
    for pair in [
        ["0000:3c:00.0", "0000:3a:00.0"],
        ["0000:9c:00.0", "0000:9a:00.0"],
    ] {
        let found = peers(&with_devices(&pair));
        assert_eq!(
            found,
            [(Verdict::Pass, String::new(), String::new())],
            "{pair:?}"
        );
    }
}

#[test]
fn ports_that_redirect_an_adapter_are_named_with_their_kernel_argument() {
    let found = peers(&with_devices(&[
        "0000:1a:00.0",
        "0000:18:00.0",
        "0000:9a:00.0",
    ]));
    let [(verdict, detail, hint)] = &found[..] else {
        unreachable!("{found:?}");
    };
    assert_eq!(
        (*verdict, detail.as_str()),
        (Verdict::Warn, "0000:17:00.0 0000:17:02.0")
    );
    let wanted = "pci=config_acs=1xxxxxx@0000:17:00.0;1xxxxxx@0000:17:02.0";
    assert!(hint.contains(wanted), "{hint}");
    assert!(
        hint.contains("setpci -s 0000:17:00.0 ECAP_ACS+6.w=40:40"),
        "{hint}"
    );
}

#[test]
fn an_adapter_without_ats_is_named() {
    let found = peers(&with_devices(&[
        "0000:9d:00.0",
        "0000:9c:00.0",
        "0000:9a:00.0",
    ]));
    let [(verdict, detail, hint)] = &found[..] else {
        unreachable!("{found:?}");
    };
    assert_eq!((*verdict, detail.as_str()), (Verdict::Warn, "0000:9d:00.0"));
    assert!(
        hint.contains("mlxconfig -d 0000:9d:00.0 set ATS_ENABLED=true"),
        "{hint}"
    );
}

#[test]
fn the_route_of_an_adapter_is_unknown_without_its_config_space() {
    let mut scene = with_devices(&["0000:1a:00.0", "0000:18:00.0"]);
    let adapter = scene.host.devices.get_mut(&address("0000:1a:00.0"));
    adapter.expect("adapter").config = Config::Unreadable(ConfigError::Short(64));
    let check = check(&scene, Code::PeersRedirected);
    assert_eq!(
        (check.verdict, check.needs_root),
        (Verdict::Unavailable, true)
    );
}

#[test]
fn routes_are_not_judged_without_an_adapter_and_a_gpu_of_one_switch() {
    for devices in [
        &["0000:1a:00.0", "0000:9a:00.0"][..],
        &["0000:18:00.0", "0000:19:00.0"],
        &["0000:1a:00.0", "0000:1b:00.0"],
    ] {
        assert_eq!(peers(&with_devices(devices)), [], "{devices:?}");
    }
}
