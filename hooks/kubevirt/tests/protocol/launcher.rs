//! virt-launcher's half of the protocol: polls the directory every 300 ms, dials for 1 s, calls for 60 s.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use kubevirt::proto::info::InfoParams;
use kubevirt::proto::info::info_client::InfoClient;
use kubevirt::proto::{v1alpha1, v1alpha2, v1alpha3};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::scene::VMI;

/// The versions that virt-launcher knows, the one it likes best first.
const KNOWN: [&str; 3] = ["v1alpha3", "v1alpha2", "v1alpha1"];
/// The collection waits for as long as QEMU may take.
const COLLECTION: Duration = Duration::from_secs(240);
const POLL: Duration = Duration::from_millis(300);
const DIAL: Duration = Duration::from_secs(1);
const CALL: Duration = Duration::from_secs(60);

pub(crate) struct Launcher {
    socket: PathBuf,
    pub(crate) name: String,
    pub(crate) points: Vec<String>,
    pub(crate) versions: Vec<String>,
    pub(crate) version: String,
}

impl Launcher {
    /// Looks until one sidecar has answered.
    pub(crate) async fn find(directory: &Path) -> Self {
        let began = Instant::now();
        while began.elapsed() < COLLECTION {
            let sockets = fs::read_dir(directory).expect("sockets").flatten();
            for socket in sockets.map(|entry| entry.path()) {
                if let Some(found) = Self::ask(&socket).await {
                    return found;
                }
            }
            tokio::time::sleep(POLL).await;
        }
        unreachable!("no sidecar within {COLLECTION:?}")
    }

    /// `None` when it is not ready yet.
    async fn ask(socket: &Path) -> Option<Self> {
        let channel = dial(socket).await?;
        let printed = timeout(CALL, InfoClient::new(channel).info(InfoParams {})).await;
        let printed = printed.expect("in time").expect("who it is").into_inner();
        let knows = |version: &&&str| printed.versions.iter().any(|one| one == **version);
        let version = KNOWN.iter().find(knows).expect("a version that both know");
        Some(Self {
            socket: socket.to_owned(),
            name: printed.name,
            points: printed
                .hook_points
                .into_iter()
                .map(|one| one.name)
                .collect(),
            version: (*version).to_owned(),
            versions: printed.versions,
        })
    }

    pub(crate) async fn define(&self, domain: &str) -> Result<String, Status> {
        self.define_for(domain, VMI).await
    }

    /// One define, on a connection of its own, as each of virt-launcher's is.
    pub(crate) async fn define_for(&self, domain: &str, vmi: &str) -> Result<String, Status> {
        let channel = dial(&self.socket).await.expect("a connection");
        let (domain_xml, vmi) = (domain.as_bytes().to_vec(), vmi.as_bytes().to_vec());
        macro_rules! call {
            ($version:ident) => {{
                let mut client = $version::callbacks_client::CallbacksClient::new(channel);
                let params = $version::OnDefineDomainParams { domain_xml, vmi };
                let result = timeout(CALL, client.on_define_domain(params)).await;
                result.expect("in time")?.into_inner().domain_xml
            }};
        }
        let bytes = match &*self.version {
            "v1alpha1" => call!(v1alpha1),
            "v1alpha2" => call!(v1alpha2),
            _ => call!(v1alpha3),
        };
        Ok(String::from_utf8(bytes).expect("text"))
    }
}

/// Waits until a plugin's hook answers: KubeVirt waits for the socket's name, and then gRPC dials until it is connected.
pub(crate) async fn found(socket: &Path) {
    let began = Instant::now();
    while dial(socket).await.is_none() {
        assert!(began.elapsed() < COLLECTION, "no socket");
        tokio::time::sleep(POLL).await;
    }
}

pub(crate) async fn dial(socket: &Path) -> Option<Channel> {
    let path = socket.to_owned();
    let connect = service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://hook");
    let dialled = timeout(DIAL, endpoint.connect_with_connector(connect)).await;
    dialled.ok()?.ok()
}
