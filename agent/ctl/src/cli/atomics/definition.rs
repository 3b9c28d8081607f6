//! The guest's definition from a file or from libvirt.

use std::path::Path;

use super::super::problem::Problem;
use super::super::{HostView, defined, input};
use super::Request;
use agent::libvirt::Found;
use domain::{Definition, MAX_BYTES};
use planner::from_libvirt::FromLibvirt;
use planner::target::Versions;

/// A guest's definition.
pub(super) struct GuestDefinition {
    /// Its file or domain name.
    pub(super) name: String,
    pub(super) definition: Definition,
    /// The versions of libvirt and QEMU; `None` for a file, and when libvirt does not report them.
    pub(super) versions: Option<Versions>,
    /// Other facts from libvirt; empty for a file.
    pub(super) libvirt: FromLibvirt,
    /// libvirt reports that its host devices can use iommufd.
    pub(super) iommufd: Option<bool>,
    /// It is in libvirt.
    pub(super) defined: bool,
}

impl GuestDefinition {
    /// The requested definition, if any.
    pub(super) fn of(host_view: &HostView, request: &Request) -> Result<Option<Self>, Problem> {
        match (&request.file, &request.domain) {
            (Some(file), _) => Self::in_file(file).map(Some),
            (None, Some(name)) => {
                let found = defined::in_libvirt(host_view, name, request.device)?;
                Self::found(name, found).map(Some)
            }
            (None, None) => Ok(None),
        }
    }

    fn in_file(file: &Path) -> Result<Self, Problem> {
        Ok(Self {
            name: file.display().to_string(),
            definition: Definition::parse(input::text(file, MAX_BYTES)?)?,
            versions: None,
            libvirt: FromLibvirt::default(),
            iommufd: None,
            defined: false,
        })
    }

    fn found(name: &str, found: Found) -> Result<Self, Problem> {
        Ok(Self {
            name: name.to_owned(),
            versions: found.versions,
            libvirt: found.libvirt(),
            iommufd: found.domain.capabilities.iommufd,
            definition: Definition::parse(found.domain.xml)?,
            defined: true,
        })
    }
}
