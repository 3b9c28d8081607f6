//! A host with the recorded files of Debian's packages: complete, and with sources that fail.

use std::cell::Cell;
use std::fs;

use super::*;
use crate::libvirt::Capabilities;
use crate::libvirt::fake::Fake;
use crate::stack::known::FILE;
use crate::stack::translation::recorded_answer;
use crate::stack::{emulator, recorded};
use planner::stack::{Feature, How, Stack};
use planner::target::Version;

const EMULATOR: &str = "/usr/bin/qemu-system-aarch64";
const VERSIONS: Versions = Versions {
    libvirt: Version::new(12, 8, 0),
    qemu: Version::new(11, 1, 2),
};

/// Time for the recorded answers, also on a busy machine.
const PLENTY: Duration = Duration::from_secs(20);

struct Scene {
    root: tempfile::TempDir,
    fake: Arc<Fake>,
    known: KnownStack,
}

impl Scene {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let fake = Arc::new(Fake::default());
        fake.can(Capabilities {
            emulator: Some(EMULATOR.to_owned()),
            ..Capabilities::default()
        });
        fake.translates(|xml| recorded_answer("debian-testing", xml));
        let known = KnownStack::load(root.path().to_owned(), root.path().join(FILE));
        let scene = Self { root, fake, known };
        for name in [grammar::DOMAIN, grammar::BASIC] {
            let text = recorded("debian-testing", name);
            scene.write(&format!("{}/{name}", grammar::DIRECTORY), &text);
        }
        scene.install(&answering("debian-testing"));
        scene
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("above")).expect("a folder");
        fs::write(path, text).expect("written");
    }

    fn install(&self, script: &str) {
        let path = self.path(EMULATOR);
        fs::create_dir_all(path.parent().expect("above")).expect("a folder");
        let _ = fs::remove_file(&path);
        ::tests::program::script(&path, script);
    }

    /// What the unit does, with the emulator below this root.
    fn probe(&self, limit: Duration) -> Result<(), String> {
        let path = self.path(EMULATOR);
        let answers = emulator::ask_all(&[&path], limit).into_iter();
        let named: emulator::Answers = answers
            .map(|(_, printed)| (EMULATOR.into(), printed))
            .collect();
        self.write(
            emulator::FILE,
            &serde_json::to_string(&named).expect("text"),
        );
        Ok(())
    }

    fn refresh(&self, limit: Duration, probe: Probe<'_>) -> bool {
        self.refresh_of(&self.known, limit, probe)
    }

    fn refresh_of(&self, known: &KnownStack, limit: Duration, probe: Probe<'_>) -> bool {
        let libvirt: Arc<dyn Libvirt> = self.fake.clone();
        let programs = Programs {
            libvirt: &libvirt,
            versions: VERSIONS,
            probe,
            limit,
        };
        refresh(known, &programs)
    }

    fn asked(&self) -> bool {
        self.refresh(PLENTY, &|limit| self.probe(limit))
    }

    /// The agent's next start.
    fn restarted(&self) -> KnownStack {
        KnownStack::load(self.root.path().to_owned(), self.path(FILE))
    }

    fn found(&self) -> Found {
        self.known.current(VERSIONS.libvirt).expect("a stack")
    }
}

/// An emulator with the recorded help.
fn answering(stack: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/stack");
    let folder = folder.join(stack).display().to_string();
    format!(
        "#!/bin/sh\ncase \"$*\" in\n-version) f=version ;;\n'-device help') f=device ;;\n'-object help') f=object ;;\n\
         '-device arm-smmuv3,help') f=arm-smmuv3 ;;\n'-machine virt,help') f=machine ;;\nesac\nexec /bin/cat '{folder}'/$f.txt\n"
    )
}

fn how(stack: &Stack, feature: Feature) -> How {
    stack.answer(feature).expect("an answer").how
}

#[test]
fn installed_programs_are_asked_once_and_again_after_an_upgrade() {
    let scene = Scene::new();
    assert_eq!(scene.known.stack(VERSIONS), Stack::assumed(VERSIONS));
    assert!(scene.asked());
    let found = scene.found();
    assert_eq!(found.notes, Vec::<String>::new());
    assert_eq!(how(&found.stack, Feature::QemuSmmuOasType), How::Asked);
    assert_eq!(how(&found.stack, Feature::SmmuOasType), How::Translated);
    assert!(found.stack.misfits().is_empty());
    assert!(!scene.asked());
    let again = scene.restarted();
    assert_eq!(again.stack(VERSIONS), found.stack);
    // Half an upgrade: QEMU with the property types of a vendor's build.
    let vendor = answering("debian-testing").replace("exec /bin/cat", "/bin/cat");
    scene.install(&format!(
        "{} | /bin/sed 's/OasMode/uint8/'\n",
        vendor.trim_end()
    ));
    assert_eq!(again.stack(VERSIONS), Stack::assumed(VERSIONS));
    assert!(scene.asked());
    let names: Vec<&str> = scene
        .found()
        .stack
        .misfits()
        .iter()
        .map(|one| one.attribute)
        .collect();
    assert_eq!(names, ["oas"]);
    // Another libvirt, and /dev/iommu.
    assert_eq!(scene.known.current(Version::new(12, 9, 0)), None);
    scene.write("dev/iommu", "");
    assert!(scene.asked());
}

#[test]
fn sources_that_fail_leave_notes_and_the_versions_decide() {
    let scene = Scene::new();
    let text = recorded("debian-testing", grammar::DOMAIN);
    scene.write(
        &format!("{}/{}", grammar::DIRECTORY, grammar::DOMAIN),
        &text[..text.len() / 2],
    );
    scene.write(&format!("{}/{}", grammar::DIRECTORY, grammar::BASIC), "");
    scene.fake.translates(|_| Err("no".to_owned()));
    scene.install("#!/bin/sh\nexec /usr/bin/head -c 100000000 /dev/zero\n");
    assert!(scene.asked());
    let Found { stack, notes, .. } = scene.found();
    assert_eq!(stack, Stack::assumed(VERSIONS));
    let [schemas, emulator] = &notes[..] else {
        unreachable!("{notes:?}");
    };
    assert!(
        schemas.ends_with("are incomplete or of an unknown form"),
        "{schemas}"
    );
    let wanted = format!(
        "'{EMULATOR}' was not asked: it printed no usable help; its features are assumed by version"
    );
    assert_eq!(*emulator, wanted);
}

/// libvirt never answers.
fn endless() -> ! {
    loop {
        thread::park();
    }
}

/// Without a limit the test does not end.
#[test]
fn programs_that_never_end_leave_a_note_each() {
    let scene = Scene::new();
    scene.fake.translates(|_| endless());
    scene.install("#!/bin/sh\nexec /bin/sleep 1000000\n");
    let limit = Duration::from_secs(1);
    assert!(scene.refresh(limit, &|left| scene.probe(left)));
    let found = scene.found();
    assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
    assert!(
        found.notes[1].contains("did not translate"),
        "{:?}",
        found.notes
    );
    assert_eq!(how(&found.stack, Feature::AcpiNodeset), How::Grammar);
    assert_eq!(how(&found.stack, Feature::QemuSmmuOasType), How::Assumed);
    // Its pause is not over; then libvirt has still not returned.
    assert!(!scene.asked());
    let again = scene.restarted();
    let round = scene.known.begin();
    assert!(round.is_none(), "a second translation beside the first");
    assert!(again.is_due(VERSIONS.libvirt));
}

/// A source that asks when the limit is used up gets no time, however long the limit was.
#[test]
fn all_sources_share_one_limit_of_10_s() {
    assert!(LIMIT <= Duration::from_secs(10));
    let scene = Scene::new();
    scene.fake.translates(|_| endless());
    let libvirt: Arc<dyn Libvirt> = scene.fake.clone();
    let given = Cell::new(None);
    let programs = Programs {
        libvirt: &libvirt,
        versions: VERSIONS,
        probe: &|left| {
            given.set(Some(left));
            Err("no time is left".to_owned())
        },
        limit: Duration::from_secs(1_000_000),
    };
    let round = Round {
        calls: &Arc::new(()),
        programs: &programs,
        end: Instant::now(),
    };
    let key = Key::now(scene.root.path(), Path::new(EMULATOR), VERSIONS.libvirt);
    let found = round.find(scene.root.path(), key.expect("an emulator"));
    assert_eq!(given.get(), Some(Duration::ZERO));
    assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
}

#[test]
fn hanging_libvirt_is_asked_nothing_else() {
    let scene = Scene::new();
    scene.fake.hang_capabilities(Duration::from_secs(30));
    let limit = Duration::from_millis(200);
    let probe: Probe<'_> = &|_| unreachable!("the emulator is not known");
    assert!(!scene.refresh(limit, probe));
    assert!(!scene.refresh(limit, probe));
    assert_eq!(scene.fake.asked(), 1);
    assert!(scene.known.pause() > Some(Duration::from_secs(20)));
}

#[test]
fn source_that_failed_is_asked_again_at_the_next_start() {
    let scene = Scene::new();
    let failing: Probe<'_> = &|_| Err("it failed".to_owned());
    assert!(scene.refresh(PLENTY, failing));
    let first = scene.found();
    assert_eq!(how(&first.stack, Feature::QemuSmmuOasType), How::Assumed);
    assert!(scene.known.pause() > Some(Duration::ZERO));
    assert!(!scene.asked());
    // It fails again, and so does libvirt: earlier answers stay.
    let again = scene.restarted();
    scene.fake.translates(|_| Err("no".to_owned()));
    assert!(!scene.refresh_of(&again, PLENTY, failing));
    assert_eq!(again.stack(VERSIONS), first.stack);
    scene
        .fake
        .translates(|xml| recorded_answer("debian-testing", xml));
    let again = scene.restarted();
    assert!(scene.refresh_of(&again, PLENTY, &|limit| scene.probe(limit)));
    let found = again.current(VERSIONS.libvirt).expect("a stack");
    assert_eq!(how(&found.stack, Feature::QemuSmmuOasType), How::Asked);
    assert_eq!((found.notes.len(), again.pause()), (0, None));
}

#[test]
fn answer_that_came_too_late_is_used_at_the_next_try_without_another_run() {
    let scene = Scene::new();
    let late: Probe<'_> = &|limit| {
        scene.probe(limit)?;
        let file = scene.path(emulator::FILE);
        fs::rename(&file, file.with_extension("later")).expect("renamed");
        Err("it still runs".to_owned())
    };
    assert!(scene.refresh(PLENTY, late));
    assert_eq!(scene.found().notes.len(), 1);
    let file = scene.path(emulator::FILE);
    fs::rename(file.with_extension("later"), &file).expect("renamed");
    let again = scene.restarted();
    let unused: Probe<'_> = &|_| unreachable!("its answer is there");
    assert!(scene.refresh_of(&again, PLENTY, unused));
    let found = again.current(VERSIONS.libvirt).expect("a stack");
    assert_eq!(how(&found.stack, Feature::QemuSmmuOasType), How::Asked);
    assert_eq!(found.notes, Vec::<String>::new());
}

#[test]
fn cache_of_another_owner_is_not_used() {
    let scene = Scene::new();
    let folder = "var/cache/libvirt/qemu/capabilities";
    let name = "a013a09a30bf35fbea5b0236d43e579da4a041eaea677bc2f449290e5b7a5d5e.xml";
    let entry = format!("{folder}/{name}");
    scene.write(&entry, &recorded("debian-testing", "capabilities.xml"));
    use std::os::unix::fs::PermissionsExt;
    let shared = fs::Permissions::from_mode(0o666);
    fs::set_permissions(scene.path(&entry), shared).expect("mode");
    let missing = |_| Err("cannot start 'variantd-probe.service': it does not exist".to_owned());
    assert!(scene.refresh(PLENTY, &missing));
    let found = scene.found();
    assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
    let wanted = format!("cannot use libvirt's cache about '{EMULATOR}': other users can write it");
    assert_eq!(found.notes[0], wanted);
    assert!(found.notes[1].contains("it does not exist; its features are assumed by version"));
    assert_eq!(how(&found.stack, Feature::GenericInitiator), How::Assumed);
}

#[test]
fn unknown_emulator_is_not_asked_for() {
    let scene = Scene::new();
    scene.fake.can(Capabilities::default());
    assert!(!scene.asked());
    assert_eq!(scene.known.current(VERSIONS.libvirt), None);
}
