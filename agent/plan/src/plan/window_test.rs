//! The MMIO window: which BARs count, which sizes fit, and the address width of x86 guests.

use kernel_glue::device::Bar;
use kernel_glue::region::{Region, Regions};

use super::PlanInput;
use super::testing::{Fixture, address, device, guest, hostdev};
use crate::fixture::revert;
use crate::fixture::rewrite;
use domain::code::Code;

const GIB: u64 = 1 << 30;

/// 64-bit prefetchable memory.
fn bar(size: u64) -> Bar {
    let flags = 0x0014_220c;
    Bar { size, flags }
}

/// A host with eight H100 of 128 GiB BARs each.
fn hgx(bits: u32) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.host.address_bits = Some(bits);
    for number in 1..=8 {
        let mut gpu = device(&format!("00{number:02x}:01:00.0"), "10de:2330", 0);
        gpu.bars[2] = bar(128 * GIB);
        fixture.host.devices.insert(gpu.address, gpu);
    }
    fixture
}

fn x86(count: u32, cpu: &str) -> String {
    let devices: String = (1..=count)
        .map(|n| hostdev(&format!("00{n:02x}:01:00.0"), ""))
        .collect();
    let text = guest(&devices)
        .replace("aarch64", "x86_64")
        .replace("'virt'", "'q35'");
    text.replace("<cpu mode='host-passthrough'/>", cpu)
}

#[test]
fn a_nic_beside_the_gpu_counts() {
    let mut fixture = Fixture::new();
    let text = guest(&(hostdev("0008:01:00.0", "") + &hostdev("0002:01:00.0", "")));
    assert!(
        fixture
            .rewrite(&text)
            .text
            .contains("<pcihole64 unit='KiB'>1073741824</pcihole64>")
    );
    let nic = fixture
        .host
        .devices
        .get_mut(&address("0002:01:00.0"))
        .expect("nic");
    nic.bars[0] = bar(600 * GIB);
    assert!(
        fixture
            .rewrite(&text)
            .text
            .contains("<pcihole64 unit='KiB'>2147483648</pcihole64>")
    );
}

/// 64-bit prefetchable BARs 0, 2 and 4, as VFIO shows them.
fn shown(sizes: [u64; 3]) -> Regions {
    let mut regions = Regions::default();
    for (number, size) in sizes.into_iter().enumerate() {
        regions[2 * number] = Region {
            size,
            mmap: true,
            kind: Region::MEMORY_64_PREFETCH,
        };
    }
    regions
}

/// A host with VFIO regions of its GPUs.
fn asked(sizes: [u64; 3]) -> Fixture {
    let mut fixture = Fixture::new();
    for (at, _) in super::testing::GPUS {
        let gpu = fixture.host.devices.get_mut(&address(at)).expect("gpu");
        gpu.regions = Some(shown(sizes));
    }
    fixture
}

fn window_gib(fixture: &Fixture, count: usize) -> u64 {
    let gpus = super::testing::GPUS.iter().take(count);
    let gpus: String = gpus.map(|(at, _)| hostdev(at, "")).collect();
    let text = fixture.rewrite(&guest(&gpus)).text;
    let (_, hole) = text.split_once("<pcihole64 unit='KiB'>").expect("a window");
    let (kib, _) = hole.split_once('<').expect("its end");
    kib.parse::<u64>().expect("a number") >> 20
}

#[test]
fn vfio_regions_override_the_recipes_table() {
    assert_eq!(window_gib(&Fixture::new(), 1), 1024, "by the table");
    assert_eq!(window_gib(&asked([16 << 20, GIB, 128 * GIB]), 1), 512);
    assert_eq!(window_gib(&asked([16 << 20, GIB, 512 * GIB]), 1), 2048);
}

#[test]
fn small_bars_beside_the_memory_round_each_gpu_up() {
    // Three windows of 129 GiB that begin at multiples of 128 GiB do not fit into 512 GiB.
    assert_eq!(window_gib(&asked([0, GIB, 128 * GIB]), 3), 1024);
    assert_eq!(window_gib(&asked([0, 0, 128 * GIB]), 3), 512);
}

/// Three GPUs of 2 x 256 GiB and 64 MiB: each at a multiple of 256 GiB, one beside the other they take 768 GiB each.
#[test]
fn a_window_has_room_for_aligned_bars_with_and_without_vfio() {
    for (id, gib, windows) in [
        ("10de:2941", 256, [1024, 2048, 4096, 4096]),
        ("10de:31c2", 512, [2048, 4096, 8192, 8192]),
    ] {
        let with_id = |mut fixture: Fixture| {
            for (at, _) in super::testing::GPUS {
                let gpu = fixture.host.devices.get_mut(&address(at)).expect("gpu");
                gpu.id = id.parse().expect("id");
            }
            fixture
        };
        let table = with_id(Fixture::new());
        let vfio = with_id(asked([64 << 20, gib * GIB, gib * GIB]));
        for (count, window) in (1..).zip(windows) {
            assert_eq!(window_gib(&table, count), window, "{count} of {id}");
            assert_eq!(window_gib(&vfio, count), window, "{count} of {id}, asked");
        }
    }
}

#[test]
fn a_window_of_an_earlier_plan_that_is_too_small_is_replaced() {
    let gpus = super::testing::GPUS.iter().take(3);
    let gpus: String = gpus.map(|(at, _)| hostdev(at, "")).collect();
    let fixture = Fixture::new();
    let right = fixture.rewrite(&guest(&gpus)).text;
    let (four, two) = (">4294967296</pcihole64>", ">2147483648</pcihole64>");
    assert!(right.contains(four));
    // Old marks have the word without a size.
    for word in ["window:2048'", "window'"] {
        let earlier = right.replace(four, two).replace("window:4096'", word);
        assert_eq!(fixture.rewrite(&earlier).text, right, "{word}");
    }
}

#[test]
fn memory_reserved_by_ports_counts() {
    let line = |arguments: &str| {
        let line = format!(
            "</devices><qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>{arguments}</qemu:commandline>"
        );
        guest(&hostdev("0008:01:00.0", "")).replace("</devices>", &line)
    };
    let port = "<qemu:arg value='-device'/><qemu:arg value='pcie-root-port,id=p,chassis=9,pref64-reserve=1T'/>";
    let got = Fixture::new().rewrite(&line(port)).text;
    assert!(got.contains("'KiB'>2147483648<"), "{got}");
}

#[test]
fn the_users_own_window_on_the_command_line_counts() {
    let with = |window: &str| {
        let line = format!(
            "</devices><qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:arg value='-machine'/><qemu:arg value='{window}'/></qemu:commandline>"
        );
        guest(&hostdev("0008:01:00.0", "")).replace("</devices>", &line)
    };
    for target in ["libvirt=12.8,qemu=11.1", "libvirt=11.3,qemu=10.0"] {
        let fixture = Fixture::new();
        let input = PlanInput {
            target: target.parse().expect("target"),
            ..fixture.input()
        };
        for window in ["highmem-mmio-size=2T", "virt,highmem-mmio-size=1024G"] {
            let got = rewrite(&with(window), &input).expect("planned").text;
            let windows =
                got.matches("highmem-mmio-size").count() + got.matches("pcihole64").count();
            assert_eq!(windows, 1, "{got}");
        }
        for (window, word) in [
            ("512G", "too small"),
            ("3T", "not a power of two"),
            ("x", "zero"),
        ] {
            let window = format!("highmem-mmio-size={window}");
            let refusal = rewrite(&with(&window), &input).expect_err("refused");
            assert_eq!(refusal.code, Code::WindowWrong, "{refusal}");
            assert!(refusal.reason.contains(word), "{refusal}");
        }
    }
}

#[test]
fn a_bar_that_is_not_64_bit_prefetchable_does_not_count() {
    let mut fixture = asked([0, 0, 128 * GIB]);
    let gpu = fixture.host.devices.get_mut(&address("0008:01:00.0"));
    let regions = gpu.expect("gpu").regions.as_mut().expect("regions");
    regions[0] = Region {
        size: 1 << 40,
        mmap: true,
        kind: 0x4,
    };
    assert_eq!(window_gib(&fixture, 1), 512);
}

#[test]
fn the_reason_names_vfio_as_the_source() {
    let text = guest(&hostdev("0008:01:00.0", ""));
    let reason = |fixture: &Fixture| {
        let plan = fixture.rewrite(&text).plan;
        let mut changes = plan.changes.into_iter();
        let window = changes.find(|change| change.code == Code::WindowMissing);
        window.expect("a window").reason
    };
    let with = reason(&asked([0, GIB, 128 * GIB]));
    assert!(
        with.ends_with(", as VFIO reports for '0008:01:00.0'"),
        "{with}"
    );
    assert!(!reason(&Fixture::new()).contains("VFIO"));
}

#[test]
fn the_digest_changes_only_with_the_values_that_vfio_reports() {
    let text = guest(&hostdev("0008:01:00.0", ""));
    let digest = |fixture: &Fixture| fixture.rewrite(&text).plan.digest;
    let table = digest(&Fixture::new());
    assert_eq!(digest(&asked([0, 0, 512 * GIB])), table);
    let smaller = digest(&asked([0, 0, 128 * GIB]));
    let larger = digest(&asked([0, 0, 1024 * GIB]));
    assert!(smaller != table && larger != table && smaller != larger);
}

#[test]
fn an_old_window_is_replaced_after_vfio_reports_other_regions() {
    let text = guest(&hostdev("0008:01:00.0", ""));
    let before = Fixture::new().rewrite(&text).text;
    let asked = asked([16 << 20, GIB, 128 * GIB]);
    let after = asked.rewrite(&before).text;
    assert_eq!(after, asked.rewrite(&text).text);
    assert!(after.contains("<pcihole64 unit='KiB'>536870912</pcihole64>"));
    assert_eq!(asked.rewrite(&after).text, after);
}

#[test]
fn gb300_takes_the_larger_window() {
    let mut fixture = Fixture::new();
    for gpu in fixture
        .host
        .devices
        .values_mut()
        .filter(|d| d.id.to_string() == "10de:2941")
    {
        gpu.id = "10de:31c2".parse().expect("id");
    }
    let gpus: String = super::testing::GPUS
        .iter()
        .map(|(at, _)| hostdev(at, ""))
        .collect();
    let text = fixture.rewrite(&guest(&gpus)).text;
    assert!(
        text.contains("<pcihole64 unit='KiB'>8589934592</pcihole64>"),
        "8 TiB for four"
    );
}

#[test]
fn zero_small_and_uneven_windows_are_refused_with_different_reasons() {
    let with = |kib: u64| {
        let root = "<controller type=\"pci\" index='0' model='pcie-root'/>";
        let own = format!(
            "<controller type='pci' index='0' model='pcie-root'><pcihole64>{kib}</pcihole64></controller>"
        );
        guest(&hostdev("0008:01:00.0", "")).replace(root, &own)
    };
    for (kib, word) in [
        (0, "zero"),
        (1 << 29, "too small"),
        (3 << 30, "not a power of two"),
    ] {
        let refusal = Fixture::new().refusal(&with(kib));
        assert!(
            refusal.code == Code::WindowWrong && refusal.reason.contains(word),
            "{refusal}"
        );
    }
    let wide = Fixture::new().refusal(&with(1 << 38));
    assert_eq!(wide.code, Code::WindowTooWide, "{wide}");
    assert!(
        Fixture::new()
            .rewrite(&with(1 << 32))
            .text
            .contains("<pcihole64>4294967296<")
    );
}

#[test]
fn a_narrow_x86_cpu_gets_the_hosts_address_width() {
    let text = x86(8, "<cpu mode='host-model'/>");
    let got = hgx(46).rewrite(&text).text;
    assert!(got.contains("<maxphysaddr mode='passthrough'/>"), "{got}");
    assert!(got.contains("<pcihole64 unit='KiB'>2147483648</pcihole64>"));
    assert_eq!(hgx(46).rewrite(&got).text, got);
    assert_eq!(revert(&got).expect("reverted"), text);
    let own = hgx(46)
        .rewrite(&x86(8, "<cpu mode='host-passthrough'/>"))
        .text;
    assert!(!own.contains("maxphysaddr"));
    let few = hgx(46).rewrite(&x86(2, "<cpu mode='host-model'/>")).text;
    assert!(!few.contains("maxphysaddr"), "512 GiB fit into 40 bits");
}

#[test]
fn a_window_wider_than_the_address_width_is_refused_with_both_numbers() {
    for (fixture, cpu) in [
        (hgx(40), "<cpu mode='host-passthrough'/>"),
        (hgx(40), "<cpu mode='host-model'/>"),
        (
            hgx(46),
            "<cpu mode='host-model'><maxphysaddr mode='emulate' bits='40'/></cpu>",
        ),
        (
            hgx(46),
            "<cpu mode='host-passthrough'><maxphysaddr mode='passthrough' limit='40'/></cpu>",
        ),
    ] {
        let refusal = fixture.refusal(&x86(8, cpu));
        assert_eq!(refusal.code, Code::WindowTooWide, "{refusal}");
        assert!(
            refusal.reason.contains("42 address bits") && refusal.reason.contains("has 40"),
            "{refusal}"
        );
    }
    let emulated = x86(8, "<cpu mode='maximum'/>").replace("'kvm'", "'qemu'");
    assert_eq!(hgx(40).refusal(&emulated).code, Code::WindowTooWide);
    let wide = hgx(46).rewrite(&emulated).text;
    assert!(
        wide.contains("<maxphysaddr mode='emulate' bits='42'/>"),
        "{wide}"
    );
}

#[test]
fn an_older_libvirt_gets_the_window_of_virt_on_the_command_line() {
    let fixture = Fixture::new();
    let target = "libvirt=11.3,qemu=10.0".parse().expect("target");
    let input = PlanInput {
        target,
        ..fixture.input()
    };
    let text = guest(&hostdev("0008:01:00.0", ""));
    let got = rewrite(&text, &input).expect("planned").text;
    assert!(got.contains("value='highmem-mmio-size=1073741824K'") && !got.contains("pcihole64"));
    assert_eq!(revert(&got).expect("reverted"), text);
}
