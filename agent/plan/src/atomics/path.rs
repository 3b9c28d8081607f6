//! The function that the kernel checks, and the ports above it.

use kernel_glue::address::PciAddress;
use kernel_glue::atomics::Widths;
use kernel_glue::config::{Config, Express, Port};
use kernel_glue::device::Device;
use kernel_glue::host::Host;

/// The path that the kernel checks for a device.
#[derive(Clone, Debug)]
pub struct Judged<'a> {
    /// Its address: the device's own, or its physical function's.
    pub address: PciAddress,
    /// The function; `None` if the host does not show the physical one.
    pub function: Option<&'a Device>,
    /// The ports above it, from the root.
    pub path: Vec<Step<'a>>,
}

/// One function above.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    pub(super) address: PciAddress,
    pub(super) bridge: Option<&'a Device>,
}

/// A function above, as it is reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Its address.
    pub address: PciAddress,
    /// Its port type; `None` if it has none or is not visible.
    pub kind: Option<Port>,
    /// Why it is not visible.
    pub hidden: Option<String>,
    /// Whether it routes AtomicOps; for a root port, between root ports.
    pub routing: Option<bool>,
    /// Whether it blocks outgoing AtomicOps (egress).
    pub egress_blocked: Option<bool>,
    /// Widths it completes.
    pub completer: Option<Widths>,
}

impl<'a> Judged<'a> {
    /// The path of a device; for a virtual function, of its physical one.
    #[must_use]
    pub fn of(host: &'a Host, device: &'a Device) -> Self {
        let address = device.physical_function.unwrap_or(device.address);
        let function = match device.physical_function {
            Some(physical) => host.devices.get(&physical),
            None => Some(device),
        };
        let above = function.map_or(&device.ancestors, |function| &function.ancestors);
        let step = |address: &PciAddress| Step {
            address: *address,
            bridge: host.devices.get(address),
        };
        Self {
            address,
            function,
            path: above.iter().map(step).collect(),
        }
    }

    pub(super) fn express(&self) -> Option<&'a Express> {
        self.function?.config.express()
    }

    /// A visible function without a PCI Express capability completes nothing.
    pub(super) fn completer(&self) -> Option<Widths> {
        match &self.function?.config {
            Config::Express(express) => Some(express.completer()),
            Config::Conventional => Some(Widths::default()),
            Config::Unreadable(_) => None,
        }
    }

    /// The index of the root port that the kernel finds going up; the first bridge if it is not visible.
    pub(super) fn root_index(&self) -> Option<usize> {
        let root = |step: &Step<'a>| step.port() == Some(Port::RootPort);
        let first = self.path.first();
        let unavailable = first.is_some_and(|step| step.hidden().is_some());
        self.path
            .iter()
            .rposition(root)
            .or(unavailable.then_some(0))
    }

    pub(super) fn root_port(&self) -> Option<PciAddress> {
        self.root_index().map(|index| self.path[index].address)
    }
}

impl<'a> Step<'a> {
    pub(super) fn express(&self) -> Option<&'a Express> {
        self.bridge?.config.express()
    }

    pub(super) fn port(&self) -> Option<Port> {
        self.express().map(|express| express.port)
    }

    /// Why it is not visible; `None` if it is.
    pub(super) fn hidden(&self) -> Option<String> {
        let Some(bridge) = self.bridge else {
            return Some("the host does not show it".to_owned());
        };
        super::hidden(&bridge.config)
    }
}

impl Element {
    pub(super) fn of(step: &Step<'_>) -> Self {
        let express = step.express();
        Self {
            address: step.address,
            kind: step.port(),
            hidden: step.hidden(),
            routing: express.map(Express::routes_atomics),
            egress_blocked: express.map(Express::egress_blocked),
            completer: express.map(Express::completer),
        }
    }
}
