//! One look at libvirt for whoever may only look: versions, and definitions that have one of certain devices.

use kernel_glue::address::PciAddress;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt_sys as sys;

use super::Capabilities;
use crate::domain::Domain as Definition;
use crate::target::{Version, Versions};

/// What libvirt says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Look {
    /// libvirt's version and QEMU's.
    pub versions: Versions,
    /// Definitions with one of the devices, by name.
    pub domains: Vec<Defined>,
}

/// A definition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Defined {
    /// Its name.
    pub name: String,
    /// Its inactive XML without secrets.
    pub xml: String,
    /// It runs.
    pub active: bool,
    /// libvirt says that its host devices can go through iommufd.
    pub iommufd: Option<bool>,
}

/// libvirt was not asked, or has no answer. Each says whose fault it is, since each has its own way out.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LookError {
    /// We may not ask.
    #[error("libvirt: {0}")]
    Denied(String),
    /// Nothing listens.
    #[error("libvirt: {0}")]
    Silent(String),
    /// It answers with an error.
    #[error("libvirt: {0}")]
    Failed(String),
    /// It has not answered within so many seconds.
    #[error("libvirt did not answer within {0} s")]
    Late(u64),
    /// Our own program, which asks, is missing or cannot run.
    #[error("cannot ask libvirt: {0}")]
    Broken(String),
}

/// Connects to read only, looks, and closes the connection. May block for as long as a guest's start takes.
///
/// # Errors
/// libvirt's words.
pub fn look(uri: &str, devices: &[PciAddress]) -> Result<Look, LookError> {
    let connect = opened(uri)?;
    let versions = Versions {
        libvirt: Version::from_number(connect.lib_version().map_err(said)?),
        qemu: Version::from_number(connect.hyp_version().map_err(said)?),
    };
    let listed = listed(&connect)?;
    // One that is gone meanwhile is none.
    let found = listed
        .iter()
        .filter_map(|one| defined(&connect, one, devices).ok()?);
    let mut domains: Vec<Defined> = found.collect();
    domains.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Look { versions, domains })
}

/// The inactive definition of the domain with this name or UUID, without secrets; `None` when there is none.
///
/// # Errors
/// libvirt's words.
pub fn definition(uri: &str, name: &str) -> Result<Option<String>, LookError> {
    let connect = opened(uri)?;
    let by_uuid = || connect.lookup_domain_by_uuid_string(name);
    let found = connect
        .lookup_domain_by_name(name)
        .or_else(|why| by_uuid().map_err(|_| why));
    match found {
        Ok(domain) => domain
            .xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)
            .map(Some)
            .map_err(said),
        Err(why) if why.code().to_raw() == sys::VIR_ERR_NO_DOMAIN => Ok(None),
        Err(why) => Err(said(why)),
    }
}

/// Names of all domains that have a definition.
///
/// # Errors
/// libvirt's words.
pub fn names(uri: &str) -> Result<Vec<String>, LookError> {
    let connect = opened(uri)?;
    let listed = listed(&connect)?;
    // One that is gone meanwhile is none.
    let mut names: Vec<String> = listed.iter().filter_map(|one| one.name().ok()).collect();
    names.sort();
    Ok(names)
}

/// To read only; libvirt's library prints nothing of its own.
fn opened(uri: &str) -> Result<Connect, LookError> {
    virt::error::clear_error_callback();
    Connect::open_read_only(Some(uri)).map_err(unopened)
}

/// Why there is no connection. libvirt names no code for a daemon that is not there: the error is one of connect(2), or of the
/// connection itself.
pub(super) fn unopened(error: Error) -> LookError {
    let code = error.code().to_raw();
    match said(error) {
        LookError::Failed(text)
            if [sys::VIR_ERR_SYSTEM_ERROR, sys::VIR_ERR_RPC].contains(&code) =>
        {
            LookError::Silent(text)
        }
        other => other,
    }
}

/// All domains that have a definition.
fn listed(connect: &Connect) -> Result<Vec<Domain>, LookError> {
    let listed = connect.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_PERSISTENT);
    listed.map_err(said)
}

fn defined(
    connect: &Connect,
    domain: &Domain,
    devices: &[PciAddress],
) -> Result<Option<Defined>, Error> {
    let xml = domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)?;
    let Ok(definition) = Definition::parse(&xml) else {
        return Ok(None);
    };
    let mut sources = definition.sources();
    let ours = definition.mark.is_some() || sources.any(|source| devices.contains(&source));
    if !ours {
        return Ok(None);
    }
    let capabilities = connect.domain_capabilities(
        None,
        definition.arch.as_deref(),
        definition.machine.as_deref(),
        definition.platform.accelerator.as_deref(),
        0,
    );
    Ok(Some(Defined {
        name: domain.name()?,
        active: domain.is_active()?,
        iommufd: capabilities
            .ok()
            .and_then(|text| Capabilities::parse(&text).iommufd),
        xml,
    }))
}

pub(super) fn said(error: Error) -> LookError {
    let text = error.message().to_owned();
    let denied = ["ermission denied", "authentication", "access denied"];
    match denied.iter().any(|words| text.contains(words)) {
        true => LookError::Denied(text),
        false => LookError::Failed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "test:///default";

    #[test]
    fn a_definition_is_had_by_name_and_by_uuid_and_one_that_is_not_there_is_none() {
        let xml = definition(URI, "test")
            .expect("answer")
            .expect("a definition");
        assert!(xml.contains("<name>test</name>"));
        let uuid = "6695eb01-f6a4-8304-79aa-97f2502e193f";
        assert!(definition(URI, uuid).expect("answer").is_some());
        assert_eq!(definition(URI, "nobody").expect("answer"), None);
    }

    #[test]
    fn a_look_has_the_versions_and_no_definition_without_one_of_the_devices() {
        let look = look(URI, &[]).expect("answer");
        assert!(look.versions.libvirt.major >= 9, "{:?}", look.versions);
        assert!(look.domains.is_empty());
    }

    #[test]
    fn an_error_of_a_libvirt_that_answers_is_not_silence() {
        let why = crate::libvirt::create(URI, "<nonsense/>", false);
        assert!(matches!(why, Err(LookError::Failed(_))), "{why:?}");
    }

    #[test]
    fn a_daemon_that_is_not_there_is_silent() {
        let why = look("qemu+unix:///system?socket=/nonexistent/libvirt-sock", &[]);
        assert!(matches!(why, Err(LookError::Silent(_))), "{why:?}");
    }
}
