//! What VFIO says of a device's AtomicOps, as the kernel computes it from config space.
//!
//! Follows `vfio_pci_info_atomic_cap` (drivers/vfio/pci/vfio_pci_core.c) and `pci_enable_atomic_ops_to_root`
//! (drivers/pci/pci.c) of Linux 7.2: per width the function's own completer bit, the root port's, routing on each
//! switch port and no egress block at an upstream port. Of a virtual function its physical function counts.

use kernel_glue::atomics::Widths;
use kernel_glue::config::{Config, Express, Port};
use kernel_glue::device::Device;
use kernel_glue::host::Host;

use super::scene::{Seen, Unseen};

/// The widths that reach the root, and why not all do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPath {
    /// Widths that VFIO says.
    pub widths: Widths,
    /// The first rule that takes one away.
    pub missing: Option<String>,
}

/// What VFIO would say of `device`.
///
/// # Errors
/// When config space on the way could not be read.
pub fn host_path(host: &Host, device: &Device) -> Seen<HostPath> {
    let physical = device
        .physical_function
        .and_then(|at| host.devices.get(&at));
    let device = physical.unwrap_or(device);
    let Some(own) = express(device)? else {
        return Ok(none("the device has no PCI Express capability".to_owned()));
    };
    if !matches!(own.port, Port::Endpoint | Port::LegacyEndpoint) {
        return Ok(none("it is no endpoint behind a port".to_owned()));
    }
    let position = host.position(device);
    let Some(port) = position.root_port else {
        return Ok(none("no root port is above it".to_owned()));
    };
    for bridge in &position.between {
        if let Some(reason) = express(bridge)?.and_then(|one| blocked(bridge, one)) {
            return Ok(none(reason));
        }
    }
    let above = express(port)?.map(Express::completer).unwrap_or_default();
    let widths = own.completer().intersection(above);
    Ok(HostPath {
        widths,
        missing: missing(own.completer(), above, port),
    })
}

fn missing(own: Widths, above: Widths, port: &Device) -> Option<String> {
    if own != Widths::ALL {
        return Some(format!("the device itself completes {own}"));
    }
    (above != Widths::ALL).then(|| format!("root port '{}' completes {above}", port.address))
}

fn blocked(bridge: &Device, express: &Express) -> Option<String> {
    let at = bridge.address;
    let switch = matches!(express.port, Port::UpstreamPort | Port::DownstreamPort);
    if switch && !express.routes_atomics() {
        return Some(format!("switch port '{at}' does not route them"));
    }
    let upstream = express.port == Port::UpstreamPort;
    (upstream && express.egress_blocked())
        .then(|| format!("switch port '{at}' blocks their egress"))
}

fn express(device: &Device) -> Seen<Option<&Express>> {
    match &device.config {
        Config::Express(express) => Ok(Some(express)),
        Config::Conventional => Ok(None),
        Config::Unreadable(why) => Err(Unseen(format!("'{}': {why}", device.address))),
    }
}

fn none(reason: String) -> HostPath {
    HostPath {
        widths: Widths::default(),
        missing: Some(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// A modelled host whose GPUs are on root ports that complete 32 and 64 bits.
    fn model() -> Host {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/hosts/mi300x-8gpu");
        Host::read(&root).expect("host")
    }

    fn gpu(host: &Host) -> &Device {
        let vendor = |device: &&Device| device.id.to_string() == "1002:74a1";
        host.devices.values().find(vendor).expect("a GPU")
    }

    fn widths(host: &Host) -> String {
        host_path(host, gpu(host))
            .expect("visible")
            .widths
            .to_string()
    }

    /// The GPU itself, or what is above it.
    fn changed(which: usize, change: impl Fn(&mut Express)) -> Host {
        let mut host = model();
        let path: Vec<_> = [gpu(&host).address]
            .into_iter()
            .chain(gpu(&host).ancestors.iter().rev().copied())
            .collect();
        match &mut host
            .devices
            .get_mut(&path[which])
            .expect("on the path")
            .config
        {
            Config::Express(express) => change(express),
            _ => unreachable!("the model has PCI Express"),
        }
        host
    }

    #[test]
    fn a_width_passes_when_device_and_root_port_complete_it() {
        assert_eq!(widths(&model()), "32, 64");
        let lacking = |which| changed(which, |express| express.devcap2 &= !0x100);
        assert_eq!(widths(&lacking(0)), "32");
        let top = gpu(&model()).ancestors.len();
        assert_eq!(widths(&lacking(top)), "32");
    }

    #[test]
    fn what_takes_a_width_away_is_named() {
        let top = gpu(&model()).ancestors.len();
        let host = changed(top, |express| express.devcap2 = 0);
        let path = host_path(&host, gpu(&host)).expect("visible");
        assert!(path.widths.is_empty());
        let host = changed(0, |express| express.port = Port::RootComplexEndpoint);
        let path = host_path(&host, gpu(&host)).expect("visible");
        assert_eq!(
            path.missing.as_deref(),
            Some("it is no endpoint behind a port")
        );
    }

    #[test]
    fn a_switch_must_route_and_not_block() {
        let as_switch = |change: fn(&mut Express)| {
            let mut host = changed(1, |express| express.port = Port::UpstreamPort);
            let device = gpu(&host).clone();
            let port = device.ancestors[0];
            let mut root = host.devices[&port].clone();
            root.address = "00ff:00:00.0".parse().expect("address");
            let above = vec![root.address, port];
            match &mut root.config {
                Config::Express(express) => express.port = Port::RootPort,
                _ => unreachable!("the model has PCI Express"),
            }
            match &mut host.devices.get_mut(&port).expect("port").config {
                Config::Express(express) => change(express),
                _ => unreachable!("the model has PCI Express"),
            }
            host.devices.insert(root.address, root);
            host.devices
                .get_mut(&device.address)
                .expect("gpu")
                .ancestors = above;
            host_path(&host, &host.devices[&device.address]).expect("visible")
        };
        let routing = as_switch(|express| express.devcap2 |= 1 << 6);
        assert_eq!(routing.widths.to_string(), "32, 64", "{routing:?}");
        let none = as_switch(|express| express.devcap2 &= !(1 << 6));
        assert!(
            none.missing
                .expect("a reason")
                .ends_with("does not route them")
        );
        let blocking = as_switch(|express| {
            express.devcap2 |= 1 << 6;
            express.devctl2 |= 1 << 7;
        });
        assert!(
            blocking
                .missing
                .expect("a reason")
                .ends_with("blocks their egress")
        );
    }

    #[test]
    fn hidden_config_space_is_not_seen() {
        let mut host = model();
        let address = gpu(&host).address;
        let device = host.devices.get_mut(&address).expect("gpu");
        device.config = Config::Unreadable(kernel_glue::config::ConfigError::Short(64));
        let why = host_path(&host, &host.devices[&address]).expect_err("hidden");
        assert!(why.0.contains("64 bytes"), "{why:?}");
    }
}
