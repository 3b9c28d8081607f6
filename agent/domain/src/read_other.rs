//! Reads the host devices that a definition uses other than as PCI functions assigned by libvirt.
//!
//! Counts follow libvirt, qemu_domain.c (`qemuDomainGetNumNVMeDisks`, `qemuDomainGetNumVDPADevices`,
//! `qemuDomainGetNumVFIOHostdevs`; 11.3.0).

use std::iter::successors;

use roxmltree::Node;

use super::read::command_line;
use super::value::{below, child, pci_address, property};
use super::{Elsewhere, Lockers, Usage};
use crate::argument;
use crate::refusal::Refusal;

/// Host devices of NVMe disks and of QEMU arguments.
pub(super) fn elsewhere(root: Node<'_, '_>) -> Result<Vec<Elsewhere>, Refusal> {
    let images = below(root, "devices", "disk").flat_map(chain);
    let addresses = images
        .filter(|image| is_of(*image, "nvme"))
        .filter_map(|image| child(image, "source"))
        .filter_map(|source| child(source, "address"));
    let disks = addresses.map(|address| {
        Ok(Elsewhere {
            source: pci_address(address)?,
            usage: Usage::NvmeDisk,
        })
    });
    let line = command_line(root).into_iter();
    let values = line
        .flat_map(|line| line.children())
        .filter_map(|argument| argument.attribute("value"));
    let arguments = values.filter_map(argument::host_device).map(|source| {
        Ok(Elsewhere {
            source,
            usage: Usage::Argument,
        })
    });
    disks.chain(arguments).collect()
}

pub(super) fn lockers(root: Node<'_, '_>) -> Lockers {
    let disks = || below(root, "devices", "disk");
    let interfaces = below(root, "devices", "interface");
    let hostdevs = below(root, "devices", "hostdev");
    let vdpa_disks = disks().flat_map(chain);
    Lockers {
        nvme_disks: disks()
            .filter(|disk| chain(*disk).any(|image| is_of(image, "nvme")))
            .count(),
        vdpa: interfaces.filter(|node| is_of(*node, "vdpa")).count()
            + vdpa_disks
                .filter(|image| is_of(*image, "vhostvdpa"))
                .count(),
        mediated: hostdevs.filter(|node| is_of(*node, "mdev")).count(),
    }
}

/// True if libvirt chooses the address of the primary video device; `none` and `ramfb` are not PCI devices.
pub(super) fn video_is_unplaced(root: Node<'_, '_>) -> bool {
    let videos = || below(root, "devices", "video");
    let model = |video: Node<'_, '_>, name| {
        let model = child(video, "model")?;
        property(model, name).map(str::to_owned)
    };
    // libvirt moves the primary device to the front.
    let marked = videos().find(|video| model(*video, "primary").as_deref() == Some("yes"));
    let Some(video) = marked.or_else(|| videos().next()) else {
        // libvirt adds a video device to a guest that has graphics and no video.
        return below(root, "devices", "graphics").next().is_some();
    };
    let kind = model(video, "type");
    let is_pci = !matches!(kind.as_deref(), Some("none" | "ramfb"));
    let is_empty = |address: Node<'_, '_>| {
        let is_zero = |name| {
            property(address, name)
                .is_none_or(|text| !text.contains(|one: char| ('1'..='9').contains(&one)))
        };
        is_of(address, "pci") && ["domain", "bus", "slot"].into_iter().all(is_zero)
    };
    is_pci && child(video, "address").is_none_or(is_empty)
}

/// A disk and its `<backingStore>`s: each is an image with a type and a source.
fn chain<'a, 'i>(disk: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    successors(Some(disk), |image| child(*image, "backingStore"))
}

fn is_of(node: Node<'_, '_>, kind: &str) -> bool {
    property(node, "type") == Some(kind)
}

#[cfg(test)]
mod tests {
    use crate::{Domain, Lockers};

    const ADDRESS: &str = "<source><address domain='0' bus='3' slot='0' function='0'/></source>";

    fn read(devices: &str) -> Domain {
        let text = format!(
            "<domain><name>g</name><memory>1</memory><devices>{devices}</devices></domain>"
        );
        Domain::parse(&text).expect("definition")
    }

    #[test]
    fn nvme_disks_vdpa_and_mediated_devices_are_counted_as_libvirt_counts_them() {
        let domain = read(&format!(
            "<disk type='nvme'>{ADDRESS}</disk>\
             <disk type='file'><backingStore type='file'><backingStore type='nvme'>{ADDRESS}</backingStore></backingStore></disk>\
             <disk type='vhostvdpa'><source dev='/dev/vhost-vdpa-0'/></disk>\
             <interface type='vdpa'><source dev='/dev/vhost-vdpa-1'/></interface>\
             <interface type='network'><source network='default'/></interface>\
             <hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='u'/></source></hostdev>\
             <hostdev mode='subsystem' type='usb'/>"
        ));
        let expected = Lockers {
            nvme_disks: 2,
            vdpa: 2,
            mediated: 1,
        };
        assert_eq!(domain.lockers, expected);
    }

    #[test]
    fn primary_video_device_without_an_address_is_detected() {
        let video =
            |model: &str, address: &str| format!("<video><model {model}/>{address}</video>");
        let at = "<address type='pci' domain='0' bus='0' slot='2' function='0'/>";
        for (devices, unplaced) in [
            (String::new(), false),
            ("<graphics type='vnc'/>".to_owned(), true),
            (video("type='vga'", ""), true),
            (video("type='vga'", "<address type='pci'/>"), true),
            (video("type='vga'", at), false),
            (video("type='none'", "") + "<graphics type='vnc'/>", false),
            (video("type='ramfb'", ""), false),
            (video("type='qxl'", at) + &video("type='vga'", ""), false),
            (
                video("type='qxl'", at) + &video("type='vga' primary='yes'", ""),
                true,
            ),
        ] {
            assert_eq!(read(&devices).video_is_unplaced, unplaced, "{devices}");
        }
    }

    #[test]
    fn the_nvme_device_of_a_backing_file_is_used_by_the_definition() {
        let domain = read(&format!(
            "<disk type='file'><backingStore type='nvme'>{ADDRESS}</backingStore></disk>"
        ));
        assert!(domain.uses("0000:03:00.0".parse().expect("address")));
    }
}
