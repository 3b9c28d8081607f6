//! The guest's definition: of a file, or from libvirt.

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
    /// What it is called.
    pub(super) name: String,
    pub(super) definition: Definition,
    /// The libvirt and QEMU that would run it; `None` for a file, or where libvirt does not say them.
    pub(super) versions: Option<Versions>,
    /// What libvirt says beside them; nothing for a file.
    pub(super) libvirt: FromLibvirt,
    /// libvirt says that its host devices can go through iommufd.
    pub(super) iommufd: Option<bool>,
    /// It is in libvirt.
    pub(super) defined: bool,
}

impl GuestDefinition {
    /// The one that is asked for, if one is.
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
