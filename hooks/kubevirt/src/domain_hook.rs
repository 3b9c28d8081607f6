//! The domain hook of KubeVirt's plugins (VEP 190), which virt-launcher calls before it defines a domain. The successor of the sidecar's
//! `OnDefineDomain`, with the same work.

use domain::refusal::Refusal;
use tonic::{Request, Response, Status};

use crate::proto::plugins::domain_hook_service_server::DomainHookService;
use crate::proto::plugins::{MutateDomainRequest, MutateDomainResponse};
use crate::server::{self, Sidecar, refused};

/// The one domain type of KubeVirt (pkg/virt-launcher/virtwrap/plugins/sidecar.go).
const LIBVIRT: &str = "libvirt";

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    /// libvirt gets the domain.
    Definition,
    /// The domain exists already; others change files or migration parameters here.
    Other,
}

/// Contexts of KubeVirt 1.9, and the hook points that replace them in its successor (kubevirt/enhancements, pull request 407).
const POINTS: [(&str, Point); 6] = [
    ("Boot", Point::Definition),
    ("MigrationSource", Point::Definition),
    ("MigrationTarget", Point::Definition),
    ("GuestDefinition", Point::Definition),
    ("PreBoot", Point::Other),
    ("PreMigrationSource", Point::Other),
];

#[tonic::async_trait]
impl DomainHookService for Sidecar {
    async fn mutate_domain(
        &self,
        request: Request<MutateDomainRequest>,
    ) -> Result<Response<MutateDomainResponse>, Status> {
        let request = request.into_inner();
        let context = request.sidecar_context.unwrap_or_default();
        let point = point(&request.domain_type, &context.invocation_context);
        let domain = match point.map_err(|refusal| refused(&refusal))? {
            Point::Definition => self.define(request.domain, request.vmi).await?,
            Point::Other => request.domain,
        };
        Ok(Response::new(MutateDomainResponse { domain }))
    }
}

fn point(domain_type: &str, context: &str) -> Result<Point, Refusal> {
    let unknown = |what, found, known: &[&str]| server::unknown(what, found, known, "hook from");
    if domain_type != LIBVIRT {
        return Err(unknown("a domain of type", domain_type, &[LIBVIRT]));
    }
    let found = POINTS.iter().find(|(name, _)| *name == context);
    let known = POINTS.map(|(name, _)| name);
    found
        .map(|(_, point)| *point)
        .ok_or_else(|| unknown("the context", context, &known))
}
