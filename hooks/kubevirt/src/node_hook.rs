//! The node hook of KubeVirt's plugins (VEP 190), which virt-handler calls on the guest's node: binds the guest's GPUs before the start
//! and releases them after the end, through the agent of the node.
//!
//! ```text
//! PreVMStart, PreMigrationTarget    bind      virt-handler repeats it until the guest runs
//! PostVMStop                        release   by the guest's uid alone: its pod may be gone
//! all others                        nothing
//! ```
//!
//! The agent's records have the guest, so neither a restart of this program nor of the agent forgets a device.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ask::OfGuest;
use domain::refusal::Refusal;
use hooks::agent::Reply;
use tonic::{Code as GrpcCode, Request, Response, Status};

use crate::proto::plugins::node_hook_service_server::NodeHookService;
use crate::proto::plugins::{ExecuteNodeHookRequest, ExecuteNodeHookResponse};
use crate::server::{self, refused, say};

pub use vmi::Vmi;

pub mod pod;
pub mod vmi;

/// The time limit of the agent's answer. A bind may wait 30 s for a GPU's link and 60 s for its memory; the Plugin object's timeout is
/// longer than this one.
pub const LIMIT: Duration = Duration::from_secs(150);

/// The work at a hook point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Bind,
    Release,
    Nothing,
}

/// The hook points of KubeVirt 1.9 and of its successor (`OnVMStop` replaces `PreVMStop`).
const POINTS: [(&str, Work); 9] = [
    ("PreVMStart", Work::Bind),
    ("PreMigrationTarget", Work::Bind),
    ("PostVMStop", Work::Release),
    ("PostVMStart", Work::Nothing),
    ("PreVMStop", Work::Nothing),
    ("OnVMStop", Work::Nothing),
    ("PreMigrationSource", Work::Nothing),
    ("PostMigrationSource", Work::Nothing),
    ("PostMigrationTarget", Work::Nothing),
];

/// The hook of one node.
#[derive(Clone, Debug)]
pub struct NodeHook(Arc<PathBuf>);

impl NodeHook {
    /// For the host whose `proc` is below `root`.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self(Arc::new(root))
    }

    fn run(&self, point: &str, vmi: &[u8], node: &str) -> Result<(), Status> {
        let work = POINTS.iter().find(|(name, _)| *name == point);
        let (_, work) = work.ok_or_else(|| refused(&unknown(point)))?;
        let vmi = Vmi::parse(vmi).map_err(|refusal| refused(&refusal))?;
        let guest = OfGuest {
            uuid: &vmi.uid.to_string(),
            name: &vmi.name,
        };
        match work {
            Work::Bind if !vmi.devices.is_empty() => {
                let devices = pod::devices(&self.0, &vmi, node);
                let devices = devices.map_err(|refusal| refused(&refusal))?;
                let devices: Vec<String> = devices.iter().map(ToString::to_string).collect();
                answered(point, &vmi, ask::bind_guest(guest, &devices, LIMIT))
            }
            // The guest may have had devices that its object no longer names.
            Work::Release => answered(point, &vmi, ask::release_guest(guest, LIMIT)),
            Work::Bind | Work::Nothing => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl NodeHookService for NodeHook {
    async fn execute_node_hook(
        &self,
        request: Request<ExecuteNodeHookRequest>,
    ) -> Result<Response<ExecuteNodeHookResponse>, Status> {
        let request = request.into_inner();
        let node = request.node_context.unwrap_or_default().node_name;
        let hook = self.clone();
        let work = move || hook.run(&request.hook_point, &request.vmi, &node);
        // The deadline of KubeVirt's call ends the wait for this task and not the task: the agent finishes what it has begun.
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| Status::internal(error.to_string()))??;
        Ok(Response::new(ExecuteNodeHookResponse {}))
    }
}

/// The agent's answer as a status. KubeVirt shows code and message, and calls again.
fn answered(point: &str, vmi: &Vmi, reply: Reply) -> Result<(), Status> {
    let code = match &reply {
        Reply::Done(_) => {
            say(&format!("{point} of '{}': done", vmi.name));
            return Ok(());
        }
        Reply::Refused(_) | Reply::Foreign(_) => GrpcCode::FailedPrecondition,
        Reply::Late(_) => GrpcCode::DeadlineExceeded,
        Reply::Unreachable(_) | Reply::Full(_) | Reply::Broken => GrpcCode::Unavailable,
    };
    let text = ask::failure_of(&reply, "bind or release the guest's devices");
    say(&format!("error: {point} of '{}': {text}", vmi.name));
    Err(Status::new(code, text))
}

fn unknown(point: &str) -> Refusal {
    let known = POINTS.map(|(name, _)| name);
    server::unknown(
        "the hook point",
        point,
        &known,
        "point from permittedHooks of",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hook_point_of_kubevirt_is_known() {
        // KubeVirt d923fdb815, staging/src/kubevirt.io/api/plugin/v1alpha1/types.go, and the admission policy's list.
        for point in [
            "PreVMStart",
            "PostVMStart",
            "PreVMStop",
            "PostVMStop",
            "PreMigrationSource",
            "PostMigrationSource",
            "PreMigrationTarget",
            "PostMigrationTarget",
            "OnVMStop",
        ] {
            assert!(POINTS.iter().any(|(name, _)| *name == point), "{point}");
        }
    }

    #[test]
    fn an_answer_has_the_status_that_kubevirt_shows() {
        let vmi = Vmi::parse(vmi::EXAMPLE.as_bytes()).expect("a VMI");
        for (reply, code) in [
            (Reply::Refused("no".into()), GrpcCode::FailedPrecondition),
            (Reply::Unreachable("no bus".into()), GrpcCode::Unavailable),
            (Reply::Broken, GrpcCode::Unavailable),
            (Reply::Late(LIMIT), GrpcCode::DeadlineExceeded),
            (
                Reply::Foreign("no method".into()),
                GrpcCode::FailedPrecondition,
            ),
        ] {
            let status = answered("PreVMStart", &vmi, reply).expect_err("a status");
            assert_eq!(status.code(), code, "{status}");
            assert!(!status.message().contains("complete"), "{status}");
        }
    }
}
