# A nested guest that prints what it sees of its PCI functions and NUMA nodes, then ends unless told "l2stay".
# With few processes and few lines: each costs much time under QEMU's emulation of nested virtualisation.
exec >/dev/console 2>&1
# sets "up" to the seconds since the boot
uptime() { read -r up _ </proc/uptime; }

show_function() {
    name=${1##*/}
    read -r vendor <"$1/vendor"
    read -r device <"$1/device"
    read -r class <"$1/class"
    read -r node <"$1/numa_node"
    echo "L2-PCI $name $vendor $device $class node=$node"
    echo "L2-LINK $name $(readlink -f "$1")"
    bar=0
    while [ $bar -lt 6 ] && read -r first last _; do
        [ "$last" = 0x0000000000000000 ] || echo "L2-BAR $name $bar $first $last"
        bar=$((bar + 1))
    done <"$1/resource"
    od -An -v -tu1 -w256 -N 256 "$1/config" | awk -v name="$name" '
        # the little-endian number of some bytes; field 1 is byte 0
        function number(at, bytes) { return bytes ? $(at + 1) + 256 * number(at + 1, bytes - 1) : 0 }
        {
            # capability 16 is PCI Express
            for (at = $53; at >= 64 && hops++ < 48; at = $(at + 2)) {
                if ($(at + 1) != 16) continue
                flags = number(at + 2, 2)
                printf "L2-PCIE %s cap=%d type=%d version=%d DEVCAP2=0x%04x%04x DEVCTL2=0x%04x\n", name, at, int(flags / 16) % 16, flags % 16, number(at + 38, 2), number(at + 36, 2), number(at + 40, 2)
            }
        }'
}

# sets "memory" to that of a node in kB
memory() {
    while read -r _ _ key size _; do
        [ "$key" != MemTotal: ] || memory=$size
    done <"$1/meminfo"
}

# QEMU's emulation of nested virtualisation damages registers while several processors work, so the kernel starts with one (maxcpus=1).
for cpu in /sys/devices/system/cpu/cpu[0-9]*/online; do
    state=1
    [ ! -e "$cpu" ] || read -r state <"$cpu"
    [ "$state" = 1 ] || echo 1 >"$cpu"
done
uptime
echo "L2-BEGIN $up"
for device in /sys/bus/pci/devices/*; do show_function "$device"; done
read -r size </sys/devices/system/memory/block_size_bytes
block=$((0x$size >> 10))
for node in /sys/devices/system/node/node[0-9]*; do
    memory "$node"
    blocks=0
    for entry in "$node"/memory[0-9]*; do [ ! -e "$entry" ] || blocks=$((blocks + 1)); done
    read -r distance <"$node/distance"
    echo "L2-NODE ${node##*/node} cpus=$(cat "$node/cpulist") memory=${memory}kB blocks=$((blocks * block))kB distance=${distance// /,}"
done
for list in online possible has_cpu has_memory has_generic_initiator; do
    nodes=''
    read -r nodes </sys/devices/system/node/$list
    echo "L2-NODES $list=$nodes"
done
uptime
echo "L2-END $up"
grep -q l2stay /proc/cmdline || poweroff -f
while :; do sleep 3600; done
