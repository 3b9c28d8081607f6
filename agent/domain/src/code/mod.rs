//! Stable codes of refusals and notes: `VD-XXX-000`. A code, once released, keeps its meaning.

mod explain;
mod severity;

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

pub use severity::Severity;

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal,)*) => {
        /// What a refusal or note is about; prints as `VD-XXX-000`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[doc = $doc])* $name,)*
        }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The meaning in one line: lower case, no full stop.
            #[must_use]
            pub fn title(self) -> String {
                let doc = match self {
                    $(Code::$name => concat!($($doc),*),)*
                };
                titled(doc)
            }

            /// The printed form.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Code::$name => $text,)*
                }
            }
        }
    };
}

codes! {
    /// The text is not well-formed XML.
    XmlMalformed = "VD-XML-001",
    /// The text has a document type declaration.
    XmlDtd = "VD-XML-002",
    /// The text is over 1 MiB, or has more nodes, or more of something, than a domain can have.
    XmlTooLarge = "VD-XML-003",
    /// The root element is not `<domain>`, or an element every domain has is missing.
    XmlNoDomain = "VD-XML-004",
    /// An attribute or text cannot be read as what it must be.
    XmlValue = "VD-XML-005",
    /// libvirt dropped an element that was defined.
    XmlDropped = "VD-XML-006",
    /// The definition changed while it was being prepared.
    XmlRaced = "VD-XML-007",
    /// The guest has no ACPI, or no firmware for it.
    AcpiMissing = "VD-XML-008",
    /// An ACPI table is given to a machine that takes none.
    AcpiTableRefused = "VD-XML-009",
    /// An ACPI table that the recipe names is not given to the guest.
    AcpiTableMissing = "VD-XML-010",
    /// The definition has an attribute or element that this libvirt does not know.
    XmlForeign = "VD-XML-011",
    /// A definition was completed again and again, and did not stay complete.
    XmlLoop = "VD-XML-012",
    /// Another client's change of a definition may have been overwritten.
    XmlOverwritten = "VD-XML-013",
    /// A snapshot of a host cannot be read.
    SnapshotUnreadable = "VD-HST-001",
    /// A snapshot of a host has a form that this version does not know.
    SnapshotVersion = "VD-HST-002",
    /// A snapshot of a host is larger than any host's.
    SnapshotTooLarge = "VD-HST-003",
    /// A host's kernel lacks the driver that a guest's device needs.
    FleetDriver = "VD-FLT-001",
    /// Whether a host's kernel has the driver was not seen.
    FleetDriverUnknown = "VD-FLT-002",
    /// A guest is of another architecture than a host.
    FleetArch = "VD-FLT-003",
    /// What is added to a guest is other, or written otherwise, on another host.
    FleetSpelling = "VD-FLT-004",
    /// A guest gets another MMIO window on another host.
    FleetWindow = "VD-FLT-005",
    /// A guest's device has another driver or other nodes on another host.
    FleetNodes = "VD-FLT-006",
    /// The versions of libvirt and QEMU of a host are not known.
    FleetVersions = "VD-FLT-007",
    /// No host is named.
    FleetEmpty = "VD-FLT-008",
    /// KubeVirt's sidecar has no snapshot of its host.
    KubevirtSnapshot = "VD-KVT-001",
    /// The VMI that KubeVirt hands over cannot be read.
    KubevirtVmi = "VD-KVT-002",
    /// A domain is near or above what a program takes as one argument.
    KubevirtArgument = "VD-KVT-003",
    /// KubeVirt has written pieces itself, which are kept.
    KubevirtDone = "VD-KVT-004",
    /// KubeVirt has written pieces itself that contradict the host or its recipe.
    KubevirtContradicts = "VD-KVT-005",
    /// KubeVirt's own reading of a domain loses what was added.
    KubevirtLossy = "VD-KVT-006",
    /// A device is not on this host.
    DeviceMissing = "VD-DEV-001",
    /// A definition assigns one device twice.
    DeviceTwice = "VD-DEV-002",
    /// Another domain uses the device.
    DeviceTaken = "VD-DEV-003",
    /// Another definition assigns the device, too.
    DeviceShared = "VD-DEV-004",
    /// The device has virtual functions.
    DeviceHasFunctions = "VD-DEV-005",
    /// Virtual functions of an assigned device are enabled on this host.
    FunctionsEnabled = "VD-DEV-006",
    /// A virtual function has an id that a recipe names for physical functions only.
    FunctionUncovered = "VD-DEV-007",
    /// A device is assigned by QEMU's own arguments, and not checked.
    DeviceUnjudged = "VD-DEV-008",
    /// The guest address is not slot 0.
    GuestSlot = "VD-TOP-001",
    /// The guest address is not function 0.
    GuestFunction = "VD-TOP-002",
    /// The guest address has the multifunction flag.
    GuestMultifunction = "VD-TOP-003",
    /// The device is not directly below a root port.
    GuestNotOnRootPort = "VD-TOP-004",
    /// Another device shares the root port.
    GuestPortShared = "VD-TOP-005",
    /// The device has no guest address yet.
    GuestNoAddress = "VD-TOP-006",
    /// The device's root port is on no expander bus.
    GuestNoExpander = "VD-TOP-007",
    /// The guest has no PCI bus number left.
    GuestBusNumbers = "VD-TOP-008",
    /// Devices of different groups share one expander bus.
    GuestExpanderShared = "VD-TOP-009",
    /// The guest cell of an expander bus cannot be told.
    ExpanderCellUnknown = "VD-TOP-010",
    /// The root port does not show the link of the device's path.
    LinkMissing = "VD-TOP-011",
    /// The link of the device's path cannot be shown.
    LinkUnknown = "VD-TOP-012",
    /// A device is behind a switch as on the host.
    SwitchMirrored = "VD-TOP-013",
    /// A device is left at a place of the user's that its recipe would not choose.
    GuestPlaceKept = "VD-TOP-014",
    /// Config space on the way of AtomicOps cannot be read.
    AtomicsHidden = "VD-ATM-001",
    /// The device is no PCI Express endpoint of version 2.
    AtomicsNoEndpoint = "VD-ATM-002",
    /// The device itself does not complete AtomicOps of this width.
    AtomicsDevice = "VD-ATM-003",
    /// The host's root port does not complete AtomicOps of this width.
    AtomicsRootPort = "VD-ATM-004",
    /// A switch port of the host does not route AtomicOps.
    AtomicsUnrouted = "VD-ATM-005",
    /// A switch port of the host blocks AtomicOps.
    AtomicsBlocked = "VD-ATM-006",
    /// The device is integrated into the host's root complex.
    AtomicsIntegrated = "VD-ATM-007",
    /// The host shows no root port above the device.
    AtomicsNoRootPort = "VD-ATM-008",
    /// The host's kernel does not tell QEMU of AtomicOps.
    AtomicsKernel = "VD-ATM-009",
    /// VFIO itself was asked for AtomicOps.
    AtomicsVfio = "VD-ATM-010",
    /// The target's QEMU passes no AtomicOps on.
    AtomicsQemu = "VD-ATM-011",
    /// The guest sees the device on its root bus.
    AtomicsGuestRootBus = "VD-ATM-012",
    /// The guest sees the device behind something that is no root port.
    AtomicsGuestBehind = "VD-ATM-013",
    /// The guest does not see the device as function 0 of slot 0.
    AtomicsGuestFunction = "VD-ATM-014",
    /// The guest sees the device as one of several functions.
    AtomicsGuestMultifunction = "VD-ATM-015",
    /// The guest's root port has AtomicOps of another device.
    AtomicsGuestPortTaken = "VD-ATM-016",
    /// The guest's machine has no PCI Express.
    AtomicsGuestMachine = "VD-ATM-017",
    /// It cannot be told where the guest will see the device.
    AtomicsGuestUnknown = "VD-ATM-018",
    /// The guest has no free root port for a device that is attached while it runs.
    AtomicsGuestNoPort = "VD-ATM-019",
    /// The target's QEMU is newer than what is known of its rules.
    AtomicsQemuNewer = "VD-ATM-020",
    /// The guest's driver lacks AtomicOps that it needs.
    AtomicsLacking = "VD-ATM-021",
    /// The guest's driver lacks AtomicOps that it works better with.
    AtomicsMissed = "VD-ATM-022",
    /// The guest's driver has its atomic operations by other means.
    AtomicsOtherwise = "VD-ATM-023",
    /// It cannot be told whether the guest's driver gets its AtomicOps.
    AtomicsUndecided = "VD-ATM-024",
    /// The host's root port routes no AtomicOps between devices.
    AtomicsPeerHost = "VD-ATM-031",
    /// The guest's ports route no AtomicOps between devices.
    AtomicsPeerGuest = "VD-ATM-032",
    /// Relaxed ordering on the way of the device.
    AtomicsOrdering = "VD-ATM-033",
    /// The device may send AtomicOps now.
    AtomicsRequester = "VD-ATM-034",
    /// Access control sends traffic between devices up to the root port.
    AtomicsAccessControl = "VD-ATM-035",
    /// A guest that runs may not see AtomicOps of a device that is attached.
    AtomicsHotplug = "VD-ATM-036",
    /// A port blocks AtomicOps in a direction that the kernel does not look at.
    AtomicsPeerBlocked = "VD-ATM-037",
    /// The hostdev does not name the driver it needs.
    DriverMissing = "VD-DRV-001",
    /// libvirt would use another driver than the recipe needs.
    DriverWrong = "VD-DRV-002",
    /// The host's generic-initiator nodes of a device cannot be told.
    InitiatorsUnknown = "VD-NUM-001",
    /// The host's distance table misses a pair.
    DistanceMissing = "VD-NUM-002",
    /// More NUMA cells than QEMU takes.
    TooManyCells = "VD-NUM-003",
    /// The guest lacks generic-initiator cells of a device.
    CellsMissing = "VD-NUM-004",
    /// The hostdev's nodeset is missing.
    NodesetMissing = "VD-NUM-005",
    /// The hostdev's nodeset names cells that cannot be its initiators.
    NodesetWrong = "VD-NUM-006",
    /// Distances between cells are missing.
    CellDistanceMissing = "VD-NUM-007",
    /// A cell is bound to no host node, so its distances are assumed.
    CellUnbound = "VD-NUM-008",
    /// The guest has more nodes than an arm64 kernel with its default configuration takes.
    GuestNodeLimit = "VD-NUM-009",
    /// The definition gives QEMU NUMA, initiator or window arguments of its own.
    CommandLineTaken = "VD-NUM-010",
    /// Two hostdevs name the same initiator cell.
    NodesetOverlap = "VD-NUM-011",
    /// The distances between cells make no table.
    DistanceInvalid = "VD-NUM-012",
    /// A device with initiators must not be hot-unplugged.
    UnplugDangerous = "VD-NUM-013",
    /// The definition gives QEMU a device's initiators itself, and they are complete.
    InitiatorsGiven = "VD-NUM-014",
    /// A device was hot-unplugged, and its initiators are still there.
    InitiatorsStale = "VD-ATM-041",
    /// An expander bus has no SMMUv3 in front of it.
    SmmuMissing = "VD-IOM-001",
    /// The guest gets no SMMUv3.
    SmmuLeftOut = "VD-IOM-002",
    /// An SMMUv3's attributes are assumed, not the host's.
    SmmuAssumed = "VD-IOM-003",
    /// An SMMUv3 is in front of a bus that can have none.
    SmmuWrongBus = "VD-IOM-004",
    /// Two SMMUv3 are in front of one bus.
    SmmuTwice = "VD-IOM-005",
    /// A host device is behind an SMMUv3 without acceleration.
    SmmuIdle = "VD-IOM-006",
    /// Host devices do not go through iommufd.
    IommufdMissing = "VD-IOM-007",
    /// Host devices cannot go through iommufd.
    IommufdLeftOut = "VD-IOM-008",
    /// Command queues are asked for, and the guest's memory is not in huge pages.
    CommandQueues = "VD-IOM-009",
    /// The 64-bit MMIO window is not set.
    WindowMissing = "VD-MEM-001",
    /// The 64-bit MMIO window is too small or no power of two.
    WindowWrong = "VD-MEM-002",
    /// The 64-bit MMIO window does not fit the guest's address width.
    WindowTooWide = "VD-MEM-003",
    /// The guest's addresses are too narrow for memory and MMIO window.
    AddressWidthMissing = "VD-MEM-004",
    /// The limit of locked memory is below the guest's memory.
    HardLimit = "VD-MEM-005",
    /// All of the guest's memory is locked on the host.
    MemoryLocked = "VD-MEM-006",
    /// VFIO does not tell a device's regions.
    RegionsUnknown = "VD-REG-001",
    /// The guest cannot migrate.
    NotMigratable = "VD-MIG-001",
    /// The mark that records what was added is missing or old.
    MarkMissing = "VD-MRK-001",
    /// What was added before is for another recipe, host or version.
    MarkOld = "VD-MRK-002",
    /// The target's libvirt or QEMU is too old for a piece.
    TargetOld = "VD-TGT-001",
    /// The recipe does not serve this architecture or machine type.
    TargetMachine = "VD-TGT-002",
    /// The recipe serves this architecture, but no guest driver is known to use it there.
    TargetUnused = "VD-TGT-003",
    /// The versions of libvirt and QEMU are not known.
    TargetUnknown = "VD-TGT-004",
    /// The definition names another QEMU than the one that was planned for.
    TargetEmulator = "VD-TGT-005",
    /// A driver could not be bound.
    BindFailed = "VD-BND-001",
    /// The device is not on the planned driver.
    BindWrongDriver = "VD-BND-002",
    /// The device is in use.
    BindInUse = "VD-BND-003",
    /// A failed undo left the device in an unknown state.
    BindDegraded = "VD-BND-004",
    /// A process of the host holds the device.
    BindHeld = "VD-BND-005",
    /// It cannot be seen who holds the device.
    BindHolderHidden = "VD-BND-006",
    /// The host uses another function of the IOMMU group.
    BindGroup = "VD-BND-007",
    /// The kernel has no way to reset the device.
    ResetMissing = "VD-BND-008",
    /// The host uses the device's memory as its own.
    BindMemoryOnlined = "VD-BND-009",
    /// The journal of bound devices cannot be read or written.
    JournalFailed = "VD-BND-010",
    /// A newer variantd wrote the journal.
    JournalNewer = "VD-BND-011",
    /// The device does not answer.
    BindSilent = "VD-BND-012",
    /// A service that holds the device could not be stopped.
    ServiceNotStopped = "VD-BND-013",
    /// A service that was stopped for a device does not run again.
    ServiceNotStarted = "VD-BND-014",
    /// The driver shows the guest no GPU memory.
    MemoryNotShown = "VD-BND-015",
    /// The device is being bound or released by hand.
    DeviceBusy = "VD-BND-020",
    /// Another device is at a reserved address.
    ReservedOther = "VD-BND-021",
    /// No driver is known for the device.
    DriverUnknown = "VD-BND-022",
    /// The GPU was not ready in time.
    BindNotReady = "VD-BND-030",
    /// The kernel has not come back from a write.
    BindStuck = "VD-BND-031",
    /// A module has not been loaded in time.
    ModuleStuck = "VD-BND-032",
    /// The driver is not one that the device may be bound to.
    DriverRefused = "VD-BND-033",
    /// The device is given back, without the driver that it had before.
    LeftWithoutDriver = "VD-BND-034",
    /// The agent has not answered libvirt's hook in time.
    HookLate = "VD-BND-045",
    /// No IOMMU confines the device, and VFIO would give it to a guest all the same.
    DeviceUnconfined = "VD-BND-050",
    /// A prepared definition is over 1 MiB, and the hook cannot check it.
    HookTooLarge = "VD-HOK-001",
    /// A prepared definition is no XML that the hook can read.
    HookUnreadable = "VD-HOK-002",
    /// The agent is of another version than the hook.
    HookForeign = "VD-HOK-003",
    /// The agent ended before it answered the hook.
    HookBroken = "VD-HOK-004",
    /// The definition did not arrive on the hook's standard input.
    HookInputMissing = "VD-HOK-005",
    /// A signal ended the hook itself.
    HookKilled = "VD-HOK-006",
    /// The agent cannot be reached.
    AgentUnreachable = "VD-AGT-001",
    /// The host cannot be read.
    HostUnreadable = "VD-AGT-002",
    /// The IOMMU of the host is off.
    IommuOff = "VD-DOC-001",
    /// VFIO takes devices without an IOMMU.
    IommuNone = "VD-DOC-002",
    /// VFIO takes devices whose interrupts are not isolated.
    InterruptsUnsafe = "VD-DOC-003",
    /// IOMMU groups are split against what the hardware isolates.
    AcsOverride = "VD-DOC-004",
    /// libvirt cannot let QEMU lock a guest's memory.
    LockLimit = "VD-DOC-005",
    /// The host has not the memory that a guest locks.
    GuestMemory = "VD-DOC-006",
    /// No device of the host is covered by a recipe.
    NothingCovered = "VD-DOC-009",
    /// The kernel offers no VFIO driver for the device.
    ModuleMissing = "VD-DOC-010",
    /// The file of the device's VFIO driver is gone.
    ModuleFile = "VD-DOC-011",
    /// The device's VFIO driver is kept from being loaded.
    ModuleBlocked = "VD-DOC-012",
    /// The device is on no driver, and its override keeps others away.
    OverrideStray = "VD-DOC-013",
    /// A reserved device is not on its driver.
    ReservedUnbound = "VD-DOC-014",
    /// The reset of the device is known to fail.
    ResetFault = "VD-DOC-017",
    /// A BAR of the device has no address.
    BarUnset = "VD-DOC-018",
    /// The NUMA node of the device is not known.
    NodeUnknown = "VD-DOC-019",
    /// libvirt does not answer.
    LibvirtSilent = "VD-DOC-025",
    /// A definition lacks what its device's driver needs.
    DefinitionLacks = "VD-DOC-031",
    /// libvirt's hook is not installed.
    HookMissing = "VD-DOC-040",
    /// libvirt's hook cannot be executed.
    HookNotExecutable = "VD-DOC-041",
    /// The running libvirt does not call its hook.
    HookNotCalled = "VD-DOC-042",
    /// Another program is in the place of libvirt's hook.
    HookOther = "VD-DOC-043",
    /// libvirt may not run its hook.
    HookConfined = "VD-DOC-044",
    /// The agent is of another version than variantctl.
    AgentVersion = "VD-DOC-046",
    /// The bus policy of variantd is missing.
    PolicyMissing = "VD-DOC-047",
    /// Configuration or recipes cannot be read.
    SettingsUnusable = "VD-DOC-048",
    /// A unit of variantd does not start with the host.
    UnitDisabled = "VD-DOC-049",
    /// A job cannot be cancelled any more.
    JobBegun = "VD-AGT-003",
    /// There are too many jobs.
    JobsFull = "VD-AGT-004",
    /// A job was cancelled.
    JobCancelled = "VD-AGT-005",
    /// The caller may not do this.
    NotAuthorized = "VD-AGT-006",
    /// polkit gives no answer.
    AuthoritySilent = "VD-AGT-007",
    /// Too many calls of one user are under way.
    CallsFull = "VD-AGT-010",
    /// A call is larger than its method can use.
    CallTooLarge = "VD-AGT-011",
    /// Too many answers to one user have not been read.
    AnswersUnread = "VD-AGT-012",
    /// A configuration file says something that has no meaning.
    ConfigMistake = "VD-CFG-001",
    /// A configuration file cannot be read.
    ConfigUnreadable = "VD-CFG-002",
    /// What a saved plan was made from changed since.
    PlanStale = "VD-PLN-001",
    /// The text is no saved plan, or somebody edited it.
    PlanUnreadable = "VD-PLN-002",
}

/// A text is no code.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is no code; 'variantctl explain' lists them")]
pub struct CodeError(String);

/// A doc comment's first sentence as a title.
fn titled(doc: &str) -> String {
    let text = doc.trim().trim_end_matches('.').replace('`', "");
    let mut letters = text.chars();
    let acronym = text
        .split(' ')
        .next()
        .is_some_and(|word| word.len() > 1 && word.chars().all(|c| !c.is_lowercase()));
    match letters.next() {
        Some(first) if !acronym => first.to_lowercase().chain(letters).collect(),
        _ => text,
    }
}

impl FromStr for Code {
    type Err = CodeError;

    /// Upper and lower case are one.
    fn from_str(text: &str) -> Result<Self, CodeError> {
        let found = Self::ALL
            .iter()
            .find(|code| code.as_str().eq_ignore_ascii_case(text.trim()));
        found
            .copied()
            .ok_or_else(|| CodeError(text.chars().take(64).collect()))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_has_a_title_and_a_paragraph_with_its_source() {
        for code in Code::ALL {
            assert!(
                code.title().len() > 15 && !code.title().ends_with('.'),
                "{code}"
            );
            assert!(code.explanation().contains("Source: "), "{code}");
            assert_eq!(code.as_str().to_lowercase().parse(), Ok(*code));
        }
    }

    #[test]
    fn what_is_no_code_is_named() {
        assert!("VD-XML-999".parse::<Code>().is_err());
    }

    #[test]
    fn no_two_codes_print_alike_and_all_have_the_form() {
        let texts: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        for text in texts {
            let parts: Vec<_> = text.split('-').collect();
            let shaped =
                matches!(parts[..], ["VD", area, number] if area.len() == 3 && number.len() == 3);
            assert!(shaped, "{text}");
        }
    }
}
