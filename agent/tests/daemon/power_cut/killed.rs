//! The agent is killed before a change is durable, and the power goes after the next agent has confirmed the change.

use std::path::Path;

use tests::power_cut::{Component, Tree, check};
use tests::trace::Call;

use super::{GPU, Run, is_reply, is_reservation, is_state_of, view};
use crate::scene::Scene;

/// The call before which the first agent is killed.
#[derive(Clone, Copy)]
enum Before {
    /// The last sync of the directory with this name.
    LastSync(&'static str),
    /// The first one after the creation of the directory with this name.
    Next(&'static str),
}

impl Before {
    fn of(self, calls: &[Call]) -> usize {
        let found = match self {
            Self::LastSync(name) => calls
                .iter()
                .rposition(|call| matches!(call, Call::Sync { path } if path.ends_with(name))),
            Self::Next(name) => calls
                .iter()
                .position(
                    |call| matches!(call, Call::MakeDirectory { path } if path.ends_with(name)),
                )
                .map(|at| at + 1),
        };
        found.expect("the call")
    }
}

type Requests<'a> = &'a [&'a [&'a str]];

/// Runs two agents, each with its requests, and returns what the check finds when the first is killed.
fn findings(
    requests: [Requests<'_>; 2],
    kill: Before,
    keep: &dyn Fn(&Path) -> bool,
    view: &dyn Fn(&Scene, &Tree) -> Result<String, String>,
) -> Vec<String> {
    let [first, next] = requests;
    let ask = |scene: &Scene, all: Requests<'_>| {
        for request in all {
            scene.says(request);
        }
    };
    let first = Run::of_agent(Scene::new(), |scene| ask(scene, first));
    let end = kill.of(&first.calls);
    first.reset(&first.live(end));
    let (before, calls) = (first.before, &first.calls[..end]);
    let next = Run::of_agent(first.scene, |scene| ask(scene, next));
    let calls = [calls, &next.calls].concat();
    let view = |tree: &Tree| view(&next.scene, tree);
    let component = Component {
        keep,
        commits: &is_reply,
        view: &view,
    };
    let report = check(&next.root, &before, &calls, &component);
    assert!(report.commits > 0 && report.views.len() > 1, "{report:?}");
    report.findings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_reservation_of_a_killed_agent_is_durable_before_it_is_confirmed() {
    let reserve: &[&str] = &["reserve", "--driver", "nvidia", GPU];
    let unreserve: &[&str] = &["unreserve", GPU];
    let (reserved, unreserved) = ([reserve], [reserve, unreserve]);
    let found = |first, next, kill| {
        let requests: [Requests<'_>; 2] = [first, next];
        findings(requests, kill, &is_reservation, &view::reservations)
    };
    let last = Before::LastSync("reserved.d");
    assert_eq!(found(&reserved, &reserved, last), [""; 0]);
    assert_eq!(found(&unreserved, &unreserved[1..], last), [""; 0]);
    let made = Before::Next("reserved.d");
    assert_eq!(found(&reserved, &reserved, made), [""; 0]);
}

#[test]
fn an_opt_out_of_a_killed_agent_is_durable_before_it_is_confirmed() {
    let revert: Requests<'_> = &[&["revert", "test"]];
    let last = Before::LastSync("state");
    let keep = is_state_of("declined");
    let view = |_: &Scene, tree: &Tree| view::opted_out(tree);
    assert_eq!(findings([revert, revert], last, &keep, &view), [""; 0]);
}
