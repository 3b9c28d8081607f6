//! The 64-bit prefetchable BARs of the finished guest: of which device, behind which port, on which root bridge.

use std::collections::BTreeMap;

use kernel_glue::device::Device;

use super::aperture::Port;
use super::window::GIB;
use super::{Placed, PlanInput, qemu, switch};
use crate::recipe::Member;
use domain::{Domain, Hostdev};

/// The register BAR in KiB of a GPU for which sysfs shows none: 64 MiB, as on GB200 and GB300.
const REGISTERS: u64 = 64 << 10;

/// Everything else that the guest has on its own root bus, in KiB.
const OTHERS: u64 = GIB;

/// Stands for the index of a root port that libvirt adds at define.
const UNNUMBERED: u32 = 1 << 16;

/// Sizes in KiB: VFIO's regions if they are known, else the recipe's BARs with the small ones of sysfs. sysfs does not show the
/// BARs that the variant driver emulates.
pub(super) fn of(input: &PlanInput<'_>, device: &Device) -> Vec<u64> {
    let regions = device.regions.iter().flatten();
    let asked = regions.filter(|region| region.is_64bit_prefetchable());
    match device.regions {
        Some(_) => asked.map(|region| kib(region.size)).collect(),
        None => known(input, device),
    }
}

/// Sizes in KiB without VFIO's regions.
pub(super) fn known(input: &PlanInput<'_>, device: &Device) -> Vec<u64> {
    let shown = device.bars.iter().filter(|bar| bar.is_64bit_prefetchable());
    let shown: Vec<u64> = shown.map(|bar| kib(bar.size)).collect();
    let recipe = input.recipes.for_device(device);
    let table = recipe
        .and_then(|recipe| recipe.member(device))
        .map(table)
        .unwrap_or_default();
    if sum(&shown) > sum(&table) || table.is_empty() {
        return shown;
    }
    let mut registers: Vec<u64> = shown.into_iter().filter(|size| *size < GIB).collect();
    if registers.is_empty() {
        registers.push(REGISTERS);
    }
    [table, registers].concat()
}

/// The recipe's BARs. If the recipe has only the window, two equal BARs are assumed, as on GB200, GB300 and Vera Rubin.
fn table(member: &Member) -> Vec<u64> {
    if member.window_gib == 0 {
        return Vec::new();
    }
    let bars = match member.bars_gib.is_empty() {
        true => vec![member.window_gib.div_ceil(2); 2],
        false => member.bars_gib.clone(),
    };
    bars.iter().map(|gib| gib.saturating_mul(GIB)).collect()
}

/// The least space that a device takes by its recipe and sysfs, in KiB.
pub(super) fn least(input: &PlanInput<'_>, device: &Device) -> u64 {
    if device.regions.is_some() {
        return 0;
    }
    let recipe = input.recipes.for_device(device);
    let member = recipe.and_then(|recipe| recipe.member(device));
    let window = member.map_or(0, |member| member.window_gib.saturating_mul(GIB));
    let shown = device.bars.iter().filter(|bar| bar.is_64bit_prefetchable());
    window.max(sum(&shown.map(|bar| kib(bar.size)).collect::<Vec<u64>>()))
}

fn sum(sizes: &[u64]) -> u64 {
    sizes.iter().copied().fold(0, u64::saturating_add)
}

fn kib(bytes: u64) -> u64 {
    bytes.div_ceil(1024)
}

/// The host devices that a guest is assigned, by `<hostdev>` or among QEMU's arguments, as far as this host has them.
pub(super) fn devices<'a>(
    input: &PlanInput<'a>,
    domain: &'a Domain,
) -> impl Iterator<Item = (Option<&'a Hostdev>, &'a Device)> {
    let hostdevs = domain.hostdevs.iter();
    let hostdevs = hostdevs.map(|hostdev| (Some(hostdev), hostdev.source));
    let host = input.host;
    let all = hostdevs.chain(qemu::assigned(domain).into_iter().map(|at| (None, at)));
    all.filter_map(|(hostdev, at)| Some((hostdev, host.devices.get(&at)?)))
}

/// The ports of each root bridge in the order in which firmware gives them addresses: the guest's own root bus, then expander
/// buses by their numbers.
pub(super) fn roots(input: &PlanInput<'_>, domain: &Domain, placed: &Placed) -> Vec<Vec<Port>> {
    let mut roots = Roots {
        domain,
        ports: BTreeMap::new(),
    };
    roots.add(0, UNNUMBERED).bars.push(OTHERS);
    for (number, (hostdev, device)) in (UNNUMBERED + 1..).zip(devices(input, domain)) {
        let new = placed.ports.get(&device.address).copied();
        let address = hostdev.and_then(|hostdev| hostdev.address);
        let bus = address.map(|address| u32::from(address.at.bus()));
        let port = new.or(bus.filter(|bus| *bus != 0)).unwrap_or(number);
        let expander = placed.behind.get(&device.address).copied();
        let root = expander.unwrap_or_else(|| roots.above(port));
        let switch = placed.switched.get(&device.address).copied();
        match switch.or_else(|| roots.switch(port)) {
            None => roots.add(root, port).bars.extend(of(input, device)),
            Some(switch) => roots.add(root, switch).below.push(Port {
                bars: of(input, device),
                ..Port::default()
            }),
        }
    }
    for (number, (bus, reserve)) in (0..).zip(qemu::reserved(domain)) {
        let port = bus.unwrap_or(2 * UNNUMBERED + number);
        let root = roots.above(port);
        roots.add(root, port).reserve = reserve;
    }
    roots.in_order()
}

struct Roots<'a> {
    domain: &'a Domain,
    /// By the index of the root bridge and that of the port.
    ports: BTreeMap<(u32, u32), Port>,
}

impl Roots<'_> {
    fn add(&mut self, root: u32, port: u32) -> &mut Port {
        self.ports.entry((root, port)).or_default()
    }

    /// The upstream port of the switch that a port of the definition belongs to.
    fn switch(&self, port: u32) -> Option<u32> {
        let port = self.domain.controller(port)?;
        let is_downstream = port.model == switch::DOWNSTREAM;
        let above = port.address.filter(|_| is_downstream)?;
        Some(above.at.bus().into())
    }

    /// The expander bus above a port; 0 for the guest's own root bus.
    fn above(&self, port: u32) -> u32 {
        let mut at = port;
        for _ in 0..self.domain.controllers.len() {
            let Some(controller) = self.domain.controller(at) else {
                return 0;
            };
            if controller.model == "pcie-expander-bus" {
                return at;
            }
            match controller.address.map(|address| address.at.bus()) {
                None | Some(0) => return 0,
                Some(bus) => at = bus.into(),
            }
        }
        0
    }

    fn in_order(self) -> Vec<Vec<Port>> {
        let mut roots: BTreeMap<(u8, u32), Vec<Port>> = BTreeMap::new();
        for ((root, _), port) in self.ports {
            let place = place(self.domain, root);
            roots.entry(place).or_default().push(port);
        }
        roots.into_values().collect()
    }
}

/// New expanders have bus numbers below those that are there, and later ones lower numbers than earlier ones.
fn place(domain: &Domain, root: u32) -> (u8, u32) {
    match domain.controller(root) {
        _ if root == 0 => (0, 0),
        None => (1, u32::MAX - root),
        Some(known) => (2, known.bus_number.unwrap_or(0).into()),
    }
}
