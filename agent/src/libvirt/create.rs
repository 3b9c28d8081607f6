//! A guest without a definition: started from its XML in one call, with the caller's own permissions on libvirt.

use virt::connect::Connect;
use virt_sys as sys;

use super::LookError;
use super::look::{printed, unopened};

/// Creates a transient guest from `xml`, which libvirt validates against its own schema; returns its name. Blocks until
/// the guest has started.
///
/// # Errors
/// libvirt's error, including the hook's refusal.
pub fn create(uri: &str, xml: &str, paused: bool) -> Result<String, LookError> {
    virt::error::clear_error_callback();
    let connect = Connect::open(Some(uri)).map_err(unopened)?;
    // As at a define: without the flag libvirt drops unknown elements without an error.
    let mut flags = sys::VIR_DOMAIN_START_VALIDATE;
    if paused {
        flags |= sys::VIR_DOMAIN_START_PAUSED;
    }
    let domain = connect.create_domain_xml(xml, flags).map_err(printed)?;
    domain.name().map_err(printed)
}
