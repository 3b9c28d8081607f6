//! Generated definitions of guests with devices, in many forms.

mod tree;

use kernel_glue::address::PciAddress;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::host::{OTHERS, Shape};
use crate::xml::{Element, Style};

const NAMES: [&str; 4] = ["d0", "gpu & co", "'quoted'", "größe-2"];

/// The parameters of a definition.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) machine: &'static str,
    pub(crate) devices: Vec<Assigned>,
    cells: Cells,
    cpu: Cpu,
    root: Root,
    metadata: Metadata,
    name: usize,
    heading: [bool; 3],
    /// Unused root ports of the user.
    free_ports: u32,
    /// A network interface that has an address; a disk that has none; a USB controller.
    others: [bool; 3],
    /// An expander of the user, with a root port below it.
    expander: bool,
    /// An IOMMU of the user.
    iommu: bool,
    /// Arguments of the user for QEMU: the prefix, and whether it is declared at the root.
    command_line: Option<(&'static str, bool)>,
    fault: Option<Fault>,
}

/// A device and how its hostdev is written.
#[derive(Clone, Debug)]
pub(crate) struct Assigned {
    pub(crate) address: PciAddress,
    /// An address of the user on a separate root port.
    addressed: bool,
    /// 0: none, 1: of libvirt's kind, 2: of the user's kind.
    alias: usize,
    managed: bool,
    hexadecimal: bool,
}

#[derive(Clone, Debug)]
struct Cells {
    /// None if 0; otherwise so many, the first ones of the host's sockets.
    count: u32,
    /// 0: to no node; 1: each to its own; 2: in reverse order; 3: each to all.
    bound: usize,
    /// They have `id`.
    named: bool,
    /// Which distances the user wrote: 0 none, 1 all, 2 of the first cell to itself.
    distances: usize,
    megabytes: bool,
    /// Eight empty ones of the user for the first GPU, and its nodeset.
    own: bool,
}

#[derive(Clone, Copy, Debug)]
enum Cpu {
    Absent,
    Bare,
    Featured,
}

#[derive(Clone, Copy, Debug)]
enum Root {
    Absent,
    Closed,
    Aliased,
    /// With a window that is large enough for any device here.
    Windowed,
}

#[derive(Clone, Copy, Debug)]
enum Metadata {
    Absent,
    Empty,
    Foreign,
}

/// Faults of a definition.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Slot,
    Multifunction,
    Twice,
    Missing,
    SmallWindow,
}

fn assigned(addresses: Vec<PciAddress>) -> impl Strategy<Value = Vec<Assigned>> {
    let forms = vec(
        (
            prop::bool::weighted(0.3),
            0usize..3,
            any::<bool>(),
            any::<bool>(),
        ),
        addresses.len(),
    );
    forms.prop_map(move |forms| {
        let pairs = addresses.iter().zip(forms);
        let one =
            |(address, (addressed, alias, managed, hexadecimal)): (&PciAddress, _)| Assigned {
                address: *address,
                addressed,
                alias,
                managed,
                hexadecimal,
            };
        pairs.map(one).collect()
    })
}

fn cells(sockets: u32) -> impl Strategy<Value = Cells> {
    let count = prop_oneof![2 => Just(0), 2 => Just(1), 3 => Just(sockets)];
    let named = (prop::bool::weighted(0.8), prop::bool::weighted(0.02));
    (count, 0usize..4, named, 0usize..3, any::<bool>()).prop_map(
        |(count, bound, (named, own), distances, megabytes)| Cells {
            count,
            bound,
            named,
            distances,
            megabytes,
            own: own && count > 0,
        },
    )
}

/// Definitions for a host, most of them valid for it.
pub(crate) fn draft(shape: &Shape) -> impl Strategy<Value = Draft> + use<> {
    let (gpus, sockets) = (shape.gpus(), shape.sockets());
    let most = gpus.len().min(3);
    let machine = prop_oneof![
        Just("virt"),
        Just("virt-10.0"),
        Just("q35"),
        Just("pc-q35-10.0"),
    ];
    let chosen = (
        machine,
        prop::sample::subsequence(gpus, 0..=most),
        any::<[bool; 6]>(),
    );
    chosen.prop_flat_map(move |(machine, gpus, others)| {
        let arm = machine.starts_with("virt");
        let others = OTHERS.iter().zip(others);
        let others = others.filter(|((_, _, x86), chosen)| *chosen && !(arm && *x86));
        let others = others.map(|((at, ..), _)| at.parse().expect("address"));
        let addresses: Vec<PciAddress> = gpus.into_iter().chain(others.take(3)).collect();
        let devices = Just(addresses).prop_shuffle().prop_flat_map(assigned);
        rest(machine, devices, sockets)
    })
}

fn rest(
    machine: &'static str,
    devices: impl Strategy<Value = Vec<Assigned>>,
    sockets: u32,
) -> impl Strategy<Value = Draft> {
    use Fault::{Missing, Multifunction, Slot, SmallWindow, Twice};
    let cpu = prop_oneof![Just(Cpu::Absent), Just(Cpu::Bare), Just(Cpu::Featured)];
    let root = [
        Root::Absent,
        Root::Absent,
        Root::Closed,
        Root::Closed,
        Root::Aliased,
        Root::Aliased,
        Root::Aliased,
        Root::Windowed,
    ];
    let metadata = [Metadata::Absent, Metadata::Empty, Metadata::Foreign];
    let faults = vec![Slot, Multifunction, Twice, Missing, SmallWindow];
    let fault = prop_oneof![30 => Just(None), 1 => prop::sample::select(faults).prop_map(Some)];
    let look = (
        0..NAMES.len(),
        any::<[bool; 3]>(),
        0u32..3,
        any::<[bool; 3]>(),
    );
    let prefix = (prop::sample::select(vec!["qemu", "q"]), any::<bool>());
    let command_line = prop::option::weighted(0.25, prefix);
    let platform = (prop::bool::weighted(0.1), prop::bool::weighted(0.05));
    let pieces = (
        cpu,
        prop::sample::select(root.to_vec()),
        prop::sample::select(metadata.to_vec()),
    );
    (
        devices,
        cells(sockets),
        pieces,
        look,
        (command_line, platform),
        fault,
    )
        .prop_map(
            move |(
                devices,
                cells,
                (cpu, root, metadata),
                look,
                (command_line, platform),
                fault,
            )| Draft {
                machine,
                devices,
                cells,
                cpu,
                root,
                metadata,
                name: look.0,
                heading: look.1,
                free_ports: look.2,
                others: look.3,
                expander: platform.0,
                iommu: platform.1,
                command_line,
                fault,
            },
        )
}

/// Styles.
pub(crate) fn style() -> impl Strategy<Value = Style> {
    let indent = prop_oneof![
        4 => Just(Some("  ")),
        1 => Just(Some("    ")),
        1 => Just(Some("\t")),
        1 => Just(Some("")),
        1 => Just(None),
    ];
    let rest = (
        prop::bool::weighted(0.1),
        any::<[bool; 2]>(),
        prop::bool::weighted(0.9),
        any::<u64>(),
    );
    (indent, rest).prop_map(
        |(indent, (crlf, [declaration, comments], ended, seed))| Style {
            indent,
            crlf,
            declaration,
            comments,
            ended,
            seed,
        },
    )
}

impl Draft {
    /// The same guest without devices that a recipe covers.
    pub(crate) fn without_recipes(&self) -> Self {
        let plain = ["0002:01:00.0", "10000:e1:00.0"];
        let plain = |one: &Assigned| plain.contains(&one.address.to_string().as_str());
        Self {
            devices: self
                .devices
                .iter()
                .filter(|one| plain(one))
                .cloned()
                .collect(),
            fault: None,
            ..self.clone()
        }
    }

    /// The same guest without aliases of libvirt's own.
    pub(crate) fn without_given_aliases(&self) -> Self {
        let mut draft = self.clone();
        for one in &mut draft.devices {
            one.alias = if one.alias == 1 { 0 } else { one.alias };
        }
        draft
    }

    /// The same guest without its last device, and that one's hostdev without an address.
    pub(crate) fn before_the_last(&self) -> Option<(Self, Element)> {
        let mut draft = self.clone();
        let last = draft.devices.pop()?;
        draft.fault = None;
        Some((draft, last.element()))
    }
}
