//! What the installed libvirt and QEMU tell about themselves, and what is stored of it.

use std::collections::BTreeSet;

use agent::stack::emulator::{self, Answer, Answers, Build};
use agent::stack::flags::{Entry, Installed};
use agent::stack::grammar::Grammar;
use agent::stack::known::Found;
use agent::stack::merge::{Sources, merge};
use agent::stack::properties::{self, Properties};
use agent::stack::translation;
use planner::stack::{Feature, Stack};
use planner::target::Versions;

/// Between the two schemas of one input.
const SEPARATOR: char = '\0';

/// A schema has only names that are in its text, and a text that is not XML gives no answer. The merged stack has each feature.
pub(crate) fn schemas(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (domain, basic) = text.split_once(SEPARATOR).unwrap_or((&text, ""));
    let grammar = Grammar::parse(domain, basic);
    let names = [&grammar.iommu_driver, &grammar.iommu_models];
    for name in names.into_iter().flatten().flatten() {
        // An entity stands for other characters.
        assert!(
            domain.contains(name.as_str()) || domain.contains('&'),
            "{name}"
        );
    }
    if roxmltree::Document::parse(domain).is_err() {
        let hostdev_iommufd = grammar.hostdev_iommufd;
        let known = Grammar {
            hostdev_iommufd,
            ..Grammar::default()
        };
        assert_eq!(grammar, known, "an answer of a text that is not XML");
    }
    let sources = Sources {
        grammar,
        ..Sources::default()
    };
    let stack = merge(Versions::NEWEST_TESTED, &sources);
    assert!(
        Feature::ALL
            .iter()
            .all(|feature| stack.answer(*feature).is_some())
    );
}

/// An entry fits the programs that it names, and no other emulator, build or libvirt.
pub(crate) fn capabilities(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Some(entry) = Entry::parse(&text) else {
        return;
    };
    assert!(entry.flags.iter().all(|flag| flag.len() <= 128));
    let installed = Installed {
        emulator: entry.emulator.clone(),
        emulator_ctime: entry.emulator_ctime,
        driver_ctime: Some(entry.libvirt_ctime),
        libvirt: entry.libvirt,
    };
    assert!(entry.fits(&installed));
    let emulator = format!("{}x", entry.emulator);
    assert!(!entry.fits(&Installed {
        emulator,
        ..installed.clone()
    }));
    let emulator_ctime = entry.emulator_ctime.wrapping_add(1);
    assert!(!entry.fits(&Installed {
        emulator_ctime,
        ..installed.clone()
    }));
    let newer = entry.libvirt_ctime.checked_add(1);
    assert!(
        newer.is_none()
            || !entry.fits(&Installed {
                driver_ctime: newer,
                ..installed
            })
    );
}

/// Any answer of libvirt is read the same each time, and one without QEMU's `-machine` is no answer.
pub(crate) fn translated(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let read = || translation::ask(|_| Ok(text.clone().into_owned()));
    let found = read();
    assert_eq!(found, read());
    assert!(
        found.egm != Some(false),
        "a refused <memory> has several reasons"
    );
    if !text.contains("-machine") && !text.contains(['\\', '\'']) {
        assert_eq!(found, translation::Translation::default());
    }
    let translation = found;
    let stack = merge(
        Versions::NEWEST_TESTED,
        &Sources {
            translation,
            ..Sources::default()
        },
    );
    for misfit in stack.misfits() {
        assert!(!misfit.text(&stack).contains(char::is_control));
    }
}

/// What the unit reads of an emulator, the agent takes: all names are QEMU's, and there are not too many.
pub(crate) fn help(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let properties = Properties {
        version: properties::version(&text),
        devices: properties::devices(&text),
        objects: properties::objects(&text),
        smmu: properties::types(&text),
        machine: properties::types(&text),
    };
    let sets = [&properties.devices, &properties.objects];
    assert!(
        sets.into_iter()
            .flatten()
            .map(BTreeSet::len)
            .all(|count| count <= 4096)
    );
    let build = Build { ctime: 1, size: 1 };
    let answers: Answers = [("/qemu".into(), Answer { build, properties })].into();
    let written = serde_json::to_string(&answers).expect("a text");
    assert_eq!(emulator::parse(&written), answers);
}

/// The unit's file is refused as a whole, or read again as the same; a stack of it names no control character.
pub(crate) fn answers(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let answers = emulator::parse(&text);
    let written = serde_json::to_string(&answers).expect("a text");
    assert_eq!(emulator::parse(&written), answers);
    for answer in answers.into_values() {
        let properties = Some(answer.properties);
        let stack = merge(
            Versions::NEWEST_TESTED,
            &Sources {
                properties,
                ..Sources::default()
            },
        );
        assert!(!stack.to_string().contains(char::is_control), "{stack}");
    }
}

/// A stored or given stack is refused, or read again as the same, and its misfits can be printed.
pub(crate) fn stack(bytes: &[u8]) {
    if let Ok(stack) = Stack::parse(bytes) {
        let text = serde_json::to_vec(&stack).expect("a text");
        assert_eq!(Stack::parse(&text), Ok(stack));
        for misfit in stack.misfits() {
            assert!(!misfit.text(&stack).contains(char::is_control));
        }
    }
    let found = Found::parse(&String::from_utf8_lossy(bytes));
    if let Some(found) = found {
        let text = serde_json::to_string(&found).expect("a text");
        assert_eq!(Found::parse(&text), Some(found));
    }
}
