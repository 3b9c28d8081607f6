//! What a pair of libvirt and QEMU that do not fit gets: spellings of an SMMUv3, notes and refusals.

use super::PlanInput;
use super::smmu_test::{THROUGH, all, codes, fixture};
use super::testing::{GPUS, guest, hostdev};
use crate::fixture::rewrite;
use crate::rewrite::Rewrite;
use crate::stack::{Feature, How, Spelling, Stack, Value, ValueType};
use domain::Domain;
use domain::code::Code;

/// The rewrite of all GPUs for a stack.
fn planned_for(stack: Stack) -> Rewrite {
    let fixture = fixture(false);
    let input = PlanInput {
        target: stack.into(),
        ..fixture.input()
    };
    rewrite(&all(), &input).expect("a plan")
}

/// The first SMMUv3's `<driver>`, from `accel` on.
fn attributes(text: &str) -> &str {
    let (_, rest) = text.split_once("accel='on'").expect("an SMMUv3");
    rest.split_once("/>").expect("an end").0
}

#[test]
fn an_smmu_has_the_spelling_that_the_pair_takes() {
    let old = planned_for(Stack::named("nvidia-10.1").expect("a stack"));
    let pasid = " ats='on' ril='off' pasid='on' oas='48'";
    assert_eq!(attributes(&old.text), pasid);
    let note = old
        .plan
        .notes
        .iter()
        .find(|note| note.code == Code::SmmuAssumed);
    let text = &note.expect("a note").text;
    assert!(text.contains("pasid on, oas 48"), "{text}");
    let new = planned_for(Stack::named("nvidia-11.0").expect("a stack"));
    assert_eq!(attributes(&new.text), "");
    for one in [&old, &new] {
        assert_eq!(one.text.matches(THROUGH).count(), GPUS.len());
        assert!(one.text.contains("<pcihole64"), "{}", one.text);
    }
    let mut draft = Stack::named("nvidia-10.1").expect("a stack");
    for (feature, name) in [
        (Feature::SmmuSsid, Spelling::SsidSizeVendor),
        (Feature::QemuSmmuSsid, Spelling::SsidSize),
    ] {
        let set = draft.set(feature, Value::Named(name), How::Asked);
        set.expect("a name");
    }
    let attributes_of_draft = " ats='on' ril='off' ssidSize='20' oas='48'";
    assert_eq!(attributes(&planned_for(draft).text), attributes_of_draft);
}

/// NVIDIA's older libvirt with a QEMU whose `oas` is a string, both asked.
fn misfit() -> Stack {
    let mut stack = Stack::named("nvidia-10.1").expect("a stack");
    for (feature, of) in [
        (Feature::SmmuOasType, ValueType::Integer),
        (Feature::QemuSmmuOasType, ValueType::Auto),
    ] {
        let set = stack.set(feature, Value::Type(of), How::Asked);
        set.expect("a type");
    }
    stack
}

#[test]
fn an_smmu_whose_attributes_do_not_fit_is_left_out_with_both_packages() {
    let got = planned_for(misfit());
    assert!(!got.text.contains("<iommu "), "{}", got.text);
    let note = got
        .plan
        .notes
        .iter()
        .find(|note| note.code == Code::SmmuLeftOut);
    let text = &note.expect("a note").text;
    for what in [
        "11.9.0+nvidia4-1 writes 'oas' as a number",
        "nvidia5-1 takes a string",
    ] {
        assert!(text.contains(what), "{text}");
    }
}

#[test]
fn a_definition_whose_attributes_do_not_fit_is_refused_where_both_were_asked() {
    let own = "<iommu model='smmuv3'><driver pciBus='0' accel='on' oas='48'/></iommu></devices>";
    let text = all().replace("</devices>", own);
    let fixture = fixture(false);
    let plan = |stack: Stack| {
        let target = stack.into();
        rewrite(
            &text,
            &PlanInput {
                target,
                ..fixture.input()
            },
        )
    };
    let refusal = plan(misfit()).expect_err("a refusal");
    assert_eq!(refusal.code, Code::SmmuPair, "{refusal}");
    assert!(refusal.reason.contains("11.9.0+nvidia4-1"), "{refusal}");
    assert!(refusal.reason.contains("1:10.1.0+nvidia5-1"), "{refusal}");
    let assumed = plan(Stack::named("nvidia-11.0").expect("a stack")).expect("a plan");
    assert!(codes(&assumed.plan).contains(&Code::SmmuPair));
    let fits = plan(Stack::named("nvidia-10.1").expect("a stack")).expect("a plan");
    assert!(!codes(&fits.plan).contains(&Code::SmmuPair));
}

#[test]
fn command_queues_that_do_not_fit_are_left_out_with_a_note() {
    let mut fixture = fixture(false);
    let grace = include_str!("../../../recipes/nvidia-grace.toml");
    let with = grace.replace("oas = 48", "oas = 48\ncmdqv = true");
    fixture.recipes = crate::recipe::Recipes::of(&[&with]);
    let plan = |stack: &str| {
        let target = Stack::named(stack).expect("a stack").into();
        rewrite(
            &all(),
            &PlanInput {
                target,
                ..fixture.input()
            },
        )
        .expect("a plan")
    };
    let new = plan("nvidia-11.0");
    assert!(!new.text.contains("cmdqv"), "{}", new.text);
    let note = new
        .plan
        .notes
        .iter()
        .find(|note| note.code == Code::SmmuPair);
    let text = &note.expect("a note").text;
    assert!(text.contains("writes 'tegra241-cmdqv'"), "{text}");
    let old = plan("nvidia-10.1");
    assert!(old.text.contains("cmdqv='on'"), "{}", old.text);
    assert!(codes(&old.plan).contains(&Code::CommandQueues));
}

#[test]
fn old_spellings_of_an_accelerated_smmu_are_read() {
    for (iommu, bus) in [
        (
            "<iommu model='nestedSmmuv3'><cmdqv>true</cmdqv></iommu>",
            None,
        ),
        (
            "<iommu model='smmuv3Dev' parentIdx='1' accel='on'/>",
            Some(1),
        ),
        (
            "<iommu model='smmuv3Dev'><driver parentIdx='1' accel='on'/></iommu>",
            Some(1),
        ),
        (
            "<iommu model='smmuv3'><driver pciBus='1' accel='on' pasid='on'/></iommu>",
            Some(1),
        ),
    ] {
        let text = guest("").replace("</devices>", &format!("{iommu}</devices>"));
        let domain = Domain::parse(&text).expect("a domain");
        let iommus = &domain.platform.iommus;
        let read = iommus.first().expect("an <iommu>");
        let found = (read.model.as_str(), read.bus, read.accelerated);
        assert_eq!(found, ("smmuv3", bus, true), "{iommu}");
    }
}

#[test]
fn a_device_without_a_recipe_behind_an_smmu_gets_the_hint_that_its_libvirt_takes() {
    let fixture = fixture(false);
    let at = "<address type='pci' domain='0' bus='0' slot='5' function='0'/>";
    let plan = |nic: &str| {
        let nic = hostdev("0002:01:00.0", &format!("{nic}{at}"));
        let own = "<iommu model='smmuv3'><driver pciBus='0' accel='on'/></iommu></devices>";
        let text = all().replace("</devices>", &format!("{nic}{own}"));
        let target = Stack::named("nvidia-10.1").expect("a stack").into();
        let input = PlanInput {
            target,
            ..fixture.input()
        };
        rewrite(&text, &input)
    };
    let refusal = plan("").expect_err("a refusal");
    assert_eq!(refusal.code, Code::IommufdLeftOut, "{refusal}");
    let hint = refusal.hint.to_string();
    assert!(
        hint.contains("<driver iommufd='yes'/> on its <hostdev>"),
        "{hint}"
    );
    let done = plan("<driver name='vfio' iommufd='yes'/>").expect("a plan");
    assert!(!done.text.contains("<iommufd"), "{}", done.text);
}
