//! Notes on how QEMU and the host's kernel map large BARs: page by page, or not at all.
//!
//! Linux maps a BAR for DMA whenever the guest enables it. Before 6.15 VFIO looks up each page of 4 KiB, later each mapping of the
//! page table ("vfio/type1: Use mapping page mask for pfnmaps", whose author measured about 1 s for 32 GiB before it). QEMU aligns BARs for mappings
//! of 1 GiB since 9.2 (hw/vfio/region.c, "vfio/helpers: Align mmaps"). Neither concerns iommufd, which maps BARs in another way.

use super::window::GIB;
use super::{Assigned, Note, Part, PlanInput, bar, qemu};
use crate::atomics::Kernel;
use crate::version::Version;
use domain::Domain;
use domain::code::Code;

/// The first kernel that looks up mappings instead of pages.
const KERNEL: (u32, u32) = (6, 15);
/// The first QEMU that aligns BARs.
const QEMU: Version = Version::new(9, 2, 0);
/// The least size of a BAR in GiB that is worth a note: about 1 s.
const LARGE: u64 = 32;
/// QEMU's property that leaves BARs unmapped.
const UNMAPPED: &str = "x-no-mmap";

/// The notes on BARs of devices that plain VFIO maps.
pub(super) fn plan(input: &PlanInput<'_>, domain: &Domain, assigned: &[Assigned<'_>]) -> Part {
    let unmapped = assigned.iter().filter(|one| is_unmapped(domain, one));
    let mut notes: Vec<Note> = unmapped.map(emulated).collect();
    let mapped = assigned.iter().filter(|one| !is_unmapped(domain, one));
    let gib = mapped.map(|one| large_gib(input, domain, one)).sum();
    notes.extend(by_page(input, gib));
    Part::of_notes(notes)
}

/// The large BARs of a device in GiB; 0 for one that iommufd maps.
fn large_gib(input: &PlanInput<'_>, domain: &Domain, one: &Assigned<'_>) -> u64 {
    if domain.family() != "q35" || domain.goes_through_iommufd(one.hostdev) {
        return 0;
    }
    let sizes = bar::of(input, one.device);
    let sizes = sizes.into_iter().map(|kib| kib / GIB);
    sizes.filter(|gib| *gib >= LARGE).sum()
}

fn by_page(input: &PlanInput<'_>, gib: u64) -> Option<Note> {
    let release = input.host.kernel_release.as_deref().unwrap_or_default();
    let qemu = input.target.versions().qemu;
    let is_old = Kernel::of(Some(release)).has(KERNEL) == Some(false);
    let text = if gib == 0 {
        return None;
    } else if is_old {
        let (major, minor) = KERNEL;
        format!(
            "Linux {release} of the host may map {gib} GiB of BARs in steps of 4 KiB, {} s or more each time the guest enables them; Linux \
             {major}.{minor} takes larger steps",
            gib / LARGE
        )
    } else if qemu < QEMU {
        format!(
            "QEMU {qemu} does not align {gib} GiB of BARs, so the kernel maps them in steps of 2 MiB; QEMU 9.2 and later get steps of 1 GiB"
        )
    } else {
        return None;
    };
    Some(Note::new(Code::BarsByPage, text))
}

/// True if the definition sets [`UNMAPPED`] for a device.
fn is_unmapped(domain: &Domain, one: &Assigned<'_>) -> bool {
    let own = one.hostdev.alias.as_deref();
    let overrides = domain.overrides.iter().flat_map(|all| &all.properties);
    let mut here = overrides.filter(|property| Some(property.alias.as_str()) == own);
    here.any(|property| property.name == UNMAPPED && qemu::is_on(&property.value))
}

fn emulated(one: &Assigned<'_>) -> Note {
    let text = format!(
        "'{UNMAPPED}' of <qemu:override>: QEMU emulates each access to its BARs, and no other device reaches them by DMA (GPUDirect)"
    );
    Note {
        device: Some(one.hostdev.source),
        ..Note::new(Code::BarsUnmapped, text)
    }
}

#[cfg(test)]
mod tests {
    use kernel_glue::device::Bar;

    use super::super::testing::{Fixture, device, guest, hostdev};
    use super::*;
    use crate::fixture::rewrite;
    use crate::target::Versions;

    const B200: &str = "0000:17:00.0";

    /// The code and text of each note on BARs, for a B200 on a host with this kernel, completed for this QEMU.
    fn notes(release: &str, qemu: &str, inner: &str, last: &str) -> Vec<(Code, String)> {
        let mut fixture = Fixture::new();
        fixture.host.kernel_release = Some(release.to_owned());
        let mut gpu = device(B200, "10de:2901", 0);
        // 64-bit, prefetchable memory (include/linux/ioport.h).
        let flags = 0x0010_2200;
        gpu.bars[2] = Bar {
            size: 256 << 30,
            flags,
        };
        fixture.host.devices.insert(gpu.address, gpu);
        let versions: Versions = format!("libvirt=12.8,qemu={qemu}").parse().expect("a pair");
        let input = PlanInput {
            target: versions.into(),
            ..fixture.input()
        };
        let text = guest(&hostdev(B200, inner));
        let text = text.replace("aarch64", "x86_64").replace("'virt'", "'q35'");
        let text = text.replace("</devices>\n", &format!("</devices>\n{last}"));
        let notes = rewrite(&text, &input).expect("completed").plan.notes;
        let ours = [Code::BarsByPage, Code::BarsUnmapped];
        let notes = notes.into_iter().filter(|note| ours.contains(&note.code));
        notes.map(|note| (note.code, note.text)).collect()
    }

    #[test]
    fn a_large_bar_is_noted_where_kernel_or_qemu_map_it_in_small_steps() {
        let text = |release: &str, qemu: &str| {
            let mut notes = notes(release, qemu, "", "");
            assert!(notes.len() <= 1, "{notes:?}");
            notes.pop().map_or_else(String::new, |(_, text)| text)
        };
        let old = text("6.12.41+deb13-amd64", "10.0");
        assert!(old.contains("256 GiB of BARs in steps of 4 KiB"), "{old}");
        assert!(old.contains("4 KiB, 8 s or more"), "{old}");
        assert!(text("6.15.0", "9.1").starts_with("QEMU 9.1.0 does not align 256 GiB"));
        assert_eq!(text("6.15.0", "9.2"), "");
        // A kernel of an enterprise distribution may have the change.
        assert_eq!(text("5.14.0-570.el9.x86_64", "10.1"), "");
    }

    #[test]
    fn bars_that_iommufd_maps_are_not_noted() {
        let iommufd = "      <driver name='vfio' iommufd='yes'/>\n";
        assert_eq!(notes("6.8.0", "10.0", iommufd, ""), []);
    }

    #[test]
    fn bars_that_the_definition_leaves_unmapped_are_named() {
        let alias = "      <alias name='ua-gpu0'/>\n";
        let with = |name: &str, value: &str| {
            let last = format!(
                "  <qemu:override xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:device alias='{name}'><qemu:frontend>\
                 <qemu:property name='x-no-mmap' type='bool' value='{value}'/>\
                 </qemu:frontend></qemu:device></qemu:override>\n"
            );
            let notes = notes("6.8.0", "10.0", alias, &last);
            notes.into_iter().map(|(code, _)| code).collect::<Vec<_>>()
        };
        assert_eq!(with("ua-gpu0", "true"), [Code::BarsUnmapped]);
        assert_eq!(with("ua-gpu0", "false"), [Code::BarsByPage]);
        assert_eq!(with("ua-gpu1", "true"), [Code::BarsByPage]);
    }
}
