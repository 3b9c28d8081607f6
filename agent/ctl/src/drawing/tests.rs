//! Pictures are well-formed and nothing overlaps in them; NCCL's file is what its reader takes; the matrix says who shares what.

use std::path::Path;

use kernel_glue::host::Host;
use kernel_glue::peer::Shared;
use roxmltree::{Document, Node};

use super::{Kind, Part, dot, guest, host, matrix, nccl, peer, svg};
use crate::fixture::address;
use domain::Domain;
use domain::code::Code;
use planner::plan::Note;
use planner::recipe::Recipes;
use testing::nccl::Element;

fn data(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data")
        .join(path)
}

pub(super) fn read(name: &str) -> Host {
    Host::read(&testing::hosts::directory(name)).expect("host")
}

pub(super) fn recipes() -> Recipes {
    Recipes::shipped().expect("recipes")
}

/// The text of a golden case's completed definition.
pub(super) fn case(name: &str) -> String {
    let text = std::fs::read_to_string(data("case").join(name).join("testing.xml"));
    text.expect("file")
}

/// The completed definition of a golden case.
pub(super) fn completed(name: &str) -> Domain {
    Domain::parse(&case(name)).expect("domain")
}

fn drawn(name: &str, case: Option<&str>) -> String {
    let host = read(name);
    let guest = case.map(|case| guest::parts(&host, &completed(case)));
    svg::drawing(&host::parts(&host, &recipes()), guest.as_ref())
}

type Frame = (f64, f64, f64, f64);

fn number(node: &Node<'_, '_>, name: &str) -> f64 {
    node.attribute(name).expect(name).parse().expect("a number")
}

fn overlap(a: &Frame, b: &Frame) -> bool {
    a.0 < b.0 + b.2 && b.0 < a.0 + a.2 && a.1 < b.1 + b.3 && b.1 < a.1 + a.3
}

#[test]
fn drawings_are_well_formed_without_overlapping_boxes() {
    let pictures = [
        drawn("gh200-4gpu", None),
        drawn("gh200-4gpu", Some("gh200-all")),
        drawn("gb200-4gpu", Some("gb200-all")),
        drawn("hgx-8gpu", Some("q35-h100-all")),
        drawn("hgx-8gpu", Some("q35-h100-mirror")),
        drawn("gb200-4gpu", Some("gb200-mirror")),
        drawn("lab", None),
    ];
    for drawing in pictures {
        let document = Document::parse(&drawing).expect("XML");
        let named =
            |name: &'static str| document.descendants().filter(move |n| n.has_tag_name(name));
        let side = |node: Node<'_, '_>| {
            let of = |name| number(&node, name);
            (of("x"), of("y"), of("width"), of("height"))
        };
        let boxes: Vec<Frame> = named("rect").map(side).collect();
        assert!(boxes.len() > 3);
        for (index, one) in boxes.iter().enumerate() {
            assert!(
                !boxes[index + 1..].iter().any(|other| overlap(one, other)),
                "{one:?}"
            );
        }
        let root = document.root_element();
        let (width, height) = (number(&root, "width"), number(&root, "height"));
        assert!(
            boxes
                .iter()
                .all(|one| one.0 + one.2 < width && one.1 + one.3 < height)
        );
        for text in named("text").filter(|text| text.attribute("class") != Some("title")) {
            let length = text.text().unwrap_or_default().chars().count();
            let (x, y) = (number(&text, "x"), number(&text, "y"));
            let right = x + f64::from(u32::try_from(length).expect("short")) * 7.3;
            let inside = |one: &&Frame| {
                one.0 < x && right < one.0 + one.2 && one.1 < y - 10.0 && y < one.1 + one.3
            };
            assert!(boxes.iter().any(|one| inside(&one)), "{:?}", text.text());
        }
    }
}

#[test]
fn a_drawing_has_the_cells_of_a_mirrored_guest_with_their_places_on_the_host() {
    let drawing = drawn("hgx-8gpu", Some("q35-h100-mirror"));
    for line in [
        "emulator threads on host CPUs 4",
        "CPUs 4-7, on host CPUs 56-59",
        "host node 1, 512 MiB",
        "distances 21 10",
    ] {
        assert!(drawing.contains(line), "{line}");
    }
}

#[test]
fn a_drawing_names_the_huge_pages_of_a_guest_and_omits_what_is_left_to_libvirt() {
    let text = case("q35-h100-mirror");
    let parts = |text: &str| {
        let domain = Domain::parse(text).expect("domain");
        super::tree::text(&guest::parts(&read("hgx-8gpu"), &domain))
    };
    let pages =
        "<memoryBacking><hugepages><page size='2' unit='MiB'/></hugepages></memoryBacking><os>";
    let huge = parts(&text.replace("<os>", pages));
    assert!(
        huge.contains("host node 0, 512 MiB in pages of 2 MiB, distances 10 21"),
        "{huge}"
    );
    let unpinned = text
        .replace("vcpupin", "unknown")
        .replace("<sibling", "<other");
    let unpinned = parts(&unpinned);
    let cell = unpinned.lines().next().expect("a line");
    assert_eq!(cell, "cell 0: CPUs 0-3, host node 0, 512 MiB");
}

#[test]
fn each_assigned_device_has_a_line_from_host_to_guest() {
    let drawing = drawn("gh200-4gpu", Some("gh200-all"));
    assert_eq!(drawing.matches("class=\"same\"").count(), 4);
    assert_eq!(
        drawn("gh200-4gpu", None).matches("class=\"same\"").count(),
        0
    );
}

#[test]
fn drawing_escapes_markup_in_names() {
    let mut part = Part::new(Kind::Machine, "<a & \"b\">", "");
    part.below.push(Part::new(Kind::Device, "x", "y"));
    let drawing = svg::drawing(&part, Some(&part));
    assert!(Document::parse(&drawing).is_ok() && drawing.contains("&lt;a &amp; &quot;b&quot;&gt;"));
    assert!(dot::text(&[part]).contains(r#"label="<a & \"b\">""#));
}

fn system(text: &str) -> Element {
    testing::nccl::load(text).expect("a file that NCCL reads")
}

#[test]
fn nccl_file_is_accepted_by_nccls_reader() {
    for name in [
        "gh200-4gpu",
        "gb200-4gpu",
        "hgx-8gpu",
        "mi300x-8gpu",
        "lab",
        "gb200-nic",
    ] {
        let text = nccl::host(&read(name), &recipes()).text;
        assert!(
            system(&text).below.iter().any(|cpu| !cpu.below.is_empty()),
            "{name}"
        );
    }
    let domain = completed("gh200-all");
    let system = system(&nccl::guest(&read("gh200-4gpu"), &domain).text);
    let count: usize = system.below.iter().map(|cpu| cpu.below.len()).sum();
    assert_eq!(count, domain.hostdevs.len());
}

#[test]
fn nccl_file_puts_a_device_at_the_cell_of_its_expander() {
    let system = system(&nccl::guest(&read("gh200-4gpu"), &completed("gh200-all")).text);
    let seen: Vec<(&str, &str)> = system
        .below
        .iter()
        .map(|cpu| (cpu.get("numaid"), cpu.below[0].get("busid")))
        .collect();
    let expected = [
        ("0", "0000:ff:00.0"),
        ("1", "0000:fd:00.0"),
        ("2", "0000:fb:00.0"),
        ("3", "0000:f9:00.0"),
    ];
    assert_eq!(seen, expected);
}

/// A guest with the lab's device that is behind a switch, on a plain root port.
const SWITCHED: &str =
    "<domain type='kvm'><name>s0</name><memory unit='KiB'>4194304</memory><vcpu>4</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
    <controller type='pci' index='0' model='pcie-root'/>
    <controller type='pci' index='1' model='pcie-root-port'>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x02' function='0x0'/></controller>
    <controller type='pci' index='2' model='pcie-root-port'>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x01' function='0x0'/></controller>
    <hostdev mode='subsystem' type='pci' managed='yes'><source>
      <address domain='0x0000' bus='0x05' slot='0x00' function='0x0'/></source>
      <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></hostdev>
  </devices></domain>";

#[test]
fn nccl_file_puts_a_host_switch_above_its_device_and_numbers_buses_by_slot() {
    let domain = Domain::parse(SWITCHED).expect("domain");
    let system = system(&nccl::guest(&read("lab"), &domain).text);
    let switch = &system.below[0].below[0];
    assert_eq!(
        (switch.get("busid"), switch.get("class")),
        ("ffff:00:00.0", "0x060400")
    );
    assert_eq!(switch.below[0].get("busid"), "0000:02:00.0");
    assert_eq!(switch.below[0].get("link_width"), "1");
}

/// A guest of q35 with a root port for each of these devices of the host, and cells 1 and 0 on nodes 0 and 1.
fn placed(devices: &[String]) -> Domain {
    let places = devices.iter().enumerate().map(|(at, source)| {
        let (bus, source) = (at + 1, address(source));
        format!(
            "<controller type='pci' index='{bus}' model='pcie-root-port'><address type='pci' bus='0' slot='{bus}' function='0'/></controller>\
             <hostdev mode='subsystem' type='pci'><source><address domain='{}' bus='{}' slot='{}' function='{}'/></source>\
             <address type='pci' bus='{bus}' slot='0' function='0'/></hostdev>",
            source.domain(), source.bus(), source.device(), source.function()
        )
    });
    let places: String = places.collect();
    let text = format!(
        "<domain type='kvm'><name>g</name><memory unit='KiB'>4194304</memory><vcpu>4</vcpu>\
         <numatune><memnode cellid='0' mode='strict' nodeset='1'/><memnode cellid='1' mode='strict' nodeset='0'/></numatune>\
         <os><type arch='x86_64' machine='q35'>hvm</type></os><cpu><numa><cell id='0' cpus='0-1' memory='2097152'/>\
         <cell id='1' cpus='2-3' memory='2097152'/></numa></cpu><devices>{places}</devices></domain>"
    );
    Domain::parse(&text).expect("domain")
}

#[test]
fn nccl_file_gives_host_switches_unused_ids() {
    let host = read("mi300x-8gpu");
    let gpus = host
        .devices
        .values()
        .filter(|device| device.class >> 8 == 0x1200);
    let gpus: Vec<String> = gpus.map(|device| device.address.to_string()).collect();
    assert!(!gpus.is_empty());
    let system = system(&nccl::guest(&host, &placed(&gpus)).text);
    let leaves: Vec<(String, String)> = system.below.iter().flat_map(Element::leaves).collect();
    assert_eq!(leaves.len(), gpus.len());
    for (leaf, above) in leaves {
        assert!(leaf.starts_with("0000:"), "{leaf}");
        assert!(
            above.is_empty() || above.starts_with("ffff:"),
            "{leaf} below {above}"
        );
    }
}

#[test]
fn nccl_file_puts_a_root_bus_device_at_the_cell_whose_memory_is_on_its_node() {
    let host = read("hgx-8gpu");
    let gpus = host
        .devices
        .values()
        .filter(|device| device.class >> 8 == 0x0302);
    let gpus: Vec<_> = gpus.collect();
    let names: Vec<String> = gpus.iter().map(|gpu| gpu.address.to_string()).collect();
    let system = system(&nccl::guest(&host, &placed(&names)).text);
    for (bus, gpu) in gpus.iter().enumerate() {
        let node = gpu.numa_node.map(u32::from).expect("a node");
        let seen = format!("0000:{:02x}:00.0", bus + 1);
        let home = system
            .below
            .iter()
            .find(|cpu| cpu.leaves().iter().any(|(leaf, _)| *leaf == seen));
        let cell = home.expect("below a processor").get("numaid");
        assert_eq!(
            cell,
            (1 - node).to_string(),
            "{} on node {node}",
            gpu.address
        );
    }
}

#[test]
fn nccl_file_of_a_host_includes_accelerators_without_display_class() {
    let mut host = read("lab");
    let one = address("0000:21:00.0");
    let device = host.devices.get_mut(&one).expect("device");
    device.id = "1002:ffff".parse().expect("an id without a recipe");
    device.class = 0x12_0000;
    assert!(
        nccl::host(&host, &recipes())
            .text
            .contains("busid=\"0000:21:00.0\"")
    );
}

#[test]
fn nccl_file_omits_an_affinity_that_is_too_long() {
    let mut domain = placed(&[]);
    domain.cells[1].cpus = (0..2000).collect();
    let text = nccl::guest(&read("lab"), &domain).text;
    assert!(text.contains("<cpu numaid=\"1\" arch="), "{text}");
    system(&text);
}

/// A guest's file, which NCCL's reader takes, and its warnings.
fn nccl_file(host: &str, domain: &Domain) -> (String, Vec<Note>) {
    let file = nccl::guest(&read(host), domain);
    system(&file.text);
    (file.text, file.warnings)
}

#[test]
fn bus_numbers_that_overlap_are_drawn_with_a_warning() {
    let text = SWITCHED.replace(
        "<hostdev",
        "<controller type='pci' index='3' model='pcie-expander-bus'><target busNr='2'/></controller><hostdev",
    );
    let (text, warnings) = nccl_file("lab", &Domain::parse(&text).expect("domain"));
    assert!(text.contains("0000:02:00.0"), "{text}");
    assert_eq!(warnings[0].code, Code::GuestBusNumbers);
}

#[test]
fn nccl_file_names_each_device_id_once() {
    let twin = "<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='2' slot='0' function='0'/></source>\
                <address type='pci' domain='0' bus='1' slot='0' function='0'/></hostdev></devices>";
    let text = SWITCHED.replace("</devices>", twin);
    let (text, warnings) = nccl_file("lab", &Domain::parse(&text).expect("domain"));
    assert_eq!(text.matches("0000:02:00.0").count(), 1, "{text}");
    assert_eq!(warnings[0].device, Some(address("0000:02:00.0")));
}

#[test]
fn drawing_shows_unplaced_ports_where_libvirt_will_put_them() {
    let domain = completed("q35-h100-all");
    let (text, warnings) = nccl_file("hgx-8gpu", &domain);
    for bus in 1..=domain.hostdevs.len() {
        assert!(text.contains(&format!("0000:{bus:02x}:00.0")), "{text}");
    }
    let guessed = |note: &&Note| note.code == Code::GuestNoAddress;
    assert_eq!(
        warnings.iter().filter(guessed).count(),
        domain.hostdevs.len()
    );
    assert!(warnings[0].text.contains("--domain NAME"), "{warnings:?}");
}

/// What libvirt 12.8 makes of such definitions was read from it: the video device goes into slot 1 of the root bus, so the port
/// without an address behind the one in slot 2; a bridge to conventional PCI takes the first free port.
#[test]
fn conventional_devices_without_an_address_go_where_libvirt_puts_them() {
    let guest = |devices: &str| {
        let text = format!(
            "<domain type='kvm'><name>g</name><memory unit='GiB'>4</memory><vcpu>2</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>\
             <devices>{devices}</devices></domain>"
        );
        Domain::parse(&text).expect("domain")
    };
    let seen = |devices: &str| {
        let domain = guest(devices);
        let numbers = super::bus_number::Numbers::of(&domain);
        let at = domain.hostdevs[0].address.expect("an address").at;
        numbers.seen_at(at).expect("a bus").to_string()
    };
    let port =
        |index: u32| format!("<controller type='pci' index='{index}' model='pcie-root-port'/>");
    let second = "<controller type='pci' index='1' model='pcie-root-port'>\
        <address type='pci' bus='0' slot='2' function='0' multifunction='on'/></controller>";
    let gpu = |bus: u32| {
        format!(
            "<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='2' slot='0' function='0'/></source>\
             <address type='pci' domain='0' bus='{bus}' slot='0' function='0'/></hostdev>"
        )
    };
    let ports = format!("{second}{}{}", port(2), gpu(2));
    assert_eq!(seen(&ports), "0000:01:00.0", "the port is in slot 1");
    for video in [
        "<video><model type='vga'/></video>",
        "<graphics type='vnc'/>",
    ] {
        assert_eq!(seen(&format!("{ports}{video}")), "0000:02:00.0", "{video}");
    }
    // As Nova writes ports and the bridge, beside a port that was added.
    let root = "<controller type='pci' model='pcie-root'/>";
    let (free, bridge) = (
        "<controller type='pci' model='pcie-root-port'/>".repeat(2),
        "<controller type='pci' model='pcie-to-pci-bridge'/>",
    );
    let nova = format!("{root}{free}{bridge}{}{}", port(4), gpu(4));
    assert_eq!(seen(&nova), "0000:04:00.0");
    assert_eq!(seen(&nova.replace(bridge, "")), "0000:03:00.0");
    // What libvirt adds for these comes behind.
    let others = "<sound model='ich6'/><interface type='user'><model type='e1000'/></interface><watchdog model='i6300esb'/>";
    assert_eq!(
        seen(&format!("{}{}{others}", port(1), gpu(1))),
        "0000:01:00.0"
    );
}

#[test]
fn a_port_without_an_address_is_ordered_as_libvirt_orders_it() {
    let port = "<controller type='pci' index='3' model='pcie-root-port'/><hostdev";
    let with = |text: &str| Domain::parse(text).expect("domain");
    // Slot 1 holds a root port alone, so the new one is its second function, before the one in slot 2.
    let domain = with(&SWITCHED.replace("<hostdev", port));
    assert!(nccl_file("lab", &domain).0.contains("0000:03:00.0"));
    // A device in slot 1 keeps it away: it comes behind slot 2.
    let disk = "<disk type='block'><address type='pci' bus='0' slot='1' function='1'/></disk>";
    let domain = with(&SWITCHED.replace("<hostdev", &format!("{disk}{port}")));
    let (text, _) = nccl_file("lab", &domain);
    assert!(text.contains("0000:02:00.0"), "{text}");
}

#[test]
fn nccl_file_omits_a_device_without_an_address_and_warns() {
    let text = SWITCHED.replace(
        "<address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>",
        "",
    );
    let domain = Domain::parse(&text).expect("domain");
    let (text, warnings) = nccl_file("lab", &domain);
    assert!(!text.contains("busid"), "{text}");
    assert_eq!(warnings[0].code, Code::GuestNoAddress);
    let tree = super::tree::text(&guest::parts(&read("lab"), &domain));
    assert!(
        tree.contains("placed by libvirt host's 0000:05:00.0"),
        "{tree}"
    );
}

#[test]
fn a_device_on_a_bus_that_libvirt_adds_is_drawn_on_a_root_port() {
    let text = SWITCHED.replace("index='1'", "index='5'");
    let domain = Domain::parse(&text).expect("domain");
    let tree = super::tree::text(&guest::parts(&read("lab"), &domain));
    assert!(
        tree.contains("placed by libvirt root port  bus 1"),
        "{tree}"
    );
    assert!(tree.contains("0000:01:00.0 host's 0000:05:00.0"), "{tree}");
    assert!(nccl_file("lab", &domain).0.contains("busid=\"0000:0"));
}

#[test]
fn matrix_names_the_shared_element_of_two_devices() {
    let host = read("lab");
    let shared =
        |a: &str, b: &str| host.shared(&host.devices[&address(a)], &host.devices[&address(b)]);
    assert_eq!(shared("0000:21:00.0", "0000:21:00.0"), Shared::Itself);
    assert_eq!(shared("0000:02:00.0", "0000:02:00.1"), Shared::Slot);
    assert_eq!(shared("0000:21:00.0", "0000:41:00.0"), Shared::Host);
    let mut near = host.clone();
    let one = address("0000:41:00.0");
    near.devices.get_mut(&one).expect("gpu").numa_node =
        near.devices[&address("0000:21:00.0")].numa_node;
    let (a, b) = (&near.devices[&address("0000:21:00.0")], &near.devices[&one]);
    assert_eq!(near.shared(a, b), Shared::Node);
}

#[test]
fn matrix_distinguishes_one_switch_from_two() {
    let host = read("lab");
    let at = |above: &[&str], own: &str| {
        let mut device = host.devices[&address("0000:05:00.0")].clone();
        device.address = address(own);
        device.ancestors = above.iter().map(|text| address(text)).collect();
        device
    };
    let (port, up, down, other) = (
        "0000:00:04.0",
        "0000:03:00.0",
        "0000:04:00.0",
        "0000:04:01.0",
    );
    let one = at(&[port, up, down], "0000:05:00.0");
    let beside = at(&[port, up, other], "0000:06:00.0");
    let deeper = at(
        &[port, up, other, "0000:06:00.0", "0000:07:00.0"],
        "0000:08:00.0",
    );
    assert_eq!(host.shared(&one, &beside), Shared::Switch);
    assert_eq!(host.shared(&one, &deeper), Shared::RootPort);
}

#[test]
fn matrix_has_the_routes_of_a_guest_below_each_switch() {
    let text = matrix::text(&read("hgx-switched"), &recipes());
    let routes: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("PAIR"))
        .collect();
    // At each switch a pair of GPUs, and four of GPU and adapter in both directions, two of which are equal at the third.
    assert_eq!(routes.len(), 1 + 4 * 9 - 2, "{text}");
    for line in [
        "D2 -> D0     root complex: ACS at 0000:17:00.0 0000:17:02.0  root complex: ACS without direct translated at 0000:17:00.0 0000:17:02.0",
        "D6 -> D4     direct                                          direct",
        "D4 -> D6     direct                                          root complex: no ATS",
        "D10 -> D8    root complex: ACS at 0000:99:00.0 0000:99:02.0  direct",
        "D8 <-> D11   root complex: ACS at 0000:99:00.0 0000:99:03.0  root complex: no ATS",
    ] {
        assert!(routes.contains(&line), "{line}\n{text}");
    }
}

#[test]
fn matrix_says_that_devices_without_a_common_switch_meet_in_the_root_complex() {
    for name in ["hgx-8gpu", "gb200-nic"] {
        let text = matrix::text(&read(name), &recipes());
        assert!(text.ends_with("no two share a switch.\n"), "{text}");
        assert!(text.contains("network adapter"), "{text}");
    }
}

#[test]
fn matrix_marks_values_that_need_root() {
    let text = matrix::text(&read("gb200-user"), &recipes());
    let row = text
        .lines()
        .find(|line| line.starts_with("D0"))
        .expect("a row");
    assert!(row.contains("  ?    ?   0008:01:00.0"), "{row}");
}

#[test]
fn matrix_names_a_root_port_with_an_erratum_of_relaxed_ordering() {
    let mut host = read("hgx-8gpu");
    let port = host
        .devices
        .get_mut(&address("0000:1a:01.0"))
        .expect("port");
    port.id = "8086:6f02".parse().expect("id");
    let text = matrix::text(&host, &recipes());
    let no: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("  no   no  "))
        .collect();
    assert!(
        matches!(no[..], [line] if line.contains("0000:1b:00.0")),
        "{text}"
    );
}

#[test]
fn pairs_in_json_have_the_bits_of_their_ports_and_both_routes() {
    let host = read("hgx-switched");
    let device = |at| &host.devices[&address(at)];
    let devices = [device("0000:9c:00.0"), device("0000:9a:00.0")];
    let pairs = peer::json(&host, &devices);
    let set = [
        "request_redirect",
        "completion_redirect",
        "upstream_forwarding",
        "direct_translated",
    ];
    let ports = ["0000:99:02.0", "0000:99:00.0"];
    let expected = serde_json::json!({
        "from": "0000:9c:00.0", "to": "0000:9a:00.0", "shared": "switch", "distance": 10,
        "ports": ports.map(|at| serde_json::json!({"address": at, "access_control": set})),
        "on_host": {"route": "redirected", "redirected_by": ports, "no_ats": false},
        "in_guest": {"route": "direct"},
    });
    assert_eq!(pairs[0], expected);
    assert_eq!(pairs.as_array().expect("pairs").len(), 2);
}
