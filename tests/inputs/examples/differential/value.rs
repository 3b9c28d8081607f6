//! Each value that variantd reads, from the given definition and from libvirt's dump.

use std::collections::BTreeMap;
use std::fmt::Debug;

use domain::{Cell, Controller, Domain, GuestAddress, Hostdev};

use crate::tally::Tally;

/// The same element in both definitions.
pub(crate) struct Both<'a, T> {
    given: &'a T,
    dumped: &'a T,
}

impl<'a, T> Both<'a, T> {
    pub(crate) fn new(given: &'a T, dumped: &'a T) -> Self {
        Self { given, dumped }
    }

    fn same<V: PartialEq + Debug>(
        &self,
        tally: &mut Tally,
        what: &'static str,
        read: impl Fn(&'a T) -> V,
    ) {
        let (given, dumped) = (read(self.given), read(self.dumped));
        tally.value(what, given == dumped, || {
            format!("variantd reads {given:?}, libvirt {dumped:?}")
        });
    }

    /// A value for which libvirt has a default.
    fn same_if_given<V: PartialEq + Debug>(
        &self,
        tally: &mut Tally,
        what: &'static str,
        read: impl Fn(&'a T) -> Option<V>,
    ) {
        if read(self.given).is_some() {
            self.same(tally, what, read);
        }
    }
}

impl Both<'_, Domain> {
    pub(crate) fn domain(&self, tally: &mut Tally) {
        self.same(tally, "name", |one| &one.name);
        self.same_if_given(tally, "uuid", |one| one.uuid.as_ref());
        if self.given.arch.is_some() {
            self.same(tally, "arch", |one| &one.arch);
            self.same(tally, "machine", Domain::family);
        }
        self.same(tally, "memory", |one| one.memory_kib);
        self.same(tally, "memory devices", |one| one.memory_devices_kib);
        self.same(tally, "vcpu", |one| one.vcpus);
        self.same(tally, "memnode", |one| {
            let nodes = one.memory_nodes.iter();
            let nodes = nodes.map(|node| (node.cell, node.nodes.to_string()));
            nodes.collect::<BTreeMap<u32, String>>()
        });
        self.cells(tally);
        self.controllers(tally);
        self.hostdevs(tally);
        self.other_addresses(tally);
        self.platform(tally);
    }

    fn cells(&self, tally: &mut Tally) {
        self.same(tally, "cells", |one| one.cells.len());
        for given in &self.given.cells {
            let mut cells = self.dumped.cells.iter();
            match cells.find(|cell| cell.id == given.id) {
                Some(dumped) => Both::new(given, dumped).cell(tally),
                None => {
                    tally.difference("cell id", &format!("libvirt has no cell {}", given.id));
                }
            }
        }
    }

    fn controllers(&self, tally: &mut Tally) {
        for given in &self.given.controllers {
            let dumped = self.dumped.controller(given.index);
            tally.value("controller index", dumped.is_some(), || {
                format!("libvirt has no controller {}", given.index)
            });
            if let Some(dumped) = dumped {
                Both::new(given, dumped).controller(tally);
            }
        }
    }

    fn hostdevs(&self, tally: &mut Tally) {
        self.same(tally, "hostdev source", |one| {
            let sources = one.hostdevs.iter().map(|device| device.source);
            sources.collect::<Vec<_>>()
        });
        for (given, dumped) in self.given.hostdevs.iter().zip(&self.dumped.hostdevs) {
            Both::new(given, dumped).hostdev(tally);
        }
    }

    fn other_addresses(&self, tally: &mut Tally) {
        for given in &self.given.other_addresses {
            let mut dumped = self.dumped.other_addresses.iter();
            tally.value(
                "device address",
                dumped.any(|one| is_at(one, given)),
                || format!("libvirt has no device at {given}"),
            );
        }
    }

    fn platform(&self, tally: &mut Tally) {
        self.same(tally, "type", |one| &one.platform.accelerator);
        self.same(tally, "acpi", |one| one.platform.acpi);
        self.same(tally, "maxphysaddr", |one| &one.platform.address_width);
        self.same(tally, "hard_limit", |one| one.platform.hard_limit_kib);
        self.same(tally, "hugepages", |one| &one.platform.hugepages);
        self.same(tally, "iommufd", |one| {
            let iommufd = one.platform.iommufd.as_ref();
            iommufd.is_some_and(|iommufd| iommufd.enabled)
        });
        // libvirt may add further ones after the given ones.
        let count = self.given.platform.iommus.len();
        self.same(tally, "iommu", |one| {
            let iommus = one.platform.iommus.iter().take(count);
            iommus
                .map(|iommu| (&iommu.model, iommu.bus, iommu.accelerated))
                .collect::<Vec<_>>()
        });
        self.same(tally, "qemu:arg", |one| {
            let line = one.command_line.iter().flat_map(|line| &line.arguments);
            line.map(|argument| &argument.value).collect::<Vec<_>>()
        });
        self.same(tally, "acpi table", |one| {
            let tables = one.platform.acpi_tables.iter();
            tables.map(|table| &table.path).collect::<Vec<_>>()
        });
    }
}

impl Both<'_, Cell> {
    fn cell(&self, tally: &mut Tally) {
        self.same(tally, "cell cpus", |one| one.cpus.to_string());
        self.same(tally, "cell memory", |one| one.memory_kib);
        for to in self.given.distances.keys() {
            self.same(tally, "distance", |one| one.distances.get(to));
        }
    }
}

impl Both<'_, Controller> {
    fn controller(&self, tally: &mut Tally) {
        self.same(tally, "controller model", |one| &one.model);
        self.same_if_given(tally, "busNr", |one| one.bus_number);
        self.same(tally, "controller node", |one| one.cell);
        self.same(tally, "controller hotplug", |one| one.hotplug);
        self.same(tally, "pcihole64", |one| {
            one.hole64_kib.filter(|size| *size > 0)
        });
        Both::new(&self.given.address, &self.dumped.address).address(tally);
    }
}

impl Both<'_, Hostdev> {
    fn hostdev(&self, tally: &mut Tally) {
        self.same(tally, "hostdev managed", |one| one.managed);
        self.same(tally, "hostdev driver model", |one| {
            one.driver.as_ref().and_then(|driver| driver.model.as_ref())
        });
        self.same(tally, "hostdev iommufd", |one| {
            one.driver.as_ref().and_then(|driver| driver.iommufd)
        });
        self.same(tally, "hostdev nodeset", |one| {
            one.nodeset.as_ref().map(ToString::to_string)
        });
        Both::new(&self.given.address, &self.dumped.address).address(tally);
    }
}

impl Both<'_, Option<GuestAddress>> {
    /// libvirt adds a missing address.
    fn address(&self, tally: &mut Tally) {
        let Some(given) = self.given else { return };
        let same = self.dumped.is_some_and(|dumped| is_at(&dumped, given));
        tally.value("guest address", same, || {
            format!("variantd reads {given:?}, libvirt {:?}", self.dumped)
        });
    }
}

/// libvirt sets multifunction='on' if a slot has several functions.
fn is_at(dumped: &GuestAddress, given: &GuestAddress) -> bool {
    dumped.at == given.at && (dumped.multifunction || !given.multifunction)
}
