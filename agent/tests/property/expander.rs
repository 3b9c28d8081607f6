//! Properties of expander buses: one for each physical SMMU, at the right cell, with unique bus numbers.

use domain::{Controller, Domain};
use kernel_glue::address::PciAddress;
use kernel_glue::host::Host;
use planner::rewrite::Rewrite;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::scene::every_scene;
use crate::unless_refused;

/// The expander bus above a device of the guest.
fn above(domain: &Domain, device: PciAddress) -> Option<&Controller> {
    let mut hostdevs = domain.hostdevs.iter();
    let hostdev = hostdevs.find(|one| one.source == device)?;
    let port = domain.controller(hostdev.address?.at.bus().into())?;
    let expander = domain.controller(port.address?.at.bus().into())?;
    (expander.model == "pcie-expander-bus").then_some(expander)
}

/// Devices on `virt` with initiators to which the plan gave an address: they are on expanders.
fn placed(before: &Domain, rewrite: &Rewrite) -> Vec<PciAddress> {
    let free = |address: &PciAddress| {
        let mut hostdevs = before.hostdevs.iter();
        hostdevs.any(|one| one.source == *address && one.address.is_none())
    };
    let devices = rewrite.plan.devices.iter();
    let devices = devices.filter(|one| before.family() == "virt" && !one.cells.is_empty());
    devices.map(|one| one.address).filter(free).collect()
}

/// The only cell with CPUs, or the one that is bound to a socket.
fn cell(domain: &Domain, socket: u32) -> Option<u32> {
    let with_cpus = domain.cells.iter().filter(|cell| !cell.cpus.is_empty());
    let with_cpus: Vec<u32> = with_cpus.map(|cell| cell.id).collect();
    let bound = |one: &&domain::MemoryNode| one.nodes.iter().eq([socket]);
    match with_cpus[..] {
        [only] => Some(only),
        _ => domain.memory_nodes.iter().find(bound).map(|one| one.cell),
    }
}

fn smmu(host: &Host, device: PciAddress) -> Option<&str> {
    host.devices.get(&device)?.iommu.as_deref()
}

#[test]
fn gpus_share_an_expander_when_they_share_an_smmu() {
    every_scene(|scene, target| {
        let text = scene.text();
        let host = scene.shape.build();
        unless_refused(scene.rewrite(&text, target), |with| {
            let before = Domain::parse(&text).expect("definition");
            let after = Domain::parse(&with.text).expect("definition");
            let placed = placed(&before, &with);
            for one in &placed {
                let own = above(&after, *one).map(|expander| expander.index);
                prop_assert!(own.is_some(), "{one} is behind no expander");
                for other in &placed {
                    let same = own == above(&after, *other).map(|expander| expander.index);
                    let expected = smmu(&host, *one) == smmu(&host, *other);
                    prop_assert!(same == expected, "{one} and {other}");
                }
            }
            Ok(())
        })
    });
}

#[test]
fn an_expander_is_at_the_cell_of_its_gpus_socket() {
    every_scene(|scene, target| {
        let text = scene.text();
        let owners = scene.shape.owners();
        unless_refused(scene.rewrite(&text, target), |with| {
            let before = Domain::parse(&text).expect("definition");
            let after = Domain::parse(&with.text).expect("definition");
            for one in placed(&before, &with) {
                let owner = owners.iter().find(|owner| owner.address == one);
                let socket = owner.expect("a GPU").socket;
                let expander = above(&after, one).expect("expander");
                prop_assert_eq!(expander.cell, cell(&after, socket), "{}", one);
            }
            Ok(())
        })
    });
}

/// An expander takes its own bus number and one for each root port on it.
fn numbers(domain: &Domain) -> Result<Vec<(u32, u32)>, TestCaseError> {
    let expanders = domain.controllers.iter();
    let expanders = expanders.filter(|one| one.model == "pcie-expander-bus");
    let range = |one: &Controller| {
        let first = one.bus_number.map(u32::from);
        let first = first.ok_or_else(|| TestCaseError::fail("an expander without a number"))?;
        let ports = u32::try_from(domain.devices_on(one.index)).expect("few");
        Ok((first, first + ports))
    };
    expanders.map(range).collect()
}

#[test]
fn bus_numbers_of_expanders_are_their_own() {
    every_scene(|scene, target| {
        unless_refused(scene.rewrite(&scene.text(), target), |with| {
            let domain = Domain::parse(&with.text).expect("definition");
            let mut numbers = numbers(&domain)?;
            numbers.sort_unstable();
            let behind_root = u32::try_from(domain.controllers.len()).expect("few");
            prop_assert!(
                numbers
                    .iter()
                    .all(|(first, last)| *first > behind_root && *last < 256)
            );
            let apart = numbers.windows(2).all(|pair| pair[0].1 < pair[1].0);
            prop_assert!(apart, "{numbers:?}");
            Ok(())
        })
    });
}
