//! The width of guest-physical addresses, and whether memory and the MMIO window fit into it.
//!
//! x86 (hw/i386/pc.c, target/i386 in QEMU): 40 bits, unless the guest has the host's CPU under KVM or a
//! `<maxphysaddr>`; the window begins behind memory. Arm (hw/arm/virt.c): the window begins at a
//! multiple of its own size.

use super::fragment::Fragment;
use super::window::GIB;
use super::{Assigned, Change, Part, PlanInput, virsh};
use domain::code::Code;
use domain::edit::{Edit, Element};
use domain::refusal::Refusal;
use domain::{AddressWidth, Domain, Mark, Opened, Piece};

/// Address bits of an x86 CPU model that has no width of its own (TCG_PHYS_ADDR_BITS, target/i386/cpu.h).
const DEFAULT_BITS: u32 = 40;

/// Where QEMU moves memory on AMD hosts, behind HyperTransport's range (AMD_HT_START, hw/i386/pc.c), in KiB.
const RELOCATED: u64 = 1012 * GIB;

/// Checks that a window of `size` KiB fits; widens the addresses of an x86 guest without an explicit width.
pub(super) fn check(
    input: &PlanInput<'_>,
    domain: &Domain,
    one: &Assigned<'_>,
    size: u64,
) -> Result<Part, Refusal> {
    if domain.family() == "virt" {
        return virt(domain, one, size).map(|()| Part::default());
    }
    let (needed, have) = (bits(end(domain, size)), x86_bits(input, domain));
    if have.is_none_or(|have| needed <= have) {
        return Ok(Part::default());
    }
    let host = input.host.address_bits;
    let free = domain.platform.address_width.is_none();
    let can = host.is_none_or(|host| needed <= host);
    match &domain.cpu {
        Some(cpu) if free && can => {
            let width = Fragment::new("maxphysaddr");
            let width = match domain.platform.is_emulated() {
                // Without KVM QEMU has no host width to pass through; TCG takes any number of bits.
                true => width.with("mode", "emulate").with("bits", needed),
                false => width.with("mode", "passthrough"),
            };
            let bits = domain.platform.is_emulated().then_some(needed);
            let opened = cpu.is_self_closed().then_some(Piece::Open(Opened::Cpu));
            let mut part = Part::default();
            part.changes
                .push(widened(needed, cpu.append(&width.print())));
            part.added
                .extend([Piece::Width(bits)].into_iter().chain(opened));
            Ok(part)
        }
        _ => Err(narrow(
            domain,
            one,
            size,
            needed,
            have.unwrap_or(DEFAULT_BITS),
        )),
    }
}

/// True when the address width of a definition is the one that the mark records. Any other one is the user's.
fn is_ours(domain: &Domain, mark: &Mark) -> bool {
    match domain.platform.address_width {
        Some(AddressWidth::Host { limit: None }) => mark.added.has(&Piece::Width(None)),
        Some(AddressWidth::Bits(bits)) => match recorded(mark).flatten() {
            Some(ours) => ours == bits,
            // Old marks do not record the number of bits.
            None => recorded(mark).is_some() && domain.platform.is_emulated(),
        },
        _ => false,
    }
}

/// True when a width that we set still exists.
pub(crate) fn is_intact(domain: &Domain, mark: &Mark) -> bool {
    recorded(mark).is_none() || is_ours(domain, mark)
}

/// Removes our width.
pub(crate) fn undo(domain: &Domain, mark: &Mark) -> Option<Edit> {
    let width = domain.platform.address_width_element.as_ref();
    let width = width.filter(|_| is_ours(domain, mark));
    width.map(Element::remove)
}

/// The width that the mark records; the inner `None` is the host's width.
fn recorded(mark: &Mark) -> Option<Option<u32>> {
    let widths = mark.added.iter().filter_map(|piece| match piece {
        Piece::Width(bits) => Some(*bits),
        _ => None,
    });
    widths.max()
}

fn virt(domain: &Domain, one: &Assigned<'_>, size: u64) -> Result<(), Refusal> {
    let guest = one.recipe.guest(domain);
    let bits_of_cpu = guest.and_then(|guest| guest.address_bits);
    // The window begins at a multiple of its own size behind memory, so it ends at twice that size at least.
    let needed = bits(size.saturating_mul(2));
    match bits_of_cpu.filter(|_| !domain.platform.is_emulated()) {
        Some(have) if needed > have => Err(narrow(domain, one, size, needed, have)),
        _ => Ok(()),
    }
}

/// Bits of the guest's addresses; `None` if they are the host's and the host's are not known.
fn x86_bits(input: &PlanInput<'_>, domain: &Domain) -> Option<u32> {
    let host = input.host.address_bits;
    match domain.platform.address_width {
        Some(AddressWidth::Bits(bits)) => Some(bits),
        Some(AddressWidth::Default) => Some(DEFAULT_BITS),
        Some(AddressWidth::Host { limit }) => host
            .map(|host| limit.map_or(host, |l| l.min(host)))
            .or(limit),
        None if takes_the_hosts_cpu(domain) => host,
        None => Some(DEFAULT_BITS),
    }
}

/// `-cpu host` and `-cpu max` have the host's width under KVM (target/i386/host-cpu.c).
fn takes_the_hosts_cpu(domain: &Domain) -> bool {
    let mode = domain.platform.cpu_mode.as_deref();
    matches!(mode, Some("host-passthrough" | "maximum")) && !domain.platform.is_emulated()
}

/// The end of the window in KiB: after 4 GiB, memory, and the hole of AMD hosts.
fn end(domain: &Domain, size: u64) -> u64 {
    let end = (4 * GIB)
        .saturating_add(domain.memory_kib)
        .saturating_add(size);
    if end > RELOCATED {
        // Assumed for all hosts: the definition does not tell AMD from Intel, and one more bit does no harm.
        end.saturating_add(1024 * GIB)
    } else {
        end
    }
}

/// Address bits that reach `kib` KiB.
fn bits(kib: u64) -> u32 {
    u64::BITS - kib.saturating_sub(1).leading_zeros() + 10
}

fn widened(needed: u32, edit: Edit) -> Change {
    Change {
        code: Code::AddressWidthMissing,
        device: None,
        path: "/domain/cpu/maxphysaddr".to_owned(),
        reason: format!(
            "wider guest-physical addresses: memory and MMIO window need {needed} bits, this CPU has {DEFAULT_BITS}"
        ),
        edits: vec![edit],
    }
}

fn narrow(domain: &Domain, one: &Assigned<'_>, size: u64, needed: u32, have: u32) -> Refusal {
    let reason = format!(
        "a 64-bit MMIO window of {} GiB needs {needed} address bits, the guest has {have}",
        size / GIB
    );
    let hint = if domain.family() == "virt" {
        "assign fewer devices, or set a smaller <pcihole64>".into()
    } else {
        let what =
            "use KVM and set <cpu mode='host-passthrough'> or <maxphysaddr mode='passthrough'/>";
        virsh::edit(domain, what).then(&format!(", on a host that has {needed} bits"))
    };
    Refusal::new(Code::WindowTooWide, reason, hint)
        .of(one.hostdev.source)
        .at("/domain/devices/controller[@index='0']/pcihole64")
}
