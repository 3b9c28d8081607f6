//! EGM memory: planned on request, with each rule as a refusal, and reverted.

use kernel_glue::egm::EgmRegion;

use super::smmu_test::{codes, fixture};
use super::testing::{Fixture, GPUS, address, guest, hostdev};
use super::{Note, PlanInput, check_bound_egm};
use crate::fixture::{self as one_socket, revert, rewrite, verify};
use crate::recipe::Recipes;
use crate::stack::{Feature, How, Stack, Value};
use crate::target::Target;
use domain::code::Code;
use domain::edit::apply;
use domain::refusal::Refusal;
use domain::{Domain, Piece};

/// MiB of a region of a GB200.
const MIB: u64 = 457_728;

const ON: &str = "egm='on'";

/// GPUs bound to their driver, and a region for each socket.
fn host() -> Fixture {
    let mut fixture = fixture(false);
    for (at, _) in GPUS {
        bind(&mut fixture, at, "nvgrace_gpu_vfio_pci");
    }
    let region = |number, gpus: [&str; 2]| EgmRegion {
        number,
        bytes: Some(MIB << 20),
        gpus: gpus.map(address).into(),
    };
    fixture.host.egm = vec![
        region(4, [GPUS[0].0, GPUS[1].0]),
        region(5, [GPUS[2].0, GPUS[3].0]),
    ];
    fixture
}

fn bind(fixture: &mut Fixture, at: &str, driver: &str) {
    let device = fixture.host.devices.get_mut(&address(at)).expect("gpu");
    device.driver = Some(driver.parse().expect("driver"));
}

fn input<'a>(fixture: &'a Fixture, target: &str) -> PlanInput<'a> {
    PlanInput {
        target: target.parse::<Target>().expect("target"),
        ..fixture.input()
    }
}

fn planned(fixture: &Fixture, text: &str) -> Result<crate::rewrite::Rewrite, Refusal> {
    rewrite(text, &input(fixture, "nvidia-10.1"))
}

/// A guest with the first `count` GPUs, two cells of so many MiB, and options.
fn with(options: &str, count: usize, cells: [u64; 2]) -> String {
    let hostdevs = GPUS[..count].iter().map(|(at, _)| hostdev(at, ""));
    let numa = format!(
        "<numatune><memnode cellid='0' mode='strict' nodeset='0'/><memnode cellid='1' mode='strict' nodeset='1'/></numatune>\
         <cpu mode='host-passthrough'><numa><cell id='0' cpus='0-1' memory='{}'/><cell id='1' cpus='2-3' memory='{}'/></numa></cpu>",
        cells[0] << 10,
        cells[1] << 10
    );
    let metadata =
        format!("<metadata><o:options xmlns:o='urn:variantd:options:1' {options}/></metadata>\n");
    guest(&hostdevs.collect::<String>())
        .replace("<cpu mode='host-passthrough'/>", &numa)
        .replace("  <vcpu>", &format!("  {metadata}  <vcpu>"))
}

fn all() -> String {
    with(ON, 4, [MIB; 2])
}

/// Path, MiB, cell and alias of each EGM memory.
fn memories(text: &str) -> Vec<(String, u64, Option<u32>, String)> {
    let domain = Domain::parse(text).expect("a domain");
    let egm = domain.platform.egm.into_iter();
    egm.map(|one| (one.path, one.kib >> 10, one.cell, one.alias))
        .collect()
}

fn refusal(fixture: &Fixture, text: &str) -> Refusal {
    planned(fixture, text).expect_err("refused")
}

/// A host with recipe `[egm]` that has this need.
fn needing(need: &str) -> Fixture {
    let grace = include_str!("../../../recipes/nvidia-grace.toml");
    let text = grace.replace(
        "[egm]\nneed = \"ignore\"",
        &format!("[egm]\nneed = \"{need}\""),
    );
    assert!(need == "ignore" || text != grace);
    Fixture {
        recipes: Recipes::of(&[&text]),
        ..host()
    }
}

#[test]
fn each_gpu_gets_an_even_share_of_its_sockets_region() {
    let (fixture, text) = (host(), all());
    let got = planned(&fixture, &text).expect("planned");
    let share = |path: &str, cell, at: &str| {
        let alias = format!("ua-variantd-{}", at.replace([':', '.'], "-"));
        (path.to_owned(), MIB / 2, Some(cell), alias)
    };
    let wanted = [
        share("/dev/egm4", 0, GPUS[0].0),
        share("/dev/egm4", 0, GPUS[1].0),
        share("/dev/egm5", 1, GPUS[2].0),
        share("/dev/egm5", 1, GPUS[3].0),
    ];
    assert_eq!(memories(&got.text), wanted);
    let domain = Domain::parse(&got.text).expect("a domain");
    assert_eq!(domain.memory_kib, (2 * MIB) << 10);
    let aliases = domain
        .hostdevs
        .iter()
        .map(|hostdev| hostdev.alias.as_deref());
    assert!(aliases.eq(wanted.iter().map(|one| Some(one.3.as_str()))));
    assert_eq!(planned(&fixture, &got.text).expect("again").text, got.text);
    verify(&got.text, &input(&fixture, "nvidia-10.1")).expect("it starts");
    assert_eq!(revert(&got.text).expect("reverted"), text);
    let element = &got.text[domain.platform.egm[0].element.span.clone()];
    insta::assert_snapshot!(element);
}

#[test]
fn a_guest_without_the_option_gets_no_egm_memory_and_keeps_its_own() {
    let fixture = host();
    for options in ["", "egm='off'"] {
        let got = planned(&fixture, &with(options, 4, [MIB; 2])).expect("planned");
        assert_eq!(memories(&got.text), []);
        assert!(
            !got.plan
                .added
                .iter()
                .any(|piece| matches!(piece, Piece::Egm(_)))
        );
    }
    let own = planned(&fixture, &all()).expect("planned").text;
    let mark = own.find("<variantd:prepared").expect("a mark");
    let end = own.find("</variantd:prepared>").expect("an end") + "</variantd:prepared>".len();
    let own = format!("{}{}", &own[..mark], &own[end..]);
    for options in ["", "egm='off'", ON] {
        let own = own.replace(ON, options);
        let got = planned(&fixture, &own).expect("planned");
        assert_eq!(memories(&got.text), memories(&own));
        assert_eq!(
            memories(&revert(&got.text).expect("reverted")),
            memories(&own)
        );
    }
}

#[test]
fn a_start_without_egm_memory_that_is_asked_for_is_refused() {
    let fixture = host();
    let lacking = verify(&all(), &input(&fixture, "nvidia-10.1")).expect_err("incomplete");
    assert!(lacking.hint.as_str().contains("prepare"), "{lacking}");
    let prepared = planned(&fixture, &all()).expect("planned").text;
    let domain = Domain::parse(&prepared).expect("a domain");
    let edit = domain.platform.egm[3].element.remove();
    let without = apply(&prepared, [&edit]).expect("edited");
    let refusal = verify(&without, &input(&fixture, "nvidia-10.1")).expect_err("incomplete");
    assert_eq!(refusal.code, Code::EgmMissing, "{refusal}");
    assert_eq!(planned(&fixture, &without).expect("again").text, prepared);
}

#[test]
fn each_rule_is_a_refusal_that_names_the_values() {
    let fixture = host();
    let huge = all().replace(
        "  <vcpu>",
        "  <memoryBacking><hugepages/></memoryBacking><vcpu>",
    );
    let unbound_cell = all().replace("<memnode cellid='1' mode='strict' nodeset='1'/>", "");
    for (text, code, words) in [
        (
            with(ON, 3, [MIB; 2]),
            Code::EgmShared,
            "/dev/egm5 is also that of '0019:01:00.0'",
        ),
        (
            with(ON, 1, [MIB; 2]),
            Code::EgmShared,
            "/dev/egm4 is also that of '0009:01:00.0'",
        ),
        (
            with(ON, 4, [MIB + 2, MIB]),
            Code::EgmSize,
            "cell 0 has 468715520 KiB, and /dev/egm4 has 468713472 KiB",
        ),
        (
            with(ON, 4, [MIB, 4095]),
            Code::EgmSize,
            "no even number of MiB for 2 GPUs",
        ),
        (huge, Code::EgmHugepages, "huge pages"),
        (
            unbound_cell,
            Code::EgmCell,
            "no cell is bound to its socket",
        ),
    ] {
        let refusal = refusal(&fixture, &text);
        assert_eq!(refusal.code, code, "{refusal}");
        assert!(refusal.reason.contains(words), "{words}: {refusal}");
        assert!(!refusal.hint.as_str().is_empty());
    }
    assert!(planned(&fixture, &with(ON, 4, [16 << 10, 4096])).is_ok());
    assert!(planned(&fixture, &with(ON, 2, [MIB; 2])).is_ok());
}

#[test]
fn one_cell_cannot_be_the_memory_of_two_regions() {
    let one = "<cpu mode='host-passthrough'><numa><cell id='0' cpus='0-3' memory='4194304'/></numa></cpu>";
    let text = all();
    let (start, end) = (text.find("<numatune>"), text.find("</cpu>"));
    let span = start.expect("start")..end.expect("end") + "</cpu>".len();
    let refusal = refusal(&host(), &text.replace(&text[span], one));
    assert_eq!(refusal.code, Code::EgmCell, "{refusal}");
    assert!(
        refusal.reason.contains("/dev/egm4 and of /dev/egm5"),
        "{refusal}"
    );
}

#[test]
fn a_guest_without_cells_gets_one_that_is_the_region() {
    let mut fixture = Fixture {
        host: one_socket::host_on("nvgrace_gpu_vfio_pci"),
        ..host()
    };
    fixture.host.egm = vec![EgmRegion {
        number: 4,
        bytes: Some(MIB << 20),
        gpus: [address(one_socket::GPU)].into(),
    }];
    let options = format!("<metadata><options xmlns='urn:variantd:options:1' {ON}/></metadata>");
    let text = one_socket::guest(one_socket::GPU).replace("  <vcpu>", &format!("{options}<vcpu>"));
    let got = planned(&fixture, &text).expect("planned").text;
    let (path, mib, cell, _) = &memories(&got)[0];
    assert_eq!((path.as_str(), *mib, *cell), ("/dev/egm4", 4096, Some(0)));
    assert_eq!(planned(&fixture, &got).expect("again").text, got);
    assert_eq!(revert(&got).expect("reverted"), text);
}

#[test]
fn a_stack_without_one_half_refuses_and_names_the_package() {
    let fixture = host();
    for target in ["debian-testing", "ubuntu-26.04"] {
        let input = input(&fixture, target);
        let refusal = rewrite(&all(), &input).expect_err("refused");
        assert_eq!(refusal.code, Code::EgmLeftOut, "{refusal}");
        let Stack { libvirt, qemu, .. } = input.target.stack;
        let words = format!("libvirt {libvirt} and QEMU {qemu} have no EGM");
        assert!(refusal.reason.contains(&words), "{refusal}");
        assert!(
            refusal.hint.as_str().contains("11.9.0+nvidia2"),
            "{refusal}"
        );
    }
    for (half, reason, hint) in [
        (
            Feature::QemuEgm,
            "QEMU 1:10.1.0+nvidia5-1 has no 'acpi-egm-memory' for the <memory model='egm'> of libvirt 11.9.0+nvidia4-1",
            "use NVIDIA's QEMU, or no EGM",
        ),
        (
            Feature::Egm,
            "libvirt 11.9.0+nvidia4-1 has no <memory model='egm'> for the 'acpi-egm-memory' of QEMU 1:10.1.0+nvidia5-1",
            "use libvirt 11.9.0+nvidia2, or no EGM",
        ),
    ] {
        let mut input = input(&fixture, "nvidia-10.1");
        let stack = &mut input.target.stack;
        let set = stack.set(half, Value::Has(false), How::Asked);
        set.expect("set");
        let refusal = rewrite(&all(), &input).expect_err("refused");
        assert_eq!(refusal.code, Code::EgmLeftOut, "{refusal}");
        assert_eq!((&*refusal.reason, refusal.hint.as_str()), (reason, hint));
        assert!(refusal.to_string().len() <= 160, "{refusal}");
        // A recipe that prefers EGM leaves it out for the same reason.
        let prefers = needing("prefer");
        let prefers = PlanInput {
            target: input.target,
            ..prefers.input()
        };
        let text = with("", 4, [MIB; 2]);
        let plan = rewrite(&text, &prefers).expect("planned").plan;
        let note = plan.notes.iter().find(|note| note.code == Code::EgmLeftOut);
        assert!(note.expect("a note").text.ends_with(reason));
    }
}

#[test]
fn a_recipe_that_prefers_egm_leaves_it_out_with_a_note_and_one_that_requires_it_refuses() {
    let text = with("", 3, [MIB; 2]);
    let got = planned(&needing("prefer"), &text).expect("planned");
    let note = |note: &&Note| note.code == Code::EgmLeftOut;
    let note = got.plan.notes.iter().find(note).expect("a note");
    assert!(
        note.text.contains("/dev/egm5 is also that of"),
        "{}",
        note.text
    );
    assert_eq!(memories(&got.text), []);
    assert_eq!(refusal(&needing("require"), &text).code, Code::EgmShared);
    let whole = planned(&needing("prefer"), &with("", 4, [MIB; 2])).expect("planned");
    assert_eq!(memories(&whole.text).len(), 4);
    let off = planned(&needing("require"), &with("egm='off'", 3, [MIB; 2])).expect("planned");
    assert_eq!(memories(&off.text), []);
}

#[test]
fn while_gpus_are_not_bound_a_complete_guest_may_start_and_a_new_one_waits() {
    let fixture = host();
    let prepared = planned(&fixture, &all()).expect("planned").text;
    let mut unbound = host();
    unbound.host.egm.clear();
    for (at, _) in GPUS {
        bind(&mut unbound, at, "nvidia");
    }
    let refused = refusal(&unbound, &all());
    assert_eq!(refused.code, Code::EgmUnbound, "{refused}");
    assert!(
        refused
            .hint
            .as_str()
            .contains("variantctl bind 0008:01:00.0"),
        "{refused}"
    );
    let plan = verify(&prepared, &input(&unbound, "nvidia-10.1")).expect("it starts");
    let notes = codes(&plan)
        .into_iter()
        .filter(|code| *code == Code::EgmUnbound);
    assert_eq!(notes.count(), 4);
    assert_eq!(planned(&unbound, &prepared).expect("kept").text, prepared);
    // Bound by the agent at the start: the region has another number than at planning time.
    let mut moved = host();
    moved.host.egm[0].number = 2;
    let domain = Domain::parse(&prepared).expect("a domain");
    check_bound_egm(&input(&fixture, "nvidia-10.1"), &domain).expect("it starts");
    let refused = check_bound_egm(&input(&moved, "nvidia-10.1"), &domain).expect_err("moved");
    assert_eq!(refused.code, Code::EgmWrong, "{refused}");
    assert_eq!(
        refused.hint.as_str(),
        "run 'variantctl bind 0008:01:00.0' and 'variantctl prepare d0'"
    );
    // Bound, and still no region: the firmware has none.
    unbound.host.devices.clone_from(&fixture.host.devices);
    let refused = refusal(&unbound, &all());
    assert_eq!(refused.code, Code::EgmLeftOut, "{refused}");
    assert!(refused.hint.as_str().contains("firmware"), "{refused}");
}

#[test]
fn memory_of_ours_follows_the_cell_the_region_and_the_option() {
    let fixture = host();
    let text = all();
    let prepared = planned(&fixture, &text).expect("planned").text;
    let edits: [(String, String); 2] = [
        (
            format!("memory='{}'", MIB << 10),
            format!("memory='{}'", 4096 << 10),
        ),
        (ON.to_owned(), "egm='off'".to_owned()),
    ];
    for (old, new) in edits {
        let (edited, fresh) = (prepared.replace(&old, &new), text.replace(&old, &new));
        let fresh = planned(&fixture, &fresh).expect("planned").text;
        assert!(verify(&edited, &input(&fixture, "nvidia-10.1")).is_err());
        assert_eq!(planned(&fixture, &edited).expect("again").text, fresh);
    }
    let mut moved = host();
    moved.host.egm[0].number = 2;
    let again = planned(&moved, &prepared).expect("again").text;
    assert_eq!(memories(&again)[1].0, "/dev/egm2");
    assert_eq!(revert(&again).expect("reverted"), text);
}

#[test]
fn the_users_own_memory_is_refused_where_it_contradicts() {
    let fixture = host();
    let prepared = planned(&fixture, &all()).expect("planned").text;
    let own = revert(&prepared).expect("reverted").replace(ON, "");
    let element = |path: &str, mib: u64, node: &str, alias: &str| {
        format!(
            "<memory model='egm' access='shared'><source><path>{path}</path></source><target><size unit='MiB'>{mib}</size>{node}<pciDev>{alias}</pciDev></target></memory>"
        )
    };
    let guest = |elements: &str| {
        let alias = "</source>\n<alias name='ua-gpu'/>";
        own.replacen("</source>\n", alias, 1)
            .replace("</devices>", &format!("{elements}</devices>"))
    };
    let node = "<node>0</node>";
    for (elements, code, words) in [
        (
            element("/dev/egm9", MIB, node, "ua-other"),
            Code::EgmWrong,
            "the alias of no hostdev",
        ),
        (
            element("/dev/egm9", MIB, "", "ua-gpu"),
            Code::EgmWrong,
            "no <node>",
        ),
        (
            element("/dev/egm9", 4, node, "ua-gpu"),
            Code::EgmSize,
            "its shares of /dev/egm9 are 4096 KiB",
        ),
        (
            element("/dev/egm9", 4, node, "ua-gpu").repeat(2),
            Code::EgmWrong,
            "two <memory",
        ),
        (
            element("/dev/egm4", MIB + 1, node, "ua-gpu"),
            Code::EgmSize,
            "which has 468713472 KiB",
        ),
    ] {
        let refusal = refusal(&fixture, &guest(&elements));
        assert_eq!(refusal.code, code, "{refusal}");
        assert!(refusal.reason.contains(words), "{words}: {refusal}");
    }
    let asked = guest(&element("/dev/egm5", MIB, node, "ua-gpu")).replace("1' />", "1' egm='on'/>");
    let refusal = refusal(&fixture, &asked);
    assert_eq!(refusal.code, Code::EgmWrong, "{refusal}");
    assert!(refusal.reason.contains("/dev/egm4 is needed"), "{refusal}");
}

#[test]
fn command_queues_accept_egm_as_contiguous_memory() {
    let fixture = host();
    for (options, noted) in [("cmdqv='on'", true), ("egm='on' cmdqv='on'", false)] {
        let got = planned(&fixture, &with(options, 4, [MIB; 2])).expect("planned");
        assert!(got.text.contains("cmdqv='on'"), "{}", got.text);
        let has_note = codes(&got.plan).contains(&Code::CommandQueues);
        assert_eq!(has_note, noted, "{options}");
        assert_eq!(planned(&fixture, &got.text).expect("again").text, got.text);
    }
    let huge = with("cmdqv='on'", 4, [MIB; 2]).replace(
        "  <vcpu>",
        "  <memoryBacking><hugepages/></memoryBacking><vcpu>",
    );
    let got = planned(&fixture, &huge).expect("planned");
    assert!(!codes(&got.plan).contains(&Code::CommandQueues));
}

#[test]
fn command_queues_need_a_kernel_and_a_pair_that_have_them() {
    let text = with("cmdqv='on'", 4, [MIB; 2]);
    let mut fixture = host();
    let lacking = |fixture: &Fixture, target: &str| {
        let got = rewrite(&text, &input(fixture, target)).expect("planned");
        assert!(!got.text.contains("cmdqv='on' "), "{}", got.text);
        let note = |note: &&Note| matches!(note.code, Code::CommandQueues | Code::SmmuPair);
        got.plan
            .notes
            .iter()
            .find(note)
            .expect("a note")
            .text
            .clone()
    };
    let pair = lacking(&fixture, "nvidia-11.0");
    assert!(pair.contains("writes 'tegra241-cmdqv', and QEMU"), "{pair}");
    fixture.host.kernel_release = Some("6.14.0-37-generic".to_owned());
    let old = lacking(&fixture, "nvidia-10.1");
    assert!(old.contains("6.14.0-37-generic gives guests none"), "{old}");
    fixture.host.kernel_release = Some("6.17.0-1008-nvidia-64k".to_owned());
    fixture.host.command_queues = Some(false);
    let built = lacking(&fixture, "nvidia-10.1");
    assert!(built.contains("CONFIG_TEGRA241_CMDQV"), "{built}");
    let off = text.replace("cmdqv='on'", "cmdqv='off'");
    let off = rewrite(&off, &input(&fixture, "nvidia-10.1")).expect("planned");
    assert!(off.text.contains("oas='48' cmdqv='off'"), "{}", off.text);
}

/// The result of a caller that sets the option.
fn set(
    fixture: &Fixture,
    text: &str,
    egm: Option<bool>,
) -> Result<crate::rewrite::Rewrite, Refusal> {
    let input = PlanInput {
        egm,
        ..input(fixture, "nvidia-10.1")
    };
    rewrite(text, &input)
}

#[test]
fn a_caller_sets_the_option_which_later_starts_find() {
    let fixture = host();
    let namespace = "xmlns:o='urn:variantd:options:1'";
    for (before, after) in [
        ("cmdqv='off'", format!("egm='on' {namespace} cmdqv='off'")),
        (
            "egm='off' cmdqv='off'",
            format!("{namespace} egm='on' cmdqv='off'"),
        ),
        (
            "cmdqv='off' egm='off'",
            format!("{namespace} cmdqv='off' egm='on'"),
        ),
    ] {
        let text = with(before, 4, [MIB; 2]);
        let done = set(&fixture, &text, Some(true)).expect("planned");
        let wanted = text.replace(&format!("{namespace} {before}"), &after);
        assert_eq!(done.text, planned(&fixture, &wanted).expect("planned").text);
        assert!(codes(&done.plan).contains(&Code::EgmOption));
        verify(&done.text, &input(&fixture, "nvidia-10.1")).expect("it starts");
        assert_eq!(revert(&done.text).expect("reverted"), wanted);
        let again = set(&fixture, &done.text, Some(true)).expect("planned");
        assert_eq!(again.text, done.text);
        assert!(!codes(&again.plan).contains(&Code::EgmOption));
        let off = set(&fixture, &done.text, Some(false))
            .expect("planned")
            .text;
        let without = wanted.replace("egm='on'", "egm='off'");
        assert_eq!(off, planned(&fixture, &without).expect("planned").text);
        assert_eq!(memories(&off), []);
    }
}

#[test]
fn the_option_is_written_into_a_definition_without_options_or_metadata() {
    let fixture = host();
    let text = all();
    let (start, end) = (text.find("  <metadata>"), text.find("</metadata>\n"));
    let metadata = start.expect("start")..end.expect("end") + "</metadata>\n".len();
    let without = [&text[..metadata.start], &text[metadata.end..]].concat();
    let options = "<variantd:options xmlns:variantd='urn:variantd:options:1' egm='on'/>";
    for (metadata, wanted) in [
        ("", format!("<metadata>\n    {options}\n  </metadata>")),
        (
            "  <metadata/>\n",
            format!("<metadata>\n    {options}\n  </metadata>"),
        ),
        (
            "  <metadata>\n    <a xmlns='urn:a'/>\n  </metadata>\n",
            format!("<metadata>\n    <a xmlns='urn:a'/>\n    {options}\n  </metadata>"),
        ),
    ] {
        let text = without.replace("  <vcpu>", &format!("{metadata}  <vcpu>"));
        let done = set(&fixture, &text, Some(true)).expect("planned").text;
        let plain = revert(&done).expect("reverted");
        assert!(plain.contains(&wanted), "{plain}");
        assert_eq!(memories(&done).len(), 4);
        let again = set(&fixture, &done, Some(true)).expect("planned").text;
        assert_eq!(again, done);
    }
}

#[test]
fn a_caller_who_asks_for_egm_that_no_device_can_have_is_refused_and_other_guests_stay() {
    let grace = include_str!("../../../recipes/nvidia-grace.toml");
    let section = "[egm]\nneed = \"ignore\"";
    assert!(grace.contains(section));
    let lacking = Fixture {
        recipes: Recipes::of(&[&grace.replace(section, "")]),
        ..host()
    };
    let plain = with("", 4, [MIB; 2]);
    let refusal = set(&lacking, &plain, Some(true)).expect_err("refused");
    assert_eq!(refusal.code, Code::EgmLeftOut, "{refusal}");
    assert_eq!(refusal.hint.as_str(), "plan without '--egm on'");
    let unrelated = guest("");
    assert_eq!(
        set(&host(), &unrelated, Some(true)).expect("kept").text,
        unrelated
    );
}
