//! Requests from one device to another: what the two share, and where ACS and ATS route a request.
//!
//! Follows PCIe base specification 6.12 (ACS) and 10.1 (ATS), and Linux, drivers/pci/p2pdma.c, for the host's own drivers.
//! A guest's device has an IOMMU between its addresses and the host's: only a request that ATS has translated can take the short
//! way through a switch, and where a port redirects, only if the port exempts translated requests (Direct Translated P2P).

use crate::address::PciAddress;
use crate::config::{AccessControl, Ats, Config, Express, Port};
use crate::device::Device;
use crate::host::Host;
use crate::id::PciId;

/// What two devices share, nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shared {
    /// They are one.
    Itself,
    /// Functions of one slot.
    Slot,
    /// A switch.
    Switch,
    /// A root port, past several switches.
    RootPort,
    /// A NUMA node.
    Node,
    /// The host.
    Host,
}

/// The route of memory requests from one device to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// From port to port of a switch, or inside the device.
    Direct,
    /// Through the root complex, because no switch is above both.
    Apart,
    /// Up to the root complex and down again, past the switch that both share.
    Redirected {
        /// The ports whose ACS redirects; for a guest those without Direct Translated P2P.
        ports: Vec<PciAddress>,
        /// The requester has no ATS, which a guest's device needs for the direct route.
        no_ats: bool,
    },
    /// Config space of this function is not visible.
    Unknown(PciAddress),
}

/// The path of requests from one device to another.
#[derive(Clone, Debug)]
pub struct PeerPath<'a> {
    /// What the two share.
    pub shared: Shared,
    /// The ports whose ACS decides the route: those between the two devices and the nearest bridge above both, first the
    /// requester's; functions of one slot themselves. Empty where no bridge is above both.
    pub ports: Vec<PathPort<'a>>,
    requester: &'a Device,
}

/// A port of a path.
#[derive(Clone, Copy, Debug)]
pub struct PathPort<'a> {
    /// Its address.
    pub address: PciAddress,
    device: Option<&'a Device>,
}

impl Host {
    /// The path from a device to another one.
    #[must_use]
    pub fn peer_path<'a>(&'a self, from: &'a Device, to: &'a Device) -> PeerPath<'a> {
        let shared = self.shared(from, to);
        let addresses: Vec<PciAddress> = match shared {
            Shared::Slot => vec![from.address, to.address],
            Shared::Switch | Shared::RootPort => {
                let common = common(from, to);
                let up = from.ancestors[common..].iter().rev();
                up.chain(&to.ancestors[common..]).copied().collect()
            }
            Shared::Itself | Shared::Node | Shared::Host => Vec::new(),
        };
        let ports = addresses.into_iter().map(|address| PathPort {
            address,
            device: self.devices.get(&address),
        });
        PeerPath {
            shared,
            ports: ports.filter(|port| port.decides()).collect(),
            requester: from,
        }
    }

    /// What two devices share.
    #[must_use]
    pub fn shared(&self, one: &Device, other: &Device) -> Shared {
        let slot = |device: &Device| {
            let at = device.address;
            (at.domain(), at.bus(), at.device())
        };
        if one.address == other.address {
            return Shared::Itself;
        }
        if slot(one) == slot(other) {
            return Shared::Slot;
        }
        let common = common(one, other);
        // Below the ports that two paths share, a downstream port each is one switch, more is several.
        let apart = one.ancestors.len().max(other.ancestors.len()) - common;
        match (common, apart) {
            (0, _) if self.is_near(one, other) => Shared::Node,
            (0, _) => Shared::Host,
            (2.., 0..=1) => Shared::Switch,
            _ => Shared::RootPort,
        }
    }

    /// Whether a device may mark its requests as relaxed (Device Control, bit 4); `None` if its config space is not visible. A
    /// virtual function has the bit of its physical one (PCIe base specification 9.3.5.4).
    #[must_use]
    pub fn relaxed_ordering(&self, device: &Device) -> Option<bool> {
        let physical = match device.physical_function {
            Some(physical) => self.devices.get(&physical)?,
            None => device,
        };
        Some(physical.config.express()?.relaxed_ordering())
    }

    /// The root port above a device, if the kernel disables relaxed ordering below it because of an erratum.
    #[must_use]
    pub fn relaxed_ordering_erratum(&self, device: &Device) -> Option<PciAddress> {
        let root_port = self.position(device).root_port?;
        breaks_relaxed_ordering(root_port.id).then_some(root_port.address)
    }

    /// True at one NUMA node, and where there is only one with processors.
    fn is_near(&self, one: &Device, other: &Device) -> bool {
        let is_same = one.numa_node.is_some() && one.numa_node == other.numa_node;
        is_same || self.numa.sockets().count() == 1
    }
}

/// The number of bridges above both, from the root.
fn common(one: &Device, other: &Device) -> usize {
    let both = one.ancestors.iter().zip(&other.ancestors);
    both.take_while(|(a, b)| a == b).count()
}

/// Root ports whose completions may overtake relaxed writes (`quirk_relaxedordering_disable`, drivers/pci/quirks.c): Intel's of
/// Haswell and Broadwell, and AMD's of Seattle.
fn breaks_relaxed_ordering(id: PciId) -> bool {
    matches!(
        (id.vendor, id.device),
        (0x8086, 0x2f01..=0x2f0e | 0x6f01..=0x6f0e) | (0x1022, 0x1a00..=0x1a02)
    )
}

impl Device {
    /// True for a device that sends data of other devices over a network: class 0x02, and the ConnectX function for direct access
    /// to GPU memory, which has a class of its own.
    #[must_use]
    pub fn is_network_adapter(&self) -> bool {
        self.class >> 16 == 0x02 || (self.id.vendor, self.id.device) == (0x15b3, 0x2100)
    }

    /// ATS of the device; `None` if it is not known.
    #[must_use]
    pub fn ats(&self) -> Option<Ats> {
        match &self.config {
            Config::Express(express) => express.ats,
            Config::Conventional => Some(Ats::Absent),
            Config::Unreadable(_) => None,
        }
    }
}

impl PeerPath<'_> {
    /// The route for a driver of the host.
    #[must_use]
    pub fn on_host(&self) -> Route {
        self.route(false, |port| port.redirects())
    }

    /// The route while both devices are assigned to one guest.
    #[must_use]
    pub fn in_guest(&self) -> Route {
        match self.requester.ats() {
            None if self.has_bridge() => Route::Unknown(self.requester.address),
            ats => self.route(ats == Some(Ats::Absent), |port| port.redirects_translated()),
        }
    }

    fn has_bridge(&self) -> bool {
        matches!(
            self.shared,
            Shared::Slot | Shared::Switch | Shared::RootPort
        )
    }

    fn route(&self, no_ats: bool, redirects: impl Fn(&PathPort<'_>) -> bool) -> Route {
        if !self.has_bridge() {
            return Route::Apart;
        }
        if let Some(port) = self.ports.iter().find(|port| port.controls().is_none()) {
            return Route::Unknown(port.address);
        }
        let ports = self.ports.iter().filter(|port| redirects(port));
        let ports: Vec<PciAddress> = ports.map(|port| port.address).collect();
        match no_ats || !ports.is_empty() {
            true => Route::Redirected { ports, no_ats },
            false => Route::Direct,
        }
    }
}

impl PathPort<'_> {
    /// Bits that route requests, in the order of the register.
    const BITS: [AccessControl; 5] = [
        AccessControl::RequestRedirect,
        AccessControl::CompletionRedirect,
        AccessControl::UpstreamForwarding,
        AccessControl::EgressControl,
        AccessControl::DirectTranslated,
    ];

    /// The bits of its ACS control register that are set; `None` if its config space is not visible.
    #[must_use]
    pub fn controls(&self) -> Option<Vec<AccessControl>> {
        match &self.device?.config {
            Config::Express(express) => {
                let set = Self::BITS
                    .into_iter()
                    .filter(|bit| express.has_control(*bit));
                Some(set.collect())
            }
            Config::Conventional => Some(Vec::new()),
            Config::Unreadable(_) => None,
        }
    }

    /// An upstream port has no ACS: the ports below it decide.
    fn decides(&self) -> bool {
        let express = self.express();
        express.is_none_or(|express| express.port != Port::UpstreamPort)
    }

    /// As `pci_bridge_has_acs_redir` (drivers/pci/p2pdma.c) asks.
    fn redirects(&self) -> bool {
        let redirecting = [
            AccessControl::RequestRedirect,
            AccessControl::CompletionRedirect,
            AccessControl::EgressControl,
        ];
        redirecting.into_iter().any(|bit| self.has(bit))
    }

    /// Direct Translated P2P exempts translated requests from Request Redirect and Egress Control (6.12.1.1); their completions
    /// are not exempt from Completion Redirect, which concerns those without relaxed ordering.
    fn redirects_translated(&self) -> bool {
        let redirecting = [AccessControl::RequestRedirect, AccessControl::EgressControl];
        let redirects = redirecting.into_iter().any(|bit| self.has(bit));
        redirects && !self.has(AccessControl::DirectTranslated)
    }

    fn has(&self, bit: AccessControl) -> bool {
        self.express()
            .is_some_and(|express| express.has_control(bit))
    }

    fn express(&self) -> Option<&Express> {
        self.device?.config.express()
    }
}
