# A guest with a GPU of each socket and the option numa='mirror' boots. Its kernel must show the nodes, processors, memory, distances and
# places of devices that 'variantctl layout' plans and that the host has, and NCCL's file must name the same places.
# deadline: 1500
agent_settings
trap 'remove_guests m0' EXIT
EMULATED=no guest m0 $GPU0 $GPU1 |
    sed "s|<memory unit='MiB'>[0-9]*<|<memory unit='MiB'>512<|; s|<vcpu>1<|<vcpu>2<|" >/tmp/m0.xml
variantctl layout /tmp/m0.xml >/tmp/m0.layout
virsh define /tmp/m0.xml >/dev/null
variantctl prepare m0 --numa mirror >/dev/null
boot m0 300
tr -d '\r' <$LOG/m0-serial.log >/tmp/m0.seen

nodes=/sys/devices/system/node
# seen NODE FIELD: what the guest's kernel shows of a node
seen() { sed -n "s/^L2-NODE $1 .*\<$2=\([^ ]*\).*/\1/p" /tmp/m0.seen; }
# planned CELL COLUMN: a field of the first table that 'layout' prints
planned() { awk -v cell="$1" -v column="$2" '$1 == "cell" && $2 == "host" { table = 1; next } table && NF == 0 { exit } table && $1 == cell { print $column }' /tmp/m0.layout; }

# 'numactl -H' inside: processors, memory and distances. Linux numbers initiator nodes in the order of QEMU's table, which is not that of
# the cells, so a node belongs to the GPU whose distance from node 0 it has; then all pairs must have the host's distances.
cells=$(awk '$1 == "cell" && $2 == "host" { table = 1; next } table && NF == 0 { exit } table' /tmp/m0.layout | wc -l)
equal 'cells with processors' "$cells" 2
for cell in 0 1; do
    equal "host node of cell $cell" "$(planned $cell 2)" $cell
    equal "processors of node $cell" "$(seen $cell cpus)" "$(planned $cell 3)"
    equal "memory of node $cell" "$(seen $cell blocks)" "$(($(planned $cell 5) * 1024))kB"
done
contains 'initiator nodes' "$(cat /tmp/m0.seen)" 'L2-NODES has_generic_initiator=2-17'
contains 'nodes with processors' "$(cat /tmp/m0.seen)" 'L2-NODES has_cpu=0-1'
pairs=$({ for node in 0 1 2 3 10; do echo "host $node $(cat $nodes/node$node/distance)"; done
    for node in $(seq 0 17); do echo "guest $node $(seen $node distance | tr , ' ')"; done; } | awk '
    $1 == "host" { for (to = 0; to < NF - 2; to++) host[$2, to] = $(to + 3) }
    $1 == "guest" { for (to = 0; to < NF - 2; to++) guest[$2, to] = $(to + 3); if (NF > most) most = NF }
    END {
        like[0] = 0; like[1] = 1
        for (node = 2; node < most - 2; node++) { like[node] = guest[0, node] == host[0, 2] ? 2 : 10; of[like[node]]++ }
        if (of[2] != 8 || of[10] != 8) { print "nodes of the GPUs: " of[2] " and " of[10]; exit }
        for (from = 0; from < most - 2; from++) for (to = 0; to < most - 2; to++) {
            expected = from == to ? 10 : like[from] == like[to] ? host[2, 3] : host[like[from], like[to]]
            if (guest[from, to] != expected) { print "from " from " to " to ": " guest[from, to] " instead of " expected; exit }
            count++
        }
        print count
    }')
equal 'pairs of nodes with the distance of the host' "$pairs" 324
echo "= inside: node 0 has processor $(seen 0 cpus), $(seen 0 blocks) of memory, and distances $(seen 0 distance)"
echo "= all $pairs pairs of nodes have the host's distance"

# 'lspci -t' inside: each GPU is below a root port of an expander bus, at its socket's node, where NCCL's file has it.
variantctl topology --nccl --domain m0 >/tmp/m0.nccl
virsh qemu-monitor-command m0 --hmp 'info pci' | tr -d '\r' >/tmp/m0.pci
for index in 0 1; do
    [ $index = 0 ] && gpu=$GPU0 || gpu=$GPU1
    bus=$(awk -v id="id \"hostdev$index\"" '/^  Bus/ { bus = $2 } index($0, id) { print bus + 0 }' /tmp/m0.pci)
    name=$(printf '0000:%02x:00.0' "$bus")
    node=$(cat /sys/bus/pci/devices/$gpu/numa_node)
    contains "$gpu inside" "$(grep "^L2-PCI $name " /tmp/m0.seen)" "0x10de 0x2342 0x030200 node=$node"
    path=$(sed -n "s/^L2-LINK $name //p" /tmp/m0.seen)
    [[ $path =~ ^/sys/devices/pci0000:([0-9a-f]{2})/0000:([0-9a-f]{2}):[0-9a-f]{2}\.0/$name$ && ${BASH_REMATCH[1]} = "${BASH_REMATCH[2]}" &&
        ${BASH_REMATCH[1]} != 00 ]] || fail "$gpu inside is at $path"
    equal "$gpu in NCCL's file" "$(awk -v name="$name" 'match($0, /numaid="[0-9]+"/) { node = substr($0, RSTART + 8, RLENGTH - 9) }
        index($0, "busid=\"" name "\"") { print node }' /tmp/m0.nccl)" "$node"
    echo "= $gpu is ${path#/sys/devices/} at node $node"
done

# On the host: each vCPU's thread has one processor, and each cell's memory is bound to its node.
qemu=$(cat /run/libvirt/qemu/m0.pid)
for cell in 0 1; do
    thread=$(grep -l "^CPU $cell/KVM" /proc/$qemu/task/*/comm | cut -d/ -f5)
    equal "processors of vCPU $cell" "$(sed -n 's/^Cpus_allowed_list:\t//p' /proc/$qemu/task/$thread/status)" "$(cat $nodes/node$cell/cpulist)"
    grep -q "^[0-9a-f]* bind:$cell .*anon=" /proc/$qemu/numa_maps || fail "no memory of QEMU is bound to node $cell"
done

# Taken back, the definition is the user's again but for libvirt's own additions.
virsh destroy m0 >/dev/null
variantctl revert m0 >/dev/null
! inactive m0 | grep -Eq '<cell |<vcpupin|<memnode' || fail "the layout is still there: $(inactive m0)"
