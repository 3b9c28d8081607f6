//! Preparation on a libvirt in memory.

use super::*;
use crate::fixture::{GPU, NIC, context, definition, guest};
use crate::libvirt::fake::Fake;
use kernel_glue::capacity::Capacity;
use planner::from_libvirt::Networks;
use settings::config::Config;

struct Scene {
    libvirt: Arc<Fake>,
    preparer: Preparer,
    domain: DomainRef,
    _directory: tempfile::TempDir,
}

fn scene_with(xml: &str, config: Config) -> Scene {
    let (directory, context) = context(config);
    let libvirt = Arc::new(Fake::default());
    Scene {
        domain: libvirt.put(xml),
        preparer: Preparer::new(libvirt.clone(), context),
        libvirt,
        _directory: directory,
    }
}

fn scene() -> Scene {
    scene_with(&guest(GPU), Config::default())
}

impl Scene {
    fn prepare(&self, trigger: Trigger) -> Result<Report, PrepareError> {
        self.preparer.prepare(&self.domain, trigger)
    }

    fn outcome(&self, trigger: Trigger) -> Outcome {
        self.prepare(trigger).expect("prepared").outcome
    }
}

#[test]
fn definition_is_completed_once_and_stays_complete() {
    let scene = scene();
    let report = scene.prepare(Trigger::Define).expect("prepared");
    assert_eq!(report.outcome, Outcome::Completed);
    assert!(!report.changes.is_empty());
    assert!(scene.libvirt.text(&scene.domain).contains("urn:variantd:1"));
    assert_eq!(scene.outcome(Trigger::Define), Outcome::Complete);
    assert_eq!(scene.libvirt.defines(), 1);
}

#[test]
fn prepare_ignores_a_domain_without_covered_devices() {
    let scene = scene_with(&guest(NIC), Config::default());
    let request = Trigger::REQUEST;
    for trigger in [Trigger::Define, Trigger::Repair, request] {
        assert_eq!(scene.outcome(trigger), Outcome::Foreign);
    }
    assert_eq!((scene.libvirt.defines(), scene.libvirt.asked()), (0, 0));
}

#[test]
fn on_request_waits_for_the_request() {
    let config = Config {
        prepare: Policy::OnRequest,
        repair: true,
        ..Config::default()
    };
    let scene = scene_with(&guest(GPU), config);
    assert_eq!(scene.outcome(Trigger::Define), Outcome::OnRequest);
    assert_eq!(scene.libvirt.defines(), 0);
    let request = Trigger::REQUEST;
    assert_eq!(scene.outcome(request), Outcome::Completed);
    // libvirt reports the agent's own define, too
    assert_eq!(scene.outcome(Trigger::Define), Outcome::Complete);
    let edited = scene.libvirt.text(&scene.domain);
    let edited = edited.replace("<acpi nodeset='1-8'/>", "");
    scene.libvirt.edit_after_reads(&scene.domain, vec![edited]);
    assert_eq!(scene.outcome(Trigger::Define), Outcome::Complete);
    assert_eq!(scene.outcome(Trigger::Define), Outcome::OnRequest);
    assert_eq!(scene.libvirt.defines(), 1);
}

#[test]
fn concurrent_define_is_kept() {
    let scene = scene();
    let edited = guest(GPU).replace("<vcpu>4</vcpu>", "<vcpu>5</vcpu>");
    scene.libvirt.edit_after_reads(&scene.domain, vec![edited]);
    assert_eq!(scene.outcome(Trigger::Define), Outcome::Completed);
    let text = scene.libvirt.text(&scene.domain);
    assert!(text.contains("<vcpu>5</vcpu>"), "{text}");
}

#[test]
fn prepare_refuses_a_definition_that_keeps_changing() {
    let scene = scene();
    let edits = (0..20).map(|n| guest(GPU).replace("<vcpu>4", &format!("<vcpu>{}", n + 5)));
    scene
        .libvirt
        .edit_after_reads(&scene.domain, edits.collect());
    let error = scene.prepare(Trigger::Define).expect_err("raced");
    assert!(matches!(error, PrepareError::Refused(r) if r.code == Code::XmlRaced));
    assert_eq!(scene.libvirt.defines(), 0);
}

#[test]
fn prepare_reports_dropped_elements() {
    let scene = scene();
    scene.libvirt.drop_on_define("<acpi nodeset='1-8'/>", "");
    let error = scene.prepare(Trigger::Define).expect_err("dropped");
    let text = error.to_string();
    assert!(text.contains("/domain/devices/hostdev/acpi"), "{text}");
    assert!(matches!(error, PrepareError::Refused(r) if r.code == Code::XmlDropped));
}

#[test]
fn definition_that_libvirt_does_not_keep_is_tried_once_until_a_request() {
    let scene = scene();
    scene.libvirt.drop_on_define("<acpi nodeset='1-8'/>", "");
    let first = scene.prepare(Trigger::Define).expect_err("dropped");
    for trigger in [Trigger::Define, Trigger::Repair, Trigger::Define] {
        assert_eq!(scene.prepare(trigger).expect_err("dropped"), first);
    }
    assert_eq!(scene.libvirt.defines(), 1);
    scene.prepare(Trigger::REQUEST).expect_err("dropped");
    scene.prepare(Trigger::Define).expect_err("dropped");
    assert_eq!(scene.libvirt.defines(), 2);
    // Another text is another attempt.
    let other = guest(GPU).replace("<vcpu>4</vcpu>", "<vcpu>5</vcpu>");
    scene.libvirt.put(&other);
    scene.prepare(Trigger::Define).expect_err("dropped");
    assert_eq!(scene.libvirt.defines(), 3);
}

#[test]
fn agent_stops_completing_a_definition_that_another_program_reverts() {
    let scene = scene();
    let texts = (0..30).map(|n| guest(GPU).replace("<vcpu>4", &format!("<vcpu>{}", n + 5)));
    let mut last = Ok(());
    for text in texts {
        scene.libvirt.put(&text);
        last = scene.prepare(Trigger::Define).map(drop);
    }
    let error = last.expect_err("a loop");
    assert!(matches!(error, PrepareError::Refused(r) if r.code == Code::XmlLoop));
    assert_eq!(scene.libvirt.defines(), 10);
    let request = Trigger::REQUEST;
    assert_eq!(scene.outcome(request), Outcome::Completed);
}

#[test]
fn saved_plan_is_applied_once() {
    let scene = scene();
    let saved = scene
        .preparer
        .propose(&scene.domain, Options::default())
        .expect("plan");
    assert_eq!(scene.libvirt.defines(), 0);
    let report = scene
        .preparer
        .apply(&scene.domain, &saved)
        .expect("applied");
    assert_eq!(report.outcome, Outcome::Completed);
    assert_eq!(report.changes.len(), saved.changes.len());
    assert_eq!(scene.libvirt.text(&scene.domain), saved.text);
    let error = scene.preparer.apply(&scene.domain, &saved);
    let text = error.expect_err("stale").to_string();
    assert!(
        text.contains("changed since: the definition (VD-PLN-001)"),
        "{text}"
    );
}

#[test]
fn a_saved_plan_does_not_show_a_secret_and_keeps_it() {
    let secret = "<!-- passwd='mellon' -->";
    let scene = scene_with(
        &guest(GPU).replace("<vcpu>", &format!("{secret}<vcpu>")),
        Config::default(),
    );
    scene.libvirt.hide(secret);
    let saved = scene
        .preparer
        .propose(&scene.domain, Options::default())
        .expect("plan");
    assert!(
        !serde_json::to_string(&saved)
            .expect("JSON")
            .contains("mellon")
    );
    scene
        .preparer
        .apply(&scene.domain, &saved)
        .expect("applied");
    let text = scene.libvirt.text(&scene.domain);
    assert_eq!(text.replace(secret, ""), saved.text);
    assert!(text.contains(secret), "{text}");
}

#[test]
fn a_definition_edited_while_its_plan_is_applied_is_kept() {
    let scene = scene();
    let saved = scene
        .preparer
        .propose(&scene.domain, Options::default())
        .expect("plan");
    let edited = guest(GPU).replace("<vcpu>4</vcpu>", "<vcpu>5</vcpu>");
    for reads_before in 0..2 {
        let same = vec![guest(GPU); reads_before];
        scene.libvirt.put(&guest(GPU));
        let edits = same.into_iter().chain([edited.clone()]);
        scene
            .libvirt
            .edit_after_reads(&scene.domain, edits.collect());
        let error = scene.preparer.apply(&scene.domain, &saved);
        let error = error.expect_err("stale");
        assert!(matches!(error, PrepareError::Refused(r) if r.code == Code::PlanStale));
    }
    assert_eq!(scene.libvirt.defines(), 0);
    assert_eq!(scene.libvirt.text(&scene.domain), edited);
}

#[test]
fn saved_plan_of_a_reverted_domain_opts_it_in() {
    let scene = scene();
    scene.outcome(Trigger::Revert);
    let saved = scene
        .preparer
        .propose(&scene.domain, Options::default())
        .expect("plan");
    scene
        .preparer
        .apply(&scene.domain, &saved)
        .expect("applied");
    assert_eq!(scene.outcome(Trigger::Define), Outcome::Complete);
}

#[test]
fn error_of_libvirt_is_passed_through() {
    let scene = scene();
    scene
        .libvirt
        .refuse_defines("XML document failed to validate");
    let text = scene.prepare(Trigger::Define).expect_err("no").to_string();
    assert_eq!(
        text,
        "cannot prepare domain 'd0': libvirt: XML document failed to validate"
    );
}

#[test]
fn plan_notes_a_device_of_another_definition() {
    let scene = scene();
    let other = guest(GPU)
        .replace("<name>d0</name>", "<name>rival</name>")
        .replace(crate::fixture::UUID, "11111111-2222-3333-4444-000000000009");
    let other = scene.libvirt.put(&other);
    // As libvirt announced it before.
    let prepared = scene.preparer.prepare(&other, Trigger::Define);
    assert!(prepared.is_ok(), "{prepared:?}");
    let report = scene.prepare(Trigger::Define).expect("prepared");
    let told = report.notes.iter().find(|note| note.code == "VD-DEV-004");
    assert!(told.is_some_and(|note| note.text.contains("'rival'")));
}

#[test]
fn plan_notes_a_device_in_the_pool_of_a_network() {
    let scene = scene();
    let pool = "<network><forward mode='hostdev'><address domain='9' bus='1' slot='0' function='0'/></forward></network>";
    let networks = Networks::new([("p".to_owned(), pool)]);
    scene.preparer.context.networks.learn(networks);
    let report = scene.prepare(Trigger::Define).expect("prepared");
    let told = report.notes.iter().find(|note| note.code == "VD-DEV-004");
    assert!(
        told.is_some_and(|note| note.text.contains("network 'p'")),
        "{report:?}"
    );
}

#[test]
fn plan_notes_another_emulator() {
    let xml = guest(GPU).replace("<devices>", "<devices><emulator>/opt/qemu</emulator>");
    let scene = scene_with(&xml, Config::default());
    scene.libvirt.can(Capabilities {
        emulator: Some("/usr/bin/qemu-system-aarch64".to_owned()),
        iommufd: Some(false),
        ..Capabilities::default()
    });
    let report = scene.prepare(Trigger::Define).expect("prepared");
    let told = report.notes.iter().find(|note| note.code == "VD-TGT-005");
    assert!(told.is_some_and(|note| note.text.contains("'/opt/qemu'")));
}

#[test]
fn an_interface_of_a_pool_counts_as_a_host_device_in_the_plan_and_in_the_hook() {
    const POOL: &str = "<network><forward mode='hostdev'><address type='pci' domain='0x0002' bus='0x01' slot='0x00' function='0x0'/></forward></network>";
    const DEVICES: &str = "<interface type='network'><source network='p'/></interface><iommu model='virtio'/>\n  </devices>";
    // More than the guest's 4 GiB, and less than two devices lock behind a vIOMMU.
    const LIMIT: &str = "<memtune><hard_limit unit='GiB'>6</hard_limit></memtune>\n  <vcpu>";
    let xml = guest(GPU).replace("  </devices>", DEVICES);
    let xml = xml.replace("<vcpu>", LIMIT);
    let (_directory, context) = context(Config::default());
    let libvirt = Arc::new(Fake::default());
    let preparer = Preparer::new(libvirt.clone(), context.clone());
    let domain = libvirt.put(&xml);
    let printed = |report: &Report| {
        let mut notes = report.notes.iter();
        let note = notes.find(|note| note.code == "VD-DEV-008");
        note.map(|note| note.text.clone()).unwrap_or_default()
    };
    let report = preparer
        .prepare(&domain, Trigger::Define)
        .expect("completed");
    assert!(
        printed(&report).contains("libvirt has no such network"),
        "{report:?}"
    );
    let hook = || context.look().verify(&definition(&libvirt.text(&domain)));
    hook().expect("nothing is known of the network");
    libvirt.has_networks(Networks::new([("p".to_owned(), POOL)]));
    let refused = preparer
        .prepare(&domain, Trigger::Define)
        .expect_err("two devices");
    let refused = refused.to_string();
    assert!(
        refused.contains("VD-MEM-005") && refused.contains("each of 2 host devices"),
        "{refused}"
    );
    // It makes no call, and uses the stored versions.
    assert_eq!(hook().expect_err("two devices").code, Code::HardLimit);
    let enough = xml.replace("'GiB'>6<", "'GiB'>9<");
    let saved_plan = preparer
        .propose_text(enough.clone(), Options::default())
        .expect("a plan");
    let named = |note: &planner::saved_plan::Note| note.text.contains("one of 0002:01:00.0");
    assert!(saved_plan.notes.iter().any(named), "{:?}", saved_plan.notes);
}

#[test]
fn definition_without_a_machine_uses_the_default_of_libvirt() {
    let scene = scene();
    let text = |arch: &str| guest(GPU).replace("arch='aarch64' machine='virt'", arch);
    let plan = |text: &str| {
        scene
            .preparer
            .propose_text(text.to_owned(), Options::default())
    };
    let refused = plan(&text("arch='x86_64'")).expect_err("'pc' by the table");
    assert!(refused.to_string().contains("x86_64/pc"), "{refused}");
    let can = |arch: &str, machine: &str| {
        scene.libvirt.can(Capabilities {
            arch: Some(arch.to_owned()),
            machine: Some(machine.to_owned()),
            ..Capabilities::default()
        });
    };
    can("x86_64", "pc-q35-10.0");
    plan(&text("arch='x86_64'")).expect("served");
    plan(&text("")).expect("served");
    can("aarch64", "virt-10.0");
    let saved_plan = plan(&text("")).expect("served");
    assert!(!saved_plan.changes.is_empty());
    can("aarch64", "sbsa-ref");
    let refused = plan(&text("arch='aarch64'")).expect_err("not served");
    assert!(
        refused.to_string().contains("aarch64/sbsa-ref"),
        "{refused}"
    );
}

#[test]
fn a_caller_sets_the_option_for_egm_which_stays() {
    let scene = scene();
    let options = |egm| Options {
        replace: false,
        egm: Some(egm),
        numa: None,
        summary: false,
    };
    // No upstream libvirt has EGM memory.
    let refused = scene.prepare(Trigger::Request(options(true)));
    let refused = refused.expect_err("refused").to_string();
    assert!(refused.contains("VD-EGM-002"), "{refused}");
    assert_eq!(scene.libvirt.text(&scene.domain), guest(GPU));
    let saved = scene.preparer.propose(&scene.domain, options(false));
    let saved = saved.expect("plan");
    assert_eq!(saved.basis.egm, Some(false));
    let report = scene.prepare(Trigger::Request(options(false)));
    assert_eq!(report.expect("prepared").outcome, Outcome::Completed);
    let text = scene.libvirt.text(&scene.domain);
    assert_eq!(text, saved.text);
    assert!(text.contains("egm='off'"), "{text}");
    assert_eq!(scene.outcome(Trigger::Define), Outcome::Complete);
    scene.outcome(Trigger::Revert);
    let text = scene.libvirt.text(&scene.domain);
    assert!(text.contains("egm='off'"), "{text}");
    scene.libvirt.put(&guest(GPU));
    let applied = scene.preparer.apply(&scene.domain, &saved);
    assert_eq!(applied.expect("applied").outcome, Outcome::Completed);
    assert_eq!(scene.libvirt.text(&scene.domain), saved.text);
}

#[test]
fn the_text_of_a_transient_guest_gets_the_option_for_egm_only_on_request() {
    let scene = scene();
    let plan = |egm| {
        let options = Options {
            replace: false,
            egm,
            numa: None,
            summary: false,
        };
        scene.preparer.propose_text(guest(GPU), options)
    };
    let without = plan(None).expect("a plan").text;
    assert!(!without.contains("urn:variantd:options:1"), "{without}");
    let with = plan(Some(false)).expect("a plan").text;
    assert!(with.contains("egm='off'"), "{with}");
    // No upstream libvirt has EGM memory.
    let refused = plan(Some(true)).expect_err("refused").to_string();
    assert!(refused.contains("VD-EGM-002"), "{refused}");
}

/// A scene on the modelled host with 72 CPUs of one thread each.
fn scene_with_cpus(xml: &str) -> Scene {
    let (directory, context) = context(Config::default());
    let mut context = Arc::into_inner(context).expect("no other owner");
    context.read_capacity = Box::new(|_| {
        Ok(Capacity {
            online: Some((0..72).collect()),
            cores: (0..72).map(|cpu| [cpu].into_iter().collect()).collect(),
            ..Capacity::default()
        })
    });
    let libvirt = Arc::new(Fake::default());
    Scene {
        domain: libvirt.put(xml),
        preparer: Preparer::new(libvirt.clone(), Arc::new(context)),
        libvirt,
        _directory: directory,
    }
}

#[test]
fn a_caller_has_the_numa_layout_mirrored_beside_running_and_defined_guests() {
    let scene = scene_with_cpus(&guest(GPU));
    let other = |name: &str, uuid: u8, cpus: &str| {
        format!(
            "<domain type='kvm'><name>{name}</name><uuid>6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a{uuid}</uuid><vcpu>2</vcpu>\
             <cputune><vcpupin vcpu='0' cpuset='{cpus}'/></cputune><devices/></domain>"
        )
    };
    scene.libvirt.put(&other("defined", 22, "0-1"));
    scene.libvirt.run(&other("running", 33, "2-3"));
    let options = |numa| Options {
        numa: Some(numa),
        ..Options::default()
    };
    let mirror = options(NumaMode::Mirror);
    let saved = scene.preparer.propose(&scene.domain, mirror).expect("plan");
    assert_eq!(saved.basis.numa, Some(NumaMode::Mirror));
    let report = scene.prepare(Trigger::Request(mirror)).expect("prepared");
    assert_eq!(report.outcome, Outcome::Completed);
    let text = scene.libvirt.text(&scene.domain);
    assert_eq!(text, saved.text);
    let domain = Domain::parse(&text).expect("a domain");
    let pins: Vec<String> = domain
        .binding
        .pins
        .values()
        .map(ToString::to_string)
        .collect();
    assert_eq!(pins, ["4", "5", "6", "7"]);
    // Its own event finds nothing to do, and another guest changes nothing.
    scene.libvirt.put(&other("later", 44, "4-7"));
    assert_eq!(scene.outcome(Trigger::Define), Outcome::Complete);
    let reverted = scene.outcome(Trigger::Revert);
    assert_eq!(reverted, Outcome::Reverted);
    let text = scene.libvirt.text(&scene.domain);
    assert!(
        text.contains("numa='mirror'") && !text.contains("vcpupin"),
        "{text}"
    );
    scene.libvirt.put(&guest(GPU));
    let stale = scene
        .preparer
        .apply(&scene.domain, &saved)
        .expect_err("stale")
        .to_string();
    assert!(
        stale.contains("CPUs, huge pages or other guests"),
        "{stale}"
    );
    let keep = Trigger::Request(options(NumaMode::Keep));
    assert_eq!(scene.outcome(keep), Outcome::Completed);
    let text = scene.libvirt.text(&scene.domain);
    assert!(
        text.contains("numa='keep'") && !text.contains("vcpupin"),
        "{text}"
    );
}
