"""Writes definitions that Nova's LibvirtConfig classes print: nova_guests.py FOLDER"""
import pathlib
import sys

from nova.virt.libvirt import config as c

FOLDER = pathlib.Path(sys.argv[1])
GPU = {"domain": "0009", "bus": "01", "slot": "00", "function": "0"}


def pci(**address):
    device = c.LibvirtConfigGuestHostdevPCI()
    for name, value in (GPU | address).items():
        setattr(device, name, value)
    return device


def ports(guest, count):
    """As nova.virt.libvirt.driver does for num_pcie_ports: a root, then ports, none with an index."""
    guest.add_device(c.LibvirtConfigGuestPCIeRootController())
    for _ in range(count):
        guest.add_device(c.LibvirtConfigGuestPCIeRootPortController())


def cells(guest, count):
    numa = c.LibvirtConfigGuestCPUNUMA()
    tune = c.LibvirtConfigGuestNUMATune()
    for number in range(count):
        cell = c.LibvirtConfigGuestCPUNUMACell()
        cell.id, cell.memory, cell.cpus = number, 262144, {2 * number, 2 * number + 1}
        numa.cells.append(cell)
        node = c.LibvirtConfigGuestNUMATuneMemNode()
        node.cellid, node.nodeset = number, [number]
        tune.memnodes.append(node)
    tune.memory = c.LibvirtConfigGuestNUMATuneMemory()
    tune.memory.nodeset = list(range(count))
    guest.cpu.numa, guest.numatune = numa, tune


def guest(arch, machine, number_of_ports=0, number_of_cells=0, devices=()):
    one = c.LibvirtConfigGuest()
    one.name, one.uuid, one.virt_type = "probe", "4dea22b3-1d52-d8f3-2516-782e98ab3fa0", "qemu"
    one.memory, one.vcpus = 524288, 8
    one.os_type, one.os_mach_type = "hvm", machine
    one.cpu = c.LibvirtConfigGuestCPU()
    one.cpu.mode = None
    one.features = [c.LibvirtConfigGuestFeatureACPI()] if arch == "x86_64" else []
    if number_of_ports:
        ports(one, number_of_ports)
    if number_of_cells:
        cells(one, number_of_cells)
    for device in devices:
        one.add_device(device)
    text = one.to_xml()
    return text.replace("<type machine=", f"<type arch='{arch}' machine=").replace("<type>", f"<type arch='{arch}'>")


def interface():
    one = c.LibvirtConfigGuestInterface()
    one.net_type, one.mac_addr = "hostdev", "52:54:00:aa:bb:cc"
    one.source_dev = "0000:03:00.1"
    return one


VARIANTS = {
    "plain": {},
    "ports": {"number_of_ports": 16},
    "gpu": {"devices": [pci()]},
    "gpu-ports": {"number_of_ports": 4, "devices": [pci()]},
    "two-gpus-ports": {"number_of_ports": 24, "devices": [pci(), pci(bus="02")]},
    "cells": {"number_of_cells": 2},
    "cells-gpu-ports": {"number_of_cells": 4, "number_of_ports": 8, "devices": [pci(domain="0x0019")]},
    "vf": {"number_of_ports": 4, "devices": [interface()]},
}
written = 0
for arch, machine in [("x86_64", "q35"), ("x86_64", None), ("aarch64", "virt")]:
    for name, options in VARIANTS.items():
        (FOLDER / f"nova-{arch}-{machine}-{name}.xml").write_text(guest(arch, machine, **options))
        written += 1
print(f"Nova: {written} definitions")
