//! A power cut after each system call of the real `variantd` and `variantctl` that changes a file.
//!
//! A run of the program is recorded, and `tests::power_cut` derives every state of the files that a cut may leave. Real programs then
//! read each state. They must find what the files said at some time since the last reply to a client or write to a device, and no
//! damage. With VARIANTD_EVERY_CUT=1 the agent itself starts on every state, otherwise on some of each run.

mod connect;
mod kernel;
mod killed;
mod seeded;
mod view;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use tests::power_cut::{self, Component, Disk, Report, Tree, check};
use tests::program;
use tests::trace::{Call, Recorder};

use crate::scene::{Agent, Scene};

const GPU: &str = "0009:01:00.0";
/// Starts of the agent for each run without VARIANTD_EVERY_CUT.
const STARTS: usize = 3;

/// A recorded run.
struct Run {
    scene: Scene,
    root: PathBuf,
    before: Tree,
    calls: Vec<Call>,
}

impl Run {
    /// Records the agent while `work` calls it.
    fn of_agent(scene: Scene, work: impl FnOnce(&Scene)) -> Self {
        let agent = scene
            .bus
            .agent(&program::built("agent", "variantd"), "test:///default");
        Self::record(scene, &agent, |scene, mut agent| {
            agent.says("serves");
            work(scene);
            agent.send(Signal::SIGTERM);
            assert!(agent.wait().success());
        })
    }

    /// Records a program that ends by itself.
    fn of(scene: Scene, command: &Command) -> Self {
        Self::record(scene, command, |_, mut program| {
            let status = program.wait();
            assert!(status.success(), "{}", program.rest());
        })
    }

    fn record(scene: Scene, command: &Command, work: impl FnOnce(&Scene, Agent)) -> Self {
        let root = scene.path("").canonicalize().expect("a directory");
        let before = power_cut::read(&root, &is_ours);
        let recorder = Recorder::new(&root);
        let mut traced = recorder.command(command);
        let traced = traced.stdin(Stdio::null()).stderr(Stdio::piped());
        let calls = recorder.record(vec![root.clone()], kernel::acting(&root.join("host")));
        work(&scene, Agent::of(traced.spawn().expect("trace")));
        let calls = calls.join().expect("a recording");
        let mut run = Self {
            scene,
            root,
            before,
            calls,
        };
        run.forget_unmade();
        run.is_complete();
        run
    }

    /// A call is recorded before it is made, and the end of the program may stop one of another thread in between.
    fn forget_unmade(&mut self) {
        if self.live(self.calls.len()) == power_cut::read(&self.root, &is_ours) {
            return;
        }
        let changes = |call: &Call| !matches!(call, Call::Exit | Call::Send { .. });
        if let Some(last) = self.calls.iter().rposition(changes) {
            self.calls.remove(last);
        }
    }

    /// The replay of all calls ends with the files that are there, and none was written in place.
    fn is_complete(&self) {
        let live = self.live(self.calls.len());
        assert_eq!(live, power_cut::read(&self.root, &is_ours));
        let in_place = self.calls.iter().filter(|call| match call {
            Call::Write { path, .. } | Call::Resize { path, .. } => {
                is_ours(path.strip_prefix(&self.root).expect("below")) && !is_temporary(path)
            }
            _ => false,
        });
        assert_eq!(
            in_place.map(ToString::to_string).collect::<Vec<_>>(),
            [""; 0]
        );
    }

    /// Checks one component.
    fn check(&self, component: &Component<'_>) -> Report {
        let report = check(&self.root, &self.before, &self.calls, component);
        println!(
            "{} calls, {} states, {} acknowledgements",
            report.points, report.states, report.commits
        );
        report
    }

    /// Makes these files, and no others, the files of the next program.
    fn reset(&self, tree: &Tree) {
        for name in ["run", "state", "reserved.d"] {
            let _ = fs::remove_dir_all(self.root.join(name));
        }
        power_cut::write(&self.root, tree);
    }

    /// The files after the first `count` calls.
    fn live(&self, count: usize) -> Tree {
        let mut disk = Disk::new(&self.root, &self.before, &is_ours);
        self.calls[..count].iter().for_each(|call| disk.apply(call));
        disk.live()
    }

    /// Starts the agent on states that a cut leaves.
    fn restart(&self, keep: &dyn Fn(&Path) -> bool) {
        let mut disk = Disk::new(&self.root, &self.before, keep);
        let mut trees = BTreeSet::new();
        for call in &self.calls {
            disk.apply(call);
            trees.extend(disk.cuts());
        }
        let is_every = env::var_os("VARIANTD_EVERY_CUT").is_some();
        let starts = if is_every { trees.len() } else { STARTS };
        let stride = trees.len().div_ceil(starts);
        for tree in trees.iter().step_by(stride) {
            self.reset(tree);
            let mut agent = self.scene.start();
            agent.says("serves");
            self.scene.says(&["list"]);
            agent.send(Signal::SIGTERM);
            assert!(agent.wait().success(), "{tree:?}");
            let log = agent.rest();
            for word in ["panicked", "damaged", "cannot use"] {
                assert!(!log.contains(word), "{log}\n{tree:?}");
            }
        }
    }
}

/// The files that the programs write, except those of the bus, the test and the host.
fn is_ours(path: &Path) -> bool {
    let first = path.iter().next().and_then(|name| name.to_str());
    matches!(
        first,
        Some("run" | "state" | "reserved.d" | "saved" | "tree")
    )
}

/// A file that is not in use yet, or has no content.
fn is_temporary(path: &Path) -> bool {
    path.extension()
        .is_some_and(|end| end == "new" || end == "lock")
}

/// A reply on the bus: a message of type METHOD_RETURN or ERROR (D-Bus specification, "Message Format").
fn is_reply(call: &Call) -> bool {
    matches!(call, Call::Send { bytes } if bytes.starts_with(&[b'l', 2]) || bytes.starts_with(&[b'l', 3]))
}

fn is_device_write(call: &Call) -> bool {
    matches!(call, Call::Write { path, .. } if path.iter().any(|name| name == "sys"))
}

fn assert_none(report: &Report) {
    let found = &report.findings;
    assert!(
        found.is_empty(),
        "{} findings, the first:\n{}",
        found.len(),
        found[0]
    );
    assert!(report.commits > 0 && report.views.len() > 1, "{report:?}");
}

fn is_reservation(path: &Path) -> bool {
    path.starts_with("reserved.d")
}

fn reservations() -> Run {
    Run::of_agent(Scene::new(), |scene| {
        scene.says(&["reserve", "--driver", "nvidia", GPU]);
        scene.says(&["reserve", "--driver", "vfio-pci", GPU]);
        scene.says(&["unreserve", GPU]);
    })
}

#[test]
fn reservations_survive_a_power_cut_at_each_write() {
    let run = reservations();
    let view = |tree: &Tree| view::reservations(&run.scene, tree);
    let report = run.check(&Component {
        keep: &is_reservation,
        commits: &is_reply,
        view: &view,
    });
    assert_none(&report);
    run.restart(&is_reservation);
}

fn is_record(path: &Path) -> bool {
    let is_kind = |kind| path.starts_with(Path::new("run").join(kind));
    path == Path::new("run") || ["records", "journal"].into_iter().any(is_kind)
}

fn commits_record(call: &Call) -> bool {
    is_reply(call) || is_device_write(call)
}

fn binding() -> Run {
    let scene = Scene::new();
    kernel::prepare(&scene);
    Run::of_agent(scene, |scene| {
        scene.says(&["bind", GPU]);
        scene.says(&["release", GPU]);
    })
}

#[test]
fn records_are_durable_before_each_write_to_a_device_and_each_reply() {
    let run = binding();
    let writes = run.calls.iter().filter(|call| is_device_write(call));
    assert!(writes.count() >= 6, "{:?}", run.calls);
    let report = run.check(&Component {
        keep: &is_record,
        commits: &commits_record,
        view: &view::records,
    });
    assert_none(&report);
    run.restart(&is_record);
}

/// `variantd --reserve`, which runs at boot.
#[test]
fn reserved_devices_are_on_record_before_each_write_to_them() {
    let scene = Scene::new();
    kernel::prepare(&scene);
    let reservation = format!("device = \"{GPU}\"\nid = \"10de:2342\"\n");
    scene.write(&format!("reserved.d/{GPU}.toml"), &reservation);
    let agent = scene.bus.agent(&program::built("agent", "variantd"), "");
    let mut boot = Command::new(agent.get_program());
    boot.arg("--reserve").args(agent.get_args());
    let run = Run::of(scene, &boot);
    let report = run.check(&Component {
        keep: &is_record,
        commits: &|call| is_device_write(call) || *call == Call::Exit,
        view: &view::records,
    });
    assert_none(&report);
    assert!(report.commits > 3, "{report:?}");
}

#[test]
fn migrated_records_survive_a_power_cut_at_each_write() {
    let scene = Scene::new();
    scene.write(&format!("run/journal/{}.json", view::GUEST), view::OLDER);
    let run = Run::of_agent(scene, |_| {});
    let report = run.check(&Component {
        keep: &is_record,
        commits: &is_reply,
        view: &view::owner,
    });
    assert!(report.findings.is_empty(), "{}", report.findings[0]);
    assert!(report.states > 4, "{report:?}");
}

fn is_state_of<'a>(name: &'a str) -> impl Fn(&Path) -> bool + 'a {
    move |path| {
        let file = path.file_stem().is_some_and(|stem| stem == name)
            || path.file_name().is_some_and(|one| one == name);
        path == Path::new("state") || path.starts_with("state") && file
    }
}

#[test]
fn domains_that_opted_out_survive_a_power_cut_at_each_write() {
    let run = Run::of_agent(Scene::new(), |scene| {
        scene.says(&["revert", "test"]);
        scene.says(&["prepare", "test"]);
        scene.says(&["revert", "test"]);
    });
    let keep = is_state_of("declined");
    let report = run.check(&Component {
        keep: &keep,
        commits: &is_reply,
        view: &view::opted_out,
    });
    assert_none(&report);
    run.restart(&keep);
}

/// The agent can find out the versions again, so no reply waits for them.
#[test]
fn known_versions_are_whole_after_a_power_cut_at_each_write() {
    let scene = Scene::new();
    scene.write("state/versions", "libvirt=9.0.0,qemu=7.2.0\n");
    let run = Run::of_agent(scene, |_| {});
    let report = run.check(&Component {
        keep: &is_state_of("versions"),
        commits: &|_| false,
        view: &view::whole,
    });
    assert!(report.findings.is_empty(), "{}", report.findings[0]);
    assert!(report.states > 4 && report.views.len() == 2, "{report:?}");
}
