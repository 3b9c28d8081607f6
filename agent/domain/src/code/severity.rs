//! How much each code asks of whoever reads it.

use std::fmt;

use super::Code;

/// How much a code asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// To be known; nothing is to be done.
    Note,
    /// The guest will run, and perhaps not as it should.
    Warning,
    /// `prepare` adds it; a guest without it is not started.
    Missing,
    /// `variantctl doctor` finds it: a guest will not start, or not as it should.
    Failure,
    /// Nothing is done until it is mended.
    Refusal,
}

impl Code {
    /// How much it asks where it is said unasked; a recipe that requires a piece makes a refusal of its warning.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::AtomicsAccessControl
            | Self::AtomicsOrdering
            | Self::AtomicsOtherwise
            | Self::AtomicsPeerBlocked
            | Self::AtomicsPeerGuest
            | Self::AtomicsPeerHost
            | Self::AtomicsRequester
            | Self::AtomicsVfio
            | Self::InitiatorsGiven
            | Self::KubevirtDone
            | Self::MarkOld
            | Self::MemoryLocked
            | Self::NotMigratable => Severity::Note,
            Self::AtomicsBlocked
            | Self::AtomicsDevice
            | Self::AtomicsGuestBehind
            | Self::AtomicsGuestFunction
            | Self::AtomicsGuestMachine
            | Self::AtomicsGuestMultifunction
            | Self::AtomicsGuestNoPort
            | Self::AtomicsGuestPortTaken
            | Self::AtomicsGuestRootBus
            | Self::AtomicsGuestUnknown
            | Self::AtomicsHidden
            | Self::AtomicsHotplug
            | Self::AtomicsIntegrated
            | Self::AtomicsKernel
            | Self::AtomicsLacking
            | Self::AtomicsMissed
            | Self::AtomicsNoEndpoint
            | Self::AtomicsNoRootPort
            | Self::AtomicsQemu
            | Self::AtomicsQemuNewer
            | Self::AtomicsRootPort
            | Self::AtomicsUndecided
            | Self::AtomicsUnrouted
            | Self::AcsOverride
            | Self::AgentVersion
            | Self::InterruptsUnsafe
            | Self::IommuNone
            | Self::NodeUnknown
            | Self::NothingCovered
            | Self::OverrideStray
            | Self::ResetFault
            | Self::UnitDisabled
            | Self::CellUnbound
            | Self::CommandQueues
            | Self::DeviceShared
            | Self::DeviceUnjudged
            | Self::ExpanderCellUnknown
            | Self::FunctionUncovered
            | Self::FunctionsEnabled
            | Self::GuestNoExpander
            | Self::GuestNodeLimit
            | Self::InitiatorsStale
            | Self::IommufdLeftOut
            | Self::LinkUnknown
            | Self::RegionsUnknown
            | Self::SmmuAssumed
            | Self::SmmuLeftOut
            | Self::SwitchMirrored
            | Self::GuestPlaceKept
            | Self::XmlForeign
            | Self::FleetDriverUnknown
            | Self::FleetNodes
            | Self::FleetSpelling
            | Self::FleetVersions
            | Self::FleetWindow
            | Self::KubevirtArgument
            | Self::KubevirtLossy
            | Self::TargetEmulator
            | Self::TargetUnused
            | Self::UnplugDangerous
            | Self::XmlOverwritten => Severity::Warning,
            Self::AcpiTableMissing
            | Self::AddressWidthMissing
            | Self::CellDistanceMissing
            | Self::CellsMissing
            | Self::DriverMissing
            | Self::GuestNoAddress
            | Self::IommufdMissing
            | Self::LinkMissing
            | Self::MarkMissing
            | Self::NodesetMissing
            | Self::SmmuMissing
            | Self::WindowMissing => Severity::Missing,
            Self::BarUnset
            | Self::DefinitionLacks
            | Self::GuestMemory
            | Self::HookConfined
            | Self::HookMissing
            | Self::HookNotCalled
            | Self::HookNotExecutable
            | Self::HookOther
            | Self::IommuOff
            | Self::LibvirtSilent
            | Self::LockLimit
            | Self::ModuleBlocked
            | Self::ModuleFile
            | Self::ModuleMissing
            | Self::PolicyMissing
            | Self::ReservedUnbound
            | Self::SettingsUnusable => Severity::Failure,
            _ => Severity::Refusal,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Missing => "missing",
            Self::Failure => "failure",
            Self::Refusal => "refusal",
        })
    }
}
