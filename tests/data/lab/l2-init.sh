# A nested guest that prints what it sees of its PCI functions and NUMA nodes, then ends unless told "l2stay".
exec >/dev/console 2>&1
uptime() { cut -d' ' -f1 /proc/uptime; }
word() { od -An -v -tx"$3" -j "$2" -N "$3" "$1/config" | tr -d ' '; }
byte() { od -An -v -tu1 -j "$2" -N 1 "$1/config" | tr -d ' '; }

show_function() {
    name=${1##*/}
    echo "L2-PCI $name $(cat "$1/vendor") $(cat "$1/device") $(cat "$1/class") node=$(cat "$1/numa_node")"
    echo "L2-LINK $name $(readlink -f "$1")"
    od -An -v -tx1 -w16 -N 256 "$1/config" | sed "s/^/L2-CFG $name/"
    awk -v name="$name" 'NR <= 6 && $2 != "0x0000000000000000" { print "L2-BAR", name, NR - 1, $1, $2 }' "$1/resource"
}

# capability 16 is PCI Express
show_express() {
    at=$(byte "$1" 52)
    hops=0
    while [ "$at" -ge 64 ] && [ $hops -lt 48 ]; do
        if [ "$(byte "$1" "$at")" = 16 ]; then
            flags=$(word "$1" $((at + 2)) 2)
            echo "L2-PCIE ${1##*/} cap=$at type=$((0x$flags >> 4 & 15)) version=$((0x$flags & 15)) DEVCAP2=0x$(word "$1" $((at + 36)) 4) DEVCTL2=0x$(word "$1" $((at + 40)) 2)"
        fi
        at=$(byte "$1" $((at + 1)))
        hops=$((hops + 1))
    done
}

# QEMU's emulation of nested virtualisation damages registers while several processors work, so the kernel starts with one (maxcpus=1).
for cpu in /sys/devices/system/cpu/cpu[0-9]*/online; do [ "$(cat "$cpu")" = 1 ] || echo 1 >"$cpu"; done
echo "L2-BEGIN $(uptime)"
for device in /sys/bus/pci/devices/*; do
    show_function "$device"
    show_express "$device"
done
block=$((0x$(cat /sys/devices/system/memory/block_size_bytes) >> 10))
for node in /sys/devices/system/node/node[0-9]*; do
    memory=$(awk '/MemTotal/ { print $4 }' "$node/meminfo")
    blocks=0
    for entry in "$node"/memory[0-9]*; do [ ! -e "$entry" ] || blocks=$((blocks + 1)); done
    echo "L2-NODE ${node##*/node} cpus=$(cat "$node/cpulist") memory=${memory}kB blocks=$((blocks * block))kB distance=$(tr ' ' , <"$node/distance")"
done
for list in online possible has_cpu has_memory has_generic_initiator; do
    echo "L2-NODES $list=$(cat /sys/devices/system/node/$list)"
done
echo "L2-END $(uptime)"
grep -q l2stay /proc/cmdline || poweroff -f
while :; do sleep 3600; done
