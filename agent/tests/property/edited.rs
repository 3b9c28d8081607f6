//! A completed definition that its user edits: completing it again gives the same as completing the edited original, or
//! a refusal.

use std::cell::RefCell;

use domain::edit::{Edit, apply};
use domain::{Domain, Piece, QEMU_NAMESPACE};
use kernel_glue::address::PciAddress;
use proptest::test_runner::TestCaseError;

use crate::host::OTHERS;
use crate::scene::{Scene, Target, every_scene, same};
use crate::unless_refused;

/// Edits both the original and the completed definition, or only added elements of the latter; `None` if there is
/// nothing to edit.
type User = fn(&Scene, &str, Completed) -> Option<String>;

/// The completed definition, and whether the text is it.
#[derive(Clone, Copy)]
struct Completed<'a> {
    text: &'a str,
    is_it: bool,
}

/// The results of the edits of one property.
#[derive(Debug, Default)]
struct Ends {
    /// Both give the same text.
    same: u32,
    /// Both are refused.
    refused: u32,
    /// Only the completed definition is refused.
    refused_alone: u32,
}

fn edited(user: User) {
    let ends = RefCell::new(Ends::default());
    every_scene(|scene, target| {
        let scene = scene.without_given_aliases();
        let text = scene.text();
        unless_refused(scene.rewrite(&text, target), |with| {
            let of = |text, is_it| {
                user(
                    &scene,
                    text,
                    Completed {
                        text: &with.text,
                        is_it,
                    },
                )
            };
            match of(&text, false).zip(of(&with.text, true)) {
                Some((original, completed)) => {
                    agree(&scene, target, (&original, &completed), &ends)
                }
                None => Ok(()),
            }
        })
    });
    let ends = ends.into_inner();
    eprintln!("{ends:?}");
    assert!(ends.same > ends.refused_alone, "{ends:?}");
}

fn agree(
    scene: &Scene,
    target: Target,
    (original, completed): (&str, &str),
    ends: &RefCell<Ends>,
) -> Result<(), TestCaseError> {
    let mut ends = ends.borrow_mut();
    match (
        scene.rewrite(original, target),
        scene.rewrite(completed, target),
    ) {
        (Ok(expected), Ok(found)) => {
            ends.same += 1;
            same(&expected.text, &found.text)?;
            let again = scene.rewrite(&found.text, target);
            let again = again.map_err(|refusal| TestCaseError::fail(refusal.to_string()))?;
            same(&found.text, &again.text)
        }
        (Err(refusal), Ok(_)) => Err(TestCaseError::fail(format!("not refused: {refusal}"))),
        (Err(_), Err(_)) => {
            ends.refused += 1;
            Ok(())
        }
        (Ok(_), Err(_)) => {
            ends.refused_alone += 1;
            Ok(())
        }
    }
}

fn read(text: &str) -> Domain {
    Domain::parse(text).expect("a definition")
}

fn with(text: &str, edits: &[Edit]) -> Option<String> {
    Some(apply(text, edits).expect("edits"))
}

/// Replaces the source of the hostdev at this index.
fn source(domain: &Domain, text: &str, place: usize, device: PciAddress) -> Option<Edit> {
    let span = domain.hostdevs.get(place)?.element.span.clone();
    let hostdev = &text[span.clone()];
    let start = span.start + hostdev.find("<source")?;
    let end = span.start + hostdev.find("</source>")? + "</source>".len();
    let text = format!(
        "<source><address domain='{:#x}' bus='{:#x}' slot='{:#x}' function='{:#x}'/></source>",
        device.domain(),
        device.bus(),
        device.device(),
        device.function()
    );
    Some(Edit {
        span: start..end,
        text,
    })
}

/// A GPU of the host that the definition does not have.
fn free(scene: &Scene, domain: &Domain) -> Option<PciAddress> {
    let taken = |gpu: &PciAddress| domain.hostdevs.iter().any(|one| one.source == *gpu);
    scene.shape.gpus().into_iter().find(|gpu| !taken(gpu))
}

/// The place of the first GPU.
fn gpu(scene: &Scene, domain: &Domain) -> Option<usize> {
    let gpus = scene.shape.gpus();
    let mut hostdevs = domain.hostdevs.iter();
    hostdevs.position(|one| gpus.contains(&one.source))
}

#[test]
fn a_gpu_is_exchanged_for_another() {
    edited(|scene, text, _| {
        let domain = read(text);
        let place = gpu(scene, &domain)?;
        let edit = source(&domain, text, place, free(scene, &domain)?)?;
        with(text, &[edit])
    });
}

#[test]
fn a_device_is_exchanged_for_one_of_another_kind() {
    edited(|scene, text, _| {
        let domain = read(text);
        let place = scene.pick(domain.hostdevs.len())?;
        let taken = |device: &PciAddress| domain.uses(*device);
        let all = scene.shape.gpus().into_iter();
        let all = all.chain(OTHERS.iter().map(|(at, ..)| at.parse().expect("address")));
        let free: Vec<PciAddress> = all.filter(|device| !taken(device)).collect();
        let other = *free.get(scene.pick(free.len())?)?;
        let edit = source(&domain, text, place, other)?;
        with(text, &[edit])
    });
}

#[test]
fn two_devices_change_places() {
    edited(|_, text, _| {
        let domain = read(text);
        let [first, second, ..] = &domain.hostdevs[..] else {
            return None;
        };
        let one = source(&domain, text, 0, second.source)?;
        let other = source(&domain, text, 1, first.source)?;
        with(text, &[one, other])
    });
}

#[test]
fn the_first_device_is_removed() {
    edited(|_, text, _| with(text, &[read(text).hostdevs.first()?.element.remove()]));
}

#[test]
fn an_address_that_was_added_is_removed() {
    edited(|scene, text, completed| {
        let domain = read(completed.text);
        let hostdev = domain.hostdevs.get(gpu(scene, &domain)?)?;
        let ours = domain.mark.as_ref()?.devices.iter().any(|marked| {
            marked.address == hostdev.source && marked.added.ports().next().is_some()
        });
        let edit = hostdev.address_element.as_ref().filter(|_| ours)?.remove();
        if completed.is_it {
            with(text, &[edit])
        } else {
            Some(text.to_owned())
        }
    });
}

/// Edits added elements, which the original does not have.
fn ours(
    text: &str,
    completed: Completed<'_>,
    edit: impl FnOnce(&Domain) -> Option<Edit>,
) -> Option<String> {
    let domain = read(completed.text);
    let edit = edit(&domain)?;
    if completed.is_it {
        with(text, &[edit])
    } else {
        Some(text.to_owned())
    }
}

#[test]
fn an_smmu_that_was_added_is_removed() {
    edited(|_, text, completed| {
        ours(text, completed, |domain| {
            let mark = domain.mark.as_ref()?;
            let mut iommus = domain.platform.iommus.iter();
            let is_ours =
                |bus: Option<u32>| bus.is_some_and(|bus| mark.added.has(&Piece::Smmu(bus)));
            Some(iommus.find(|iommu| is_ours(iommu.bus))?.element.remove())
        })
    });
}

#[test]
fn an_expander_bus_or_its_port_that_was_added_is_removed() {
    for word in ["expander", "port"] {
        let user: User = match word {
            "port" => |_, text, completed| {
                ours(text, completed, |domain| {
                    let marked = domain.mark.as_ref()?.devices.first()?;
                    let port = marked.added.ports().next()?;
                    Some(domain.controller(port)?.element.remove())
                })
            },
            _ => |_, text, completed| {
                ours(text, completed, |domain| {
                    let mut pieces = domain.mark.as_ref()?.added.iter();
                    let index = pieces.find_map(|piece| match piece {
                        Piece::Expander(index) => Some(*index),
                        _ => None,
                    })?;
                    Some(domain.controller(index)?.element.remove())
                })
            },
        };
        edited(user);
    }
}

#[test]
fn a_distance_that_was_added_is_edited() {
    edited(|_, text, completed| {
        ours(text, completed, |domain| {
            let mark = domain.mark.as_ref()?;
            let nodes = mark
                .devices
                .iter()
                .filter(|one| one.added.has(&Piece::Nodeset));
            let own: Vec<u32> = nodes.flat_map(|one| one.cells.iter()).collect();
            let mut cells = domain.cells.iter().filter(|cell| own.contains(&cell.id));
            let element = cells.find_map(|cell| cell.distances_element.as_ref())?;
            let distances = &completed.text[element.span.clone()];
            let at = distances.rfind("value='")? + "value='".len();
            let length = distances[at..].find('\'')?;
            let at = element.span.start + at;
            let edited = match &completed.text[at..at + length] {
                "99" => "98",
                _ => "99",
            };
            Some(Edit {
                span: at..at + length,
                text: edited.to_owned(),
            })
        })
    });
}

#[test]
fn a_nodeset_that_was_added_is_edited() {
    edited(|_, text, completed| {
        ours(text, completed, |domain| {
            let mark = domain.mark.as_ref()?;
            let marked = mark
                .devices
                .iter()
                .find(|marked| marked.added.has(&Piece::Nodeset))?;
            let mut hostdevs = domain.hostdevs.iter();
            let hostdev = hostdevs.find(|one| one.source == marked.address)?;
            let span = hostdev.nodeset_attribute.clone()?;
            let first = marked.cells.iter().next()?;
            let text = format!(" nodeset='{first}'");
            Some(Edit { span, text })
        })
    });
}

#[test]
fn a_device_is_added_before_the_others() {
    edited(|scene, text, _| {
        let domain = read(text);
        let device = free(scene, &domain)?;
        let hostdev = format!(
            "<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='{:#x}' bus='{:#x}' slot='0' function='0'/></source></hostdev>",
            device.domain(),
            device.bus()
        );
        with(text, &[domain.append_devices(&hostdev)])
    });
}

/// Doubles the window that was added; in the original the user sets one of that size.
fn enlarged(text: &str, completed: Completed<'_>) -> Option<String> {
    let domain = read(completed.text);
    let mut pieces = domain.mark.as_ref()?.added.iter();
    let gib = pieces.find_map(|piece| match piece {
        Piece::Window(gib) => *gib,
        _ => None,
    })?;
    let kib = u64::from(gib) << 21;
    let hole = format!("<pcihole64 unit='KiB'>{kib}</pcihole64>");
    let argument = format!("highmem-mmio-size={kib}K");
    let element = domain
        .controller(0)
        .and_then(|root| root.hole64_element.clone());
    let is_argument = element.is_none();
    if completed.is_it {
        let line = domain.command_line.iter().flat_map(|line| &line.arguments);
        let mut ours = line.filter(|argument| argument.value.starts_with("highmem-mmio-size="));
        let edit = match element {
            Some(element) => element.replace(&hole),
            None => {
                let element = &ours.next()?.element;
                let old = &text[element.span.clone()];
                let (head, _) = old.split_once("value='")?;
                element.replace(&format!("{head}value='{argument}'/>"))
            }
        };
        return with(text, &[edit]);
    }
    let original = read(text);
    let arguments = |prefix: &str, indent: &str| {
        format!(
            "{indent}<{prefix}arg value='-machine'/>\n{indent}<{prefix}arg value='{argument}'/>"
        )
    };
    let edit = match (original.controller(0), &original.command_line) {
        (_, Some(line)) if is_argument => line.element.append(&arguments(&line.prefix, "")),
        (_, None) if is_argument => original.after_devices(&format!(
            "<qemu:commandline xmlns:qemu='{QEMU_NAMESPACE}'>\n{}\n</qemu:commandline>",
            arguments("qemu:", "  ")
        )),
        (Some(root), _) => root.element.append(&hole),
        (None, _) => original.append_devices(&format!(
            "<controller type='pci' index='0' model='pcie-root'>\n  {hole}\n</controller>"
        )),
    };
    with(text, &[edit])
}

#[test]
fn a_window_that_was_added_is_enlarged() {
    edited(|_, text, completed| enlarged(text, completed));
}

#[test]
fn a_window_that_was_added_is_enlarged_and_the_first_device_is_removed() {
    edited(|_, text, completed| {
        let text = enlarged(text, completed)?;
        with(&text, &[read(&text).hostdevs.first()?.element.remove()])
    });
}

#[test]
fn a_window_that_was_added_is_enlarged_and_a_gpu_is_exchanged() {
    edited(|scene, text, completed| {
        let text = enlarged(text, completed)?;
        let domain = read(&text);
        let place = gpu(scene, &domain)?;
        let edit = source(&domain, &text, place, free(scene, &domain)?)?;
        with(&text, &[edit])
    });
}
