//! KubeVirt's hook protocol on a Unix socket: our name, and the callbacks of each version.

use std::fs::{self, File};
use std::future::Future;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::code::Code;
use domain::printable::Printable;
use domain::refusal::Refusal;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Code as GrpcCode, Request, Response, Status};

use crate::complete::{Setup, complete};
use crate::proto::info::info_server::{Info, InfoServer};
use crate::proto::info::{HookPoint, InfoParams, InfoResult};
use crate::proto::{v1alpha1, v1alpha2, v1alpha3};
use crate::socket;

/// The hook point that we subscribe to.
pub const HOOK_POINT: &str = "OnDefineDomain";
/// The versions of the callbacks, the newest first; virt-launcher takes the newest that it knows.
pub const VERSIONS: [&str; 3] = ["v1alpha3", "v1alpha2", "v1alpha1"];
/// Our name, and the socket's.
pub const NAME: &str = "variantd";
/// Sidecars that share a directory.
const MOST: usize = 16;

/// The services of one sidecar.
#[derive(Clone)]
pub struct Sidecar(Arc<Setup>);

/// Serves in the directory that virt-launcher looks for sockets in, until `end`.
///
/// # Errors
/// When the socket cannot be made, or the server fails.
pub async fn serve(
    setup: Setup,
    directory: &Path,
    end: impl Future<Output = ()>,
) -> io::Result<()> {
    let (path, listener) = claim(directory)?;
    say(&format!(
        "variantd-kubevirt listens on '{}'",
        path.display()
    ));
    let sidecar = Sidecar::new(setup);
    let served = Server::builder()
        .add_service(InfoServer::new(sidecar.clone()))
        .add_service(v1alpha1::callbacks_server::CallbacksServer::new(
            sidecar.clone(),
        ))
        .add_service(v1alpha2::callbacks_server::CallbacksServer::new(
            sidecar.clone(),
        ))
        .add_service(v1alpha3::callbacks_server::CallbacksServer::new(sidecar))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), end)
        .await;
    let _ = fs::remove_file(&path);
    served.map_err(io::Error::other)
}

/// Listens on a new socket. Sidecars of one pod share the directory, so the second one takes another name. The directory is locked
/// until we listen: a socket without a listener is left over from a sidecar that ended.
fn claim(directory: &Path) -> io::Result<(PathBuf, UnixListener)> {
    let _locked = File::open(directory).and_then(|file| file.lock().map(|()| file));
    for number in 1..=MOST {
        let path = directory.join(match number {
            1 => format!("{NAME}.sock"),
            _ => format!("{NAME}-{number}.sock"),
        });
        // No process listens there. `forget` removes only a socket, so the bind fails if another file has the name.
        if UnixStream::connect(&path).is_err() {
            socket::forget(&path)?;
            let listener = UnixListener::bind(&path)?;
            return Ok((path, listener));
        }
    }
    let why = format!("{MOST} sidecars of variantd already serve there");
    Err(io::Error::new(io::ErrorKind::AddrInUse, why))
}

/// A line of the container's log, without the domain's control characters.
pub fn say(line: &str) {
    // Not `eprintln!`: it panics when the log cannot be written, and the server would end.
    let _ = writeln!(io::stderr(), "{}", Printable(line));
}

impl Sidecar {
    /// For a host and recipes.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self(Arc::new(setup))
    }

    pub(crate) async fn define(&self, domain: Vec<u8>, vmi: Vec<u8>) -> Result<Vec<u8>, Status> {
        let setup = self.0.clone();
        let work = move || complete(&setup, &domain, &vmi);
        let done = tokio::task::spawn_blocking(work).await;
        let done = done.map_err(|error| Status::internal(error.to_string()))?;
        match done {
            Ok(completed) => {
                for note in &completed.notes {
                    say(&format!("note: {} ({})", note.text, note.code));
                }
                Ok(completed.text.into_bytes())
            }
            Err(refusal) => Err(refused(&refusal)),
        }
    }
}

/// The refusal of a call for `what`, whose name is not among `known`; `hook` is the part of the Plugin object that asked for it.
pub(crate) fn unknown(what: &str, found: &str, known: &[&str], hook: &str) -> Refusal {
    let known = known.join(", ");
    let reason = format!("KubeVirt calls for {what} '{found}', and this version knows {known}");
    let hint = format!("update variantd's image, or remove the {hook} the Plugin object");
    Refusal::new(Code::KubevirtCall, reason, hint)
}

/// Logs a refusal, and returns it as a status.
pub(crate) fn refused(refusal: &Refusal) -> Status {
    say(&format!("error: {refusal}"));
    Status::new(grpc_code(refusal), refusal.to_string())
}

/// gRPC's status code for a refusal; the message has our own code.
fn grpc_code(refusal: &Refusal) -> GrpcCode {
    match refusal.code {
        Code::KubevirtSnapshot | Code::KubevirtDevices => GrpcCode::Unavailable,
        Code::KubevirtVmi
        | Code::KubevirtCall
        | Code::XmlMalformed
        | Code::XmlDtd
        | Code::XmlTooLarge
        | Code::XmlNoDomain
        | Code::XmlValue => GrpcCode::InvalidArgument,
        _ => GrpcCode::FailedPrecondition,
    }
}

#[tonic::async_trait]
impl Info for Sidecar {
    async fn info(&self, _: Request<InfoParams>) -> Result<Response<InfoResult>, Status> {
        Ok(Response::new(InfoResult {
            name: NAME.to_owned(),
            hook_points: vec![HookPoint {
                name: HOOK_POINT.to_owned(),
                priority: 0,
            }],
            versions: VERSIONS.map(str::to_owned).to_vec(),
        }))
    }
}

macro_rules! callbacks {
    ($version:ident $($more:tt)*) => {
        #[tonic::async_trait]
        impl $version::callbacks_server::Callbacks for Sidecar {
            async fn on_define_domain(
                &self,
                request: Request<$version::OnDefineDomainParams>,
            ) -> Result<Response<$version::OnDefineDomainResult>, Status> {
                let $version::OnDefineDomainParams { domain_xml, vmi } = request.into_inner();
                let domain_xml = self.define(domain_xml, vmi).await?;
                Ok(Response::new($version::OnDefineDomainResult { domain_xml }))
            }

            $($more)*
        }
    };
}

callbacks!(v1alpha1);
callbacks!(v1alpha2);
callbacks! {
    v1alpha3

    /// There is nothing to release.
    async fn shutdown(
        &self,
        _: Request<v1alpha3::ShutdownParams>,
    ) -> Result<Response<v1alpha3::ShutdownResult>, Status> {
        Ok(Response::new(v1alpha3::ShutdownResult {}))
    }
}
