//! Domain XML, through the plan to the edits and back.

use std::sync::LazyLock;

use agent::snapshot::Snapshot;
use domain::edit::Edit;
use domain::{Definition, MAX_BYTES, NAMESPACE};
use kernel_glue::address::PciAddress;
use kernel_glue::host::Host;
use planner::plan::{PlanInput, plan};
use planner::recipe::Recipes;
use planner::revert;
use planner::rewrite;
use roxmltree::Document;

static RECIPES: LazyLock<Recipes> = LazyLock::new(|| Recipes::shipped().expect("recipes"));

/// Recorded hosts: GPUs at 0009:01:00.0 and elsewhere, for both architectures.
static HOSTS: LazyLock<Vec<Host>> = LazyLock::new(|| {
    let read = |name: &str| Host::read(&testing::hosts::directory(name)).expect("modelled host");
    ["gh200-1gpu", "hgx-8gpu", "gb200-4gpu"].map(read).into()
});

const VERSIONS: [&str; 2] = ["libvirt=12.8,qemu=11.1", "libvirt=11.3,qemu=10.0"];

/// Any definition is refused or completed. A completed one is well-formed, has the input's bytes outside of the edits, is found
/// complete when it is planned again, and reverts to exactly the input.
pub(crate) fn rewrite(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Ok(definition) = Definition::parse(text) else {
        return;
    };
    assert!(text.len() <= MAX_BYTES, "an oversized text was read");
    for host in &*HOSTS {
        for versions in VERSIONS {
            completed(&definition, &plan_input(host, versions));
        }
    }
}

/// A definition with any mark, also a forged one, reverts without damage, and a second revert changes nothing.
pub(crate) fn revert(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let read = |text: &str| Definition::parse(text);
    let Ok(reverted) = read(text).and_then(|definition| revert::revert(&definition)) else {
        return;
    };
    well_formed(&reverted);
    assert!(reverted.len() <= text.len(), "taking back added something");
    let again = read(&reverted).and_then(|definition| revert::revert(&definition));
    let again = again.expect("what was taken back can be read");
    assert_eq!(again, reverted, "taking back twice is not taking back once");
    rewrite(input);
}

/// Any snapshot is refused or accepted; with an accepted one a guest with two of its devices is planned or refused.
pub(crate) fn snapshot(input: &[u8]) {
    let Ok(snapshot) = Snapshot::parse(input, "a snapshot") else {
        return;
    };
    let again = Snapshot::parse(snapshot.text().as_bytes(), "its own text");
    assert_eq!(again.expect("what was read is written"), snapshot);
    let devices = snapshot.host.devices.keys().take(2);
    let hostdevs: String = devices.map(|address| hostdev(*address)).collect();
    let text = format!(
        "<domain type='kvm'><name>a</name><memory>1048576</memory><vcpu>2</vcpu>\
         <os><type arch='x86_64' machine='q35'>hvm</type></os><devices>{hostdevs}</devices></domain>"
    );
    let definition = Definition::parse(text).expect("a definition");
    for versions in VERSIONS {
        completed(&definition, &plan_input(&snapshot.host, versions));
    }
}

fn hostdev(address: PciAddress) -> String {
    format!(
        "<hostdev mode='subsystem' type='pci' managed='no'><source><address domain='{:#06x}' bus='{:#04x}' slot='{:#04x}' \
         function='{:#x}'/></source></hostdev>",
        address.domain(),
        address.bus(),
        address.device(),
        address.function()
    )
}

fn plan_input<'a>(host: &'a Host, versions: &str) -> PlanInput<'a> {
    PlanInput {
        host,
        recipes: &RECIPES,
        target: versions.parse().expect("versions"),
        replace: false,
        egm: None,
        numa: planner::plan::NumaInput::default(),
        asked: true,
        formatted: false,
        libvirt: &planner::from_libvirt::NOTHING,
    }
}

fn completed(definition: &Definition, plan_input: &PlanInput<'_>) {
    let (text, domain) = (definition.text(), definition.domain());
    let Ok(done) = rewrite::rewrite(definition, plan_input) else {
        return;
    };
    well_formed(&done.text);
    let edits: Vec<Edit> = done.plan.edits().cloned().collect();
    untouched(&done.base, &edits, &done.text);
    let completed = Definition::parse(&*done.text).expect("what was completed can be read");
    let twice = rewrite::rewrite(&completed, plan_input);
    let twice = twice.expect("what was completed is not refused");
    assert_eq!(
        twice.text, done.text,
        "completing twice is not completing once"
    );
    if domain.mark.is_none() && !text.contains(NAMESPACE) {
        let back = revert::revert(&completed).expect("what was completed can be taken back");
        assert_eq!(
            back, text,
            "taking back does not give the definition as it was"
        );
    }
    let _ = plan(plan_input, domain);
}

fn well_formed(text: &str) {
    let read = Document::parse(text);
    assert!(
        read.is_ok(),
        "no well-formed definition came out: {read:?}\n{text}"
    );
}

/// The output contains the bytes between the edits, in their order.
fn untouched(before: &str, edits: &[Edit], after: &str) {
    let mut edits: Vec<_> = edits.iter().collect();
    edits.sort_by_key(|edit| (edit.span.start, edit.span.end));
    let (mut from, mut rest) = (0, after);
    for edit in edits {
        for piece in [&before[from..edit.span.start], &edit.text] {
            rest = rest
                .strip_prefix(piece)
                .expect("bytes outside of the edits changed");
        }
        from = edit.span.end;
    }
    assert_eq!(rest, &before[from..], "bytes behind the edits changed");
}
