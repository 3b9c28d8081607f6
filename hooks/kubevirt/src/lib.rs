//! KubeVirt's hooks.
//!
//! ```text
//! server.rs       the hook sidecar (KubeVirt 1.9 and older): completes the domain that virt-launcher is about to define
//! domain_hook.rs  the same work as a plugin's domain hook (VEP 190)
//! node_hook.rs    a plugin's node hook: binds and releases a guest's devices through the node's agent
//! ```
//!
//! The first two are unprivileged: they call neither the agent nor libvirt, and change nothing. They plan again at each call, from a
//! snapshot of the host, and return a completed domain unchanged.

pub mod complete;
pub mod domain_hook;
pub mod foreign;
pub mod node_hook;
pub mod server;
pub mod shim;
pub mod socket;

/// Messages and services as KubeVirt publishes them; generated from `proto`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod proto {
    pub mod info {
        tonic::include_proto!("kubevirt.hooks.info");
    }
    pub mod plugins {
        tonic::include_proto!("kubevirt.hooks.plugins.v1alpha1");
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
