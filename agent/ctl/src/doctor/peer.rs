//! Whether the network adapters of a guest reach its GPUs below the same switch of the host directly (GPUDirect RDMA).

use std::collections::BTreeSet;

use kernel_glue::address::PciAddress;
use kernel_glue::config::{Config, ConfigError};
use kernel_glue::device::Device;
use kernel_glue::peer::Route;

use super::check::Check;
use super::scene::{Guest, Scene, Unavailable};
use domain::code::Code;
use domain::hint::Hint;

const DIRECT: &str = "its network adapters reach its GPUs below the same switch directly";

/// What prevents the direct routes of one guest.
#[derive(Default)]
struct Found {
    /// An adapter and a GPU share a switch.
    pairs: usize,
    /// Adapters without ATS.
    no_ats: BTreeSet<PciAddress>,
    /// Ports that redirect translated requests.
    ports: BTreeSet<PciAddress>,
    /// Functions whose config space is not visible.
    unknown: BTreeSet<PciAddress>,
}

/// None for a guest without an adapter and a GPU that share a switch.
pub(super) fn checks(scene: &Scene, one: &Guest) -> Vec<Check> {
    let Ok(definition) = &one.definition else {
        return Vec::new();
    };
    let hostdevs = definition.domain().hostdevs.iter();
    let devices: Vec<&Device> = hostdevs
        .filter_map(|one| scene.host.devices.get(&one.source))
        .collect();
    let found = Found::of(scene, &devices);
    if found.pairs == 0 {
        return Vec::new();
    }
    let checks = [
        unknown(scene, &found),
        without_ats(scene, &found),
        redirected(&found),
    ];
    let checks: Vec<Check> = checks.into_iter().flatten().collect();
    match checks.is_empty() {
        true => vec![Check::pass(Code::PeersRedirected, DIRECT)],
        false => checks,
    }
}

impl Found {
    fn of(scene: &Scene, devices: &[&Device]) -> Self {
        let adapters = devices.iter().filter(|device| device.is_network_adapter());
        let mut found = Self::default();
        for adapter in adapters {
            for gpu in devices.iter().filter(|device| is_gpu(device)) {
                found.add(adapter, scene.host.peer_path(adapter, gpu).in_guest());
            }
        }
        found
    }

    fn add(&mut self, adapter: &Device, route: Route) {
        self.pairs += usize::from(route != Route::Apart);
        match route {
            Route::Direct | Route::Apart => {}
            Route::Unknown(at) => self.unknown.extend([at]),
            Route::Redirected { ports, no_ats } => {
                self.no_ats.extend(no_ats.then_some(adapter.address));
                self.ports.extend(ports);
            }
        }
    }
}

/// Display controllers, and AMD's Instinct, which is a processing accelerator.
fn is_gpu(device: &Device) -> bool {
    matches!(device.class >> 16, 0x03 | 0x12)
}

fn unknown(scene: &Scene, found: &Found) -> Option<Check> {
    let at = found.unknown.first()?;
    let why = format!("config space of {at} is not visible");
    let device = scene.host.devices.get(at);
    let why = match device.map(|device| &device.config) {
        Some(Config::Unreadable(ConfigError::Short(_))) => Unavailable::to_others(why),
        _ => Unavailable::because(why),
    };
    Some(Check::unavailable(Code::PeersRedirected, DIRECT, &why))
}

fn without_ats(scene: &Scene, found: &Found) -> Option<Check> {
    let first = scene.host.devices.get(found.no_ats.first()?)?;
    // The firmware of a virtual function is that of its physical one.
    let at = first.physical_function.unwrap_or(first.address);
    let hint = Hint::naming(
        "enable it in the adapter's firmware, for a ConnectX with {}, and boot the host again",
        &format!("mlxconfig -d {at} set ATS_ENABLED=true"),
    );
    let text =
        "network adapters without ATS reach GPUs below their switch only through the root complex";
    let check = Check::warn(Code::PeersRedirected, text, hint);
    Some(check.with(list(&found.no_ats)))
}

fn redirected(found: &Found) -> Option<Check> {
    let first = found.ports.first()?;
    let ports = found.ports.iter();
    let ports: Vec<String> = ports.map(|port| format!("1xxxxxx@{port}")).collect();
    let hint = Hint::naming(
        "set ACS Direct Translated P2P at each, with {}",
        &format!("setpci -s {first} ECAP_ACS+6.w=40:40"),
    );
    let hint = hint.then(&format!(
        ", or at boot: pci=config_acs={} (Linux 6.11 or later)",
        ports.join(";")
    ));
    let text = "ports redirect requests of network adapters to GPUs below their switch to the root complex";
    let check = Check::warn(Code::PeersRedirected, text, hint);
    Some(check.with(list(&found.ports)))
}

fn list(addresses: &BTreeSet<PciAddress>) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(" ")
}
