//! Read-only queries of libvirt: versions, and definitions that have one of certain devices.

use std::cell::OnceCell;
use std::sync::Arc;

use kernel_glue::address::PciAddress;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt_sys as sys;

use super::defined::{Defined, Read};
use super::network;
use planner::from_libvirt::{FromLibvirt, Networks};
use planner::target::{Version, Versions};

/// libvirt's answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Look {
    /// libvirt's version and QEMU's.
    pub versions: Versions,
    /// Definitions with one of the devices, or with a pool that has one, by name.
    pub domains: Vec<Defined>,
    /// Networks; `None` if no definition has an interface of one, or libvirt does not list them.
    pub networks: Option<Networks>,
}

/// One domain, with libvirt's other answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// libvirt's version and QEMU's; `None` if libvirt does not report them.
    pub versions: Option<Versions>,
    /// The domain.
    pub domain: Defined,
    /// As in [`Look`].
    pub networks: Option<Networks>,
}

impl Found {
    /// The inputs from libvirt for planning the domain, besides versions.
    #[must_use]
    pub fn libvirt(&self) -> FromLibvirt {
        let networks = self.networks.clone().map(Arc::new);
        self.domain.capabilities.with(networks)
    }
}

/// libvirt was not queried, or did not answer. Each variant has its own fix.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LookError {
    /// The caller lacks permission.
    #[error("libvirt: {0}")]
    Denied(String),
    /// No daemon listens.
    #[error("libvirt: {0}")]
    Silent(String),
    /// libvirt returned an error.
    #[error("libvirt: {0}")]
    Failed(String),
    /// It has not answered within so many seconds.
    #[error("libvirt did not answer within {0} s")]
    Late(u64),
    /// A library that our own program needs is not installed.
    #[error("cannot query libvirt: {0}")]
    Unloaded(String),
    /// Our own program for the query is missing or cannot run.
    #[error("cannot query libvirt: {0}")]
    Broken(String),
}

/// Opens a read-only connection, queries, and closes it. May block as long as a guest's start takes.
///
/// # Errors
/// libvirt's error.
pub fn look(uri: &str, devices: &[PciAddress]) -> Result<Look, LookError> {
    let connect = opened(uri)?;
    let versions = versions(&connect).map_err(printed)?;
    let listed = listed(&connect)?;
    // Queried once, and only if a definition has an interface of a network.
    let networks = OnceCell::new();
    let pools = || networks.get_or_init(|| network::networks(&connect).ok());
    let ours = |domain: &Domain| {
        let read = Read::next_start(domain).ok()?;
        let pools = read.has_networks().then(pools).and_then(Option::as_ref);
        read.concerns(devices, pools).then_some(read)
    };
    // Skips a domain that was removed since the list was made.
    let found = listed.iter().filter_map(ours);
    let mut domains: Vec<Defined> = found.map(|read| read.defined(&connect)).collect();
    domains.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Look {
        versions,
        domains,
        networks: networks.into_inner().flatten(),
    })
}

/// The domain with this name or UUID: its definition for the next start, without secrets, or its live XML if it runs
/// with a `device` that the definition does not have. `None` if there is no such domain.
///
/// # Errors
/// libvirt's error.
pub fn definition(
    uri: &str,
    name: &str,
    device: Option<PciAddress>,
) -> Result<Option<Found>, LookError> {
    let connect = opened(uri)?;
    let by_uuid = || connect.lookup_domain_by_uuid_string(name);
    let domain = connect
        .lookup_domain_by_name(name)
        .or_else(|why| by_uuid().map_err(|_| why));
    match domain {
        Ok(domain) => found(&connect, &domain, device).map(Some).map_err(printed),
        Err(why) if why.code().to_raw() == sys::VIR_ERR_NO_DOMAIN => Ok(None),
        Err(why) => Err(printed(why)),
    }
}

/// Names of all domains that have a definition.
///
/// # Errors
/// libvirt's error.
pub fn names(uri: &str) -> Result<Vec<String>, LookError> {
    let connect = opened(uri)?;
    let listed = listed(&connect)?;
    // Skips a domain that was removed meanwhile.
    let mut names: Vec<String> = listed.iter().filter_map(|one| one.name().ok()).collect();
    names.sort();
    Ok(names)
}

/// The XML of all domains without secrets: of a running guest as it runs, of another as it is defined.
///
/// # Errors
/// libvirt's error.
pub fn definitions(uri: &str) -> Result<Vec<String>, LookError> {
    let connect = opened(uri)?;
    let listed = connect.list_all_domains(0).map_err(printed)?;
    // Skips a domain that was removed meanwhile. Without the flag INACTIVE libvirt formats a running guest.
    let texts = listed.iter().filter_map(|one| one.xml_desc(0).ok());
    Ok(texts.collect())
}

/// Opens read-only; libvirt's library prints no errors of its own.
fn opened(uri: &str) -> Result<Connect, LookError> {
    virt::error::clear_error_callback();
    Connect::open_read_only(Some(uri)).map_err(unopened)
}

/// Why there is no connection. libvirt has no error code for a daemon that does not run: the error is one of
/// connect(2), or of the connection itself.
pub(super) fn unopened(error: Error) -> LookError {
    let code = error.code().to_raw();
    match printed(error) {
        LookError::Failed(text)
            if [sys::VIR_ERR_SYSTEM_ERROR, sys::VIR_ERR_RPC].contains(&code) =>
        {
            // A missing or dead socket. EACCES of the same call was sorted out by `printed`.
            LookError::Silent(text)
        }
        other => other,
    }
}

/// All domains that have a definition.
fn listed(connect: &Connect) -> Result<Vec<Domain>, LookError> {
    let listed = connect.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_PERSISTENT);
    listed.map_err(printed)
}

fn versions(connect: &Connect) -> Result<Versions, Error> {
    Ok(Versions {
        libvirt: Version::from_number(connect.lib_version()?),
        qemu: Version::from_number(connect.hyp_version()?),
    })
}

fn found(connect: &Connect, domain: &Domain, device: Option<PciAddress>) -> Result<Found, Error> {
    let read = Read::with(domain, device)?;
    let networks = read.has_networks().then(|| network::networks(connect).ok());
    Ok(Found {
        versions: versions(connect).ok(),
        domain: read.defined(connect),
        networks: networks.flatten(),
    })
}

pub(super) fn printed(error: Error) -> LookError {
    let text = error.message().to_owned();
    // By text, because one code (VIR_ERR_SYSTEM_ERROR) stands for all errors of connect(2). The first letter differs by message.
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
    const POOL: &str = "<network><name>looked</name><forward mode='hostdev'>\
        <address type='pci' domain='0' bus='0x81' slot='0' function='2'/></forward></network>";
    const GUEST: &str = "<domain type='test'><name>pooled</name><memory>1024</memory><os><type>hvm</type></os><devices>\
        <interface type='network'><source network='looked'/></interface></devices></domain>";

    fn text(name: &str) -> Option<String> {
        let found = definition(URI, name, None).expect("an answer");
        found.map(|found| found.domain.xml)
    }

    #[test]
    fn definition_is_found_by_name_and_by_uuid() {
        let xml = text("test").expect("a definition");
        assert!(xml.contains("<name>test</name>"));
        let uuid = "6695eb01-f6a4-8304-79aa-97f2502e193f";
        assert!(text(uuid).is_some());
        assert_eq!(text("missing"), None);
    }

    #[test]
    fn definitions_returns_every_domain() {
        let all = definitions(URI).expect("an answer");
        assert!(all.iter().any(|xml| xml.contains("<name>test</name>")));
    }

    #[test]
    fn look_returns_versions_and_only_relevant_definitions() {
        let look = look(URI, &[]).expect("answer");
        assert!(look.versions.libvirt.major >= 9, "{:?}", look.versions);
        assert!(look.domains.is_empty());
    }

    #[test]
    fn a_guest_that_gets_a_device_from_a_pool_is_found_with_the_pool() {
        // libvirt's test driver keeps its state as long as a connection is open in the process.
        let client = Connect::open(Some(URI)).expect("a client");
        client.define_network_xml(POOL).expect("a network");
        client.define_domain_xml(GUEST).expect("a guest");
        let (pooled, other) = ("0000:81:00.2".parse(), "0000:81:00.3".parse());
        let named = |devices: &[PciAddress]| look(URI, devices).expect("an answer");
        let look = named(&[pooled.expect("address")]);
        let names: Vec<&str> = look.domains.iter().map(|one| &*one.name).collect();
        assert_eq!(names, ["pooled"]);
        assert!(named(&[other.expect("address")]).domains.is_empty());
        for networks in [
            look.networks,
            definition(URI, "pooled", None)
                .expect("an answer")
                .expect("a guest")
                .networks,
        ] {
            let pool = networks.expect("networks");
            assert_eq!(
                pool.pool("looked").map(|pool| pool.devices().len()),
                Some(1)
            );
        }
    }

    #[test]
    fn libvirt_error_is_not_reported_as_silence() {
        let why = crate::libvirt::create(URI, "<nonsense/>", false);
        assert!(matches!(why, Err(LookError::Failed(_))), "{why:?}");
    }

    #[test]
    fn missing_daemon_is_reported_as_silent() {
        let why = look("qemu+unix:///system?socket=/nonexistent/libvirt-sock", &[]);
        assert!(matches!(why, Err(LookError::Silent(_))), "{why:?}");
    }
}
