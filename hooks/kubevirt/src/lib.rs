//! KubeVirt's hook sidecar: completes the domain that virt-launcher is about to define, from a snapshot of its host.
//!
//! Unprivileged: calls neither the agent nor libvirt, and changes nothing. It plans again at each call, and returns a
//! completed domain unchanged.

pub mod complete;
pub mod foreign;
pub mod server;
pub mod shim;

/// Messages and services as KubeVirt publishes them; generated from `proto`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod proto {
    pub mod info {
        tonic::include_proto!("kubevirt.hooks.info");
    }
    pub mod v1alpha1 {
        tonic::include_proto!("kubevirt.hooks.v1alpha1");
    }
    pub mod v1alpha2 {
        tonic::include_proto!("kubevirt.hooks.v1alpha2");
    }
    pub mod v1alpha3 {
        tonic::include_proto!("kubevirt.hooks.v1alpha3");
    }
}
