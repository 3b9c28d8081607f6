//! The schema of a recipe file. variantd.recipe(5) documents it for users.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use domain::NumaMode;
use kernel_glue::device::Device;
use kernel_glue::driver::DriverName;
use kernel_glue::id::PciId;
use serde::{Deserialize, Serialize};

/// The default: a Grace GPU's probe waits up to 31 s for its link and memory
/// (drivers/vfio/pci/nvgrace-gpu).
pub const UNSAID: Duration = Duration::from_secs(40);

/// Range of `bind_seconds`. The longest known wait is 256 s, which a CXL device may request until its memory is active
/// (CXL 3.1, 8.1.3, Memory_Active_Timeout).
pub const BIND: RangeInclusive<u64> = 10..=600;

/// What one family of guest drivers needs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Its name: lower-case letters, digits and hyphens; equal to the file's name without `.toml`.
    pub name: String,
    /// One line for users.
    pub title: String,
    /// The VFIO driver; hyphen or underscore is resolved on the host.
    pub driver: DriverName,
    /// When definitions are completed.
    pub prepare: Prepare,
    /// The driver can migrate a guest with its device.
    #[serde(default)]
    pub migrates: bool,
    /// Devices that the kernel cannot reset are not assigned.
    #[serde(default = "yes")]
    pub needs_reset: bool,
    /// Timeout of a probe of the driver, 10 to 600 s.
    #[serde(default = "forty")]
    pub bind_seconds: u64,
    /// The devices it is for.
    #[serde(rename = "device")]
    pub devices: Vec<Member>,
    /// The guests it can serve.
    #[serde(rename = "guest")]
    pub guests: Vec<Guest>,
    /// Generic initiators; without this section the guest gets none.
    pub initiators: Option<Initiators>,
    /// The guest address of the device.
    #[serde(default)]
    pub placement: Placement,
    /// PCI expander buses; without this section root ports are on the guest's own root bus.
    pub expander: Option<Expander>,
    /// An SMMUv3 for each expander bus; without this section the guest gets none.
    pub smmu: Option<Smmu>,
    /// Whether host devices go through iommufd; an accelerated SMMUv3 needs it anyway.
    #[serde(default)]
    pub iommufd: Need,
    /// EGM memory; without this section the guest gets none, also on request.
    pub egm: Option<Egm>,
    /// The NUMA layout; without this section the definition's own is kept, unless the domain's options say otherwise.
    pub numa: Option<NumaRule>,
    /// The 64-bit MMIO window; without this section it keeps no driver.
    pub window: Option<Window>,
    /// ACPI tables that are passed to the guest's firmware unchanged.
    #[serde(default, rename = "acpi_table")]
    pub acpi_tables: Vec<AcpiTable>,
    /// AtomicOps.
    #[serde(default)]
    pub atomics: Atomics,
    /// Known faults of the devices' reset.
    #[serde(default, rename = "reset")]
    pub resets: Vec<ResetFault>,
}

/// When a definition is completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prepare {
    /// As soon as it is defined; the start of an incomplete guest is refused.
    OnDefine,
    /// Only on request; an unprepared guest is not changed.
    OnRequest,
}

/// A device that the recipe is for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Vendor and device id.
    pub id: PciId,
    /// The vendor's name for it.
    pub label: String,
    /// Which functions with this id the recipe is for.
    #[serde(default)]
    pub functions: Functions,
    /// 64-bit MMIO space of its BARs in a guest, in GiB, if sysfs does not show all of them.
    #[serde(default)]
    pub window_gib: u64,
    /// The BARs of at least 1 GiB, in GiB; by default two BARs of half the window each.
    #[serde(default)]
    pub bars_gib: Vec<u64>,
    /// Timeout of the driver's probe for this device, 10 to 600 s, if it needs longer than the recipe's others.
    #[serde(default)]
    pub bind_seconds: Option<u64>,
}

/// Which functions of SR-IOV devices an entry is for. Virtual functions of some vendors have the physical function's id
/// (NVIDIA vGPU), those of others an id of their own (AMD, ConnectX).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Functions {
    /// Physical functions, and devices without SR-IOV.
    #[default]
    Physical,
    /// Virtual functions of this host.
    Virtual,
    /// Both: the id alone decides.
    Any,
}

impl Functions {
    /// True when a device is of this kind.
    #[must_use]
    pub fn include(self, device: &Device) -> bool {
        match self {
            Self::Physical => device.physical_function.is_none(),
            Self::Virtual => device.physical_function.is_some(),
            Self::Any => true,
        }
    }

    /// True when some device can be of both kinds.
    #[must_use]
    pub fn overlap(self, other: Self) -> bool {
        self == other || self == Self::Any || other == Self::Any
    }

    /// The key's value in a recipe.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Physical => "physical",
            Self::Virtual => "virtual",
            Self::Any => "any",
        }
    }
}

/// A kind of guest that the recipe can serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guest {
    /// libvirt's architecture name.
    pub arch: String,
    /// Family of machine types: `virt` or `q35`.
    pub machine: String,
    /// Whether a guest driver is known to use the pieces there.
    #[serde(default = "yes")]
    pub driver_uses: bool,
    /// Bits of a guest-physical address, if hosts of the architecture do not show it, 36 to 52.
    pub address_bits: Option<u32>,
}

/// Generic-initiator cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Initiators {
    /// Cells per device, 1 to 64.
    pub cells: usize,
    /// Replaces a host distance of 10 or less between different nodes, 11 to 254.
    #[serde(default = "eleven")]
    pub raise_ten_to: u8,
    /// Replaces a host distance of 255 (unreachable) between initiators of one device, 11 to 254.
    // The default is left out of digests, so that definitions completed before the key existed stay current.
    #[serde(default = "eleven", skip_serializing_if = "is_eleven")]
    pub lower_unreachable_to: u8,
    /// Distance between cells with CPUs and initiators, 11 to 254, instead of the host's.
    pub cpu_distance: Option<u8>,
    /// Distances for a host without them; without this section such a host is refused.
    pub fallback: Option<Fallback>,
}

/// Distances for a host without them, each 11 to 254.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// Between initiators of one device.
    pub same_device: u8,
    /// Between initiators of two devices.
    pub other_device: u8,
    /// Between a cell with CPUs and an initiator.
    pub cpu: u8,
}

/// The guest address of the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Placement {
    /// Slot 0, function 0, no multifunction, alone on a root port.
    pub own_root_port: bool,
    /// Devices behind one switch of the host are behind one switch in the guest. AtomicOps do not work there.
    pub switch: bool,
    /// The root port reports the speed and width of the slowest link on the host's path.
    pub link: bool,
}

/// PCI expander buses (`pxb-pcie`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expander {
    /// Family of machine types that get them: `virt` or `q35`.
    pub machine: String,
    /// The devices that share one.
    pub per: Per,
}

/// The devices that share an expander bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    /// One device.
    Device,
    /// All devices of the guest behind one IOMMU of the host.
    Iommu,
}

/// An accelerated SMMUv3 in front of an expander bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smmu {
    /// How much it is needed.
    pub need: Need,
    /// The source of its attributes.
    #[serde(default)]
    pub attributes: Attributes,
    /// Address Translation Services.
    pub ats: bool,
    /// Range invalidation.
    pub ril: bool,
    /// Bits of a SubstreamID, 0 to 20.
    pub ssidsize: u8,
    /// Output address size in bits: 44 or 48.
    pub oas: u8,
    /// Tegra241 command queues; without this key QEMU chooses.
    pub cmdqv: Option<bool>,
}

/// The source of an SMMUv3's attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attributes {
    /// The host's, if QEMU can read them from it (since 11.1); else the recipe's, as assumptions.
    #[default]
    Host,
    /// The recipe's.
    Recipe,
}

/// EGM memory: firmware's regions of host memory that the devices share become the guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Egm {
    /// How much it is needed, unless the domain's options say otherwise.
    pub need: Need,
}

/// The NUMA layout of guests with its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumaRule {
    /// What a domain gets whose options do not have `numa`. `mirror` does not apply to a definition with a layout of its own.
    #[serde(with = "mode")]
    pub default: NumaMode,
}

/// The mode in its printed form.
mod mode {
    use domain::NumaMode;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(mode: &NumaMode, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(mode)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<NumaMode, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// An ACPI table (`<os><acpi><table>`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcpiTable {
    /// Absolute path of the file on the host.
    pub path: String,
}

/// The 64-bit MMIO window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Family of machine types on which it must be set: `virt` or `q35`.
    pub machine: String,
    /// Least size in GiB that the machine type supports, a power of two.
    pub minimum_gib: u64,
}

/// AtomicOps that the guest's driver wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Atomics {
    /// How much it needs them.
    pub need: Need,
    /// Widths in bits: 32, 64, 128.
    pub widths: BTreeSet<u32>,
    /// One of the widths is enough.
    pub any: bool,
    /// Devices whose driver does atomic operations by other means.
    pub otherwise: Vec<Otherwise>,
}

/// Devices whose driver does not need AtomicOps to the root port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Otherwise {
    /// The devices; they need not be among the recipe's own.
    pub ids: BTreeSet<PciId>,
    /// The means: completes "its driver has atomic operations ...".
    pub means: String,
}

/// How much something is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// Without it the guest's driver does not work.
    Require,
    /// The guest's driver works better with it.
    Prefer,
    /// It is not changed.
    #[default]
    Ignore,
}

/// A reset that is known to fail.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetFault {
    /// The devices.
    pub ids: BTreeSet<PciId>,
    /// What happens.
    pub fault: String,
    /// The source.
    pub source: String,
}

fn yes() -> bool {
    true
}

fn eleven() -> u8 {
    11
}

// serde passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_eleven(value: &u8) -> bool {
    *value == eleven()
}

fn forty() -> u64 {
    UNSAID.as_secs()
}
