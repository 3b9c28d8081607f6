//! The file of a mirrored guest as NCCL loads it: each device at the cell of its host node, each pair as far apart as on the host.

use kernel_glue::address::PciAddress;
use kernel_glue::capacity::Capacity;
use kernel_glue::host::Host;
use kernel_glue::peer::Shared;
use testing::nccl::{Distance, Graph, load};

use super::bus_number::Numbers;
use super::nccl;
use super::tests::{completed, read, recipes};
use domain::{Definition, Domain};
use planner::plan::{NumaFacts, NumaInput, PlanInput};
use planner::rewrite;

/// A device of the host, and its address in the guest.
struct Device<'a> {
    device: &'a kernel_glue::device::Device,
    seen: String,
}

fn devices<'a>(host: &'a Host, domain: &Domain) -> Vec<Device<'a>> {
    let numbers = Numbers::of(domain);
    let hostdevs = domain.hostdevs.iter();
    hostdevs
        .map(|one| {
            let at = one.address.expect("an address").at;
            Device {
                device: &host.devices[&one.source],
                seen: numbers.seen_at(at).expect("a bus").to_string(),
            }
        })
        .collect()
}

/// The cell whose memory the definition binds to the host node of a device.
fn wanted_cell(domain: &Domain, device: &kernel_glue::device::Device) -> Option<u32> {
    let node = u32::from(device.numa_node?);
    let mut bound = domain.memory_nodes.iter();
    let bound = bound.find(|bound| bound.nodes.iter().eq([node]));
    bound.map(|bound| bound.cell)
}

/// How far apart NCCL finds two devices on the host itself.
fn wanted_distance(host: &Host, one: &Device<'_>, other: &Device<'_>) -> Distance {
    match host.shared(one.device, other.device) {
        Shared::Itself => Distance::Loc,
        Shared::Slot | Shared::Switch => Distance::Pix,
        Shared::RootPort => Distance::Pxb,
        Shared::Node => Distance::Phb,
        Shared::Host => Distance::Sys,
    }
}

/// What NCCL finds otherwise than the host has it, one line each.
fn differences(host: &Host, domain: &Domain) -> Vec<String> {
    let system = load(&nccl::guest(host, domain).text).expect("a file that NCCL reads");
    let graph = Graph::of(&system);
    let devices = devices(host, domain);
    let mut found = Vec::new();
    for one in &devices {
        let (at, wanted) = (graph.numa_id(&one.seen), wanted_cell(domain, one.device));
        if at != wanted || wanted.is_none() {
            found.push(format!("{} at cell {at:?}, not {wanted:?}", one.seen));
        }
        for other in &devices {
            let distance = graph.distance(&one.seen, &other.seen);
            let wanted = wanted_distance(host, one, other);
            if distance != Some(wanted) {
                let pair = format!("{} {}", one.seen, other.seen);
                found.push(format!("{pair}: {distance:?}, not {wanted}"));
            }
        }
    }
    found
}

/// A guest with each GPU and adapter of a host, completed with a mirrored layout.
fn mirrored(host: &Host) -> Domain {
    let assigned = host.devices.values().filter(|device| !device.is_bridge());
    let hostdev = |at: PciAddress| {
        format!(
            "<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='{}' bus='{}' slot='{}' function='{}'/></source></hostdev>",
            at.domain(),
            at.bus(),
            at.device(),
            at.function()
        )
    };
    let hostdevs: String = assigned.map(|device| hostdev(device.address)).collect();
    let text = format!(
        "<domain type='kvm'><name>g</name><metadata><variantd:options xmlns:variantd='urn:variantd:options:1' numa='mirror'/></metadata>\
         <memory unit='GiB'>64</memory><vcpu>48</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>\
         <features><acpi/></features><cpu mode='host-passthrough'/><devices>{hostdevs}</devices></domain>"
    );
    let capacity = Capacity::read(&testing::hosts::directory("hgx-switched"), &host.numa);
    let capacity = capacity.expect("capacity");
    let recipes = recipes();
    let input = PlanInput {
        numa: NumaInput {
            facts: Some(NumaFacts {
                capacity: &capacity,
                others: &[],
            }),
            ..NumaInput::default()
        },
        ..PlanInput::newest(host, &recipes)
    };
    let definition = Definition::parse(text).expect("definition");
    let completed = rewrite::rewrite(&definition, &input).expect("completed");
    Domain::parse(&completed.text).expect("domain")
}

#[test]
fn nccl_finds_each_gpu_of_a_mirrored_guest_at_the_cell_of_its_host_node() {
    for (host, case) in [
        ("gb200-4gpu", "gb200-mirror"),
        ("hgx-8gpu", "q35-h100-mirror"),
    ] {
        let domain = completed(case);
        assert_eq!(differences(&read(host), &domain), [""; 0], "{case}");
        assert!(domain.hostdevs.len() >= 4, "{case}");
    }
}

#[test]
fn nccl_finds_gpus_and_adapters_of_a_mirrored_guest_as_far_apart_as_on_the_host() {
    let host = read("hgx-switched");
    let domain = mirrored(&host);
    assert_eq!(differences(&host, &domain), [""; 0]);
    let graph = Graph::of(&load(&nccl::guest(&host, &domain).text).expect("a file"));
    assert_eq!((graph.gpus().count(), graph.adapters().count()), (8, 8));
    let mut counts = [0; 3];
    for gpu in graph.gpus() {
        for adapter in graph.adapters() {
            match graph.distance(gpu, adapter) {
                Some(Distance::Pix) => counts[0] += 1,
                Some(Distance::Phb) => counts[1] += 1,
                Some(Distance::Sys) => counts[2] += 1,
                other => unreachable!("{gpu} {adapter}: {other:?}"),
            }
        }
    }
    // Two adapters below the switch of each GPU, two below the other switch of its socket, four at the other socket.
    assert_eq!(counts, [8 * 2, 8 * 2, 8 * 4]);
}

/// The first of each exchange their places.
fn exchanged(text: &str, one: &str, other: &str) -> String {
    let text = text.replacen(one, "\0", 1);
    text.replacen(other, one, 1).replacen('\0', other, 1)
}

#[test]
fn nccl_finds_a_gpu_below_an_expander_of_another_cell_in_the_wrong_place() {
    let case = super::tests::case("q35-h100-mirror");
    let swapped = exchanged(&case, "<node>0</node>", "<node>1</node>");
    assert_ne!(swapped, case);
    let found = differences(&read("hgx-8gpu"), &Domain::parse(&swapped).expect("domain"));
    assert_eq!(found.len(), 8, "{found:?}");
    assert!(
        found[0].contains("at cell Some(1), not Some(0)"),
        "{found:?}"
    );
}

#[test]
fn nccl_finds_one_gpu_that_is_on_another_socket_far_from_its_neighbours() {
    let case = super::tests::case("q35-h100-mirror");
    // Two devices of different sockets exchange their places.
    let swapped = exchanged(&case, "bus='0x1b'", "bus='0x9d'");
    assert_ne!(swapped, case);
    let found = differences(&read("hgx-8gpu"), &Domain::parse(&swapped).expect("domain"));
    let cells = found.iter().filter(|line| line.contains("at cell"));
    assert_eq!(cells.count(), 2, "{found:?}");
    assert!(
        found
            .iter()
            .any(|line| line.ends_with("Some(Phb), not SYS")),
        "{found:?}"
    );
}
