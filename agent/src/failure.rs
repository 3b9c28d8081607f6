//! Why a domain was not prepared.

use thiserror::Error;

use crate::libvirt::{DomainRef, LibvirtError};
use domain::refusal::Refusal;

/// A domain was not prepared.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PrepareError {
    /// variantd refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is no such definition.
    #[error(
        "domain '{0}' has no definition; list those with 'virsh list --all --persistent', or start \
            a guest without one with 'variantctl create FILE'"
    )]
    NotFound(String),
    /// libvirt returned an error, or could not be reached.
    #[error("cannot prepare domain '{domain}': {why}")]
    Libvirt {
        /// The domain.
        domain: String,
        /// The error.
        why: LibvirtError,
    },
}

pub(crate) fn found(
    domain: &DomainRef,
    xml: Result<Option<String>, LibvirtError>,
) -> Result<String, PrepareError> {
    xml.map_err(|why| failed(domain, why))?
        .ok_or_else(|| PrepareError::NotFound(domain.name.clone()))
}

pub(crate) fn failed(domain: &DomainRef, why: LibvirtError) -> PrepareError {
    let domain = domain.name.clone();
    PrepareError::Libvirt { domain, why }
}
