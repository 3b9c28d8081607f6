# Functions that compose guest definitions and read the root ports of the started guest.

# port INDEX SLOT [BUS]: a root port, on the root bus or on an expander bus
port() {
    printf "<controller type='pci' index='%s' model='pcie-root-port'%s" "$1" ">${MODEL:+<model name='$MODEL'/>}"
    printf "<address type='pci' bus='%s' slot='%s' function='0'/></controller>" "${3-0}" "$2"
}

# hostdev DEVICE BUS SLOT FUNCTION [ATTRIBUTE]
hostdev() {
    local IFS=:. where; where=(${1})
    printf "<hostdev mode='subsystem' type='pci' managed='no'><source><address domain='0x%s' bus='0x%s' slot='0x%s' function='%s'/>" "${where[@]}"
    printf "</source><address type='pci' bus='%s' slot='%s' function='%s' %s/></hostdev>" "$2" "$3" "$4" "${5-}"
}

upstream() { printf "<controller type='pci' index='%s' model='pcie-switch-upstream-port'><address type='pci' bus='%s' slot='0' function='0'/></controller>" "$1" "$2"; }
downstream() { printf "<controller type='pci' index='%s' model='pcie-switch-downstream-port'><address type='pci' bus='%s' slot='0' function='0'/></controller>" "$1" "$2"; }
expander() { printf "<controller type='pci' index='%s' model='pcie-expander-bus'><target busNr='%s'/><address type='pci' bus='0' slot='%s' function='0'/></controller>" "$1" "$2" "$3"; }

# definition PIECES: the definition of a guest that stays paused, so it needs no operating system
definition() {
    cat <<XML
<domain type='qemu'>
  <name>cell</name>
  <uuid>6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a80</uuid>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/></features>
  <on_reboot>destroy</on_reboot>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='pci' index='0' model='pcie-root'/>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    $1
  </devices>
</domain>
XML
}

# eject DOMAIN: ejects the device that QEMU requests, as the guest's ACPI code would (docs/specs/acpi_pci_hotplug in QEMU)
eject() {
    local bus requested
    for bus in $(seq 0 7); do
        virsh -q qemu-monitor-command "$1" --hmp "o /w 0xcd0 $bus" >/dev/null
        requested=$(virsh -q qemu-monitor-command "$1" --hmp 'i /w 0xcc4' | tr -d '\r' | sed -n 's/.*= //p')
        [ $((requested)) != 0 ] || continue
        virsh -q qemu-monitor-command "$1" --hmp "o /w 0xcc8 $requested" >/dev/null
        return 0
    done
    return 1
}

# registers BUS:SLOT...: prints for each port the capability headers at 0x54 (pcie-root-port) and 0x90 (ioh3420), each with the
# Device Capabilities 2 that belongs to it. One virsh call reads all, because virsh starts slowly here.
registers() {
    local commands='' port offset base
    for port in "$@"; do
        base=$((0x80000000 | ${port%:*} << 16 | ${port#*:} << 11))
        for offset in 0x54 0x78 0x90 0xb4; do
            commands+="qemu-monitor-command cell --hmp 'o /w 0xcf8 $(printf '%#x' $((base | offset)))'; qemu-monitor-command cell --hmp 'i /w 0xcfc'; "
        done
    done
    virsh -q "$commands" | tr -d '\r' | sed -n 's/.*= \(0x[0-9a-f]*\).*/\1/p' | paste -d' ' - - - -
}

is_root_port() { [ $(($1 & 0xf000ff)) = $((0x400010)) ]; }

# compare NAME=BUS:SLOT=DEVICE...: the root port at BUS:SLOT of the paused guest must have the bits that were predicted for
# DEVICE. Without DEVICE it must have none. Without BUS:SLOT the device is on the root bus.
compare() {
    local one name at device expected found ports=() own wide
    for one in "$@"; do
        at=${one#*=}; at=${at%%=*}
        ports+=(${at:-0:2})
    done
    registers "${ports[@]}" >/tmp/registers
    variantctl atomics --file /tmp/cell.xml --qemu "$QEMU" --json >/tmp/atomics.json
    exec 3</tmp/registers
    for one in "$@"; do
        IFS='=' read -r name at device <<<"$one"
        read -r -u 3 own found other wide
        if ! is_root_port "$own"; then
            is_root_port "$other" || fail "no root port at $at"
            found=$wide
        fi
        [ -n "$at" ] || found=0
        expected=0
        [ -z "$device" ] || expected=$(perl "$HERE/predicted.pl" verdict "$device" </tmp/atomics.json)
        cell "$name" "$expected" "$(printf '%#05x' $((found & 0x380)))"
    done
    exec 3<&-
}

# started PIECES NAME=BUS:SLOT=DEVICE...: several cells in one guest, with the definition as libvirt completes it
started() {
    begin "$1"; shift
    compare "$@"
    virsh destroy cell >/dev/null
}

begin() {
    definition "$1" >/tmp/cell.in.xml
    virsh define /tmp/cell.in.xml >/dev/null
    inactive cell >/tmp/cell.xml
    virsh start --paused cell >/dev/null
}
