//! Scripts as emulators: one that answers as QEMU does, and ones that hang, crash and print garbage.

use super::*;
use crate::stack::collect;
use planner::target::Version;

const LIMIT: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(400);

/// Answers with the recorded texts of a stack.
fn real(stack: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/stack");
    let folder = folder.join(stack);
    let folder = folder.display();
    format!(
        "#!/bin/sh\ncase \"$*\" in\n-version) f=version ;;\n'-device help') f=device ;;\n'-object help') f=object ;;\n\
         '-device arm-smmuv3,help') f=arm-smmuv3 ;;\n'-machine virt,help') f=machine ;;\n*) exit 1 ;;\nesac\n\
         exec /bin/cat '{folder}'/$f.txt\n"
    )
}

fn asked(script: &str, limit: Duration) -> (Properties, Duration) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("qemu");
    ::tests::program::script(&path, script);
    let begun = Instant::now();
    (ask(&path, limit), begun.elapsed())
}

#[test]
fn emulator_answers_with_its_properties() {
    let (properties, _) = asked(&real("debian-testing"), LIMIT);
    let named = properties.version.expect("a version");
    assert_eq!(named.version, Version::new(11, 1, 2));
    assert!(properties.devices.expect("devices").contains("arm-smmuv3"));
    assert!(properties.objects.expect("objects").contains("iommufd"));
    let smmu = properties.smmu.expect("types");
    assert_eq!(smmu.get("oas").map(String::as_str), Some("OasMode"));
    let machine = properties.machine.expect("types");
    assert!(machine.contains_key("highmem-mmio-size"));
}

#[test]
fn hanging_emulator_is_killed_at_the_deadline() {
    for script in [
        "#!/bin/sh\nexec /bin/sleep 1000\n",
        "#!/bin/sh\n/bin/sleep 1000 & wait\n",
        "#!/bin/sh\necho 'QEMU emulator version 11.1.2'; exec >&-; exec /bin/sleep 1000\n",
    ] {
        let (properties, took) = asked(script, SHORT);
        assert_eq!(properties, Properties::default(), "{script}");
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

#[test]
fn crash_garbage_and_endless_output_give_no_answer() {
    for script in [
        "#!/bin/sh\necho 'QEMU emulator version 11.1.2'; kill -9 $$\n",
        "#!/bin/sh\necho 'x options:'; echo '  a=<bool>'; exit 1\n",
        "#!/bin/sh\nexec /usr/bin/head -c 5000 /dev/urandom\n",
        "#!/bin/sh\nexec /usr/bin/head -c 100000000 /dev/zero\n",
        "#!/bin/sh\nexec /usr/bin/yes 'name \"arm-smmuv3\"'\n",
        "#!/nonexistent\n",
    ] {
        let (properties, took) = asked(script, LIMIT);
        assert_eq!(properties, Properties::default(), "{script}");
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

#[test]
fn one_hanging_emulator_does_not_take_the_answer_of_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let [good, bad] = ["good", "bad"].map(|name| folder.path().join(name));
    ::tests::program::script(&good, &real("debian-13"));
    ::tests::program::script(&bad, "#!/bin/sh\nexec /bin/sleep 1000\n");
    let missing = folder.path().join("missing");
    let answers = ask_all(&[&bad, &good, &missing], Duration::from_secs(3));
    let names: Vec<_> = answers.keys().collect();
    assert_eq!(names, [&bad, &good]);
    assert_eq!(answers[&bad].properties, Properties::default());
    assert!(answers[&good].properties.devices.is_some());
    assert_eq!(answers[&good].build, Build::of(&good).expect("a build"));
}

#[test]
fn answers_are_written_and_hostile_files_give_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("answer.json");
    assert!(read(&file).is_err());
    let emulator = folder.path().join("qemu");
    ::tests::program::script(&emulator, &real("debian-testing"));
    let answers = ask_all(&[&emulator], LIMIT);
    let text = serde_json::to_string(&answers).expect("text");
    std::fs::write(&file, &text).expect("written");
    assert_eq!(read(&file).expect("answers"), answers);
    for hostile in [
        text.replace("OasMode", "\\u001b[2J"),
        text.replace("properties", "other"),
        text[..text.len() / 2].to_owned(),
        "[".repeat(100_000),
    ] {
        std::fs::write(&file, hostile).expect("written");
        assert_eq!(read(&file).expect("readable"), Answers::new());
    }
    std::fs::write(&file, text + &" ".repeat(1 << 20)).expect("written");
    assert!(read(&file).is_err());
    std::fs::remove_file(&file).expect("removed");
    std::os::unix::fs::symlink("/etc/passwd", &file).expect("link");
    assert!(read(&file).is_err());
    std::fs::remove_file(&file).expect("removed");
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).expect("pipe");
    assert!(read(&file).is_err());
}

#[test]
fn unit_runs_this_program_longer_than_its_deadline_and_may_execute_a_qemu_with_cap_ipc_lock() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    let text = std::fs::read_to_string(path.join(UNIT)).expect("the unit");
    let has = |line: &str| assert!(text.lines().any(|l| l == line), "{line}");
    has(&format!(
        "ExecStart=/usr/libexec/variantd/variantd-child {ARGUMENT} /{FILE}"
    ));
    let limit = |line: &str| line.strip_prefix("TimeoutStartSec=")?.parse().ok();
    let limit = text.lines().find_map(limit).map(Duration::from_secs);
    let limit = limit.expect("a limit of the unit");
    assert!(DEADLINE < limit);
    assert!(collect::LIMIT <= Duration::from_secs(10));
    has("CapabilityBoundingSet=CAP_IPC_LOCK");
    has("DynamicUser=yes");
    has("PrivateDevices=yes");
    has("PrivateNetwork=yes");
    assert!(!text.contains("\nMemoryDenyWriteExecute"));
}
